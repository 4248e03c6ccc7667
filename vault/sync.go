package vault

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// SyncState says how far a change has come with a syncer.
type SyncState string

// The states of a sync.
const (
	SyncPending SyncState = "pending" // not tried yet, or at this moment
	SyncFailing SyncState = "failing" // tried, and tried again at NextAttempt
	SyncDone    SyncState = "synced"  // the other system has the slot's last change
	SyncNever   SyncState = "never"   // bound after the slot's last change, so never told of it
)

// Sync is what is known of one slot's changes on their way to one syncer.
type Sync struct {
	Binding      string // its name in the catalog entry
	Plugin       string // "" when the catalog no longer has the binding
	Slot         Slot
	State        SyncState
	Change       SyncChange
	CredentialID ID
	Version      uint64
	Attempts     int       // of the pending change
	LastError    string    // of the last attempt that failed; holds no secret
	ChangedAt    time.Time // when the change was stored
	SyncedAt     time.Time // zero unless SyncDone
	NextAttempt  time.Time // zero unless SyncPending or SyncFailing
}

// SyncFilter selects syncs. Zero fields select all.
type SyncFilter struct {
	Integration string
	Scope       *envs.Scope
	Name        string
	Binding     string
}

// Syncs returns the pending and failing syncs that the caller's grant covers, in a
// fixed order, after the one where a previous page ended ("" for the first), and
// where this one ends ("" when there are no more). It takes admin scope.
func (v *Vault) Syncs(ctx context.Context, c Caller, f SyncFilter, after string, limit int) (list []Sync, next string, err error) {
	a := v.begin(c, ActionListSyncs, Slot{Integration: f.Integration})
	defer func() { err = a.close(ctx, err) }()
	if err := a.selectsSyncs(f); err != nil {
		return nil, "", err
	}
	from := ""
	if after != "" {
		from = outboxPrefix(c.Org) + after
	}
	size := min(limit+1, backends.MaxPage) // with one more, which says whether there is a next page
	for {
		page, err := v.backend.List(ctx, outboxPrefix(c.Org), from, size)
		if err != nil {
			return nil, "", storageError(err)
		}
		for _, r := range page {
			s, err := v.pendingSync(ctx, c.Org, r)
			if err != nil {
				return nil, "", err
			}
			if f.matches(s) && c.usesIntegration(s.Slot.Integration) && c.mayChange(v.envs, s.Slot.Scope) {
				if len(list) == limit {
					return list, outboxPath(from), nil
				}
				list = append(list, s)
			}
			from = r.Key
		}
		if len(page) < size {
			return list, "", nil
		}
	}
}

// selectsSyncs refuses a caller that may not change what the filter names.
func (a *attempt) selectsSyncs(f SyncFilter) error {
	if err := a.admin(); err != nil {
		return err
	}
	if f.Integration != "" && !a.caller.usesIntegration(f.Integration) {
		return a.grant(Slot{Integration: f.Integration}, true)
	}
	if f.Scope == nil {
		return nil
	}
	a.entry.Environment = f.Scope.Ptr()
	if !a.caller.mayChange(a.v.envs, *f.Scope) {
		return a.outside(*f.Scope)
	}
	return nil
}

func (f SyncFilter) matches(s Sync) bool {
	return (f.Integration == "" || f.Integration == s.Slot.Integration) &&
		(f.Scope == nil || *f.Scope == s.Slot.Scope) &&
		(f.Name == "" || f.Name == s.Slot.Name) &&
		(f.Binding == "" || f.Binding == s.Binding)
}

// pendingSync decodes a record of the outbox.
func (v *Vault) pendingSync(ctx context.Context, org Org, r backends.Record) (Sync, error) {
	var d outboxDoc
	if err := v.decode(ctx, r, &d); err != nil {
		return Sync{}, err
	}
	slot, name, _ := parseOutboxPath(outboxPath(r.Key)) // signed, so it is a path that we made
	s := Sync{
		Binding: name, Plugin: d.Plugin, Slot: slot, State: SyncPending, Change: d.Change,
		CredentialID: d.CredentialID, Version: d.Version, Attempts: d.Attempts, LastError: d.LastError,
		ChangedAt: d.ChangedAt, NextAttempt: d.NextAttempt,
	}
	if d.Attempts > 0 {
		s.State = SyncFailing
	}
	return s, nil
}

// IsSyncCursor reports whether Syncs could have returned it as the place where a page
// ended, or it is "".
func IsSyncCursor(s string) bool {
	if s == "" {
		return true
	}
	slot, binding, ok := parseOutboxPath(s)
	return ok && slugRE.MatchString(binding) && IsCursor(slot.path()) && slot.path()+"/"+binding == s
}

