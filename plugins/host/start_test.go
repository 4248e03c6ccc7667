//go:build linux

package host

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/vault"
)

func TestStartFaults(t *testing.T) {
	tun := quick()
	tun.start = 400 * time.Millisecond
	for mode, want := range map[string]string{
		"exit0":     "exited with code 0 before the handshake",
		"exit3":     "exited with code 3 before the handshake",
		"garbage":   "wrote something else than the handshake to its standard output",
		"longline":  "wrote something else than the handshake to its standard output",
		"version7":  "speaks protocol version 7, this sidecar speaks 1",
		"netrpc":    "speaks another protocol than gRPC",
		"nocert":    "does not take part in AutoMTLS: its handshake has no certificate",
		"elsewhere": "names an address in the handshake that is not its own",
		"silent":    "did not answer within 400ms",
		"deaf":      "did not answer within 400ms",
		"closed":    "closed its standard output before the handshake",
	} {
		t.Run(mode, func(t *testing.T) {
			tun := tun
			if mode != "silent" && mode != "deaf" {
				tun.start = 10 * time.Second // the machine may be busy
			}
			r := newRig(t, tun, Options{}, fixtureProgram("p", mode))
			_, err := r.validate(callTo("p", order{}))
			if got := reasonOf(t, err); got != want {
				t.Errorf("%q, want %q (%v)", got, want, err)
			}
			if s := r.stateOf("p"); s.Status == vault.PluginRunning || s.Reason != want || s.Failures != 1 {
				t.Errorf("state: %+v", s)
			}
		})
	}
}

// scratch is a directory that the checks accept, for program files.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "svp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func writeFile(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	sum, err := fileSum(path)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestFileFaults(t *testing.T) {
	dir := scratch(t)
	path := func(name string) string { return filepath.Join(dir, name) }
	good := writeFile(t, path("good"), "#!/bin/sh\nexit 5\n", 0o700)
	writeFile(t, path("plain"), "#!/bin/sh\nexit 5\n", 0o600)
	writeFile(t, path("open"), "#!/bin/sh\nexit 5\n", 0o777)
	noexec := writeFile(t, path("noexec"), "\x00\x01\x02", 0o700)
	noshell := writeFile(t, path("noshell"), "#!/no/such/interpreter\n", 0o700)
	if err := os.Mkdir(path("shared"), 0o777); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path("shared/good"), "#!/bin/sh\nexit 5\n", 0o700)
	if err := os.Chmod(path("shared"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path("open"), path("link")); err != nil {
		t.Fatal(err)
	}
	zeros := strings.Repeat("0", 64)
	for _, c := range []struct {
		name     string
		p        Program
		want     string
		unusable bool
	}{
		{"missing", Program{Path: path("none"), SHA256: good}, "is missing: " + path("none"), true},
		{"directory", Program{Path: dir, SHA256: good}, "is not a regular file: " + dir, true},
		{"plain", Program{Path: path("plain"), SHA256: good}, "is not executable: chmod +x " + path("plain"), true},
		{"open", Program{Path: path("open"), SHA256: good}, "can be changed by other users: chmod go-w " + path("open"), true},
		{"linked", Program{Path: path("link"), SHA256: good}, "can be changed by other users: chmod go-w " + path("open"), true},
		{"shared", Program{Path: path("shared/good"), SHA256: good}, "can be changed by other users: chmod go-w " + path("shared"), true},
		{"sum", Program{Path: path("good"), SHA256: zeros}, "has another checksum than the configured one: " + path("good") + " has sha256 " + good + ", not " + zeros, true},
		{"files", Program{Path: path("good"), SHA256: good, Files: map[string]string{path("plain"): zeros}}, "has another checksum than the configured one: " + path("plain") + " has sha256 " + good + ", not " + zeros, true},
		{"user", Program{Path: path("good"), SHA256: good, User: "no-such-user"}, "runs as the user no-such-user, who does not exist on this host", true},
		{"noexec", Program{Path: path("noexec"), SHA256: noexec}, "cannot be run: " + path("noexec") + " is neither a program for this machine nor a script with an interpreter", false},
		{"noshell", Program{Path: path("noshell"), SHA256: noshell}, "cannot be run: the interpreter or loader that " + path("noshell") + " names is missing", false},
		{"script", Program{Path: path("good"), SHA256: strings.ToUpper(good)}, "exited with code 5 before the handshake", false},
		{"unpinned", Program{Path: path("good"), AllowUnpinned: true}, "exited with code 5 before the handshake", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.p.Name = "p"
			r := newRig(t, quick(), Options{}, c.p)
			if s := r.stateOf("p"); c.unusable && (s.Status != vault.PluginUnusable || s.Reason != c.want) {
				t.Errorf("before the first call: %+v", s)
			}
			_, err := r.validate(callTo("p", order{}))
			if got := reasonOf(t, err); got != c.want {
				t.Errorf("%q, want %q (%v)", got, c.want, err)
			}
			if s := r.stateOf("p"); (s.Status == vault.PluginUnusable) != c.unusable || s.Reason != c.want {
				t.Errorf("state: %+v", s)
			}
		})
	}
}

