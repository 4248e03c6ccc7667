package vault

import (
	"context"
	"errors"

	"github.com/sidevault/sidevault/backends"
)

// RemoveOptions are the optional parts of Remove.
type RemoveOptions struct {
	// IfExists makes the removal of nothing a success with Removed.WasNoop.
	IfExists bool
	// IfMatch, when not zero, is the revision that the credential must still
	// have, or AnyRevision; else the call fails with VersionConflict.
	IfMatch Revision
}

// Removed says what Remove did.
type Removed struct {
	Credential Credential // the deleted one; zero when WasNoop
	WasNoop    bool
	Impact
}

// Remove marks the slot's credential as deleted. It touches that slot alone: it
// never falls back. A slot whose latest credential is deleted gives
// CredentialDeleted with when and by whom, one that never had a credential
// CredentialNotFound. A ToolSetupFailed comes with the result: the credential is
// deleted, and a syncer that the catalog puts in surface mode failed.
func (v *Vault) Remove(ctx context.Context, c Caller, slot Slot, o RemoveOptions) (Removed, error) {
	ctx = backends.Fresh(ctx)
	a := v.begin(c, ActionRemove, slot)
	removed, err := a.removeSlot(ctx, slot, o)
	if err != nil {
		return Removed{}, a.close(ctx, err)
	}
	return removed, a.surface(ctx, "deleted")
}

// removeSlot is Remove up to its commit.
func (a *attempt) removeSlot(ctx context.Context, slot Slot, o RemoveOptions) (removed Removed, err error) {
	if err := a.changes(slot); err != nil {
		return Removed{}, err
	}
	if _, err := a.v.lookup(ctx, a.caller.Org, slot.Integration); err != nil {
		return Removed{}, err
	}
	defer a.v.lock(a.caller.Org, slot).Unlock()
	err = retry(func() error {
		removed, err = a.remove(ctx, slot, o)
		return err
	})
	return removed, err
}

func (a *attempt) remove(ctx context.Context, slot Slot, o RemoveOptions) (Removed, error) {
	cred, err := a.v.live(ctx, a.caller.Org, slot)
	if errors.Is(err, backends.ErrNotFound) {
		return a.removeNothing(ctx, slot, o)
	}
	if err != nil {
		return Removed{}, err
	}
	return a.removeLive(ctx, cred, o)
}

// removeLive commits the deletion of a credential.
func (a *attempt) removeLive(ctx context.Context, cred Credential, o RemoveOptions) (Removed, error) {
	if !matches(o.IfMatch, cred.Revision) {
		return Removed{}, conflict(cred.Slot)
	}
	at := cred.Revision
	cred.Status, cred.DeletedAt, cred.DeletedBy = StatusDeleted, a.v.now(), a.caller.Actor.by()
	changes, err := a.v.deletionChanges(ctx, a.caller.Org, cred, at)
	if err != nil {
		return Removed{}, err
	}
	out, err := a.v.outgoing(ctx, a.caller.Org, cred, SyncRemove)
	if err != nil {
		return Removed{}, err
	}
	a.note("wasNoop", false)
	if cred.Revision, err = a.change(ctx, cred, changes, out); err != nil {
		return Removed{}, err
	}
	return a.assess(ctx, Removed{Credential: cred})
}

// deletionChanges moves the credential, which the slot holds at that revision,
// out of the slot and to its ID.
func (v *Vault) deletionChanges(ctx context.Context, org Org, c Credential, at backends.Revision) ([]backends.Change, error) {
	var address credDoc
	addressAt, err := v.document(ctx, credKey(org, c.ID), &address)
	if err != nil {
		return nil, v.lost(ctx, err, credKey(org, c.ID))
	}
	var gone goneDoc
	goneAt, err := v.document(ctx, goneKey(org, c.Slot), &gone)
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		return nil, err
	}
	doc := c.doc()
	deleted, err := v.put(credKey(org, c.ID), addressAt, credDoc{Deleted: &doc})
	if err != nil {
		return nil, err
	}
	last, err := v.put(goneKey(org, c.Slot), goneAt, goneDoc{ID: c.ID})
	if err != nil {
		return nil, err
	}
	return []backends.Change{backends.Delete(liveKey(org, c.Slot), at), deleted, last}, nil
}

// lost turns the absence of a record that another one points to into an
// integrity error.
func (v *Vault) lost(ctx context.Context, err error, key string) error {
	if errors.Is(err, backends.ErrNotFound) {
		return v.integrityError(ctx, errors.New(key+" is missing"))
	}
	return err
}

// removeNothing answers for a slot without a credential.
func (a *attempt) removeNothing(ctx context.Context, slot Slot, o RemoveOptions) (Removed, error) {
	if o.IfExists {
		a.note("wasNoop", true)
		_, err := a.commit(ctx, backends.Check(liveKey(a.caller.Org, slot), 0))
		if err != nil && !errors.Is(err, backends.ErrConflict) {
			return Removed{}, storageError(err)
		}
		return Removed{WasNoop: true}, err
	}
	a.note("wasNoop", true)
	last, err := a.v.lastDeleted(ctx, a.caller.Org, slot)
	if errors.Is(err, backends.ErrNotFound) {
		return Removed{}, errorf(CredentialNotFound, "Credential not found").
			detailed("No credential exists for %s", slot)
	}
	if err != nil {
		return Removed{}, err
	}
	a.entry.CredentialID = string(last.ID)
	return Removed{}, alreadyDeleted(last)
}

func alreadyDeleted(c Credential) error {
	return errorf(CredentialDeleted, "Credential has already been deleted").
		detailed("The credential was deleted on %s by %s", c.DeletedAt.UTC().Format(TimeFormat), c.DeletedBy.Actor().Label())
}
