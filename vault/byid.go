package vault

import (
	"context"
	"errors"
	"slices"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault/seal"
)

// Address names a credential by its ID and, where the caller gave one, its
// integration, which must then be the credential's.
type Address struct {
	ID          ID
	Integration string
}

// byID returns the credential with that ID, deleted or not. One of another org or
// of another integration is not there, as if it had never been.
func (v *Vault) byID(ctx context.Context, org Org, at Address) (Credential, error) {
	for range conflicts {
		var d credDoc
		rev, err := v.document(ctx, credKey(org, at.ID), &d)
		if errors.Is(err, backends.ErrNotFound) {
			return Credential{}, notByID(at)
		}
		if err != nil {
			return Credential{}, err
		}
		cred, err := v.follow(ctx, org, at.ID, d, rev)
		if errors.Is(err, backends.ErrNotFound) {
			ctx = backends.Fresh(ctx) // a cache may know of half of a change
			continue                  // it moved between the two reads
		}
		if err == nil && at.Integration != "" && cred.Slot.Integration != at.Integration {
			return Credential{}, notByID(at)
		}
		return cred, err
	}
	return Credential{}, v.lost(ctx, backends.ErrNotFound, credKey(org, at.ID))
}

// follow returns the credential that is stored under its ID or where it lives.
func (v *Vault) follow(ctx context.Context, org Org, id ID, d credDoc, at backends.Revision) (Credential, error) {
	if d.Deleted != nil {
		return d.Deleted.credential(at), nil
	}
	if d.Live == nil {
		return Credential{}, v.integrityError(ctx, errors.New(credKey(org, id)+" leads nowhere"))
	}
	cred, err := v.live(ctx, org, d.Live.slot())
	if err == nil && cred.ID != id {
		return Credential{}, backends.ErrNotFound
	}
	return cred, err
}

func notByID(at Address) error {
	e := errorf(CredentialNotFound, "Credential not found").detailed("No credential exists with ID: %s", at.ID)
	if at.Integration != "" {
		e.Details += " for integration: " + at.Integration
	}
	return e
}

// beginByID opens an attempt at a credential by its ID and finds it. What belongs
// to another org or integration is not there; what the grant does not cover is
// Forbidden.
func (v *Vault) beginByID(ctx context.Context, c Caller, action string, at Address, admin bool) (*attempt, Credential, error) {
	a := v.begin(c, action, Slot{Integration: at.Integration})
	a.entry.CredentialID = string(at.ID)
	if admin {
		if err := a.admin(); err != nil {
			return a, Credential{}, err
		}
	}
	cred, err := v.byID(ctx, c.Org, at)
	if err != nil {
		return a, Credential{}, err
	}
	a.entry.TargetID, a.entry.Environment, a.entry.Name = cred.Slot.Integration, cred.Slot.Scope.Ptr(), cred.Slot.Name
	if err := a.reads(cred.Slot); err != nil {
		return a, Credential{}, err
	}
	if admin {
		err = a.changes(cred.Slot)
	}
	return a, cred, err
}

// Get returns the credential with that ID, without its secret fields. A deleted
// one is not found.
func (v *Vault) Get(ctx context.Context, c Caller, at Address) (cred Credential, err error) {
	a, cred, err := v.beginByID(ctx, c, ActionDetails, at, false)
	if err == nil && cred.Status == StatusDeleted {
		err = notByID(at)
	}
	if err != nil {
		return Credential{}, a.close(ctx, err)
	}
	return cred, nil
}

// Details finds the credential for the slot as Resolve does and returns it
// without its secret fields, whatever its status.
func (v *Vault) Details(ctx context.Context, c Caller, slot Slot, o ResolveOptions) (cred Credential, err error) {
	a := v.begin(c, ActionDetails, slot)
	defer func() { err = a.close(ctx, err) }()
	if err := a.reads(slot); err != nil {
		return Credential{}, err
	}
	if _, err := v.lookup(ctx, c.Org, slot.Integration); err != nil {
		return Credential{}, err
	}
	found, err := v.find(ctx, c.Org, slot, o)
	if err != nil {
		return Credential{}, err
	}
	return found.Credential, a.inherits(slot, found.Slot)
}

