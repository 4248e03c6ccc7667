// Package sidecar runs the real sidevault program for acceptance tests: it builds
// it once, makes vaults in temporary directories, serves them on free loopback
// ports, talks to them over HTTP and over the command line, kills them, and
// starts them again.
//
//	binary, err := sidecar.Build(nil)            // in TestMain
//	defer binary.Remove()
//
//	s := binary.Serve(t)                         // a new vault, being served
//	answer := s.Admin().Put("/v1/integrations/slack/credentials", map[string]any{"value": "x"})
//	answer.Wants(http.StatusCreated)
//	s.Kill()                                     // as kill -9 does
//	s = s.Vault.Start(t)                         // the same vault again
//
// What can be started is stopped when its test ends, and a process that reports a
// data race fails its test. The package asserts nothing about what the program
// answers; that is the tests' own.
package sidecar

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// product is the module of the program under test.
const product = "github.com/sidevault/sidevault"

// Binary is a built sidevault.
type Binary struct {
	path      string
	dir       string
	transport http.RoundTripper
	storage   Storage // nil: bbolt
	environ   []string
}

// Build builds the program with the race detector. Its clients send their
// requests through transport; nil is the standard one.
func Build(transport http.RoundTripper) (*Binary, error) {
	dir, err := os.MkdirTemp("", "sidevault-binary-")
	if err != nil {
		return nil, err
	}
	b := &Binary{path: filepath.Join(dir, "sidevault"), dir: dir, transport: transport}
	if err := build(b.path, os.Environ(), "-race"); err != nil {
		return nil, errors.Join(fmt.Errorf("build %s: %w", product, err), b.Remove())
	}
	return b, nil
}

// build runs in the product's own module, so that it gets the versions of that.
func build(path string, environ []string, flags ...string) error {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", product).Output()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", path}, flags...), "./cmd/sidevault")...)
	cmd.Dir, cmd.Env = strings.TrimSpace(string(root)), environ
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// Shipped returns the program as it is shipped, without the race detector, for what
// measures it or starts it often. It is built once in a run.
func (b *Binary) Shipped(t testing.TB) *Binary {
	t.Helper()
	builtMu.Lock()
	defer builtMu.Unlock()
	path := filepath.Join(b.dir, "sidevault-shipped")
	if built[product] == "" {
		if err := build(path, append(os.Environ(), "CGO_ENABLED=0"), "-trimpath"); err != nil {
			t.Fatal(err)
		}
		built[product] = path
	}
	return b.At(path)
}

// Remove removes the program.
func (b *Binary) Remove() error { return os.RemoveAll(b.dir) }

// With returns the program with more in the environment of each of its processes.
func (b *Binary) With(environ ...string) *Binary {
	other := *b
	other.environ = slices.Concat(b.environ, environ)
	return &other
}

// Path is where the program is.
func (b *Binary) Path() string { return b.path }

// At returns the program as it is started through another one, at path, that becomes it.
func (b *Binary) At(path string) *Binary {
	other := *b
	other.path = path
	return &other
}

// Outcome is what a command that has ended printed.
type Outcome struct {
	Code           int
	Stdout, Stderr string
}

// Run runs one command line to its end. The command sees input as its standard
// input, and of the environment only what is given, PATH and HOME.
func (b *Binary) Run(t testing.TB, input string, environ []string, args ...string) Outcome {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), b.path, args...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = slices.Concat(environment(t), b.environ, environ)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("run sidevault %s: %v", strings.Join(args, " "), err)
	}
	o := Outcome{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
	failOnRace(t, o.Stderr)
	return o
}

// environment is what every process gets: no setting of the one who runs the
// tests gets in. The race detector must not sleep for a second at each exit.
func environment(t testing.TB) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GORACE=atexit_sleep_ms=0"}
}

func failOnRace(t testing.TB, log string) {
	t.Helper()
	if strings.Contains(log, "WARNING: DATA RACE") {
		t.Errorf("sidevault has a data race:\n%s", log)
	}
}
