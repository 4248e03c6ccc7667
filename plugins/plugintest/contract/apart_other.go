//go:build !linux

package contract

import "syscall"

// apart gives a process a group of its own, to be ended as a whole.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
