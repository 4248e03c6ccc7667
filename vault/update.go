package vault

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// Change is what Update changes of a credential; nil fields stay.
type Change struct {
	Name      *string
	Status    *Status           // StatusActive or StatusInactive
	ExpiresAt *time.Time        // the zero time: never
	Labels    map[string]string // nil: as before; replaces all
	IfMatch   Revision
}

// Update changes a credential's metadata, never its value. A new name moves it to
// that slot, which must be free; its kept versions are sealed anew for there.
func (v *Vault) Update(ctx context.Context, c Caller, at Address, change Change) (Credential, error) {
	check := func(*attempt, Credential) error { return change.check(v.now()) }
	return v.changeLive(ctx, c, ActionUpdate, at, check, func(a *attempt, cred Credential) (Credential, error) {
		if !matches(change.IfMatch, cred.Revision) {
			return Credential{}, conflict(cred.Slot)
		}
		return a.update(ctx, cred, change)
	})
}

func (a *attempt) update(ctx context.Context, cred Credential, change Change) (Credential, error) {
	old := cred
	cred.UpdatedAt, cred.UpdatedBy = a.v.now(), a.caller.Actor.by()
	if change.Status != nil {
		cred.Status = *change.Status
		a.note("status", string(*change.Status))
	}
	if change.ExpiresAt != nil {
		cred.ExpiresAt = *change.ExpiresAt
		a.note("expiresAt", change.ExpiresAt.Format(TimeFormat))
	}
	if change.Labels != nil {
		cred.Labels = change.Labels
		a.note("labels", slices.Sorted(maps.Keys(change.Labels)))
	}
	changes, err := a.updateChanges(ctx, old, &cred, change)
	if err != nil {
		return Credential{}, err
	}
	out, err := a.v.outgoingUpdate(ctx, a.caller.Org, old, cred)
	if err != nil {
		return Credential{}, err
	}
	cred.Revision, err = a.change(ctx, cred, changes, out)
	return cred, err
}

// outgoingUpdate tells the syncers what an update means to another system: a
// credential that moved is gone from where it was, one that is not active may not
// be used.
func (v *Vault) outgoingUpdate(ctx context.Context, org Org, old, updated Credential) (out outgoing, err error) {
	was, is := old.Status == StatusActive, updated.Status == StatusActive
	if was && (!is || old.Slot != updated.Slot) {
		if out, err = v.outgoing(ctx, org, old, SyncRemove); err != nil {
			return outgoing{}, err
		}
	}
	if is && (!was || old.Slot != updated.Slot) {
		set, err := v.outgoing(ctx, org, updated, SyncSet)
		return out.and(set), err
	}
	return out, nil
}

func (a *attempt) updateChanges(ctx context.Context, old Credential, cred *Credential, change Change) ([]backends.Change, error) {
	if change.Name != nil && *change.Name != old.Slot.Name {
		cred.Slot.Name = *change.Name
		a.note("renamedFrom", old.Slot.Name)
		a.entry.Name = cred.Slot.Name
		return a.v.moveChanges(ctx, a.caller.Org, old, *cred)
	}
	put, err := a.v.put(liveKey(a.caller.Org, cred.Slot), old.Revision, cred.doc())
	return []backends.Change{put}, err
}

// moveChanges moves a credential to a free slot of the same scope.
func (v *Vault) moveChanges(ctx context.Context, org Org, from, to Credential) ([]backends.Change, error) {
	if _, err := v.live(ctx, org, to.Slot); !errors.Is(err, backends.ErrNotFound) {
		if err != nil {
			return nil, err
		}
		return nil, taken(to.Slot)
	}
	var address credDoc
	addressAt, err := v.document(ctx, credKey(org, from.ID), &address)
	if err != nil {
		return nil, v.lost(ctx, err, credKey(org, from.ID))
	}
	live, err := v.put(liveKey(org, to.Slot), 0, to.doc())
	if err != nil {
		return nil, err
	}
	moved, err := v.put(credKey(org, to.ID), addressAt, credDoc{Live: to.Slot.doc()})
	if err != nil {
		return nil, err
	}
	records, err := v.resealChanges(ctx, org, from, to)
	return append(records, backends.Delete(liveKey(org, from.Slot), from.Revision), live, moved), err
}

// resealChanges seals every kept version of a credential for the slot it moves to.
func (v *Vault) resealChanges(ctx context.Context, org Org, from, to Credential) ([]backends.Change, error) {
	key, err := v.keys.newest(from.Slot.Scope)
	if err != nil {
		return nil, err
	}
	changes := []backends.Change{key.check()}
	for _, n := range from.Versions {
		file, fields, err := v.openStored(ctx, from.Slot.Scope, recordKey(org, from.ID, n.Number), from.Slot.place(org, from.ID, n.Number))
		if err != nil {
			return nil, v.lost(ctx, err, recordKey(org, from.ID, n.Number))
		}
		sealed, err := key.Seal(to.Slot.place(org, to.ID, n.Number), fields)
		if err != nil {
			return nil, err
		}
		changes = append(changes, backends.Put(file.Key, file.Revision, sealed))
	}
	return changes, nil
}

func taken(slot Slot) error {
	return errorf(CredentialExists, "A credential already exists").
		detailed("%s is taken: set it to rotate its credential, or choose another name", slot)
}

func (change Change) check(now time.Time) error {
	if change.Name == nil && change.Status == nil && change.ExpiresAt == nil && change.Labels == nil {
		return errorf(InvalidRequest, "Nothing to change").detailed("give name, status, expiresAt or labels")
	}
	if change.Name != nil {
		if err := checkName("name", *change.Name); err != nil {
			return err
		}
	}
	if s := change.Status; s != nil && *s != StatusActive && *s != StatusInactive {
		return invalid(FieldError{Path: []string{"status"}, Code: "unknown", Msg: "status must be active or inactive; to delete a credential, use DELETE"})
	}
	if at := change.ExpiresAt; at != nil && !at.IsZero() && !at.After(now) {
		return invalid(FieldError{Path: []string{"expiresAt"}, Code: "past", Msg: "expiresAt must be in the future"})
	}
	return checkLabels(change.Labels)
}
