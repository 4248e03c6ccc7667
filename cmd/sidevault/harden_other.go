//go:build !linux

package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func undumpable() error { return nil }

func closeInput() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	return errors.Join(unix.Dup2(int(null.Fd()), unix.Stdin), null.Close())
}
