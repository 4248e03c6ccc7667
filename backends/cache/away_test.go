package cache_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
)

const maxStale = 5 * time.Minute

// settle lets every attempt that is due be made.
func settle() {
	time.Sleep(8 * time.Second)
	synctest.Wait()
}

func TestAway(t *testing.T) {
	try(t, cache.Options{MaxStale: maxStale}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.reads("none", "", 1)
		settle()
		b.engine.goDown()
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		b.reads("a", "one", 0)
		b.reads("none", "", 0)
		b.refuses("never read")
		if s := b.Stale(); s < time.Second || s > 4*time.Second {
			b.Errorf("stale for %v", s)
		}
		if _, err := b.Get(backends.Fresh(b.Context()), "a"); !errors.Is(err, backends.ErrUnavailable) {
			b.Errorf("a fresh read: %v", err)
		}

		time.Sleep(maxStale - 4*time.Second)
		b.reads("a", "one", 0)
		time.Sleep(4 * time.Second)
		b.refuses("a")

		b.put("a", "two") // by one who reaches storage
		b.engine.comeBack()
		settle()
		if s := b.Stale(); s != 0 {
			b.Errorf("stale for %v, though storage is back", s)
		}
		b.reads("a", "two", 1)
		b.reads("a", "two", 0)
		b.commit(b.Cache, "a", "three")
		b.reads("a", "three", 1)
	})
}

// A short outage that only a read meets: the read is answered from memory at once.
func TestAwayMetByRead(t *testing.T) {
	try(t, cache.Options{MaxStale: maxStale}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.engine.set(func(e *engine) { e.down = true }) // the watch has not noticed
		if _, err := b.Get(b.Context(), "b"); !errors.Is(err, backends.ErrUnavailable) {
			b.Error(err)
		}
		synctest.Wait()
		if b.Stale() == 0 {
			b.Error("not stale")
		}
		b.reads("a", "one", 0)
		b.engine.comeBack()
		settle()
		b.reads("a", "one", 1)
	})
}

func TestMaxStaleOff(t *testing.T) {
	try(t, cache.Options{}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.engine.goDown()
		time.Sleep(time.Second)
		synctest.Wait()
		b.refuses("a")
	})
}

// Storage that does not answer is waited for once, and noticed without a reader.
func TestHung(t *testing.T) {
	try(t, cache.Options{MaxStale: maxStale, Timeout: 3 * time.Second}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.engine.set(func(e *engine) { e.hung = true })
		began := time.Now()
		if _, err := b.Get(b.Context(), "b"); !errors.Is(err, backends.ErrUnavailable) {
			b.Error(err)
		}
		if took := time.Since(began); took != 3*time.Second {
			b.Errorf("the first read took %v", took)
		}
		synctest.Wait()
		b.refuses("b")
		b.reads("a", "one", 0)

		b.engine.comeBack()
		settle()
		b.reads("a", "one", 1)
		b.engine.set(func(e *engine) { e.hung = true })
		settle()
		if b.Stale() < 4*time.Second {
			b.Errorf("nobody noticed: stale for %v", b.Stale())
		}
	})
}

// Without a watch storage answers, and what is known waits for a new one.
func TestBlind(t *testing.T) {
	try(t, cache.Options{MaxStale: maxStale}, func(b *bench) {
		b.put("a", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.engine.set(func(e *engine) { e.noWatch = true })
		b.engine.cutWatches()
		synctest.Wait()
		b.engine.set(func(e *engine) { e.noWatch = false })
		b.put("a", "two")
		b.reads("a", "two", 1)
		b.reads("a", "two", 1)
		if b.Stale() != 0 {
			b.Errorf("stale for %v", b.Stale())
		}
		settle()
		b.reads("a", "two", 1)
		b.reads("a", "two", 0)
	})
}

// What was read while blind can have changed unseen when events are missing.
func TestCompacted(t *testing.T) {
	try(t, cache.Options{MaxStale: maxStale}, func(b *bench) {
		b.put("a", "one")
		b.put("b", "one")
		synctest.Wait()
		b.reads("a", "one", 1)
		b.engine.set(func(e *engine) { e.compacted = true })
		b.engine.cutWatches()
		synctest.Wait()
		b.reads("b", "one", 1)
		b.put("b", "two")
		settle()
		b.engine.goDown()
		synctest.Wait()
		b.refuses("a")
		b.refuses("b")
	})
}

// TestNoStorm counts how often a lost engine is asked, for ten minutes.
func TestNoStorm(t *testing.T) {
	for name, lose := range map[string]func(*bench){
		"down":     func(b *bench) { b.engine.goDown() },
		"hung":     func(b *bench) { b.engine.set(func(e *engine) { e.hung = true }) },
		"no watch": func(b *bench) { b.engine.set(func(e *engine) { e.noWatch = true }); b.engine.cutWatches() },
	} {
		t.Run(name, func(t *testing.T) {
			var told []string
			o := cache.Options{OnError: func(err error) { told = append(told, fmt.Sprint(err != nil)) }}
			try(t, o, func(b *bench) {
				lose(b)
				before := b.engine.called("Head")
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				if n := b.engine.called("Head") - before; n < 60 || n > 300 {
					b.Errorf("asked %d times", n)
				}
				b.engine.set(func(e *engine) { e.noWatch = false })
				b.engine.comeBack()
				settle()
				b.reads("a", "", 1)
				b.reads("a", "", 0)
			})
			if !slices.Equal(told, []string{"true", "false"}) {
				t.Errorf("OnError was told of losses: %v", told)
			}
		})
	}
}
