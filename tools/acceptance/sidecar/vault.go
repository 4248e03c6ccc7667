package sidecar

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Vault is a vault of a host whose data directory is temporary.
type Vault struct {
	// Dir is the data directory.
	Dir string
	// URL is the storage; "" is a bbolt file in the data directory.
	URL string
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
	if b.storage != nil {
		v.URL = b.storage(t, dir)
	}
	keyFile := filepath.Join(dir, "admin.key")
	line := append([]string{"init"}, v.Args("--admin-key-file", keyFile, "--json")...)
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

// Storage returns the URL of the storage, whatever it is.
func (v *Vault) Storage() string {
	if v.URL == "" {
		return "bbolt://" + v.File("vault.db")
	}
	return v.URL
}

// Args returns the arguments that name the vault to a command, and then those given.
func (v *Vault) Args(more ...string) []string {
	args := []string{"--data-dir", v.Dir}
	if v.URL != "" {
		args = append(args, "--backend", v.URL)
	}
	return append(args, more...)
}

// OtherHost returns the vault as another host of the same storage has it: with a data
// directory of its own, and in it the same identity and trust anchor.
func (v *Vault) OtherHost(t testing.TB) *Vault {
	t.Helper()
	other := *v
	other.Dir = filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(other.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"identity.txt", "vault.pub"} {
		text, err := os.ReadFile(v.File(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(other.File(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &other
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

// Existing returns a vault that another program has made: its data directory, and the
// secret of an API key. Where the program has its vaults in other storage than a file,
// the storage is empty.
func (b *Binary) Existing(t testing.TB, dir, adminKey string) *Vault {
	t.Helper()
	v := &Vault{Dir: dir, AdminKey: adminKey, binary: b}
	if b.storage != nil {
		v.URL = b.storage(t, filepath.Dir(dir))
	}
	return v
}
