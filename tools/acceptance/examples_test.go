package acceptance

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

const examples = "../../examples"

// TestGoExample runs the example's own test, which holds it to the contract.
func TestGoExample(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"vet", "./..."}, {"test", "-count=1", "./..."}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = filepath.Join(examples, "validator-go")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %v: %v\n%s", args, err, out)
		}
	}
}

func TestPythonExample(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	if exec.CommandContext(t.Context(), python, "-c", "import grpc, google.protobuf, cryptography").Run() != nil {
		t.Skipf("%s lacks grpc, google.protobuf or cryptography: apt-get install python3-grpcio python3-cryptography", python)
	}
	dir := copied(t, "validator-python")
	holdsContract(t, filepath.Join(dir, "main.py"))
	validates(t, filepath.Join(dir, "main.py"))
}

func TestNodeExample(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s", program)
		}
	}
	dir := copied(t, "validator-node")
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	holdsContract(t, filepath.Join(dir, "main.js"))
	validates(t, filepath.Join(dir, "main.js"))
}

// copied copies an example, without what its interpreter has left there, to where
// nobody else can write.
func copied(t *testing.T, example string) string {
	t.Helper()
	from, to := filepath.Join(examples, example), t.TempDir()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, from)
		switch {
		case err != nil:
			return err
		case d.Name() == "node_modules" || d.Name() == "__pycache__":
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), data, 0o700)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// validates runs a validator of the examples in a sidecar, in its sandbox.
func validates(t *testing.T, program string) {
	t.Helper()
	v := binary.Init(t)
	more := []string{"read: [" + filepath.Dir(program) + "]"}
	args := v.Configure(t, "integrations:\n  - {key: acme, validators: [{plugin: acme, config: {prefix: acme_}}]}\n",
		sidecar.Program{Name: "acme", Path: program, More: more})
	admin := v.Start(t, args...).Admin()
	admin.Put(slotOf("acme"), value("wrong_0123456789")).Fails(http.StatusBadRequest, "INVALID_CREDENTIALS")
	admin.Put(slotOf("acme"), value("acme_0123456789")).Wants(http.StatusCreated)
}

// holdsContract holds a program to the contract with the command that authors use.
func holdsContract(t *testing.T, program string) {
	t.Helper()
	files := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	o := binary.Run(t, "", nil, "plugin", "check", program, "--kind", "validator", "--json",
		"--config", write("config.json", `{"prefix": "acme_"}`),
		"--good", write("good.json", `[{"value": "acme_0123456789abcdef"}, {"value": "other_0123456789", "config": {"prefix": "other_"}}]`),
		"--bad", write("bad.json", `[{"value": "0123456789abcdef"}, {"fields": {"key": "acme_0123456789abcdef"}}]`))
	var report struct {
		OK      bool
		Results []struct{ Name, Status, Reason string }
	}
	if err := json.Unmarshal([]byte(o.Stdout), &report); err != nil {
		t.Fatalf("exit code %d, %v\n%s", o.Code, err, o.Stderr)
	}
	for _, r := range report.Results {
		if r.Status != "pass" {
			t.Errorf("%s: %s: %s", r.Name, r.Status, r.Reason)
		}
	}
	if o.Code != 0 || !report.OK || len(report.Results) < 20 {
		t.Errorf("exit code %d with %d results\n%s", o.Code, len(report.Results), o.Stderr)
	}
}
