package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// entries is a catalog of its own: the vault's tests need no file.
type entries []vault.Integration

func (e entries) All() []vault.Integration { return e }

func (e entries) Lookup(key string) (vault.Integration, bool) {
	for _, i := range e {
		if i.Key == key {
			return i, true
		}
	}
	return vault.Integration{}, false
}

var testCatalog = entries{
	{Key: "salesforce", Name: "Salesforce", Category: "crm", Enabled: true},
	{Key: "sftp", Name: "SFTP", Category: "files", Enabled: true, AuthTypes: []string{"basic"}, Fields: []vault.Field{
		{Name: "host", Required: true}, {Name: "username", Required: true}, {Name: "password", Secret: true},
	}},
	{Key: "zoominfo", Name: "ZoomInfo", Category: "data", Enabled: false},
	{Key: "pardot", Name: "Pardot", Category: "crm", Enabled: true, CredentialOf: "salesforce"},
}

// fixture is a vault with its first admin.
type fixture struct {
	*vault.Vault
	t       *testing.T
	backend backends.Backend
	init    vault.Initialised
	config  vault.Config
	admin   vault.Caller
}

func newFixture(t *testing.T, o vault.Options, list ...envs.Environment) *fixture {
	t.Helper()
	if len(list) == 0 {
		list = append(envs.Default(), envs.Environment{Name: "preview", Parent: "development"})
	}
	tree, err := envs.New(list)
	if err != nil {
		t.Fatal(err)
	}
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b := memory.New()
	made, err := vault.Init(t.Context(), vault.InitConfig{
		Backend: b, Roots: []string{root.Recipient().String()}, Envs: tree, Org: "default", AdminName: "admin", AdminEmail: "admin@example.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, backend: b, init: made, config: vault.Config{
		Backend: b, Envs: tree, Catalog: testCatalog, Identities: []age.Identity{root}, Trusted: made.Trusted, Options: o,
	}}
	f.Vault = f.open()
	f.admin = f.caller(made.Admin.Secret)
	return f
}

func (f *fixture) open() *vault.Vault {
	f.t.Helper()
	v, err := vault.Open(f.t.Context(), f.config)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil && !errors.Is(err, backends.ErrClosed) {
			f.t.Error(err)
		}
	})
	return v
}

// field is the secret of what was set as one string.
func field(r vault.Resolved) secret.Value {
	fields, err := r.Fields()
	if err != nil {
		return secret.New("no fields")
	}
	return fields[vault.ValueField]
}

func (f *fixture) caller(key secret.Value) vault.Caller {
	f.t.Helper()
	c, err := f.Authenticate(f.t.Context(), key)
	if err != nil {
		f.t.Fatal(err)
	}
	c.Origin = vault.Origin{Source: "rest", Peer: "127.0.0.1:1", RequestID: "req-1"}
	return c
}

func (f *fixture) slot(integration, environment string) vault.Slot {
	f.t.Helper()
	var env *string
	if environment != "" {
		env = &environment
	}
	s, err := f.Slot(integration, env, "")
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) set(integration, environment, value string) vault.SetResult {
	f.t.Helper()
	r, err := f.Set(f.t.Context(), f.admin, f.slot(integration, environment), opaque(value))
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func opaque(value string) vault.SetInput {
	return vault.SetInput{Fields: seal.Fields{"value": secret.New(value)}}
}

func (f *fixture) audit(action string) []vault.AuditEntry {
	f.t.Helper()
	list, _, err := f.Audit(f.t.Context(), f.admin, vault.AuditQuery{Action: action, Limit: 500})
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

func wantKind(t *testing.T, err error, kind vault.Kind) {
	t.Helper()
	if vault.KindOf(err) != kind || err == nil {
		t.Errorf("got error %v (%v), want %v", err, vault.KindOf(err), kind)
	}
}

func TestResolveFallsBack(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "", "shared")
	f.set("salesforce", "development", "dev")
	f.set("salesforce", "production", "prod")
	for _, c := range []struct {
		environment, value string
		from               envs.Scope
	}{
		{"", "shared", envs.Shared},
		{"staging", "shared", envs.Shared},
		{"development", "dev", "development"},
		{"preview", "dev", "development"},
		{"production", "prod", "production"},
	} {
		got, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", c.environment), vault.ResolveOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !field(got).Equal(secret.New(c.value)) || got.From != c.from {
			t.Errorf("%q: a wrong value, or one from %q, want from %q", c.environment, got.From, c.from)
		}
	}
	_, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", "staging"), vault.ResolveOptions{NoFallback: true})
	wantKind(t, err, vault.CredentialNotFound)
}

