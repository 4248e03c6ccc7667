// Package remote does the work of package mcp's tools over the HTTP API of a running
// sidecar.
package remote

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/mcp"
	"github.com/sidevault/sidevault/api/wire"
)

// Port is the sidecar that a client talks to.
type Port struct{ client *client.Client }

// New returns the port of a client.
func New(c *client.Client) Port { return Port{c} }

// Admin asks the sidecar for the scope of the client's key.
func (p Port) Admin(ctx context.Context) (bool, error) {
	who, err := p.client.Whoami(ctx)
	return who.Data.Scope == wire.ScopeAdmin, explain(err)
}

// Words asks the sidecar for its catalog and its environments.
func (p Port) Words(ctx context.Context) (w mcp.Words, err error) {
	integrations, err := p.client.Integrations(ctx, client.IntegrationFilter{})
	if err != nil {
		return w, explain(err)
	}
	environments, err := p.client.Environments(ctx)
	if err != nil {
		return w, explain(err)
	}
	for _, i := range integrations.Data {
		w.Integrations = append(w.Integrations, i.ID)
	}
	for _, e := range environments.Data {
		w.Environments = append(w.Environments, e.Name)
	}
	return w, nil
}

func slot(s mcp.Slot) client.Slot {
	return client.Slot{Integration: s.Integration, Environment: s.Environment, Name: s.Name}
}

// Set sets a credential.
func (p Port) Set(ctx context.Context, s mcp.Slot, c mcp.Credential) (time.Time, error) {
	set, err := p.client.Set(ctx, slot(s), client.SetInput{Value: c.Value, Fields: c.Fields})
	return time.Time(set.Data.UpdatedAt), explain(err)
}

// Remove removes a credential, if there is one.
func (p Port) Remove(ctx context.Context, s mcp.Slot) error {
	_, err := p.client.Remove(ctx, slot(s), client.RemoveOptions{IfExists: true})
	return explain(err)
}

// Status says what a slot holds.
func (p Port) Status(ctx context.Context, s mcp.Slot) (mcp.Status, error) {
	got, err := p.client.Status(ctx, slot(s))
	if err != nil {
		return mcp.Status{}, explain(err)
	}
	out := mcp.Status{Key: got.Data.IntegrationID, Environment: got.Data.Environment, Name: got.Data.Name}
	if c := got.Data.Credential; c != nil {
		out.IsConfigured, out.HasCredentials = true, true
		out.CredentialID, out.Status, out.AuthType, out.Version = c.ID, c.Status, c.AuthType, c.Version
		out.UpdatedAt, out.ExpiresAt = moment(&c.UpdatedAt), moment(c.ExpiresAt)
	}
	return out, nil
}

func moment(t *wire.Time) string {
	if t == nil {
		return ""
	}
	return mcp.Moment(time.Time(*t))
}

// Integrations lists the catalog.
func (p Port) Integrations(ctx context.Context, q mcp.IntegrationQuery) (list []mcp.Integration, err error) {
	got, err := p.client.Integrations(ctx, client.IntegrationFilter{Category: q.Category, Environment: q.Environment, Configured: q.Configured})
	for _, i := range got.Data {
		list = append(list, integration(i))
	}
	return list, explain(err)
}

func integration(i wire.Integration) mcp.Integration {
	out := mcp.Integration{
		Key: i.ID, Name: i.Name, Category: i.Category, Description: i.Description, Enabled: i.Enabled, IsConfigured: i.IsConfigured,
		ConfiguredIn: i.ConfiguredIn, AuthTypes: i.AuthTypes, Environments: i.Environments,
	}
	for _, f := range i.Fields {
		out.Fields = append(out.Fields, mcp.Field{Name: f.Name, Description: f.Description, Required: f.Required, Secret: f.Secret})
	}
	return out
}

// Environments lists the environments.
func (p Port) Environments(ctx context.Context) (list []mcp.Environment, err error) {
	got, err := p.client.Environments(ctx)
	for _, e := range got.Data {
		out := mcp.Environment{Name: e.Name, Protected: e.Protected, KeyHeld: e.KeyHeld}
		if e.Parent != nil {
			out.Parent = *e.Parent
		}
		list = append(list, out)
	}
	return list, explain(err)
}

// Audit lists the audit log.
func (p Port) Audit(ctx context.Context, q mcp.AuditQuery) (page mcp.AuditPage, err error) {
	got, err := p.client.Audit(ctx, client.AuditQuery{
		Limit: q.Limit, Cursor: q.Cursor, Action: q.Action, Integration: q.Integration, Environment: q.Environment,
		Actor: q.Actor, Outcome: q.Outcome, Since: q.Since, Until: q.Until,
	})
	for _, e := range got.Data {
		page.Entries = append(page.Entries, auditEntry(e))
	}
	page.NextCursor = got.NextCursor
	return page, explain(err)
}

func auditEntry(e wire.AuditEntry) mcp.AuditEntry {
	return mcp.AuditEntry{
		Seq: e.Seq, Time: moment(&e.Time), Org: e.Org, Action: e.Action, TargetType: e.TargetType, TargetID: e.TargetID,
		Actor: mcp.AuditActor(e.Actor), Environment: e.Environment, Name: e.Name, CredentialID: e.CredentialID, Version: e.Version,
		Outcome: e.Outcome, Metadata: e.Metadata, RequestID: e.RequestID, Source: e.Source, Peer: e.Peer, Realm: e.Realm,
		Prev: e.Prev, Hash: e.Hash,
	}
}

// explain turns what a client says into what a tool says.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return refusal(e)
	}
	f := &mcp.Failure{Code: "internal", Status: http.StatusInternalServerError, Message: "Internal error"}
	if e, ok := errors.AsType[*client.InputError](err); ok {
		f.Code, f.Status, f.Message = "invalid_request", http.StatusBadRequest, e.Msg
	}
	if e, ok := errors.AsType[*client.UnreachableError](err); ok {
		f.Code, f.Status, f.Message = "backend_unavailable", http.StatusServiceUnavailable, e.Error()
		f.Details = "start a sidecar, or give sidevault mcp the address of one"
	}
	return f
}

func refusal(e *client.Error) error {
	f := &mcp.Failure{Code: strings.ToLower(e.Code), Status: e.Status, Message: e.Message, Details: e.Details}
	if f.Code == "" {
		f.Code = "internal"
	}
	if len(e.Fields) > 1 || len(e.Fields) == 1 && e.Fields[0].Msg != e.Message {
		var faults []string
		for _, d := range e.Fields {
			faults = append(faults, d.Msg)
		}
		f.Details = strings.Join(append([]string{e.Details}, faults...), "; ")
		f.Details = strings.TrimPrefix(f.Details, "; ")
	}
	return f
}
