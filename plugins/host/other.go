//go:build !linux

package host

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// canConfine reports that there is no sandbox on this system.
func canConfine() bool { return false }

// Supervise has nothing to do on this system: plugins are started without one.
func Supervise([]string) int {
	fmt.Fprintln(os.Stderr, "this mode is for Linux")
	return 126
}

// command is the plugin's own. Ending its life ends the process group.
func (p *process) command(*pipes) *exec.Cmd {
	cmd := exec.Command(p.prog.Path, p.prog.Args...)
	cmd.Env, cmd.Dir = p.env, p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func (p *process) instruct() error { return nil }

func (p *process) end() {
	p.life.Close()
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}

func (h *Host) confines() bool { return false }

func descends(pid int, of map[int]bool) bool { return of[pid] }
