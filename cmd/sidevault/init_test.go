package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sidevault/sidevault/envs"
)

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func TestInit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	got := sidevault(t, "init", "--data-dir", dir, "--admin-email", "admin@example.com")
	got.wants(t, exitOK, "svk_", filepath.Join(dir, identityFile), "Back up the identity", "sidevault serve --data-dir "+dir)
	for name, mode := range map[string]os.FileMode{"": 0o700, identityFile: 0o600, trustFile: 0o600, vaultFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%q has mode %o, want %o", name, info.Mode().Perm(), mode)
		}
	}
	if drafts, _ := filepath.Glob(filepath.Join(dir, draftPattern)); len(drafts) > 0 {
		t.Errorf("left behind: %v", drafts)
	}
	identity := readFile(t, filepath.Join(dir, identityFile))
	if !strings.HasPrefix(identity, "# created: ") || !strings.Contains(identity, "\n# public key: age1") {
		t.Error("the identity file is not as age-keygen writes it")
	}

	before := snapshot(t, dir)
	sidevault(t, "init", "--data-dir", dir).wants(t, exitConflict, "already holds a vault", "nothing was changed")
	if after := snapshot(t, dir); after != before {
		t.Errorf("a second init changed something:\n%s\n%s", before, after)
	}
}

func TestInitJSONAndKeyFile(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	dir, keyFile := filepath.Join(base, "data"), filepath.Join(base, "key")
	got := sidevault(t, "init", "--data-dir", dir, "--admin-key-file", keyFile, "--json")
	got.wants(t, exitOK)
	var r initResult
	if err := json.Unmarshal([]byte(got.out), &r); err != nil {
		t.Fatal(err)
	}
	if r.AdminKey != "" || strings.Contains(got.out, "svk_") {
		t.Error("the key is in the file and on standard output")
	}
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 || !strings.HasPrefix(readFile(t, keyFile), "svk_") {
		t.Errorf("the key file: %v, %v", info, err)
	}
	sidevault(t, "init", "--data-dir", filepath.Join(base, "other"), "--admin-key-file", keyFile).
		wants(t, exitConflict, keyFile+" exists already")
	if exists(filepath.Join(base, "other")) {
		t.Error("a refused init left a directory")
	}
}

func TestInitRefuses(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	loose := filepath.Join(base, "loose")
	if err := os.Mkdir(loose, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "data")
	cases := map[string]struct {
		args []string
		code exitCode
		says string
	}{
		"no parent":       {[]string{"--data-dir", filepath.Join(base, "a", "b")}, exitError, "mkdir -p"},
		"loose directory": {[]string{"--data-dir", loose}, exitError, "chmod 700"},
		"mixed kinds":     {[]string{"--data-dir", dir, "--recovery-recipient", hybrid.Recipient().String()}, exitUsage, "cannot be mixed"},
		"not a recipient": {[]string{"--data-dir", dir, "--recovery-recipient", "age1nothing"}, exitUsage, "character 6"},
		"bad org":         {[]string{"--data-dir", dir, "--org", "No Slug"}, exitUsage, "org"},
		"bad environment": {[]string{"--data-dir", dir, "--environments", "Prod"}, exitUsage, "--environments"},
		"vault elsewhere": {[]string{"--data-dir", dir, "--backend", "bbolt:///elsewhere/vault.db"}, exitUsage, "in the data directory"},
		"no identity":     {[]string{"--data-dir", dir, "--identity", filepath.Join(base, "none")}, exitError, "does not exist"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			sidevault(t, append([]string{"init"}, c.args...)...).wants(t, c.code, c.says)
			if exists(dir) {
				t.Error("it left a directory behind")
				os.RemoveAll(dir)
			}
		})
	}
}

func TestInitRecoveryRecipient(t *testing.T) {
	t.Parallel()
	recovery, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir, keyFile := makeVault(t, "--recovery-recipient", recovery.Recipient().String())
	file := writeFile(t, filepath.Join(t.TempDir(), "recovery.txt"), recovery.String()+"\n", 0o600)
	startServe(t, keyFile, "--data-dir", dir, "--identity", file).cli(t, "", "env", "list").wants(t, exitOK, "production")
}

func newCreation(dir string) creation {
	tree, err := envs.New(envs.Default())
	if err != nil {
		panic(err)
	}
	return creation{dir: dir, storage: fileStorage(filepath.Join(dir, vaultFile)), org: defaultOrg, envs: tree, adminKeyFile: filepath.Join(filepath.Dir(dir), "key")}
}

func TestInterruptedInitLeavesNothing(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := create(ctx, newCreation(filepath.Join(base, "new"))); err == nil {
		t.Fatal("made although interrupted")
	}
	if entries, _ := os.ReadDir(base); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}

	there := filepath.Join(base, "there")
	if err := os.Mkdir(there, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(there, "mine"), "text", 0o600)
	before := snapshot(t, there)
	if _, err := create(ctx, newCreation(there)); err == nil {
		t.Fatal("made although interrupted")
	}
	if after := snapshot(t, there); after != before {
		t.Errorf("left behind:\n%s", after)
	}
}

// A file too large stands for a full disk: both fail in the middle of a write.
func TestInitOnFullDisk(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := invocation{args: []string{"init", "--data-dir", filepath.Join(base, "data"), "--admin-key-file", filepath.Join(base, "key")}}.command(t.Context(), t)
	sh := append([]string{"sh", "-c", `ulimit -f 16; exec "$@"`, "sh", self}, cmd.Args[1:]...)
	cmd.Path, cmd.Args = "/bin/sh", sh
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("made: %s", out)
	}
	if !strings.Contains(string(out), "sidevault: make a vault in") {
		t.Errorf("it says: %s", out)
	}
	if entries, _ := os.ReadDir(base); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// What a killed init has linked is swept up by the next one; the files of others
// are not.
func TestInitAfterKilledInit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	draft := filepath.Join(dir, ".init-1")
	if err := os.MkdirAll(draft, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(draft, identityFile), "half", 0o600)
	if err := os.Link(filepath.Join(draft, identityFile), filepath.Join(dir, identityFile)); err != nil {
		t.Fatal(err)
	}
	sidevault(t, "init", "--data-dir", dir).wants(t, exitOK, "Made the vault")

	other := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(other, identityFile), "precious", 0o600)
	sidevault(t, "init", "--data-dir", other).wants(t, exitConflict, "exists already", "--identity")
	if readFile(t, filepath.Join(other, identityFile)) != "precious" {
		t.Error("a foreign file was changed")
	}
}
