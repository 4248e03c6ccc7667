package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openPTY returns both ends of a terminal.
func openPTY(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	return keyboard, screen
}

// session is a program at a terminal of its own, which it controls.
type session struct {
	keyboard *os.File
	shown    lockedBuffer
	cmd      *exec.Cmd
	done     chan struct{}
}

func startSession(t *testing.T, cmd *exec.Cmd) *session {
	t.Helper()
	keyboard, screen := openPTY(t)
	s := &session{keyboard: keyboard, cmd: cmd, done: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = screen, screen, screen
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := keyboard.Read(buf)
			s.shown.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() {
		cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-s.done
	})
	return s
}

func (s *session) types(t *testing.T, text string) {
	t.Helper()
	if _, err := s.keyboard.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// shows waits until that was shown that many times.
func (s *session) shows(t *testing.T, text string, times int) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("shown:\n%s", &s.shown)
		}
	}()
	eventually(t, fmt.Sprintf("it shows %q %d times", text, times), func() bool { return strings.Count(s.shown.String(), text) >= times })
}

// shell starts an interactive shell with job control, in which sidevault is this program.
func (p *process) shell(t *testing.T, env ...string) *session {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := invocation{env: append(env, addrVariable+"="+p.addr, tokenFileVariable+"="+p.keyFile, "SIDEVAULT="+self, "PS1=ready> ", "TERM=dumb")}.
		command(context.Background(), t)
	cmd.Path, cmd.Args = bash, []string{"bash", "--norc", "--noprofile", "--noediting", "-i"}
	s := startSession(t, cmd)
	s.shows(t, "ready> ", 1)
	return s
}

// At a terminal a program is a job as any other, whichever way it is run.
func TestRunAtTerminal(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "value", "set", "salesforce").wants(t, exitOK)
	for name, flags := range map[string]string{"replaced": "", "watched": "--watch ", "with files": "--files "} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := runtimeDir(t)
			s := p.shell(t, "XDG_RUNTIME_DIR="+dir)
			// What is typed is shown, too: the quotes make it another text.
			s.types(t, `"$SIDEVAULT" run `+flags+`-- bash -c 'trap "echo int""errupted; exit 9" INT; echo be""gun; while read line; do echo "got $line"; done'`+"\n")
			s.shows(t, "begun", 1)
			s.types(t, "hello\n")
			s.shows(t, "got hello", 1)
			for range 2 {
				before := strings.Count(s.shown.String(), "Stopped")
				s.types(t, "\x1a")
				s.shows(t, "Stopped", before+1)
				s.types(t, "fg\n")
				s.shows(t, "\"$SIDEVAULT\" run", before+2)
				s.types(t, "again\n")
				s.shows(t, "got again", before+1)
			}
			s.types(t, "\x03")
			s.shows(t, "interrupted", 1)
			s.types(t, "echo \"co\"\"de $?\"\n")
			s.shows(t, "code 9", 1)
			if n := strings.Count(s.shown.String(), "interrupted"); n != 1 {
				t.Errorf("interrupted %d times\n%s", n, &s.shown)
			}
			if list := left(t, dir); len(list) != 0 {
				t.Errorf("%v is left", list)
			}
		})
	}
}

// An interruption that ends the program ends the script around it, too.
func TestRunInterruptsScript(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "value", "set", "salesforce").wants(t, exitOK)
	for _, flags := range []string{"", "--watch", "--files"} {
		s := p.shell(t, "XDG_RUNTIME_DIR="+runtimeDir(t))
		s.types(t, `bash -c '"$SIDEVAULT" run `+flags+` -- bash -c "echo be\"\"gun; exec sleep 60"; echo went "on"'`+"\n")
		s.shows(t, "begun", 1)
		s.types(t, "\x03")
		s.shows(t, "ready> ", 2)
		s.types(t, "echo \"co\"\"de $?\"\n")
		s.shows(t, "code 130", 1)
		if strings.Contains(s.shown.String(), "went on") {
			t.Errorf("%s: the script went on\n%s", flags, &s.shown)
		}
	}
}

// In the background the terminal stays the shell's, until it brings the job back.
func TestRunInBackground(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "value", "set", "salesforce").wants(t, exitOK)
	s := p.shell(t, "XDG_RUNTIME_DIR="+runtimeDir(t))
	s.types(t, `"$SIDEVAULT" run --files -- bash -c 'echo be""gun; read line; echo "got $line"' &`+"\n")
	s.shows(t, "begun", 1)
	s.types(t, "echo sh\"\"ell\n")
	s.shows(t, "shell", 1)
	s.types(t, "wait %1; jobs\n")
	s.shows(t, "Stopped", 1)
	s.types(t, "fg\n")
	s.shows(t, "\"$SIDEVAULT\" run", 2)
	s.types(t, "hello\n")
	s.shows(t, "got hello", 1)
}

// A terminal is shown secrets only when that is asked for.
func TestTemplateAtTerminal(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "value", "set", "salesforce").wants(t, exitOK)
	in := writeFile(t, filepath.Join(t.TempDir(), "in"), `<{{ credential "salesforce" }}>`, 0o600)
	s := p.shell(t)
	s.types(t, `"$SIDEVAULT" template `+in+" -\n")
	s.shows(t, "--stdout-secrets does", 1)
	s.types(t, `"$SIDEVAULT" template `+in+" - --stdout-secrets\n")
	s.shows(t, "<value>", 1)
	s.types(t, `"$SIDEVAULT" template `+in+" - | tr a-z A-Z\n")
	s.shows(t, "<VALUE>", 1)
}
