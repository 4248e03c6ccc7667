package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/api/rest"
	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// inProcess calls do with a vault that no sidecar serves, and with the caller that
// reads.
func (b *bench) inProcess(ctx context.Context, do func(*store, *vault.Vault, *bbolt.Backend, vault.Caller) error) error {
	n := b.size.cold * (b.size.rounds + 1)
	v, err := b.stock(ctx, n, n)
	if err != nil {
		return err
	}
	return v.open(ctx, func(opened *vault.Vault, backend *bbolt.Backend) error {
		reader, err := opened.Authenticate(ctx, secret.New(v.reader))
		if err != nil {
			return err
		}
		return do(v, opened, backend, reader)
	})
}

// resolveCold compares first reads, of the vault itself, with age decrypting the
// same files.
func (b *bench) resolveCold(ctx context.Context) ([]figure, error) {
	f := figure{
		work: fmt.Sprintf("resolve, not cached, %d bytes", valueBytes), reference: "one age decryption of the same file",
		unit: "µs", measure: ratio(), goal: 1.3,
	}
	err := b.inProcess(ctx, func(v *store, opened *vault.Vault, backend *bbolt.Backend, reader vault.Caller) error {
		identity, err := v.identity(ctx, backend)
		if err != nil {
			return err
		}
		files, err := recordFiles(ctx, backend, len(v.names))
		if err != nil {
			return err
		}
		for round := range b.size.rounds + 1 {
			from := round * b.size.cold
			ours, err := each(v.names[from:from+b.size.cold], func(name string) error {
				_, err := opened.Resolve(ctx, reader, v.slot(name), vault.ResolveOptions{})
				return err
			})
			if err != nil {
				return err
			}
			theirs, err := each(files[from:from+b.size.cold], func(file []byte) error { return decrypt(file, identity) })
			if err != nil {
				return err
			}
			if round > 0 { // the first warms both
				f.ours, f.theirs = append(f.ours, ours), append(f.theirs, theirs)
			}
		}
		return nil
	})
	return []figure{f}, err
}

// each returns how many microseconds do takes for an item.
func each[T any](items []T, do func(T) error) (float64, error) {
	start := time.Now()
	for _, item := range items {
		if err := do(item); err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds() * 1e6 / float64(len(items)), nil
}

func decrypt(file []byte, identity age.Identity) error {
	r, err := age.Decrypt(bytes.NewReader(file), identity)
	if err != nil {
		return err
	}
	_, err = io.ReadAll(r)
	return err
}

// identity is the key of the environment.
func (v *store) identity(ctx context.Context, backend backends.Backend) (age.Identity, error) {
	roots, err := v.roots()
	if err != nil {
		return nil, err
	}
	page, err := backend.List(ctx, "keyfile/"+environment+"/", "", 1)
	if err != nil || len(page) == 0 {
		return nil, errors.Join(errors.New("the vault has no key of "+environment), err)
	}
	r, err := age.Decrypt(bytes.NewReader(page[0].Value), roots...)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(r)
	if err != nil {
		return nil, errors.New("the key of " + environment + " is no identity file")
	}
	return ids[0], nil
}

// recordFiles are the age files of n credentials.
func recordFiles(ctx context.Context, backend backends.Backend, n int) (files [][]byte, err error) {
	for after := ""; len(files) < n; {
		page, err := backend.List(ctx, "record/", after, backends.MaxPage)
		if err != nil || len(page) == 0 {
			return nil, errors.Join(fmt.Errorf("%d records, not %d", len(files), n), err)
		}
		for _, r := range page {
			files = append(files, r.Value)
		}
		after = page[len(page)-1].Key
	}
	return files, nil
}

// allocationRuns are the requests that one count of allocations is the mean of.
const allocationRuns = 2000

// allocations counts those of a warm resolve from the handler of the whole API to the
// end of its body, beside those of the bare Gin handler, on the same requests.
func (b *bench) allocations(ctx context.Context) ([]figure, error) {
	f := figure{work: "allocations of a warm resolve", reference: "bare Gin", unit: "allocations", measure: difference("allocations"), goal: 12}
	err := b.inProcess(ctx, func(v *store, opened *vault.Vault, _ *bbolt.Backend, _ vault.Caller) error {
		log := slog.New(slog.NewJSONHandler(io.Discard, nil))
		api := rest.New(rest.Config{Vault: opened, Registry: prometheus.NewRegistry(), Logger: log})
		requests, err := v.requests(ctx)
		if err != nil {
			return err
		}
		a := &answers{Bodies: map[string][]byte{}}
		for _, r := range requests {
			w := &sink{header: http.Header{}, body: new(bytes.Buffer)}
			if api.ServeHTTP(w, r); w.status != http.StatusOK {
				return fmt.Errorf("the handler answered with status %d to a resolve", w.status)
			}
			a.Bodies[r.URL.RawQuery], a.Header = w.body.Bytes(), w.header
		}
		bare := a.handler()
		for range b.size.rounds {
			f.ours = append(f.ours, allocationsOf(api, requests))
			f.theirs = append(f.theirs, allocationsOf(bare, requests))
		}
		return nil
	})
	return []figure{f}, err
}

// requests are those of some of the vault's credentials, as a server hands them to
// its handler.
func (v *store) requests(ctx context.Context) ([]*http.Request, error) {
	var list []*http.Request
	for _, name := range v.names[:min(len(v.names), 50)] {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path(name), nil)
		if err != nil {
			return nil, err
		}
		r.RequestURI, r.RemoteAddr, r.Body = path(name), "127.0.0.1:40000", http.NoBody
		r.Header.Set("Authorization", "Bearer "+v.reader)
		list = append(list, r)
	}
	return list, nil
}

func allocationsOf(h http.Handler, requests []*http.Request) float64 {
	w, i := &sink{header: http.Header{}}, 0
	return testing.AllocsPerRun(allocationRuns, func() {
		clear(w.header)
		h.ServeHTTP(w, requests[i%len(requests)])
		i++
	})
}

// sink is a response that allocates nothing of its own, unless it is to keep the body.
type sink struct {
	header http.Header
	status int
	body   *bytes.Buffer
}

func (s *sink) Header() http.Header    { return s.header }
func (s *sink) WriteHeader(status int) { s.status = status }
func (s *sink) Write(p []byte) (int, error) {
	if s.body != nil {
		return s.body.Write(p)
	}
	return len(p), nil
}
