package contract

import "syscall"

// apart gives a process a group of its own, to be ended as a whole, and ends it with
// this one, however that ends.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
