package vault_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// syncFixture is a vault whose salesforce entry has one syncer.
func syncFixture(t *testing.T, p *programs, b vault.Syncer) *fixture {
	t.Helper()
	f := newFixture(t, vault.Options{Plugins: p, Exclusive: true})
	f.config.Catalog = bound{Catalog: testCatalog, syncers: []vault.Syncer{b}}
	f.SetCatalog(f.config.Catalog)
	return f
}

// syncPatience is how long a delivery may take on a machine that does more besides.
const syncPatience = time.Minute

// syncOf returns the only sync of salesforce's slot, once it has that state.
func (f *fixture) syncOf(environment string, state vault.SyncState) vault.Sync {
	f.t.Helper()
	var last []vault.Sync
	for end := time.Now().Add(syncPatience); time.Now().Before(end); {
		status, err := f.Status(f.t.Context(), f.admin, f.slot("salesforce", environment))
		if err != nil {
			f.t.Fatal(err)
		}
		if last = status.Sync; len(last) == 1 && last[0].State == state {
			return last[0]
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.t.Fatalf("no sync of %q is %s: %+v", environment, state, last)
	return vault.Sync{}
}

func refusing(message string) func(context.Context, vault.SyncCall) (vault.SyncResult, error) {
	return func(_ context.Context, c vault.SyncCall) (vault.SyncResult, error) {
		return vault.SyncResult{Failed: true, Message: strings.ReplaceAll(message, "VALUE", c.Fields["value"].Reveal())}, nil
	}
}

func TestSetSurfacesAFailedSync(t *testing.T) {
	p := &programs{sync: refusing("the aggregator refused VALUE")}
	f := syncFixture(t, p, syncer("trustradius"))
	slot := f.slot("salesforce", "staging")
	r, err := f.Set(t.Context(), f.admin, slot, opaque("first-value"))
	wantKind(t, err, vault.ToolSetupFailed)
	e, _ := errors.AsType[*vault.Error](err)
	if strings.Contains(e.Error(), "first-value") || !strings.Contains(e.Details, "the aggregator refused "+secret.Redacted) || !strings.Contains(e.Msg, "was stored") {
		t.Errorf("message %q, details %q", e.Msg, e.Details)
	}
	if !r.Created || r.Credential.Version != 1 {
		t.Errorf("the result does not say what was stored: %+v", r)
	}
	s := f.syncOf("staging", vault.SyncFailing)
	if s.Attempts == 0 || s.LastError == "" || s.NextAttempt.IsZero() || s.Change != vault.SyncSet || strings.Contains(s.LastError, "first-value") {
		t.Errorf("status %+v", s)
	}
	if got := f.audit(vault.ActionSync); len(got) == 0 || got[0].Outcome != "tool_setup_failed" {
		t.Errorf("audited: %+v", got)
	}
	p.answers(nil)
	if r, err = f.Set(t.Context(), f.admin, slot, opaque("second-value")); err != nil || r.Credential.Version != 2 {
		t.Fatalf("version %d, %v", r.Credential.Version, err)
	}
	calls := p.calls()
	if last := calls[len(calls)-1]; !last.Fields["value"].Equal(secret.New("second-value")) || last.Version != 2 || last.Attempt != 1 || last.Org != "default" {
		t.Errorf("told %+v", last)
	}
	f.syncOf("staging", vault.SyncDone)
}

func TestRemoveSwallowsAndDeliversLater(t *testing.T) {
	p := &programs{}
	f := syncFixture(t, p, syncer("trustradius"))
	f.set("salesforce", "", "v-value")
	var failures atomic.Int32
	p.answers(func(context.Context, vault.SyncCall) (vault.SyncResult, error) {
		if failures.Add(1) <= 2 {
			return vault.SyncResult{}, &vault.PluginError{Plugin: "trustradius", Reason: "crashed during the call"}
		}
		return vault.SyncResult{}, nil
	})
	if _, err := f.Remove(t.Context(), f.admin, f.slot("salesforce", ""), vault.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	f.syncOf("", vault.SyncDone)
	calls := p.calls()[1:]
	if len(calls) != 3 {
		t.Fatalf("%d calls", len(calls))
	}
	for n, c := range calls {
		if c.Change != vault.SyncRemove || len(c.Fields) != 0 || c.Attempt != n+1 || c.IdempotencyKey != calls[0].IdempotencyKey {
			t.Errorf("call %d: %+v", n, c)
		}
	}
}

func TestModesAreOverridden(t *testing.T) {
	p := &programs{sync: refusing("no")}
	b := syncer("trustradius")
	b.OnSet, b.OnRemove = vault.Swallow, vault.Surface
	f := syncFixture(t, p, b)
	f.set("salesforce", "", "v-value")
	removed, err := f.Remove(t.Context(), f.admin, f.slot("salesforce", ""), vault.RemoveOptions{})
	wantKind(t, err, vault.ToolSetupFailed)
	if removed.Credential.ID == "" {
		t.Error("the result does not say what was deleted")
	}
}

func TestPendingSyncSurvivesRestart(t *testing.T) {
	p := &programs{sync: refusing("away")}
	f := syncFixture(t, p, syncer("trustradius"))
	_, err := f.Set(t.Context(), f.admin, f.slot("salesforce", "production"), opaque("v-value"))
	wantKind(t, err, vault.ToolSetupFailed)
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.answers(nil)
	f.Vault = f.open()
	s := f.syncOf("production", vault.SyncDone)
	if got := f.audit(vault.ActionSync)[0]; got.Outcome != vault.OutcomeSuccess || got.Metadata["attempts"] == 1 || s.SyncedAt.IsZero() {
		t.Errorf("audited as %+v", got)
	}
}

// TestSyncsKeepTheirOrder sets one slot from many callers through two vaults that
// share storage: one delivery at a time, and the last value last.
func TestSyncsKeepTheirOrder(t *testing.T) {
	var running, overlaps atomic.Int32
	var mu sync.Mutex
	var last uint64
	p := &programs{sync: func(_ context.Context, c vault.SyncCall) (vault.SyncResult, error) {
		if running.Add(1) > 1 {
			overlaps.Add(1)
		}
		defer running.Add(-1)
		time.Sleep(time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		if c.Version < last {
			t.Errorf("version %d was delivered after %d", c.Version, last)
		}
		last = c.Version
		return vault.SyncResult{}, nil
	}}
	f := newFixture(t, vault.Options{Plugins: p})
	f.config.Catalog = bound{Catalog: testCatalog, syncers: []vault.Syncer{syncer("trustradius")}}
	f.SetCatalog(f.config.Catalog)
	vaults := []*vault.Vault{f.Vault, f.open()}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 10 {
				if _, err := vaults[n%2].Set(t.Context(), f.admin, f.slot("salesforce", ""), opaque(fmt.Sprint("value-", n, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s := f.syncOf("", vault.SyncDone); s.Version != 80 || last != 80 || overlaps.Load() != 0 {
		t.Errorf("synced version %d, last delivered %d, %d overlaps", s.Version, last, overlaps.Load())
	}
}

func TestUpdatesTellSyncers(t *testing.T) {
	p := &programs{}
	f := syncFixture(t, p, syncer("webhook"))
	r := f.set("salesforce", "", "v-value")
	at := vault.Address{ID: r.Credential.ID}
	inactive, active, name := vault.StatusInactive, vault.StatusActive, "other"
	for _, step := range []struct {
		vault.Change
		calls int
	}{{vault.Change{Status: &inactive}, 2}, {vault.Change{Status: &active}, 3}, {vault.Change{Name: &name}, 5}, {vault.Change{Labels: map[string]string{"a": "b"}}, 5}} {
		if _, err := f.Update(t.Context(), f.admin, at, step.Change); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(syncPatience); len(p.calls()) < step.calls && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(50 * time.Millisecond) // for calls that must not come
	var got []string
	keys := map[string]bool{}
	for _, c := range p.calls() {
		got = append(got, string(c.Change)+" "+c.Slot.Name)
		keys[c.IdempotencyKey] = true
	}
	slices.Sort(got[3:]) // of two slots, in any order
	if want := []string{"set default", "remove default", "set default", "remove default", "set other"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	if len(keys) != 5 {
		t.Errorf("%d idempotency keys for 5 changes", len(keys))
	}
}

func TestRestoreTellsSyncersLater(t *testing.T) {
	p := &programs{}
	f := syncFixture(t, p, syncer("webhook"))
	r := f.set("salesforce", "", "v-value")
	if _, err := f.Remove(t.Context(), f.admin, f.slot("salesforce", ""), vault.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	f.syncOf("", vault.SyncDone)
	f.Close(t.Context())
	f.config.Plugins = nil
	f.Vault = f.open()
	if _, err := f.Restore(t.Context(), "default", r.Credential.ID); err != nil {
		t.Fatal(err)
	}
	f.syncOf("", vault.SyncPending)
	f.Close(t.Context())
	f.config.Plugins = p
	f.Vault = f.open()
	if s := f.syncOf("", vault.SyncDone); s.Change != vault.SyncSet {
		t.Errorf("synced %+v", s)
	}
}

func TestUnboundSyncWaits(t *testing.T) {
	p := &programs{sync: refusing("away")}
	f := syncFixture(t, p, syncer("webhook"))
	f.Set(t.Context(), f.admin, f.slot("salesforce", ""), opaque("v-value"))
	f.SetCatalog(testCatalog)
	if n, err := f.RetrySyncs(t.Context(), f.admin, vault.SyncFilter{Integration: "salesforce"}); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for end := time.Now().Add(syncPatience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(f.syncOf("", vault.SyncFailing).LastError, "binds no syncer webhook") {
			return
		}
	}
	t.Error("it was not tried")
}

func TestSyncsAreListedAndRetried(t *testing.T) {
	p := &programs{sync: refusing("away")}
	f := syncFixture(t, p, syncer("webhook"))
	for _, env := range []string{"", "staging", "production"} {
		f.Set(t.Context(), f.admin, f.slot("salesforce", env), opaque("v-value"))
	}
	var all []vault.Sync
	for cursor := ""; ; {
		page, next, err := f.Syncs(t.Context(), f.admin, vault.SyncFilter{}, cursor, 2)
		if err != nil || !vault.IsSyncCursor(next) {
			t.Fatal(next, err)
		}
		all = append(all, page...)
		if cursor = next; next == "" {
			break
		}
	}
	if len(all) != 3 {
		t.Fatalf("listed %+v", all)
	}
	staging := f.slot("salesforce", "staging").Scope
	p.answers(nil)
	if n, err := f.RetrySyncs(t.Context(), f.admin, vault.SyncFilter{Scope: &staging}); n != 1 || err != nil {
		t.Errorf("retried %d, %v", n, err)
	}
	f.syncOf("staging", vault.SyncDone)
	if n, err := f.RetrySyncs(t.Context(), f.admin, vault.SyncFilter{Integration: "salesforce"}); n != 3 || err != nil {
		t.Errorf("retried %d, %v", n, err)
	}
	limited := f.admin
	limited.Environments = []string{"development"}
	if list, _, err := f.Syncs(t.Context(), limited, vault.SyncFilter{}, "", 10); err != nil || len(list) != 0 {
		t.Errorf("a caller sees what its grant does not cover: %+v, %v", list, err)
	}
	for _, bad := range []string{"x", "a/b/c", "salesforce/@shared/default/Ä", "salesforce/@shared/a b/webhook"} {
		if vault.IsSyncCursor(bad) {
			t.Errorf("%q passes for a cursor", bad)
		}
	}
}

// TestManyPendingSyncsLeaveRoom has 500 changes wait for a plugin that does not answer:
// a caller who sets another slot is served past them.
func TestManyPendingSyncsLeaveRoom(t *testing.T) {
	answer := make(chan struct{})
	p := &programs{sync: func(ctx context.Context, c vault.SyncCall) (vault.SyncResult, error) {
		if c.Slot.Name != vault.DefaultName {
			select {
			case <-answer:
			case <-ctx.Done():
			}
		}
		return vault.SyncResult{}, ctx.Err()
	}}
	b := syncer("trustradius")
	b.OnSet = vault.Swallow
	f := syncFixture(t, p, b)
	for n := range 500 {
		slot := f.slot("salesforce", "")
		slot.Name = fmt.Sprint("slot-", n)
		if _, err := f.Set(t.Context(), f.admin, slot, opaque("v-value")); err != nil {
			t.Fatal(err)
		}
	}
	b.OnSet = vault.Surface
	f.SetCatalog(bound{Catalog: testCatalog, syncers: []vault.Syncer{b}})
	f.set("salesforce", "", "urgent-value")
	f.syncOf("", vault.SyncDone)
	close(answer)
	for end := time.Now().Add(syncPatience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if list, _, _ := f.Syncs(t.Context(), f.admin, vault.SyncFilter{}, "", 1); len(list) == 0 {
			return
		}
	}
	t.Error("they did not drain")
}
