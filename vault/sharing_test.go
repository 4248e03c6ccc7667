package vault_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
)

func newRoot(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// host opens the fixture's vault with another identity, as another host does.
func (f *fixture) host(ids ...age.Identity) (*vault.Vault, error) {
	c := f.config
	c.Identities = ids
	v, err := vault.Open(f.t.Context(), c)
	if err == nil {
		f.t.Cleanup(func() { v.Close(f.t.Context()) })
	}
	return v, err
}

var elsewhere = []envs.Scope{"development", "staging", "preview", envs.Shared}

func TestHostWithoutProductionsKey(t *testing.T) {
	f := newFixture(t, vault.Options{Follow: true})
	second := newRoot(t)
	if _, err := f.host(second); !errors.Is(err, vault.ErrWrongRoot) {
		t.Fatalf("before anything is shared: %v", err)
	}
	f.set("salesforce", "production", "the crown jewels")
	f.set("salesforce", "staging", "glass beads")
	if err := f.Share(t.Context(), elsewhere, []string{second.Recipient().String()}); err != nil {
		t.Fatal(err)
	}
	v, err := f.host(second)
	if err != nil {
		t.Fatal(err)
	}
	f.wantLocked(v, "production")
	f.wantRead(v, "staging", "glass beads")
	f.wantNothingToRead(second)

	if err := f.Share(t.Context(), []envs.Scope{"production"}, []string{second.Recipient().String()}); err != nil {
		t.Fatal(err)
	}
	f.eventually(v, "production", true)
	f.wantRead(v, "production", "the crown jewels")
	if err := f.Unshare(t.Context(), []envs.Scope{"production"}, []string{second.Recipient().String()}); err != nil {
		t.Fatal(err)
	}
	f.eventually(v, "production", false)
	f.wantLocked(v, "production")
	if list := f.audit(vault.ActionShareEnvironment); len(list) != 2 {
		t.Errorf("%d entries of sharing, want 2", len(list))
	}
	if list := f.audit(vault.ActionUnshare); len(list) != 1 {
		t.Errorf("%d entries of unsharing, want 1", len(list))
	}
}

// wantLocked tries a host in an environment whose key it lacks: values are out of its
// reach, and everything else works.
func (f *fixture) wantLocked(v *vault.Vault, environment string) {
	f.t.Helper()
	ctx, slot := f.t.Context(), f.slot("salesforce", environment)
	_, err := v.Resolve(ctx, f.admin, slot, vault.ResolveOptions{})
	wantKind(f.t, err, vault.EnvironmentLocked)
	_, err = v.Set(ctx, f.admin, slot, opaque("planted"))
	wantKind(f.t, err, vault.EnvironmentLocked)
	wantKind(f.t, v.Test(ctx, f.admin, slot, opaque("tried")), vault.EnvironmentLocked)
	wantKind(f.t, v.Test(ctx, f.admin, slot, vault.SetInput{}), vault.EnvironmentLocked)
	_, err = v.StartRotation(ctx, f.admin, slot.Scope)
	wantKind(f.t, err, vault.EnvironmentLocked)
	if s, err := v.Status(ctx, f.admin, slot); err != nil || s.Credential == nil {
		f.t.Errorf("status: %v", err)
	}
	extra := slot
	extra.Name = "extra"
	if _, err := f.Set(ctx, f.admin, extra, opaque("x")); err != nil {
		f.t.Fatal(err)
	}
	if _, err := v.Remove(ctx, f.admin, extra, vault.RemoveOptions{}); err != nil {
		f.t.Errorf("remove: %v", err)
	}
	if _, _, err := v.Audit(ctx, f.admin, vault.AuditQuery{Limit: 10}); err != nil {
		f.t.Errorf("audit: %v", err)
	}
}

func (f *fixture) wantRead(v *vault.Vault, environment, want string) {
	f.t.Helper()
	got, err := v.Resolve(f.t.Context(), f.admin, f.slot("salesforce", environment), vault.ResolveOptions{})
	if err != nil || field(got).Reveal() != want {
		f.t.Errorf("%s does not read: %v", environment, err)
	}
}

// wantNothingToRead gives an identity everything that storage has of production, and
// what it can open of the rest.
func (f *fixture) wantNothingToRead(id age.Identity) {
	f.t.Helper()
	ids, opened := []age.Identity{id}, 0
	for _, file := range f.stored("keyfile/") {
		r, err := age.Decrypt(bytes.NewReader(file.Value), id)
		if err != nil {
			continue
		}
		opened++
		if strings.Contains(file.Key, "production") {
			f.t.Errorf("%s opens", file.Key)
		}
		more, err := age.ParseIdentities(r)
		if err != nil {
			f.t.Fatal(err)
		}
		ids = append(ids, more...)
	}
	if opened != 5 {
		f.t.Errorf("%d key files open, want those of 4 scopes and the control key", opened)
	}
	read := 0
	for _, file := range f.stored("record/") {
		r, err := age.Decrypt(bytes.NewReader(file.Value), ids...)
		if err != nil {
			continue
		}
		var plain bytes.Buffer
		plain.ReadFrom(r)
		read++
		if strings.Contains(plain.String(), "crown jewels") {
			f.t.Error("production's value was read")
		}
	}
	if read == 0 {
		f.t.Error("nothing at all opens: the test proves nothing")
	}
}

// eventually waits until a host has followed what another did to its keys.
func (f *fixture) eventually(v *vault.Vault, environment string, held bool) {
	f.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, e := range v.Environments(f.t.Context(), f.admin) {
			if e.Name == environment && e.KeyHeld == held {
				return
			}
		}
	}
	f.t.Fatalf("the host has not learned that it holds %s: %v", environment, held)
}

