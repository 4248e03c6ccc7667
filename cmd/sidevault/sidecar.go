package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/api/mcp"
	"github.com/sidevault/sidevault/api/mcp/local"
	"github.com/sidevault/sidevault/api/peercred"
	"github.com/sidevault/sidevault/api/rest"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
)

// maxStreams is how many requests one connection of HTTP/2 may have under way.
const maxStreams = 64

// sidecar is a vault being served.
type sidecar struct {
	opened
	callers
	cfg         settings
	settings    func() (settings, error) // reads them again
	log         *slog.Logger
	storage     *storage
	plugins     *plugins
	catalog     *catalog.Catalog // in force
	listeners   []net.Listener
	connections *connections
	debug       *debugger // nil unless the settings want one
	http        *http.Server
	certificate *certificate  // nil without TLS
	dev         *devVault     // nil unless it is one
	closing     chan struct{} // closed when the shutdown begins
	tools       *mcp.Server
	backups     *backups // nil unless the settings want some
	tracing     *tracing // nil unless the settings want it
}

func newHTTPServer(s *sidecar, registry *prometheus.Registry) *http.Server {
	limits := s.cfg.Limits
	s.connections = newConnections(limits.Connections, registry)
	s.tools = mcp.New(mcp.Config{Version: version(), Logger: s.log, Registry: registry})
	api := rest.New(rest.Config{
		Vault: s.vault, Registry: registry, Logger: s.log,
		Options: rest.Options{
			TrustedProxies: s.cfg.TrustedProxies, Closing: s.closing, Tokens: s.tokens, Peers: s.peers, Backups: s.backups.check(), Tracer: s.tracing.tracer(),
			Watchers: limits.Watchers, Heartbeat: limits.Heartbeat, Stall: limits.Stall,
			MCP: local.New(s.vault, mcp.NewHTTP(s.tools, mcp.HTTPOptions{Closing: s.closing})),
		},
	})
	server := &http.Server{
		Handler:           api,
		ConnContext:       peercred.Attach,
		ConnState:         s.connections.changed,
		ReadHeaderTimeout: limits.HeaderTimeout,
		ReadTimeout:       limits.ReadTimeout,
		WriteTimeout:      limits.WriteTimeout,
		IdleTimeout:       limits.IdleTimeout,
		MaxHeaderBytes:    limits.HeaderSize,
		// OPTIONS * is answered like everything else, after the checks of its Host.
		DisableGeneralOptionsHandler: true,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	if s.certificate != nil {
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate.get}
	}
	s.debug.answer(api, server)
	return server
}

// abandon releases what a start that failed has opened.
func (s *sidecar) abandon(err error) error {
	closeAll(s.listeners)
	s.debug.close()
	return errors.Join(err, s.close(context.Background()))
}

// close closes the vault, which calls no plugin from then on, and ends the plugins.
func (s *sidecar) close(ctx context.Context) error {
	var err error
	s.backups.close()
	if s.vault != nil {
		err = s.opened.close(ctx)
	}
	err = errors.Join(err, s.plugins.close(ctx))
	s.tracing.close(ctx)
	return err
}

func (s *sidecar) addresses() []string {
	var list []string
	for _, l := range s.listeners {
		list = append(list, addressOf(l))
	}
	return list
}

// announce logs what is served, and where.
func (s *sidecar) announce() {
	var held, locked []string
	tree := s.cfg.Environments
	for _, e := range s.vault.Environments(context.Background(), vault.Caller{Environments: tree.Names()}) {
		if e.KeyHeld {
			held = append(held, e.Name)
		} else {
			locked = append(locked, e.Name)
		}
	}
	storage := s.cfg.Storage.String()
	if s.dev != nil && s.dev.inMemory() {
		storage = open.Memory + ":"
	}
	if s.cfg.Storage.shared() {
		s.log.Info("the storage is shared: records are kept in memory", "cache_size", s.cfg.CacheSize, "max_stale", s.cfg.MaxStale.String())
	}
	if s.debug != nil {
		s.log.Info("profiles of the process are answered to admins", "address", s.debug.address())
	}
	s.log.Info("sidevault is serving", "version", version(), "addresses", s.addresses(), "tls", s.certificate != nil,
		"connections", s.cfg.Limits.Connections, "watches", s.cfg.Limits.Watchers,
		"backend", storage, "vault", s.vault.ID(), "environments", tree.Names(), "keys_held", held, "keys_missing", locked,
		"audit_reads", s.cfg.ReadAudit, "jwt_issuer", s.cfg.JWT.Issuer, "peers", len(s.cfg.Peers), "plugins", s.cfg.programNames(), "pid", os.Getpid())
}

// run serves until ctx ends or a listener fails. forceful restores what signals
// do by default, so that a second one ends the process at once.
func (s *sidecar) run(ctx context.Context, forceful func(), reload <-chan os.Signal) error {
	failed := make(chan error, len(s.listeners)+1)
	for _, l := range s.listeners {
		go func() { failed <- s.serve(l) }()
	}
	if s.debug != nil {
		go func() { failed <- s.debug.serve() }()
	}
	manager := manager{s.log}
	beats, stop := manager.beats()
	defer stop()
	manager.tell(daemon.SdNotifyReady)
	for {
		select {
		case <-beats:
			manager.tell(daemon.SdNotifyWatchdog)
		case <-reload:
			s.reload()
		case err := <-failed:
			s.log.Error("a listener failed", "err", err)
			manager.tell(daemon.SdNotifyStopping)
			return errors.Join(failf(exitError, "serve").because(err), s.shutdown())
		case <-ctx.Done():
			forceful()
			manager.tell(daemon.SdNotifyStopping)
			return s.shutdown()
		}
	}
}

func (s *sidecar) serve(l net.Listener) error {
	var err error
	encrypted := s.certificate != nil && l.Addr().Network() == "tcp"
	l = s.connections.around(l, encrypted)
	if encrypted {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shutdown finishes the requests under way, then writes the read audit. The
// requests get four fifths of the time, so that there is always some left for
// the audit.
func (s *sidecar) shutdown() error {
	s.log.Info("shutting down", "timeout", s.cfg.ShutdownTimeout.String())
	close(s.closing)
	s.debug.close()
	deadline := time.Now().Add(s.cfg.ShutdownTimeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	drain, cancelDrain := context.WithDeadline(ctx, deadline.Add(-s.cfg.ShutdownTimeout/5))
	defer cancelDrain()
	if err := s.http.Shutdown(drain); err != nil {
		s.log.Warn("requests under way were cut off", "err", err)
		s.http.Close()
	}
	// What cannot be written any more is said before the time is over: storage that is
	// away takes a while to be given up.
	flush, cancelFlush := context.WithTimeout(ctx, time.Until(deadline)/2)
	defer cancelFlush()
	done := make(chan error, 1)
	go func() { done <- s.close(flush) }()
	select {
	case err := <-done:
		if err != nil {
			return failf(exitError, "close the vault").because(err)
		}
		s.log.Info("stopped")
		return nil
	case <-ctx.Done():
		return failf(exitError, "the vault was not closed within %s", s.cfg.ShutdownTimeout)
	}
}

// certificate is the TLS certificate in force.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
}

// loadCertificate returns nil when the settings name none.
func loadCertificate(cfg settings) (*certificate, error) {
	if cfg.TLSCert == "" {
		return nil, nil
	}
	c := new(certificate)
	return c, c.load(cfg)
}

func (c *certificate) load(cfg settings) error {
	pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return usagef("the TLS certificate cannot be used").because(err)
	}
	c.current.Store(&pair)
	return nil
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}
