package acceptance

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/tools/acceptance/guide"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// recipes is where the document stands, seen from this package.
const recipes = "../../docs/recovery.md"

// recipe returns the sh blocks of a section of docs/recovery.md, after the ones
// that come before every section.
func recipe(t *testing.T, section string) string {
	t.Helper()
	blocks := guide.Under(guide.Read(t, recipes), section)
	if blocks == nil {
		t.Fatalf("%s has no section %q", recipes, section)
	}
	return guide.Text(blocks)
}

// recovered is what the recipes print.
type recovered struct {
	Place struct {
		Integration, Environment, ID string
		Version                      uint64
	}
	Fields map[string]string
}

// searchPath is where the recipes find their programs: the pinned ones, which make
// passes, and the sidevault under test. Without either the test is skipped.
func searchPath(t *testing.T) string {
	t.Helper()
	tools := os.Getenv("SIDEVAULT_TOOLS")
	for _, program := range []string{"age", "bbolt"} {
		_, err := exec.LookPath(filepath.Join(tools, program))
		if err != nil && tools != "" {
			t.Fatal(err)
		}
		if _, elsewhere := exec.LookPath(program); err != nil && elsewhere != nil {
			t.Skipf("there is no %s; make test builds it", program)
		}
	}
	return tools + ":" + filepath.Dir(binary.Path()) + ":" + os.Getenv("PATH")
}

// paste pastes a recipe into a shell, with the variables that stand at its
// beginning set to these, and returns what it printed.
func paste(t *testing.T, recipe string, variables map[string]string) (stdout, stderr string, err error) {
	t.Helper()
	for name, is := range variables {
		assignment := regexp.MustCompile("(?m)^" + name + "=.*$")
		if !assignment.MatchString(recipe) {
			t.Fatalf("the recipe does not set %s", name)
		}
		recipe = assignment.ReplaceAllLiteralString(recipe, name+"='"+is+"'")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-eu")
	cmd.Stdin = strings.NewReader(recipe)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=" + searchPath(t), "GORACE=atexit_sleep_ms=0"}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// follow returns what a recipe recovers.
func follow(t *testing.T, recipe string, variables map[string]string) recovered {
	t.Helper()
	stdout, stderr, err := paste(t, recipe, variables)
	if err != nil {
		t.Fatalf("the recipe ended with %v:\n%s", err, stderr)
	}
	return lastJSON(t, stdout)
}

// lastJSON reads the credential, which is the last line.
func lastJSON(t *testing.T, printed string) (got recovered) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatal("the recipe did not print JSON last")
	}
	return got
}

func (r recovered) wants(t *testing.T, environment string, version uint64, fields map[string]string) {
	t.Helper()
	if r.Place.Environment != environment || r.Place.Version != version || r.Place.ID == "" {
		t.Errorf("recovered the credential of %+v", r.Place)
	}
	if !cmp.Equal(fields, r.Fields) {
		t.Error("the fields are not those that were set")
	}
}

// recoverable is a vault with a recovery recipient, and what is in it.
type recoverable struct {
	*sidecar.Vault
	recovery string // identity file
	opaque   map[string]string
	fields   map[string]string
}

func newRecoverable(t *testing.T) recoverable {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return fillRecoverable(t, identity.String(), "--recovery-recipient", identity.Recipient().String())
}

// newPostQuantum is one whose keys are hybrid throughout.
func newPostQuantum(t *testing.T) recoverable {
	t.Helper()
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return fillRecoverable(t, identity.String(), "--post-quantum", "--recovery-recipient", identity.Recipient().String())
}