func TestShareRefuses(t *testing.T) {
	f := newFixture(t, vault.Options{})
	own := f.config.Identities[0].(*age.X25519Identity).Recipient().String()
	typo := own[:20] + map[bool]string{true: "p", false: "q"}[own[20] == 'q'] + own[21:]
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	before := f.stored("key")
	production := []envs.Scope{"production"}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"typo":           {f.Share(t.Context(), production, []string{typo}), "character 21,"},
		"mixed":          {f.Share(t.Context(), production, []string{hybrid.Recipient().String()}), "cannot be mixed"},
		"missing plugin": {f.Share(t.Context(), production, []string{"age1nosuchplugin1qqqqqqqq"}), "recipient"},
		"already":        {f.Share(t.Context(), production, []string{own}), "Nothing to change"},
		"nobody left":    {f.Unshare(t.Context(), production, []string{own}), "Nobody would be left"},
		"a stranger":     {f.Unshare(t.Context(), production, []string{newRoot(t).Recipient().String()}), "Nothing to change"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error()+detailsOf(c.err), c.want) {
			t.Errorf("%s: %v %s, want %q", name, c.err, detailsOf(c.err), c.want)
		}
	}
	if after := f.stored("key"); !slices.EqualFunc(before, after, func(a, b backends.Record) bool {
		return a.Key == b.Key && a.Revision == b.Revision
	}) {
		t.Error("keys were changed")
	}
	other := newRoot(t)
	if err := f.Share(t.Context(), elsewhere, []string{other.Recipient().String()}); err != nil {
		t.Fatal(err)
	}
	v, err := f.host(other)
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, v.Share(t.Context(), production, []string{other.Recipient().String()}), vault.EnvironmentLocked)
}

func detailsOf(err error) string {
	if e, ok := errors.AsType[*vault.Error](err); ok {
		return e.Details
	}
	return ""
}

func TestReplaceRoot(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "production", "x")
	old := f.config.Identities[0].(*age.X25519Identity)
	fresh := newRoot(t)
	if err := f.ReplaceRoot(t.Context(), []string{old.Recipient().String()}, []string{fresh.Recipient().String()}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.host(old); !errors.Is(err, vault.ErrWrongRoot) {
		t.Errorf("the old identity: %v", err)
	}
	for _, file := range f.stored("keyfile/") {
		if _, err := seal.Unwrap(file.Value, old); !errors.Is(err, seal.ErrNoIdentity) {
			t.Errorf("the old identity opens %s: %v", file.Key, err)
		}
	}
	v, err := f.host(fresh) // with the trust anchor as it was
	if err != nil {
		t.Fatal(err)
	}
	f.wantRead(v, "production", "x")
	holders, err := v.Holders(t.Context())
	if err != nil || len(holders) != 6 {
		t.Fatalf("%d holders, %v", len(holders), err)
	}
	for _, h := range holders {
		if !h.Held || !slices.Equal(h.Readers, []string{fresh.Recipient().String()}) {
			t.Errorf("%s: held %v by %v", h.Name, h.Held, h.Readers)
		}
	}
	wantKind(t, v.ReplaceRoot(t.Context(), []string{old.Recipient().String()}, []string{newRoot(t).Recipient().String()}), vault.InvalidRequest)
	if len(f.audit(vault.ActionRotateRoot)) != 1 {
		t.Error("it is not in the audit log")
	}
}

func TestEnvironmentsRecipients(t *testing.T) {
	f := newFixture(t, vault.Options{})
	own := f.config.Identities[0].(*age.X25519Identity).Recipient().String()
	other := newRoot(t)
	tree, err := envs.New(append(f.config.Envs.All(), envs.Environment{Name: "vault-only", Recipients: []string{other.Recipient().String()}}))
	if err != nil {
		t.Fatal(err)
	}
	f.config.Envs = tree
	v := f.open()
	for _, e := range v.Environments(t.Context(), f.admin) {
		want := []string{own}
		if e.Name == "vault-only" {
			want = []string{other.Recipient().String()}
		}
		if !slices.Equal(e.Readers, want) || e.KeyHeld != (e.Name != "vault-only") {
			t.Errorf("%s: held %v by %v", e.Name, e.KeyHeld, e.Readers)
		}
	}
}
