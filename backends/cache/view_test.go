package cache_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/backends/memory"
)

// made looks at a key and keeps what it makes of it, unless that was done before.
func made(t *testing.T, c *cache.Cache, key string) (text string, before bool) {
	t.Helper()
	v, err := c.View(t.Context(), key)
	if errors.Is(err, backends.ErrNotFound) {
		return "", false
	}
	if err != nil {
		t.Fatal(err)
	}
	if text, before = v.Made.(string); before {
		return text, true
	}
	text = strings.ToUpper(string(v.Record.Value))
	v.Keeper.Keep(text, len(text))
	return text, false
}

func wantMade(t *testing.T, c *cache.Cache, key, want string, wantBefore bool) {
	t.Helper()
	if text, before := made(t, c, key); text != want || before != wantBefore {
		t.Errorf("%s: %q, made before: %v; want %q, %v", key, text, before, want, wantBefore)
	}
}

func TestMadeOnce(t *testing.T) {
	try(t, cache.Options{MaxStale: time.Minute}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		wantMade(b.T, b.Cache, "a", "ONE", false)
		wantMade(b.T, b.Cache, "a", "ONE", true)
		b.put("a", "two")
		synctest.Wait()
		wantMade(b.T, b.Cache, "a", "TWO", false)
		wantMade(b.T, b.Cache, "a", "TWO", true)
		b.reads("a", "two", 1) // the bytes were not kept
		b.commit(b.Cache, "a", "three")
		wantMade(b.T, b.Cache, "a", "THREE", false)

		v, _ := b.View(b.Context(), "a")
		b.commit(b.Cache, "a", "four")
		wantMade(b.T, b.Cache, "a", "FOUR", false)
		v.Keeper.Keep("LATE", 4)
		wantMade(b.T, b.Cache, "a", "FOUR", true)

		fresh, err := b.View(backends.Fresh(b.Context()), "a")
		if err != nil || fresh.Made != nil || string(fresh.Record.Value) != "four" {
			b.Errorf("fresh: %+v, %v", fresh, err)
		}
		fresh.Keeper.Keep("FRESH", 5)
		wantMade(b.T, b.Cache, "a", "FOUR", true)
		b.engine.goDown()
		synctest.Wait()
		wantMade(b.T, b.Cache, "a", "FOUR", true)
		if _, err := b.Get(b.Context(), "a"); !errors.Is(err, backends.ErrUnavailable) {
			b.Errorf("the bytes, which were not kept: %v", err)
		}
		b.engine.comeBack()
	})
}

// Of storage that is this cache's alone, what is looked at is kept from the first
// moment, and every commit is seen by all that follows it.
func TestExclusive(t *testing.T) {
	c := cache.New(memory.New(), cache.Options{Exclusive: true})
	defer c.Close()
	at := backends.Revision(0)
	commit := func(change backends.Change) {
		t.Helper()
		rev, err := c.Commit(t.Context(), backends.Batch{Changes: []backends.Change{change}})
		if err != nil {
			t.Fatal(err)
		}
		at = rev
	}
	wantMade(t, c, "a", "", false)
	for _, value := range []string{"one", "two", "three"} {
		commit(backends.Put("a", at, []byte(value)))
		wantMade(t, c, "a", strings.ToUpper(value), false)
		wantMade(t, c, "a", strings.ToUpper(value), true)
		if r, err := c.Get(t.Context(), "a"); err != nil || string(r.Value) != value {
			t.Errorf("Get = %q, %v", r.Value, err)
		}
		if v, err := c.View(backends.Fresh(t.Context()), "a"); err != nil || v.Made == nil {
			t.Errorf("what is fresh is made anew: %v", err)
		}
	}
	commit(backends.Delete("a", at))
	wantMade(t, c, "a", "", false)
}

// Whoever looks while a key changes never goes back to an older state, and whoever
// waits for an event finds the key as the event left it.
func TestExclusiveNeverGoesBack(t *testing.T) {
	const changes = 300
	c := cache.New(memory.New(), cache.Options{Exclusive: true})
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := c.Watch(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	look := func() backends.Revision {
		v, err := c.View(ctx, "a")
		if err == nil && v.Made == nil {
			v.Keeper.Keep("made", 4)
		}
		return v.Record.Revision
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for last := backends.Revision(0); last < changes; {
				now := look()
				if now < last {
					t.Errorf("revision %d after %d", now, last)
					return
				}
				last = now
			}
		})
	}
	wg.Go(func() {
		for e := range events {
			if now := look(); now < e.Revision {
				t.Errorf("revision %d after the event of %d", now, e.Revision)
			}
			if e.Revision == changes {
				return
			}
		}
	})
	for at := range backends.Revision(changes) {
		if _, err := c.Commit(ctx, backends.Batch{Changes: []backends.Change{backends.Put("a", at, []byte("x"))}}); err != nil {
			t.Fatal(err)
		}
		if now := look(); now != at+1 {
			t.Fatalf("revision %d after the commit of %d", now, at+1)
		}
	}
	wg.Wait()
}
