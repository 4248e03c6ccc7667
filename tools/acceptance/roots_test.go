package acceptance

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"
	"golang.org/x/crypto/ssh"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// token is a hardware token, so to speak, and the identity file of its plugin.
type token struct {
	*sidecar.Binary // with the plugin's program in the PATH
	file            string
	recipient       string
	key             string // what the token holds; without this file it is unplugged
}

func newToken(t *testing.T) token {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(binary.BuildProgram(t, "./programs/token"), filepath.Join(dir, "age-plugin-token")); err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	k := token{
		Binary:    binary.With("PATH=" + dir + ":" + os.Getenv("PATH")),
		file:      filepath.Join(dir, "identity.txt"),
		recipient: plugin.EncodeRecipient("token", []byte(id.Recipient().String())),
		key:       filepath.Join(dir, "key"),
	}
	writePrivate(t, k.key, id.String())
	writePrivate(t, k.file, "# public key: "+k.recipient+"\n"+plugin.EncodeIdentity("token", []byte(k.key))+"\n")
	return k
}

func writePrivate(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keeps fails the test unless the vault serves, with these arguments, what was set.
func keeps(t *testing.T, v *sidecar.Vault, args ...string) {
	t.Helper()
	s := v.Start(t, args...)
	wantsSecret(t, s.Admin(), resolve("salesforce", "production"), crownJewels, "production")
	s.Stop()
}

// TestPluginRoot makes and serves a vault whose root identity is on a token, and
// changes to another identity and back.
func TestPluginRoot(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	v := k.Init(t, "--identity", k.file)
	s := v.Start(t, "--identity", k.file)
	s.Admin().Put(slot("salesforce", "production"), value(crownJewels)).Wants(http.StatusCreated)
	done(t, s.Run("", "rotate", "environment", "production"))
	s.Stop()
	keeps(t, v, "--identity", k.file)

	unharmed(t, v.Dir, func() {
		refusedWith(t, binary.Run(t, "", nil, v.Args("serve", "--listen", "127.0.0.1:0", "--identity", k.file)...), 1, "age-plugin-token is not in the PATH")
		unplugged := k.key + ".unplugged"
		if err := os.Rename(k.key, unplugged); err != nil {
			t.Fatal(err)
		}
		refusedWith(t, k.Run(t, "", nil, v.Args("serve", "--listen", "127.0.0.1:0", "--identity", k.file)...), 1, "the token is not plugged in")
		if err := os.Rename(unplugged, k.key); err != nil {
			t.Fatal(err)
		}
	})

	file := filepath.Join(t.TempDir(), "new.txt")
	done(t, k.Run(t, "", nil, v.Args("rotate", "root", "--new-identity", file, "--identity", k.file)...))
	refusedWith(t, k.Run(t, "", nil, v.Args("env", "keys", "--identity", k.file)...), 1, "made for another identity")
	keeps(t, v, "--identity", file)

	unharmed(t, v.Dir, func() {
		refusedWith(t, binary.Run(t, "", nil, v.Args("rotate", "root", "--to", k.recipient, "--identity", file)...), 2, "age-plugin-token is not in the PATH")
	})
	done(t, k.Run(t, "", nil, v.Args("rotate", "root", "--to", k.recipient, "--identity", file)...))
	refusedWith(t, k.Run(t, "", nil, v.Args("env", "keys", "--identity", file)...), 1, "made for another identity")
	keeps(t, v, "--identity", k.file)
}

// newSSHKey writes a private key as ssh-keygen does, and returns its path and the line
// of its public key, with a comment.
func newSSHKey(t *testing.T, private any) (path, line string) {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	path = writePrivate(t, filepath.Join(t.TempDir(), "id"), string(pem.EncodeToMemory(block)))
	return path, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " me@example.com"
}

// TestSSHRoots makes a vault for two SSH keys, takes it from one, and gets a credential
// back with the other and the age program.
func TestSSHRoots(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	mine, _ := newSSHKey(t, ed)
	other, otherLine := newSSHKey(t, old)
	v := binary.Init(t, "--identity", mine, "--recipient", otherLine)
	s := v.Start(t, "--identity", mine)
	s.Admin().Put(slot("salesforce", "production"), value(crownJewels)).Wants(http.StatusCreated)
	s.Stop()
	keeps(t, v, "--identity", other)
	follow(t, recipe(t, withExport), map[string]string{"data": v.Dir, "identity": mine, "integration": "salesforce", "environment": "production"}).
		wants(t, "production", 1, map[string]string{"value": crownJewels})
	done(t, offlineCommand(t, v, "env", "unshare", "--all", "--recipient", otherLine, "--identity", mine))
	refusedWith(t, offlineCommand(t, v, "env", "keys", "--identity", other), 1, "made for another identity")
	keeps(t, v, "--identity", mine)
}
