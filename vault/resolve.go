package vault

import (
	"context"
	"errors"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/seal"
)

// ResolveOptions are the optional parts of Resolve.
type ResolveOptions struct {
	// NoFallback looks in the slot's own scope alone.
	NoFallback bool
	// Version asks for an older version that is still kept; 0 is the current
	// one. It takes an admin.
	Version uint64
}

// Resolved is a credential with its secret fields.
type Resolved struct {
	Credential Credential
	Fields     seal.Fields
	Version    uint64     // of the fields
	From       envs.Scope // where the credential was found
}

// Resolve finds the credential for the slot and decrypts it: the slot's own,
// else its environment's parents', else the shared one. It passes over deleted
// credentials; at an inactive or expired one it stops with an error, since going
// on to another value would hide the fault. The read is in the audit log, or on
// its way there, before the fields are returned.
func (v *Vault) Resolve(ctx context.Context, c Caller, slot Slot, o ResolveOptions) (resolved Resolved, err error) {
	a := v.begin(c, ActionRead, slot)
	defer func() { err = a.close(ctx, err) }()
	if o.Version != 0 {
		if err := a.admin(); err != nil {
			return Resolved{}, err
		}
	}
	if err := a.reads(slot); err != nil {
		return Resolved{}, err
	}
	if _, err := v.enabled(ctx, c.Org, slot.Integration); err != nil {
		return Resolved{}, err
	}
	if resolved, err = a.resolve(ctx, slot, o); err != nil {
		return Resolved{}, err
	}
	a.note("resolvedFrom", resolved.From.Ptr())
	if err := v.reads.record(ctx, c.Org, a.entry); err != nil {
		return Resolved{}, err
	}
	v.count(ActionRead, OutcomeSuccess)
	return resolved, nil
}

// resolve finds and decrypts. A version that was current when the credential was
// read can be dropped by rotations before its record is: then it looks again.
func (a *attempt) resolve(ctx context.Context, slot Slot, o ResolveOptions) (resolved Resolved, err error) {
	for {
		found, err := a.v.find(ctx, a.caller.Org, slot, o)
		if err != nil {
			return Resolved{}, err
		}
		if err := a.inherits(slot, found.Slot); err != nil {
			return Resolved{}, err
		}
		resolved, err = a.v.reveal(ctx, a.caller.Org, found, o.Version)
		if errors.Is(err, backends.ErrNotFound) {
			again, err := a.v.live(ctx, a.caller.Org, found.Slot)
			if backends.IsFresh(ctx) && err == nil && again.Revision == found.Revision {
				return Resolved{}, a.v.lost(backends.ErrNotFound, "the record of "+found.Slot.String())
			}
			ctx = backends.Fresh(ctx) // a cache may know of half of a change
			continue
		}
		a.entry.CredentialID, a.entry.Version = string(found.ID), resolved.Version
		return resolved, err
	}
}

// find returns the first credential of the slot's chain of scopes.
func (v *Vault) find(ctx context.Context, org Org, slot Slot, o ResolveOptions) (Credential, error) {
	chain := v.envs.Chain(slot.Scope)
	if o.NoFallback {
		chain = chain[:1]
	}
	at := slot
	for _, at.Scope = range chain {
		cred, err := v.live(ctx, org, at)
		if !errors.Is(err, backends.ErrNotFound) {
			return cred, err
		}
	}
	return Credential{}, errorf(CredentialNotFound, "Credential not found").
		detailed("No credential exists for %s", slot)
}

// inherits refuses what was found in a protected parent that the caller's grant
// does not name.
func (a *attempt) inherits(asked, found Slot) error {
	if e, _ := a.v.envs.Lookup(string(found.Scope)); found.Scope != asked.Scope && e.Protected {
		return a.reads(found)
	}
	return nil
}

// reveal decrypts a version of a credential that may be served. It returns
// backends.ErrNotFound as it comes when the version's record is gone.
func (v *Vault) reveal(ctx context.Context, org Org, c Credential, version uint64) (Resolved, error) {
	switch c.StatusAt(v.now()) {
	case StatusActive:
	case StatusExpired:
		return Resolved{}, errorf(CredentialExpired, "Credential has expired").
			detailed("The credential for %s expired on %s; set a new one", c.Slot, c.ExpiresAt.UTC().Format(TimeFormat))
	default:
		return Resolved{}, errorf(CredentialInactive, "Credential is inactive").
			detailed("The credential for %s was deactivated; set it or activate it to have it served again", c.Slot)
	}
	if version == 0 {
		version = c.Version
	}
	fields, err := v.openVersion(ctx, org, c, version)
	if err != nil {
		return Resolved{}, err
	}
	return Resolved{Credential: c, Fields: fields, Version: version, From: c.Slot.Scope}, nil
}

// openVersion decrypts a version of a credential. It returns backends.ErrNotFound
// as it comes when the version's record is gone.
func (v *Vault) openVersion(ctx context.Context, org Org, c Credential, version uint64) (seal.Fields, error) {
	if !c.keeps(version) {
		return nil, errorf(CredentialNotFound, "Version not found").
			detailed("Version %d of the credential for %s does not exist or is no longer kept", version, c.Slot)
	}
	if !v.keys.holds(c.Slot.Scope) {
		return nil, locked(c.Slot.Scope)
	}
	id := recordID{org: org.ID, id: c.ID, version: version, at: c.Revision}
	if fields, ok := v.records.get(id); ok {
		return fields, nil
	}
	_, fields, err := v.openStored(ctx, c.Slot.Scope, recordKey(org, c.ID, version), c.Slot.place(org, c.ID, version))
	if err == nil {
		v.records.put(id, fields)
	}
	return fields, err
}

func (c Credential) keeps(version uint64) bool {
	for _, v := range c.Versions {
		if v.Number == version {
			return true
		}
	}
	return false
}
