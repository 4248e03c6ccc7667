package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/vault"
)

func newServeCommand(sh *shell) *cobra.Command {
	var dev bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a vault",
		Long: `Serve the vault in the data directory until SIGTERM or SIGINT. SIGHUP reads the
catalog files, the plugins of the configuration file and the TLS certificate again.

Settings come from flags, from the variables in parentheses, and from a YAML file
whose keys are the flags' names (audit-reads is reads in the section audit).
Flags go before variables, variables before the file.

With --dev it serves a vault to try things out: in memory, or in --data-dir, where
it makes one when there is none.`,
		Example: "  sidevault serve --data-dir /var/lib/sidevault\n  sidevault serve --dev",
		Args:    operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), sh, func() (settings, error) { return loadSettings(cmd.Flags(), sh) }, dev)
		},
	}
	addSettings(cmd.Flags())
	cmd.Flags().BoolVar(&dev, "dev", false, "serve a vault to try things out, and print how")
	return cmd
}

// serve serves a vault from the first check to the last flush.
func serve(ctx context.Context, sh *shell, read func() (settings, error), dev bool) error {
	cfg, err := read()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	restrictFiles()
	if err := harden(); err != nil {
		return err
	}
	if !dev && cfg.Storage.scheme != open.Memory {
		// A passphrase may be asked for, which takes the input.
		if err := cfg.checkDataDir(); err != nil {
			return err
		}
		if _, err := cfg.rootIdentities(); err != nil {
			return cfg.copied(err)
		}
	}
	if err := closeInput(); err != nil {
		return err
	}
	if dev && !cfg.given["log.format"] {
		cfg.LogFormat = "text"
	}
	s, err := start(ctx, sh, cfg, dev)
	if err != nil {
		return err
	}
	s.settings = read
	s.announce()
	settleMemory()
	if s.dev != nil {
		fmt.Fprint(sh.out, s.dev.banner(s.addresses(), s.cfg))
	}
	return s.run(ctx, stop, reload)
}

// start brings everything up to where requests are answered, or nothing.
func start(ctx context.Context, sh *shell, cfg settings, dev bool) (s *sidecar, err error) {
	log := newLogger(sh, cfg)
	slog.SetDefault(log)
	if err := prepare(&cfg, log); err != nil {
		return nil, err
	}
	cert, err := loadCertificate(cfg)
	if err != nil {
		return nil, err
	}
	s = &sidecar{cfg: cfg, log: log, certificate: cert, closing: make(chan struct{})}
	if s.catalog, err = loadCatalog(cfg); err != nil {
		return nil, err
	}
	registry, metrics, pluginMetrics := newMetrics()
	pluginMetrics.expect(cfg.programNames())
	if s.tracing, err = startTracing(ctx, cfg.Tracing, log); err != nil {
		return nil, err
	}
	if s.plugins, err = openPlugins(cfg, log, pluginMetrics, dev); err != nil {
		s.tracing.close(ctx)
		return nil, err
	}
	if err := s.open(ctx, registry, metrics, dev); err != nil {
		return nil, s.abandon(err)
	}
	registry.MustRegister(newVaultCondition(s.vault.Condition))
	if cert != nil {
		registry.MustRegister(cert.expiry())
	}
	if s.callers, err = openCallers(ctx, cfg, s.vault, s.plugins.owns, log); err != nil {
		return nil, s.abandon(err)
	}
	if s.backups, err = startBackups(cfg.Backups, s.vault, log, registry); err != nil {
		return nil, s.abandon(err)
	}
	if s.listeners, err = listen(ctx, cfg); err != nil {
		return nil, s.abandon(err)
	}
	if s.debug, err = openDebugger(ctx, cfg); err != nil {
		return nil, s.abandon(err)
	}
	s.http = newHTTPServer(s, registry)
	return s, nil
}

// prepare makes the process ready for its settings, or refuses them. It lowers limits that
// the process cannot have.
func prepare(cfg *settings, log *slog.Logger) error {
	limitMemory(*cfg)
	if cfg.LockMemory {
		if why := lockMemory(); why != "" {
			log.Warn("memory is not locked: turn swap off, or encrypt it", "why", why)
		}
	}
	if err := errors.Join(checkListen(*cfg), checkDebugListen(*cfg)); err != nil {
		return err
	}
	lowered, err := cfg.Limits.fit()
	if lowered > 0 {
		log.Warn("fewer connections are served than configured, since the process may not have more files open: raise LimitNOFILE or ulimit -n",
			"connections", lowered)
	}
	return err
}

// open opens the vault.
func (s *sidecar) open(ctx context.Context, registry *prometheus.Registry, metrics vault.Metrics, dev bool) (err error) {
	s.storage = newStorage(s.cfg, s.log, s.tracing.tracer())
	registry.MustRegister(s.storage.collectors()...)
	options := vault.Options{
		ReadAudit: s.cfg.ReadAudit, KeepVersions: s.cfg.KeepVersions, Logger: s.log, Metrics: metrics, Plugins: s.plugins.port(s.tracing.tracer()),
		Exclusive: !s.cfg.Storage.shared(), Follow: true,
	}
	_, options.CacheBytes = s.cfg.cacheSizes()
	if s.cfg.Storage.shared() && s.cfg.MaxStale > 0 {
		options.Stale, options.ReadGrace = s.storage.stale, s.cfg.MaxStale
	}
	if dev {
		s.opened, s.dev, err = openDev(ctx, s.cfg, s.catalog, options, s.storage.around)
	} else {
		s.opened, err = openVault(ctx, s.cfg, s.catalog, options, s.storage.around)
	}
	return err
}