// RemoveByID marks the credential with that ID as deleted, under the rules of
// Remove.
func (v *Vault) RemoveByID(ctx context.Context, c Caller, at Address, o RemoveOptions) (Removed, error) {
	ctx = backends.Fresh(ctx)
	a, cred, err := v.beginByID(ctx, c, ActionRemove, at, true)
	var removed Removed
	switch {
	case err == nil:
		removed, err = a.removeID(ctx, at, cred.Slot, o)
	case o.IfExists && KindOf(err) == CredentialNotFound:
		a.note("wasNoop", true)
		_, err = a.commit(ctx)
		removed, err = Removed{WasNoop: true}, storageErrorOr(err)
	}
	if err != nil {
		return Removed{}, a.close(ctx, err)
	}
	return removed, a.surface(ctx, "deleted")
}

// removeID is RemoveByID up to its commit, of a credential that was found in a slot.
func (a *attempt) removeID(ctx context.Context, at Address, slot Slot, o RemoveOptions) (removed Removed, err error) {
	defer a.v.lock(a.caller.Org, slot).Unlock()
	err = retry(func() error {
		cred, err := a.v.byID(ctx, a.caller.Org, at)
		if err != nil {
			return err
		}
		if cred.Status == StatusDeleted {
			removed, err = a.removedBefore(ctx, cred, o)
			return err
		}
		removed, err = a.removeLive(ctx, cred, o)
		return err
	})
	return removed, err
}

// removedBefore answers for a credential that is deleted already.
func (a *attempt) removedBefore(ctx context.Context, cred Credential, o RemoveOptions) (Removed, error) {
	a.note("wasNoop", true)
	if !o.IfExists {
		return Removed{}, alreadyDeleted(cred)
	}
	_, err := a.commit(ctx, backends.Check(credKey(a.caller.Org, cred.ID), cred.Revision))
	return Removed{WasNoop: true}, err
}

// Versions returns the kept versions of a credential, newest first.
func (v *Vault) Versions(ctx context.Context, c Caller, at Address) (cred Credential, err error) {
	a, cred, err := v.beginByID(ctx, c, ActionVersions, at, false)
	if err == nil && cred.Status == StatusDeleted {
		err = notByID(at)
	}
	if err != nil {
		return Credential{}, a.close(ctx, err)
	}
	cred.Versions = slices.Clone(cred.Versions)
	slices.Reverse(cred.Versions)
	return cred, nil
}

// Rollback makes the value of an older version that is still kept the next
// version, under the rules of Set: its validators are asked, and its syncers told.
func (v *Vault) Rollback(ctx context.Context, c Caller, at Address, version uint64, ifMatch Revision) (Credential, error) {
	var fields seal.Fields
	prepare := func(a *attempt, cred Credential) (err error) {
		a.note("rolledBackTo", version)
		if fields, err = v.versionFields(ctx, c.Org, &cred, version); err != nil {
			return v.lost(ctx, err, recordKey(c.Org, cred.ID, version))
		}
		integration, err := v.lookup(ctx, c.Org, cred.Slot.Integration)
		if KindOf(err) == IntegrationNotFound {
			return nil // it left the catalog, and its validators with it
		}
		if err != nil {
			return err
		}
		return a.validate(ctx, integration, cred.Slot, cred.AuthType, fields)
	}
	return v.changeLive(ctx, c, ActionRollback, at, prepare, func(a *attempt, cred Credential) (Credential, error) {
		result, err := a.store(ctx, cred, SetInput{Fields: fields, IfMatch: ifMatch})
		return result.Credential, err
	})
}

// changeLive applies a change to the credential with that ID, which must not be
// deleted, and applies it anew when another process changed it meanwhile. prepare
// runs before, outside any lock.
func (v *Vault) changeLive(ctx context.Context, c Caller, action string, at Address, prepare func(*attempt, Credential) error, change func(*attempt, Credential) (Credential, error)) (Credential, error) {
	ctx = backends.Fresh(ctx)
	a, cred, err := v.beginByID(ctx, c, action, at, true)
	if err == nil && cred.Status == StatusDeleted {
		err = notByID(at)
	}
	if err == nil {
		err = prepare(a, cred)
	}
	if err == nil {
		cred, err = a.changeID(ctx, at, cred.Slot, change)
	}
	if err != nil {
		return Credential{}, a.close(ctx, err)
	}
	return cred, a.surface(ctx, "changed")
}

// changeID is changeLive up to its commit, of a credential that was found in a slot.
func (a *attempt) changeID(ctx context.Context, at Address, slot Slot, change func(*attempt, Credential) (Credential, error)) (cred Credential, err error) {
	defer a.v.lock(a.caller.Org, slot).Unlock()
	err = retry(func() error {
		if cred, err = a.v.byID(ctx, a.caller.Org, at); err != nil {
			return err
		}
		if cred.Status == StatusDeleted {
			return notByID(at)
		}
		cred, err = change(a, cred)
		return err
	})
	return cred, err
}
