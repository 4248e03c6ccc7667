package bbolt

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
)

var benchValue = make([]byte, 512)

// BenchmarkCommit compares commits of one 512-byte record with bbolt by itself,
// on the same disk: one transaction for each, and the fewest transactions that as
// many callers at once need (each waits for its own before the next).
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprintf("backend/%d", writers), func(b *testing.B) { benchBackend(b, writers) })
		b.Run(fmt.Sprintf("bbolt-update/%d", writers), func(b *testing.B) { benchUpdate(b, writers) })
		b.Run(fmt.Sprintf("bbolt-grouped/%d", writers), func(b *testing.B) { benchGrouped(b, writers) })
	}
}

func benchBackend(b *testing.B, writers int) {
	s := open(b, newFile(b))
	spread(b, writers, func(i int64) error {
		_, err := s.Commit(context.Background(), backends.Batch{Changes: []backends.Change{backends.Put(benchKey(i), 0, benchValue)}})
		return err
	})
}

func benchUpdate(b *testing.B, writers int) {
	db := rawFile(b)
	spread(b, writers, func(i int64) error {
		return db.Update(func(tx *bolt.Tx) error {
			return tx.Bucket([]byte("records")).Put([]byte(benchKey(i)), benchValue)
		})
	})
}

func benchGrouped(b *testing.B, writers int) {
	db := rawFile(b)
	b.ReportAllocs()
	for n := 0; n < b.N; n += writers {
		err := db.Update(func(tx *bolt.Tx) error {
			for i := range min(writers, b.N-n) {
				if err := tx.Bucket([]byte("records")).Put([]byte(benchKey(int64(n+i))), benchValue); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// spread calls do b.N times in all, from several goroutines.
func spread(b *testing.B, writers int, do func(i int64) error) {
	b.ReportAllocs()
	b.SetParallelism(max(1, writers/runtime.GOMAXPROCS(0)))
	if writers == 1 {
		for i := range b.N {
			if err := do(int64(i)); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	var next atomic.Int64
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := do(next.Add(1)); err != nil {
				b.Error(err)
			}
		}
	})
}

func benchKey(i int64) string { return fmt.Sprintf("k/%08d", i) }

func rawFile(b *testing.B) *bolt.DB {
	b.Helper()
	db, err := bolt.Open(filepath.Join(b.TempDir(), "raw.db"), 0o600, &bolt.Options{NoStatistics: true})
	if err == nil {
		err = db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte("records"))
			return err
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db
}

// filledWith returns a vault of n records of 512 bytes.
func filledWith(b testing.TB, n int) string {
	b.Helper()
	path := newFile(b)
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		s, err := load(tx)
		for i := 0; i < n && err == nil; i++ {
			err = s.putRecord(benchKey(int64(i)), 1, benchValue)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

func BenchmarkRead(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		s := open(b, filledWith(b, n))
		b.Run(fmt.Sprintf("Get/%d", n), func(b *testing.B) { benchGet(b, s, n) })
		for _, limit := range []int{50, backends.MaxPage} {
			b.Run(fmt.Sprintf("List%d/%d", limit, n), func(b *testing.B) { benchList(b, s, n, limit) })
		}
		s.Close()
	}
}

func benchGet(b *testing.B, s *Backend, n int) {
	b.ReportAllocs()
	var next atomic.Int64
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			i := next.Add(7919) % int64(n)
			if _, err := s.Get(context.Background(), benchKey(i)); err != nil {
				b.Error(err)
			}
		}
	})
}

func benchList(b *testing.B, s *Backend, n, limit int) {
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		page, err := s.List(context.Background(), "k/", benchKey(int64(i*7919%(n-limit-1))), limit)
		if err != nil || len(page) != limit {
			b.Fatalf("%d records, %v", len(page), err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		path := filledWith(b, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				s, err := Open(path, nil)
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}

func TestOpenIsFast(t *testing.T) {
	path := filledWith(t, 100_000)
	best := time.Hour
	for range 3 {
		start := time.Now()
		s, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
		s.Close()
	}
	t.Logf("opened in %v", best)
	if best > 200*time.Millisecond {
		t.Errorf("opening 100,000 records took %v", best)
	}
}
