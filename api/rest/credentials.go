package rest

import (
	"bytes"
	"net/http"
	"slices"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// getStatus answers what a slot holds, without its secret.
func (s *server) getStatus(r *request) (answer, error) {
	slot, err := s.slot(r)
	if err != nil {
		return answer{}, err
	}
	status, err := s.vault.Status(r.ctx(), r.caller, slot)
	if err != nil {
		return answer{}, err
	}
	a := ok(slotStatus(status), "")
	if status.Credential != nil {
		a.etag = status.Credential.Revision
	}
	return a, nil
}

// setCredential creates or rotates a slot's credential.
func (s *server) setCredential(r *request) (answer, error) {
	var body wire.SetRequest
	if err := r.read(&body); err != nil {
		return answer{}, err
	}
	slot, err := s.bodySlot(r, r.integration(), body)
	if err != nil {
		return answer{}, err
	}
	in, err := setInput(r, body)
	if err != nil {
		return answer{}, err
	}
	result, err := s.vault.Set(r.ctx(), r.caller, slot, in)
	if err != nil {
		return answer{}, after(err, setResult(result.Credential))
	}
	status, done := http.StatusOK, "updated"
	if result.Created {
		status, done = http.StatusCreated, "saved"
	}
	a := slotEnvelope(status, slot.Integration, slot.Scope.Ptr(), setResult(result.Credential),
		"Credentials successfully "+done+" for "+place(slot.Scope)+".")
	a.etag = result.Credential.Revision
	return a, nil
}

func setResult(c vault.Credential) wire.SetResult {
	return wire.SetResult{Credential: credential(c), IsConfigured: true, HasCredentials: true}
}

// bodySlot returns the slot that the path, the query and the body name. What is
// named in both must agree.
func (s *server) bodySlot(r *request, integration string, body wire.SetRequest) (vault.Slot, error) {
	environment, name := r.param("environment"), r.param("name")
	for _, both := range []struct {
		what         string
		query, given *string
	}{{"environment", environment, body.Environment}, {"name", name, body.Name}} {
		if both.query != nil && both.given != nil && *both.query != *both.given {
			return vault.Slot{}, invalid("The "+both.what+" of the query and that of the body differ", "give it once")
		}
		if both.what == "name" && (both.query != nil && *both.query == "" || both.given != nil && *both.given == "") {
			return vault.Slot{}, invalid("The name is empty", "give it a value or leave it out")
		}
	}
	if environment == nil {
		environment = body.Environment
	}
	if name == nil {
		name = body.Name
	}
	if name == nil {
		name = new(string)
	}
	return s.vault.Slot(integration, environment, *name)
}

func setInput(r *request, body wire.SetRequest) (vault.SetInput, error) {
	fields, err := secretFields(body.Value, body.Fields)
	if err != nil {
		return vault.SetInput{}, err
	}
	match, err := r.ifMatch()
	if err != nil {
		return vault.SetInput{}, err
	}
	in := vault.SetInput{Fields: fields, AuthType: body.AuthType, Labels: body.Labels, IfMatch: match}
	if body.ExpiresAt != nil {
		in.ExpiresAt = moment(*body.ExpiresAt)
	}
	return in, nil
}

// secretFields returns what a body gives as value or as fields; nil when it gives
// neither.
func secretFields(value *secret.Value, fields seal.Fields) (seal.Fields, error) {
	if value != nil && fields != nil {
		return nil, invalid("Both value and fields are given", "give the credential as value (one string) or as fields, not both")
	}
	if value != nil {
		return seal.Fields{vault.ValueField: *value}, nil
	}
	return fields, nil
}

// removeOptions reads how a removal is to go.
func removeOptions(r *request) (o vault.RemoveOptions, err error) {
	if err := r.readNothing(); err != nil {
		return o, err
	}
	if o.IfExists, err = r.flag("ifExists", false); err != nil {
		return o, err
	}
	o.IfMatch, err = r.ifMatch()
	return o, err
}

// removeCredential soft-deletes a slot's credential.
func (s *server) removeCredential(r *request) (answer, error) {
	slot, err := s.slot(r)
	if err != nil {
		return answer{}, err
	}
	o, err := removeOptions(r)
	if err != nil {
		return answer{}, err
	}
	removed, err := s.vault.Remove(r.ctx(), r.caller, slot, o)
	if err != nil {
		return answer{}, after(err, removal(slot, removed))
	}
	message := "Credentials successfully deleted for " + place(slot.Scope) + "."
	if removed.WasNoop {
		message = "There were no credentials to delete for " + place(slot.Scope) + "."
	}
	return slotEnvelope(http.StatusOK, slot.Integration, slot.Scope.Ptr(), removal(slot, removed), message), nil
}

// resolveCredential answers with the decrypted credential.
func (s *server) resolveCredential(r *request) (answer, error) {
	slot, err := s.slot(r)
	if err != nil {
		return answer{}, err
	}
	fallback, err := r.flag("fallback", true)
	if err != nil {
		return answer{}, err
	}
	version, err := r.number("version", 0, 1, 1<<53)
	if err != nil {
		return answer{}, err
	}
	opened := buffers.Get().(*bytes.Buffer)
	defer release(opened)
	found, err := s.vault.Resolve(r.ctx(), r.caller, slot, vault.ResolveOptions{NoFallback: !fallback, Version: version, Buffer: opened.AvailableBuffer()})
	if err != nil {
		return answer{}, err
	}
	defer found.Secret.Clear()
	body := buffers.Get().(*bytes.Buffer)
	body.Grow(resolvedSize + len(found.Secret.Reveal()))
	body.Write(appendResolved(body.AvailableBuffer(), slot, &found, time.Now()))
	return answer{status: http.StatusOK, written: body, etag: found.Credential.Revision}, nil
}

// place names a scope within a message, as the documents print it.
func place(s envs.Scope) string {
	if s == envs.Shared {
		return "all environments"
	}
	return "the " + string(s) + " environment"
}

func slotStatus(s vault.SlotStatus) wire.SlotStatus {
	out := wire.SlotStatus{
		IntegrationID: s.Slot.Integration, Environment: s.Slot.Scope.Ptr(), Name: s.Slot.Name, Sync: make([]wire.Sync, len(s.Sync)),
	}
	for i, sync := range s.Sync {
		out.Sync[i] = wireSync(sync)
	}
	if s.Credential != nil {
		c := credential(*s.Credential)
		out.IsConfigured, out.HasCredentials, out.UpdatedAt, out.Credential = true, true, &c.UpdatedAt, &c
	}
	return out
}

func credential(c vault.Credential) wire.Credential {
	out := wire.Credential{
		ID: string(c.ID), IntegrationID: c.Slot.Integration, Environment: c.Slot.Scope.Ptr(), Name: c.Slot.Name,
		CredentialName: c.Slot.Name, AuthType: c.AuthType, Status: string(c.StatusAt(now())), Version: c.Version, Labels: c.Labels,
		CreatedAt: wire.Time(c.CreatedAt), CreatedBy: actor(c.CreatedBy.Actor()), UpdatedAt: wire.Time(c.UpdatedAt), UpdatedBy: actor(c.UpdatedBy.Actor()),
		ExpiresAt: wire.Optional(c.ExpiresAt), DeletedAt: wire.Optional(c.DeletedAt),
		LastReadAt: (*wire.Time)(c.LastRead),
	}
	if c.Status == vault.StatusDeleted {
		by := actor(c.DeletedBy.Actor())
		out.DeletedBy = &by
	}
	return out
}

func removal(slot vault.Slot, r vault.Removed) wire.Removal {
	out := wire.Removal{WasNoop: r.WasNoop, IntegrationID: slot.Integration, Environment: slot.Scope.Ptr(), Name: slot.Name}
	if !r.WasNoop {
		c := credential(r.Credential)
		out.ID, out.CredentialName, out.AuthType, out.Status, out.Version = c.ID, c.CredentialName, c.AuthType, c.Status, c.Version
		out.DeletedAt, out.DeletedBy = c.DeletedAt, c.DeletedBy
		out.IntegrationsAffected, out.ConsumersAffected = &r.Impact.Integrations, &r.Impact.Consumers
	}
	return out
}

func actor(a vault.Actor) wire.Actor { return wire.Actor{ID: a.ID, Name: a.Name, Email: a.Email} }

// scopes turns scopes into what stands for them on the wire.
func scopes(list []envs.Scope) []*string {
	return slices.Collect(func(yield func(*string) bool) {
		for _, s := range list {
			if !yield(s.Ptr()) {
				return
			}
		}
	})
}
