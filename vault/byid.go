package vault

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// Actions on credentials by their ID.
const (
	ActionCreate   = "create_integration_credentials"
	ActionDetails  = "get_credential"
	ActionList     = "list_credentials"
	ActionUpdate   = "update_credential"
	ActionVersions = "list_credential_versions"
	ActionRollback = "rollback_credential"
	ActionUsage    = "get_credential_usage"
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
			continue // it moved between the two reads
		}
		if err == nil && at.Integration != "" && cred.Slot.Integration != at.Integration {
			return Credential{}, notByID(at)
		}
		return cred, err
	}
	return Credential{}, v.lost(backends.ErrNotFound, credKey(org, at.ID))
}

// follow returns the credential that is stored under its ID or where it lives.
func (v *Vault) follow(ctx context.Context, org Org, id ID, d credDoc, at backends.Revision) (Credential, error) {
	if d.Deleted != nil {
		return d.Deleted.credential(at), nil
	}
	if d.Live == nil {
		return Credential{}, v.integrityError(errors.New(credKey(org, id) + " leads nowhere"))
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
	if cred, err = v.find(ctx, c.Org, slot, o); err != nil {
		return Credential{}, err
	}
	return cred, a.inherits(slot, cred.Slot)
}

// RemoveByID marks the credential with that ID as deleted, under the rules of
// Remove.
func (v *Vault) RemoveByID(ctx context.Context, c Caller, at Address, o RemoveOptions) (removed Removed, err error) {
	a, cred, err := v.beginByID(ctx, c, ActionRemove, at, true)
	defer func() { err = a.close(ctx, err) }()
	if o.IfExists && KindOf(err) == CredentialNotFound {
		a.note("wasNoop", true)
		_, err = a.commit(ctx)
		return Removed{WasNoop: true}, storageErrorOr(err)
	}
	if err != nil {
		return Removed{}, err
	}
	defer v.lock(c.Org, cred.Slot).Unlock()
	err = retry(func() error {
		if cred, err = v.byID(ctx, c.Org, at); err != nil {
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

func storageErrorOr(err error) error {
	if err == nil {
		return nil
	}
	return storageError(err)
}

// Filter selects credentials. Zero fields select all.
type Filter struct {
	Integration string
	Scope       *envs.Scope
	Name        string
	Status      Status
}

// listScan bounds how many credentials one call looks through; a page that comes
// back short then carries on with the next cursor.
const listScan = 5 * backends.MaxPage

// List returns active, inactive and expired credentials that the caller's grant
// covers, in a fixed order, after the one where a previous page ended ("" for the
// first), and where this one ends ("" when there are no more). What exists
// throughout is in the pages once, whatever is created and deleted meanwhile.
func (v *Vault) List(ctx context.Context, c Caller, f Filter, after string, limit int) (list []Credential, next string, err error) {
	a := v.begin(c, ActionList, Slot{Integration: f.Integration})
	defer func() { err = a.close(ctx, err) }()
	if err := a.filters(f); err != nil {
		return nil, "", err
	}
	prefix := livePrefix(c.Org)
	if f.Integration != "" {
		if prefix += f.Integration + "/"; f.Scope != nil {
			prefix += segment(*f.Scope) + "/"
		}
	}
	from := ""
	if after != "" {
		from = livePrefix(c.Org) + after
	}
	for scanned := 0; scanned < listScan; {
		page, err := v.backend.List(ctx, prefix, from, min(limit, backends.MaxPage))
		if err != nil {
			return nil, "", storageError(err)
		}
		for _, r := range page {
			from = r.Key
			var d credentialDoc
			if err := v.decode(r, &d); err != nil {
				return nil, "", err
			}
			if cred := d.credential(r.Revision); v.selects(c, f, cred) {
				list = append(list, cred)
			}
			if len(list) == limit {
				return list, from[len(livePrefix(c.Org)):], nil
			}
		}
		if scanned += len(page); len(page) < min(limit, backends.MaxPage) {
			return list, "", nil
		}
	}
	return list, from[len(livePrefix(c.Org)):], nil
}

// filters refuses to select by what the caller's grant does not cover.
func (a *attempt) filters(f Filter) error {
	if f.Integration != "" && !a.caller.usesIntegration(f.Integration) {
		return a.grant(Slot{Integration: f.Integration}, true)
	}
	if f.Scope == nil {
		return nil
	}
	a.entry.Environment = f.Scope.Ptr()
	if !a.caller.mayRead(a.v.envs, *f.Scope) {
		return a.outside(*f.Scope)
	}
	return nil
}

// IsCursor reports whether List could have returned it as the place where a page
// ended, or it is "".
func IsCursor(s string) bool {
	if s == "" {
		return true
	}
	slot, ok := parsePath(s)
	return ok && integrationRE.MatchString(slot.Integration) && slot.path() == s && len(slot.Name) <= MaxName && len(slot.Scope) <= 63
}

func (v *Vault) selects(c Caller, f Filter, cred Credential) bool {
	return c.usesIntegration(cred.Slot.Integration) && c.mayRead(v.envs, cred.Slot.Scope) &&
		(f.Scope == nil || *f.Scope == cred.Slot.Scope) &&
		(f.Name == "" || f.Name == cred.Slot.Name) &&
		(f.Status == "" || f.Status == cred.StatusAt(v.now()))
}

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
func (v *Vault) Update(ctx context.Context, c Caller, at Address, change Change) (cred Credential, err error) {
	a, cred, err := v.beginByID(ctx, c, ActionUpdate, at, true)
	defer func() { err = a.close(ctx, err) }()
	if err == nil && cred.Status == StatusDeleted {
		err = notByID(at)
	}
	if err == nil {
		err = change.check(v.now())
	}
	if err != nil {
		return Credential{}, err
	}
	defer v.lock(c.Org, cred.Slot).Unlock()
	err = retry(func() error {
		if cred, err = v.byID(ctx, c.Org, at); err != nil {
			return err
		}
		if cred.Status == StatusDeleted {
			return notByID(at)
		}
		if !matches(change.IfMatch, cred.Revision) {
			return conflict(cred.Slot)
		}
		cred, err = a.update(ctx, cred, change)
		return err
	})
	return cred, err
}

func (a *attempt) update(ctx context.Context, cred Credential, change Change) (Credential, error) {
	old := cred
	cred.UpdatedAt, cred.UpdatedBy = a.v.now(), a.caller.Actor
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
	a.entry.Version = cred.Version
	cred.Revision, err = a.commit(ctx, changes...)
	if errors.Is(err, backends.ErrConflict) {
		return Credential{}, err
	}
	return cred, storageErrorOr(err)
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
		return nil, v.lost(err, credKey(org, from.ID))
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
	var changes []backends.Change
	for _, n := range from.Versions {
		file, err := v.backend.Get(ctx, recordKey(org, from.ID, n.Number))
		if err != nil {
			return nil, storageError(err)
		}
		fields, err := v.keys.open(from.Slot.Scope, file.Value, from.Slot.place(org, from.ID, n.Number))
		if err != nil {
			return nil, v.integrityError(err)
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

// Versions returns the kept versions of a credential, newest first.
func (v *Vault) Versions(ctx context.Context, c Caller, at Address) (cred Credential, err error) {
	a, cred, err := v.beginByID(ctx, c, ActionVersions, at, false)
	if err == nil && cred.Status == StatusDeleted {
		err = notByID(at)
	}
	if err != nil {
		return Credential{}, a.close(ctx, err)
	}
	slices.Reverse(cred.Versions)
	return cred, nil
}

// Rollback makes the value of an older version that is still kept the next
// version.
func (v *Vault) Rollback(ctx context.Context, c Caller, at Address, version uint64, ifMatch Revision) (cred Credential, err error) {
	a, cred, err := v.beginByID(ctx, c, ActionRollback, at, true)
	defer func() { err = a.close(ctx, err) }()
	if err == nil && cred.Status == StatusDeleted {
		err = notByID(at)
	}
	if err != nil {
		return Credential{}, err
	}
	key, err := v.keys.newest(cred.Slot.Scope)
	if err != nil {
		return Credential{}, err
	}
	defer v.lock(c.Org, cred.Slot).Unlock()
	err = retry(func() error {
		if cred, err = v.byID(ctx, c.Org, at); err != nil {
			return err
		}
		if cred.Status == StatusDeleted {
			return notByID(at)
		}
		fields, err := v.openVersion(ctx, c.Org, cred, version)
		if err != nil {
			return err
		}
		a.note("rolledBackTo", version)
		result, err := a.store(ctx, cred, SetInput{Fields: fields, IfMatch: ifMatch}, key)
		cred = result.Credential
		return err
	})
	return cred, err
}
