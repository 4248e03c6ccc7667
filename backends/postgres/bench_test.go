package postgres

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

var benchValue = make([]byte, 512)

var benchSizes = []int{1000, 10_000, 100_000}

func benchKey(i int64) string { return fmt.Sprintf("k/%08d", i) }

// filled returns a vault of n records of 512 bytes, on a server that waits for its
// disk, and a pool of the same size that uses pgx by itself.
func filled(b *testing.B, s *testserver.PostgresServer, n int) (*Backend, *pgxpool.Pool) {
	b.Helper()
	at := s.URL(s.NewDatabase(b), testserver.PostgresOwner, "pool_max_conns=16")
	v := open(b, at, nil)
	c, err := v.pool.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Release()
	_, err = c.Conn().CopyFrom(b.Context(), pgx.Identifier{"sidevault", "records"}, []string{"key", "value", "revision"},
		pgx.CopyFromSlice(n, func(i int) ([]any, error) { return []any{benchKey(int64(i)), benchValue, int64(1)}, nil }))
	if err == nil {
		_, err = c.Exec(b.Context(), "UPDATE sidevault.head SET revision = 1")
	}
	if err != nil {
		b.Fatal(err)
	}
	s.Admin(b, "postgres", "CHECKPOINT")
	raw, err := pgxpool.New(b.Context(), at)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(raw.Close)
	return v, raw
}

// spread calls do b.N times in all, from several goroutines.
func spread(b *testing.B, callers int, do func(i int64) error) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
	if callers == 1 {
		for i := int64(1); b.Loop(); i++ {
			if err := do(i); err != nil {
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

// BenchmarkRead compares one Get, and pages of 50, with the same statement sent by
// pgx alone.
func BenchmarkRead(b *testing.B) {
	s := testserver.StartPostgres(b, testserver.PostgresConfig{})
	for _, n := range benchSizes {
		v, raw := filled(b, s, n)
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("Get/%d/%d", n, callers), func(b *testing.B) {
				spread(b, callers, func(i int64) error {
					_, err := v.Get(context.Background(), benchKey(i*7919%int64(n)))
					return err
				})
			})
			b.Run(fmt.Sprintf("pgx-Get/%d/%d", n, callers), func(b *testing.B) {
				spread(b, callers, func(i int64) error {
					var value []byte
					var at int64
					return raw.QueryRow(context.Background(), v.sql.get, benchKey(i*7919%int64(n))).Scan(&value, &at)
				})
			})
		}
		b.Run(fmt.Sprintf("List50/%d", n), func(b *testing.B) {
			spread(b, 1, func(i int64) error {
				page, err := v.List(context.Background(), "k/", benchKey(i*7919%int64(n-51)), 50)
				if err == nil && len(page) != 50 {
					err = fmt.Errorf("%d records", len(page))
				}
				return err
			})
		})
		b.Run(fmt.Sprintf("pgx-List50/%d", n), func(b *testing.B) {
			spread(b, 1, func(i int64) error { return rawList(raw, v.sql.list, benchKey(i*7919%int64(n-51))) })
		})
	}
}

func rawList(raw *pgxpool.Pool, sql, from string) error {
	rows, err := raw.Query(context.Background(), sql, from, 50, "k0")
	if err != nil {
		return err
	}
	var key string
	var value []byte
	var at int64
	_, err = pgx.ForEachRow(rows, []any{&key, &value, &at}, func() error { return nil })
	return err
}

// BenchmarkCommit compares commits of one new 512-byte record and one log entry,
// from one caller and from 64, with the same function called by pgx alone for each.
func BenchmarkCommit(b *testing.B) {
	s := testserver.StartPostgres(b, testserver.PostgresConfig{})
	for _, n := range benchSizes {
		v, raw := filled(b, s, n)
		next := int64(n)
		batch := func() backends.Batch {
			return backends.Batch{Changes: []backends.Change{backends.Put(benchKey(atomic.AddInt64(&next, 1)), 0, benchValue)}, Entries: [][]byte{benchValue}}
		}
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("backend/%d/%d", n, callers), func(b *testing.B) {
				spread(b, callers, func(int64) error {
					_, err := v.Commit(context.Background(), batch())
					return err
				})
			})
			b.Run(fmt.Sprintf("pgx/%d/%d", n, callers), func(b *testing.B) {
				spread(b, callers, func(int64) error {
					r := &request{batch: clone(batch())}
					rows, err := raw.Query(context.Background(), v.sql.commit, v.arguments([]*request{r})...)
					if err != nil {
						return err
					}
					return readOutcomes(rows, []*request{r})
				})
			})
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	s := testserver.StartPostgres(b, testserver.PostgresConfig{})
	for _, n := range benchSizes {
		v, _ := filled(b, s, n)
		at := v.pool.Config().ConnString()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				again, err := Open(b.Context(), at, nil)
				if err != nil {
					b.Fatal(err)
				}
				again.Close()
			}
		})
	}
}
