package main

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

func newProgram(t *testing.T) (program string) {
	t.Helper()
	program, err := build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// A padded vault lists as many credentials as it is said to hold, under names of
// their own, and those that are read can be.
func TestStockIsWhatItSays(t *testing.T) {
	const n, hot = 130, 10
	v, err := newStock(t.Context(), t.TempDir(), newProgram(t), n, hot)
	if err != nil {
		t.Fatal(err)
	}
	err = v.open(t.Context(), func(opened *vault.Vault, _ *bbolt.Backend) error {
		reader, err := opened.Authenticate(t.Context(), secret.New(v.reader))
		if err != nil {
			return err
		}
		list, _, err := opened.List(t.Context(), reader, vault.Filter{}, "", 500)
		if err != nil {
			return err
		}
		ids := map[vault.ID]bool{}
		for i, c := range list {
			ids[c.ID] = true
			if c.Slot.Name != name(i) {
				t.Errorf("credential %d is named %s", i, c.Slot.Name)
			}
		}
		if len(list) != n || len(ids) != n || len(v.names) != hot {
			t.Errorf("%d credentials with %d IDs, %d of them to be read; want %d and %d", len(list), len(ids), len(v.names), n, hot)
		}
		for _, name := range v.names {
			if _, err := opened.Resolve(t.Context(), reader, v.slot(name), vault.ResolveOptions{}); err != nil {
				t.Errorf("resolve %s: %v", name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The reference sends what the sidecar sent, head and body.
func TestReferenceSendsTheSame(t *testing.T) {
	v, err := newStock(t.Context(), t.TempDir(), newProgram(t), 3, 3)
	if err != nil {
		t.Fatal(err)
	}
	s, err := v.serve(t.Context(), v.program)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	a, err := record(t.Context(), s, v)
	if err != nil {
		t.Fatal(err)
	}
	r, err := startReference(t.Context(), t.TempDir(), a)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, name := range v.names {
		resp, err := http.Get("http://" + r.address + path(name))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := a.Bodies[query(name)]; err != nil || len(want) == 0 || !bytes.Equal(body, want) {
			t.Errorf("the body for %s is not the sidecar's (%d bytes, %v)", name, len(body), err)
		}
		resp.Header.Del("Date")
		resp.Header.Del("Content-Length")
		if diff := cmp.Diff(a.Header, resp.Header); diff != "" {
			t.Errorf("header: %s", diff)
		}
	}
}
