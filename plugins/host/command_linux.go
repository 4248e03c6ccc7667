package host

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// spec is what a supervisor is told: one line of JSON on the life pipe. It travels on
// no command line, since the environment of a plugin may hold secrets.
type spec struct {
	Name    string
	Path    string
	Args    []string
	Env     []string
	Dir     string
	Read    []string // may be read and run, besides what every program may
	List    []string // directories whose names may be read
	User    identity
	Confine bool // with Landlock
	Strip   bool // of capabilities
	Parent  int  // the supervisor, for the plugin's side
}

// The descriptors of a supervisor and, with another first one, of the plugin's side.
const (
	lifeFD   = 3
	statusFD = 4
)

// command is the supervisor's. It inherits no environment, and its own is small: the
// supervisor is to take little memory.
func (p *process) command(pipes *pipes) *exec.Cmd {
	line := p.host.cfg.Supervisor
	cmd := exec.Command(line[0], append(append([]string{}, line[1:]...), p.prog.Name)...)
	if self, err := os.Executable(); err == nil && line[0] == "/proc/self/exe" {
		cmd.Args[0] = filepath.Base(self)
	}
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=20"}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{pipes.life.r, pipes.status.w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's interrupt is the sidecar's alone
	return cmd
}

// instruct sends the supervisor its instructions.
func (p *process) instruct() error {
	s := spec{
		Name: p.prog.Name, Path: p.prog.Path, Args: p.prog.Args, Env: p.env, Dir: p.dir, User: p.id,
		Confine: p.host.confines(), Strip: p.host.cfg.Sandbox != Off,
		Read: append([]string{p.prog.Path}, p.prog.Read...),
	}
	for path := range p.prog.Files {
		s.Read = append(s.Read, path)
		s.List = append(s.List, filepath.Dir(path)) // Python looks for modules there
	}
	p.life.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if err := json.NewEncoder(p.life).Encode(s); err != nil {
		p.kill()
		return fmt.Errorf("instruct the supervisor: %w", err)
	}
	return nil
}

// end makes the supervisor kill everything.
func (p *process) end() {
	p.life.WriteString("end\n")
	p.life.Close()
}

// confines reports whether programs run in the sandbox.
func (h *Host) confines() bool {
	if h.cfg.Sandbox == Off {
		return false
	}
	if h.tun.landlock() {
		return true
	}
	h.unboxed.Do(func() {
		h.cfg.Logger.Warn("plugins run without a sandbox: this kernel has no Landlock; they can read what the sidecar can")
	})
	return false
}
