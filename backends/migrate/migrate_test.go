package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/backends/migrate"
)

const lastKey, notesKey = "vault", "copying"

// newSource returns storage with records on both sides of the last key and the
// notes, of all sizes, and a log; its revisions are not those of a fresh one.
func newSource(t *testing.T) *memory.Backend {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := memory.New()
	at := map[string]backends.Revision{}
	put := func(key string, size int) {
		value := make([]byte, size)
		for i := range value {
			value[i] = byte(random.Uint32())
		}
		batch := backends.Batch{Changes: []backends.Change{backends.Put(key, at[key], value)}}
		for range random.IntN(3) {
			batch.Entries = append(batch.Entries, fmt.Appendf(nil, "%s is put, %d", key, random.Uint64()))
		}
		rev, err := b.Commit(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		at[key] = rev
	}
	for range 700 {
		put(fmt.Sprintf("%c/é \"%d\"", "azAZ~"[random.IntN(5)], random.IntN(400)), random.IntN(300))
	}
	put("zz/largest", backends.MaxValue)
	put("zz/largest too", backends.MaxValue)
	put("empty", 0)
	put(lastKey, 100)
	return b
}

func config(from, to backends.Backend) migrate.Config {
	return migrate.Config{From: from, To: to, LastKey: lastKey, NotesKey: notesKey}
}

func newFile(t *testing.T) *bbolt.Backend {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vault.db")
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o700), bbolt.Create(path)); err != nil {
		t.Fatal(err)
	}
	b, err := bbolt.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func all(t *testing.T, b backends.Backend) []backends.Record {
	t.Helper()
	var list []backends.Record
	for after := ""; ; after = list[len(list)-1].Key {
		page, err := b.List(t.Context(), "", after, 100)
		if err != nil {
			t.Fatal(err)
		}
		if list = append(list, page...); len(page) < 100 {
			return list
		}
	}
}

// same fails the test unless both hold the same records and log.
func same(t *testing.T, from, to backends.Backend) {
	t.Helper()
	want, got := all(t, from), all(t, to)
	if len(want) != len(got) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if want[i].Key != got[i].Key || !bytes.Equal(want[i].Value, got[i].Value) {
			t.Fatalf("record %q differs from %q", got[i].Key, want[i].Key)
		}
	}
	a, err1 := from.Head(t.Context())
	b, err2 := to.Head(t.Context())
	if err1 != nil || err2 != nil || a.Seq != b.Seq || a.Hash != b.Hash || a.Seq == 0 {
		t.Fatalf("heads %+v and %+v, %v, %v", a, b, err1, err2)
	}
	for seq := uint64(0); seq < a.Seq; seq += 500 {
		x, _ := from.Log(t.Context(), seq, 500)
		y, _ := to.Log(t.Context(), seq, 500)
		for i := range x {
			if x[i].Seq != y[i].Seq || x[i].Prev != y[i].Prev || x[i].Hash != y[i].Hash || !bytes.Equal(x[i].Body, y[i].Body) {
				t.Fatalf("log entry %d differs", x[i].Seq)
			}
		}
	}
}

func TestCopy(t *testing.T) {
	source := newSource(t)
	file := newFile(t)
	seen := map[migrate.Stage]migrate.Progress{}
	cfg := config(source, file)
	cfg.Progress = func(p migrate.Progress) {
		if p.Done < seen[p.Stage].Done {
			t.Errorf("%s: %d after %d", p.Stage, p.Done, seen[p.Stage].Done)
		}
		seen[p.Stage] = p
	}
	r, err := migrate.Copy(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	same(t, source, file)
	if n := len(all(t, source)); r.Records != uint64(n) || seen[migrate.Comparing].Done != uint64(n-1) {
		t.Errorf("%d records, %d were compared; want %d", r.Records, seen[migrate.Comparing].Done, n)
	}
	if p := seen[migrate.CopyingLog]; p.Done != r.Head.Seq || p.Total != r.Head.Seq || len(seen) != 4 {
		t.Errorf("progress %+v", seen)
	}
	back := memory.New()
	if _, err := migrate.Copy(t.Context(), config(file, back)); err != nil {
		t.Fatal(err)
	}
	same(t, source, back)
}

// fragile is a target that fails its nth commit: before it is applied, or after.
type fragile struct {
	backends.Backend
	commits int
	failAt  int
	applied bool
	err     error
}

func (f *fragile) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	f.commits++
	if f.commits != f.failAt {
		return f.Backend.Commit(ctx, b)
	}
	if f.applied {
		if _, err := f.Backend.Commit(ctx, b); err != nil {
			return 0, err
		}
	}
	return 0, f.err
}

// TestKilled ends a copy at every one of its commits, before or after it is applied,
// and goes on with it.
func TestKilled(t *testing.T) {
	source := newSource(t)
	counting := &fragile{Backend: memory.New()}
	if _, err := migrate.Copy(t.Context(), config(source, counting)); err != nil {
		t.Fatal(err)
	}
	if counting.commits < 20 {
		t.Fatalf("only %d commits", counting.commits)
	}
	killed := errors.New("killed")
	for n := 1; n <= counting.commits; n++ {
		for _, applied := range []bool{false, true} {
			store := memory.New()
			target := &fragile{Backend: store, failAt: n, applied: applied, err: killed}
			if _, err := migrate.Copy(t.Context(), config(source, target)); !errors.Is(err, killed) {
				t.Fatalf("commit %d: %v", n, err)
			}
			if n == counting.commits && applied {
				same(t, source, store) // it was the last one
				continue
			}
			expectHalf(t, source, store, n > 1 || applied)
			cfg := config(source, store)
			cfg.Resume = true
			if _, err := migrate.Copy(t.Context(), cfg); err != nil {
				t.Fatalf("commit %d, applied %t: resume: %v", n, applied, err)
			}
			same(t, source, store)
		}
	}
}

