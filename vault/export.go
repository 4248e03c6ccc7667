package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sidevault/sidevault/backends"
)

// RawExport is a credential as it is stored: what the stock age command needs to
// get it back.
type RawExport struct {
	Credential Credential
	Record     []byte   // age file of the current version
	Keys       [][]byte // age files of the scope's keys, newest first
}

// ExportRaw returns the stored record of the slot's credential and the key files
// of its scope, all of them ciphertext. It is for whoever holds the storage, and
// is audited as such.
func (v *Vault) ExportRaw(ctx context.Context, orgSlug string, slot Slot) (RawExport, error) {
	org, err := v.org(ctx, orgSlug)
	if err != nil {
		return RawExport{}, err
	}
	cred, err := v.live(ctx, org, slot)
	if errors.Is(err, backends.ErrNotFound) {
		return RawExport{}, errorf(CredentialNotFound, "Credential not found").detailed("No credential exists for %s", slot)
	}
	if err != nil {
		return RawExport{}, err
	}
	key := recordKey(org, cred.ID, cred.Version)
	record, err := v.backend.Get(ctx, key)
	if errors.Is(err, backends.ErrNotFound) {
		return RawExport{}, v.integrityError(ctx, fmt.Errorf("%s is missing", key))
	}
	if err != nil {
		return RawExport{}, storageError(err)
	}
	export := RawExport{Credential: cred, Record: record.Value}
	err = each(ctx, v.backend, "keyfile/"+segment(slot.Scope)+"/", func(r backends.Record) error {
		export.Keys = slices.Insert(export.Keys, 0, r.Value)
		return nil
	})
	if err != nil {
		return RawExport{}, err
	}
	entry := systemEntry(ActionExport, targetIntegration, slot.Integration)
	entry.Environment, entry.Name, entry.Org = slot.Scope.Ptr(), slot.Name, orgSlug
	entry.CredentialID, entry.Version = string(cred.ID), cred.Version
	if err := v.appendEntries(ctx, entry); err != nil {
		return RawExport{}, storageError(err)
	}
	return export, nil
}
