package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault/seal"
)

// ValueField is the name of the field that holds a credential given as one
// opaque string. Every integration accepts it.
const ValueField = "value"

// SetInput is what a caller gives to set a credential.
type SetInput struct {
	Fields    seal.Fields
	AuthType  string    // "": as before, or unspecified
	ExpiresAt time.Time // zero: as before, or never
	Labels    map[string]string
	// IfMatch, when not zero, is the revision that the credential must still
	// have, or AnyRevision; else the call fails with VersionConflict.
	IfMatch Revision
	// MustCreate refuses a slot that is taken, with CredentialExists.
	MustCreate bool
}

// Revision is the state of a credential: it changes whenever anything of the
// credential does.
type Revision = backends.Revision

// Revisions that no credential has, for callers who name none in particular.
const (
	AnyRevision Revision = 1<<64 - 1 // matches every credential, but not its absence
	NoRevision  Revision = 1<<64 - 2 // matches nothing
)

// matches reports whether a credential of that revision (0: none) satisfies a
// caller's condition.
func matches(condition, at Revision) bool {
	return condition == 0 || condition == at || condition == AnyRevision && at != 0
}

// SetResult says what Set did.
type SetResult struct {
	Credential Credential
	Created    bool // false: an existing credential was rotated
}

// Set creates the slot's credential or rotates it: its fields become the next
// version. Before, the integration's validators are asked; a rejection is an
// InvalidCredentials, no answer a ValidatorUnavailable, and neither changes
// anything. What was there stays until the commit, and the audit entry's wasUpdate
// is decided by the same commit. A ToolSetupFailed comes with the result: the
// credential is stored, and a syncer in surface mode failed.
func (v *Vault) Set(ctx context.Context, c Caller, slot Slot, in SetInput) (SetResult, error) {
	ctx = backends.Fresh(ctx)
	action := ActionSet
	if in.MustCreate {
		action = ActionCreate
	}
	a := v.begin(c, action, slot)
	result, err := a.setSlot(ctx, slot, in)
	if err != nil {
		return SetResult{}, a.close(ctx, err)
	}
	return result, a.surface(ctx, "stored")
}

// setSlot is Set up to its commit.
func (a *attempt) setSlot(ctx context.Context, slot Slot, in SetInput) (result SetResult, err error) {
	v, org := a.v, a.caller.Org
	if err := a.changes(slot); err != nil {
		return SetResult{}, err
	}
	integration, err := v.enabled(ctx, org, slot.Integration)
	if err != nil {
		return SetResult{}, err
	}
	if err := checkInput(integration, slot, in, v.now()); err != nil {
		return SetResult{}, err
	}
	if _, err := v.keys.newest(slot.Scope); err != nil {
		return SetResult{}, err
	}
	if err := a.validate(ctx, integration, slot, in.AuthType, in.Fields); err != nil {
		return SetResult{}, err
	}
	defer v.lock(org, slot).Unlock()
	err = retry(func() error {
		result, err = a.set(ctx, slot, in)
		return err
	})
	return result, err
}

// set makes the slot's credential, or the next version of the one it finds there.
func (a *attempt) set(ctx context.Context, slot Slot, in SetInput) (SetResult, error) {
	cred, err := a.v.live(ctx, a.caller.Org, slot)
	if errors.Is(err, backends.ErrNotFound) {
		cred, err = newCredential(slot, a.caller.Actor, a.v.now())
	} else if err == nil && in.MustCreate {
		err = taken(slot)
	}
	if err != nil {
		return SetResult{}, err
	}
	return a.store(ctx, cred, in)
}

// store seals and commits the next version of a credential, which is its first
// when it has no revision.
func (a *attempt) store(ctx context.Context, cred Credential, in SetInput) (SetResult, error) {
	if !matches(in.IfMatch, cred.Revision) {
		return SetResult{}, conflict(cred.Slot)
	}
	key, err := a.v.keys.newest(cred.Slot.Scope)
	if err != nil {
		return SetResult{}, err
	}
	org, created := a.caller.Org, cred.Revision == 0
	dropped := cred.advance(in, a.caller.Actor, a.v.now(), a.v.keep)
	record, err := key.Seal(cred.Slot.place(org, cred.ID, cred.Version), in.Fields)
	if err != nil {
		return SetResult{}, err
	}
	changes, err := a.v.versionChanges(ctx, org, cred, record, dropped)
	if err != nil {
		return SetResult{}, err
	}
	out, err := a.v.outgoing(ctx, org, cred, SyncSet)
	if err != nil {
		return SetResult{}, err
	}
	a.note("wasUpdate", !created)
	cred.Revision, err = a.change(ctx, cred, append(changes, key.check()), out)
	return SetResult{Credential: cred, Created: created}, err
}

