package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	bolt "go.etcd.io/bbolt"
)

func TestSetGetDelete(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	p.cli(t, "shared\n", "set", "salesforce").wants(t, exitOK, "Set salesforce in all environments: version 1")
	file := writeFile(t, filepath.Join(t.TempDir(), "value"), "prod\r\n", 0o600)
	p.cli(t, "", "set", "salesforce", "-e", "production", "--from-file", file, "--expires", "720h", "--label", "team=a").
		wants(t, exitOK, "in production")
	p.cli(t, "kept\n", "set", "salesforce", "--name", "second", "--keep-newline").wants(t, exitOK, `(name "second")`)
	p.cli(t, "again", "set", "salesforce").wants(t, exitOK, "Rotated", "version 2")

	for value, args := range map[string][]string{
		"again":  {"get", "salesforce", "-e", "staging"},
		"prod":   {"get", "salesforce", "-e", "production", "--field", "value"},
		"kept\n": {"get", "salesforce", "--name", "second"},
		"shared": {"get", "salesforce", "--version", "1"},
	} {
		got := p.cli(t, "", args...)
		if got.wants(t, exitOK); got.out != value {
			t.Errorf("%v prints %q, want %q", args, got.out, value)
		}
	}
	p.cli(t, "", "get", "salesforce", "-e", "staging", "--no-fallback").wants(t, exitNotFound, "list --configured")
	p.cli(t, "", "get", "salesforce", "-e", "prod").wants(t, exitUsage, `did you mean "production"?`)
	p.cli(t, "", "get", "salesforce", "-e", "").wants(t, exitUsage, "environment is empty")
	p.cli(t, "", "status", "salesforce", "-e", "production").wants(t, exitOK, "active", "expires")
	p.cli(t, "", "status", "slack").wants(t, exitOK, "Nothing is set for slack")
	p.cli(t, "", "list", "--configured").wants(t, exitOK, "salesforce", "production, all environments")

	p.cli(t, "", "delete", "salesforce", "-e", "production").wants(t, exitOK, "Deleted salesforce in production")
	p.cli(t, "", "delete", "salesforce", "-e", "production").wants(t, exitConflict, "was deleted on", "--if-exists")
	p.cli(t, "", "delete", "salesforce", "-e", "production", "--if-exists").wants(t, exitOK, "Nothing to delete")
	p.cli(t, "", "delete", "slack").wants(t, exitNotFound)
	p.cli(t, "", "get", "nonsense").wants(t, exitNotFound, "catalog list")
}

func TestSetFields(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	dir := t.TempDir()
	host := writeFile(t, filepath.Join(dir, "host"), "sftp.example.com\n", 0o600)
	user := writeFile(t, filepath.Join(dir, "user"), "me\n", 0o600)
	p.cli(t, "s3cret\n", "set", "sftp", "--field", "host=@"+host, "--field", "username=@"+user, "--field", "password=-").
		wants(t, exitOK, "Set sftp")
	got := p.cli(t, "", "get", "sftp", "--field", "password")
	if got.wants(t, exitOK); got.out != "s3cret" {
		t.Errorf("prints %q", got.out)
	}
	p.cli(t, "", "get", "sftp").wants(t, exitUsage, "host, password, username", "--json")
	p.cli(t, "", "get", "sftp", "--field", "pasword").wants(t, exitNotFound, `did you mean "password"?`)
	got = p.cli(t, "", "get", "sftp", "--json")
	var shown struct{ Fields map[string]string }
	if err := json.Unmarshal([]byte(got.out), &shown); err != nil || shown.Fields["host"] != "sftp.example.com" {
		t.Errorf("JSON: %v\n%s", err, got.out)
	}

	for name, args := range map[string][]string{
		"inline":       {"set", "sftp", "--field", "password=hunter2"},
		"inline, bare": {"set", "sftp", "--field", "hunter2"},
		"as argument":  {"set", "sftp", "hunter2"},
	} {
		got := p.cli(t, "", args...)
		if got.wants(t, exitUsage); strings.Contains(got.out+got.err, "hunter2") {
			t.Errorf("%s: the secret is printed: %s", name, got.err)
		}
	}
	p.cli(t, "x", "set", "sftp", "--field", "host=-", "--field", "username=-").wants(t, exitUsage, "one field only")
	p.cli(t, "", "set", "sftp").wants(t, exitUsage, "the value is empty")
	p.cli(t, "\xff\xfe", "set", "sftp").wants(t, exitUsage, "UTF-8")
	p.cli(t, "x", "set", "sftp", "--field", "nonsense=-").wants(t, exitUsage, "nonsense")
	p.cli(t, strings.Repeat("x", 8193), "set", "slack").wants(t, exitUsage, "8192")
}

