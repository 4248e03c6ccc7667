package rest

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// serve runs a route: query, authentication, handler, answer.
func (s *server) serve(r *request, rt route) {
	r.reads, r.stale = rt.method == http.MethodGet && !rt.open, s.vault.Stale()
	a, err := s.run(r, &rt)
	switch {
	case err != nil:
		s.fail(r, err)
	case a.status != 0:
		s.write(r, a)
	}
}

func (s *server) run(r *request, rt *route) (answer, error) {
	if !rt.open {
		if err := s.authenticate(r); err != nil {
			return answer{}, err
		}
	}
	if err := r.parseQuery(rt.query); err != nil {
		return answer{}, err
	}
	return rt.do(r)
}

// Tokens verifies the tokens that are no API keys.
type Tokens interface {
	// Verify returns the caller that a token speaks for, or an Unauthorized that
	// does not tell what is wrong with it.
	Verify(ctx context.Context, token secret.Value) (vault.Caller, error)
}

// authenticate sets the request's caller: from its Authorization header or, only
// without one, from the peer of a Unix socket.
func (s *server) authenticate(r *request) error {
	headers := r.gin.Request.Header["Authorization"]
	caller, known := vault.Caller{}, false
	if len(headers) == 0 {
		caller, known = s.peers.Caller(r.ctx())
	}
	if !known {
		token, err := bearer(headers)
		if err != nil {
			return err
		}
		if caller, err = s.verify(r, token); err != nil {
			return err
		}
	}
	caller.Origin = r.caller.Origin
	r.caller = caller
	return checkTenant(r)
}

// verify returns the caller of an API key or a token. A peer that failed too often
// is told to wait, but never one with a valid key: on loopback every program has
// the same address.
func (s *server) verify(r *request, token secret.Value) (caller vault.Caller, err error) {
	if s.tokens != nil && isJWT(token) {
		caller, err = s.tokens.Verify(r.ctx(), token)
	} else {
		caller, err = s.vault.Authenticate(r.ctx(), token)
	}
	if vault.KindOf(err) == vault.Unauthorized {
		s.metrics.authFailures.Inc()
		if !s.failures.allow(r.caller.Origin.Peer) {
			return vault.Caller{}, &vault.Error{Kind: vault.RateLimited, Msg: "Too many failed authentications", Details: "wait a second, and check the key", Err: err}
		}
	}
	return caller, err
}

// isJWT reports whether a token has the three parts of a JWT (RFC 7519, section 3);
// an API key has one.
func isJWT(token secret.Value) bool { return strings.Count(token.Reveal(), ".") == 2 }

// bearer reads the key or token from an Authorization header (RFC 6750, section 2.1), or
// from one that is the bare key.
func bearer(headers []string) (secret.Value, error) {
	if len(headers) == 0 || headers[0] == "" {
		return secret.Value{}, &vault.Error{Kind: vault.Unauthorized, Msg: "Authentication required", Details: "send an API key as Authorization: Bearer KEY"}
	}
	if len(headers) > 1 {
		return secret.Value{}, invalid("There is more than one Authorization header", "send one")
	}
	scheme, key, found := strings.Cut(headers[0], " ")
	if !found {
		return secret.New(headers[0]), nil
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return secret.Value{}, &vault.Error{Kind: vault.Unauthorized, Msg: "Authentication failed", Details: "the Authorization scheme must be Bearer"}
	}
	return secret.New(strings.TrimSpace(key)), nil
}

// checkTenant holds an X-Tenantid header to the caller's own org.
func checkTenant(r *request) error {
	for _, tenant := range r.gin.Request.Header[wire.HeaderTenantID] {
		if !strings.EqualFold(tenant, r.caller.Org.ID) && tenant != r.caller.Org.Slug {
			return forbidden("The X-Tenantid header names another tenant", "it must be the caller's own org, as in GET /v1/whoami, or left out")
		}
	}
	return nil
}

// Failed authentications that one peer may make: a burst, then one a second.
const (
	failureBurst = 20
	failureRate  = 1
	// maxPeers bounds the peers that are remembered; beyond it all are forgotten.
	maxPeers = 10_000
)

// failures limits failed authentications by peer.
type failures struct {
	mu    sync.Mutex
	peers map[string]*rate.Limiter
}

func newFailures() *failures { return &failures{peers: map[string]*rate.Limiter{}} }

// allow counts one failure and reports whether the peer may still be told so.
func (f *failures) allow(peer string) bool {
	// Neither a new port nor a new process makes another peer.
	peer, _, _ = strings.Cut(peer, " pid=")
	if host, _, err := net.SplitHostPort(peer); err == nil {
		peer = host
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	limiter, known := f.peers[peer]
	if !known {
		if len(f.peers) >= maxPeers {
			clear(f.peers)
		}
		limiter = rate.NewLimiter(failureRate, failureBurst)
		f.peers[peer] = limiter
	}
	return limiter.Allow()
}
