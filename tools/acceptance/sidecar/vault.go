package sidecar

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Vault is a vault in a temporary directory.
type Vault struct {
	// Dir is the data directory.
	Dir string
	// AdminKey is the secret of the first API key.
	AdminKey string

	binary *Binary
}

// Environments is the tree that vaults are made with unless told otherwise:
// the default one, with production protected, and a child of development.
const Environments = "development,preview:parent=development,staging,production:protected"

// Init makes a vault with sidevault init. Further arguments go to the command.
func (b *Binary) Init(t testing.TB, args ...string) *Vault {
	t.Helper()
	dir := t.TempDir()
	v := &Vault{Dir: filepath.Join(dir, "data"), binary: b}
	keyFile := filepath.Join(dir, "admin.key")
	line := []string{"init", "--data-dir", v.Dir, "--admin-key-file", keyFile, "--json"}
	if o := b.Run(t, "", nil, withEnvironments(append(line, args...))...); o.Code != 0 {
		t.Fatalf("sidevault init ended with %d: %s", o.Code, o.Stderr)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	v.AdminKey = strings.TrimSpace(string(key))
	return v
}

// File returns the path of a file in the data directory.
func (v *Vault) File(name string) string { return filepath.Join(v.Dir, name) }

// Recipient is the vault's own, by which its records are trusted.
func (v *Vault) Recipient(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(v.File("vault.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && !strings.HasPrefix(line, "#") {
			return f[1]
		}
	}
	t.Fatal("the trust anchor names no recipient")
	return ""
}

func withEnvironments(args []string) []string {
	if slices.Contains(args, "--environments") || slices.Contains(args, "--config") {
		return args
	}
	return append(args, "--environments", Environments)
}
