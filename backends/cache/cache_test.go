package cache_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
)

func TestHits(t *testing.T) {
	try(t, cache.Options{}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.reads("a", "one", 0)
		b.reads("none", "", 1)
		b.reads("none", "", 0)

		r, _ := b.Get(b.Context(), "a")
		r.Value[0] = 'x'
		b.reads("a", "one", 0)
	})
}

func TestOthersCommits(t *testing.T) {
	try(t, cache.Options{}, func(b *bench) {
		b.reads("a", "", 1)
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.put("a", "two")
		synctest.Wait()
		b.reads("a", "two", 1)
		b.reads("a", "two", 0)
	})
}

// What was committed through the cache is read through it, also while the events
// are late, and whatever became of the commit.
func TestOwnCommits(t *testing.T) {
	try(t, cache.Options{}, func(b *bench) {
		b.engine.muteEvents()
		b.reads("a", "", 1)
		b.commit(b.Cache, "a", "one")
		b.reads("a", "one", 1)
		b.reads("a", "one", 0)

		b.put("a", "two")
		b.reads("a", "one", 0) // nobody said so yet
		stale, _ := b.Get(b.Context(), "a")
		batch := backends.Batch{Changes: []backends.Change{backends.Check("a", stale.Revision), backends.Put("b", 0, nil)}}
		if _, err := b.Commit(b.Context(), batch); !errors.Is(err, backends.ErrConflict) {
			b.Errorf("Commit: %v", err)
		}
		b.reads("a", "two", 1)

		b.engine.set(func(e *engine) { e.commitErr = backends.ErrUnknownOutcome })
		r, _ := b.Get(b.Context(), "a")
		_, err := b.Commit(b.Context(), backends.Batch{Changes: []backends.Change{backends.Delete("a", r.Revision)}})
		if !errors.Is(err, backends.ErrUnknownOutcome) {
			b.Errorf("Commit: %v", err)
		}
		b.reads("a", "", 1)
		b.engine.unmuteEvents()
	})
}

// A commit that storage refused for want of space changes nothing, and is no outage.
func TestRefusedCommit(t *testing.T) {
	try(t, cache.Options{}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		full := &fullEngine{b.engine}
		c := cache.New(full, cache.Options{})
		synctest.Wait()
		if _, err := c.Commit(b.Context(), backends.Batch{Entries: [][]byte{[]byte("x")}}); !errors.Is(err, backends.ErrUnavailable) {
			b.Error(err)
		}
		synctest.Wait()
		if _, err := c.Head(b.Context()); err != nil || c.Stale() != 0 {
			b.Errorf("Head: %v, stale for %v", err, c.Stale())
		}
		c.Close()
	})
}

type fullEngine struct{ *engine }

func (fullEngine) Commit(context.Context, backends.Batch) (backends.Revision, error) {
	return 0, backends.ErrUnavailable
}

// hold stops the next Get of the engine after it has read, and returns what lets it
// go on.
func (b *bench) hold() (release func()) {
	held := make(chan struct{})
	var met atomic.Bool
	b.engine.set(func(e *engine) {
		e.read = func(string) {
			if met.CompareAndSwap(false, true) {
				<-held
			}
		}
	})
	return func() { close(held) }
}

// A read that a change overtakes gives nobody the old value, and leaves none behind.
func TestOvertakenRead(t *testing.T) {
	for name, change := range map[string]func(*bench){
		"by others":      func(b *bench) { b.put("a", "new") },
		"by this one":    func(b *bench) { b.commit(b.Cache, "a", "new") },
		"seen by a list": func(b *bench) { b.engine.muteEvents(); b.put("a", "new"); b.List(b.Context(), "", "", 10) },
		"seen by a fresh read": func(b *bench) {
			b.engine.muteEvents()
			b.put("a", "new")
			b.Get(backends.Fresh(b.Context()), "a")
		},
	} {
		t.Run(name, func(t *testing.T) {
			try(t, cache.Options{}, func(b *bench) {
				b.put("a", "old")
				synctest.Wait()
				release := b.hold()
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						if r, err := b.Get(b.Context(), "a"); err != nil || string(r.Value) != "new" {
							b.Errorf("Get = %q, %v", r.Value, err)
						}
					})
				}
				synctest.Wait()
				if n := b.engine.called("Get"); n != 1 {
					b.Errorf("three readers asked %d times", n)
				}
				change(b)
				synctest.Wait()
				release()
				wg.Wait()
				b.reads("a", "new", 0)
			})
		})
	}
}

// A reader that gives up does not take the others with it.
func TestReaderGivesUp(t *testing.T) {
	try(t, cache.Options{}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.engine.set(func(e *engine) { e.hung = true })
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := b.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
				b.Errorf("the first reader: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if r, err := b.Get(b.Context(), "a"); err != nil || string(r.Value) != "one" {
				b.Errorf("the second reader: %q, %v", r.Value, err)
			}
		})
		synctest.Wait()
		b.engine.comeBack()
		cancel()
		wg.Wait()
	})
}

func TestFresh(t *testing.T) {
	try(t, cache.Options{}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.reads("none", "", 1)
		b.engine.muteEvents()
		b.put("a", "two")
		b.put("none", "some")
		b.reads("a", "one", 0)
		for key, value := range map[string]string{"a": "two", "none": "some"} {
			r, err := b.Get(backends.Fresh(b.Context()), key)
			if err != nil || string(r.Value) != value {
				b.Errorf("fresh: %q, %v", r.Value, err)
			}
			b.reads(key, value, 1)
			b.reads(key, value, 0)
		}
		b.engine.unmuteEvents()
	})
}

// Whoever is told of a change finds it, though the cache's own watch lags behind.
func TestWatchersFindWhatTheyAreTold(t *testing.T) {
	try(t, cache.Options{}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.engine.muteEvents()
		head, err := b.Head(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		rev := b.put("a", "two")
		synctest.Wait() // the cache's own watch has met the mute
		b.engine.set(func(e *engine) { e.mute = false })
		events, err := b.Watch(b.Context(), head.Revision)
		if err != nil {
			b.Fatal(err)
		}
		if e := <-events; e.Revision != rev {
			b.Errorf("got event %d, want %d", e.Revision, rev)
		}
		b.reads("a", "two", 1)
	})
}
