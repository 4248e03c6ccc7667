package vault_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/vault"
)

// rewrite replaces what storage holds, as someone who can write it would.
func (f *fixture) rewrite(key string, value []byte) {
	f.t.Helper()
	r, err := f.backend.Get(f.t.Context(), key)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.backend.Commit(f.t.Context(), backends.Batch{Changes: []backends.Change{backends.Put(key, r.Revision, value)}}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) stored(prefix string) []backends.Record {
	f.t.Helper()
	list, err := f.backend.List(f.t.Context(), prefix, "", backends.MaxPage)
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

func (f *fixture) wantIntegrityError(slot vault.Slot) {
	f.t.Helper()
	got, err := f.Resolve(f.t.Context(), f.admin, slot, vault.ResolveOptions{NoFallback: true})
	wantKind(f.t, err, vault.Integrity)
	if len(got.Secret.Reveal()) != 0 {
		f.t.Error("fields came back with the error")
	}
	last := f.audit(vault.ActionRead)[0]
	if last.Outcome != "integrity_error" {
		f.t.Errorf("the audit log says %q", last.Outcome)
	}
}

func TestTamperedRecords(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "", "shared")
	f.set("salesforce", "production", "one")
	f.set("sftp", "production", "two")
	org := f.init.Org.ID
	record := func(integration, environment string) backends.Record {
		s, err := f.Status(t.Context(), f.admin, f.slot(integration, environment))
		if err != nil {
			t.Fatal(err)
		}
		return f.stored("record/" + org + "/" + string(s.Credential.ID) + "/")[0]
	}
	one, two := record("salesforce", "production"), record("sftp", "production")

	t.Run("swapped within an environment", func(t *testing.T) {
		f.rewrite(one.Key, two.Value)
		f.wantIntegrityError(f.slot("salesforce", "production"))
		f.rewrite(one.Key, one.Value)
	})
	t.Run("swapped across environments", func(t *testing.T) {
		f.rewrite(one.Key, record("salesforce", "").Value)
		f.wantIntegrityError(f.slot("salesforce", "production"))
		f.rewrite(one.Key, one.Value)
	})
	t.Run("one bit", func(t *testing.T) {
		altered := bytes.Clone(one.Value)
		altered[len(altered)-1] ^= 1
		f.rewrite(one.Key, altered)
		f.wantIntegrityError(f.slot("salesforce", "production"))
		f.rewrite(one.Key, one.Value)
	})
	t.Run("planted", func(t *testing.T) {
		// The recipient is public: anyone can encrypt to it.
		infos := f.stored("keyinfo/production/")
		_, after, _ := strings.Cut(string(infos[0].Value), `"recipient":"`)
		public, _, _ := strings.Cut(after, `"`)
		to, err := age.ParseX25519Recipient(public)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := f.Status(t.Context(), f.admin, f.slot("salesforce", "production"))
		var file bytes.Buffer
		w, _ := age.Encrypt(&file, to)
		w.Write([]byte(`{"place":{"org":"` + org + `","integration":"salesforce","environment":"production","name":"default","id":"` +
			string(s.Credential.ID) + `","version":1},"fields":{"value":"planted"},"mac":"AAAA"}`))
		w.Close()
		f.rewrite(one.Key, file.Bytes())
		f.wantIntegrityError(f.slot("salesforce", "production"))
		f.rewrite(one.Key, one.Value)
	})
	t.Run("garbage", func(t *testing.T) {
		f.rewrite(one.Key, []byte("garbage"))
		f.wantIntegrityError(f.slot("salesforce", "production"))
		f.rewrite(one.Key, one.Value)
	})
	t.Run("restored", func(t *testing.T) {
		if _, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", "production"), vault.ResolveOptions{}); err != nil {
			t.Error(err)
		}
	})
}