func TestRemove(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "", "shared")
	first := f.set("salesforce", "production", "prod")
	slot := f.slot("salesforce", "production")

	removed, err := f.Remove(t.Context(), f.admin, slot, vault.RemoveOptions{})
	if err != nil || removed.Credential.ID != first.Credential.ID || removed.WasNoop {
		t.Fatalf("removed %v, %v", removed.Credential.ID, err)
	}
	_, err = f.Remove(t.Context(), f.admin, slot, vault.RemoveOptions{})
	wantKind(t, err, vault.CredentialDeleted)
	e, _ := errors.AsType[*vault.Error](err)
	want := "The credential was deleted on " + removed.Credential.DeletedAt.Format(vault.TimeFormat) + " by admin@example.com"
	if e.Details != want {
		t.Errorf("details %q, want %q", e.Details, want)
	}
	again, err := f.Remove(t.Context(), f.admin, slot, vault.RemoveOptions{IfExists: true})
	if err != nil || !again.WasNoop {
		t.Errorf("with IfExists: %v, %v", again.WasNoop, err)
	}
	_, err = f.Remove(t.Context(), f.admin, f.slot("sftp", "production"), vault.RemoveOptions{})
	wantKind(t, err, vault.CredentialNotFound)

	got, err := f.Resolve(t.Context(), f.admin, slot, vault.ResolveOptions{})
	if err != nil || got.From != envs.Shared {
		t.Errorf("after the removal: from %q, %v", got.From, err)
	}
	second := f.set("salesforce", "production", "new")
	if !second.Created || second.Credential.ID == first.Credential.ID || second.Credential.Version != 1 {
		t.Errorf("set again: created %v, ID %v, version %d", second.Created, second.Credential.ID, second.Credential.Version)
	}
}

func TestConcurrentSets(t *testing.T) {
	f := newFixture(t, vault.Options{})
	const n = 50
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, err := f.Set(t.Context(), f.admin, f.slot("salesforce", ""), opaque(fmt.Sprint("v", i)))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	created, versions := 0, map[uint64]bool{}
	for _, e := range f.audit(vault.ActionSet) {
		if e.Metadata["wasUpdate"] == false {
			created++
		}
		versions[e.Version] = true
	}
	if created != 1 || len(versions) != n || !versions[1] || !versions[n] {
		t.Errorf("%d entries say that they created, %d different versions; want 1 and 1..%d", created, len(versions), n)
	}
}

func TestConcurrentRemovals(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "", "x")
	const n = 50
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := f.Remove(t.Context(), f.admin, f.slot("salesforce", ""), vault.RemoveOptions{})
			errs <- err
		}()
	}
	removed, conflicts := 0, 0
	for range n {
		switch err := <-errs; {
		case err == nil:
			removed++
		case vault.KindOf(err) == vault.CredentialDeleted:
			conflicts++
		default:
			t.Error(err)
		}
	}
	if removed != 1 || conflicts != n-1 {
		t.Errorf("%d removed and %d conflicts, want 1 and %d", removed, conflicts, n-1)
	}
}

