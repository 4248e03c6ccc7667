package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel/trace"

	"github.com/sidevault/sidevault/plugins/host"
	"github.com/sidevault/sidevault/vault"
)

// supervisorWord, as the first argument, makes this program a plugin's supervisor.
const supervisorWord = "plugin-supervisor"

// plugins runs the configured programs.
type plugins struct {
	host *host.Host // nil: it could not be made, and no program was configured
	why  error      // why not
	dev  bool
}

// openPlugins checks the configured programs and makes their host. A system where
// plugins cannot run, for want of a directory to write to, still serves a vault
// without plugins.
func openPlugins(cfg settings, log *slog.Logger, metrics host.Metrics, dev bool) (*plugins, error) {
	programs, err := cfg.programs(dev)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &plugins{dev: dev}
	p.host, err = host.New(host.Config{
		Programs: programs, Supervisor: []string{self, supervisorWord},
		Options: host.Options{Sandbox: cfg.Sandbox, Logger: log, Metrics: metrics},
	})
	if err != nil && len(programs) > 0 {
		return nil, usagef("plugins").because(err)
	}
	if err != nil {
		log.Debug("plugins cannot run here", "err", err)
		p.host, p.why = nil, err
	}
	return p, nil
}

// port returns what the vault calls plugins through; nil when there is none. The tracer
// is nil when tracing is off.
func (p *plugins) port(tracer trace.Tracer) vault.Plugins {
	switch {
	case p.host == nil:
		return nil
	case tracer != nil:
		return tracedPlugins{p.host, tracer}
	}
	return p.host
}

// owns reports whether a process is a plugin's.
func (p *plugins) owns(pid int) bool { return p.host != nil && p.host.Owns(pid) }

func (p *plugins) reload(programs []host.Program) error {
	if p.host == nil && len(programs) > 0 {
		return fmt.Errorf("plugins cannot run here until a restart: %w", p.why)
	}
	if p.host == nil {
		return nil
	}
	return p.host.Reload(programs)
}

func (p *plugins) close(ctx context.Context) error {
	if p.host == nil {
		return nil
	}
	return p.host.Close(ctx)
}
