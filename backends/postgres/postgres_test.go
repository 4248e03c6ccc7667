package postgres

import (
	"fmt"
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/backendtest"
	"github.com/sidevault/sidevault/backends/testserver"
)

func TestContract(t *testing.T) {
	server := testserver.Postgres(t)
	database := server.NewDatabase(t)
	var schemas int
	address := func(t *testing.T) (backendtest.Open, string) {
		schemas++
		url := server.URL(database, testserver.PostgresOwner, fmt.Sprint("schema=s", schemas))
		return func() (backends.Backend, error) { return Open(t.Context(), url, nil) }, url
	}
	backendtest.Run(t, func(t *testing.T) backendtest.Open {
		open, _ := address(t)
		return open
	}, &backendtest.Options{
		Shared:  true,
		Address: address,
		Disconnect: func() {
			server.Admin(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+testserver.PostgresOwner+"'")
		},
	})
}

// newDatabase returns the URL of an empty database on the shared server, for a role
// that owns it and is no superuser.
func newDatabase(t testing.TB, parameters ...string) string {
	t.Helper()
	s := testserver.Postgres(t)
	return s.URL(s.NewDatabase(t), testserver.PostgresOwner, parameters...)
}

func open(t testing.TB, url string, o *Options) *Backend {
	t.Helper()
	b, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func put(key string, at backends.Revision, value string) backends.Batch {
	return backends.Batch{Changes: []backends.Change{backends.Put(key, at, []byte(value))}}
}

// checkChain verifies the whole log and returns its length.
func checkChain(t testing.TB, b backends.Backend) int {
	t.Helper()
	var last backends.Entry
	for {
		page, err := b.Log(t.Context(), last.Seq, backends.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if err := e.Follows(last.Seq, last.Hash); err != nil {
				t.Fatal(err)
			}
			last = e
		}
		if len(page) < backends.MaxPage {
			break
		}
	}
	h, err := b.Head(t.Context())
	if err != nil || h.Seq != last.Seq || h.Hash != last.Hash {
		t.Errorf("the head is %+v, %v; the log ends at %d", h, err, last.Seq)
	}
	return int(last.Seq)
}