func TestKeysAndDenial(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.cli(t, "shared", "set", "salesforce").wants(t, exitOK)
	keyFile := filepath.Join(t.TempDir(), "user.key")
	p.cli(t, "", "key", "create", "--name", "ci", "-e", "development", "--key-file", keyFile).wants(t, exitOK, "Created the API key ci")
	p.cli(t, "", "key", "create", "--name", "ci", "-e", "development", "--key-file", keyFile).wants(t, exitConflict, "exists already")
	p.cli(t, "", "key", "create", "--name", "ci").wants(t, exitUsage, "-e are required")

	user := &process{addr: p.addr, keyFile: keyFile}
	got := user.cli(t, "", "get", "salesforce", "-e", "development")
	if got.wants(t, exitOK); got.out != "shared" {
		t.Errorf("prints %q", got.out)
	}
	user.cli(t, "", "get", "salesforce", "-e", "production").wants(t, exitDenied,
		"environment production", "the grant of ci covers these environments: development", "sidevault key create")
	user.cli(t, "x", "set", "salesforce", "-e", "development").wants(t, exitDenied, "ci has user scope", "--scope admin")

	got = p.cli(t, "", "key", "list", "--json")
	var keys []struct{ ID, Name string }
	if err := json.Unmarshal([]byte(got.out), &keys); err != nil || len(keys) != 2 || strings.Contains(got.out, "svk_") {
		t.Fatalf("keys: %v\n%s", err, got.out)
	}
	p.cli(t, "", "key", "revoke", keys[1].ID).wants(t, exitOK, "Revoked the API key ci")
	user.cli(t, "", "get", "salesforce").wants(t, exitDenied, tokenVariable)
	p.cli(t, "", "key", "revoke", "00000000-0000-0000-0000-000000000000").wants(t, exitNotFound, "key list")
	(&process{addr: p.addr, keyFile: keyFile + "x"}).cli(t, "", "get", "salesforce").wants(t, exitDenied, tokenFileVariable)

	// The way back in, for whoever holds the storage.
	p.signalled(t, syscall.SIGTERM)
	got = sidevault(t, "key", "create", "--name", "back", "--scope", "admin", "-e", "*", "--data-dir", dir)
	got.wants(t, exitOK)
	back := writeFile(t, filepath.Join(t.TempDir(), "back.key"), got.out, 0o600)
	startServe(t, back, "--data-dir", dir).cli(t, "", "key", "list").wants(t, exitOK, "back")
}

func TestAuditCommands(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.cli(t, "one", "set", "salesforce", "-e", "staging").wants(t, exitOK)
	p.cli(t, "two", "set", "slack").wants(t, exitOK)
	p.cli(t, "", "get", "nonsense").wants(t, exitNotFound)
	got := p.cli(t, "", "audit", "list", "--action", "set_integration_credentials", "-e", "staging", "--since", "1h")
	if got.wants(t, exitOK, "salesforce in staging", "cli"); strings.Contains(got.out, "slack") {
		t.Errorf("the filter lets others through:\n%s", got.out)
	}
	p.cli(t, "", "audit", "list", "--outcome", "integration_not_found").wants(t, exitOK, "nonsense")
	got = p.cli(t, "", "audit", "list", "--limit", "1", "--json")
	var entries []struct{ Seq uint64 }
	if err := json.Unmarshal([]byte(got.out), &entries); err != nil || len(entries) != 1 {
		t.Errorf("entries: %v\n%s", err, got.out)
	}
	p.cli(t, "", "audit", "verify").wants(t, exitOK, "intact")
	p.signalled(t, syscall.SIGTERM)
	sidevault(t, "audit", "verify", "--data-dir", dir, "--json").wants(t, exitOK, `"intact": true`)
	breakEntry(t, filepath.Join(dir, vaultFile), 3)
	sidevault(t, "audit", "verify", "--data-dir", dir).wants(t, exitError, "broken at entry 3")
}