// change commits what an attempt changes of a credential, and what its syncers are
// to be told. A conflict comes back as it is.
func (a *attempt) change(ctx context.Context, cred Credential, changes []backends.Change, out outgoing) (Revision, error) {
	a.entry.CredentialID, a.entry.Version = string(cred.ID), cred.Version
	rev, err := a.commit(ctx, append(changes, out.changes...)...)
	if errors.Is(err, backends.ErrConflict) {
		a.v.noticeRotation(ctx, cred.Slot.Scope)
	}
	if err != nil && !errors.Is(err, backends.ErrConflict) {
		err = storageError(err)
	}
	a.pending = out.pending
	return rev, err
}

func conflict(slot Slot) error {
	return errorf(VersionConflict, "The credential has changed since it was read").
		detailed("read %s again, and repeat with its current ETag if the change still applies", slot)
}

func newCredential(slot Slot, by Actor, now time.Time) (Credential, error) {
	id, err := newID()
	if err != nil {
		return Credential{}, err
	}
	return Credential{ID: id, Slot: slot, Status: StatusActive, CreatedAt: now, CreatedBy: by.by()}, nil
}

// maxDropped bounds how many versions one commit drops. More are to go only after
// fewer are kept than before; the next changes drop the rest.
const maxDropped = 8

// advance makes the next version of the credential current and returns the
// numbers of the versions that are no longer kept.
func (c *Credential) advance(in SetInput, by Actor, now time.Time, keep int) (dropped []uint64) {
	c.Version++
	c.Versions = append(slices.Clone(c.Versions), Version{Number: c.Version, At: now, By: by.by()})
	for len(c.Versions) > keep && len(dropped) < maxDropped {
		dropped = append(dropped, c.Versions[0].Number)
		c.Versions = c.Versions[1:]
	}
	c.UpdatedAt, c.UpdatedBy, c.Status = now, by.by(), StatusActive
	if in.AuthType != "" {
		c.AuthType = in.AuthType
	}
	if !in.ExpiresAt.IsZero() {
		c.ExpiresAt = in.ExpiresAt
	} else if c.StatusAt(now) == StatusExpired {
		// The expiry was the old value's.
		c.ExpiresAt = time.Time{}
	}
	if in.Labels != nil {
		c.Labels = in.Labels
	}
	return dropped
}

// versionChanges returns what a new version changes in storage: the credential,
// its record, its address when it is new, and the records it drops.
func (v *Vault) versionChanges(ctx context.Context, org Org, c Credential, record []byte, dropped []uint64) ([]backends.Change, error) {
	live, err := v.put(liveKey(org, c.Slot), c.Revision, c.doc())
	if err != nil {
		return nil, err
	}
	changes := []backends.Change{live, backends.Put(recordKey(org, c.ID, c.Version), 0, record)}
	if c.Revision == 0 {
		address, err := v.put(credKey(org, c.ID), 0, credDoc{Live: c.Slot.doc()})
		if err != nil {
			return nil, err
		}
		changes = append(changes, address)
	}
	for _, n := range dropped {
		old, err := v.backend.Get(ctx, recordKey(org, c.ID, n))
		if errors.Is(err, backends.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, storageError(err)
		}
		changes = append(changes, backends.Delete(old.Key, old.Revision))
	}
	return changes, nil
}

// checkInput holds what a caller gave to the limits and to the catalog entry.
func checkInput(i Integration, slot Slot, in SetInput, now time.Time) error {
	if len(i.Environments) > 0 && !slices.Contains(i.Environments, string(slot.Scope)) {
		return errorf(InvalidRequest, "Integration %s cannot be set in %s", i.Key, slot.Scope).
			detailed("its catalog entry allows: %s", joinNames(i.Environments))
	}
	if in.AuthType != "" && len(i.AuthTypes) > 0 && !slices.Contains(i.AuthTypes, in.AuthType) {
		return invalid(FieldError{Path: []string{"authType"}, Code: "unknown",
			Msg: fmt.Sprintf("integration %s has no auth type %q; it has: %s", i.Key, clip(in.AuthType), joinNames(i.AuthTypes))})
	}
	if in.AuthType != "" && !slugRE.MatchString(in.AuthType) {
		return invalid(FieldError{Path: []string{"authType"}, Code: "forbidden", Msg: "authType is 1 to 63 of a-z 0-9 - _ with a letter or digit first and last"})
	}
	if !in.ExpiresAt.IsZero() && !in.ExpiresAt.After(now) {
		return invalid(FieldError{Path: []string{"expiresAt"}, Code: "past", Msg: "expiresAt must be in the future"})
	}
	if err := checkLabels(in.Labels); err != nil {
		return err
	}
	return checkFields(i, in.Fields)
}

