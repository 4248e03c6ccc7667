package vault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/backup"
	"github.com/sidevault/sidevault/vault/seal"
)

func (f *fixture) backup(o vault.BackupOptions) []byte {
	f.t.Helper()
	var file bytes.Buffer
	if _, err := f.Backup(f.t.Context(), f.admin, &file, o); err != nil {
		f.t.Fatal(err)
	}
	return file.Bytes()
}

func check(t *testing.T, file []byte, ids ...age.Identity) (*vault.CheckedBackup, error) {
	t.Helper()
	return vault.CheckBackup(t.Context(), vault.BackupCheck{
		Open:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(file)), nil },
		Identities: ids, Roots: ids,
	})
}

// state is what a backup holds, by key.
func state(t *testing.T, b *vault.CheckedBackup) map[string]string {
	t.Helper()
	got := map[string]string{}
	if err := b.Each(t.Context(), func(r backends.Record) error {
		if _, twice := got[r.Key]; twice {
			t.Errorf("%s is restored twice", r.Key)
		}
		got[r.Key] = string(r.Value)
		return nil
	}, nil); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestBackupHoldsEverything(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vault.Options{})
	for i := range 150 {
		f.set("salesforce", "production", fmt.Sprint("secret-", i))
	}
	f.set("salesforce", "", "shared")
	f.set("salesforce", "staging", "gone")
	if _, err := f.Remove(t.Context(), f.admin, f.slot("salesforce", "staging"), vault.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	file := f.backup(vault.BackupOptions{})
	b, err := check(t, file, f.config.Identities...)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Damaged) > 0 || len(b.Locked) > 0 || b.Versions != 12 {
		t.Errorf("damaged %q, locked %v, %d versions", b.Damaged, b.Locked, b.Versions)
	}
	got, want := state(t, b), 0
	for after := ""; ; {
		page, err := f.backend.List(t.Context(), "", after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			after = r.Key
			if r.Key == "backup" {
				continue
			}
			want++
			if got[r.Key] != string(r.Value) {
				t.Errorf("%s is another", r.Key)
			}
		}
		if len(page) < 1000 {
			break
		}
	}
	if len(got) != want || b.Header.Vault != f.ID() {
		t.Errorf("%d records of %d, vault %s", len(got), want, b.Header.Vault)
	}
	if entries := f.audit(vault.ActionBackup); len(entries) != 1 {
		t.Errorf("%d audit entries", len(entries))
	} else if head := entries[0]; head.Outcome != vault.OutcomeSuccess || head.Seq != b.End.Head.Seq {
		t.Errorf("entry %d, %s; the backup ends with %d", head.Seq, head.Outcome, b.End.Head.Seq)
	}
}

// While writers keep invariants over several slots in single commits and in a known
// order, a backup must hold a state that existed: the model is the history of every
// slot's versions, which the log in the backup tells.
func TestBackupUnderWrites(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vault.Options{KeepVersions: 3})
	const writers, backups = 4, 4
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { f.churn(ctx, w) })
	}
	for head := (backends.Head{}); head.Seq < 50; {
		var err error
		if head, err = f.backend.Head(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range backups {
		file := f.backup(vault.BackupOptions{})
		b, err := check(t, file, f.config.Identities...)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Damaged) > 0 {
			t.Errorf("damaged: %q", b.Damaged)
		}
		t.Logf("%d records, %d lines of changes, %d entries", b.Records, b.End.Changes, b.End.Entries)
		existed(t, b)
	}
	stop()
	wg.Wait()
}

// churn sets and removes, one slot hot and others cold.
func (f *fixture) churn(ctx context.Context, w int) {
	for i := 0; ctx.Err() == nil; i++ {
		time.Sleep(time.Duration(rand.IntN(400)) * time.Microsecond)
		name := "hot"
		if i%4 != 0 {
			name = fmt.Sprint("cold-", w, "-", rand.IntN(40))
		}
		scope := "staging"
		slot, err := f.Slot("salesforce", &scope, name)
		if err != nil {
			f.t.Error(err)
			return
		}
		if rand.IntN(5) == 0 {
			_, err = f.Remove(ctx, f.admin, slot, vault.RemoveOptions{IfExists: true})
		} else {
			_, err = f.Set(ctx, f.admin, slot, opaque(fmt.Sprint("v", i)))
		}
		if err != nil && ctx.Err() == nil {
			f.t.Error(err)
			return
		}
	}
}

