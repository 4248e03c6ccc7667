package bbolt

import (
	"os"
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/backendtest"
)

func TestContract(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backendtest.Open {
		path := newFile(t)
		t.Cleanup(func() { checkPages(t, path) })
		return func() (backends.Backend, error) { return Open(path, nil) }
	}, nil)
}

// newFile creates an empty vault in a directory of its own.
func newFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(newDir(t), "vault.db")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func newDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t testing.TB, path string) *Backend {
	t.Helper()
	b, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// checkPages runs bbolt's own check of the file.
func checkPages(t testing.TB, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("check: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func put(key string, at backends.Revision, value string) backends.Batch {
	return backends.Batch{Changes: []backends.Change{backends.Put(key, at, []byte(value))}}
}
