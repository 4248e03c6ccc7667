package rest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

// address reads the credential that the path names.
func address(r *request) (vault.Address, error) {
	integration := r.integration()
	if integration != "" {
		if err := vault.CheckIntegrationKey(integration); err != nil {
			return vault.Address{}, err
		}
	}
	id, err := vault.ParseID(r.gin.Param("id"))
	return vault.Address{ID: id, Integration: integration}, err
}

// createCredential sets a credential in a slot that must be free.
func (s *server) createCredential(r *request) (answer, error) {
	var body wire.CreateRequest
	if err := r.read(&body); err != nil {
		return answer{}, err
	}
	if err := required("integrationId", body.IntegrationID != ""); err != nil {
		return answer{}, err
	}
	if body.CredentialName != nil {
		if body.Name != nil && *body.Name != *body.CredentialName {
			return answer{}, invalid("name and credentialName differ", "they are two names of one field: give one")
		}
		body.Name = body.CredentialName
	}
	slot, err := s.bodySlot(r, body.IntegrationID, body.SetRequest)
	if err != nil {
		return answer{}, err
	}
	in, err := setInput(r, body.SetRequest)
	if err != nil {
		return answer{}, err
	}
	in.MustCreate = true
	result, err := s.vault.Set(r.ctx(), r.caller, slot, in)
	if err != nil {
		return answer{}, after(err, setResult(result.Credential))
	}
	a := created(credential(result.Credential), "Credential created successfully")
	a.etag = result.Credential.Revision
	return a, nil
}

func (s *server) getCredential(r *request) (answer, error) {
	at, err := address(r)
	if err != nil {
		return answer{}, err
	}
	cred, err := s.vault.Get(r.ctx(), r.caller, at)
	return described(cred, "", err)
}

// getDetails answers with the metadata of the credential that resolving finds.
func (s *server) getDetails(r *request) (answer, error) {
	slot, err := s.slot(r)
	if err != nil {
		return answer{}, err
	}
	fallback, err := r.flag("fallback", true)
	if err != nil {
		return answer{}, err
	}
	cred, err := s.vault.Details(r.ctx(), r.caller, slot, vault.ResolveOptions{NoFallback: !fallback})
	return described(cred, "", err)
}

func described(cred vault.Credential, message string, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	a := ok(credential(cred), message)
	a.etag = cred.Revision
	return a, nil
}

// updateCredential changes a credential's metadata.
func (s *server) updateCredential(r *request) (answer, error) {
	at, err := address(r)
	if err != nil {
		return answer{}, err
	}
	var body wire.UpdateRequest
	if err := r.read(&body); err != nil {
		return answer{}, err
	}
	change := vault.Change{Name: body.Name, Labels: body.Labels}
	if body.Status != nil {
		status := vault.Status(*body.Status)
		change.Status = &status
	}
	if body.ExpiresAt.Given {
		change.ExpiresAt = new(time.Time)
		if body.ExpiresAt.At != nil {
			*change.ExpiresAt = moment(*body.ExpiresAt.At)
		}
	}
	if change.IfMatch, err = r.ifMatch(); err != nil {
		return answer{}, err
	}
	cred, err := s.vault.Update(r.ctx(), r.caller, at, change)
	return described(cred, "Credential updated successfully", after(err, setResult(cred)))
}

// removeByID soft-deletes a credential and answers with what that concerns.
func (s *server) removeByID(r *request) (answer, error) {
	removed, err := s.remove(r)
	if err != nil {
		return answer{}, err
	}
	message := "Credential deleted successfully"
	if removed.WasNoop {
		message = "There was no credential to delete"
	}
	return ok(removal(removed.Credential.Slot, removed), message), nil
}

// removeSilently soft-deletes a credential and answers 204.
func (s *server) removeSilently(r *request) (answer, error) {
	if _, err := s.remove(r); err != nil {
		return answer{}, err
	}
	r.gin.Status(http.StatusNoContent)
	r.gin.Writer.WriteHeaderNow()
	return answer{}, nil
}

func (s *server) remove(r *request) (vault.Removed, error) {
	at, err := address(r)
	if err != nil {
		return vault.Removed{}, err
	}
	o, err := removeOptions(r)
	if err != nil {
		return vault.Removed{}, err
	}
	removed, err := s.vault.RemoveByID(r.ctx(), r.caller, at, o)
	return removed, after(err, removal(removed.Credential.Slot, removed))
}

var listParameters = []string{"integration", "environment", "name", "status", "limit", "cursor", "usage"}