// existed replays the log of a backup: it must come out at exactly the records that
// the backup has. Each set and removal is one entry, in the same commit.
func existed(t *testing.T, b *vault.CheckedBackup) {
	t.Helper()
	type at struct {
		id      string
		version uint64
	}
	model, found := map[string]at{}, map[string]at{}
	err := b.Each(t.Context(), func(r backends.Record) error {
		family, _, _ := strings.Cut(r.Key, "/")
		if family != "live" {
			return nil
		}
		var d struct {
			ID, Name string
			Version  uint64
		}
		line, _, _ := bytes.Cut(r.Value, []byte("\n"))
		if err := json.Unmarshal(line, &d); err != nil {
			return err
		}
		found[d.Name] = at{d.ID, d.Version}
		return nil
	}, func(e backends.Entry) error {
		var a struct {
			Action, Name, Outcome string
			Credential            string `json:"credential_id"`
			Version               uint64
			Metadata              struct{ WasNoop bool }
		}
		if err := json.Unmarshal(e.Body, &a); err != nil {
			return err
		}
		switch {
		case a.Outcome != vault.OutcomeSuccess:
		case a.Action == vault.ActionSet:
			model[a.Name] = at{a.Credential, a.Version}
		case a.Action == vault.ActionRemove && !a.Metadata.WasNoop:
			delete(model, a.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(model) == 0 || len(model) != len(found) {
		t.Errorf("the log comes out at %d credentials, the records are of %d", len(model), len(found))
	}
	for name, want := range model {
		if found[name] != want {
			t.Errorf("%s: the log comes out at %v, the record is %v", name, want, found[name])
		}
	}
}

func TestBackupIsRefusedToOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vault.Options{}, envs.Environment{Name: "staging"}, envs.Environment{Name: "production", Protected: true})
	for name, change := range map[string]func(*vault.Caller){
		"user scope":       func(c *vault.Caller) { c.Admin = false },
		"one environment":  func(c *vault.Caller) { c.Environments = []string{"staging", "production"} },
		"one integration":  func(c *vault.Caller) { c.Integrations = []string{"salesforce"} },
		"not production":   func(c *vault.Caller) { c.Environments = []string{vault.All, "staging"} },
		"nothing whatever": func(c *vault.Caller) { c.Environments = nil },
	} {
		caller := f.admin
		change(&caller)
		var file bytes.Buffer
		_, err := f.Backup(t.Context(), caller, &file, vault.BackupOptions{})
		if k := vault.KindOf(err); k != vault.Forbidden && k != vault.ForbiddenAdminScope || file.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", name, err, file.Len())
		}
	}
	if n := len(f.audit(vault.ActionBackup)); n != 5 {
		t.Errorf("%d refusals are in the audit log", n)
	}
	_, err := f.Backup(t.Context(), f.admin, io.Discard, vault.BackupOptions{Recipients: []string{"age1nonsense"}})
	if vault.KindOf(err) != vault.InvalidRequest {
		t.Errorf("a recipient that is none: %v", err)
	}
}

func TestBackupForOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "", "x")
	escrow, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := f.backup(vault.BackupOptions{Recipients: []string{escrow.Recipient().String()}})
	if _, err := check(t, file, f.config.Identities...); !errors.Is(err, backup.ErrNoIdentity) {
		t.Errorf("the vault's own identity: %v", err)
	}
	if _, err := check(t, file, escrow); !errors.Is(err, vault.ErrBackupRoots) {
		t.Errorf("without a root identity: %v", err)
	}
	if _, err := check(t, file, escrow, f.config.Identities[0]); err != nil {
		t.Errorf("with both: %v", err)
	}
}

// A record that was tampered with before the backup is told, not hidden.
func TestBackupTellsWhatIsDamaged(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vault.Options{}, envs.Environment{Name: "staging"}, envs.Environment{Name: "production"})
	f.set("salesforce", "staging", "one")
	f.set("salesforce", "production", "two")
	page, err := f.backend.List(t.Context(), "record/", "", 10)
	if err != nil || len(page) != 2 {
		t.Fatal(len(page), err)
	}
	swap := backends.Batch{Changes: []backends.Change{
		backends.Put(page[0].Key, page[0].Revision, page[1].Value), backends.Put(page[1].Key, page[1].Revision, page[0].Value),
	}}
	if _, err := f.backend.Commit(t.Context(), swap); err != nil {
		t.Fatal(err)
	}
	b, err := check(t, f.backup(vault.BackupOptions{}), f.config.Identities...)
	if err != nil || len(b.Damaged) != 2 {
		t.Errorf("damaged %v, %v", b, err)
	}
}

// A record that is not there at all is told, too.
func TestBackupTellsWhatIsLost(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "staging", "one")
	f.set("salesforce", "staging", "two")
	page, err := f.backend.List(t.Context(), "record/", "", 10)
	if err != nil || len(page) != 2 {
		t.Fatal(len(page), err)
	}
	lose := backends.Batch{Changes: []backends.Change{backends.Delete(page[1].Key, page[1].Revision)}}
	if _, err := f.backend.Commit(t.Context(), lose); err != nil {
		t.Fatal(err)
	}
	b, err := check(t, f.backup(vault.BackupOptions{}), f.config.Identities...)
	if err != nil || !slices.Equal(b.Damaged, []string{page[1].Key}) {
		t.Errorf("damaged %v, %v", b, err)
	}
}

// Whoever lacks an environment's key is told what could not be checked.
func TestBackupTellsWhatIsNotOpened(t *testing.T) {
	t.Parallel()
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "staging", "one")
	f.set("salesforce", "production", "two")
	production := []envs.Scope{"production"}
	own, err := seal.RecipientOf(f.config.Identities[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Share(t.Context(), production, []string{other.Recipient().String()}); err != nil {
		t.Fatal(err)
	}
	if err := f.Unshare(t.Context(), production, []string{own}); err != nil {
		t.Fatal(err)
	}
	file := f.backup(vault.BackupOptions{})
	b, err := check(t, file, f.config.Identities...)
	if err != nil || len(b.Damaged) > 0 || b.Versions != 1 || b.Locked["production"] != 1 {
		t.Errorf("%+v, %v", b, err)
	}
}

var errWrite = errors.New("the disk is full")

type fullDisk struct{ room int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, errWrite
	}
	return len(p), nil
}

// A backup that cannot be written is a failure in the audit log, and holds nobody up.
func TestBackupThatFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vault.Options{})
	if _, err := f.Backup(t.Context(), f.admin, &fullDisk{room: 300}, vault.BackupOptions{}); !errors.Is(err, errWrite) {
		t.Errorf("the error is %v", err)
	}
	f.set("salesforce", "", "x")
	entries := f.audit(vault.ActionBackup)
	if len(entries) != 2 || entries[0].Outcome != vault.Internal.String() {
		t.Errorf("%d entries: %+v", len(entries), entries)
	}
}
