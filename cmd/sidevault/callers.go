package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/sidevault/sidevault/api/jwt"
	"github.com/sidevault/sidevault/api/peercred"
	"github.com/sidevault/sidevault/api/rest"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/suggest"
)

const (
	jwtSection = "jwt."
	peersKey   = "peers"
)

// callerSettings are the settings of callers without an API key.
func callerSettings() []setting {
	names := strings.Join(jwt.Algorithms(), ", ")
	return []setting{
		{key: "jwt.issuer",
			help:  "`issuer` whose tokens (JWT) are accepted next to API keys: their iss, to the letter",
			apply: text(func(c *settings) *string { return &c.JWT.Issuer })},
		{key: "jwt.audience",
			help:  "`audience` that the tokens are for: in their aud, to the letter",
			apply: text(func(c *settings) *string { return &c.JWT.Audience })},
		{key: "jwt.jwks", path: true,
			help:  "`file` or https URL with the issuer's public keys (JWKS)",
			apply: text(func(c *settings) *string { return &c.JWT.JWKS })},
		{key: "jwt.algorithms", list: true, def: jwt.DefaultAlgorithms(),
			help:  "`algorithms` that tokens may be signed with, of " + names,
			apply: list(func(c *settings) *[]string { return &c.JWT.Algorithms })},
		{key: "jwt.role", def: []string{jwt.DefaultAdminRole},
			help:  "`role` that gives a token's bearer admin scope",
			apply: text(func(c *settings) *string { return &c.JWT.AdminRole })},
		{key: "jwt.org",
			help:  "`org` of tokens that name none; without it they are refused",
			apply: text(func(c *settings) *string { return &c.JWT.FixedOrg })},
		{key: "jwt.claims.id", def: []string{"sub"},
			help:  "`claim` with the caller's ID",
			apply: text(func(c *settings) *string { return &c.JWT.Claims.ID })},
		{key: "jwt.claims.name", def: []string{"name"},
			help:  "`claim` with the caller's name",
			apply: text(func(c *settings) *string { return &c.JWT.Claims.Name })},
		{key: "jwt.claims.email", def: []string{"email"},
			help:  "`claim` with the caller's e-mail address",
			apply: text(func(c *settings) *string { return &c.JWT.Claims.Email })},
		{key: "jwt.claims.org", def: []string{"org"},
			help:  "`claim` with the org's slug or UUID",
			apply: text(func(c *settings) *string { return &c.JWT.Claims.Org })},
		{key: "jwt.claims.roles", def: []string{"roles"},
			help:  "`claim` with the roles; a dot leads into an object, as in realm_access.roles",
			apply: text(func(c *settings) *string { return &c.JWT.Claims.Roles })},
		{key: "jwt.environments", list: true, def: []string{vault.All},
			help:  "`environments` that tokens are granted; * is all that are not protected",
			apply: list(func(c *settings) *[]string { return &c.JWT.Environments })},
		{key: "jwt.integrations", list: true, def: []string{vault.All},
			help:  "`integrations` that tokens are granted",
			apply: list(func(c *settings) *[]string { return &c.JWT.Integrations })},
		{key: peersKey, list: true, fileOnly: true, item: (*configReader).peer,
			help:  "callers on a Unix socket without a key, by user and group; see below",
			apply: applyPeers},
	}
}

func list(at func(*settings) *[]string) func(*settings, []string) error {
	return func(c *settings, v []string) error {
		*at(c) = v
		return nil
	}
}

// peerSpec is a rule of peers as it is in the file.
type peerSpec struct {
	UID, GID                   string
	Name, Email, Org, Scope    string
	Environments, Integrations []string
}

func peerKeys() []string {
	return []string{"uid", "gid", "name", "email", "org", "scope", "environments", "integrations"}
}

func (p *peerSpec) text(key string) *string {
	return map[string]*string{"uid": &p.UID, "gid": &p.GID, "name": &p.Name, "email": &p.Email, "org": &p.Org, "scope": &p.Scope}[key]
}

func (p *peerSpec) list(key string) *[]string {
	return map[string]*[]string{"environments": &p.Environments, "integrations": &p.Integrations}[key]
}