// breakEntry changes one byte of an audit entry.
func breakEntry(t *testing.T, path string, seq byte) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		log, key := tx.Bucket([]byte("log")), []byte{0, 0, 0, 0, 0, 0, 0, seq}
		entry := bytes.Clone(log.Get(key))
		entry[len(entry)-3] ^= 1
		return log.Put(key, entry)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestExportRaw(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.cli(t, "recover me", "set", "salesforce", "-e", "production").wants(t, exitOK)
	out := filepath.Join(t.TempDir(), "out")
	sidevault(t, "export", "salesforce", "-e", "production", "--raw", "--data-dir", dir, "--out", out).wants(t, exitError, "in use")
	p.signalled(t, syscall.SIGTERM)
	sidevault(t, "export", "salesforce", "-e", "staging", "--raw", "--data-dir", dir, "--out", out).wants(t, exitNotFound)
	sidevault(t, "export", "salesforce", "-e", "production", "--data-dir", dir, "--out", out).wants(t, exitUsage, "--raw")
	sidevault(t, "export", "salesforce", "--raw", "--data-dir", dir).wants(t, exitUsage, "--out is required")
	sidevault(t, "export", "salesforce", "--raw", "--reveal", "--data-dir", dir).wants(t, exitUsage, "--reveal and --raw")
	got := sidevault(t, "export", "salesforce", "-e", "production", "--raw", "--data-dir", dir, "--out", out)
	got.wants(t, exitOK, "age -d -i "+filepath.Join(dir, identityFile), "age -d -i key.txt")
	sidevault(t, "export", "salesforce", "-e", "production", "--raw", "--data-dir", dir, "--out", out).wants(t, exitError, "new directory")

	key := decrypt(t, filepath.Join(out, keyFile), readFile(t, filepath.Join(dir, identityFile)))
	if record := decrypt(t, filepath.Join(out, recordFile), key); !strings.Contains(record, "recover me") {
		t.Errorf("the record holds %s", record)
	}
	if _, err := exec.LookPath("age"); err != nil {
		t.Log("no age program here: the printed recipe is not run")
		return
	}
	var recipe []string
	for line := range strings.Lines(got.out) {
		if strings.HasPrefix(line, "  ") {
			recipe = append(recipe, strings.TrimSpace(line))
		}
	}
	cmd := exec.Command("sh", "-ec", strings.Join(recipe, "\n"))
	cmd.Dir = t.TempDir()
	if text, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(text), "recover me") {
		t.Errorf("the recipe: %v\n%s", err, text)
	}
}

func decrypt(t *testing.T, path, identity string) string {
	t.Helper()
	ids, err := age.ParseIdentities(strings.NewReader(identity))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := age.Decrypt(f, ids...)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

// Looking at a vault with environments of its own makes no keys for others.
func TestOfflineKeepsEnvironments(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t, "--environments", "east,west")
	sidevault(t, "key", "create", "--name", "k", "-e", "east", "--data-dir", dir).wants(t, exitOK, "svk_")
	sidevault(t, "key", "create", "--name", "k", "-e", "production", "--data-dir", dir).wants(t, exitUsage, "east, west")
	if strings.Contains(readFile(t, filepath.Join(dir, vaultFile)), "keyfile/production") {
		t.Error("a key was made for an environment that the vault does not have")
	}
}