func TestTamperedDocuments(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "production", "one")
	live := f.stored("live/")[0]
	f.rewrite(live.Key, bytes.Replace(live.Value, []byte(`"active"`), []byte(`"activE"`), 1))
	f.wantIntegrityError(f.slot("salesforce", "production"))
	f.rewrite(live.Key, live.Value)

	// An API key whose grant somebody widened is worth nothing.
	k, err := f.CreateKey(t.Context(), f.admin, vault.KeyInput{Name: "small", Environments: []string{"staging"}, Integrations: []string{"sftp"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range f.stored("apikey/") {
		f.rewrite(r.Key, bytes.Replace(r.Value, []byte(`["staging"]`), []byte(`["*"]`), 1))
	}
	_, err = f.Authenticate(t.Context(), k.Secret)
	wantKind(t, err, vault.Integrity)

	// Neither is another key's document under a hash of the attacker's choice.
	admin := f.stored("apikey/")[0]
	planted := "apikey/" + strings.Repeat("0", 64)
	if _, err := f.backend.Commit(t.Context(), backends.Batch{Changes: []backends.Change{backends.Put(planted, 0, admin.Value)}}); err != nil {
		t.Fatal(err)
	}
	_, err = f.Keys(t.Context(), f.admin)
	wantKind(t, err, vault.Integrity)
}

func TestOpenRefuses(t *testing.T) {
	f := newFixture(t, vault.Options{})
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	open := func(change func(*vault.Config)) error {
		cfg := f.config
		change(&cfg)
		v, err := vault.Open(t.Context(), cfg)
		if err == nil {
			v.Close(context.Background())
		}
		return err
	}
	for name, c := range map[string]struct {
		change func(*vault.Config)
		want   error
	}{
		"an empty backend":   {func(c *vault.Config) { c.Backend = memory.New() }, vault.ErrNotVault},
		"another identity":   {func(c *vault.Config) { c.Identities = []age.Identity{other} }, vault.ErrWrongRoot},
		"another vault":      {func(c *vault.Config) { c.Trusted = "age1other" }, vault.ErrUntrusted},
		"everything correct": {func(*vault.Config) {}, nil},
	} {
		if err := open(c.change); !errorIs(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	header := f.stored("vault")[0]
	f.rewrite("vault", bytes.Replace(header.Value, []byte(`"format":1`), []byte(`"format":2`), 1))
	if err := open(func(*vault.Config) {}); !errorIs(err, vault.ErrNewerFormat) {
		t.Errorf("a newer format: %v", err)
	}
	f.rewrite("vault", header.Value)

	// A key file that was replaced by one for the same root would have new
	// secrets sealed to whoever made it.
	files := f.stored("keyfile/production/")
	f.rewrite(files[0].Key, f.stored("keyfile/staging/")[0].Value)
	if err := open(func(*vault.Config) {}); err == nil || !strings.Contains(err.Error(), "production was replaced") {
		t.Errorf("a replaced key: %v", err)
	}
}

func TestLockedEnvironment(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "production", "one")
	f.set("salesforce", "", "shared")
	// A host whose identity does not open production's key.
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, _ := age.Encrypt(&file, stranger.Recipient())
	w.Write([]byte("AGE-SECRET-KEY-1"))
	w.Close()
	f.rewrite("keyfile/production/0001", file.Bytes())
	g := *f
	g.Vault = f.open()

	_, err = g.Resolve(t.Context(), f.admin, f.slot("salesforce", "production"), vault.ResolveOptions{})
	wantKind(t, err, vault.EnvironmentLocked)
	_, err = g.Set(t.Context(), f.admin, f.slot("salesforce", "production"), opaque("x"))
	wantKind(t, err, vault.EnvironmentLocked)
	if _, err := g.Resolve(t.Context(), f.admin, f.slot("salesforce", "staging"), vault.ResolveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := g.Remove(t.Context(), f.admin, f.slot("salesforce", "production"), vault.RemoveOptions{}); err != nil {
		t.Error(err)
	}
	for _, e := range g.Environments(t.Context(), f.admin) {
		if e.KeyHeld != (e.Name != "production") {
			t.Errorf("%s: key held %v", e.Name, e.KeyHeld)
		}
	}
}
