//go:build !linux

package peercred

import (
	"errors"
	"net"
)

const supported = false

func credentials(*net.UnixConn) (Credentials, error) {
	return Credentials{}, errors.ErrUnsupported
}