func TestNoSidecar(t *testing.T) {
	t.Parallel()
	run := func(env []string, args ...string) outcome { return invocation{env: env, args: args}.run(t) }
	token := tokenVariable + "=svk_x"
	run([]string{token, addrVariable + "=http://127.0.0.1:1"}, "env", "list").
		wants(t, exitUnavailable, "http://127.0.0.1:1", "sidevault serve", "--dev", "--addr", addrVariable)
	run([]string{token}, "env", "list", "--addr", "unix:///nonexistent/s.sock").wants(t, exitUnavailable, "unix:///nonexistent/s.sock")
	run([]string{token}, "env", "list", "--addr", "http://192.0.2.1:8271").wants(t, exitUsage, "in clear")
	run([]string{token}, "env", "list", "--addr", "127.0.0.1:8271").wants(t, exitUsage, "http://127.0.0.1:8271")
	run(nil, "env", "list").wants(t, exitDenied, tokenVariable)
	run([]string{tokenVariable + "=two words"}, "env", "list").wants(t, exitUsage, "one line")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	sidevault(t).wants(t, exitOK, "Exit codes:", "Available Commands:")
	sidevault(t, "stauts").wants(t, exitUsage, `did you mean "status"?`)
	sidevault(t, "key", "lst").wants(t, exitUsage, `did you mean "list"?`)
	sidevault(t, "get").wants(t, exitUsage, "INTEGRATION is missing")
	sidevault(t, "get", "--nonsense").wants(t, exitUsage, "--nonsense", "--help")
	sidevault(t, "version").wants(t, exitOK, "sidevault ")
	sidevault(t, "version", "--json").wants(t, exitOK, `"version"`)
	sidevault(t, "completion", "bash").wants(t, exitOK, "complete")
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	fillVault(t, p)
	away := &process{addr: "http://127.0.0.1:1", keyFile: p.keyFile}
	var list []struct{ ID, IntegrationID string }
	if err := json.Unmarshal([]byte(p.cli(t, "", "credential", "list", "--integration", "slack", "--json").out), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	for word, args := range map[string][]string{
		"salesforce\tSalesforce": {"get", ""},
		"slack\t":                {"credential", "create", ""},
		"sftp\t":                 {"audit", "list", "--integration", ""},
		"production\n":           {"get", "salesforce", "-e", ""},
		"staging\n":              {"rotate", "environment", "production", ""},
		"development\n":          {"run", "-e", ""},
		"slack:bot-2\n":          {"run", "--credential", ""},
		"bot-2\n":                {"get", "slack", "--name", ""},
		list[0].ID + "\tslack in production (name \"bot-2\")\n": {"credential", "show", ""},
		"\tadmin\n": {"key", "revoke", ""},
		"yaml\n":    {"list", "--output", ""},
	} {
		// A busy machine may need longer than a completion waits.
		eventually(t, fmt.Sprintf("%v completes %q", args, word), func() bool {
			return strings.Contains(p.cli(t, "", append([]string{"__complete"}, args...)...).out, word)
		})
		got := away.cli(t, "", append([]string{"__complete"}, args...)...)
		got.wants(t, exitOK)
		if args[len(args)-2] != "--output" && (!strings.HasPrefix(got.out, ":") || strings.Contains(got.err, "sidevault:")) {
			t.Errorf("%v: completed without a sidecar:\n%s%s", args, got.out, got.err)
		}
	}
	if got := p.cli(t, "", "__complete", "get", "slack", "--name", ""); strings.Contains(got.out, "default") {
		t.Errorf("names of other integrations:\n%s", got.out)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		p.cli(t, "", "completion", shell).wants(t, exitOK, " __complete ")
	}
}

// Every operand and flag that names something of a sidecar is completed.
func TestEverythingCompletes(t *testing.T) {
	n := 0
	eachCommand(newRoot(&shell{}), func(cmd *cobra.Command) {
		if cmd.Flags().Lookup(addrFlag) == nil {
			return
		}
		for _, flag := range []string{environmentFlag, "integration"} {
			if _, done := cmd.GetFlagCompletionFunc(flag); cmd.Flags().Lookup(flag) != nil && !done {
				t.Errorf("%s --%s is not completed", cmd.CommandPath(), flag)
			}
		}
		_, takes, _ := strings.Cut(cmd.Use, " ")
		for _, operand := range []string{"ID", "INTEGRATION", "ENVIRONMENT"} {
			if strings.HasPrefix(strings.TrimPrefix(takes, "["), operand) {
				if n++; cmd.ValidArgsFunction == nil {
					t.Errorf("%s is not completed", cmd.CommandPath())
				}
			}
		}
	})
	if n < 15 {
		t.Errorf("%d commands take an operand", n)
	}
}

// The pages say all that --help says of flags, and the same each time.
func TestManual(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "man1")
	sidevault(t, "man", dir).wants(t, exitOK, dir)
	eachCommand(newRoot(&shell{}), func(cmd *cobra.Command) {
		page := strings.NewReplacer(`\-`, "-", `\`, "").Replace(readFile(t, filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1")))
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(page, "--"+f.Name) {
				t.Errorf("%s --%s is not in its page", cmd.CommandPath(), f.Name)
			}
		})
		for _, word := range strings.Fields(cmd.Long) {
			if word = strings.Trim(word, "`*_"); !strings.Contains(page, word) {
				t.Errorf("%s: %q is not in its page", cmd.CommandPath(), word)
			}
		}
	})
	sidevault(t, "man", "/dev/null/x").wants(t, exitError, "make the directory")
}
