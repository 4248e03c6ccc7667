package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
)

// opened is a vault with the storage that it is in.
type opened struct {
	vault   *vault.Vault
	backend backends.Backend
}

// close flushes the read audit, as long as ctx allows, and closes the storage.
func (o opened) close(ctx context.Context) error {
	return errors.Join(o.vault.Close(ctx), o.backend.Close())
}

// openVault opens the vault that the settings name.
func openVault(ctx context.Context, cfg settings, c vault.Catalog, o vault.Options) (opened, error) {
	if cfg.Storage.scheme == schemeMemory {
		return opened{}, usagef("storage in memory is for trying things out").hinted("sidevault serve --dev")
	}
	if err := checkDataDir(cfg.DataDir); err != nil {
		return opened{}, err
	}
	ids, err := readIdentity(cfg.Identity)
	if err != nil {
		return opened{}, err
	}
	backend, err := bbolt.Open(cfg.Storage.path, nil)
	if err != nil {
		return opened{}, failf(exitError, "%s", err)
	}
	v, err := unlock(ctx, cfg, vault.Config{Backend: backend, Envs: cfg.Environments, Catalog: c, Identities: ids, Options: o})
	if err != nil {
		return opened{}, errors.Join(err, backend.Close())
	}
	return opened{vault: v, backend: backend}, nil
}

func unlock(ctx context.Context, cfg settings, vc vault.Config) (*vault.Vault, error) {
	anchor, err := readTrust(filepath.Join(cfg.DataDir, trustFile))
	if err != nil {
		return nil, err
	}
	vc.Trusted = anchor.recipient
	v, err := vault.Open(ctx, vc)
	if err != nil {
		return nil, explainOpen(cfg, err)
	}
	return v, nil
}

func explainOpen(cfg settings, err error) error {
	f := failf(exitError, "open the vault %s", cfg.Storage.path).because(err)
	switch {
	case errors.Is(err, vault.ErrNotVault):
		f.hint = "sidevault init --data-dir DIR, with the path of a new directory"
	case errors.Is(err, vault.ErrWrongRoot):
		f.hint = "give the identity file that it was made with: " + cfg.Identity + " is another; --identity FILE"
	case errors.Is(err, vault.ErrUntrusted):
		f.hint = "restore " + filepath.Join(cfg.DataDir, trustFile) + " and the vault from the same backup"
	}
	return f
}

// openOffline opens a vault that no sidecar serves at the moment. Unless the
// environments are configured they are those that the storage has keys for, so
// that looking at a vault adds none to it. Plugins are not run.
func openOffline(ctx context.Context, sh *shell, cfg settings) (opened, error) {
	if cfg.given[environmentsKey] || cfg.Storage.scheme != schemeBbolt {
		return openVault(ctx, cfg, offlineCatalog(sh, cfg), vault.Options{})
	}
	names, err := storedEnvironments(ctx, cfg)
	if err != nil {
		return opened{}, err
	}
	if len(names) > 0 {
		if cfg.Environments, err = envs.New(names); err != nil {
			return opened{}, err
		}
	}
	return openVault(ctx, cfg, offlineCatalog(sh, cfg), vault.Options{})
}

func storedEnvironments(ctx context.Context, cfg settings) ([]envs.Environment, error) {
	if err := checkDataDir(cfg.DataDir); err != nil {
		return nil, err
	}
	backend, err := bbolt.Open(cfg.Storage.path, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return nil, failf(exitError, "%s", err)
	}
	defer backend.Close()
	names, err := vault.StoredEnvironments(ctx, backend)
	if err != nil {
		return nil, failf(exitError, "read %s", cfg.Storage.path).because(err)
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
	if cfg.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(sh.err, o))
	}
	return slog.New(slog.NewJSONHandler(sh.err, o))
}
