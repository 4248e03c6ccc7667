// Package mcp serves Sidevault's tools over the Model Context Protocol, for agents
// and for automation. The tools stand in one table (tools.go); a transport brings
// their callers, and a [Port] does their work: package local has one over a vault in
// this process, package remote one over a running sidecar's HTTP API.
//
// No tool returns a secret, and there are no resources and no prompts. A secret that
// comes in is a [secret.Value] from the moment its parameter is decoded; until then
// it is part of a message that is neither logged nor quoted. The SDK does quote what
// it cannot read, so it never sees a message that this package has not taken apart
// and put together again (screen.go), its own errors go out with other words, and it
// is given no logger.
package mcp

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/prometheus/client_golang/prometheus"
)

// Protocol revisions. Those up to revisionSessions have sessions, the later one has none.
// Older ones, which have batches, are answered with a newer one.
const (
	revisionOldest    = "2025-06-18"
	revisionSessions  = "2025-11-25"
	revisionStateless = "2026-07-28"
)

const instructions = `Sidevault keeps the credentials of third-party integrations, one for each environment. ` +
	`No tool returns a credential: get_integration_status says whether one is set. ` +
	`An environment that is left out means all environments; a credential set for one environment goes before it there. ` +
	`The tools whose names begin with admin_ take an admin-scoped API key.`

// Config is what a [Server] needs.
type Config struct {
	Version  string // of the program
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil: nothing is counted
}

// Server has the tools. Its methods may be called concurrently.
type Server struct {
	version string
	log     *slog.Logger
	metrics *metrics
	tools   []tool

	mu      sync.Mutex
	changed []func() // tells the clients of one transport that the tools have changed
}

// New returns a server. A transport makes it reachable: [NewHTTP] or ServeStdio.
func New(cfg Config) *Server {
	return &Server{version: cfg.Version, log: cfg.Logger, metrics: newMetrics(cfg.Registry), tools: table()}
}

// Caller is who a request comes from.
type Caller struct {
	ID        string // for the log
	Owner     string // tells the caller from every other
	RequestID string
	Port      Port
}

// identify returns the caller of one request, which can be another one than that of
// the request before it in the same session.
type identify func(sdk.Request) (Caller, error)

// connect makes an SDK server for one transport.
func (s *Server) connect(who identify, notifies bool) *sdk.Server {
	server := sdk.NewServer(&sdk.Implementation{Name: "sidevault", Title: "Sidevault", Version: s.version}, &sdk.ServerOptions{
		Instructions: instructions,
		// There are no prompts and no resources; their lists are served, and empty.
		Capabilities: &sdk.ServerCapabilities{
			Tools: &sdk.ToolCapabilities{ListChanged: notifies}, Prompts: &sdk.PromptCapabilities{}, Resources: &sdk.ResourceCapabilities{},
		},
		SetCacheable: func(_ context.Context, _ sdk.Request, c *sdk.Cacheable) { *c = private() },
		SupportedProtocolVersions: []string{
			revisionStateless, revisionSessions, revisionOldest,
		},
	})
	for _, t := range s.tools {
		s.add(server, who, t)
	}
	server.AddReceivingMiddleware(func(next sdk.MethodHandler) sdk.MethodHandler {
		return func(ctx context.Context, method string, req sdk.Request) (sdk.Result, error) {
			return s.receive(ctx, who, next, method, req)
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	// The SDK notifies when a tool is added, and one of the same name replaces it.
	s.changed = append(s.changed, func() { s.add(server, who, s.tools[0]) })
	return server
}

func (s *Server) add(server *sdk.Server, who identify, t tool) {
	server.AddTool(t.describe(Words{}), func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		caller, err := who(req)
		if err != nil {
			return nil, s.unexpected(ctx, "", err)
		}
		return s.call(ctx, caller, t, req.Params.Arguments), nil
	})
}

// receive answers a request. A panic ends the request and not the sidecar: the SDK
// handles it in a goroutine of its own.
func (s *Server) receive(ctx context.Context, who identify, next sdk.MethodHandler, method string, req sdk.Request) (result sdk.Result, err error) {
	defer func() {
		if recover() != nil {
			s.log.ErrorContext(ctx, "panic while handling a message", "method", method, "stack", string(debug.Stack()))
			result, err = nil, &jsonrpc.Error{Code: codeFailed, Message: "Internal error"}
		}
	}()
	if method != "tools/list" {
		return next(ctx, method, req)
	}
	caller, err := who(req)
	if err != nil {
		return nil, s.unexpected(ctx, "", err)
	}
	return s.list(ctx, caller)
}

// private marks what depends on the caller. It is stale at once: a key can be
// revoked or its grant be another one tomorrow.
func private() sdk.Cacheable { return sdk.Cacheable{CacheScope: "private"} }

// list returns the tools that the caller may call.
func (s *Server) list(ctx context.Context, c Caller) (*sdk.ListToolsResult, error) {
	admin, err := c.Port.Admin(ctx)
	if err != nil {
		return nil, s.unexpected(ctx, c.RequestID, err)
	}
	words, err := c.Port.Words(ctx)
	if err != nil {
		return nil, s.unexpected(ctx, c.RequestID, err)
	}
	result := &sdk.ListToolsResult{Cacheable: private(), Tools: []*sdk.Tool{}}
	for _, t := range s.tools {
		if admin || !t.admin {
			result.Tools = append(result.Tools, t.describe(words))
		}
	}
	return result, nil
}

// unexpected returns what a request for anything but a tool's work fails with.
func (s *Server) unexpected(ctx context.Context, requestID string, err error) error {
	f := s.explain(ctx, requestID, err)
	text := f.Message
	if f.Details != "" {
		text += ": " + f.Details
	}
	return &jsonrpc.Error{Code: codeFailed, Message: text}
}

// ToolsChanged tells the clients that listen for it that tools/list has another
// answer.
func (s *Server) ToolsChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, tell := range s.changed {
		tell()
	}
}
