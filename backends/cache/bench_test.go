package cache_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/backends/memory"
)

// BenchmarkGet reads records of 1 KiB: from a cache that has them, or has one that
// all ask for, or has room for none, and from the memory below.
func BenchmarkGet(b *testing.B) {
	const keys = 1000
	store := memory.New()
	for n := range keys {
		batch := backends.Batch{Changes: []backends.Change{backends.Put(modelKey(n), 0, make([]byte, 1024))}}
		if _, err := store.Commit(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	warm, cold := cache.New(store, cache.Options{}), cache.New(store, cache.Options{MaxBytes: 1})
	defer warm.Close()
	defer cold.Close()
	for _, readers := range []int{1, 16, 64} {
		for _, c := range []struct {
			name string
			from backends.Backend
			keys int64
		}{{"hit", warm, keys}, {"hot", warm, 1}, {"miss", cold, keys}, {"memory", store, keys}} {
			b.Run(fmt.Sprintf("%s/%d", c.name, readers), func(b *testing.B) { benchGet(b, c.from, readers, c.keys) })
		}
	}
	b.Run("none", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := warm.Get(b.Context(), "none"); !errors.Is(err, backends.ErrNotFound) {
				b.Fatal(err)
			}
		}
	})
}

func benchGet(b *testing.B, from backends.Backend, readers int, keys int64) {
	b.ReportAllocs()
	names := make([]string, keys)
	for n := range names {
		names[n] = modelKey(n)
	}
	ctx := b.Context()
	var seed atomic.Int64
	b.SetParallelism(max(1, readers/runtime.GOMAXPROCS(0)))
	if readers == 1 {
		for n := range b.N {
			if _, err := from.Get(ctx, names[int64(n)%keys]); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.RunParallel(func(p *testing.PB) {
		for n := seed.Add(7919); p.Next(); n++ {
			if _, err := from.Get(ctx, names[n%keys]); err != nil {
				b.Error(err)
			}
		}
	})
}