// expectHalf expects the target to be recognisable as half of a copy.
func expectHalf(t *testing.T, source, target backends.Backend, begun bool) {
	t.Helper()
	if _, err := target.Get(t.Context(), lastKey); !errors.Is(err, backends.ErrNotFound) {
		t.Fatalf("half of a copy has the last key: %v", err)
	}
	if !begun {
		return
	}
	if _, err := migrate.Copy(t.Context(), config(source, target)); !errors.Is(err, migrate.ErrUnfinished) {
		t.Fatalf("without resume: %v", err)
	}
	if _, err := migrate.Copy(t.Context(), config(target, memory.New())); !errors.Is(err, migrate.ErrHalfSource) {
		t.Fatalf("copying half of a copy: %v", err)
	}
}

// A commit with an unknown outcome is found to be applied, or is repeated.
func TestUnknownOutcome(t *testing.T) {
	source := newSource(t)
	for n := 1; n < 60; n++ {
		for _, applied := range []bool{false, true} {
			store := memory.New()
			target := &fragile{Backend: store, failAt: n, applied: applied, err: backends.ErrUnknownOutcome}
			if _, err := migrate.Copy(t.Context(), config(source, target)); err != nil {
				t.Fatalf("commit %d, applied %t: %v", n, applied, err)
			}
			same(t, source, store)
		}
	}
}

func write(t *testing.T, b backends.Backend, key string) {
	t.Helper()
	r, _ := b.Get(t.Context(), key)
	batch := backends.Batch{Changes: []backends.Change{backends.Put(key, r.Revision, []byte("other"))}}
	if _, err := b.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

func TestRefused(t *testing.T) {
	logged := memory.New()
	if _, err := logged.Commit(t.Context(), backends.Batch{Entries: [][]byte{[]byte("x")}}); err != nil {
		t.Fatal(err)
	}
	recorded := memory.New()
	write(t, recorded, "a")
	source := newSource(t)
	for name, c := range map[string]struct {
		from, to backends.Backend
		want     error
	}{
		"target with a record":    {source, recorded, migrate.ErrNotEmpty},
		"target with a log entry": {source, logged, migrate.ErrNotEmpty},
		"target with a vault":     {source, newSource(t), migrate.ErrNotEmpty},
		"into itself":             {source, source, migrate.ErrNotEmpty},
		"empty source":            {memory.New(), memory.New(), migrate.ErrNoSource},
		"broken log":              {&forged{source}, memory.New(), migrate.ErrBroken},
	} {
		t.Run(name, func(t *testing.T) {
			for _, resume := range []bool{false, true} {
				cfg := config(c.from, c.to)
				cfg.Resume = resume
				_, err := migrate.Copy(t.Context(), cfg)
				if !errors.Is(err, c.want) {
					t.Errorf("resume %t: got %v, want %v", resume, err, c.want)
				}
				if c.want == migrate.ErrBroken {
					break // its target is half of a copy now
				}
			}
		})
	}
}

// forged alters an entry of the log.
type forged struct{ backends.Backend }

func (f *forged) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	page, err := f.Backend.Log(ctx, after, limit)
	for _, e := range page {
		if e.Seq == 100 {
			e.Body[0] ^= 1
		}
	}
	return page, err
}

// meddling calls something once, at the nth commit.
type meddling struct {
	backends.Backend
	left   int
	meddle func()
}

func (m *meddling) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	if m.left--; m.left == 0 {
		m.meddle()
	}
	return m.Backend.Commit(ctx, b)
}

func TestMeddling(t *testing.T) {
	for name, c := range map[string]struct {
		meddle func(t *testing.T, source, target backends.Backend)
		want   error
	}{
		"source changed":        {func(t *testing.T, s, _ backends.Backend) { write(t, s, "a/new") }, migrate.ErrChanged},
		"target has one more":   {func(t *testing.T, _, d backends.Backend) { write(t, d, "0 before all") }, migrate.ErrDiffers},
		"target has it already": {func(t *testing.T, _, d backends.Backend) { write(t, d, "zz/largest") }, backends.ErrConflict},
		"another copy": {func(t *testing.T, s, d backends.Backend) {
			cfg := config(s, d)
			cfg.Resume = true
			if _, err := migrate.Copy(t.Context(), cfg); err != nil {
				t.Error(err)
			}
		}, backends.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			source, target := newSource(t), memory.New()
			m := &meddling{Backend: target, left: 25, meddle: func() { c.meddle(t, source, target) }}
			if _, err := migrate.Copy(t.Context(), config(source, m)); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if name == "source changed" {
				cfg := config(source, target)
				cfg.Resume = true
				if _, err := migrate.Copy(t.Context(), cfg); !errors.Is(err, c.want) {
					t.Errorf("resume: %v", err)
				}
			}
		})
	}
}

// A target that does not keep what it was given is found out.
func TestLossyTarget(t *testing.T) {
	target := memory.New()
	source := newSource(t)
	cfg := config(source, &lossy{target})
	if _, err := migrate.Copy(t.Context(), cfg); !errors.Is(err, migrate.ErrDiffers) {
		t.Errorf("got %v", err)
	}
	if _, err := target.Get(t.Context(), lastKey); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("it was finished all the same: %v", err)
	}
}

// lossy alters one value.
type lossy struct{ backends.Backend }

func (l *lossy) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	for i, c := range b.Changes {
		if c.Key == "zz/largest" {
			b.Changes[i].Value = append(bytes.Clone(c.Value[:len(c.Value)-1]), c.Value[len(c.Value)-1]^1)
		}
	}
	return l.Backend.Commit(ctx, b)
}
