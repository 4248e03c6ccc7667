package rest

import (
	"encoding/binary"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/sidevault/sidevault/api/peercred"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

// handler returns what every request passes, and ends with then.
func (s *server) handler(method, path string, then func(*request)) gin.HandlerFunc {
	count := s.metrics.of(method, path)
	return func(c *gin.Context) {
		r := identify(c)
		defer s.observe(r, count)
		defer s.recover(r)
		if err := s.admissible(c.Request); err != nil {
			s.fail(r, err)
			return
		}
		then(r)
	}
}

// identify makes the request and gives it its ID and the headers that every
// answer has.
func identify(c *gin.Context) *request {
	r := &request{gin: c, began: time.Now()}
	origin := &r.caller.Origin
	origin.Source, origin.Peer, origin.RequestID = "rest", peer(c.Request), requestID(c.Request)
	r.named = vault.RequestContext{Context: c.Request.Context(), ID: r.id()}
	if realm := first(c.Request, wire.HeaderRealmName); realm != "" {
		origin.Realm = vault.Clean(realm)
	}
	switch agent := first(c.Request, "User-Agent"); {
	case strings.HasPrefix(agent, wire.CLIAgent):
		origin.Source = "cli"
	case strings.HasPrefix(agent, wire.MCPAgent):
		origin.Source = "mcp"
	}
	h := c.Writer.Header()
	r.idHeader[0] = r.id()
	h[wire.HeaderRequestID] = r.idHeader[:]
	maps.Copy(h, everyAnswer)
	if ambiguous(c.Request) {
		h.Set("Connection", "close")
	}
	return r
}

// first is Get of http.Header for a name in its canonical form, which Get would make of it for
// every request anew.
func first(r *http.Request, name string) string {
	if values := r.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// ambiguous reports whether a proxy in front could see the request's end elsewhere. A
// length beside chunks, and chunks in HTTP/1.0, are gone when net/http hands a request
// over, so all that may have had them are meant. RFC 9112, section 6.1, has the
// connection closed: what follows on it may have been hidden in the body.
func ambiguous(r *http.Request) bool {
	return len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1)
}

// everyAnswer are the headers of every answer. Nobody changes their values.
var everyAnswer = http.Header{
	"Cache-Control":           {"no-store"},
	"X-Content-Type-Options":  {"nosniff"},
	"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
}

// requestID takes over a well-formed ID of the client's, or makes one.
func requestID(r *http.Request) string {
	given := r.Header[wire.HeaderRequestID]
	if len(given) == 1 && len(given[0]) >= 1 && len(given[0]) <= 128 && !strings.ContainsFunc(given[0], unprintable) {
		return given[0]
	}
	return newRequestID()
}

// newRequestID returns a UUID (version 4, RFC 9562) from the runtime's own generator: it has
// to be another one each time, and no secret.
func newRequestID() string {
	var u uuid.UUID
	binary.NativeEndian.PutUint64(u[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(u[8:], rand.Uint64())
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u.String()
}

func unprintable(c rune) bool { return c < 0x20 || c > 0x7e }

// peer is the other end of the connection. On a Unix socket the client chooses its
// own address, which can be any text.
func peer(r *http.Request) string {
	if name, ok := peercred.Name(r.Context()); ok {
		return name
	}
	if overUnix(r) || r.RemoteAddr == "" {
		return "unix"
	}
	return r.RemoteAddr
}

func overUnix(r *http.Request) bool {
	_, ok := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	return ok
}

// observe counts, times and logs the request. It logs the pattern of the route,
// since a path can hold anything that somebody mistook for a path.
func (s *server) observe(r *request, count *routeMetrics) {
	took, status, verb := time.Since(r.began), r.gin.Writer.Status(), method(r.gin.Request)
	count.observe(verb, status, took)
	level := slog.LevelDebug
	if status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	if ctx := r.ctx(); s.log.Enabled(ctx, level) {
		s.log.Log(ctx, level, "request", "request_id", r.id(), "method", verb, "route", r.route(),
			"status", status, "duration", took, "caller", r.caller.Actor.ID, "peer", r.caller.Origin.Peer)
	}
}

// method is the request's method as a name of ours: a client can make up others
// without end.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return otherMethod
}

const otherMethod = "other"

// recover turns a panic into an internal error. The panic's value is not logged:
// it could quote what was being handled.
func (s *server) recover(r *request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.log.ErrorContext(r.ctx(), "panic while handling a request", "request_id", r.id(), "route", r.route(), "stack", string(debug.Stack()))
	s.fail(r, &vault.Error{Kind: vault.Internal, Msg: "Internal error"})
}

// admissible refuses what a browser or a proxy may have been tricked into sending. The
// sidecar is for programs on this host.
func (s *server) admissible(r *http.Request) error {
	if local(r) && !isLoopback(r.Host) {
		return forbidden("The Host header does not name this host", "a sidecar on loopback answers to localhost and loopback addresses alone")
	}
	if crossOrigin(r) {
		return forbidden("Cross-origin requests are refused", "a browser sent this from another site; the sidecar serves no pages")
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host"} {
		if _, given := r.Header[name]; given && !s.trusts(r) {
			return forbidden("Forwarded requests are refused", "the header "+name+" is accepted from the proxies in trusted-proxies alone")
		}
	}
	return nil
}

func forbidden(msg, details string) error {
	return &vault.Error{Kind: vault.Forbidden, Msg: msg, Details: details}
}

// local reports whether the request came over loopback or a Unix socket.
func local(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// isLoopback reports whether a Host header names the loopback interface. A name
// that only resolves to it could be resolved by an attacker's DNS.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// crossOrigin reports whether a browser says that another site sent the request
// (Fetch standard: Origin; W3C Fetch Metadata: Sec-Fetch-Site).
func crossOrigin(r *http.Request) bool {
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "same-origin" && site != "none" {
			return true
		}
	}
	for _, origin := range r.Header["Origin"] {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, r.Host) {
			return true
		}
	}
	return false
}

func (s *server) trusts(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && !overUnix(r) && slices.ContainsFunc(s.proxies, func(p netip.Prefix) bool {
		return p.Contains(addr.Addr().Unmap())
	})
}
