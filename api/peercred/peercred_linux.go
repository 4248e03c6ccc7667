package peercred

import (
	"net"

	"golang.org/x/sys/unix"
)

const supported = true

func credentials(c *net.UnixConn) (Credentials, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Credentials{}, err
	}
	var peer *unix.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		peer, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return Credentials{}, err
	}
	if sockErr != nil {
		return Credentials{}, sockErr
	}
	return Credentials{UID: peer.Uid, GID: peer.Gid, PID: peer.Pid}, nil
}
