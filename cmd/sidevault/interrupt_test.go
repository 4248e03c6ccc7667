package main

import (
	"context"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// silent is an address that takes connections and never answers.
func silent(t *testing.T) (address string, asked <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	came := make(chan struct{}, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			came <- struct{}{}
		}
	}()
	return "http://" + l.Addr().String(), came
}

// An interruption while a command waits for the sidecar leaves everything as it was.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"run":              {"run", "--", "touch", "started"},
		"run with files":   {"run", "--files", "--watch", "--", "touch", "started"},
		"template":         {"template", "in", "out", "--exec", "touch started"},
		"template watches": {"template", "--watch", "in", "out"},
		"get":              {"get", "salesforce"},
		"list":             {"list"},
		"import":           {"import", "in", "--format", "env", "-e", "staging"},
		"copy":             {"copy", "salesforce", "--from", "staging", "--to", "development"},
		"rename":           {"rename", "salesforce", "x", "--yes"},
		"diff":             {"diff", "staging", "production"},
		"export":           {"export", "--reveal", "--all", "--out", "new"},
		"backup":           {"backup", "new"},
		"audit verify":     {"audit", "verify"},
		"key create":       {"key", "create", "--name", "k", "-e", "staging", "--key-file", "key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, runtime := t.TempDir(), runtimeDir(t)
			writeFile(t, filepath.Join(dir, "in"), `A={{ credential "salesforce" }}`, 0o600)
			writeFile(t, filepath.Join(dir, "out"), "before", 0o600)
			address, asked := silent(t)
			cmd := invocation{
				env: []string{addrVariable + "=" + address, tokenVariable + "=svk_x", "XDG_RUNTIME_DIR=" + runtime}, args: args, dir: dir,
			}.command(context.Background(), t)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cmd.Process.Kill() })
			select {
			case <-asked:
			case <-time.After(deadline):
				t.Fatal("the sidecar is not asked")
			}
			cmd.Process.Signal(syscall.SIGINT)
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("it succeeded")
				}
			case <-time.After(deadline):
				t.Fatal("it goes on")
			}
			if list := left(t, dir); len(list) != 2 || readFile(t, filepath.Join(dir, "out")) != "before" {
				t.Errorf("%v", list)
			}
			if list := left(t, runtime); len(list) != 0 {
				t.Errorf("%v", list)
			}
		})
	}
}
