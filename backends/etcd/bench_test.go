package etcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

var benchValue = make([]byte, 512)

func benchKey(i int64) string { return fmt.Sprintf("k/%08d", i) }

// BenchmarkAt measures each operation with more and more records, beside etcd's own
// client doing the same requests.
func BenchmarkAt(b *testing.B) {
	for _, n := range []int64{1000, 10_000, 100_000} {
		c := testserver.StartEtcd(b, testserver.EtcdConfig{Nodes: 1, Sync: true})
		s := open(b, c.URL())
		fill(b, s, n)
		raw := c.Client(b)
		var next atomic.Int64
		next.Store(n)
		b.Run(fmt.Sprintf("Get/%d", n), func(b *testing.B) {
			benchEach(b, func() error { _, err := s.Get(b.Context(), benchKey(rand.Int64N(n))); return err })
		})
		b.Run(fmt.Sprintf("Get-raw/%d", n), func(b *testing.B) {
			benchEach(b, func() error {
				_, err := raw.Get(b.Context(), s.layout.record(benchKey(rand.Int64N(n))))
				return err
			})
		})
		b.Run(fmt.Sprintf("List50/%d", n), func(b *testing.B) {
			benchEach(b, func() error {
				_, err := s.List(b.Context(), "k/", benchKey(rand.Int64N(n-50)), 50)
				return err
			})
		})
		b.Run(fmt.Sprintf("First50/%d", n), func(b *testing.B) {
			benchEach(b, func() error { _, err := s.List(b.Context(), "k/", "", 50); return err })
		})
		b.Run(fmt.Sprintf("List50-raw/%d", n), func(b *testing.B) {
			benchEach(b, func() error {
				_, err := raw.Get(b.Context(), s.layout.record(benchKey(rand.Int64N(n-50))), clientv3.WithRange(s.layout.record("k0")), clientv3.WithLimit(50))
				return err
			})
		})
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("Commit%d/%d", writers, n), func(b *testing.B) { benchCommit(b, s, writers, &next) })
			b.Run(fmt.Sprintf("Commit%d-raw/%d", writers, n), func(b *testing.B) { benchRawCommit(b, raw, writers) })
		}
		b.Run(fmt.Sprintf("Open/%d", n), func(b *testing.B) {
			url := fmt.Sprintf("etcd://%s%s", c.Hosts()[0], s.layout)
			benchEach(b, func() error {
				again, err := Open(b.Context(), url, nil)
				if err == nil {
					err = again.Close()
				}
				return err
			})
		})
	}
}

func benchEach(b *testing.B, call func() error) {
	b.ReportAllocs()
	for b.Loop() {
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
}

// fill puts n records.
func fill(b *testing.B, s *Backend, n int64) {
	b.Helper()
	for i := int64(0); i < n; {
		var batch backends.Batch
		for ; i < n && len(batch.Changes) < backends.MaxChanges; i++ {
			batch.Changes = append(batch.Changes, backends.Put(benchKey(i), 0, benchValue))
		}
		if _, err := s.Commit(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
}

// benchCommit commits b.N new records with one log entry each from some writers at
// once.
func benchCommit(b *testing.B, s *Backend, writers int, next *atomic.Int64) {
	b.ReportAllocs()
	spread(b, writers, func() error {
		_, err := s.Commit(context.Background(), backends.Batch{
			Changes: []backends.Change{backends.Put(benchKey(next.Add(1)), 0, benchValue)}, Entries: [][]byte{benchValue[:200]},
		})
		return err
	})
}

// spread calls do b.N times in all from so many goroutines.
func spread(b *testing.B, writers int, do func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// benchRawCommit puts b.N records, entries and heads with etcd's client: one at a
// time, or as many in each transaction as the writers could have grouped.
func benchRawCommit(b *testing.B, raw *clientv3.Client, writers int) {
	b.ReportAllocs()
	group := min(writers, (maxOps-1)/2)
	for i := 0; i < b.N; i += group {
		compares := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision("/raw/none"), "=", 0)}
		puts := []clientv3.Op{clientv3.OpPut("/raw/head", string(benchValue[:100])), clientv3.OpGet("/raw/turn")}
		for k := range min(group, b.N-i) {
			key := fmt.Sprintf("/raw/%d/%d", rand.Int64(), k)
			compares = append(compares, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
			puts = append(puts, clientv3.OpPut(key, string(benchValue)), clientv3.OpPut(key+"/entry", string(benchValue[:264])))
		}
		resp, err := raw.Txn(b.Context()).If(compares...).Then(puts...).Commit()
		if err != nil || !resp.Succeeded {
			b.Fatal(err)
		}
	}
}