// listCredentials lists credentials that are not deleted.
func (s *server) listCredentials(r *request) (answer, error) {
	f, err := s.credentialFilter(r)
	if err != nil {
		return answer{}, err
	}
	limit, err := r.number("limit", defaultPage, 1, maxPage)
	if err != nil {
		return answer{}, err
	}
	after, err := cursor(r, vault.IsCursor)
	if err != nil {
		return answer{}, err
	}
	found, next, err := s.vault.List(r.ctx(), r.caller, f, after, int(limit))
	if err != nil {
		return answer{}, err
	}
	list := make([]wire.Credential, len(found))
	for i, c := range found {
		list[i] = credential(c)
	}
	return page(list, base64.RawURLEncoding.EncodeToString([]byte(next))), nil
}

// cursor reads where the page before ended, which is one of ours.
func cursor(r *request, ours func(string) bool) (string, error) {
	given, err := r.name("cursor")
	if err != nil {
		return "", err
	}
	after, err := base64.RawURLEncoding.Strict().DecodeString(given)
	if err != nil || !ours(string(after)) {
		return "", invalid("The query parameter cursor is not one of ours", "give the nextCursor of the page before, as it was")
	}
	return string(after), nil
}

func (s *server) credentialFilter(r *request) (f vault.Filter, err error) {
	if f.Integration, err = r.name("integration"); err != nil {
		return f, err
	}
	if f.Integration != "" {
		if err := vault.CheckIntegrationKey(f.Integration); err != nil {
			return f, err
		}
	}
	if f.Name, err = r.name("name"); err != nil {
		return f, err
	}
	if f.Scope, err = s.scope(r); err != nil {
		return f, err
	}
	if f.Usage, err = r.flag("usage", false); err != nil {
		return f, err
	}
	status, err := r.oneOf("status", []string{string(vault.StatusActive), string(vault.StatusInactive), string(vault.StatusExpired)})
	f.Status = vault.Status(status)
	return f, err
}

func (s *server) listVersions(r *request) (answer, error) {
	at, err := address(r)
	if err != nil {
		return answer{}, err
	}
	cred, err := s.vault.Versions(r.ctx(), r.caller, at)
	if err != nil {
		return answer{}, err
	}
	list := make([]wire.Version, len(cred.Versions))
	for i, v := range cred.Versions {
		list[i] = wire.Version{Version: v.Number, Current: v.Number == cred.Version, CreatedAt: wire.Time(v.At), CreatedBy: actor(v.By.Actor())}
	}
	return page(list, ""), nil
}

func (s *server) rollBack(r *request) (answer, error) {
	at, err := address(r)
	if err != nil {
		return answer{}, err
	}
	var body wire.RollbackRequest
	if err := r.read(&body); err != nil {
		return answer{}, err
	}
	if err := required("version", body.Version != 0); err != nil {
		return answer{}, err
	}
	match, err := r.ifMatch()
	if err != nil {
		return answer{}, err
	}
	cred, err := s.vault.Rollback(r.ctx(), r.caller, at, body.Version, match)
	return described(cred, fmt.Sprintf("Version %d is current again, as a new version", body.Version), after(err, setResult(cred)))
}

func (s *server) showUsage(r *request) (answer, error) {
	at, err := address(r)
	if err != nil {
		return answer{}, err
	}
	usage, err := s.vault.Usage(r.ctx(), r.caller, at)
	if err != nil {
		return answer{}, err
	}
	out := wire.Usage{
		CredentialID: string(usage.Credential.ID), IntegrationID: usage.Credential.Slot.Integration,
		Since: wire.Time(usage.Since), Reads: usage.Reads,
	}
	for _, c := range usage.Consumers {
		out.Consumers = append(out.Consumers, wire.Consumer{
			ID: c.Actor.ID, Name: c.Actor.Name, Email: c.Actor.Email, Kind: c.Actor.Kind, Reads: c.Reads,
			FirstReadAt: wire.Time(c.First), LastReadAt: wire.Time(c.Last),
		})
	}
	return ok(out, ""), nil
}

// testCredential runs the checks of a set and stores nothing.
func (s *server) testCredential(r *request) (answer, error) {
	var body wire.TestRequest
	if err := r.readOptional(&body); err != nil {
		return answer{}, err
	}
	slot, err := s.slot(r)
	if err != nil {
		return answer{}, err
	}
	fields, err := secretFields(body.Value, body.Fields)
	if err != nil {
		return answer{}, err
	}
	if err := s.vault.Test(r.ctx(), r.caller, slot, vault.SetInput{Fields: fields, AuthType: body.AuthType}); err != nil {
		return answer{}, err
	}
	return ok(wire.TestResult{Valid: true}, "The credential passes the checks of "+slot.Integration), nil
}
