package rest

import (
	"cmp"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

func (s *server) listKeys(r *request) (answer, error) {
	keys, err := s.vault.Keys(r.ctx(), r.caller)
	if err != nil {
		return answer{}, err
	}
	list := make([]wire.Key, len(keys))
	for i, k := range keys {
		list[i] = apiKey(k)
	}
	return page(list, ""), nil
}

func (s *server) createKey(r *request) (answer, error) {
	var body wire.CreateKeyRequest
	if err := r.read(&body); err != nil {
		return answer{}, err
	}
	err := cmp.Or(required("name", body.Name != ""), required("scope", body.Scope != ""),
		required("environments", body.Environments != nil), required("integrations", body.Integrations != nil))
	if err != nil {
		return answer{}, err
	}
	if body.Scope != wire.ScopeUser && body.Scope != wire.ScopeAdmin {
		return answer{}, invalid("The scope is not valid", "it must be user or admin")
	}
	in := vault.KeyInput{
		Name: body.Name, Email: body.Email, Admin: body.Scope == wire.ScopeAdmin,
		Environments: body.Environments, Integrations: body.Integrations,
	}
	if body.ExpiresAt != nil {
		in.ExpiresAt = moment(*body.ExpiresAt)
	}
	key, err := s.vault.CreateKey(r.ctx(), r.caller, in)
	if err != nil {
		return answer{}, err
	}
	a := created(wire.NewKey{Key: apiKey(key.APIKey), Secret: key.Secret}, "API key created; its secret is shown this once")
	a.reveals = true
	return a, nil
}

func (s *server) revokeKey(r *request) (answer, error) {
	if err := r.readNothing(); err != nil {
		return answer{}, err
	}
	key, err := s.vault.RevokeKey(r.ctx(), r.caller, r.gin.Param("id"))
	if err != nil {
		return answer{}, err
	}
	return ok(apiKey(key), "API key revoked"), nil
}

func apiKey(k vault.APIKey) wire.Key {
	return wire.Key{
		ID: k.ID, Name: k.Name, Email: k.Email, Scope: scopeName(k.Admin), Environments: k.Environments, Integrations: k.Integrations,
		CreatedAt: wire.Time(k.CreatedAt), CreatedBy: actor(k.CreatedBy), ExpiresAt: wire.Optional(k.ExpiresAt), RevokedAt: wire.Optional(k.RevokedAt),
	}
}

func scopeName(admin bool) string {
	if admin {
		return wire.ScopeAdmin
	}
	return wire.ScopeUser
}

func (s *server) whoami(r *request) (answer, error) {
	c := r.caller
	return ok(wire.Whoami{
		ID: c.Actor.ID, Name: c.Actor.Name, Email: c.Actor.Email, Kind: c.Actor.Kind, Org: wire.Org(c.Org),
		Scope: scopeName(c.Admin), Environments: c.Environments, Integrations: c.Integrations,
	}, ""), nil
}
