package rest

import (
	"cmp"
	"slices"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

// filter reads what selects catalog entries.
func (s *server) filter(r *request) (f vault.IntegrationFilter, err error) {
	if f.Category, err = r.name("category"); err != nil {
		return f, err
	}
	if f.Configured, err = r.boolean("configured"); err != nil {
		return f, err
	}
	f.Scope, err = s.scope(r)
	return f, err
}

func (s *server) integrations(r *request) ([]wire.Integration, error) {
	f, err := s.filter(r)
	if err != nil {
		return nil, err
	}
	found, err := s.vault.Integrations(r.ctx(), r.caller, f)
	if err != nil {
		return nil, err
	}
	list := make([]wire.Integration, len(found))
	for i, entry := range found {
		list[i] = integrationStatus(entry)
	}
	return list, nil
}

func (s *server) listIntegrations(r *request) (answer, error) {
	list, err := s.integrations(r)
	return page(list, ""), err
}

func (s *server) listCategories(r *request) (answer, error) {
	list, err := s.integrations(r)
	if err != nil {
		return answer{}, err
	}
	slices.SortStableFunc(list, func(a, b wire.Integration) int { return cmp.Compare(a.Category, b.Category) })
	var categories []wire.Category
	for _, i := range list {
		if n := len(categories); n == 0 || categories[n-1].Category != i.Category {
			categories = append(categories, wire.Category{Category: i.Category})
		}
		last := &categories[len(categories)-1]
		last.Integrations = append(last.Integrations, i)
	}
	return page(categories, ""), nil
}

func (s *server) getIntegration(r *request) (answer, error) {
	if err := vault.CheckIntegrationKey(r.integration()); err != nil {
		return answer{}, err
	}
	found, err := s.vault.Integration(r.ctx(), r.caller, r.integration())
	if err != nil {
		return answer{}, err
	}
	return ok(integrationStatus(found), ""), nil
}

func (s *server) registerIntegration(r *request) (answer, error) {
	var body wire.RegisterRequest
	if err := r.read(&body); err != nil {
		return answer{}, err
	}
	if err := required("id", body.ID != ""); err != nil {
		return answer{}, err
	}
	i, err := s.vault.Register(r.ctx(), r.caller, vault.Registration{
		Key: body.ID, Name: body.Name, Category: body.Category, Description: body.Description, AuthTypes: body.AuthTypes,
	})
	if err != nil {
		return answer{}, err
	}
	return created(integration(i), "Integration registered"), nil
}

func (s *server) updateIntegration(r *request) (answer, error) {
	if err := vault.CheckIntegrationKey(r.integration()); err != nil {
		return answer{}, err
	}
	var body wire.UpdateIntegrationRequest
	if err := r.read(&body); err != nil {
		return answer{}, err
	}
	i, err := s.vault.UpdateIntegration(r.ctx(), r.caller, r.integration(), vault.IntegrationChange{Name: body.Name, Enabled: body.Enabled})
	if err != nil {
		return answer{}, err
	}
	return ok(integrationStatus(i), "Integration updated"), nil
}

func (s *server) listEnvironments(r *request) (answer, error) {
	var list []wire.Environment
	for _, e := range s.vault.Environments(r.ctx(), r.caller) {
		out := wire.Environment{Name: e.Name, Protected: e.Protected, KeyHeld: e.KeyHeld, Recipients: e.Readers}
		if e.Parent != "" {
			out.Parent = &e.Parent
		}
		list = append(list, out)
	}
	return page(list, ""), nil
}

func integrationStatus(s vault.IntegrationStatus) wire.Integration {
	out := integration(s.Integration)
	out.IsConfigured, out.ConfiguredIn = len(s.Configured) > 0, scopes(s.Configured)
	return out
}

func integration(i vault.Integration) wire.Integration {
	out := wire.Integration{
		ID: i.Key, Name: i.Name, Category: i.Category, Description: i.Description, Docs: i.Docs, Rotation: i.Rotation,
		Enabled: i.Enabled, Registered: i.Registered, AuthTypes: i.AuthTypes, Environments: i.Environments,
		CredentialOf: i.CredentialOf, CreatedAt: wire.Optional(i.CreatedAt), UpdatedAt: wire.Optional(i.UpdatedAt),
	}
	for _, f := range i.Fields {
		field := wire.Field{Name: f.Name, Description: f.Description, Required: f.Required, Secret: f.Secret}
		if f.Pattern != nil {
			field.Pattern = f.Pattern.String()
		}
		out.Fields = append(out.Fields, field)
	}
	return out
}