// syncsOf returns how far the slot's last change has come with each of its syncers.
// cred is the credential that occupies it, nil when none does.
func (v *Vault) syncsOf(ctx context.Context, org Org, slot Slot, cred *Credential) ([]Sync, error) {
	syncers, err := v.syncers(ctx, org, slot.Integration)
	if err != nil {
		return nil, err
	}
	var list []Sync
	err = each(ctx, v.backend, outboxPrefix(org)+slot.path()+"/", func(r backends.Record) error {
		s, err := v.pendingSync(ctx, org, r)
		list = append(list, s)
		return err
	})
	for _, b := range syncers {
		if err == nil && !slices.ContainsFunc(list, func(s Sync) bool { return s.Binding == b.Name }) {
			list, err = v.settledSync(ctx, org, slot, b, cred, list)
		}
	}
	return list, err
}

// settledSync adds what is known of a syncer that nothing is pending for.
func (v *Vault) settledSync(ctx context.Context, org Org, slot Slot, b Syncer, cred *Credential, list []Sync) ([]Sync, error) {
	var d syncedDoc
	_, err := v.document(ctx, syncedKey(outboxKey(org, slot, b.Name)), &d)
	s := Sync{Binding: b.Name, Plugin: b.Plugin, Slot: slot, State: SyncNever}
	switch {
	case err != nil && !errors.Is(err, backends.ErrNotFound):
		return nil, err
	case err == nil && d.tells(cred):
		s.State, s.SyncedAt = SyncDone, d.SyncedAt
		s.Change, s.CredentialID, s.Version, s.ChangedAt = d.Change, d.CredentialID, d.Version, d.ChangedAt
	case cred == nil:
		return list, nil // it was told of nothing, and there is nothing to tell
	}
	return append(list, s), nil
}

// tells reports whether what a syncer took last is what the slot holds.
func (d syncedDoc) tells(cred *Credential) bool {
	if cred == nil || cred.Status != StatusActive {
		return d.Change == SyncRemove
	}
	return d.Change == SyncSet && d.CredentialID == cred.ID && d.Version == cred.Version
}

// RetrySyncs makes the selected syncs due at once, and returns how many. With an
// integration named, those whose syncer took the slot's credential already, or was
// never told of it, are sent again too. It takes admin scope.
func (v *Vault) RetrySyncs(ctx context.Context, c Caller, f SyncFilter) (n int, err error) {
	ctx = backends.Fresh(ctx)
	a := v.begin(c, ActionRetrySync, Slot{Integration: f.Integration, Name: f.Name})
	defer func() { err = a.close(ctx, err) }()
	if err := a.selectsSyncs(f); err != nil {
		return 0, err
	}
	hurried := map[string]bool{}
	for after := ""; ; {
		page, next, err := v.Syncs(ctx, c, f, after, backends.MaxPage)
		if err != nil {
			return 0, err
		}
		for _, s := range page {
			key := outboxKey(c.Org, s.Slot, s.Binding)
			hurried[key] = true
			v.courier.hurry(key)
		}
		if after = next; next == "" {
			break
		}
	}
	n = len(hurried)
	if f.Integration != "" {
		sent, err := a.sendAgain(ctx, f, hurried)
		if n += sent; err != nil {
			return n, err
		}
	}
	a.note("count", n)
	_, err = a.commit(ctx)
	return n, storageErrorOr(err)
}

// sendAgain puts the credentials of an integration into the outbox for the selected
// syncers that nothing is pending for, nor was when the call began, one commit for
// each slot.
func (a *attempt) sendAgain(ctx context.Context, f SyncFilter, hurried map[string]bool) (n int, err error) {
	org := a.caller.Org
	syncers, err := a.v.syncers(ctx, org, f.Integration)
	if err != nil || len(syncers) == 0 {
		return 0, err
	}
	err = each(ctx, a.v.backend, livePrefix(org)+f.Integration+"/", func(r backends.Record) error {
		var d credentialDoc
		if err := a.v.decode(ctx, r, &d); err != nil {
			return err
		}
		cred := d.credential(r.Revision)
		if !a.caller.mayChange(a.v.envs, cred.Slot.Scope) || cred.Status != StatusActive {
			return nil
		}
		sent, err := a.sendSlot(ctx, f, hurried, cred)
		n += sent
		return err
	})
	return n, err
}

// sendSlot sends one slot's credential again.
func (a *attempt) sendSlot(ctx context.Context, f SyncFilter, hurried map[string]bool, cred Credential) (int, error) {
	out, err := a.v.outgoing(ctx, a.caller.Org, cred, SyncSet)
	if err != nil {
		return 0, err
	}
	again := outgoing{changes: []backends.Change{backends.Check(liveKey(a.caller.Org, cred.Slot), cred.Revision)}}
	for n, p := range out.pending {
		absent := out.changes[n].If == 0 && !hurried[p.key]
		if s := (Sync{Binding: p.binding.Name, Slot: cred.Slot}); absent && f.matches(s) {
			p.surface = false
			again = again.and(outgoing{out.changes[n : n+1], []pendingSync{p}})
		}
	}
	if len(again.pending) == 0 {
		return 0, nil
	}
	_, err = a.v.commit(ctx, again.changes)
	if errors.Is(err, backends.ErrConflict) {
		return 0, nil // it changed meanwhile, which sends it too
	}
	for _, p := range again.pending {
		if err == nil {
			a.v.courier.send(p)
		}
	}
	return len(again.pending), storageErrorOr(err)
}
