package vault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

func at(r vault.SetResult) vault.Address { return vault.Address{ID: r.Credential.ID} }

func TestByID(t *testing.T) {
	f := newFixture(t, vault.Options{})
	r := f.set("salesforce", "production", "x")
	got, err := f.Get(t.Context(), f.admin, at(r))
	if err != nil || got.ID != r.Credential.ID || got.Revision != r.Credential.Revision {
		t.Fatalf("%v, %v", got.ID, err)
	}
	_, err = f.Get(t.Context(), f.admin, vault.Address{ID: r.Credential.ID, Integration: "sftp"})
	wantKind(t, err, vault.CredentialNotFound)

	// Another org's admin learns nothing: the answer is that for an ID which never was.
	k, err := f.AddKey(t.Context(), "other", vault.KeyInput{Name: "o", Admin: true, Environments: []string{vault.All}, Integrations: []string{vault.All}})
	if err != nil {
		t.Fatal(err)
	}
	stranger := f.caller(k.Secret)
	_, foreign := f.Get(t.Context(), stranger, at(r))
	never := vault.Address{ID: "cred-550e8400-e29b-41d4-a716-446655440099"}
	_, missing := f.Get(t.Context(), stranger, never)
	wantKind(t, foreign, vault.CredentialNotFound)
	wantKind(t, missing, vault.CredentialNotFound)
	_, err = f.RemoveByID(t.Context(), stranger, at(r), vault.RemoveOptions{})
	wantKind(t, err, vault.CredentialNotFound)

	removed, err := f.RemoveByID(t.Context(), f.admin, vault.Address{ID: r.Credential.ID, Integration: "salesforce"}, vault.RemoveOptions{})
	if err != nil || removed.Credential.Status != vault.StatusDeleted {
		t.Fatalf("%+v, %v", removed, err)
	}
	_, err = f.RemoveByID(t.Context(), f.admin, at(r), vault.RemoveOptions{})
	wantKind(t, err, vault.CredentialDeleted)
	for _, id := range []vault.Address{at(r), never} {
		again, err := f.RemoveByID(t.Context(), f.admin, id, vault.RemoveOptions{IfExists: true})
		if err != nil || !again.WasNoop {
			t.Errorf("%s with IfExists: %+v, %v", id.ID, again, err)
		}
	}
	_, err = f.Get(t.Context(), f.admin, at(r))
	wantKind(t, err, vault.CredentialNotFound)
}

func TestUpdate(t *testing.T) {
	f := newFixture(t, vault.Options{})
	r := f.set("salesforce", "production", "one")
	f.set("salesforce", "production", "two")
	inactive, active := vault.StatusInactive, vault.StatusActive
	cred, err := f.Update(t.Context(), f.admin, at(r), vault.Change{Status: &inactive, Labels: map[string]string{"team": "sales"}})
	if err != nil || cred.Status != inactive || cred.Labels["team"] != "sales" {
		t.Fatalf("%+v, %v", cred, err)
	}
	resolve := func(slot vault.Slot) error {
		_, err := f.Resolve(t.Context(), f.admin, slot, vault.ResolveOptions{})
		return err
	}
	slot := f.slot("salesforce", "production")
	wantKind(t, resolve(slot), vault.CredentialInactive)
	if _, err = f.Update(t.Context(), f.admin, at(r), vault.Change{Status: &active}); err != nil || resolve(slot) != nil {
		t.Fatal(err, resolve(slot))
	}

	name := "Sales/team 1"
	if _, err := f.Update(t.Context(), f.admin, at(r), vault.Change{Name: &name}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, resolve(slot), vault.CredentialNotFound)
	slot.Name = name
	for version, value := range map[uint64]string{1: "one", 2: "two"} {
		got, err := f.Resolve(t.Context(), f.admin, slot, vault.ResolveOptions{Version: version})
		if err != nil || !field(got).Equal(secret.New(value)) {
			t.Errorf("version %d after the move: a wrong value, or %v", version, err)
		}
	}
	f.set("salesforce", "production", "third")
	taken := vault.DefaultName
	_, err = f.Update(t.Context(), f.admin, at(r), vault.Change{Name: &taken})
	wantKind(t, err, vault.CredentialExists)
	deleted := vault.StatusDeleted
	_, err = f.Update(t.Context(), f.admin, at(r), vault.Change{Status: &deleted})
	wantKind(t, err, vault.ValidationFailed)
	_, err = f.Update(t.Context(), f.admin, at(r), vault.Change{})
	wantKind(t, err, vault.InvalidRequest)
}

