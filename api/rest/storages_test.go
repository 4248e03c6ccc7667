package rest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/backends/etcd"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/backends/postgres"
	"github.com/sidevault/sidevault/backends/testserver"
)

func TestMain(m *testing.M) { os.Exit(testserver.Run(m)) }

// storage opens an empty store that ends with the test, behind a cache as when it is
// served. One that several sidecars can share says how stale it is.
type storage func(testing.TB) (b backends.Backend, stale func() time.Duration)

// onEach runs a test over every engine.
func onEach(t *testing.T, test func(*testing.T, storage)) {
	t.Helper()
	for name, on := range map[string]storage{"memory": inMemory, "bbolt": inFile, "postgres": inPostgres, "etcd": inEtcd} {
		t.Run(name, func(t *testing.T) { test(t, on) })
	}
}

func inMemory(testing.TB) (backends.Backend, func() time.Duration) {
	return cache.New(memory.New(), cache.Options{Exclusive: true}), nil
}

func inFile(t testing.TB) (backends.Backend, func() time.Duration) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vault.db")
	if err := os.Chmod(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := bbolt.Create(path); err != nil {
		t.Fatal(err)
	}
	b, err := bbolt.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := cache.New(b, cache.Options{Exclusive: true})
	t.Cleanup(func() { c.Close() })
	return c, nil
}

func inPostgres(t testing.TB) (backends.Backend, func() time.Duration) {
	t.Helper()
	server := testserver.Postgres(t)
	b, err := postgres.Open(t.Context(), server.URL(server.NewDatabase(t), testserver.PostgresOwner), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cached(t, b)
}

func inEtcd(t testing.TB) (backends.Backend, func() time.Duration) {
	t.Helper()
	b, err := etcd.Open(t.Context(), testserver.SharedEtcd(t).URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cached(t, b)
}

func cached(t testing.TB, b backends.Backend) (backends.Backend, func() time.Duration) {
	t.Helper()
	c := cache.New(b, cache.Options{MaxStale: time.Minute})
	t.Cleanup(func() { c.Close() })
	return c, c.Stale
}
