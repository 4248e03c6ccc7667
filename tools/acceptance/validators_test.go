package acceptance

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// behaviours are integrations whose validator does as the key says.
func behaviours(more string) string {
	var b strings.Builder
	b.WriteString("integrations:\n")
	for _, do := range []string{"accept", "reject", "echo", "slow", "hang", "crash", "nothing", "shout"} {
		timeout := "3s"
		if do == "shout" {
			timeout = "60s"
		}
		fmt.Fprintf(&b, "  - {key: %s, validators: [{plugin: trial, config: {do: %s}, timeout: %s}]}\n", do, do, timeout)
	}
	return b.String() + more
}

func trial(t *testing.T) sidecar.Program {
	return sidecar.Program{Name: "trial", Path: binary.BuildProgram(t, "./programs/validator"), Env: map[string]string{"TRIAL": "1"}}
}

func slotOf(integration string) string { return "/v1/integrations/" + integration + "/credentials" }

// script writes an executable file that other users cannot change.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWhatValidatorsDo sets a credential through every kind of validator: nothing
// but an acceptance stores it, and what was stored stays.
func TestWhatValidatorsDo(t *testing.T) {
	t.Parallel()
	v := binary.Init(t)
	good := trial(t)
	programs := []sidecar.Program{good}
	catalog := behaviours("")
	bind := func(name, path string) {
		catalog += fmt.Sprintf("  - {key: %s, validators: [{plugin: %s, timeout: 2s}]}\n", name, name)
		programs = append(programs, sidecar.Program{Name: name, Path: path})
	}
	bind("exits", script(t, "#!/bin/sh\nexit 0\n"))
	bind("dies", script(t, "#!/bin/sh\nexit 7\n"))
	bind("babbles", script(t, "#!/bin/sh\necho hello\nexec sleep 60\n"))
	bind("newer", script(t, "#!/bin/sh\necho '1|7|unix|/nowhere|grpc'\nexec sleep 60\n"))
	bind("silent", script(t, "#!/bin/sh\nexec sleep 60\n"))
	bind("missing", filepath.Join(t.TempDir(), "nothing"))
	flat := script(t, "#!/bin/sh\n")
	bind("flat", flat)
	open := script(t, "#!/bin/sh\n")
	bind("open", open)
	changed := script(t, "#!/bin/sh\n")
	bind("changed", changed)
	must(t, os.Chmod(flat, 0o600))
	must(t, os.Chmod(open, 0o777))
	args := v.Configure(t, catalog, programs...)
	must(t, os.WriteFile(changed, []byte("#!/bin/sh\necho other\n"), 0o700))
	s := v.Start(t, args...)
	c := newCanary(t, s)
	admin := s.Admin()
	admin.Put(slotOf("accept"), map[string]any{"value": "kept"}).Wants(http.StatusCreated)
	for _, test := range []struct {
		key, code, says string
		status          int
	}{
		{"reject", "INVALID_CREDENTIALS", "this value is not wanted", 400},
		{"echo", "INVALID_CREDENTIALS", "<redacted> is not a key", 400},
		{"slow", "VALIDATOR_UNAVAILABLE", "did not answer within 3s", 503},
		{"hang", "VALIDATOR_UNAVAILABLE", "did not answer within 3s", 503},
		{"crash", "VALIDATOR_UNAVAILABLE", "crashed during the call", 503},
		{"nothing", "VALIDATOR_UNAVAILABLE", "gave no verdict", 503},
		{"exits", "VALIDATOR_UNAVAILABLE", "exited with code 0", 503},
		{"dies", "VALIDATOR_UNAVAILABLE", "exited with code 7", 503},
		{"babbles", "VALIDATOR_UNAVAILABLE", "something else than the handshake", 503},
		{"newer", "VALIDATOR_UNAVAILABLE", "protocol version 7", 503},
		{"silent", "VALIDATOR_UNAVAILABLE", "did not answer within", 503},
		{"missing", "VALIDATOR_UNAVAILABLE", "is missing", 503},
		{"flat", "VALIDATOR_UNAVAILABLE", "is not executable", 503},
		{"open", "VALIDATOR_UNAVAILABLE", "can be changed by other users", 503},
		{"changed", "VALIDATOR_UNAVAILABLE", "another checksum", 503},
	} {
		f := c.inspect(admin.Put(slotOf(test.key), map[string]any{"value": c.secret})).Fails(test.status, test.code)
		if !strings.Contains(f.Error.Message+" "+f.Error.Details, test.says) {
			t.Errorf("%s: %s; %s: it does not say %q", test.key, f.Error.Message, f.Error.Details, test.says)
		}
		status := sidecar.Data[wire.SlotStatus](admin.Get(slotOf(test.key)).Wants(http.StatusOK))
		if status.HasCredentials {
			t.Errorf("%s: the credential is stored", test.key)
		}
		admin.Get("/v1/credentials/accept").Wants(http.StatusOK)
	}
	admin.Put(slotOf("shout"), map[string]any{"value": "after 64 MiB of log"}).Wants(http.StatusCreated)
	admin.Put(slotOf("accept"), map[string]any{"value": "again"}).Wants(http.StatusOK)
	if n := len(s.Log()); n > 4<<20 {
		t.Errorf("the log has %d bytes", n)
	}
	c.absent()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRejectionKeepsTheCredential rotates to a value that is rejected.
func TestRejectionKeepsTheCredential(t *testing.T) {
	t.Parallel()
	v := binary.Init(t)
	s := v.Start(t, v.Configure(t, "integrations:\n  - {key: acme, validators: [{plugin: trial, config: {prefix: good-}}]}\n", trial(t))...)
	admin := s.Admin()
	admin.Put(slotOf("acme"), map[string]any{"value": "good-1"}).Wants(http.StatusCreated)
	admin.Put(slotOf("acme"), map[string]any{"value": "bad-2"}).Fails(http.StatusBadRequest, "INVALID_CREDENTIALS")
	admin.Post(slotOf("acme")+"/test", map[string]any{"value": "bad-2"}).Fails(http.StatusBadRequest, "INVALID_CREDENTIALS")
	admin.Post(slotOf("acme")+"/test", map[string]any{"value": "good-2"}).Wants(http.StatusOK)
	admin.Post(slotOf("acme")+"/test", nil).Wants(http.StatusOK)
	r := sidecar.Data[wire.Resolved](admin.Get("/v1/credentials/acme").Wants(http.StatusOK))
	if r.Version != 1 || r.Value == nil || r.Value.Reveal() != "good-1" {
		t.Errorf("version %d is served", r.Version)
	}
	if o := s.Run("bad-3", "test", "acme"); o.Code == 0 || !strings.Contains(o.Stderr, "a value begins with good-") {
		t.Errorf("sidevault test ended with %d: %s", o.Code, o.Stderr)
	}
	if o := s.Run("", "plugin", "list"); o.Code != 0 || !strings.Contains(o.Stdout, "trial") || !strings.Contains(o.Stdout, "0.1.0") || !strings.Contains(o.Stdout, "running") {
		t.Errorf("sidevault plugin list ended with %d: %s%s", o.Code, o.Stdout, o.Stderr)
	}
}

// TestEveryStoredValueWasValidated sets from 200 callers at once, half of them what
// the validator rejects.
func TestEveryStoredValueWasValidated(t *testing.T) {
	t.Parallel()
	v := binary.Init(t)
	s := v.Start(t, v.Configure(t, "integrations:\n  - {key: acme, validators: [{plugin: trial, config: {prefix: good-}}]}\n", trial(t))...)
	admin := s.Admin()
	var wg sync.WaitGroup
	for n := range 200 {
		wg.Go(func() {
			if n%2 == 0 {
				admin.Put(slotOf("acme"), map[string]any{"value": fmt.Sprint("bad-", n)}).Fails(http.StatusBadRequest, "INVALID_CREDENTIALS")
			} else if a := admin.Put(slotOf("acme"), map[string]any{"value": fmt.Sprint("good-", n)}); a.Status != http.StatusOK && a.Status != http.StatusCreated {
				t.Errorf("set %d got %d", n, a.Status)
			}
		})
	}
	wg.Wait()
	status := sidecar.Data[wire.SlotStatus](admin.Get(slotOf("acme")).Wants(http.StatusOK))
	if status.Credential.Version != 100 {
		t.Errorf("100 good values made version %d", status.Credential.Version)
	}
	list := sidecar.Data[[]wire.Version](admin.Get("/v1/credentials/acme/" + status.Credential.ID + "/versions").Wants(http.StatusOK))
	for n, kept := range list {
		if want := 100 - uint64(n); kept.Version != want {
			t.Errorf("version %d where %d is expected", kept.Version, want)
		}
		r := sidecar.Data[wire.Resolved](admin.Get(fmt.Sprintf("/v1/credentials/acme?version=%d", kept.Version)).Wants(http.StatusOK))
		if r.Value == nil || !strings.HasPrefix(r.Value.Reveal(), "good-") {
			t.Errorf("version %d was never validated", kept.Version)
		}
	}
}

// TestPluginSeesNothingElse has a validator look around: the sidecar's files, memory,
// environment and socket are out of its reach.
func TestPluginSeesNothingElse(t *testing.T) {
	t.Parallel()
	v := binary.Init(t)
	socket := filepath.Join(t.TempDir(), "s.sock")
	catalog := fmt.Sprintf("integrations:\n  - key: look\n    validators: [{plugin: trial, config: {do: look, socket: %s, paths: [%s, %s, %s]}}]\n",
		socket, v.File("identity.txt"), v.File("vault.db"), filepath.Dir(v.Dir)+"/sidevault.yaml")
	args := v.Configure(t, catalog, trial(t))
	config := args[1]
	text, err := os.ReadFile(config)
	must(t, err)
	peers := fmt.Sprintf("peers:\n  - {uid: %d, name: local, org: default, scope: admin, environments: ['*'], integrations: ['*']}\n", os.Getuid())
	must(t, os.WriteFile(config, append(text, peers...), 0o600))
	s := v.Start(t, append(args, "--listen", "unix://"+socket)...)
	f := s.Admin().Put(slotOf("look"), map[string]any{"value": "x-value"}).Fails(http.StatusBadRequest, "INVALID_CREDENTIALS")
	if f.Error.Message != "seen: []" {
		t.Errorf("the plugin has %s", f.Error.Message)
	}
}

// TestNoProcessIsLeft stops and kills sidecars whose plugins run, one of them in a
// process of its own making.
func TestNoProcessIsLeft(t *testing.T) {
	t.Parallel()
	for _, end := range []func(*sidecar.Sidecar){func(s *sidecar.Sidecar) { s.Stop() }, (*sidecar.Sidecar).Kill} {
		v := binary.Init(t)
		p := trial(t)
		forks := script(t, "#!/bin/sh\n"+p.Path+"\nexit 0\n")
		catalog := behaviours("  - {key: forked, validators: [{plugin: forks}]}\n")
		s := v.Start(t, v.Configure(t, catalog, p, sidecar.Program{
			Name: "forks", Path: forks, More: []string{"read: [" + filepath.Dir(p.Path) + "]"},
		})...)
		admin := s.Admin()
		admin.Put(slotOf("hang"), map[string]any{"value": "x-value"}).Fails(http.StatusServiceUnavailable, "VALIDATOR_UNAVAILABLE")
		admin.Put(slotOf("accept"), map[string]any{"value": "x-value"}).Wants(http.StatusCreated)
		admin.Put(slotOf("forked"), map[string]any{"value": "x-value"}).Wants(http.StatusCreated)
		if n := len(descendants(s.PID())); n < 4 {
			t.Errorf("%d processes run below the sidecar", n)
		}
		before := descendants(s.PID())
		end(s)
		deadline := time.Now().Add(5 * time.Second)
		for len(alive(before)) > 0 && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
		}
		for _, pid := range alive(before) {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			t.Errorf("process %d is left: %q", pid, line)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// descendants returns the processes below a process.
func descendants(pid int) (list []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(text)) {
			var child int
			fmt.Sscan(f, &child)
			list = append(append(list, child), descendants(child)...)
		}
	}
	return list
}

func alive(pids []int) (list []int) {
	for _, pid := range pids {
		if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(state), ") Z ") {
			list = append(list, pid)
		}
	}
	return list
}

