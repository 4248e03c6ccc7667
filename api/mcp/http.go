package mcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sidevault/sidevault/vault"
)

// Headers of the streamable HTTP transport.
const (
	headerRevision = "Mcp-Protocol-Version"
	headerSession  = "Mcp-Session-Id"
)

// Defaults of [HTTPOptions].
const (
	defaultSessions    = 512
	defaultEach        = 32
	defaultIdle        = 30 * time.Minute
	defaultRecheck     = 15 * time.Second
	callerExtra        = "caller"
	longestTokenIsGood = time.Hour
)

// HTTPOptions are the optional parts of [NewHTTP].
type HTTPOptions struct {
	Sessions int           // at most so many, of all callers; default 512
	Each     int           // and of one caller, of streams as well; default 32
	Idle     time.Duration // a session without a request for so long ends; default 30 min
	Recheck  time.Duration // how often the caller of a stream is authenticated again; default 15 s
	// Closing, when not nil, ends the streams when it is closed.
	Closing <-chan struct{}
}

func (o HTTPOptions) withDefaults() HTTPOptions {
	if o.Sessions == 0 {
		o.Sessions = defaultSessions
	}
	if o.Each == 0 {
		o.Each = defaultEach
	}
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	if o.Recheck == 0 {
		o.Recheck = defaultRecheck
	}
	return o
}

// HTTP serves the streamable HTTP transport in both of its forms: what a client sends
// decides between sessions and none.
type HTTP struct {
	server    *Server
	options   HTTPOptions
	sessions  *sessions
	stateful  http.Handler
	stateless http.Handler

	mu      sync.Mutex
	streams map[string]int // by owner
}

// NewHTTP returns the transport of a server.
func NewHTTP(s *Server, o HTTPOptions) *HTTP {
	o = o.withDefaults()
	who := func(req sdk.Request) (Caller, error) {
		if extra := req.GetExtra(); extra != nil && extra.TokenInfo != nil {
			if c, ok := extra.TokenInfo.Extra[callerExtra].(Caller); ok {
				return c, nil
			}
		}
		return Caller{}, errors.New("a request came without its caller")
	}
	// One for each form, so that sessions can be counted.
	withSessions, without := s.connect(who, true), s.connect(who, true)
	authenticated := auth.RequireBearerToken(verify, nil)
	handler := func(server *sdk.Server, stateless bool) http.Handler {
		return authenticated(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, &sdk.StreamableHTTPOptions{
			Stateless: stateless, JSONResponse: true, SessionTimeout: o.Idle, MaxRequestBodyBytes: 2 * maxMessage, PropagateRequestCancellation: true,
		}))
	}
	return &HTTP{
		server: s, options: o, sessions: newSessions(withSessions, o), streams: map[string]int{},
		stateful: handler(withSessions, false), stateless: handler(without, true),
	}
}

type callerKey struct{}

// verify tells the SDK who was authenticated before it was called, in the way that it
// has for that: a session belongs to that user, and each request brings its own.
func verify(ctx context.Context, _ string, _ *http.Request) (*auth.TokenInfo, error) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		return nil, auth.ErrInvalidToken
	}
	return &auth.TokenInfo{UserID: c.Owner, Expiration: time.Now().Add(longestTokenIsGood), Extra: map[string]any{callerExtra: c}}, nil
}

// Serve answers a request of a caller who was authenticated. Still does that once
// more, for a stream, which ends when it fails. An error is a [*vault.Error], and nothing
// was answered.
func (h *HTTP) Serve(w http.ResponseWriter, r *http.Request, c Caller, still func() error) error {
	out := newReply(w)
	defer out.finish()
	r = r.Clone(context.WithValue(r.Context(), callerKey{}, c))
	// The key goes no further than to who has checked it.
	r.Header.Set("Authorization", "Bearer authenticated")
	if r.Header.Get("Accept") == "" {
		// Who names nothing takes anything (RFC 9110, section 12.5.1).
		r.Header.Set("Accept", "*/*")
	}
	if r.Method == http.MethodPost {
		return h.post(out, r, c, still)
	}
	return h.session(out, r, c, still)
}

// post answers a message.
func (h *HTTP) post(out *reply, r *http.Request, c Caller, still func() error) error {
	if bad := unacceptable(r); bad != nil {
		out.refuse(http.StatusBadRequest, bad)
		return nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(out.ResponseWriter, r.Body, maxMessage))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return &vault.Error{Kind: vault.PayloadTooLarge, Msg: "The message is too large", Details: fmt.Sprintf("at most %d bytes are read", maxMessage)}
	}
	if err != nil {
		return &vault.Error{Kind: vault.InvalidRequest, Msg: "The message could not be read", Details: "it ended early or came too slowly"}
	}
	m, err := h.server.screen(body)
	modern := isStateless(r, m)
	if bad, ok := errors.AsType[*refused](err); ok {
		out.refuse(statusOf(bad, modern), bad)
		return nil
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(m.text)), int64(len(m.text))
	switch {
	case modern && m.method == "subscriptions/listen":
		return h.stream(out, r, c, still, h.stateless)
	case modern:
		h.stateless.ServeHTTP(out, r)
	case m.method == "initialize":
		h.open(out, r, c)
	default:
		return h.session(out, r, c, still)
	}
	return nil
}

