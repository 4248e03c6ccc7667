// Package child runs a program on behalf of this one as a shell's job would be run:
// it gets the terminal, the signals and a process group of its own, and its end is
// this program's end. It knows nothing of what the program is given, and keeps no
// process but the one.
package child

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// Command is a program to run. Nothing of this process's environment is added.
type Command struct {
	Path string   // of the file
	Args []string // the first is the program's name
	Env  []string
}

// Replace puts the command in this process's place. It returns only with an error.
func (c Command) Replace() error { return syscall.Exec(c.Path, c.Args, c.Env) }

// Change is what becomes of a running command: a signal or, when that is 0, its end
// and Next in its place.
type Change struct {
	Signal syscall.Signal
	Next   Command
}

// Exit is how a command has ended.
type Exit struct {
	Code   int            // of the program, or 128 and the signal
	signal syscall.Signal // that ended it
	held   bool           // the terminal was its own
}

// Interrupt passes an interruption from the terminal on to this process's own group,
// which the terminal would have told too, had the command not been the foreground:
// else a script would go on with its next line. It is the last thing to call.
func (e Exit) Interrupt() {
	if e.held && e.signal == syscall.SIGINT {
		signal.Reset(syscall.SIGINT)
		syscall.Kill(0, syscall.SIGINT)
		time.Sleep(settle)
	}
}

// settle is how long a signal to this process may take to do what it does.
const settle = 100 * time.Millisecond

// Supervisor passes signals on to a command.
type Supervisor struct {
	signals  chan os.Signal
	children chan os.Signal
	tty      *terminal
	grace    time.Duration

	pid   int
	held  bool     // the command has got the terminal from this process
	next  *Command // to start when the running one has ended
	tired <-chan time.Time
}

// forwarded are the signals that a command gets in this process's place. SIGTSTP is
// none: once caught, the runtime never gives its effect back, which stopped needs.
func forwarded() []os.Signal {
	all := []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGCONT,
	}
	var list []os.Signal
	for _, s := range all {
		// One that is ignored, as below nohup, stays so for the command as well.
		if !signal.Ignored(s) {
			list = append(list, s)
		}
	}
	return list
}

// Listen keeps signals for a command from this moment on. A command that is replaced
// has the grace period to end by itself. Close ends it.
func Listen(grace time.Duration) *Supervisor {
	s := &Supervisor{
		signals: make(chan os.Signal, 64), children: make(chan os.Signal, 1), tty: openTerminal(), grace: grace,
	}
	signal.Notify(s.signals, forwarded()...)
	signal.Notify(s.children, syscall.SIGCHLD)
	return s
}

// Close gives signals their usual effect back.
func (s *Supervisor) Close() error {
	signal.Stop(s.signals)
	signal.Stop(s.children)
	return s.tty.close()
}

// Run runs the command, and what changes make of it, and returns how it has ended. On
// Linux the command gets SIGTERM when this process dies before it.
func (s *Supervisor) Run(c Command, changes <-chan Change) (Exit, error) {
	// The kernel sends that signal when the thread ends that started the command.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := s.start(c); err != nil {
		return Exit{}, err
	}
	for {
		select {
		case sig := <-s.signals:
			s.forward(sig.(syscall.Signal))
		case change := <-changes:
			s.change(change)
		case <-s.tired:
			syscall.Kill(-s.pid, syscall.SIGKILL)
		case <-s.children:
			exit, ended, err := s.reap()
			if ended || err != nil {
				return exit, err
			}
		}
	}
}

func (s *Supervisor) start(c Command) error {
	sys := &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(sys)
	s.held = s.tty.isOurs()
	if s.held {
		sys.Foreground, sys.Ctty = true, s.tty.fd()
	}
	pid, err := syscall.ForkExec(c.Path, c.Args, &syscall.ProcAttr{Env: c.Env, Files: []uintptr{0, 1, 2}, Sys: sys})
	if err != nil {
		s.tty.take(s.held)
		return &os.PathError{Op: "start", Path: c.Path, Err: err}
	}
	s.pid, s.next, s.tired = pid, nil, nil
	return nil
}

// forward passes a signal on. One that asks for the end also asks not to start again.
func (s *Supervisor) forward(sig syscall.Signal) {
	switch sig {
	case syscall.SIGCONT:
		s.resume()
		return
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP:
		if s.next != nil {
			s.next = nil
			return // it has been told to end
		}
	}
	syscall.Kill(s.pid, sig)
}

// change signals the command, or tells its whole group to end: a process of it that
// stayed would go on with what is not valid any longer.
func (s *Supervisor) change(c Change) {
	if c.Signal != 0 {
		syscall.Kill(s.pid, c.Signal)
		return
	}
	if s.next == nil {
		syscall.Kill(-s.pid, syscall.SIGTERM)
		syscall.Kill(-s.pid, syscall.SIGCONT)
		s.tired = time.After(s.grace)
	}
	s.next = &c.Next
}

// reap looks at the children that have ended or stopped. The first process of a
// container has those of others, too.
func (s *Supervisor) reap() (exit Exit, ended bool, err error) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG|syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR) || err == nil && pid > 0 && pid != s.pid:
			continue
		case err != nil || pid == 0:
			return Exit{}, false, nil
		case ws.Stopped():
			s.stopped(ws.StopSignal())
		default:
			return s.ended(ws)
		}
	}
}

// ended starts the next command, or says how the last one has ended.
func (s *Supervisor) ended(ws syscall.WaitStatus) (Exit, bool, error) {
	exit := Exit{Code: ws.ExitStatus(), held: s.held}
	if ws.Signaled() {
		exit.Code, exit.signal = 128+int(ws.Signal()), ws.Signal()
	}
	s.tty.take(s.held)
	interrupted := s.held && exit.signal == syscall.SIGINT
	if s.next == nil || interrupted {
		return exit, true, nil
	}
	syscall.Kill(-s.pid, syscall.SIGKILL)
	return Exit{}, false, s.start(*s.next)
}