// TestPluginsReload changes what is bound while callers set: none of them fails, and
// a broken file leaves the old one in force.
func TestPluginsReload(t *testing.T) {
	t.Parallel()
	v := binary.Init(t)
	catalog := func(prefix string) string {
		return fmt.Sprintf("integrations:\n  - {key: acme, validators: [{plugin: trial, config: {prefix: %s}}]}\n", prefix)
	}
	p := trial(t)
	s := v.Start(t, v.Configure(t, catalog("good-"), p)...)
	admin := s.Admin()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if a := admin.Put(slotOf("acme"), map[string]any{"value": "good-1"}); a.Status >= 300 {
						t.Errorf("a set got %d: %s", a.Status, a.Body)
						return
					}
				}
			}
		})
	}
	for n := range 5 {
		time.Sleep(200 * time.Millisecond)
		p.Env = map[string]string{"TRIAL": fmt.Sprint(n)}
		v.Configure(t, catalog("go"), p)
		s.Signal(syscall.SIGHUP)
	}
	time.Sleep(500 * time.Millisecond)
	close(stop)
	wg.Wait()
	admin.Put(slotOf("acme"), map[string]any{"value": "go-1"}).Wants(http.StatusOK)
	v.Configure(t, "integrations:\n  - {key: acme, validators: [{plugin: unknown}]}\n", p)
	s.Signal(syscall.SIGHUP)
	waitFor(t, "the refusal of a broken catalog in the log", func() bool { return strings.Contains(s.Log(), "stays in force") })
	admin.Put(slotOf("acme"), map[string]any{"value": "bad"}).Fails(http.StatusBadRequest, "INVALID_CREDENTIALS")
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("%s: not seen within 30s", what)
}