// Limits of a credential's labels.
const (
	MaxLabels     = 32  // labels of a credential
	MaxLabelName  = 63  // bytes in a label's name
	MaxLabelValue = 256 // bytes in a label's value
)

func checkLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return invalid(FieldError{Path: []string{"labels"}, Code: "too_long", Msg: fmt.Sprintf("at most %d labels are allowed", MaxLabels)})
	}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		path := []string{"labels", clip(name)}
		if len(name) > MaxLabelName || !fieldNameRE.MatchString(name) {
			return invalid(FieldError{Path: path, Code: "forbidden", Msg: fmt.Sprintf("a label's name is 1 to %d of A-Z a-z 0-9 . _ -", MaxLabelName)})
		}
		if len(labels[name]) > MaxLabelValue || !printable(labels[name]) {
			return invalid(FieldError{Path: path, Code: "forbidden", Msg: fmt.Sprintf("a label's value is at most %d bytes of printable text", MaxLabelValue)})
		}
	}
	return nil
}

func invalid(errs ...FieldError) error {
	e := errorf(ValidationFailed, "%s", errs[0].Msg)
	if len(errs) > 1 {
		e.Msg = fmt.Sprintf("%s (and %d more)", errs[0].Msg, len(errs)-1)
	}
	e.Fields = errs
	return e
}

// checkFields returns a ValidationFailed that lists every fault of the fields,
// or nil. No text of it quotes a value.
func checkFields(i Integration, fields seal.Fields) error {
	if len(fields) == 0 {
		return invalid(FieldError{Path: []string{ValueField}, Code: "missing", Msg: "give the credential as value (one string) or as fields"})
	}
	if len(fields) > MaxFields {
		return invalid(FieldError{Path: []string{"fields"}, Code: "too_long", Msg: fmt.Sprintf("%d fields given; at most %d are allowed", len(fields), MaxFields)})
	}
	var errs []FieldError
	_, opaque := fields[ValueField]
	opaque = opaque && len(fields) == 1
	total := 0
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		total += len(name) + fields[name].Len()
		if err := checkField(i, name, fields[name].Reveal(), opaque); err != nil {
			errs = append(errs, *err)
		}
	}
	if total > MaxFieldBytes {
		errs = append(errs, FieldError{Path: []string{"fields"}, Code: "too_long", Msg: fmt.Sprintf("the fields have %d bytes in all; at most %d are allowed", total, MaxFieldBytes)})
	}
	if !opaque {
		errs = append(errs, missingFields(i, fields)...)
	}
	if len(errs) > 0 {
		return invalid(errs...)
	}
	return nil
}

func checkField(i Integration, name, value string, opaque bool) *FieldError {
	path := []string{"fields", name}
	if opaque {
		path = []string{ValueField}
	}
	fault := func(code, format string, args ...any) *FieldError {
		return &FieldError{Path: path, Code: code, Msg: fmt.Sprintf(format, args...)}
	}
	label := clip(name)
	if n := utf8.RuneCountInString(value); n == 0 {
		return fault("too_short", "%s is empty; it must have 1 to %d characters", label, MaxValue)
	} else if n > MaxValue {
		return fault("too_long", "%s has %d characters; at most %d are allowed", label, n, MaxValue)
	}
	if !storable(value) {
		return fault("forbidden", "%s holds a NUL or is not UTF-8; encode binary data, for example in base64", label)
	}
	if opaque {
		return nil
	}
	if !fieldNameRE.MatchString(name) {
		return fault("unknown", "%q is not a field name: use 1 to 64 of A-Z a-z 0-9 . _ -", label)
	}
	field, known := i.field(name)
	if !known && len(i.Fields) > 0 {
		return fault("unknown", "integration %s has no field %q%s", i.Key, label, i.hint(name))
	}
	if field.Pattern != nil && !field.Pattern.MatchString(value) {
		return fault("pattern", "%s does not have the form that integration %s expects", label, i.Key)
	}
	return nil
}

func missingFields(i Integration, fields seal.Fields) (errs []FieldError) {
	for _, f := range i.Fields {
		if _, given := fields[f.Name]; f.Required && !given {
			errs = append(errs, FieldError{Path: []string{"fields", f.Name}, Code: "missing",
				Msg: fmt.Sprintf("integration %s requires the field %s", i.Key, f.Name)})
		}
	}
	return errs
}
