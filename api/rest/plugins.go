package rest

import (
	"encoding/base64"
	"fmt"
	"regexp"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

func (s *server) listPlugins(r *request) (answer, error) {
	states, err := s.vault.Plugins(r.ctx(), r.caller)
	if err != nil {
		return answer{}, err
	}
	list := make([]wire.Plugin, len(states))
	for i, p := range states {
		list[i] = wire.Plugin{
			Name: p.Name, Path: p.Path, SHA256: p.SHA256, Version: p.Version, Description: p.Description,
			Services: append([]string{}, p.Services...), Status: string(p.Status), Reason: p.Reason, Processes: p.Processes,
			Calls: p.Calls, Failures: p.Failures, Restarts: p.Restarts, NextStart: wire.Optional(p.NextStart),
		}
	}
	return page(list, ""), nil
}

var syncParameters = []string{"integration", "environment", "name", "plugin", "limit", "cursor"}

// listSyncs lists the changes that syncers have not taken yet.
func (s *server) listSyncs(r *request) (answer, error) {
	f, err := s.syncFilter(r)
	if err != nil {
		return answer{}, err
	}
	limit, err := r.number("limit", defaultPage, 1, maxPage)
	if err != nil {
		return answer{}, err
	}
	after, err := cursor(r, vault.IsSyncCursor)
	if err != nil {
		return answer{}, err
	}
	found, next, err := s.vault.Syncs(r.ctx(), r.caller, f, after, int(limit))
	if err != nil {
		return answer{}, err
	}
	list := make([]wire.Sync, len(found))
	for i, sync := range found {
		list[i] = wireSync(sync)
	}
	return page(list, base64.RawURLEncoding.EncodeToString([]byte(next))), nil
}

func (s *server) syncFilter(r *request) (f vault.SyncFilter, err error) {
	if f, err = syncFilter(r.param("integration"), r.param("name"), r.param("plugin")); err != nil {
		return f, err
	}
	f.Scope, err = s.scope(r)
	return f, err
}

func (s *server) retryFilter(body wire.RetryRequest) (f vault.SyncFilter, err error) {
	if f, err = syncFilter(body.IntegrationID, body.Name, body.Plugin); err != nil || !body.Environment.Given {
		return f, err
	}
	scope, err := s.vault.Scope(body.Environment.Environment)
	f.Scope = &scope
	return f, err
}

var bindingRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)

// syncFilter refuses what can be the key, the name or the binding of nothing; nil
// stands for all.
func syncFilter(integration, name, binding *string) (f vault.SyncFilter, err error) {
	if integration != nil {
		if f.Integration = *integration; vault.CheckIntegrationKey(f.Integration) != nil {
			return f, vault.CheckIntegrationKey(f.Integration)
		}
	}
	if name != nil {
		if f.Name = *name; !vault.IsName(f.Name) {
			return f, invalid("The name is not valid", fmt.Sprintf("it is 1 to %d bytes of printable text, without space at its ends", vault.MaxName))
		}
	}
	if binding != nil {
		if f.Binding = *binding; !bindingRE.MatchString(f.Binding) {
			return f, invalid("The plugin is not valid", "give the name of a binding, as the status of a slot shows it, or leave it out")
		}
	}
	return f, nil
}

// retrySyncs makes syncs due at once.
func (s *server) retrySyncs(r *request) (answer, error) {
	var body wire.RetryRequest
	if err := r.readOptional(&body); err != nil {
		return answer{}, err
	}
	f, err := s.retryFilter(body)
	if err != nil {
		return answer{}, err
	}
	n, err := s.vault.RetrySyncs(r.ctx(), r.caller, f)
	if err != nil {
		return answer{}, err
	}
	message := fmt.Sprintf("%d syncs are due now", n)
	if n == 1 {
		message = "1 sync is due now"
	}
	return ok(wire.RetryResult{Retried: n}, message), nil
}

func wireSync(s vault.Sync) wire.Sync {
	return wire.Sync{
		IntegrationID: s.Slot.Integration, Environment: s.Slot.Scope.Ptr(), Name: s.Slot.Name,
		Plugin: s.Binding, Program: s.Plugin, State: string(s.State), Change: string(s.Change), CredentialID: string(s.CredentialID),
		Version: s.Version, Attempts: s.Attempts, LastError: s.LastError,
		ChangedAt: wire.Optional(s.ChangedAt), SyncedAt: wire.Optional(s.SyncedAt), NextAttempt: wire.Optional(s.NextAttempt),
	}
}
