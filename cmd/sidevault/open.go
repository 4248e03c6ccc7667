package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
	"github.com/sidevault/sidevault/vault/seal"
)

// opened is a vault with the storage that it is in.
type opened struct {
	vault   *vault.Vault
	backend backends.Backend
}

// close flushes the read audit, as long as ctx allows, and closes the storage. What
// could not be flushed is said even if storage that is away holds up its own end.
func (o opened) close(ctx context.Context) error {
	lost := o.vault.Close(ctx)
	closed := make(chan error, 1)
	go func() { closed <- o.backend.Close() }()
	if lost == nil {
		return <-closed
	}
	select {
	case err := <-closed:
		return errors.Join(lost, err)
	case <-ctx.Done():
		return lost
	}
}

// around is put between a vault and its storage; nil puts nothing there.
type around func(backends.Backend) backends.Backend

// openVault opens the vault that the settings name.
func openVault(ctx context.Context, cfg settings, c vault.Catalog, o vault.Options, wrap around) (opened, error) {
	if cfg.Storage.scheme == open.Memory {
		return opened{}, usagef("storage in memory is for trying things out").hinted("sidevault serve --dev")
	}
	if err := cfg.checkDataDir(); err != nil {
		return opened{}, err
	}
	ids, err := cfg.rootIdentities()
	if err != nil {
		return opened{}, cfg.copied(err)
	}
	anchor, err := readTrust(filepath.Join(cfg.DataDir, trustFile))
	if err != nil {
		return opened{}, cfg.copied(err)
	}
	backend, err := openStorage(ctx, cfg.Storage, open.Options{})
	if err != nil {
		return opened{}, err
	}
	if wrap != nil {
		backend = wrap(backend)
	}
	v, err := vault.Open(ctx, vault.Config{
		Backend: backend, Envs: cfg.Environments, Catalog: c, Identities: ids, Trusted: anchor.recipient, Options: o,
	})
	if err != nil {
		return opened{}, errors.Join(explainOpen(cfg, err), backend.Close())
	}
	return opened{vault: v, backend: backend}, nil
}

// checkDataDir checks the data directory, which a further host of a shared storage
// gets from the first.
func (c settings) checkDataDir() error {
	err := checkDataDir(c.DataDir)
	if f, ok := errors.AsType[*failure](err); ok && c.Storage.shared() && !exists(c.DataDir) {
		return f.hinted("on the first host: sidevault init; on a further one: mkdir -m 700 %s, and copy %s and %s there from the first",
			quoted(c.DataDir), identityFile, trustFile)
	}
	return err
}

// copied says of a missing file, where the storage is shared, which hosts have it.
func (c settings) copied(err error) error {
	f, ok := errors.AsType[*failure](err)
	if !ok || !c.Storage.shared() || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.hinted("copy %s and %s, with mode 0600, from a host that serves the vault in this storage; sidevault init makes a new vault",
		identityFile, trustFile)
}

func explainOpen(cfg settings, err error) error {
	where := cfg.Storage.path
	if where == "" {
		where = cfg.Storage.String()
	}
	f := failf(exitError, "open the vault %s", where).because(err)
	trust := filepath.Join(cfg.DataDir, trustFile)
	switch {
	case errors.Is(err, backends.ErrUnavailable), vault.KindOf(err) == vault.BackendUnavailable:
		f.code = exitUnavailable
	case errors.Is(err, vault.ErrNotVault) && cfg.Storage.shared():
		f.hint = "look at the URL of the storage; sidevault init makes a vault, on the first host alone"
	case errors.Is(err, vault.ErrNotVault):
		f.hint = "sidevault init --data-dir DIR, with the path of a new directory"
	case errors.Is(err, vault.ErrWrongRoot):
		f.hint = "give an identity file that it was made or shared for: " + strings.Join(cfg.Identities, ", ") + " is another; --identity FILE"
	case errors.Is(err, seal.ErrPlugin):
		f.hint = "put the plugin's program into a directory of PATH, or name another identity with --identity FILE"
	case errors.Is(err, vault.ErrUntrusted) && cfg.Storage.shared():
		f.hint = "look at the URL of the storage, or copy " + trust + " anew from a host that you trust and that serves this vault"
	case errors.Is(err, vault.ErrUntrusted):
		f.hint = "restore " + trust + " and the vault from the same backup"
	}
	return f
}

// onStorage opens a vault as openOffline does, and closes it after what a command does.
func onStorage(cmd *cobra.Command, sh *shell, do func(context.Context, *vault.Vault, settings) error) (err error) {
	restrictFiles()
	cfg, err := loadSettings(cmd.Flags(), sh)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	opened, err := openOffline(ctx, sh, cfg)
	if err != nil {
		return err
	}
	defer func() { err = firstOf(err, opened.close(context.WithoutCancel(ctx))) }()
	return do(ctx, opened.vault, cfg)
}

// openOffline opens a vault for a command that works on the storage itself, which
// for bbolt's no sidecar can have open. Unless the environments are configured they
// are those that the storage has keys for, so that looking at a vault adds none to
// it. Plugins are not run.
func openOffline(ctx context.Context, sh *shell, cfg settings) (opened, error) {
	if !cfg.given[environmentsKey] && cfg.Storage.scheme != open.Memory {
		names, err := storedEnvironments(ctx, cfg)
		if err != nil {
			return opened{}, err
		}
		if len(names) > 0 {
			if cfg.Environments, err = envs.New(names); err != nil {
				return opened{}, err
			}
		}
	}
	return openVault(ctx, cfg, offlineCatalog(sh, cfg), vault.Options{Exclusive: !cfg.Storage.shared()}, nil)
}

func storedEnvironments(ctx context.Context, cfg settings) ([]envs.Environment, error) {
	if err := cfg.checkDataDir(); err != nil {
		return nil, err
	}
	backend, err := openStorage(ctx, cfg.Storage, open.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer backend.Close()
	names, err := vault.StoredEnvironments(ctx, backend)
	if err != nil {
		return nil, failf(exitError, "read %s", cfg.Storage).because(err)
	}
	list := make([]envs.Environment, len(names))
	for i, name := range names {
		list[i].Name = name
	}
	return list, nil
}

// loadCatalog reads the catalog files and holds them to the environments and to the
// configured plugins.
func loadCatalog(cfg settings) (*catalog.Catalog, error) {
	c, err := catalog.Load(cfg.Catalog...)
	if err == nil {
		err = errors.Join(c.CheckEnvironments(cfg.Environments), c.CheckPlugins(cfg.programNames()))
	}
	if err != nil {
		return nil, usagef("the catalog is not valid").because(err)
	}
	return c, nil
}

// offlineCatalog returns the configured catalog, so that what is changed offline is
// told to the syncers that it binds, once a sidecar serves again. Without it the
// built-in one does.
func offlineCatalog(sh *shell, cfg settings) *catalog.Catalog {
	c, err := catalog.Load(cfg.Catalog...)
	if err != nil {
		fmt.Fprintf(sh.err, "sidevault: the catalog cannot be used, so the syncers that it binds are not told: %s\n", err)
		return catalog.Builtin()
	}
	return c
}

// newLogger returns the logger of the settings.
func newLogger(sh *shell, cfg settings) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.LogLevel}
	var h slog.Handler = slog.NewJSONHandler(sh.err, o)
	if cfg.LogFormat == "text" {
		h = slog.NewTextHandler(sh.err, o)
	}
	if cfg.Tracing.Endpoint != "" {
		h = tracedLog{h}
	}
	return slog.New(h)
}
