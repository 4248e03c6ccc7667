package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ownerOnly is the umask of whatever handles a vault: new files are their
// owner's alone.
const ownerOnly = 0o077

func restrictFiles() { unix.Umask(ownerOnly) }

// harden keeps this process's memory from core dumps and, where the system can,
// from other processes of the same user.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turn core dumps off: %w", err)
	}
	return undumpable()
}
