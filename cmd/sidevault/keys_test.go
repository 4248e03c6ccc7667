package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/vault/secret"
)

// writeIdentityFile makes an identity file, and returns its path and its recipient.
func writeIdentityFile(t *testing.T) (path, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "other.txt")
	writeFile(t, path, id.String()+"\n", 0o600)
	return path, id.Recipient().String()
}

func TestEnvShare(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t)
	other, recipient := writeIdentityFile(t)
	keys := func(identity string) string {
		got := sidevault(t, "env", "keys", "--data-dir", dir, "--identity", identity, "--json")
		got.wants(t, exitOK)
		return got.out
	}
	own := filepath.Join(dir, identityFile)
	before := keys(own)

	typo := recipient[:15] + map[bool]string{true: "p", false: "q"}[recipient[15] == 'q'] + recipient[16:]
	sidevault(t, "env", "share", "staging", "--recipient", typo, "--data-dir", dir).wants(t, exitUsage, "character 16,", "nothing was changed")
	sidevault(t, "env", "share", "stagin", "--recipient", recipient, "--data-dir", dir).wants(t, exitUsage, `did you mean "staging"`)
	sidevault(t, "env", "lock", "production", "--data-dir", dir).wants(t, exitUsage, "Nobody would be left")
	sidevault(t, "env", "share", "staging", "--recipient", recipient, "--data-dir", dir, "--identity", other).wants(t, exitError, "made for another identity")
	if keys(own) != before {
		t.Fatal("a refused command changed who can open keys")
	}

	sidevault(t, "env", "share", "staging", "@shared", "--recipient", recipient, "--data-dir", dir).wants(t, exitOK, recipient, "@control")
	var held []string
	for _, h := range holdersOf(t, keys(other)) {
		if h.KeyHeld {
			held = append(held, h.Name)
		}
	}
	if got := strings.Join(held, " "); got != "@shared staging @control" {
		t.Errorf("the other host holds %s", got)
	}
	sidevault(t, "env", "lock", "staging", "--data-dir", dir).wants(t, exitOK, "warning")
	for _, h := range holdersOf(t, keys(own)) {
		if h.KeyHeld != (h.Name != "staging") {
			t.Errorf("after the lock: %s is held: %v", h.Name, h.KeyHeld)
		}
	}
	sidevault(t, "env", "unshare", "@shared", "--recipient", recipient, "--data-dir", dir).wants(t, exitOK, "sidevault rotate environment @shared")
}

func holdersOf(t *testing.T, out string) (list []holdersResult) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 5 {
		t.Fatalf("%d keys, %v", len(list), err)
	}
	return list
}

// protect encrypts an identity file with a passphrase.
func protect(t *testing.T, path, passphrase string) {
	t.Helper()
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	to.SetWorkFactor(10)
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, readFile(t, path))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, file.String(), 0o600)
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t)
	protect(t, filepath.Join(dir, identityFile), "open sesame")
	args := []string{"env", "keys", "--data-dir", dir}
	sidevault(t, args...).wants(t, exitError, "protected by a passphrase", "--passphrase-fd")

	credentials := t.TempDir()
	writeFile(t, filepath.Join(credentials, passphraseCredential), "open sesame\n", 0o400)
	invocation{args: args, env: []string{credentialsVariable + "=" + credentials}}.run(t).wants(t, exitOK, "production")

	for passphrase, want := range map[string]exitCode{"wrong": exitDenied, "open sesame": exitOK} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(w, passphrase)
		w.Close()
		cmd := invocation{args: append(args, "--passphrase-fd", "3")}.command(t.Context(), t)
		cmd.ExtraFiles = []*os.File{r}
		out, _ := cmd.CombinedOutput()
		r.Close()
		if got := exitCode(cmd.ProcessState.ExitCode()); got != want || want != exitOK && !strings.Contains(string(out), "the passphrase is wrong") {
			t.Errorf("%q: exit code %d, want %d: %s", passphrase, got, want, out)
		}
	}
}

// A sidecar is served with the passphrase that systemd hands over, and asks for none.
func TestServeWithPassphrase(t *testing.T) {
	t.Parallel()
	dir, keyFile := makeVault(t)
	protect(t, filepath.Join(dir, identityFile), "open sesame")
	passphrase := writeFile(t, filepath.Join(t.TempDir(), passphraseCredential), "open sesame\n", 0o400)
	s := startServeWith(t, keyFile, []string{credentialsVariable + "=" + filepath.Dir(passphrase)}, "--data-dir", dir)
	s.cli(t, "s3cret", "set", "salesforce", "-e", "production").wants(t, exitOK)
	s.cli(t, "", "get", "salesforce", "-e", "production").wants(t, exitOK, "s3cret")
	s.cli(t, "", "rotate", "environment", "production").wants(t, exitOK)
}