func TestSetChecks(t *testing.T) {
	f := newFixture(t, vault.Options{})
	host := secret.New("h")
	for _, c := range []struct {
		name, integration string
		fields            seal.Fields
		kind              vault.Kind
		says              string
	}{
		{"nothing", "salesforce", nil, vault.ValidationFailed, "value"},
		{"empty", "salesforce", seal.Fields{"value": secret.New("")}, vault.ValidationFailed, "1 to 8192"},
		{"long", "salesforce", seal.Fields{"value": secret.New(strings.Repeat("é", 8193))}, vault.ValidationFailed, "8193 characters"},
		{"nul", "salesforce", seal.Fields{"value": secret.New("a\x00b")}, vault.ValidationFailed, "NUL"},
		{"missing", "sftp", seal.Fields{"host": host}, vault.ValidationFailed, "username"},
		{"unknown", "sftp", seal.Fields{"host": host, "username": host, "pasword": host}, vault.ValidationFailed, `"password"`},
		{"disabled", "zoominfo", seal.Fields{"value": host}, vault.IntegrationDisabled, "zoominfo"},
		{"not in the catalog", "salesfroce", seal.Fields{"value": host}, vault.IntegrationNotFound, `"salesforce"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Set(t.Context(), f.admin, f.slot(c.integration, ""), vault.SetInput{Fields: c.fields})
			wantKind(t, err, c.kind)
			if !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%v does not mention %q", err, c.says)
			}
			status, err := f.Status(t.Context(), f.admin, f.slot(c.integration, ""))
			if err == nil && status.Credential != nil {
				t.Error("something was stored")
			}
		})
	}
	long := vault.SetInput{Fields: seal.Fields{"value": secret.New(strings.Repeat("é", 8192))}}
	if _, err := f.Set(t.Context(), f.admin, f.slot("salesforce", ""), long); err != nil {
		t.Errorf("8192 characters: %v", err)
	}
}

func TestGrants(t *testing.T) {
	f := newFixture(t, vault.Options{}, append(envs.Default(), envs.Environment{Name: "live", Protected: true})...)
	f.set("salesforce", "", "shared")
	key := func(in vault.KeyInput) vault.Caller {
		t.Helper()
		in.Name = "k"
		k, err := f.CreateKey(t.Context(), f.admin, in)
		if err != nil {
			t.Fatal(err)
		}
		return f.caller(k.Secret)
	}
	all := []string{vault.All}
	user := key(vault.KeyInput{Environments: all, Integrations: all})
	staging := key(vault.KeyInput{Environments: []string{"staging"}, Integrations: []string{"salesforce"}, Admin: true})

	resolve := func(c vault.Caller, integration, environment string) error {
		_, err := f.Resolve(t.Context(), c, f.slot(integration, environment), vault.ResolveOptions{})
		return err
	}
	if err := resolve(user, "salesforce", "production"); err != nil {
		t.Error(err)
	}
	if err := resolve(staging, "salesforce", "staging"); err != nil {
		t.Error(err)
	}
	wantKind(t, resolve(user, "salesforce", "live"), vault.Forbidden)
	wantKind(t, resolve(staging, "salesforce", "production"), vault.Forbidden)
	wantKind(t, resolve(staging, "sftp", "staging"), vault.Forbidden)

	_, err := f.Set(t.Context(), user, f.slot("salesforce", ""), opaque("x"))
	wantKind(t, err, vault.ForbiddenAdminScope)
	_, err = f.Set(t.Context(), staging, f.slot("salesforce", ""), opaque("x"))
	wantKind(t, err, vault.Forbidden)
	_, err = f.Set(t.Context(), staging, f.slot("salesforce", "staging"), opaque("x"))
	if err != nil {
		t.Error(err)
	}
	_, err = f.CreateKey(t.Context(), staging, vault.KeyInput{Name: "more", Environments: all, Integrations: []string{"salesforce"}})
	wantKind(t, err, vault.Forbidden)

	refused := 0
	for _, e := range f.audit("") {
		if e.Outcome == "forbidden" || e.Outcome == "forbidden_admin_scope" {
			refused++
		}
	}
	if refused < 4 {
		t.Errorf("%d refusals in the audit log that this admin may see, want at least 4", refused)
	}
}

func TestRevokedAndExpiredKeys(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f := newFixture(t, vault.Options{Now: func() time.Time { return now }})
	k, err := f.CreateKey(t.Context(), f.admin, vault.KeyInput{
		Name: "k", Environments: []string{vault.All}, Integrations: []string{vault.All}, ExpiresAt: now.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.caller(k.Secret)
	now = now.Add(time.Hour)
	_, err = f.Authenticate(t.Context(), k.Secret)
	wantKind(t, err, vault.Unauthorized)
	now = now.Add(-time.Minute)
	if _, err := f.RevokeKey(t.Context(), f.admin, k.ID); err != nil {
		t.Fatal(err)
	}
	_, err = f.Authenticate(t.Context(), k.Secret)
	wantKind(t, err, vault.Unauthorized)
}

func TestIfMatch(t *testing.T) {
	f := newFixture(t, vault.Options{})
	slot := f.slot("salesforce", "")
	in := opaque("a")
	in.IfMatch = vault.AnyRevision
	_, err := f.Set(t.Context(), f.admin, slot, in)
	wantKind(t, err, vault.VersionConflict)
	first := f.set("salesforce", "", "a")
	f.set("salesforce", "", "b")
	in.IfMatch = first.Credential.Revision
	_, err = f.Set(t.Context(), f.admin, slot, in)
	wantKind(t, err, vault.VersionConflict)
	_, err = f.Remove(t.Context(), f.admin, slot, vault.RemoveOptions{IfMatch: first.Credential.Revision})
	wantKind(t, err, vault.VersionConflict)
}

func TestVersionsAreKept(t *testing.T) {
	f := newFixture(t, vault.Options{KeepVersions: 3})
	for i := range 5 {
		f.set("salesforce", "", fmt.Sprint("v", i+1))
	}
	for version, kind := range map[uint64]vault.Kind{1: vault.CredentialNotFound, 2: vault.CredentialNotFound, 6: vault.CredentialNotFound} {
		_, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{Version: version})
		wantKind(t, err, kind)
	}
	for version := uint64(3); version <= 5; version++ {
		got, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{Version: version})
		if err != nil || !field(got).Equal(secret.New(fmt.Sprint("v", version))) {
			t.Errorf("version %d: a wrong value, or %v", version, err)
		}
	}
	records, err := f.backend.List(t.Context(), "record/", "", 100)
	if err != nil || len(records) != 3 {
		t.Errorf("%d records are stored (%v), want 3", len(records), err)
	}
}

// TestFewerVersionsAreKept lowers the number after many were stored: no commit
// outgrows its limit, and a rename seals them all.
func TestFewerVersionsAreKept(t *testing.T) {
	f := newFixture(t, vault.Options{KeepVersions: 100})
	var r vault.SetResult
	for n := range 60 {
		r = f.set("salesforce", "", fmt.Sprint("value-", n))
	}
	if n := len(r.Credential.Versions); n != vault.MaxKeepVersions {
		t.Fatalf("%d versions are kept", n)
	}
	name := "renamed"
	if _, err := f.Update(t.Context(), f.admin, vault.Address{ID: r.Credential.ID}, vault.Change{Name: &name}); err != nil {
		t.Fatal(err)
	}
	f.config.KeepVersions = 2
	f.Vault = f.open()
	slot := f.slot("salesforce", "")
	slot.Name = name
	for range 4 {
		var err error
		if r, err = f.Set(t.Context(), f.admin, slot, opaque("last")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.Credential.Versions); n != 2 {
		t.Errorf("%d versions are kept", n)
	}
}
