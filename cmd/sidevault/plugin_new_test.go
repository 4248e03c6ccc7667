package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// goCommand runs the go command in a module that plugin new has written.
func goCommand(t *testing.T, dir string, args ...string) {
	t.Helper()
	if out, err := tryGo(t, dir, args...); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func tryGo(t *testing.T, dir string, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false", "GOWORK=off")
	return cmd.CombinedOutput()
}

// A new plugin builds, passes its own test, and passes sidevault plugin check, whose
// lines are what the configuration reads.
func TestPluginNew(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds two modules")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"validator", "syncer"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "a new plugin")
			sidevault(t, "plugin", "new", kind, "acme", "--dir", dir, "--module", "example.com/team/acme", "--replace", root).
				wants(t, exitOK, "Wrote a "+kind, "go mod tidy", "plugin check ./sidevault-"+kind+"-acme")
			// What go mod tidy would look up.
			writeFile(t, filepath.Join(dir, "go.sum"), readFile(t, filepath.Join(root, "go.sum")), 0o644)
			program := filepath.Join(dir, "sidevault-"+kind+"-acme")
			goCommand(t, dir, "build", "-o", program, ".")
			goCommand(t, dir, "vet", "./...")
			goCommand(t, dir, "test", "./...")
			checkProgram(t, dir, program)
			breakPlugin(t, dir)
		})
	}
}

func checkProgram(t *testing.T, dir, program string) {
	t.Helper()
	sum, err := fileSum(program)
	if err != nil {
		t.Fatal(err)
	}
	got := sidevault(t, "plugin", "check", program)
	got.wants(t, exitOK, "pass     handshake", "0 failed", "sha256: \""+sum+`"`, "acme 0.1.0")
	_, yaml, ok := strings.Cut(got.out, "For sidevault.yaml:\n\n")
	if !ok {
		t.Fatalf("no lines for sidevault.yaml:\n%s", got.out)
	}
	file := writeFile(t, filepath.Join(dir, "sidevault.yaml"), yaml, 0o644)
	c, err := load(t, nil, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Programs) != 1 || c.Programs[0].Name != "acme" || c.Programs[0].Path != program || c.Programs[0].SHA256 != sum {
		t.Errorf("the configuration reads %+v from\n%s", c.Programs, yaml)
	}
}

// breakPlugin makes the plugin wrong, which its test must notice.
func breakPlugin(t *testing.T, dir string) {
	t.Helper()
	source := filepath.Join(dir, "main.go")
	text := strings.NewReplacer("!strings.HasPrefix(", "strings.HasPrefix(", "r.Value().Len() == 0", "r.Value().Len() > 0").Replace(readFile(t, source))
	writeFile(t, source, text, 0o644)
	out, err := tryGo(t, dir, "test", "./...")
	if err == nil || !strings.Contains(string(out), "--- FAIL: TestContract/good_credentials") || !strings.Contains(string(out), "what to do: ") {
		t.Errorf("the test of a wrong plugin: %v\n%s", err, out)
	}
}

func TestPluginNewRefuses(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	full := t.TempDir()
	writeFile(t, filepath.Join(full, "main.go"), "package main", 0o644)
	sidevault(t, "plugin", "new", "validator", "acme", "--dir", full, "--replace", root).wants(t, exitError, "not empty", "--dir")
	if readFile(t, filepath.Join(full, "main.go")) != "package main" {
		t.Error("a file was changed")
	}
	dir := filepath.Join(t.TempDir(), "new")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"development build", []string{"validator", "acme"}},
		{"neither validator nor syncer", []string{"oracle", "acme", "--replace", root}},
		{"not a name", []string{"validator", "Acme", "--replace", root}},
		{"not the path of a Go module", []string{"validator", "acme", "--replace", root, "--module", "a b"}},
		{"no checkout", []string{"validator", "acme", "--replace", full}},
		{"NAME is missing", []string{"validator"}},
	} {
		sidevault(t, append([]string{"plugin", "new", "--dir", dir}, c.args...)...).wants(t, exitUsage, c.want)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused command made a directory")
	}
}

func TestReleased(t *testing.T) {
	for version, want := range map[string]bool{
		"v1.2.3": true, "v0.1.0-rc.1": true, "devel": false, "": false, "v1.2.3+dirty": false,
		"v0.0.0-20261121145910-31341f4abcde": false, "v1.2.4-0.20261121145910-31341f4abcde": false,
	} {
		if released(version) != want {
			t.Errorf("%s: released %v", version, !want)
		}
	}
}
