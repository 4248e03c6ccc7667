package seal_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"filippo.io/age/plugin"
	"golang.org/x/crypto/ssh"

	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// TestMain makes of this program an age plugin when it is started as one, whose
// identities and recipients are names of one and the same key.
func TestMain(m *testing.M) {
	if strings.HasPrefix(filepath.Base(os.Args[0]), "age-plugin-") {
		os.Exit(servePlugin())
	}
	os.Exit(m.Run())
}

func servePlugin() int {
	p, err := plugin.New("test")
	if err != nil {
		return 1
	}
	p.HandleRecipient(func(data []byte) (age.Recipient, error) { return age.ParseX25519Recipient(string(data)) })
	p.HandleIdentity(func(data []byte) (age.Identity, error) {
		if string(data) == "ask" {
			_, err := p.RequestValue("PIN", true)
			return nil, fmt.Errorf("no PIN: %w", err)
		}
		return age.ParseX25519Identity(string(data))
	})
	return p.Main()
}

// installPlugin puts the test's own program into the PATH as age-plugin-test.
func installPlugin(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "age-plugin-test")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestParseRecipientNamesTheCharacter(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []string{newIdentity(t).Recipient().String(), hybrid.Recipient().String()} {
		if _, err := seal.ParseRecipient(r); err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{9, 17, len(r) - 1} {
			other := "q"
			if r[at] == 'q' {
				other = "p"
			}
			_, err := seal.ParseRecipient(r[:at] + other + r[at+1:])
			if want := fmt.Sprintf("character %d,", at+1); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		for typo, want := range map[string]string{
			r[:20] + "b" + r[21:]:          `character 21, 'b', is in no recipient`,
			r[:len(r)-1]:                   fmt.Sprintf("it has %d characters, and one of its kind has %d", len(r)-1, len(r)),
			r + "q":                        fmt.Sprintf("it has %d characters, and one of its kind has %d", len(r)+1, len(r)),
			r[:12]:                         "",
			strings.Replace(r, "1", "", 1): "",
		} {
			if _, err := seal.ParseRecipient(typo); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
}

func TestParseRecipientRefusesAnIdentity(t *testing.T) {
	id := newIdentity(t).String()
	_, err := seal.ParseRecipient(id)
	if err == nil || strings.Contains(err.Error(), id[20:30]) {
		t.Error("an identity was taken for a recipient, or the error quotes it")
	}
}

func TestSSH(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, private := range map[string]crypto.PrivateKey{"ed25519": ed, "rsa": rsaKey} {
		t.Run(name, func(t *testing.T) {
			plain, err := ssh.MarshalPrivateKey(private, "")
			if err != nil {
				t.Fatal(err)
			}
			locked, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("open sesame"))
			if err != nil {
				t.Fatal(err)
			}
			proveIdentity(t, pem.EncodeToMemory(plain), seal.Prompts{})
			proveIdentity(t, pem.EncodeToMemory(locked), passphrase("open sesame"))
			if _, err := seal.ReadIdentities(pem.EncodeToMemory(locked), passphrase("wrong")); !errors.Is(err, seal.ErrPassphrase) {
				t.Error(err)
			}
		})
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ssh.MarshalPrivateKey(ec, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ReadIdentities(pem.EncodeToMemory(other), seal.Prompts{}); err == nil || !strings.Contains(err.Error(), "ed25519 and rsa") {
		t.Error(err)
	}
	for _, broken := range []string{"ssh-ed25519 AAAAC3Nz!C1lZDI1", "ssh-ed25519", "ssh-dss AAAA"} {
		if _, err := seal.ParseRecipient(broken); err == nil {
			t.Errorf("%q was accepted", broken)
		}
	}
}

func passphrase(s string) seal.Prompts {
	return seal.Prompts{Passphrase: func() (secret.Value, error) { return secret.New(s), nil }}
}

// proveIdentity wraps a key for the recipient of an identity file, and opens it
// with the identity.
func proveIdentity(t *testing.T, file []byte, ask seal.Prompts) {
	t.Helper()
	ids, err := seal.ReadIdentities(file, ask)
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := seal.RecipientOf(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.Usable([]string{recipient}); err != nil {
		t.Fatal(err)
	}
	k := newKey(t, seal.X25519)
	wrapped, err := k.WrapFor([]string{recipient})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := seal.Unwrap(wrapped, append(ids, newIdentity(t))...); err != nil || again.Recipient() != k.Recipient() {
		t.Errorf("unwrapped %v, %v", again, err)
	}
	if _, err := seal.Unwrap(wrapped, newIdentity(t)); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("a stranger: %v", err)
	}
}

func TestPassphraseProtectedIdentity(t *testing.T) {
	id := newIdentity(t)
	to, err := age.NewScryptRecipient("open sesame")
	if err != nil {
		t.Fatal(err)
	}
	to.SetWorkFactor(10)
	for _, armored := range []bool{false, true} {
		var file bytes.Buffer
		var out io.Writer = &file
		var a io.WriteCloser
		if armored {
			a = armor.NewWriter(&file)
			out = a
		}
		w, err := age.Encrypt(out, to)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(w, "# a comment\n%s\n", id)
		w.Close()
		if armored {
			a.Close()
		}
		proveIdentity(t, file.Bytes(), passphrase("open sesame"))
		if _, err := seal.ReadIdentities(file.Bytes(), passphrase("wrong")); !errors.Is(err, seal.ErrPassphrase) {
			t.Error(err)
		}
		if _, err := seal.ParseIdentities(file.Bytes()); err == nil {
			t.Error("opened without a passphrase")
		}
	}
}

func TestPlugin(t *testing.T) {
	id := newIdentity(t)
	file := fmt.Sprintf("# public key: %s\n%s\n", plugin.EncodeRecipient("test", []byte(id.Recipient().String())),
		plugin.EncodeIdentity("test", []byte(id.String())))
	installPlugin(t)
	proveIdentity(t, []byte(file), seal.Prompts{})

	k := newKey(t, seal.X25519)
	wrapped, err := k.Wrap(id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	asking, err := seal.ParseIdentities([]byte(plugin.EncodeIdentity("test", []byte("ask"))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Unwrap(wrapped, asking...); !errors.Is(err, seal.ErrPlugin) || !strings.Contains(err.Error(), "no PIN") {
		t.Errorf("a plugin that asks where nobody is: %v", err)
	}
	if _, err := seal.RecipientOf(asking[0]); err == nil {
		t.Error("a recipient for an identity that names none")
	}

	t.Setenv("PATH", t.TempDir())
	ids, err := seal.ParseIdentities([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Unwrap(wrapped, ids...); !errors.Is(err, seal.ErrPlugin) || !strings.Contains(err.Error(), "age-plugin-test is not in the PATH") {
		t.Errorf("a plugin that is missing: %v", err)
	}
	recipient, err := seal.RecipientOf(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.Usable([]string{recipient}); !errors.Is(err, seal.ErrPlugin) {
		t.Errorf("a recipient's plugin that is missing: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, ids); strings.Contains(s, "AGE-PLUGIN-TEST-1") {
			t.Errorf("%s shows the identity", verb)
		}
	}
}

func TestUsable(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	a, pq := newIdentity(t).Recipient().String(), hybrid.Recipient().String()
	for name, c := range map[string]struct {
		list []string
		ok   bool
	}{
		"none":    {nil, false},
		"classic": {[]string{a, newIdentity(t).Recipient().String()}, true},
		"hybrid":  {[]string{pq}, true},
		"mixed":   {[]string{pq, a}, false},
	} {
		if err := seal.Usable(c.list); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
