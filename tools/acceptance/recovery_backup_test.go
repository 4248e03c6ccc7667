package acceptance

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

const (
	fromBackup     = "From a backup"
	allOfTheBackup = "Everything in a backup"
)

// backUp takes a backup of the stopped vault.
func (v recoverable) backUp(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "backup.age")
	if o := binary.Run(t, "", nil, "backup", file, "--data-dir", v.Dir); o.Code != 0 {
		t.Fatal(o.Stderr)
	}
	return file
}

func (v recoverable) from(backup, integration, environment, identity string) map[string]string {
	m := v.variables(integration, environment, identity)
	m["backup"] = backup
	return m
}

func TestRecoveryFromABackup(t *testing.T) {
	t.Parallel()
	searchPath(t)
	v := newRecoverable(t)
	backup, host := v.backUp(t), v.File("identity.txt")
	one := recipe(t, fromBackup)
	follow(t, one, v.from(backup, "salesforce", "production", host)).wants(t, "production", 2, v.opaque)
	follow(t, one, v.from(backup, "sftp", "@shared", v.recovery)).wants(t, "", 1, v.fields)
	other := binary.Init(t).File("identity.txt")
	if stdout, _, err := paste(t, one, v.from(backup, "salesforce", "production", other)); err == nil || strings.Contains(stdout, "second line") {
		t.Error("the identity of another vault opens the backup")
	}
}

func TestRecoveryOfAWholeBackup(t *testing.T) {
	t.Parallel()
	searchPath(t)
	v := newRecoverable(t)
	v.wantsWhole(t, recipe(t, allOfTheBackup), v.from(v.backUp(t), "salesforce", "production", v.File("identity.txt")))
}

// wantsWhole fails the test unless a recipe gets back every version of every credential.
func (v recoverable) wantsWhole(t *testing.T, all string, variables map[string]string) {
	t.Helper()
	stdout, stderr, err := paste(t, all+"\ncat credentials.jsonl\n", variables)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	versions := map[string]uint64{}
	for line := range strings.Lines(stdout) {
		var r recovered
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if json.Unmarshal([]byte(line), &r) != nil {
			t.Fatal("a line is no credential")
		}
		versions[r.Place.Integration+" "+r.Place.Environment] += r.Place.Version
	}
	if len(versions) != 3 || versions["salesforce production"] != 1+2 || versions["sftp "] != 1 || versions["salesforce "] != 1 {
		t.Errorf("recovered %v", versions)
	}
}

// What sidevault recover prints is pasted as it is.
func TestRecoverCommand(t *testing.T) {
	t.Parallel()
	searchPath(t)
	v := newRecoverable(t)
	backup := v.backUp(t)
	for _, args := range [][]string{
		{"recover", "salesforce", "-e", "production", "--data-dir", v.Dir},
		{"recover", "salesforce", "-e", "production", "--backup", backup, "--identity", v.recovery},
		{"recover", "salesforce", "-e", "production", "--backup", backup, "--data-dir", v.Dir},
	} {
		o := binary.Run(t, "", nil, args...)
		if o.Code != 0 {
			t.Fatal(o.Stderr)
		}
		follow(t, o.Stdout, nil).wants(t, "production", 2, v.opaque)
	}
	o := binary.Run(t, "", nil, "recover", "sftp", "--data-dir", v.Dir)
	follow(t, o.Stdout, nil).wants(t, "", 1, v.fields)
	o = binary.Run(t, "", nil, "recover", "--backup", backup, "--identity", v.recovery)
	v.wantsWhole(t, o.Stdout, nil)
}
