package rest

import (
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/sidevault/sidevault/api/peercred"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

// identify makes the request and gives it its ID and the headers that every
// answer has.
func (s *server) identify(c *gin.Context) {
	r := &request{gin: c}
	r.caller.Origin = vault.Origin{
		Source: "rest", Peer: peer(c.Request), RequestID: requestID(c.Request),
		Realm: vault.Clean(c.Request.Header.Get(wire.HeaderRealmName)),
	}
	switch agent := c.Request.UserAgent(); {
	case strings.HasPrefix(agent, wire.CLIAgent):
		r.caller.Origin.Source = "cli"
	case strings.HasPrefix(agent, wire.MCPAgent):
		r.caller.Origin.Source = "mcp"
	}
	c.Set(requestKey, r)
	h := c.Writer.Header()
	h.Set(wire.HeaderRequestID, r.id())
	maps.Copy(h, everyAnswer)
}

// everyAnswer are the headers of every answer. Nobody changes their values.
var everyAnswer = http.Header{
	"Cache-Control":           {"no-store"},
	"X-Content-Type-Options":  {"nosniff"},
	"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
}

// requestID takes over a well-formed ID of the client's, or makes one.
func requestID(r *http.Request) string {
	given := r.Header.Values(wire.HeaderRequestID)
	if len(given) == 1 && len(given[0]) >= 1 && len(given[0]) <= 128 && !strings.ContainsFunc(given[0], unprintable) {
		return given[0]
	}
	return uuid.NewString()
}

func unprintable(c rune) bool { return c < 0x20 || c > 0x7e }

// peer is the other end of the connection. On a Unix socket the client chooses its
// own address, which can be any text.
func peer(r *http.Request) string {
	if cred, ok := peercred.Of(r.Context()); ok {
		return cred.String()
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
func (s *server) observe(c *gin.Context) {
	start := time.Now()
	c.Next()
	r, took := requestOf(c), time.Since(start)
	s.metrics.requests.WithLabelValues(r.route(), method(c.Request), strconv.Itoa(c.Writer.Status())).Observe(took.Seconds())
	level := slog.LevelDebug
	if c.Writer.Status() >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	if ctx := c.Request.Context(); s.log.Enabled(ctx, level) {
		s.log.Log(ctx, level, "request", "request_id", r.id(), "method", method(c.Request), "route", r.route(),
			"status", c.Writer.Status(), "duration", took, "caller", r.caller.Actor.ID, "peer", r.caller.Origin.Peer)
	}
}

// method is the request's method as a name of ours: a client can make up others
// without end.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}

// recover turns a panic into an internal error. The panic's value is not logged:
// it could quote what was being handled.
func (s *server) recover(c *gin.Context) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			r := requestOf(c)
			s.log.ErrorContext(r.ctx(), "panic while handling a request", "request_id", r.id(), "route", r.route(), "stack", string(debug.Stack()))
			s.fail(r, &vault.Error{Kind: vault.Internal, Msg: "Internal error"})
		}
	}()
	c.Next()
}

// guard refuses what a browser or a proxy may have been tricked into sending. The
// sidecar is for programs on this host.
func (s *server) guard(c *gin.Context) {
	r := requestOf(c)
	if err := s.admissible(c.Request); err != nil {
		s.fail(r, err)
	}
}

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
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return true
	}
	for _, origin := range r.Header.Values("Origin") {
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
