package vault_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/vault"
)

// outage is a vault whose storage can be read and not written, at a time that a test
// sets, while it says itself for how long it is stale.
type outage struct {
	*fixture
	backend *failing
	skew    atomic.Int64
	stale   atomic.Int64
}

func newOutage(t *testing.T, o vault.Options) *outage {
	t.Helper()
	out := &outage{fixture: newFixture(t, vault.Options{})}
	out.backend = &failing{Backend: out.fixture.backend}
	o.Now = func() time.Time { return time.Now().Add(time.Duration(out.skew.Load())) }
	o.Stale = func() time.Duration { return time.Duration(out.stale.Load()) }
	out.config.Backend, out.config.Options = out.backend, o
	out.Vault = out.open()
	out.set("salesforce", "", "x")
	return out
}

func (o *outage) resolve() error {
	_, err := o.Resolve(o.t.Context(), o.admin, o.slot("salesforce", ""), vault.ResolveOptions{})
	return err
}

// flushFails makes an attempt to write the counts, which starts the grace.
func (o *outage) flushFails() {
	o.t.Helper()
	_, _, err := o.Audit(o.t.Context(), o.admin, vault.AuditQuery{Limit: 1})
	wantKind(o.t, err, vault.BackendUnavailable)
}

func TestReadGrace(t *testing.T) {
	o := newOutage(t, vault.Options{ReadGrace: 5 * time.Minute})
	o.backend.down.Store(true)
	if err := o.resolve(); err != nil {
		t.Fatal(err)
	}
	o.flushFails()
	for _, c := range []struct {
		after, stale time.Duration
		serves       bool
	}{
		{5 * time.Second, 0, true},
		{time.Minute, 0, false}, // storage answers, and does not record
		{time.Minute, time.Minute, true},
		{4 * time.Minute, 4 * time.Minute, true},
		{6 * time.Minute, time.Second, false},
	} {
		o.skew.Store(int64(c.after))
		o.stale.Store(int64(c.stale))
		if o.Stale() != c.stale {
			t.Errorf("stale for %v, want %v", o.Stale(), c.stale)
		}
		if err := o.resolve(); (err == nil) != c.serves {
			t.Errorf("%v after the first failure, stale for %v: %v", c.after, c.stale, err)
		}
	}
	o.backend.down.Store(false)
	total := 0.0
	for _, e := range o.audit(vault.ActionRead) {
		if n, counted := e.Metadata["count"].(float64); counted {
			total += n
		}
	}
	if total != 4 {
		t.Errorf("%v reads in the audit log, want the 4 that were served", total)
	}
}

// With a record for each read there is no grace: no record, no secret.
func TestNoGraceForEachRead(t *testing.T) {
	o := newOutage(t, vault.Options{ReadGrace: 5 * time.Minute, ReadAudit: vault.ReadsEach})
	o.stale.Store(int64(time.Second))
	o.backend.down.Store(true)
	wantKind(t, o.resolve(), vault.BackendUnavailable)
	o.backend.down.Store(false)
}

// Half of a copy is no vault, and nothing to make one in.
func TestHalfCopied(t *testing.T) {
	f := newFixture(t, vault.Options{})
	notes := backends.Batch{Changes: []backends.Change{backends.Put(vault.CopyingKey, 0, []byte("{}"))}}
	if _, err := f.backend.Commit(t.Context(), notes); err != nil {
		t.Fatal(err)
	}
	if _, err := vault.Open(t.Context(), f.config); !errors.Is(err, vault.ErrHalfCopied) {
		t.Errorf("Open: %v", err)
	}
	b := memory.New()
	if _, err := b.Commit(t.Context(), notes); err != nil {
		t.Fatal(err)
	}
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	_, err = vault.Init(t.Context(), vault.InitConfig{
		Backend: b, Roots: []string{root.Recipient().String()}, Envs: f.config.Envs, Org: "default", AdminName: "admin",
	})
	if !errors.Is(err, vault.ErrVaultExists) {
		t.Errorf("Init: %v", err)
	}
}

// unplugged is a backend that cannot be reached on demand.
type unplugged struct {
	backends.Backend
	down atomic.Bool
}

func (b *unplugged) check() error {
	if b.down.Load() {
		return backends.ErrUnavailable
	}
	return nil
}

func (b *unplugged) Get(ctx context.Context, key string) (backends.Record, error) {
	if err := b.check(); err != nil {
		return backends.Record{}, err
	}
	return b.Backend.Get(ctx, key)
}

func (b *unplugged) Commit(ctx context.Context, batch backends.Batch) (backends.Revision, error) {
	if err := b.check(); err != nil {
		return 0, err
	}
	return b.Backend.Commit(ctx, batch)
}

func (b *unplugged) Head(ctx context.Context) (backends.Head, error) {
	if err := b.check(); err != nil {
		return backends.Head{}, err
	}
	return b.Backend.Head(ctx)
}

// TestReadsWhileAway has a vault on a cache go on reading what it read before, and
// refuse the rest at once, until storage is back.
func TestReadsWhileAway(t *testing.T) {
	f := newFixture(t, vault.Options{})
	wire := &unplugged{Backend: f.backend}
	c := cache.New(wire, cache.Options{MaxStale: time.Minute})
	t.Cleanup(func() { c.Close() })
	f.config.Backend, f.config.Options = c, vault.Options{Stale: c.Stale, ReadGrace: time.Minute}
	f.Vault = f.open()
	f.set("salesforce", "", "shared")
	f.set("sftp", "", "never read")
	read := func(integration string) error {
		f.caller(f.init.Admin.Secret)
		_, err := f.Resolve(t.Context(), f.admin, f.slot(integration, "staging"), vault.ResolveOptions{})
		return err
	}
	reads := 0.0
	for c.Stats().Hits == 0 { // until the cache may answer by itself
		if err := read("salesforce"); err != nil {
			t.Fatal(err)
		}
		reads++
	}
	t.Cleanup(func() { wire.down.Store(false) }) // the vault cannot be closed without its storage
	wire.down.Store(true)
	wantKind(t, read("sftp"), vault.BackendUnavailable)
	if f.Stale() == 0 {
		t.Error("it does not say that it is stale")
	}
	for range 20 {
		if err := read("salesforce"); err != nil {
			t.Fatalf("what was read before: %v", err)
		}
	}
	_, err := f.Set(t.Context(), f.admin, f.slot("salesforce", ""), opaque("new"))
	wantKind(t, err, vault.BackendUnavailable)
	_, err = f.Remove(t.Context(), f.admin, f.slot("salesforce", ""), vault.RemoveOptions{})
	wantKind(t, err, vault.BackendUnavailable)
	_, _, err = f.List(t.Context(), f.admin, vault.Filter{}, "", 10)
	wantKind(t, err, vault.BackendUnavailable)

	wire.down.Store(false)
	for end := time.Now().Add(10 * time.Second); f.Stale() != 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	f.set("salesforce", "", "new")
	if err := errors.Join(read("salesforce"), read("sftp")); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	total := 0.0
	for _, e := range f.audit(vault.ActionRead) {
		if n, counted := e.Metadata["count"].(float64); counted {
			total += n
		}
	}
	if want := reads + 22; total != want {
		t.Errorf("%v reads in the audit log, want %v: an outage loses none", total, want)
	}
}
