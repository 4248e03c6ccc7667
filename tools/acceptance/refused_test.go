package acceptance

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// unharmed fails the test if what is done changes a file of a directory.
func unharmed(t *testing.T, dir string, do func()) {
	t.Helper()
	before := contents(t, dir)
	do()
	after := contents(t, dir)
	for path, text := range before {
		if !bytes.Equal(after[path], text) {
			t.Errorf("%s was changed", path)
		}
	}
	for path := range after {
		if _, was := before[path]; !was {
			t.Errorf("%s was made", path)
		}
	}
}

func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files in %s: %v", len(files), dir, err)
	}
	return files
}

// withPassphrase encrypts an identity file as age -p does, but sooner.
func withPassphrase(t *testing.T, path, passphrase string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	to.SetWorkFactor(8)
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return writePrivate(t, filepath.Join(t.TempDir(), "protected.age"), file.String())
}

// withSecret is a vault with a credential, whose sidecar has ended.
func withSecret(t *testing.T) *sidecar.Vault {
	t.Helper()
	s := binary.Serve(t)
	s.Admin().Put(slot("salesforce", "production"), value(crownJewels)).Wants(http.StatusCreated)
	s.Stop()
	return s.Vault
}

// TestUnusableIdentities tries every command that opens a vault with identities that
// do not: one line each, and nothing is changed.
func TestUnusableIdentities(t *testing.T) {
	t.Parallel()
	v := withSecret(t)
	credentials := t.TempDir()
	writePrivate(t, filepath.Join(credentials, "sidevault-passphrase"), "open sesame?\n")
	b := binary.With("CREDENTIALS_DIRECTORY=" + credentials)
	stranger, _ := newIdentity(t)
	protected := withPassphrase(t, v.File("identity.txt"), "open sesame")
	missing := writePrivate(t, filepath.Join(t.TempDir(), "plugin.txt"), plugin.EncodeIdentity("nosuch", []byte("x"))+"\n")
	_, recipient := newIdentity(t)
	for fault, c := range map[string]struct {
		identity string
		code     int
		says     string
	}{
		"wrong passphrase":         {protected, exitDenied, "the passphrase is wrong"},
		"missing plugin program":   {missing, 1, "age-plugin-nosuch is not in the PATH"},
		"of another vault":         {stranger, 1, "no root identity given opens this vault: it was made for another identity"},
		"lost":                     {v.File("lost.txt"), 1, "lost.txt does not exist"},
		"a file of something else": {v.File("vault.pub"), 1, "vault.pub: line 2 is not an age identity"},
	} {
		for _, args := range [][]string{
			{"serve", "--listen", "127.0.0.1:0"},
			{"env", "keys"},
			{"env", "share", "staging", "--recipient", recipient},
			{"env", "unshare", "staging", "--recipient", recipient},
			{"env", "lock", "staging"},
			{"rotate", "root", "--to", recipient},
			{"rotate", "root", "--new-identity", v.File("never.txt")},
			{"rotate", "environment", "staging", "--offline"},
		} {
			unharmed(t, v.Dir, func() {
				refusedWith(t, b.Run(t, "", nil, v.Args(append(args, "--identity", c.identity)...)...), c.code, c.says)
			})
			if t.Failed() {
				t.Fatalf("%s: sidevault %s", fault, strings.Join(args, " "))
			}
		}
	}
	right := binary.With("SIDEVAULT_IDENTITY="+protected, "CREDENTIALS_DIRECTORY="+filepath.Dir(writePrivate(t, filepath.Join(t.TempDir(), "sidevault-passphrase"), "open sesame\n")))
	done(t, right.Run(t, "", nil, v.Args("env", "keys")...))
	keeps(t, v)
}

// TestMistypedRecipients gives recipients with one wrong character to every command
// that takes them.
func TestMistypedRecipients(t *testing.T) {
	t.Parallel()
	v := withSecret(t)
	_, recipient := newIdentity(t)
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "made")
	for _, right := range []string{recipient, hybrid.Recipient().String()} {
		const at = 30
		typo := right[:at] + map[bool]string{true: "p", false: "q"}[right[at] == 'q'] + right[at+1:]
		for _, args := range [][]string{
			v.Args("env", "share", "staging", "--recipient", typo),
			v.Args("env", "unshare", "staging", "--recipient", typo),
			v.Args("rotate", "root", "--to", typo),
			v.Args("rotate", "root", "--to", recipient, "--from", typo),
			{"init", "--data-dir", elsewhere, "--recipient", typo},
		} {
			unharmed(t, v.Dir, func() {
				refusedWith(t, binary.Run(t, "", nil, args...), 2, fmt.Sprintf("character %d,", at+1))
			})
			if t.Failed() {
				t.Fatalf("sidevault %s", strings.Join(args, " "))
			}
		}
	}
	if _, err := os.Stat(elsewhere); err == nil {
		t.Error("a vault was made")
	}
}
