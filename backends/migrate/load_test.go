package migrate_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/backends/migrate"
)

var errKilled = errors.New("killed")

// loading is a load of what the source holds, which breaks off after so many records
// and entries; 0: it does not.
func loading(t *testing.T, from, to backends.Backend, breakOff int) migrate.LoadConfig {
	t.Helper()
	head, err := from.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg := migrate.LoadConfig{To: to, LastKey: lastKey, NotesKey: notesKey, Name: "a backup", Head: head}
	records := all(t, from)
	for _, r := range records {
		cfg.Records++
		h := sha256.Sum256(append([]byte(r.Key+"\x00"), r.Value...))
		for i, x := range h {
			cfg.Digest[i] ^= x
		}
	}
	cfg.Each = func(ctx context.Context, record func(backends.Record) error, entry func(backends.Entry) error) error {
		n := 0
		alive := func() error {
			if n++; n == breakOff {
				return errKilled
			}
			return nil
		}
		for _, r := range records {
			if err := errors.Join(alive(), record(r)); err != nil {
				return err
			}
		}
		for seq := uint64(0); seq < head.Seq; seq += 100 {
			page, err := from.Log(ctx, seq, 100)
			if err != nil {
				return err
			}
			for _, e := range page {
				if err := errors.Join(alive(), entry(e)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return cfg
}

func TestLoad(t *testing.T) {
	t.Parallel()
	from := newSource(t)
	head, err := from.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	total := len(all(t, from)) + int(head.Seq)
	to := newFile(t)
	for at := total / 7; at < total; at += total / 7 {
		if _, err := migrate.Load(t.Context(), loading(t, from, to, at)); !errors.Is(err, errKilled) {
			t.Fatalf("broken off at %d of %d: %v", at, total, err)
		}
		if _, err := to.Get(t.Context(), lastKey); !errors.Is(err, backends.ErrNotFound) {
			t.Fatalf("half of a load is taken for the whole: %v", err)
		}
		other := loading(t, from, to, 0)
		other.Name = "another backup"
		if _, err := migrate.Load(t.Context(), other); !errors.Is(err, migrate.ErrUnfinished) {
			t.Fatalf("another one goes on with it: %v", err)
		}
		resumed := config(memory.New(), to)
		resumed.From, resumed.Resume = from, true
		if _, err := migrate.Copy(t.Context(), resumed); !errors.Is(err, migrate.ErrUnfinished) {
			t.Fatalf("a copy goes on with it: %v", err)
		}
	}
	if _, err := migrate.Load(t.Context(), loading(t, from, to, 0)); err != nil {
		t.Fatal(err)
	}
	same(t, from, to)
	if _, err := to.Get(t.Context(), notesKey); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("the notes are left: %v", err)
	}
	if _, err := migrate.Load(t.Context(), loading(t, from, to, 0)); !errors.Is(err, migrate.ErrNotEmpty) {
		t.Errorf("a second load: %v", err)
	}
}

// What was not stored as it was read is found before the target is whole.
func TestLoadReadsBack(t *testing.T) {
	t.Parallel()
	from, to := newSource(t), newFile(t)
	cfg := loading(t, from, to, 0)
	cfg.Digest[0] ^= 1
	if _, err := migrate.Load(t.Context(), cfg); !errors.Is(err, migrate.ErrDiffers) {
		t.Errorf("the error is %v", err)
	}
	if _, err := to.Get(t.Context(), lastKey); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("it is taken for whole: %v", err)
	}
}
