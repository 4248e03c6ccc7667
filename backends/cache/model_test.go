package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
)

const (
	modelKeys    = 6
	modelSteps   = 4000
	modelReaders = 4
)

func modelKey(n int) string { return fmt.Sprintf("key/%d", n) }

// TestModel has two write, one of them through the cache, while others read through
// it and the watch is cut again and again. Values only grow, so a reader that gets a
// smaller one than before, or a writer one than it wrote, was given something old.
func TestModel(t *testing.T) {
	for name, bytes := range map[string]int{"roomy": 0, "too full": 1200} {
		t.Run(name, func(t *testing.T) { runModel(t, bytes) })
	}
}

func runModel(t *testing.T, bytes int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	e := newEngine()
	c := cache.New(e, cache.Options{MaxBytes: bytes})
	defer c.Close()
	done := make(chan struct{})
	var readers, writers sync.WaitGroup
	for n := range modelReaders {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		readers.Go(func() { readModel(t, c, random, done) })
	}
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(3 * time.Millisecond):
				e.cutWatches()
			}
		}
	})
	var next atomic.Int64
	for n, b := range []backends.Backend{c, e.others, c} {
		random := rand.New(rand.NewPCG(seed, uint64(100+n)))
		writers.Go(func() { writeModel(t, b, random, &next) })
	}
	writers.Wait()
	close(done)
	readers.Wait()
	compareModel(t, c, e.others)
}

// writeModel increments counters, as one who reads, changes and writes. Each read
// must find at least what this writer wrote before.
func writeModel(t *testing.T, b backends.Backend, random *rand.Rand, next *atomic.Int64) {
	wrote := map[string]int{}
	for next.Add(1) < modelSteps {
		key := modelKey(random.IntN(modelKeys))
		n, at := readCounter(t, b, key)
		if n < wrote[key] {
			t.Errorf("%s is %d, and was %d when it was written before", key, n, wrote[key])
			return
		}
		batch := backends.Batch{Changes: []backends.Change{backends.Put(key, at, []byte(strconv.Itoa(n+1)))}}
		switch _, err := b.Commit(t.Context(), batch); {
		case err == nil:
			wrote[key] = n + 1
		case !errors.Is(err, backends.ErrConflict):
			t.Errorf("Commit: %v", err)
			return
		}
		if random.IntN(50) == 0 {
			b.List(t.Context(), "", "", 10)
		}
	}
}

func readModel(t *testing.T, c *cache.Cache, random *rand.Rand, done <-chan struct{}) {
	read := map[string]int{}
	for {
		select {
		case <-done:
			return
		default:
		}
		key := modelKey(random.IntN(modelKeys))
		n, _ := readCounter(t, c, key)
		if n < read[key] {
			t.Errorf("%s is %d after it was %d", key, n, read[key])
			return
		}
		read[key] = n
		if random.IntN(20) == 0 {
			ctx, cancel := context.WithCancel(t.Context())
			go cancel() // some readers give up
			c.Get(ctx, key)
		}
	}
}

func readCounter(t *testing.T, b backends.Backend, key string) (int, backends.Revision) {
	r, err := b.Get(t.Context(), key)
	if errors.Is(err, backends.ErrNotFound) {
		return 0, 0
	}
	n, parseErr := strconv.Atoi(string(r.Value))
	if err := errors.Join(err, parseErr); err != nil {
		t.Errorf("Get: %v", err)
	}
	return n, r.Revision
}

// compareModel waits until the cache has what storage has.
func compareModel(t *testing.T, c *cache.Cache, b backends.Backend) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for n := range modelKeys {
		for {
			got, at := readCounter(t, c, modelKey(n))
			want, rev := readCounter(t, b, modelKey(n))
			if got == want && at == rev && want > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is %d in the cache and %d in storage", modelKey(n), got, want)
			}
			time.Sleep(time.Millisecond)
		}
	}
}
