package child

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is the one that controls this process; a nil one is none.
type terminal struct{ file *os.File }

func openTerminal() *terminal {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	return &terminal{f}
}

func (t *terminal) close() error {
	if t == nil {
		return nil
	}
	return t.file.Close()
}

func (t *terminal) fd() int { return int(t.file.Fd()) }

// isOurs reports whether this process is in the foreground.
func (t *terminal) isOurs() bool {
	if t == nil {
		return false
	}
	group, err := unix.IoctlGetInt(t.fd(), unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}

// give makes a process group the foreground.
func (t *terminal) give(group int) {
	// Who is in the background would be stopped for it.
	withoutStop(func() { unix.IoctlSetPointerInt(t.fd(), unix.TIOCSPGRP, group) })
}

// take makes this process the foreground again, when it had given that away.
func (t *terminal) take(given bool) {
	if t != nil && given {
		t.give(syscall.Getpgrp())
	}
}

// stopped stops this process and its group with its command, as the terminal would
// have done, so that the shell sees a stopped job.
func (s *Supervisor) stopped(by syscall.Signal) {
	if s.tty == nil || by != syscall.SIGTSTP && by != syscall.SIGTTIN && by != syscall.SIGTTOU {
		return
	}
	s.tty.take(s.held)
	s.held = false
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	syscall.Kill(0, syscall.SIGTSTP)
	// Where nobody could continue it, the kernel does not stop it.
	select {
	case <-continued:
	case <-time.After(settle):
	}
	s.resume()
}

// resume lets the command go on, in the foreground when this process is.
func (s *Supervisor) resume() {
	if s.tty.isOurs() {
		s.tty.give(s.pid)
		s.held = true
	}
	syscall.Kill(-s.pid, syscall.SIGCONT)
}