// isStateless reports whether a request is of a revision without sessions.
func isStateless(r *http.Request, m message) bool {
	return r.Header.Get(headerRevision) >= revisionStateless || m.revision >= revisionStateless || m.method == "server/discover"
}

// unacceptable returns what is wrong with a request before its body is read.
func unacceptable(r *http.Request) *refused {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return &refused{code: jsonrpc.CodeInvalidRequest, msg: "the Content-Type is not application/json"}
	}
	accept := strings.ToLower(strings.Join(r.Header.Values("Accept"), ","))
	for _, media := range []string{"application/json", "text/event-stream"} {
		kind, _, _ := strings.Cut(media, "/")
		if !strings.Contains(accept, media) && !strings.Contains(accept, "*/*") && !strings.Contains(accept, kind+"/*") {
			return &refused{code: jsonrpc.CodeInvalidRequest, msg: "the Accept header must have both application/json and text/event-stream"}
		}
	}
	return nil
}

// statusOf is the status of a message that the SDK does not get to see. Up to the last
// revision with sessions, an error in answer to a request is a success of HTTP.
func statusOf(bad *refused, modern bool) int {
	switch {
	case !modern && bad.id != nil:
		return http.StatusOK
	case bad.code == jsonrpc.CodeMethodNotFound && bad.id != nil:
		return http.StatusNotFound
	}
	return http.StatusBadRequest
}

// open opens a session.
func (h *HTTP) open(out *reply, r *http.Request, c Caller) {
	r.Header.Del(headerSession)
	h.sessions.open(c.Owner, func() string {
		h.stateful.ServeHTTP(out, r)
		return out.Header().Get(headerSession)
	})
}

// session answers a request that belongs to a session.
func (h *HTTP) session(out *reply, r *http.Request, c Caller, still func() error) error {
	id := r.Header.Get(headerSession)
	switch {
	case r.Method != http.MethodPost && r.Header.Get(headerRevision) >= revisionStateless:
		out.Header().Set("Allow", "POST")
		out.refuse(http.StatusMethodNotAllowed, &refused{code: jsonrpc.CodeInvalidRequest, msg: "this protocol revision has no sessions: POST a message"})
	case id == "":
		out.refuse(http.StatusBadRequest, &refused{code: jsonrpc.CodeInvalidRequest, msg: "the header Mcp-Session-Id is missing: initialize opens a session"})
	case !h.sessions.use(id, c.Owner):
		out.refuse(http.StatusNotFound, noSession())
	case r.Method == http.MethodGet:
		return h.stream(out, r, c, still, h.stateful)
	default:
		h.stateful.ServeHTTP(out, r)
	}
	return nil
}

func noSession() *refused {
	return &refused{code: jsonrpc.CodeInvalidRequest, msg: "there is no such session: initialize opens a new one"}
}

// stream answers with what has no end of its own. It ends with the server, with the
// session, and when the caller's key is no longer good.
func (h *HTTP) stream(out *reply, r *http.Request, c Caller, still func() error, handler http.Handler) error {
	if !h.admit(c.Owner) {
		return &vault.Error{Kind: vault.RateLimited, Msg: "This caller has too many streams open", Details: fmt.Sprintf("at most %d are served at once", h.options.Each)}
	}
	defer h.leave(c.Owner)
	ctx, cancel := context.WithCancel(r.Context())
	out.broken = cancel
	var watching sync.WaitGroup
	watching.Go(func() { h.watch(ctx, cancel, still) })
	defer watching.Wait()
	defer cancel()
	handler.ServeHTTP(out, r.WithContext(ctx))
	return nil
}

func (h *HTTP) watch(ctx context.Context, cancel context.CancelFunc, still func() error) {
	defer cancel()
	tick := time.NewTicker(h.options.Recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.options.Closing:
			return
		case <-tick.C:
			if still() != nil {
				return
			}
		}
	}
}

func (h *HTTP) admit(owner string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[owner] >= h.options.Each {
		return false
	}
	h.streams[owner]++
	return true
}

func (h *HTTP) leave(owner string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[owner]--; h.streams[owner] == 0 {
		delete(h.streams, owner)
	}
}
