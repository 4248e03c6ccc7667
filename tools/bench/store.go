package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// Where the credentials are, and what they hold.
const (
	environments = "development,staging,production:protected"
	environment  = "production"
	integration  = "salesforce"
	valueBytes   = 200
)

// store is a vault in a directory, with credentials in it.
type store struct {
	dir     string // the bench's own, with the data directory in it
	url     string // of the storage; "" is a bbolt file in the data directory
	admin   string // the first key
	reader  string // a key of user scope that may read the environment alone
	names   []string
	program string
}

func (v *store) data() string            { return filepath.Join(v.dir, "data") }
func (v *store) file(name string) string { return filepath.Join(v.data(), name) }

func (v *store) urlFile() string { return filepath.Join(v.dir, "backend.url") }

func (v *store) storageArgs() []string {
	if v.url == "" {
		return nil
	}
	return []string{"--backend-file", v.urlFile()}
}

// cacheSize is the default of cache-size, in MiB.
func (v *store) cacheSize() float64 {
	if v.url == "" {
		return 32
	}
	return 96
}

// newStore makes a vault.
func newStore(ctx context.Context, dir, program, url string) (*store, error) {
	v := &store{dir: dir, url: url, program: program}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(v.urlFile(), []byte(url), 0o600); err != nil {
		return nil, err
	}
	keyFile := filepath.Join(dir, "admin.key")
	line := append([]string{"init", "--data-dir", v.data(), "--admin-key-file", keyFile, "--environments", environments}, v.storageArgs()...)
	cmd := exec.CommandContext(ctx, program, line...)
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("sidevault init: %w\n%s", err, out)
	}
	key, err := os.ReadFile(keyFile)
	v.admin = strings.TrimSpace(string(key))
	return v, err
}

// newStock makes a vault in a bbolt file with n credentials of which the first hot ones
// (all, if there are not as many) are spread evenly. Those are set as any caller sets
// them; the rest are copies of one, see pad.
func newStock(ctx context.Context, dir, program string, n, hot int) (*store, error) {
	v, err := newStore(ctx, dir, program, "")
	if err != nil {
		return nil, err
	}
	hot = min(hot, n)
	for i := range hot {
		v.names = append(v.names, name(i*(n/hot)))
	}
	err = v.open(ctx, func(opened *vault.Vault, backend *bbolt.Backend) error {
		if err := v.fill(ctx, opened); err != nil {
			return err
		}
		if hot == n {
			return nil
		}
		return v.pad(ctx, backend, n)
	})
	return v, err
}

func name(i int) string { return fmt.Sprintf("n%07d", i) }

func (v *store) slot(name string) vault.Slot {
	return vault.Slot{Integration: integration, Scope: environment, Name: name}
}

func input() vault.SetInput {
	return vault.SetInput{Fields: seal.Fields{vault.ValueField: secret.New(strings.Repeat("x", valueBytes))}}
}

// fill sets the named credentials, many at a time so that they share the disk's
// work, and makes the reader's key.
func (v *store) fill(ctx context.Context, opened *vault.Vault) error {
	admin, err := opened.Authenticate(ctx, secret.New(v.admin))
	if err != nil {
		return err
	}
	reader, err := opened.CreateKey(ctx, admin, vault.KeyInput{Name: "reader", Environments: []string{environment}, Integrations: []string{integration}})
	if err != nil {
		return err
	}
	v.reader = reader.Secret.Reveal()
	return inParallel(v.names, func(name string) error {
		_, err := opened.Set(ctx, admin, v.slot(name), input())
		return err
	})
}

// readAll reads every credential that is to be read once, so that none is read for the first
// time while reads are measured.
func (v *store) readAll(ctx context.Context, s *sidecar) error {
	return inParallel(v.names, func(name string) error { return s.get(ctx, path(name), v.reader, io.Discard) })
}

// inParallel calls do with every item, 64 at a time.
func inParallel[T any](items []T, do func(T) error) error {
	work := make(chan T)
	errs := make([]error, 64)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for item := range work {
				if err := do(item); err != nil && errs[i] == nil {
					errs[i] = err
				}
			}
		})
	}
	for _, item := range items {
		work <- item
	}
	close(work)
	wg.Wait()
	return errors.Join(errs...)
}

// open calls do with the vault, which must not be served meanwhile.
func (v *store) open(ctx context.Context, do func(*vault.Vault, *bbolt.Backend) error) error {
	return v.openOn(ctx, func(b *bbolt.Backend) backends.Backend { return cache.New(b, cache.Options{Exclusive: true}) }, do)
}

// openOn is open with something between the vault and its storage.
func (v *store) openOn(ctx context.Context, between func(*bbolt.Backend) backends.Backend, do func(*vault.Vault, *bbolt.Backend) error) error {
	roots, err := v.roots()
	if err != nil {
		return err
	}
	anchor, err := os.ReadFile(v.file("vault.pub"))
	if err != nil {
		return err
	}
	tree, err := envs.New([]envs.Environment{{Name: "development"}, {Name: "staging"}, {Name: environment, Protected: true}})
	if err != nil {
		return err
	}
	backend, err := bbolt.Open(v.file("vault.db"), nil)
	if err != nil {
		return err
	}
	defer backend.Close()
	opened, err := vault.Open(ctx, vault.Config{
		Backend: between(backend), Envs: tree, Catalog: catalog.Builtin(), Identities: roots,
		Trusted: regexp.MustCompile(`age1\S+`).FindString(string(anchor)),
	})
	if err != nil {
		return err
	}
	return errors.Join(do(opened, backend), opened.Close(ctx))
}

// roots are the identities of this host.
func (v *store) roots() ([]age.Identity, error) {
	identity, err := os.Open(v.file("identity.txt"))
	if err != nil {
		return nil, err
	}
	defer identity.Close()
	return age.ParseIdentities(identity)
}
