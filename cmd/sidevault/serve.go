package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/vault"
)

func newServeCommand(sh *shell) *cobra.Command {
	var dev bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a vault",
		Long: `Serve the vault in the data directory until SIGTERM or SIGINT. SIGHUP reads the
catalog files and the TLS certificate again.

Settings come from flags, from the variables in parentheses, and from a YAML file
whose keys are the flags' names (audit-reads is reads in the section audit).
Flags go before variables, variables before the file.

With --dev it serves a vault to try things out: in memory, or in --data-dir, where
it makes one when there is none.`,
		Example: "  sidevault serve --data-dir /var/lib/sidevault\n  sidevault serve --dev",
		Args:    operands(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadSettings(cmd.Flags(), sh)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), sh, cfg, dev)
		},
	}
	addSettings(cmd.Flags())
	cmd.Flags().BoolVar(&dev, "dev", false, "serve a vault to try things out, and print how")
	return cmd
}

// serve serves a vault from the first check to the last flush.
func serve(ctx context.Context, sh *shell, cfg settings, dev bool) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	restrictFiles()
	if err := harden(); err != nil {
		return err
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
	s.announce()
	if s.dev != nil {
		fmt.Fprint(sh.out, s.dev.banner(s.addresses(), s.cfg))
	}
	return s.run(ctx, stop, reload)
}

// start brings everything up to where requests are answered, or nothing.
func start(ctx context.Context, sh *shell, cfg settings, dev bool) (s *sidecar, err error) {
	log := newLogger(sh, cfg)
	slog.SetDefault(log)
	if err := checkListen(cfg); err != nil {
		return nil, err
	}
	cert, err := loadCertificate(cfg)
	if err != nil {
		return nil, err
	}
	c, err := loadCatalog(cfg)
	if err != nil {
		return nil, err
	}
	registry, metrics := newMetrics()
	options := vault.Options{ReadAudit: cfg.ReadAudit, KeepVersions: cfg.KeepVersions, Logger: log, Metrics: metrics}
	s = &sidecar{cfg: cfg, log: log, certificate: cert, closing: make(chan struct{})}
	if dev {
		s.opened, s.dev, err = openDev(ctx, cfg, c, options)
	} else {
		s.opened, err = openVault(ctx, cfg, c, options)
	}
	if err != nil {
		return nil, err
	}
	if s.callers, err = openCallers(ctx, cfg, s.vault, log); err != nil {
		return nil, s.abandon(err)
	}
	if s.listeners, err = listen(ctx, cfg); err != nil {
		return nil, s.abandon(err)
	}
	s.http = newHTTPServer(s, registry)
	return s, nil
}