func fillRecoverable(t *testing.T, identity string, args ...string) recoverable {
	t.Helper()
	recovery := filepath.Join(t.TempDir(), "recovery.txt")
	if err := os.WriteFile(recovery, []byte(identity+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := recoverable{
		Vault: binary.Init(t, args...), recovery: recovery,
		opaque: map[string]string{"value": "a 'b' \"c\" \\ ü 漢字\nsecond line\n"},
		fields: map[string]string{"host": "sftp.example.com", "username": "u", "password": strings.Repeat("p", 8192)},
	}
	s := v.Start(t)
	s.Admin().Put(slot("salesforce", "production"), value("the value before")).Wants(http.StatusCreated)
	s.Admin().Put(slot("salesforce", "production"), value(v.opaque["value"])).Wants(http.StatusOK)
	s.Admin().Put(slot("sftp", ""), map[string]any{"fields": v.fields}).Wants(http.StatusCreated)
	s.Admin().Put(slot("salesforce", ""), value("of all")).Wants(http.StatusCreated)
	s.Stop()
	return v
}

func (v recoverable) variables(integration, environment, identity string) map[string]string {
	return map[string]string{"data": v.Dir, "identity": identity, "integration": integration, "environment": environment}
}

const (
	withExport = "With sidevault export"
	withBbolt  = "With the bbolt command alone"

	withDeleted = "A credential that was deleted"
)

func TestRecoveryWithStockPrograms(t *testing.T) {
	t.Parallel()
	searchPath(t)
	v := newRecoverable(t)
	host := v.File("identity.txt")
	exported, bare := recipe(t, withExport), recipe(t, withBbolt)
	shared := strings.Replace(exported, `-e "$environment" `, "", 1)

	follow(t, exported, v.variables("salesforce", "production", host)).wants(t, "production", 2, v.opaque)
	follow(t, shared, v.variables("sftp", "@shared", host)).wants(t, "", 1, v.fields)
	follow(t, bare, v.variables("salesforce", "production", host)).wants(t, "production", 2, v.opaque)
	follow(t, bare, v.variables("sftp", "@shared", host)).wants(t, "", 1, v.fields)
	follow(t, bare, v.variables("salesforce", "production", v.recovery)).wants(t, "production", 2, v.opaque)
}

// The stock programs recover a post-quantum vault by the same recipes.
func TestRecoveryAfterQuantumComputers(t *testing.T) {
	t.Parallel()
	searchPath(t)
	v := newPostQuantum(t)
	host, backup := v.File("identity.txt"), v.backUp(t)
	if text, err := os.ReadFile(host); err != nil || !bytes.Contains(text, []byte("AGE-SECRET-KEY-PQ-1")) {
		t.Fatal("the identity is not hybrid", err)
	}
	follow(t, recipe(t, withExport), v.variables("salesforce", "production", host)).wants(t, "production", 2, v.opaque)
	follow(t, recipe(t, withBbolt), v.variables("sftp", "@shared", v.recovery)).wants(t, "", 1, v.fields)
	follow(t, recipe(t, fromBackup), v.from(backup, "salesforce", "production", v.recovery)).wants(t, "production", 2, v.opaque)
	v.wantsWhole(t, recipe(t, allOfTheBackup), v.from(backup, "salesforce", "production", host))
}

func TestRecoveryOfADeletedCredential(t *testing.T) {
	t.Parallel()
	searchPath(t)
	v := newRecoverable(t)
	s := v.Start(t)
	s.Admin().Delete(slot("salesforce", "production")).Wants(http.StatusOK)
	s.Stop()
	deleted := recipe(t, withDeleted)
	follow(t, deleted, v.variables("salesforce", "production", v.File("identity.txt"))).wants(t, "production", 2, v.opaque)
}

// TestRecoveryTakesTheIdentity follows the recipes with another one.
func TestRecoveryTakesTheIdentity(t *testing.T) {
	t.Parallel()
	searchPath(t)
	v := newRecoverable(t)
	other := binary.Init(t).File("identity.txt")
	for _, section := range []string{withExport, withBbolt} {
		stdout, _, err := paste(t, recipe(t, section), v.variables("salesforce", "production", other))
		if err == nil || strings.Contains(stdout, "second line") {
			t.Errorf("%s: the identity of another vault opens it", section)
		}
	}
}
