package vault

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// Restore makes a deleted credential live again in its slot, which must be free.
// It has no caller: it is for whoever holds the storage and a root identity, the
// only way back that there is. Validators are not asked; syncers are told when a
// sidecar serves the vault next.
func (v *Vault) Restore(ctx context.Context, orgSlug string, id ID) (Credential, error) {
	org, err := v.org(ctx, orgSlug)
	if err != nil {
		return Credential{}, err
	}
	cred, err := v.byID(ctx, org, Address{ID: id})
	switch {
	case err != nil:
		return Credential{}, err
	case cred.Status != StatusDeleted:
		return Credential{}, errorf(CredentialExists, "Credential %s is not deleted", id)
	case len(cred.Versions) == 0:
		return Credential{}, errorf(CredentialNotFound, "Credential %s was purged", id).
			detailed("its ciphertext was destroyed on purpose; only a backup from before has it")
	}
	restored := cred
	restored.Status, restored.DeletedAt, restored.DeletedBy = StatusActive, time.Time{}, By{}
	changes, err := v.restoreChanges(ctx, org, restored, cred.Revision)
	if err != nil {
		return Credential{}, err
	}
	out, err := v.outgoing(ctx, org, restored, SyncSet)
	if err != nil {
		return Credential{}, err
	}
	entry := systemEntry(ActionRestore, targetIntegration, cred.Slot.Integration)
	entry.Org, entry.CredentialID, entry.Version = orgSlug, string(id), cred.Version
	entry.Environment, entry.Name = cred.Slot.Scope.Ptr(), cred.Slot.Name
	restored.Revision, err = v.commit(ctx, append(changes, out.changes...), entry)
	if errors.Is(err, backends.ErrConflict) {
		return Credential{}, taken(cred.Slot)
	}
	return restored, storageErrorOr(err)
}

// restoreChanges returns the changes that put a credential, which is stored under
// its ID at that revision, back into its slot.
func (v *Vault) restoreChanges(ctx context.Context, org Org, c Credential, at backends.Revision) ([]backends.Change, error) {
	if _, err := v.live(ctx, org, c.Slot); !errors.Is(err, backends.ErrNotFound) {
		if err != nil {
			return nil, err
		}
		return nil, taken(c.Slot)
	}
	live, err := v.put(liveKey(org, c.Slot), 0, c.doc())
	if err != nil {
		return nil, err
	}
	address, err := v.put(credKey(org, c.ID), at, credDoc{Live: c.Slot.doc()})
	return []backends.Change{live, address}, err
}

// Org returns the org with that slug or UUID, or an InvalidRequest.
func (v *Vault) Org(ctx context.Context, name string) (Org, error) {
	if o, err := v.org(ctx, name); err == nil {
		return o, nil
	}
	slug, err := v.orgSlug(ctx, strings.ToLower(name))
	if err != nil {
		return Org{}, err
	}
	if slug == "" {
		return Org{}, errorf(InvalidRequest, "Unknown org %q", clip(name))
	}
	return v.org(ctx, slug)
}

func (v *Vault) org(ctx context.Context, slug string) (Org, error) {
	if err := checkSlug("org", slug); err != nil {
		return Org{}, err
	}
	var o orgDoc
	_, err := v.document(ctx, orgKey(slug), &o)
	if errors.Is(err, backends.ErrNotFound) {
		return Org{}, errorf(InvalidRequest, "Unknown org %q", clip(slug))
	}
	return Org(o), err
}

// Purged says what Purge destroyed.
type Purged struct {
	Credentials int
	Versions    int
}

// Purge destroys the ciphertext of every credential, of every org, that was
// deleted before a moment. What is known of them besides stays: who had them, when
// they were set and deleted, and the audit log. progress, when not nil, is called
// after each credential.
func (v *Vault) Purge(ctx context.Context, before time.Time, progress func(Purged)) (Purged, error) {
	var done Purged
	err := each(ctx, v.backend, "cred/", func(r backends.Record) error {
		var d credDoc
		if err := v.decode(ctx, r, &d); err != nil {
			return err
		}
		if d.Deleted == nil || len(d.Deleted.Versions) == 0 || !d.Deleted.DeletedAt.Before(before) {
			return nil
		}
		n, err := v.purge(ctx, r, d)
		if err != nil {
			return err
		}
		done.Credentials++
		done.Versions += n
		if progress != nil {
			progress(done)
		}
		return nil
	})
	return done, err
}

// purge destroys the records of one deleted credential, in one commit with its
// audit entry.
func (v *Vault) purge(ctx context.Context, stored backends.Record, d credDoc) (int, error) {
	cred := d.Deleted.credential(stored.Revision)
	orgID := orgOfKey(stored.Key)
	var changes []backends.Change
	for _, n := range cred.Versions {
		file, err := v.backend.Get(ctx, recordKey(Org{ID: orgID}, cred.ID, n.Number))
		if errors.Is(err, backends.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, storageError(err)
		}
		changes = append(changes, backends.Delete(file.Key, file.Revision))
	}
	destroyed := len(changes)
	d.Deleted.Versions = nil
	put, err := v.put(stored.Key, stored.Revision, d)
	if err != nil {
		return 0, err
	}
	entry := systemEntry(ActionPurge, targetIntegration, cred.Slot.Integration)
	entry.CredentialID, entry.Version = string(cred.ID), cred.Version
	entry.Environment, entry.Name = cred.Slot.Scope.Ptr(), cred.Slot.Name
	if entry.Org, err = v.orgSlug(ctx, orgID); err != nil {
		return 0, err
	}
	entry.Metadata = map[string]any{"versions": destroyed}
	_, err = v.commit(ctx, append(changes, put), entry)
	return destroyed, storageErrorOr(err)
}

// orgSlug returns the slug of the org with that UUID.
func (v *Vault) orgSlug(ctx context.Context, id string) (slug string, err error) {
	err = each(ctx, v.backend, "org/", func(r backends.Record) error {
		var o orgDoc
		if err := v.decode(ctx, r, &o); err != nil {
			return err
		}
		if o.ID == id {
			slug = o.Slug
		}
		return nil
	})
	return slug, err
}
