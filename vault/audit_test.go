package vault_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault"
)

func errorIs(err, want error) bool {
	return want == nil && err == nil || want != nil && errors.Is(err, want)
}

func TestReadsAreCounted(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "", "x")
	for range 7 {
		if _, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", "staging"), vault.ResolveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	total := 0.0
	for _, e := range f.audit(vault.ActionRead) {
		total += e.Metadata["count"].(float64)
		if from, ok := e.Metadata["resolvedFrom"]; !ok || from != nil || *e.Environment != "staging" {
			t.Errorf("entry says environment %v, resolvedFrom %v", e.Environment, from)
		}
	}
	if total != 7 {
		t.Errorf("%v reads in the audit log, want 7", total)
	}
}

func TestEachReadIsRecorded(t *testing.T) {
	f := newFixture(t, vault.Options{ReadAudit: vault.ReadsEach})
	f.set("salesforce", "", "x")
	before, err := f.backend.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if after, _ := f.backend.Head(t.Context()); after.Seq != before.Seq+3 {
		t.Errorf("%d entries for 3 reads", after.Seq-before.Seq)
	}
}

// failing is a backend whose commits fail on demand.
type failing struct {
	backends.Backend
	down atomic.Bool
}

func (b *failing) Commit(ctx context.Context, batch backends.Batch) (backends.Revision, error) {
	if b.down.Load() {
		return 0, backends.ErrUnavailable
	}
	return b.Backend.Commit(ctx, batch)
}

func TestNoRecordNoSecret(t *testing.T) {
	for _, mode := range []vault.ReadAudit{vault.ReadsCoalesced, vault.ReadsEach} {
		t.Run(string(mode), func(t *testing.T) {
			var skew atomic.Int64
			f := newFixture(t, vault.Options{})
			b := &failing{Backend: f.backend}
			f.config.Backend = b
			f.config.Options = vault.Options{ReadAudit: mode, Now: func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }}
			f.Vault = f.open()
			f.set("salesforce", "", "x")
			resolve := func() error {
				_, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", ""), vault.ResolveOptions{})
				return err
			}
			if err := resolve(); err != nil {
				t.Fatal(err)
			}
			b.down.Store(true)
			if mode == vault.ReadsCoalesced {
				// The first failed flush starts the grace.
				if _, _, err := f.Audit(t.Context(), f.admin, vault.AuditQuery{Limit: 1}); vault.KindOf(err) != vault.BackendUnavailable {
					t.Fatalf("flushing: %v", err)
				}
				if err := resolve(); err != nil {
					t.Errorf("within the grace: %v", err)
				}
				skew.Store(int64(time.Minute))
			}
			wantKind(t, resolve(), vault.BackendUnavailable)
			if f.Ready(t.Context()) == nil && mode == vault.ReadsCoalesced {
				t.Error("it says that it is ready")
			}
			b.down.Store(false)
			f.audit("") // flushes
			if err := resolve(); err != nil {
				t.Errorf("after the outage: %v", err)
			}
			total := 0.0
			for _, e := range f.audit(vault.ActionRead) {
				if n, counted := e.Metadata["count"].(float64); counted {
					total += n
				}
			}
			if mode == vault.ReadsCoalesced && total != 3 {
				t.Errorf("%v reads in the audit log, want 3: an outage loses none", total)
			}
		})
	}
}

func TestVerifyAudit(t *testing.T) {
	f := newFixture(t, vault.Options{})
	for i := range 5 {
		f.set("salesforce", "", fmt.Sprint(i))
	}
	verdict, err := f.VerifyAudit(t.Context(), f.admin)
	if err != nil || verdict.Broken != 0 || verdict.Head.Seq < 5 {
		t.Fatalf("%+v, %v", verdict, err)
	}
	forged := &forgedLog{Backend: f.backend, at: 3}
	verdict, err = vault.VerifyChain(t.Context(), forged, nil)
	if err != nil || verdict.Broken != 3 {
		t.Errorf("an altered entry 3: %+v, %v", verdict, err)
	}
	verdict, err = vault.VerifyChain(t.Context(), &forgedLog{Backend: f.backend, at: 4, drop: true}, nil)
	if err != nil || verdict.Broken != 4 {
		t.Errorf("a missing entry 4: %+v, %v", verdict, err)
	}
}

// forgedLog alters or drops one entry.
type forgedLog struct {
	backends.Backend
	at   uint64
	drop bool
}

func (b *forgedLog) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	list, err := b.Backend.Log(ctx, after, limit)
	var out []backends.Entry
	for _, e := range list {
		if e.Seq == b.at && b.drop {
			continue
		}
		if e.Seq == b.at {
			e.Body[10] ^= 1
		}
		out = append(out, e)
	}
	return out, err
}

// TestEntriesCanBeHashedFromJSON follows the recipe of docs/design/audit.md: the
// members of a stored entry, in alphabetical order and compact, are its body.
func TestEntriesCanBeHashedFromJSON(t *testing.T) {
	f := newFixture(t, vault.Options{})
	f.set("salesforce", "production", "x")
	f.Resolve(t.Context(), f.admin, f.slot("salesforce", "production"), vault.ResolveOptions{})
	f.audit("") // flushes
	list, err := f.backend.Log(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		var members map[string]any
		if err := json.Unmarshal(e.Body, &members); err != nil {
			t.Fatal(err)
		}
		sorted, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		sum.Write([]byte("sidevault log v1\x00"))
		sum.Write(binary.BigEndian.AppendUint64(nil, e.Seq))
		sum.Write(e.Prev[:])
		sum.Write(sorted)
		if backends.Hash(sum.Sum(nil)) != e.Hash {
			t.Errorf("entry %d cannot be hashed again from %s", e.Seq, sorted)
		}
	}
}

func TestAuditPages(t *testing.T) {
	f := newFixture(t, vault.Options{})
	for i := range 30 {
		f.set("salesforce", "", fmt.Sprint(i))
	}
	var seen []uint64
	q := vault.AuditQuery{Action: vault.ActionSet, Limit: 7}
	for {
		list, next, err := f.Audit(t.Context(), f.admin, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			seen = append(seen, e.Version)
		}
		if q.Before = next; next == 0 {
			break
		}
	}
	for i, version := range seen {
		if version != uint64(30-i) {
			t.Fatalf("versions in order: %v", seen)
		}
	}
	if len(seen) != 30 {
		t.Errorf("%d entries, want 30", len(seen))
	}
}
