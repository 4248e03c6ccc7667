package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/vault"
)

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func killPID(t *testing.T, pid string) {
	t.Helper()
	if err := syscall.Kill(atoi(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func alive(pid int) bool {
	_, zombie, ok := parentOf(pid)
	return ok && !zombie
}

// needLandlock keeps a kernel without the sandbox from passing as one that has it.
func needLandlock(t *testing.T) {
	t.Helper()
	if !canConfine() {
		t.Fatal("this kernel has no Landlock, so the sandbox cannot be tested")
	}
}

func TestSandbox(t *testing.T) {
	needLandlock(t)
	const name = "SIDEVAULT_TEST_SECRET"
	t.Setenv(name, canary)
	dir := scratch(t)
	vaultFile := filepath.Join(dir, "vault.db")
	writeFile(t, vaultFile, "ciphertext", 0o600)
	readable := filepath.Join(dir, "readable")
	writeFile(t, readable, "12345", 0o600)
	l, err := net.Listen("unix", "@"+filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := fixtureProgram("p", "serve")
	p.Read = []string{readable}
	r := newRig(t, quick(), Options{Sandbox: Required}, p)
	me := fmt.Sprintf("/proc/%d/", os.Getpid())
	for _, o := range []order{
		{Do: "read", Path: me + "environ"},
		{Do: "read", Path: me + "mem"},
		{Do: "read", Path: me + "cmdline"},
		{Do: "read", Path: me + "fd"},
		{Do: "read", Path: vaultFile},
		{Do: "read", Path: "/etc/shadow"},
		{Do: "read", Path: "/etc/hostname"},
		{Do: "read", Path: r.dir},
		{Do: "write", Path: vaultFile},
		{Do: "write", Path: readable},
		{Do: "write", Path: filepath.Join(dir, "new")},
		{Do: "write", Path: "/tmp/sidevault-test-outside"},
		{Do: "write", Path: "/dev/shm/sidevault-test-outside"},
		{Do: "signal", N: os.Getpid()},
		{Do: "signal", N: r.supervisorOf("p")},
		{Do: "dial", Path: "@" + filepath.Base(dir)},
	} {
		if got := r.ask("p", o); !strings.HasPrefix(got, "refused: ") {
			t.Errorf("%+v is %s", o, got)
		}
	}
	for _, o := range []order{
		{Do: "read", Path: readable},
		{Do: "read", Path: "/etc/hosts"},
		{Do: "read", Path: "/proc/self/status"},
		{Do: "read", Path: "/usr/bin/env"},
		{Do: "write", Path: "file"},
		{Do: "write", Path: "/dev/null"},
	} {
		if got := r.ask("p", o); !strings.HasPrefix(got, "done: ") {
			t.Errorf("%+v is %s", o, got)
		}
	}
}

func (r *rig) supervisorOf(name string) int {
	r.t.Helper()
	ppid, _, ok := parentOf(atoi(r.t, r.ask(name, order{Do: "pid"})))
	if !ok {
		r.t.Fatal("no parent")
	}
	return ppid
}

// What a plugin has, and that it has no more.
func TestSelf(t *testing.T) {
	needLandlock(t)
	t.Setenv("SIDEVAULT_TEST_SECRET", canary)
	// A descriptor that the sidecar has inherited, as from a careless shell.
	careless, err := syscall.Dup(int(os.Stderr.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(careless)
	p := fixtureProgram("p", "serve")
	p.Env = map[string]string{"GIVEN": "x"}
	r := newRig(t, quick(), Options{}, p)
	got := r.ask("p", order{Do: "self"})
	env, rest, _ := strings.Cut(strings.TrimPrefix(got, "env="), " ")
	for _, name := range strings.Split(env, ",") {
		switch name {
		case "PATH", "LANG", "HOME", "TMPDIR", "GIVEN", "SIDEVAULT_PLUGIN":
		default:
			if !strings.HasPrefix(name, "PLUGIN_") {
				t.Errorf("the environment has %s", name)
			}
		}
	}
	zero := "0000000000000000"
	for _, want := range []string{"fds=0,1,2 ", "dir=" + r.dir + "/", "stdin=0 ", "sid=true", "CapEff: " + zero, "CapInh: " + zero, "CapAmb: " + zero, "NoNewPrivs: 1",
		"core=0; ", "nofile=1024; ", fmt.Sprintf("fsize=%d; ", 64<<20), "umask=77;"} {
		if !strings.Contains(rest, want) {
			t.Errorf("no %q in %q", want, rest)
		}
	}
	if os.Geteuid() == 0 && !strings.Contains(rest, "CapBnd: "+zero) {
		t.Errorf("capabilities can be got back: %q", rest)
	}
}

// A plugin is asked about one place at a time, and told nothing else.
func TestRequest(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	got := strings.Join(strings.Fields(r.ask("p", order{Do: "request"})), " ")
	want := `place:{org:"acme" integration:"slack" name:"default"} fields:{key:"value" value:"` + canary + `"} auth_type:"token"`
	if got != want {
		t.Errorf("the request is %s", strings.ReplaceAll(got, canary, "SECRET"))
	}
}

func TestUser(t *testing.T) {
	if os.Geteuid() != 0 {
		p := fixtureProgram("p", "serve")
		p.User = "root"
		r := newRig(t, quick(), Options{}, p)
		if s := r.stateOf("p"); s.Status != vault.PluginUnusable || !strings.Contains(s.Reason, "takes a sidecar that runs as root") {
			t.Errorf("%+v", s)
		}
		return
	}
	for _, sandbox := range []Sandbox{Required, Off} {
		t.Run(string(sandbox), func(t *testing.T) {
			p := fixtureProgram("p", "serve")
			p.Path, p.User = publicCopy(t, p.Path), "nobody"
			r := newRig(t, quick(), Options{Sandbox: sandbox}, p)
			got := r.ask("p", order{Do: "self"})
			for _, want := range []string{"Uid: 65534 65534 65534 65534", "Gid: 65534 65534 65534 65534", "CapEff: 0000000000000000", "NoNewPrivs: 1"} {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in %q", want, got)
				}
			}
			if got := r.ask("p", order{Do: "write", Path: "file"}); got != "done: 1" {
				t.Error(got)
			}
			if got := r.ask("p", order{Do: "spawn"}); strings.HasPrefix(got, "refused") {
				t.Error(got)
			}
		})
	}
}

// A plugin's user must be able to get to its directory.
func TestUnreachable(t *testing.T) {
	id := identity{Set: true, UID: 65534, GID: 65534}
	dir := filepath.Join(scratch(t), "below") // scratch is for its owner alone
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := id.reach("/usr/bin"); err != nil {
		t.Error(err)
	}
	if err := (identity{}).reach(dir); err != nil {
		t.Error(err)
	}
	err := id.reach(dir)
	if owner := os.Geteuid() == id.UID; owner != (err == nil) {
		t.Errorf("%v", err)
	} else if err != nil && !strings.Contains(err.Error(), "cannot enter "+filepath.Dir(dir)+":") {
		t.Error(err)
	}
}

// publicCopy puts a program where every user can run it.
func publicCopy(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := scratch(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "program")
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// Without Landlock, a program runs unless the sandbox is required, and is supervised
// all the same.
func TestNoLandlock(t *testing.T) {
	tun := quick()
	tun.landlock = func() bool { return false }
	t.Run("required", func(t *testing.T) {
		r := newRig(t, tun, Options{Sandbox: Required}, fixtureProgram("p", "serve"))
		_, err := r.validate(callTo("p", order{}))
		if got := reasonOf(t, err); !strings.HasPrefix(got, "needs a sandbox, and this kernel has no Landlock") {
			t.Error(got)
		}
		if s := r.stateOf("p"); s.Status != vault.PluginUnusable {
			t.Errorf("%+v", s)
		}
	})
	t.Run("auto", func(t *testing.T) {
		r := newRig(t, tun, Options{}, fixtureProgram("p", "serve"))
		orphan := atoi(t, r.ask("p", order{Do: "spawn"}))
		if got := r.ask("p", order{Do: "read", Path: "/etc/hostname"}); !strings.HasPrefix(got, "done: ") {
			t.Error(got)
		}
		if len(r.lines("plugins run without a sandbox")) != 1 {
			t.Error("nobody is warned")
		}
		r.Close(context.Background())
		if alive(orphan) {
			t.Error("an orphan is left")
		}
	})
}

func TestOrphans(t *testing.T) {
	for _, end := range []string{"close", "crash", "hang"} {
		t.Run(end, func(t *testing.T) {
			r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
			orphan := atoi(t, r.ask("p", order{Do: "spawn", N: 5}))
			if !alive(orphan) || !r.Owns(orphan) || !r.Owns(atoi(t, r.ask("p", order{Do: "pid"}))) {
				t.Error("the host does not know its own")
			}
			if child := exec.Command("/bin/true"); child.Run() != nil || !r.Owns(child.Process.Pid) {
				t.Error("a process that has ended may have been a plugin's")
			}
			if r.Owns(os.Getpid()) || r.Owns(os.Getppid()) || r.Owns(1) || r.Owns(0) {
				t.Error("the host claims others")
			}
			switch end {
			case "close":
				r.Close(context.Background())
			case "crash":
				r.validate(callTo("p", order{Do: "crash"}))
			case "hang":
				r.validate(within(100*time.Millisecond, "p", order{Do: "hang"}))
			}
			eventually(t, "the orphan is gone", func() bool { return !alive(orphan) })
			eventually(t, "nothing is left", func() bool { return len(descendants(os.Getpid())) == 0 })
			eventually(t, "nothing is claimed", func() bool { return !r.Owns(orphan) })
		})
	}
}

// Processes that start another and end, faster than one can look, are caught.
func TestHydra(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	for range 4 {
		if got := r.ask("p", order{Do: "hydra"}); got != "done: 1" {
			t.Fatal(got)
		}
	}
	eventually(t, "there are always others", func() bool { return r.written("heads") > 30 })
	began := time.Now()
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Logf("caught in %v", time.Since(began))
}

// written is how many bytes the programs have written to files of that name.
func (r *rig) written(name string) (n int64) {
	_ = filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// However the sidecar ends, nothing of its plugins is left.
func TestKilledHost(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := runDir(t)
	cmd := exec.Command(self, "host", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	pids := descendants(cmd.Process.Pid)
	if len(pids) != 2+9 {
		t.Errorf("%d processes, want a supervisor, a plugin and nine sleepers", len(pids))
	}
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "all are gone", func() bool {
		for _, pid := range pids {
			if alive(pid) {
				return false
			}
		}
		return true
	})
	eventually(t, "their directories are gone", func() bool {
		entries, err := os.ReadDir(dir)
		return err == nil && len(entries) == 0
	})
}

// A supervisor that is killed takes the plugin along, and is no worse than a crash.
func TestKilledSupervisor(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	pid := atoi(t, r.ask("p", order{Do: "pid"}))
	if err := syscall.Kill(r.supervisorOf("p"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plugin is gone", func() bool { return !alive(pid) })
	eventually(t, "its end is seen", func() bool { return r.stateOf("p").Processes == 0 })
	r.ok("p")
}

func TestSupervisorByHand(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"supervise", "x"}, {"supervise", "confine", "x"}, {"supervise", "a", "b", "c"}} {
		var out bytes.Buffer
		cmd := exec.Command(self, args...)
		cmd.Stderr = &out
		err := cmd.Run()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != exitNotRun || strings.Contains(out.String(), "panic") {
			t.Errorf("%v: %v, %s", args, err, out.String())
		}
	}
}

// The processes are readable in a list of processes, and say no secrets there.
func TestCommandLines(t *testing.T) {
	p := fixtureProgram("slack", "serve")
	p.Env = map[string]string{"TOKEN": canary}
	r := newRig(t, quick(), Options{}, p)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", r.supervisorOf("slack")))
	if got := strings.ReplaceAll(string(line), "\x00", " "); err != nil || got != filepath.Base(self)+" supervise slack " {
		t.Errorf("%q, %v", got, err)
	}
	_, err = os.ReadFile(fmt.Sprintf("/proc/%d/environ", r.supervisorOf("slack")))
	if os.Geteuid() != 0 && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the supervisor's memory is open: %v", err)
	}
}

// wrapper is a script that runs the fixture: an interpreter, a pinned script and a
// further path to read.
func wrapper(t *testing.T, path, comment string) Program {
	t.Helper()
	p := fixtureProgram("p", "serve")
	p.SHA256 = writeFile(t, path, "#!/bin/sh\n# "+comment+"\nexec "+p.Path+" fixture serve\n", 0o700)
	p.Read, p.Path, p.Args = []string{p.Path}, path, nil
	return p
}

func TestScript(t *testing.T) {
	path := filepath.Join(scratch(t), "script")
	p := wrapper(t, path, "one")
	r := newRig(t, quick(), Options{}, p)
	first := r.ask("p", order{Do: "pid"})
	// The script changes: the process that runs stays, and the next one is refused.
	next := wrapper(t, path, "two")
	if r.ask("p", order{Do: "pid"}) != first {
		t.Error("a process that works was replaced")
	}
	if err := r.Reload([]Program{p}); err != nil {
		t.Fatal(err)
	}
	_, err := r.validate(callTo("p", order{}))
	if got := reasonOf(t, err); !strings.HasPrefix(got, "has another checksum than the configured one: "+path) {
		t.Error(got)
	}
	if err := r.Reload([]Program{next}); err != nil {
		t.Fatal(err)
	}
	if r.ask("p", order{Do: "pid"}) == first {
		t.Error("the old script still runs")
	}
	// Unpinned, a reload takes what there is.
	next.SHA256, next.AllowUnpinned = "", true
	if err := r.Reload([]Program{next}); err != nil {
		t.Fatal(err)
	}
	second := r.ask("p", order{Do: "pid"})
	wrapper(t, path, "three")
	if err := r.Reload([]Program{next}); err != nil {
		t.Fatal(err)
	}
	if r.ask("p", order{Do: "pid"}) == second {
		t.Error("the changed script is not run")
	}
}

// An interpreter outside of the system's directories must be listed.
func TestForeignInterpreter(t *testing.T) {
	needLandlock(t)
	dir := scratch(t)
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	sh, path := filepath.Join(dir, "sh"), filepath.Join(dir, "script")
	writeFile(t, sh, string(shell), 0o700)
	p := Program{Name: "p", Path: path, SHA256: writeFile(t, path, "#!"+sh+"\nexit 5\n", 0o700)}
	for _, c := range []struct {
		read []string
		want string
	}{
		{nil, "cannot be run: its user or the sandbox does not let it run " + path + " or the interpreter that it names; list the interpreter's path under read"},
		{[]string{sh}, "exited with code 5 before the handshake"},
		{[]string{dir}, "exited with code 5 before the handshake"},
		{[]string{dir + "/none"}, "cannot be confined: there is no " + dir + "/none to be read"},
	} {
		t.Run(fmt.Sprint(len(c.read), c.want[:6]), func(t *testing.T) {
			p.Read = c.read
			r := newRig(t, quick(), Options{}, p)
			_, err := r.validate(callTo("p", order{}))
			if got := reasonOf(t, err); got != c.want {
				t.Errorf("%v: %q, want %q", c.read, got, c.want)
			}
		})
	}
}

// Interpreters start in the sandbox, and find the modules that are listed.
func TestInterpreters(t *testing.T) {
	dir := scratch(t)
	for _, c := range []struct{ shell, script, module, text string }{
		{"/usr/bin/python3", "import other, ssl, socket, urllib.request\nsocket.getaddrinfo('localhost', 1)\nssl.create_default_context()\nraise SystemExit(other.code)\n", "other.py", "code = 42\n"},
		{"/usr/bin/node", "const dns = require('dns')\nrequire('https')\ndns.lookup('localhost', () => process.exit(require('./other.js').code))\n", "other.js", "exports.code = 42\n"},
	} {
		t.Run(filepath.Base(c.shell), func(t *testing.T) {
			if _, err := os.Stat(c.shell); err != nil {
				t.Skipf("%s is not on this machine", c.shell)
			}
			path, module := filepath.Join(dir, filepath.Base(c.shell)), filepath.Join(dir, c.module)
			p := Program{Name: "p", Path: path, SHA256: writeFile(t, path, "#!"+c.shell+"\n"+c.script, 0o700)}
			p.Files = map[string]string{module: writeFile(t, module, c.text, 0o600)}
			r := newRig(t, quick(), Options{}, p)
			_, err := r.validate(callTo("p", order{}))
			if got := reasonOf(t, err); got != "exited with code 42 before the handshake" {
				t.Errorf("%s\n%s", got, r.logs)
			}
		})
	}
}
