package scaffold_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/plugins/scaffold"
)

func module(kind string) scaffold.Module {
	return scaffold.Module{Kind: kind, Name: "acme", Version: "v1.2.3"}
}

func TestWrite(t *testing.T) {
	for _, kind := range scaffold.Kinds() {
		dir := filepath.Join(t.TempDir(), "new", "module")
		names, err := module(kind).Write(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(names, " "), ".gitignore Makefile README.md go.mod main.go main_test.go"; got != want {
			t.Errorf("%s: %s, not %s", kind, got, want)
		}
		for _, name := range names {
			text := read(t, filepath.Join(dir, name))
			if strings.Contains(text, "{{") || strings.Contains(text, "<no value>") {
				t.Errorf("%s/%s has an open place:\n%s", kind, name, text)
			}
		}
		if mod := read(t, filepath.Join(dir, "go.mod")); !strings.Contains(mod, "module sidevault-"+kind+"-acme\n") ||
			!strings.Contains(mod, "sidevault v1.2.3\n") || strings.Contains(mod, "replace") {
			t.Errorf("go.mod:\n%s", mod)
		}
		if out, err := exec.Command("gofmt", "-l", dir).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("gofmt: %v: %s", err, out)
		}
		if _, err := module(kind).Write(dir); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("written twice: %v", err)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*scaffold.Module){
		"kind":      func(m *scaffold.Module) { m.Kind = "oracle" },
		"no name":   func(m *scaffold.Module) { m.Name = "" },
		"upper":     func(m *scaffold.Module) { m.Name = "Acme" },
		"path":      func(m *scaffold.Module) { m.Name = "../acme" },
		"module":    func(m *scaffold.Module) { m.Path = "example.com/a b" },
		"injection": func(m *scaffold.Module) { m.Path = "a\nreplace x => y" },
		"version":   func(m *scaffold.Module) { m.Version = "" },
	} {
		m := module("validator")
		change(&m)
		dir := filepath.Join(t.TempDir(), "d")
		if _, err := m.Write(dir); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: the folder is made", name)
		}
	}
	m := module("validator")
	m.Path = "example.com/team/acme"
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
