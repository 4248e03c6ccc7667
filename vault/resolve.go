package vault

import (
	"bytes"
	"context"
	"errors"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// ResolveOptions are the optional parts of Resolve.
type ResolveOptions struct {
	// NoFallback looks in the slot's own scope alone.
	NoFallback bool
	// Version asks for an older version that is still kept; 0 is the current
	// one. It takes an admin.
	Version uint64
	// Buffer, when not nil, is where the secret is put, as long as there is room behind
	// its length; the caller clears it.
	Buffer []byte
}

// Resolved is a credential with its secret fields.
type Resolved struct {
	Credential *Credential // shared by all who read it: nobody changes it
	// Secret is the secret fields, as a JSON object of strings in the order of their
	// names. Its memory is ResolveOptions.Buffer's, where there was room.
	Secret  secret.Bytes
	Version uint64     // of the fields
	From    envs.Scope // where the credential was found
	found   *keptCredential
}

// Fields returns the secret fields by name.
func (r Resolved) Fields() (seal.Fields, error) { return parseFields(r.Secret.Reveal()) }

// Opaque reports whether the secret is one string, the field [ValueField] alone.
func (r Resolved) Opaque() bool {
	name, rest := `{"`+ValueField+`":"`, r.Secret.Reveal()
	return bytes.HasPrefix(rest, []byte(name)) && endOfString(rest[len(name):]) == len(rest)-len(name)-len(`"}`)
}

// endOfString returns where the JSON string that b continues ends, or -1.
func endOfString(b []byte) int {
	for from := 0; from < len(b); {
		quote := bytes.IndexByte(b[from:], '"')
		if quote < 0 {
			break
		}
		escape := bytes.IndexByte(b[from:from+quote], '\\')
		if escape < 0 {
			return from + quote
		}
		from += escape + 2 // what is escaped ends nothing
	}
	return -1
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
	if err := v.reads.record(ctx, a, slot.Scope, resolved.found); err != nil {
		resolved.Secret.Clear()
		return Resolved{}, err
	}
	v.count(ActionRead, OutcomeSuccess)
	v.resolved.count(slot.Scope, resolved.From)
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
		resolved, err = a.reveal(ctx, found, o)
		if errors.Is(err, backends.ErrNotFound) {
			again, err := a.v.glance(ctx, a.caller.Org, found.Slot)
			if backends.IsFresh(ctx) && err == nil && again.Revision == found.Revision {
				return Resolved{}, a.v.lost(ctx, backends.ErrNotFound, "the record of "+found.Slot.String())
			}
			ctx = backends.Fresh(ctx) // a cache may know of half of a change
			continue
		}
		a.entry.CredentialID, a.entry.Version = string(found.ID), resolved.Version
		return resolved, err
	}
}

// find returns the first credential of the slot's chain of scopes.
func (v *Vault) find(ctx context.Context, org Org, slot Slot, o ResolveOptions) (*keptCredential, error) {
	at := slot
	for {
		cred, err := v.glance(ctx, org, at)
		if !errors.Is(err, backends.ErrNotFound) {
			return cred, err
		}
		if at.Scope == envs.Shared || o.NoFallback {
			break
		}
		at.Scope = v.envs.Next(at.Scope)
	}
	return nil, errorf(CredentialNotFound, "Credential not found").
		detailed("No credential exists for %s", slot)
}

// inherits refuses what was found in a protected parent that the caller's grant
// does not name.
func (a *attempt) inherits(asked, found Slot) error {
	if found.Scope != asked.Scope && a.v.envs.Protected(found.Scope) {
		return a.reads(found)
	}
	return nil
}

// reveal decrypts a version of a credential that may be served. It returns
// backends.ErrNotFound as it comes when the version's record is gone.
func (a *attempt) reveal(ctx context.Context, c *keptCredential, o ResolveOptions) (Resolved, error) {
	a.at = a.v.clock() // and not when it began: storage may have taken its time
	switch c.StatusAt(a.at) {
	case StatusActive:
	case StatusExpired:
		return Resolved{}, errorf(CredentialExpired, "Credential has expired").
			detailed("The credential for %s expired on %s; set a new one", c.Slot, c.ExpiresAt.UTC().Format(TimeFormat))
	default:
		return Resolved{}, errorf(CredentialInactive, "Credential is inactive").
			detailed("The credential for %s was deactivated; set it or activate it to have it served again", c.Slot)
	}
	version := c.Version
	if o.Version != 0 {
		version = o.Version
	}
	opened, err := a.v.openVersion(ctx, o.Buffer, a.caller.Org, &c.Credential, version)
	if err != nil {
		return Resolved{}, err
	}
	return Resolved{Credential: &c.Credential, Secret: secret.Hold(opened[len(o.Buffer):]), Version: version, From: c.Slot.Scope, found: c}, nil
}

// openVersion decrypts a version of a credential and appends its fields to to, as
// appendFields does. It returns backends.ErrNotFound as it comes when the version's
// record is gone.
func (v *Vault) openVersion(ctx context.Context, to []byte, org Org, c *Credential, version uint64) ([]byte, error) {
	if version != c.Version && !c.keeps(version) {
		return nil, errorf(CredentialNotFound, "Version not found").
			detailed("Version %d of the credential for %s does not exist or is no longer kept", version, c.Slot)
	}
	if !v.keys.holds(c.Slot.Scope) {
		return nil, locked(c.Slot.Scope)
	}
	id := recordID{id: c.ID, version: version, at: c.Revision}
	if opened, ok := v.records.get(to, id); ok {
		return opened, nil
	}
	v.records.decryptions.Add(1)
	_, fields, err := v.openStored(ctx, c.Slot.Scope, recordKey(org, c.ID, version), c.Slot.place(org, c.ID, version))
	if err != nil {
		return nil, err
	}
	opened, err := appendFields(to, fields)
	if err == nil {
		v.records.put(id, opened[len(to):])
	}
	return opened, err
}

// versionFields is openVersion for those who need the fields one by one.
func (v *Vault) versionFields(ctx context.Context, org Org, c *Credential, version uint64) (seal.Fields, error) {
	object, err := v.openVersion(ctx, nil, org, c, version)
	if err != nil {
		return nil, err
	}
	defer clear(object)
	return parseFields(object)
}

func (c *Credential) keeps(version uint64) bool {
	for _, v := range c.Versions {
		if v.Number == version {
			return true
		}
	}
	return false
}
