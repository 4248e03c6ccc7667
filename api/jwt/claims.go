package jwt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/go-json-experiment/json"

	"github.com/sidevault/sidevault/vault"
)

// Claims are the claims that say who the caller is. A dot leads into an object, as
// in realm_access.roles; a dot that is part of a name is written \. as in
// https://acme\.example/roles.
type Claims struct {
	ID    string // default sub
	Name  string // default name
	Email string // default email
	Org   string // default org
	Roles string // default roles
}

// claimPaths are Claims, parsed.
type claimPaths struct{ id, name, email, org, roles []string }

func (c Claims) parse() (p claimPaths, err error) {
	for _, claim := range []struct {
		to        *[]string
		path, def string
	}{{&p.id, c.ID, "sub"}, {&p.name, c.Name, "name"}, {&p.email, c.Email, "email"}, {&p.org, c.Org, "org"}, {&p.roles, c.Roles, "roles"}} {
		if claim.path == "" {
			claim.path = claim.def
		}
		if *claim.to = split(claim.path); slices.Contains(*claim.to, "") {
			return p, fmt.Errorf("claim %q is no path: as in realm_access.roles, with a \\. where a dot is part of a name", claim.path)
		}
	}
	return p, nil
}

func split(path string) []string {
	const dot = "\x00"
	parts := strings.Split(strings.ReplaceAll(path, `\.`, dot), ".")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], dot, ".")
	}
	return parts
}

// claims are a token's payload whose signature was verified.
type claims struct {
	registered jwt.Claims
	all        map[string]any
}

// parseClaims reads a payload. A member given twice is an error, at any depth.
func parseClaims(payload []byte) (c claims, err error) {
	if json.Unmarshal(payload, &c.all) != nil || json.Unmarshal(payload, &c.registered) != nil {
		return claims{}, errors.New("its claims are malformed")
	}
	return c, nil
}

// accept holds the claims to the configuration and the clock (RFC 7519, section
// 4.1). A token is valid until leeway after exp, from leeway before nbf and iat.
func (v *Verifier) accept(c claims, now time.Time) error {
	if c.registered.Expiry == nil {
		return errors.New("it has no end")
	}
	err := c.registered.ValidateWithLeeway(jwt.Expected{Issuer: v.cfg.Issuer, AnyAudience: jwt.Audience{v.cfg.Audience}, Time: now}, leeway)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return errors.New("it is of another issuer")
	case errors.Is(err, jwt.ErrInvalidAudience):
		return errors.New("it is for another audience")
	case errors.Is(err, jwt.ErrExpired):
		return errors.New("it has expired")
	case err != nil:
		return errors.New("it is not valid yet")
	}
	return nil
}

// caller returns who the claims say it is.
func (v *Verifier) caller(ctx context.Context, c claims) (vault.Caller, error) {
	id, _ := c.at(v.claims.id).(string)
	// An ID that was mended could be another's.
	if !vault.IsName(id) {
		return vault.Caller{}, errors.New("its ID is missing, or not printable text of at most 128 bytes")
	}
	roles, err := c.roles(v.claims.roles)
	if err != nil {
		return vault.Caller{}, err
	}
	org, err := v.orgOf(ctx, c)
	if err != nil {
		return vault.Caller{}, err
	}
	actor := vault.Actor{ID: id, Name: c.text(v.claims.name), Email: c.text(v.claims.email), Kind: "jwt"}
	if actor.Name == "" {
		actor.Name = id
	}
	return vault.Caller{
		Actor: actor, Org: org, Admin: slices.Contains(roles, v.cfg.AdminRole),
		Environments: v.cfg.Environments, Integrations: v.cfg.Integrations,
	}, nil
}

func (v *Verifier) orgOf(ctx context.Context, c claims) (vault.Org, error) {
	given := c.at(v.claims.org)
	if given == nil && v.fixed != (vault.Org{}) {
		return v.fixed, nil
	}
	name, ok := given.(string)
	if !ok || !vault.IsName(name) {
		return vault.Org{}, errors.New("its org is missing, or no name")
	}
	return v.org(ctx, name)
}

// at returns the claim with that path, or nil.
func (c claims) at(path []string) any {
	var at any = c.all
	for _, name := range path {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[name]
	}
	return at
}

// text returns a claim that only describes, fit for the audit.
func (c claims) text(path []string) string {
	s, _ := c.at(path).(string)
	return vault.Clean(s)
}

// roles returns the caller's roles: an array of names, or one name as a string. A
// string is never split, since a role's name may have spaces.
func (c claims) roles(path []string) ([]string, error) {
	switch given := c.at(path).(type) {
	case nil:
		return nil, nil
	case string:
		return []string{given}, nil
	case []any:
		names := make([]string, len(given))
		for i, role := range given {
			name, ok := role.(string)
			if !ok {
				return nil, errors.New("its roles are not all strings")
			}
			names[i] = name
		}
		return names, nil
	default:
		return nil, errors.New("its roles are neither a string nor an array of strings")
	}
}
