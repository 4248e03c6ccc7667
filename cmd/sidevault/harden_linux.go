package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func undumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	return nil
}

// closeInput puts /dev/null in the place of standard input, so that the
// descriptor is not given to a file opened later.
func closeInput() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	return errors.Join(unix.Dup3(int(null.Fd()), unix.Stdin, 0), null.Close())
}