func TestMissingPlugin(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t)
	path := filepath.Join(t.TempDir(), "plugin.txt")
	writeFile(t, path, plugin.EncodeIdentity("nosuch", []byte("x"))+"\n", 0o600)
	sidevault(t, "env", "keys", "--data-dir", dir, "--identity", path).wants(t, exitError, "age-plugin-nosuch is not in the PATH", "hint")
	// One of several that opens it is enough.
	sidevault(t, "env", "keys", "--data-dir", dir, "--identity", path, "--identity", filepath.Join(dir, identityFile)).wants(t, exitOK, "production")
}

func TestInitPostQuantum(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	_, classic := writeIdentityFile(t)
	sidevault(t, "init", "--data-dir", dir, "--post-quantum", "--recipient", classic).wants(t, exitUsage, "cannot be mixed")
	sidevault(t, "init", "--data-dir", dir, "--post-quantum").wants(t, exitOK, "svk_")
	var list []holdersResult
	got := sidevault(t, "env", "keys", "--data-dir", dir, "--json")
	if err := json.Unmarshal([]byte(got.out), &list); err != nil {
		t.Fatal(err)
	}
	for _, h := range list {
		if !h.KeyHeld || !strings.HasPrefix(h.Recipients[0], "age1pq1") {
			t.Errorf("%s is for %s", h.Name, h.Recipients)
		}
	}
	if !strings.Contains(readFile(t, filepath.Join(dir, trustFile)), " age1pq1") {
		t.Error("the control key is not a hybrid one")
	}
}

// The stock age command opens what a rotation sealed anew, with hybrid keys as well.
func TestStockAgeAfterRotation(t *testing.T) {
	t.Parallel()
	tool, err := filepath.Abs("../../.tools/age")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tool); err != nil {
		t.Fatal("make tools puts the age command there: ", err)
	}
	for name, flags := range map[string][]string{"x25519": nil, "post-quantum": {"--post-quantum"}} {
		t.Run(name, func(t *testing.T) {
			dir, admin := makeVault(t, flags...)
			s := startServe(t, admin, "--data-dir", dir)
			s.cli(t, "s3cret", "set", "salesforce", "-e", "production").wants(t, exitOK)
			if code := s.signalled(t, syscall.SIGTERM); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			sidevault(t, "rotate", "environment", "production", "--offline", "--data-dir", dir).wants(t, exitOK, "Rotated production")
			out := filepath.Join(t.TempDir(), "out")
			sidevault(t, "export", "salesforce", "-e", "production", "--raw", "--out", out, "--data-dir", dir).wants(t, exitOK)
			key, err := exec.Command(tool, "-d", "-i", filepath.Join(dir, identityFile), filepath.Join(out, keyFile)).Output()
			if err != nil {
				t.Fatal(err)
			}
			open := exec.Command(tool, "-d", "-i", "-", filepath.Join(out, recordFile))
			open.Stdin = bytes.NewReader(key)
			plain, err := open.Output()
			if err != nil || !bytes.Contains(plain, []byte(`"value":"s3cret"`)) {
				t.Errorf("the age command does not open the record: %v", err)
			}
		})
	}
}

func (p *process) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Address: p.addr, Token: secret.New(strings.TrimSpace(readFile(t, p.keyFile)))})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// numbered is the slot of the credential with that number.
func numbered(environment string, i int) client.Slot {
	return client.Slot{Integration: "salesforce", Environment: &environment, Name: fmt.Sprintf("n%d", i)}
}

// fill makes so many credentials in an environment, sooner than as many commands do.
func (p *process) fill(t *testing.T, environment string, credentials int) {
	t.Helper()
	const writers = 8
	c := p.client(t)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < credentials; i += writers {
				v := secret.New(fmt.Sprintf("value %d", i))
				if _, err := c.Set(t.Context(), numbered(environment, i), client.SetInput{Value: &v}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// holds fails the test unless all of them are there as they were made.
func (p *process) holds(t *testing.T, environment string, credentials int) {
	t.Helper()
	c := p.client(t)
	for i := range credentials {
		got, err := c.Resolve(t.Context(), numbered(environment, i), client.ResolveOptions{})
		if err != nil || !got.Data.Value.Equal(secret.New(fmt.Sprintf("value %d", i))) {
			t.Fatalf("credential %d did not survive: %v", i, err)
		}
	}
}

// A sidecar is killed in the middle of a rotation, several times, and goes on with it.
func TestRotationKilled(t *testing.T) {
	t.Parallel()
	const credentials, kills = 300, 5
	dir, keyFile := makeVault(t)
	s := startServe(t, keyFile, "--data-dir", dir)
	environment := "production"
	s.fill(t, environment, credentials)
	c := s.client(t)
	interrupted := 0
	for range kills {
		_, err := c.StartRotation(t.Context(), &environment)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
		if got, err := c.Rotation(t.Context(), &environment); err == nil && got.Data.Running {
			interrupted++
		}
		s.kill()
		s = startServe(t, keyFile, "--data-dir", dir)
		c = s.client(t)
	}
	eventually(t, "the rotation ends", func() bool {
		got, err := c.Rotation(t.Context(), &environment)
		return err == nil && !got.Data.Running
	})
	if interrupted == 0 {
		t.Error("no rotation was under way when its sidecar was killed")
	}
	s.holds(t, environment, credentials)
}
