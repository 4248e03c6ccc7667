package vault_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// benchSizes are the numbers of credentials that the benchmarks run with.
var benchSizes = []int{10, 100_000}

// stored is a vault in a bbolt file with a number of credentials in it.
type stored struct {
	config vault.Config
	vault  *vault.Vault
	key    secret.Value
	admin  vault.Caller
	slots  []vault.Slot
}

func newStored(b *testing.B, n int) *stored {
	b.Helper()
	ctx := context.Background()
	dir := b.TempDir()
	must(b, os.Chmod(dir, 0o700))
	path := filepath.Join(dir, "vault.db")
	must(b, bbolt.Create(path))
	file, err := bbolt.Open(path, nil)
	must(b, err)
	backend := cache.New(file, cache.Options{Exclusive: true})
	b.Cleanup(func() { backend.Close() })
	root, err := age.GenerateX25519Identity()
	must(b, err)
	tree, err := envs.New(envs.Default())
	must(b, err)
	made, err := vault.Init(ctx, vault.InitConfig{Backend: backend, Roots: []string{root.Recipient().String()}, Envs: tree, Org: "default", AdminName: "admin"})
	must(b, err)
	s := &stored{config: vault.Config{Backend: backend, Envs: tree, Catalog: testCatalog, Identities: []age.Identity{root}, Trusted: made.Trusted}}
	s.vault, err = vault.Open(ctx, s.config)
	must(b, err)
	b.Cleanup(func() { s.vault.Close(ctx) })
	s.key = made.Admin.Secret
	s.admin, err = s.vault.Authenticate(ctx, s.key)
	must(b, err)
	s.fill(b, n)
	return s
}

// fill sets n credentials, many at a time so that they share the disk's work.
func (s *stored) fill(b *testing.B, n int) {
	b.Helper()
	for i := range n {
		s.slots = append(s.slots, vault.Slot{Integration: "salesforce", Scope: "production", Name: fmt.Sprintf("n%06d", i)})
	}
	work := make(chan vault.Slot)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for slot := range work {
				if _, err := s.vault.Set(context.Background(), s.admin, slot, benchInput); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, slot := range s.slots {
		work <- slot
	}
	close(work)
	wg.Wait()
}

var benchInput = opaque(strings.Repeat("x", 200))

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkVault measures the operations at both sizes; one vault serves them
// all, for filling it takes most of the time.
func BenchmarkVault(b *testing.B) {
	ctx := context.Background()
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newStored(b, n)
			for name, operation := range map[string]func(i int) error{
				"set": func(i int) error {
					_, err := s.vault.Set(ctx, s.admin, s.slots[i*7919%n], benchInput)
					return err
				},
				"resolve": func(i int) error {
					_, err := s.vault.Resolve(ctx, s.admin, s.slots[i*7919%n], vault.ResolveOptions{})
					return err
				},
				"status": func(i int) error {
					_, err := s.vault.Status(ctx, s.admin, s.slots[i*7919%n])
					return err
				},
				"list": func(int) error {
					_, err := s.vault.Integrations(ctx, s.admin, vault.IntegrationFilter{})
					return err
				},
				"delete and set": func(i int) error {
					slot := s.slots[i*7919%n]
					if _, err := s.vault.Remove(ctx, s.admin, slot, vault.RemoveOptions{}); err != nil {
						return err
					}
					_, err := s.vault.Set(ctx, s.admin, slot, benchInput)
					return err
				},
				"open": func(int) error {
					v, err := vault.Open(ctx, s.config)
					if err != nil {
						return err
					}
					return v.Close(ctx)
				},
			} {
				b.Run(name, func(b *testing.B) {
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						must(b, operation(i))
					}
				})
			}
		})
	}
}

// BenchmarkRead measures what a warm read is made of, and many readers at once, with
// either way to audit them.
func BenchmarkRead(b *testing.B) {
	const n = 1000
	ctx := context.Background()
	s := newStored(b, n)
	resolve := func(v *vault.Vault, i int, into []byte) error {
		_, err := v.Resolve(ctx, s.admin, s.slots[i*7919%n], vault.ResolveOptions{Buffer: into})
		return err
	}
	into := make([]byte, 0, 4096)
	for i := range n {
		must(b, resolve(s.vault, i, into))
	}
	b.Run("authenticate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := s.vault.Authenticate(ctx, s.key)
			must(b, err)
		}
	})
	b.Run("resolve", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			must(b, resolve(s.vault, i, into))
		}
	})
	must(b, s.vault.Close(ctx))
	for _, mode := range []vault.ReadAudit{vault.ReadsCoalesced, vault.ReadsEach} {
		s.config.ReadAudit = mode
		v, err := vault.Open(ctx, s.config)
		must(b, err)
		b.Run(fmt.Sprintf("64 readers, %s", mode), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(64 / runtime.GOMAXPROCS(0))
			b.RunParallel(func(p *testing.PB) {
				into := make([]byte, 0, 4096)
				for i := rand.IntN(n); p.Next(); i++ {
					must(b, resolve(v, i, into))
				}
			})
		})
		must(b, v.Close(ctx))
	}
}