// TestQuarantine has a validator crash in a loop: it is left alone, which the
// sidecar tells, and everything else goes on.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	v := binary.Init(t)
	s := v.Start(t, v.Configure(t, behaviours("  - {key: dying, validators: [{plugin: dies, timeout: 2s}]}\n"),
		trial(t), sidecar.Program{Name: "dies", Path: script(t, "#!/bin/sh\nexit 1\n")})...)
	admin := s.Admin()
	waitFor(t, "quarantine", func() bool {
		admin.Put(slotOf("dying"), map[string]any{"value": "x"}).Fails(http.StatusServiceUnavailable, "VALIDATOR_UNAVAILABLE")
		return strings.Contains(s.Run("", "plugin", "list").Stdout, "quarantined")
	})
	ready := string(admin.Get("/readyz").Wants(http.StatusOK).Body)
	if !strings.Contains(ready, "dies") || !strings.Contains(ready, "degraded") {
		t.Errorf("readyz says %s", ready)
	}
	if m := string(admin.Get("/metrics").Body); !strings.Contains(m, `sidevault_plugin_quarantined{plugin="dies"} 1`) {
		t.Error("the metrics do not tell")
	}
	admin.Put(slotOf("accept"), map[string]any{"value": "x"}).Wants(http.StatusCreated)
}
