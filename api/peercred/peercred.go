// Package peercred knows who is at the other end of a Unix socket, by what the
// kernel says of the process that connected, and which caller the configured rules
// make of it. It reads nothing that a client sent: a request with an Authorization
// header is none of its business.
//
// The credentials are those of the moment of connecting (Linux, unix(7),
// SO_PEERCRED): the effective user, the primary group and the process. They stay
// with the connection when it is handed to another process. Processes that the
// sidecar has started itself (its plugins) are nobody.
package peercred

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

// Credentials are the peer's at the moment when it connected. PID is 0 when the
// process is in another PID namespace.
type Credentials struct {
	UID, GID uint32
	PID      int32
}

// String names the peer for logs and the audit.
func (c Credentials) String() string { return fmt.Sprintf("unix uid=%d pid=%d", c.UID, c.PID) }

type contextKey struct{}

// Attach returns the context with the credentials of the connection's peer, for
// the ConnContext of an [net/http.Server]. Without any (another kind of connection,
// another system) it returns ctx. A connection that wraps another has a NetConn, as
// [crypto/tls.Conn.NetConn].
func Attach(ctx context.Context, c net.Conn) context.Context {
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = wrapped.NetConn()
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	cred, err := credentials(u)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, contextKey{}, &peer{Credentials: cred, name: cred.String()})
}

// peer is who is at the other end of a connection.
type peer struct {
	Credentials
	name  string
	asked sync.Once
	own   bool // a process of the sidecar's own
}

func of(ctx context.Context) (*peer, bool) {
	p, ok := ctx.Value(contextKey{}).(*peer)
	return p, ok
}

// Of returns the credentials that Attach has found.
func Of(ctx context.Context) (Credentials, bool) {
	p, ok := of(ctx)
	if !ok {
		return Credentials{}, false
	}
	return p.Credentials, true
}

// Name returns how the peer is called in logs and the audit.
func Name(ctx context.Context) (string, bool) {
	p, ok := of(ctx)
	if !ok {
		return "", false
	}
	return p.name, true
}

// Rule says which caller a peer is. It applies to a peer that has its UID and its
// GID, of which one may be nil: any.
type Rule struct {
	UID, GID     *uint32
	Name         string // of the caller, for people
	Email        string // "" for none
	Org          string // slug or UUID
	Admin        bool
	Environments []string // as of an API key's grant
	Integrations []string
}

// Config is what [New] needs.
type Config struct {
	Rules []Rule
	Envs  *envs.Tree
	// Org returns the org of that slug or UUID.
	Org func(ctx context.Context, name string) (vault.Org, error)
	// Owns, when not nil, reports whether a process is one that the sidecar itself
	// has started, or a descendant of one. Such a process is nobody, whatever the
	// rules say of its user: the sidecar runs programs that it does not trust.
	Owns func(pid int) bool
}

// Rules decide which caller a peer is. They are immutable; a nil *Rules knows
// nobody.
type Rules struct {
	list []rule
	owns func(pid int) bool // never nil
}

type rule struct {
	Rule
	org vault.Org
}

// overflow is the user, and the group, that stands for all those that this user
// namespace has no number for (user_namespaces(7)).
const overflow = 65534

// New checks the rules: each has a user or a group, a name, an org that exists and
// a grant. On a system that does not identify peers every rule is refused.
func New(ctx context.Context, cfg Config) (*Rules, error) {
	r := &Rules{owns: cfg.Owns}
	if r.owns == nil {
		r.owns = func(int) bool { return false }
	}
	for i, given := range cfg.Rules {
		if !supported {
			return nil, fmt.Errorf("this system does not say who is at the other end of a Unix socket")
		}
		org, err := given.check(ctx, cfg)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
		r.list = append(r.list, rule{Rule: given, org: org})
	}
	return r, nil
}

func (r Rule) check(ctx context.Context, cfg Config) (vault.Org, error) {
	switch {
	case r.UID == nil && r.GID == nil:
		return vault.Org{}, fmt.Errorf("name a uid, a gid or both: without, it would be everybody")
	case r.UID != nil && *r.UID == overflow || r.GID != nil && *r.GID == overflow:
		return vault.Org{}, fmt.Errorf("%d stands for every user that has no number here: it identifies nobody", overflow)
	case !vault.IsName(r.Name):
		return vault.Org{}, fmt.Errorf("the name must be 1 to %d bytes of printable text", vault.MaxName)
	case r.Email != "" && !vault.IsName(r.Email):
		return vault.Org{}, fmt.Errorf("the email must be at most %d bytes of printable text", vault.MaxName)
	}
	if err := vault.CheckGrant(cfg.Envs, r.Environments, r.Integrations); err != nil {
		return vault.Org{}, err
	}
	return cfg.Org(ctx, r.Org)
}

// Caller returns the caller that the first matching rule makes of the context's
// peer. The caller's slices are shared and must not be changed.
func (r *Rules) Caller(ctx context.Context) (vault.Caller, bool) {
	p, ok := of(ctx)
	if r == nil || !ok || p.isOwn(r.owns) {
		return vault.Caller{}, false
	}
	cred := p.Credentials
	for _, rule := range r.list {
		if rule.matches(cred) {
			return vault.Caller{
				Actor: vault.Actor{ID: fmt.Sprintf("uid:%d", cred.UID), Name: rule.Name, Email: rule.Email, Kind: "unix"},
				Org:   rule.org, Admin: rule.Admin, Environments: rule.Environments, Integrations: rule.Integrations,
			}, true
		}
	}
	return vault.Caller{}, false
}

// isOwn asks once for a connection: the answer takes a walk through the processes.
func (p *peer) isOwn(owns func(pid int) bool) bool {
	p.asked.Do(func() {
		// A descendant is in this PID namespace or in one below it, and so has a number.
		p.own = p.PID != 0 && owns(int(p.PID))
	})
	return p.own
}

func (r Rule) matches(c Credentials) bool {
	return (r.UID == nil || *r.UID == c.UID) && (r.GID == nil || *r.GID == c.GID)
}