func (p *peerSpec) rule() (r peercred.Rule, err error) {
	if p.Scope != wire.ScopeUser && p.Scope != wire.ScopeAdmin {
		return r, fmt.Errorf("scope %q is neither user nor admin", p.Scope)
	}
	r = peercred.Rule{
		Name: p.Name, Email: p.Email, Org: p.Org, Admin: p.Scope == wire.ScopeAdmin, Environments: p.Environments, Integrations: p.Integrations,
	}
	if r.UID, err = parseID("uid", p.UID); err != nil {
		return r, err
	}
	r.GID, err = parseID("gid", p.GID)
	return r, err
}

func parseID(what, s string) (*uint32, error) {
	if s == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%s %q is not a number", what, s)
	}
	id := uint32(n)
	return &id, nil
}

// applyPeers takes the rules as configReader.peer has spelled them.
func applyPeers(c *settings, v []string) error {
	c.Peers = nil
	for i, s := range v {
		var p peerSpec
		if json.Unmarshal([]byte(s), &p) != nil {
			return fmt.Errorf("rule %d: a mapping is expected, as in {uid: 1000, name: backup, org: default, scope: user, environments: [staging], integrations: ['*']}", i+1)
		}
		r, err := p.rule()
		if err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
		c.Peers = append(c.Peers, r)
	}
	return nil
}

// checkCallers holds the settings of callers to each other.
func (c settings) checkCallers() error {
	required := []struct{ key, value string }{{"jwt.issuer", c.JWT.Issuer}, {"jwt.audience", c.JWT.Audience}, {"jwt.jwks", c.JWT.JWKS}}
	for _, r := range required {
		if r.value == "" && c.givenBelow(jwtSection) {
			return usagef("jwt.issuer, jwt.audience and jwt.jwks belong together, and %s is not set", r.key)
		}
	}
	return nil
}

func (c settings) givenBelow(section string) bool {
	for key, given := range c.given {
		if given && strings.HasPrefix(key, section) {
			return true
		}
	}
	return false
}

// callers are who may call without an API key.
type callers struct {
	tokens rest.Tokens     // nil without jwt
	peers  *peercred.Rules // nil without peers
}

func openCallers(ctx context.Context, cfg settings, v *vault.Vault, owns func(int) bool, log *slog.Logger) (c callers, err error) {
	unix := slices.ContainsFunc(cfg.Listen, func(a address) bool { return a.network == "unix" })
	if len(cfg.Peers) > 0 && !unix && !activated(cfg.sh) {
		return c, usagef("peers are callers on a Unix socket, and listen names none").hinted("add one to listen, as in unix:///run/sidevault/sidevault.sock")
	}
	if c.peers, err = peercred.New(ctx, peercred.Config{Rules: cfg.Peers, Envs: cfg.Environments, Org: v.Org, Owns: owns}); err != nil {
		return c, usagef("peers").because(err)
	}
	if !cfg.givenBelow(jwtSection) {
		return c, nil
	}
	jc := cfg.JWT
	jc.Org, jc.Envs, jc.Logger = v.Org, cfg.Environments, log
	verifier, err := jwt.Open(ctx, jc)
	if err != nil {
		return c, usagef("jwt").because(err)
	}
	c.tokens = verifier
	return c, nil
}

// peer reads a rule of peers and returns it as applyPeers takes it.
func (r *configReader) peer(n ast.Node) string {
	var p peerSpec
	for it := n.(ast.MapNode).MapRange(); it.Next(); {
		tk := it.Key().GetToken()
		if to := p.text(tk.Value); to != nil {
			*to, _ = r.scalar(tk.Value, tk, it.Value())
		} else if to := p.list(tk.Value); to != nil {
			*to = r.texts(tk.Value, tk, it.Value())
		} else {
			r.fail(tk, "unknown key %q%s", tk.Value, suggest.Hint(tk.Value, peerKeys()))
		}
	}
	spelled, err := json.Marshal(p)
	if err != nil {
		r.fail(n.GetToken(), "%s", err)
	}
	return string(spelled)
}
