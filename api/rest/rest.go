// Package rest serves Sidevault's HTTP API. It turns requests into calls of the
// vault and their outcome into JSON; api/openapi.yaml is the contract, [wire] has
// the types. Every route stands in one table (routes.go), every error's status in
// another (errors.go).
//
// A request passes, in this order: its ID, the recovery from panics, the count
// and the log line, the checks against browsers and foreign hosts, the check of
// its query against the route's parameters, the authentication, the handler. A
// request that fails one of them has reached none of the later ones.
//
// Secrets are written by one encoder, for the two answers that hold one (see
// encode.go). Request bodies, query strings and header values are never logged.
package rest

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidevault/sidevault/api/peercred"
	"github.com/sidevault/sidevault/vault"
)

// Config is what a server needs.
type Config struct {
	Vault    *vault.Vault
	Registry *prometheus.Registry // what /metrics shows; the server adds its own
	Logger   *slog.Logger
	Options
}

// Options are the optional parts of a [Config].
type Options struct {
	// TrustedProxies are the peers whose X-Forwarded-For and Forwarded headers
	// are put up with. From any other, requests that carry one are refused.
	TrustedProxies []netip.Prefix
	// Closing, when not nil, ends the streams of watchers when it is closed: a
	// server that shuts down would wait for them for ever.
	Closing <-chan struct{}
	// Tokens, when not nil, verifies JWTs; without it they are no valid keys.
	Tokens Tokens
	// Peers, when not nil, says which caller the peer of a Unix socket is. It takes
	// a server whose ConnContext is [peercred.Attach].
	Peers *peercred.Rules
	// MCP, when not nil, is what /mcp serves.
	MCP MCP
	// Tracer, when not nil, makes a span of each request, but for those of the open routes.
	Tracer trace.Tracer
	// Backups, when not nil, says why the last scheduled backup failed, "" if it did not.
	Backups func() string
	// Watchers is how many watches are served at a time, 1000 unless given; a further
	// one is told to come again.
	Watchers int
	// Heartbeat is how often a watch shows that it lives and its key is looked at, 15
	// seconds unless given. A key that is revoked ends it at once.
	Heartbeat time.Duration
	// Stall is how long a watcher may take to accept an event before it is cut off, 10
	// seconds unless given.
	Stall time.Duration
}

func (o Options) withDefaults() Options {
	o.Watchers = cmp.Or(o.Watchers, 1000)
	o.Heartbeat = cmp.Or(o.Heartbeat, 15*time.Second)
	o.Stall = cmp.Or(o.Stall, 10*time.Second)
	return o
}

type server struct {
	vault    *vault.Vault
	tokens   Tokens
	peers    *peercred.Rules
	log      *slog.Logger
	registry *prometheus.Registry
	metrics  *metrics
	proxies  []netip.Prefix
	failures *failures
	closing  <-chan struct{}
	mcp      MCP
	tracer   trace.Tracer
	backups  func() string
	history  *history

	heartbeat, stall time.Duration
	watches          chan struct{} // one place for each that is served
}

// New returns the handler of the whole API.
func New(cfg Config) *API {
	cfg.Options = cfg.withDefaults()
	s := &server{
		vault: cfg.Vault, tokens: cfg.Tokens, peers: cfg.Peers, log: cfg.Logger, registry: cfg.Registry, metrics: newMetrics(cfg.Registry),
		proxies: cfg.TrustedProxies, failures: newFailures(), closing: cfg.Closing, mcp: cfg.MCP,
		tracer: cfg.Tracer, backups: cfg.Backups, history: newHistory(),
		heartbeat: cfg.Heartbeat, stall: cfg.Stall, watches: make(chan struct{}, cfg.Watchers),
	}
	s.metrics.watch(cfg.Registry, func() float64 { return float64(len(s.watches)) })
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	// Parameters are split before they are unescaped, so an encoded slash stays
	// part of the one it stands in.
	engine.UseRawPath = true
	engine.NoRoute(s.traced(noRoute, s.handler("", noRoute, s.noRoute)))
	engine.NoMethod(s.traced(noRoute, s.handler("", noRoute, s.noMethod)))
	for _, rt := range s.routes() {
		for _, base := range rt.bases() {
			h := s.handler(rt.method, base+rt.path, func(r *request) { s.serve(r, rt) })
			if rt.open {
				engine.Handle(http.MethodHead, base+rt.path, h) // for probes
			} else {
				h = s.traced(base+rt.path, h)
			}
			engine.Handle(rt.method, base+rt.path, h)
		}
	}
	return &API{Handler: engine, server: s}
}

// untilClosing returns a context that also ends when the server shuts down.
func (s *server) untilClosing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