// A file that is mended is found without a reload.
func TestMendedFile(t *testing.T) {
	path := filepath.Join(scratch(t), "late")
	p := Program{Name: "p", Path: path, AllowUnpinned: true}
	r := newRig(t, quick(), Options{}, p)
	_, err := r.validate(callTo("p", order{}))
	if got := reasonOf(t, err); got != "is missing: "+path {
		t.Fatal(got)
	}
	writeFile(t, path, "#!/bin/sh\nexit 5\n", 0o700)
	eventually(t, "the file is found", func() bool {
		_, err := r.validate(callTo("p", order{}))
		return reasonOf(t, err) == "exited with code 5 before the handshake"
	})
}

func TestEager(t *testing.T) {
	p := fixtureProgram("p", "serve")
	p.Eager, p.Instances = true, 2
	bad := fixtureProgram("bad", "exit3")
	bad.Eager = true
	r := newRig(t, quick(), Options{}, p, bad)
	eventually(t, "two processes run", func() bool { return r.stateOf("p").Processes == 2 })
	eventually(t, "the bad one is quarantined", func() bool { return r.stateOf("bad").Status == vault.PluginQuarantined })
	r.ok("p")
}

func TestConfig(t *testing.T) {
	good := fixtureProgram("p", "serve")
	for name, change := range map[string]func(*Config){
		"no supervisor":    func(c *Config) { c.Supervisor = nil },
		"sandbox mode":     func(c *Config) { c.Sandbox = "maybe" },
		"relative run dir": func(c *Config) { c.RunDir = "x" },
		"twice":            func(c *Config) { c.Programs = append(c.Programs, c.Programs[0]) },
		"name":             func(c *Config) { c.Programs[0].Name = "a/b" },
		"path":             func(c *Config) { c.Programs[0].Path = "x" },
		"unpinned":         func(c *Config) { c.Programs[0].SHA256 = "" },
		"sum":              func(c *Config) { c.Programs[0].SHA256 = "abc" },
		"files":            func(c *Config) { c.Programs[0].Files = map[string]string{"/x": ""} },
		"read":             func(c *Config) { c.Programs[0].Read = []string{"x"} },
		"env":              func(c *Config) { c.Programs[0].Env = map[string]string{"PLUGIN_UNIX_SOCKET_DIR": "/"} },
		"long run dir":     func(c *Config) { c.RunDir = longDir(t) },
		"missing run dir":  func(c *Config) { c.RunDir = "/no/such/directory" },
	} {
		c := Config{Programs: []Program{good}, Supervisor: testSupervisor}
		change(&c)
		if h, err := New(c); err == nil {
			h.Close(context.Background())
			t.Errorf("%s: no error", name)
		}
	}
}

func longDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