func TestConcurrentUpdates(t *testing.T) {
	f := newFixture(t, vault.Options{})
	r := f.set("salesforce", "", "x")
	var wg sync.WaitGroup
	results := make(chan error, 20)
	for i := range 20 {
		wg.Go(func() {
			_, err := f.Update(t.Context(), f.admin, at(r), vault.Change{Labels: map[string]string{"n": fmt.Sprint(i)}, IfMatch: r.Credential.Revision})
			results <- err
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		} else {
			wantKind(t, err, vault.VersionConflict)
		}
	}
	if won != 1 {
		t.Errorf("%d updates with one ETag succeeded", won)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	f := newFixture(t, vault.Options{Now: func() time.Time { return now }})
	in := opaque("x")
	in.ExpiresAt = now.Add(time.Hour)
	r, err := f.Set(t.Context(), f.admin, f.slot("salesforce", ""), in)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	_, err = f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{})
	wantKind(t, err, vault.CredentialExpired)
	if got, err := f.Get(t.Context(), f.admin, at(r)); err != nil || got.StatusAt(now) != vault.StatusExpired {
		t.Errorf("%v, %v", got.StatusAt(now), err)
	}
	if _, err := f.Update(t.Context(), f.admin, at(r), vault.Change{ExpiresAt: new(time.Time)}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{}); err != nil {
		t.Errorf("after the expiry was taken away: %v", err)
	}
}

// slowly is a backend that takes its time to find what a slot holds, by the vault's clock.
type slowly struct {
	backends.Backend
	passed atomic.Int64
	takes  time.Duration
}

func (b *slowly) Get(ctx context.Context, key string) (backends.Record, error) {
	r, err := b.Backend.Get(ctx, key)
	if strings.HasPrefix(key, "live/") {
		b.passed.Add(int64(b.takes))
	}
	return r, err
}

// TestExpiryMeanwhile reads a credential that expires while storage looks for it.
func TestExpiryMeanwhile(t *testing.T) {
	f := newFixture(t, vault.Options{})
	b := &slowly{Backend: f.backend}
	f.config.Backend = b
	f.config.Options.Now = func() time.Time { return time.Now().Add(time.Duration(b.passed.Load())) }
	f.Vault = f.open()
	in := opaque("x")
	in.ExpiresAt = time.Now().Add(time.Hour)
	if _, err := f.Set(t.Context(), f.admin, f.slot("salesforce", ""), in); err != nil {
		t.Fatal(err)
	}
	resolve := func() error {
		_, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{})
		return err
	}
	b.takes = time.Minute
	if err := resolve(); err != nil {
		t.Fatal(err)
	}
	b.takes = time.Hour
	wantKind(t, resolve(), vault.CredentialExpired)
}

func TestRollback(t *testing.T) {
	f := newFixture(t, vault.Options{})
	r := f.set("salesforce", "", "one")
	f.set("salesforce", "", "two")
	cred, err := f.Rollback(t.Context(), f.admin, at(r), 1, 0)
	if err != nil || cred.Version != 3 {
		t.Fatalf("version %d, %v", cred.Version, err)
	}
	got, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{})
	if err != nil || !field(got).Equal(secret.New("one")) {
		t.Errorf("a wrong value, or %v", err)
	}
	_, err = f.Rollback(t.Context(), f.admin, at(r), 9, 0)
	wantKind(t, err, vault.CredentialNotFound)
	list, err := f.Versions(t.Context(), f.admin, at(r))
	if err != nil || len(list.Versions) != 3 || list.Versions[0].Number != 3 {
		t.Errorf("%+v, %v", list.Versions, err)
	}
}

