// Package local serves the tools of package mcp over a vault in this process, each
// request in the name of its own caller.
package local

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/sidevault/sidevault/api/mcp"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// source is what audit entries call requests of MCP.
const source = "mcp"

// Handler serves MCP over HTTP to callers that somebody else has authenticated.
type Handler struct {
	vault *vault.Vault
	http  *mcp.HTTP
}

// New returns a handler that serves a vault.
func New(v *vault.Vault, http *mcp.HTTP) *Handler { return &Handler{vault: v, http: http} }

// Serve answers a request. Still authenticates its caller once more. An error is a
// [*vault.Error], and nothing was answered.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, c vault.Caller, still func() error) error {
	c.Origin.Source = source
	return h.http.Serve(w, r, mcp.Caller{
		ID: c.Actor.ID, Owner: owner(c), RequestID: c.Origin.RequestID, Port: NewPort(h.vault, c),
	}, still)
}

// owner tells a caller from every other: IDs of different kinds, and of different orgs,
// can be the same.
func owner(c vault.Caller) string { return c.Org.ID + "/" + c.Actor.Kind + "/" + c.Actor.ID }

// NewPort returns the port that does the tools' work for one caller.
func NewPort(v *vault.Vault, c vault.Caller) mcp.Port { return port{v, c} }

type port struct {
	vault  *vault.Vault
	caller vault.Caller
}

func (p port) Admin(context.Context) (bool, error) { return p.caller.Admin, nil }

func (p port) Words(ctx context.Context) (w mcp.Words, err error) {
	w.Integrations = p.vault.CatalogKeys(p.caller)
	for _, e := range p.vault.Environments(ctx, p.caller) {
		w.Environments = append(w.Environments, e.Name)
	}
	return w, nil
}

func (p port) slot(s mcp.Slot) (vault.Slot, error) {
	return p.vault.Slot(s.Integration, s.Environment, s.Name)
}

func (p port) Set(ctx context.Context, s mcp.Slot, c mcp.Credential) (time.Time, error) {
	slot, err := p.slot(s)
	if err != nil {
		return time.Time{}, err
	}
	set, err := p.vault.Set(ctx, p.caller, slot, vault.SetInput{Fields: secrets(c)})
	return set.Credential.UpdatedAt, err
}

func secrets(c mcp.Credential) seal.Fields {
	if c.Value != nil {
		return seal.Fields{vault.ValueField: *c.Value}
	}
	fields := make(map[string]secret.Value, len(c.Fields))
	for name, v := range c.Fields {
		fields[name] = v
	}
	return fields
}

func (p port) Remove(ctx context.Context, s mcp.Slot) error {
	slot, err := p.slot(s)
	if err != nil {
		return err
	}
	_, err = p.vault.Remove(ctx, p.caller, slot, vault.RemoveOptions{IfExists: true})
	return err
}

func (p port) Status(ctx context.Context, s mcp.Slot) (mcp.Status, error) {
	slot, err := p.slot(s)
	if err != nil {
		return mcp.Status{}, err
	}
	found, err := p.vault.Status(ctx, p.caller, slot)
	if err != nil {
		return mcp.Status{}, err
	}
	out := mcp.Status{Key: slot.Integration, Environment: slot.Scope.Ptr(), Name: slot.Name}
	if c := found.Credential; c != nil {
		out.IsConfigured, out.HasCredentials = true, true
		out.CredentialID, out.Status, out.AuthType, out.Version = string(c.ID), string(c.StatusAt(time.Now())), c.AuthType, c.Version
		out.UpdatedAt, out.ExpiresAt = mcp.Moment(c.UpdatedAt), mcp.Moment(c.ExpiresAt)
	}
	return out, nil
}

// scope returns the scope of an environment, nil of none.
func (p port) scope(environment *string) (*envs.Scope, error) {
	if environment == nil {
		return nil, nil
	}
	scope, err := p.vault.Scope(environment)
	return &scope, err
}

func (p port) Integrations(ctx context.Context, q mcp.IntegrationQuery) (list []mcp.Integration, err error) {
	f := vault.IntegrationFilter{Category: q.Category, Configured: q.Configured}
	if f.Scope, err = p.scope(q.Environment); err != nil {
		return nil, err
	}
	found, err := p.vault.Integrations(ctx, p.caller, f)
	for _, i := range found {
		list = append(list, integration(i))
	}
	return list, err
}

func integration(i vault.IntegrationStatus) mcp.Integration {
	out := mcp.Integration{
		Key: i.Key, Name: i.Name, Category: i.Category, Description: i.Description, Enabled: i.Enabled,
		IsConfigured: len(i.Configured) > 0, AuthTypes: i.AuthTypes, Environments: i.Environments,
	}
	for _, scope := range i.Configured {
		out.ConfiguredIn = append(out.ConfiguredIn, scope.Ptr())
	}
	for _, f := range i.Fields {
		out.Fields = append(out.Fields, mcp.Field{Name: f.Name, Description: f.Description, Required: f.Required, Secret: f.Secret})
	}
	return out
}

func (p port) Environments(ctx context.Context) (list []mcp.Environment, err error) {
	for _, e := range p.vault.Environments(ctx, p.caller) {
		list = append(list, mcp.Environment{Name: e.Name, Parent: e.Parent, Protected: e.Protected, KeyHeld: e.KeyHeld})
	}
	return list, nil
}

// defaultPage is how many audit entries a page has unless the caller says so.
const defaultPage = 50

func (p port) Audit(ctx context.Context, q mcp.AuditQuery) (page mcp.AuditPage, err error) {
	in := vault.AuditQuery{
		Limit: q.Limit, Action: q.Action, Integration: q.Integration, Environment: q.Environment, ActorID: q.Actor,
		Outcome: q.Outcome, Since: q.Since, Until: q.Until,
	}
	if in.Limit == 0 {
		in.Limit = defaultPage
	}
	if err := p.checkAudit(q, &in); err != nil {
		return page, err
	}
	entries, next, err := p.vault.Audit(ctx, p.caller, in)
	if err != nil {
		return page, err
	}
	for _, e := range entries {
		page.Entries = append(page.Entries, auditEntry(e))
	}
	if next != 0 {
		page.NextCursor = strconv.FormatUint(next, 10)
	}
	return page, nil
}

func auditEntry(e vault.AuditEntry) mcp.AuditEntry {
	return mcp.AuditEntry{
		Seq: e.Seq, Time: e.Time, Org: e.Org, Action: e.Action, TargetType: e.TargetType, TargetID: e.TargetID,
		Actor:       mcp.AuditActor{ID: e.Actor.ID, Name: e.Actor.Name, Email: e.Actor.Email, Kind: e.Actor.Kind},
		Environment: e.Environment, Name: e.Name, CredentialID: e.CredentialID, Version: e.Version, Outcome: e.Outcome,
		Metadata: e.Metadata, RequestID: e.RequestID, Source: e.Source, Peer: e.Peer, Realm: e.Realm, Prev: e.Prev.String(), Hash: e.Hash.String(),
	}
}
