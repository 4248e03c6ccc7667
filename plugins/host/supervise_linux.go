package host

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// confineMode is the first argument on the plugin's side of a supervisor.
const confineMode = "confine"

// Supervise is what a process does that the host has started as a supervisor. Args
// are what follows Config.Supervisor on its command line. The caller exits with the
// result. It must be called before anything else: the process has a small memory,
// no environment, and nothing to say.
//
// The process starts itself once more, and that second one confines itself and turns
// into the plugin. The first one stays, to kill the plugin and all that it has
// started as soon as the pipe from the sidecar ends.
func Supervise(args []string) int {
	runtime.LockOSThread() // privileges, Landlock and the death signal belong to a thread
	if len(args) == 2 && args[0] == confineMode {
		return confine()
	}
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "this mode is for the sidecar's own use")
		return exitNotRun
	}
	return supervise(args[0])
}

func supervise(name string) int {
	status := os.NewFile(statusFD, "status")
	life := bufio.NewReader(os.NewFile(lifeFD, "life"))
	line, err := life.ReadBytes('\n')
	if err != nil {
		return exitNotRun // the sidecar is gone already
	}
	var s spec
	if err := json.Unmarshal(line, &s); err != nil {
		fmt.Fprint(status, "got instructions that its supervisor cannot read")
		return exitNotRun
	}
	child, err := becomeParent(name, s, status)
	if err != nil {
		fmt.Fprintf(status, "cannot be supervised: %v", err)
		return exitNotRun
	}
	status.Close()
	var orphaned atomic.Bool
	go func() {
		// A sidecar that ends the plugin says so before it closes the pipe.
		said, _ := io.Copy(io.Discard, life)
		orphaned.Store(said == 0)
		killDescendants()
	}()
	go func() {
		term := make(chan os.Signal, 1)
		// Not ignored, since the plugin would inherit that.
		signal.Notify(term, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		for <-term != syscall.SIGTERM {
		}
		killDescendants()
	}()
	code := reap(child)
	killDescendants()
	reap(-1)
	os.RemoveAll(s.Dir)
	if orphaned.Load() {
		os.Remove(filepath.Dir(s.Dir)) // works for the last one
	}
	return code
}

// becomeParent starts the plugin's side.
func becomeParent(name string, s spec, status *os.File) (pid int, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("adopt what it leaves behind: %w", err)
	}
	// The plugin may run as the same user, and has no business in this memory.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer w.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	own := os.Args[:len(os.Args)-1]
	argv := append(append([]string{}, own...), confineMode, name)
	pid, err = syscall.ForkExec("/proc/self/exe", argv, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(), // two variables for the Go runtime
		Files: []uintptr{null.Fd(), 1, 2, r.Fd(), status.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	r.Close()
	defer null.Close()
	if err != nil {
		return 0, err
	}
	// The sidecar is to see it when the plugin closes its standard output.
	if err := unix.Dup3(int(null.Fd()), 1, 0); err != nil {
		return 0, err
	}
	pinProc(pid)
	s.Parent = os.Getpid()
	return pid, json.NewEncoder(w).Encode(s)
}

// pinProc holds on to what the plugin may see of /proc. Landlock knows files by their
// inodes, and /proc makes new ones when memory is short unless somebody has the old
// ones open.
func pinProc(plugin int) {
	paths := []string{fmt.Sprintf("/proc/%d", plugin)}
	for _, path := range systemFiles {
		if strings.HasPrefix(path, "/proc/") && path != "/proc/self" {
			paths = append(paths, path)
		}
	}
	for _, path := range paths {
		unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) // not there: nothing to hold
	}
}

// reap waits for a child and for whatever it has left behind to this process, until
// the child has ended; for -1, until nothing is left.
func reap(child int) (code int) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return code
		case pid != child:
		case status.Signaled():
			return exitKilled + int(status.Signal())
		case status.Exited():
			return status.ExitStatus()
		}
	}
}

// killDescendants kills until nobody is left that could start another. What has lost
// its parent is this process's child, and those are found the fastest: faster than
// a process that only starts another and ends can do so.
func killDescendants() {
	for round := 0; ; round++ {
		for range 200 {
			if !killChildren() {
				break
			}
		}
		pids := descendants(os.Getpid())
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		// Some may be stuck in the kernel, and are not to be waited for in a busy loop.
		time.Sleep(time.Duration(min(round, 50)) * time.Millisecond)
	}
}

// killChildren reports whether there were any, dead ones included.
func killChildren() bool {
	found := false
	for _, pid := range children() {
		found = true
		syscall.Kill(pid, syscall.SIGKILL)
	}
	return found
}