func TestUsage(t *testing.T) {
	for _, mode := range []vault.ReadAudit{vault.ReadsCoalesced, vault.ReadsEach} {
		t.Run(string(mode), func(t *testing.T) {
			now := time.Now().UTC()
			f := newFixture(t, vault.Options{ReadAudit: mode, Now: func() time.Time { return now }})
			r := f.set("salesforce", "", "x")
			k, err := f.CreateKey(t.Context(), f.admin, vault.KeyInput{Name: "billing", Environments: []string{vault.All}, Integrations: []string{vault.All}})
			if err != nil {
				t.Fatal(err)
			}
			billing := f.caller(k.Secret)
			read := func(c vault.Caller, times int) {
				for range times {
					if _, err := f.Resolve(t.Context(), c, f.slot("salesforce", "staging"), vault.ResolveOptions{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			read(f.admin, 2)
			usage, err := f.Usage(t.Context(), f.admin, at(r))
			if err != nil || usage.Reads != 2 || len(usage.Consumers) != 1 {
				t.Fatalf("%+v, %v", usage, err)
			}
			now = now.AddDate(0, 0, 29)
			read(billing, 3)
			usage, err = f.Usage(t.Context(), f.admin, at(r))
			if err != nil || usage.Reads != 5 || len(usage.Consumers) != 2 || usage.Consumers[0].Actor.Name != "billing" || usage.Consumers[0].Reads != 3 {
				t.Fatalf("%+v, %v", usage, err)
			}
			now = now.AddDate(0, 0, 2)
			removed, err := f.Remove(t.Context(), f.admin, f.slot("salesforce", ""), vault.RemoveOptions{})
			if err != nil || removed.Impact != (vault.Impact{Integrations: 2, Consumers: 1}) {
				t.Errorf("impact %+v, %v; want 2 integrations and 1 consumer within 30 days", removed.Impact, err)
			}
		})
	}
}

// A list tells when each was last read, to admins who ask.
func TestListUsage(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	f := newFixture(t, vault.Options{Now: func() time.Time { return now }})
	f.set("salesforce", "production", "x")
	f.set("salesforce", "staging", "x")
	if _, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", "staging"), vault.ResolveOptions{}); err != nil {
		t.Fatal(err)
	}
	read := now
	now = now.AddDate(1, 0, 0)
	for _, usage := range []bool{false, true} {
		list, _, err := f.List(t.Context(), f.admin, vault.Filter{Usage: usage}, "", 10)
		if err != nil || len(list) != 2 {
			t.Fatalf("%d credentials, %v", len(list), err)
		}
		if list[0].LastRead != nil || usage != (list[1].LastRead != nil && list[1].LastRead.Equal(read)) {
			t.Errorf("with usage %v: last read %s and %s", usage, list[0].LastRead, list[1].LastRead)
		}
	}
	k, err := f.CreateKey(t.Context(), f.admin, vault.KeyInput{Name: "billing", Environments: []string{vault.All}, Integrations: []string{vault.All}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.List(t.Context(), f.caller(k.Secret), vault.Filter{Usage: true}, "", 10); vault.KindOf(err) != vault.ForbiddenAdminScope {
		t.Errorf("a user is told: %v", err)
	}
}

func TestListPages(t *testing.T) {
	f := newFixture(t, vault.Options{})
	const n = 120
	for i := range n {
		slot := f.slot("salesforce", "staging")
		slot.Name = fmt.Sprintf("keep %03d", i)
		if _, err := f.Set(t.Context(), f.admin, slot, opaque("x")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var churn sync.WaitGroup
	churn.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			slot := f.slot("salesforce", "staging")
			slot.Name = fmt.Sprintf("keep %03d and gone", i%n)
			f.Set(ctx, f.admin, slot, opaque("x"))
			f.Remove(ctx, f.admin, slot, vault.RemoveOptions{})
		}
	})
	seen := map[string]int{}
	for after := ""; ; {
		page, next, err := f.List(t.Context(), f.admin, vault.Filter{}, after, 7)
		if err != nil || !vault.IsCursor(next) {
			t.Fatal(next, err)
		}
		for _, c := range page {
			seen[c.Slot.Name]++
		}
		if after = next; next == "" {
			break
		}
	}
	stop()
	churn.Wait()
	for i := range n {
		if name := fmt.Sprintf("keep %03d", i); seen[name] != 1 {
			t.Errorf("%s was shown %d times", name, seen[name])
		}
	}
}

func TestRestoreAndPurge(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	f := newFixture(t, vault.Options{Now: func() time.Time { return now }})
	r := f.set("salesforce", "", "one")
	remove := func() {
		t.Helper()
		if _, err := f.Remove(t.Context(), f.admin, f.slot("salesforce", ""), vault.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	if _, err := f.Restore(t.Context(), "default", r.Credential.ID); err != nil {
		t.Fatal(err)
	}
	got, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{})
	if err != nil || got.Credential.ID != r.Credential.ID || !field(got).Equal(secret.New("one")) {
		t.Fatalf("after the restore: %v, %v", got.Credential.ID, err)
	}
	remove()
	f.set("salesforce", "", "two")
	_, err = f.Restore(t.Context(), "default", r.Credential.ID)
	wantKind(t, err, vault.CredentialExists)

	purged, err := f.Purge(t.Context(), now, nil)
	if err != nil || purged.Credentials != 0 {
		t.Errorf("purged %+v, %v: nothing is older", purged, err)
	}
	now = now.Add(time.Hour)
	purged, err = f.Purge(t.Context(), now, nil)
	if err != nil || purged != (vault.Purged{Credentials: 1, Versions: 1}) {
		t.Errorf("purged %+v, %v", purged, err)
	}
	if left := f.stored("record/"); len(left) != 1 {
		t.Errorf("%d records are left, want that of the live credential", len(left))
	}
	remove()
	_, err = f.RemoveByID(t.Context(), f.admin, at(r), vault.RemoveOptions{})
	wantKind(t, err, vault.CredentialDeleted)
	_, err = f.Restore(t.Context(), "default", r.Credential.ID)
	wantKind(t, err, vault.CredentialNotFound)
	if len(f.audit(vault.ActionPurge)) != 1 || len(f.audit(vault.ActionRestore)) != 1 {
		t.Error("the audit log does not have the restore and the purge")
	}
}

func TestTest(t *testing.T) {
	f := newFixture(t, vault.Options{})
	slot := f.slot("salesforce", "staging")
	wantKind(t, f.Test(t.Context(), f.admin, slot, vault.SetInput{}), vault.CredentialNotFound)
	if err := f.Test(t.Context(), f.admin, slot, opaque("x")); err != nil {
		t.Error(err)
	}
	wantKind(t, f.Test(t.Context(), f.admin, slot, opaque("")), vault.ValidationFailed)
	f.set("salesforce", "staging", "x")
	if err := f.Test(t.Context(), f.admin, slot, vault.SetInput{}); err != nil {
		t.Error(err)
	}
}

var errEnough = errors.New("enough")

func TestWatch(t *testing.T) {
	f := newFixture(t, vault.Options{})
	head, err := f.AuditHead(t.Context(), f.admin)
	if err != nil {
		t.Fatal(err)
	}
	k, err := f.CreateKey(t.Context(), f.admin, vault.KeyInput{Name: "k", Environments: []string{"staging"}, Integrations: []string{"salesforce"}})
	if err != nil {
		t.Fatal(err)
	}
	f.set("salesforce", "staging", "one")
	f.set("salesforce", "production", "unseen")
	f.set("salesforce", "", "shared")
	if _, err := f.Remove(t.Context(), f.admin, f.slot("salesforce", "staging"), vault.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	var last vault.Revision
	watch := func(after vault.Revision, n int) error {
		return f.Watch(t.Context(), f.caller(k.Secret), after, func(e vault.Event) error {
			got = append(got, fmt.Sprint(e.Slot.Scope, " ", e.Credential != nil))
			if last = e.Revision; len(got) == n {
				return errEnough
			}
			return nil
		}, time.Minute, func(vault.Revision) error { return nil })
	}
	if err := watch(head.Revision, 2); err != errEnough {
		t.Fatal(err)
	}
	if err := watch(last, 3); err != errEnough {
		t.Fatal(err)
	}
	want := []string{"staging false", "all environments true", "staging false"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("events %v, want %v", got, want)
	}
	// A key that is revoked meanwhile ends the watch.
	if err := f.Watch(t.Context(), f.admin, 0, func(vault.Event) error { return nil }, time.Millisecond, func(vault.Revision) error { return errEnough }); err != errEnough {
		t.Error(err)
	}
}
