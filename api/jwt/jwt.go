// Package jwt turns a signed JSON Web Token (RFC 7519, as a JWS in compact form)
// into a caller. It is strict where RFC 8725 advises to be: the algorithm must be
// one of a configured list of asymmetric ones and fit the key's type, curve and own
// alg; issuer and audience must be the configured ones; a token without an end is
// refused. A key is found by its kid in the configured key set alone. Whatever
// else a header offers to find a key by (jku, jwk, x5u, x5c) is not looked at.
//
// It issues no tokens, keeps no sessions and takes no encrypted tokens. A token
// that was revoked at its issuer is valid here until it expires.
package jwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// DefaultAdminRole is the role that gives admin scope unless another is named.
const DefaultAdminRole = "integration_admin"

// Config is what a [Verifier] needs.
type Config struct {
	Issuer   string // the iss of every token
	Audience string // in the aud of every token
	// JWKS is where the issuer's keys are (RFC 7517): a file, or an https URL; http
	// for a loopback address alone.
	JWKS string
	// Org returns the org of that slug or UUID, an InvalidRequest when there is
	// none.
	Org    func(ctx context.Context, name string) (vault.Org, error)
	Envs   *envs.Tree
	Logger *slog.Logger
	Options
}

// Options are the optional parts of a [Config].
type Options struct {
	Algorithms   []string // default [DefaultAlgorithms]
	Claims       Claims
	AdminRole    string   // default [DefaultAdminRole]
	FixedOrg     string   // the org of tokens that name none; default: they are refused
	Environments []string // what every caller is granted; default "*"
	Integrations []string // default "*"
}

// Algorithms returns the signature algorithms that can be allowed (RFC 7518 and
// 8037): all of them asymmetric.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// DefaultAlgorithms returns those that are allowed by default.
func DefaultAlgorithms() []string { return []string{"RS256", "ES256", "EdDSA", "PS256"} }

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	cfg    Config
	claims claimPaths
	keys   *keys
	fixed  vault.Org // zero unless there is one

	mu   sync.Mutex
	orgs map[string]vault.Org // found before: an org's names are fixed for good
}

// Open checks the configuration and reads the key set. A file that cannot be read
// is an error. A URL is asked in the background: its host may come up later than
// this one.
func Open(ctx context.Context, cfg Config) (*Verifier, error) {
	cfg.Options = cfg.withDefaults()
	v := &Verifier{cfg: cfg, orgs: map[string]vault.Org{}}
	if err := v.check(ctx); err != nil {
		return nil, err
	}
	var err error
	if v.claims, err = cfg.Claims.parse(); err != nil {
		return nil, err
	}
	v.keys, err = openKeys(ctx, cfg.JWKS, cfg.Logger)
	return v, err
}

func (o Options) withDefaults() Options {
	all := []string{vault.All}
	for _, list := range []struct {
		of  *[]string
		def []string
	}{{&o.Algorithms, DefaultAlgorithms()}, {&o.Environments, all}, {&o.Integrations, all}} {
		if len(*list.of) == 0 {
			*list.of = list.def
		}
		*list.of = slices.Clone(*list.of)
	}
	if o.AdminRole == "" {
		o.AdminRole = DefaultAdminRole
	}
	return o
}

func (v *Verifier) check(ctx context.Context) (err error) {
	for _, required := range []struct{ name, value string }{
		{"issuer", v.cfg.Issuer}, {"audience", v.cfg.Audience}, {"key set", v.cfg.JWKS},
	} {
		if required.value == "" {
			return fmt.Errorf("the %s is missing: without it tokens for others would be valid here", required.name)
		}
	}
	for _, alg := range v.cfg.Algorithms {
		if !slices.Contains(Algorithms(), alg) {
			return fmt.Errorf("algorithm %q cannot be allowed: the asymmetric ones are %s", alg, strings.Join(Algorithms(), ", "))
		}
	}
	if err := vault.CheckGrant(v.cfg.Envs, v.cfg.Environments, v.cfg.Integrations); err != nil {
		return err
	}
	if v.cfg.FixedOrg != "" {
		v.fixed, err = v.cfg.Org(ctx, v.cfg.FixedOrg)
	}
	return err
}

// Verify returns the caller that a token speaks for. Any token that is not valid,
// for whatever reason, is an Unauthorized with one and the same text; the reason is
// in its Err, which quotes nothing of the token. The only other errors are those of
// Config.Org when it could not look.
func (v *Verifier) Verify(ctx context.Context, token secret.Value) (vault.Caller, error) {
	c, err := v.verify(ctx, token.Reveal())
	if err == nil {
		return c, nil
	}
	if unknown, ok := errors.AsType[*lookupError](err); ok {
		return vault.Caller{}, unknown.err
	}
	return vault.Caller{}, &vault.Error{
		Kind: vault.Unauthorized, Msg: "Authentication failed", Details: "the token is not valid here", Err: fmt.Errorf("JWT: %w", err),
	}
}

// lookupError is an org that could not be looked up, whether it exists or not.
type lookupError struct{ err error }

func (e *lookupError) Error() string { return "the org could not be looked up" }

func (v *Verifier) verify(ctx context.Context, token string) (vault.Caller, error) {
	h, err := parseHeader(token)
	if err != nil {
		return vault.Caller{}, err
	}
	if !slices.Contains(v.cfg.Algorithms, h.Alg) {
		return vault.Caller{}, errors.New("its algorithm is not allowed")
	}
	k, err := v.keys.find(ctx, h.Kid)
	if err != nil {
		return vault.Caller{}, err
	}
	if !k.fits(h.Alg) {
		return vault.Caller{}, errors.New("its algorithm is not that of the key")
	}
	payload, err := open(token, h.Alg, k)
	if err != nil {
		return vault.Caller{}, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return vault.Caller{}, err
	}
	if err := v.accept(c, v.keys.now()); err != nil {
		return vault.Caller{}, err
	}
	return v.caller(ctx, c)
}

// open returns the payload of a token whose signature is the key's. The library's
// errors can quote the token.
func open(token, alg string, k key) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		return nil, errors.New("it is malformed")
	}
	payload, err := jws.Verify(k.public)
	if err != nil {
		return nil, errors.New("its signature is not the key's")
	}
	return payload, nil
}

// leeway is how far the clocks of issuer and host may be apart.
const leeway = 30 * time.Second

// maxOrgs bounds the orgs that are remembered; beyond it all are forgotten.
const maxOrgs = 1024

func (v *Verifier) org(ctx context.Context, name string) (vault.Org, error) {
	v.mu.Lock()
	org, ok := v.orgs[name]
	v.mu.Unlock()
	if ok {
		return org, nil
	}
	org, err := v.cfg.Org(ctx, name)
	if vault.KindOf(err) == vault.InvalidRequest {
		return vault.Org{}, errors.New("its org is unknown")
	}
	if err != nil {
		return vault.Org{}, &lookupError{err}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.orgs) >= maxOrgs {
		clear(v.orgs)
	}
	v.orgs[name] = org
	return org, nil
}
