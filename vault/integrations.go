package vault

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/suggest"
)

var (
	fieldNameRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	slugRE      = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)
)

func checkSlug(what, s string) error {
	if !slugRE.MatchString(s) {
		return errorf(InvalidRequest, "The %s %q is not valid: use 1 to 63 of a-z 0-9 - _ with a letter or digit first and last", what, clip(s))
	}
	return nil
}

// entryDoc is a catalog entry of an org's own, or what the org changed of one
// that a catalog file has.
type entryDoc struct {
	Registered  bool      `json:"registered"`
	Name        string    `json:"name,omitempty"` // "": the file's
	Category    string    `json:"category,omitempty"`
	Description string    `json:"description,omitempty"`
	AuthTypes   []string  `json:"authTypes,omitempty"`
	Enabled     bool      `json:"enabled"`
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

// storedEntry is an entryDoc with the revision that it has in storage.
type storedEntry struct {
	entryDoc
	revision Revision
}

func (d entryDoc) at(revision Revision) *storedEntry { return &storedEntry{d, revision} }

func (d entryDoc) integration(key string) Integration {
	return Integration{
		Key: key, Name: d.Name, Category: d.Category, Description: d.Description, AuthTypes: d.AuthTypes,
		Enabled: d.Enabled, Registered: true, CreatedAt: d.CreatedAt, UpdatedAt: d.UpdatedAt,
	}
}

func (d entryDoc) change(i Integration) Integration {
	if d.Name != "" {
		i.Name = d.Name
	}
	i.Enabled, i.UpdatedAt = d.Enabled, d.UpdatedAt
	return i
}

func (i Integration) field(name string) (Field, bool) {
	for _, f := range i.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// hint suggests the field that was meant, or lists them all.
func (i Integration) hint(name string) string {
	names := make([]string, len(i.Fields))
	for n, f := range i.Fields {
		names[n] = f.Name
	}
	if h := suggest.Hint(name, names); h != "" {
		return h
	}
	return "; it has: " + joinNames(names)
}

func joinNames(names []string) string { return strings.Join(names, ", ") }

// lookup returns the org's catalog entry with that key, or IntegrationNotFound.
func (v *Vault) lookup(ctx context.Context, org Org, key string) (Integration, error) {
	i, _, err := v.entry(ctx, org, key)
	return i, err
}

// entry is lookup, with the revision of what the org changed (0: nothing).
func (v *Vault) entry(ctx context.Context, org Org, key string) (Integration, backends.Revision, error) {
	i, inFile := (*v.catalog.Load()).Lookup(key)
	d, err := kept(ctx, v, entryKey(org, key), entryDoc.at)
	switch {
	case errors.Is(err, backends.ErrNotFound) && inFile:
		return i, 0, nil
	case errors.Is(err, backends.ErrNotFound):
		return Integration{}, 0, v.unknownIntegration(key)
	case err != nil:
		return Integration{}, 0, err
	case inFile:
		return d.change(i), d.revision, nil
	case d.Registered:
		return d.integration(key), d.revision, nil
	default:
		// A change of an entry that has since left the catalog files.
		return Integration{}, d.revision, v.unknownIntegration(key)
	}
}

func (v *Vault) unknownIntegration(key string) error {
	var known []string
	for _, i := range (*v.catalog.Load()).All() {
		known = append(known, i.Key)
	}
	return errorf(IntegrationNotFound, "Integration not found").
		detailed("%q is not in the catalog%s", key, suggest.Hint(key, known))
}

// enabled is lookup for what a disabled entry refuses.
func (v *Vault) enabled(ctx context.Context, org Org, key string) (Integration, error) {
	i, err := v.lookup(ctx, org, key)
	if err == nil && !i.Enabled {
		return Integration{}, errorf(IntegrationDisabled, "Integration %s is disabled", key).
			detailed("an administrator can enable its catalog entry")
	}
	return i, err
}

// IntegrationStatus is a catalog entry with the scopes that have a credential
// for it, as far as the caller's grant shows them.
type IntegrationStatus struct {
	Integration
	Configured []envs.Scope
}

// IntegrationFilter selects catalog entries. Zero fields select all.
type IntegrationFilter struct {
	Category   string
	Scope      *envs.Scope // look for credentials in this scope alone
	Configured *bool
}

// Integrations returns the entries of the org's catalog that the caller's grant
// covers, in the order of their keys.
func (v *Vault) Integrations(ctx context.Context, c Caller, f IntegrationFilter) (list []IntegrationStatus, err error) {
	a := v.beginOn(c, ActionListIntegrations, targetIntegration, "")
	defer func() { err = a.close(ctx, err) }()
	if f.Scope != nil {
		a.entry.Environment = f.Scope.Ptr()
		if !c.mayRead(v.envs, *f.Scope) {
			return nil, a.outside(*f.Scope)
		}
	}
	all, err := v.catalogOf(ctx, c.Org)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if !c.usesIntegration(i.Key) || f.Category != "" && f.Category != i.Category {
			continue
		}
		status, err := v.integrationStatus(ctx, c, i, f.Scope)
		if err != nil {
			return nil, err
		}
		if f.Configured == nil || *f.Configured == (len(status.Configured) > 0) {
			list = append(list, status)
		}
	}
	return list, nil
}

// catalogOf returns the org's catalog in the order of the keys.
func (v *Vault) catalogOf(ctx context.Context, org Org) ([]Integration, error) {
	all := slices.Clone((*v.catalog.Load()).All())
	err := each(ctx, v.backend, entryPrefix(org), func(r backends.Record) error {
		var d entryDoc
		if err := v.decode(ctx, r, &d); err != nil {
			return err
		}
		key := strings.TrimPrefix(r.Key, entryPrefix(org))
		at, inFile := slices.BinarySearchFunc(all, key, func(i Integration, key string) int { return strings.Compare(i.Key, key) })
		if inFile {
			all[at] = d.change(all[at])
		} else if d.Registered {
			all = slices.Insert(all, at, d.integration(key))
		}
		return nil
	})
	return all, err
}

func (v *Vault) integrationStatus(ctx context.Context, c Caller, i Integration, only *envs.Scope) (IntegrationStatus, error) {
	status := IntegrationStatus{Integration: i}
	for _, scope := range v.envs.Scopes() {
		if !c.mayRead(v.envs, scope) || only != nil && *only != scope {
			continue
		}
		prefix := livePrefix(c.Org) + i.Key + "/" + segment(scope) + "/"
		page, err := v.backend.List(ctx, prefix, "", 1)
		if err != nil {
			return IntegrationStatus{}, storageError(err)
		}
		if len(page) > 0 {
			status.Configured = append(status.Configured, scope)
		}
	}
	return status, nil
}

// Integration returns one catalog entry with its status.
func (v *Vault) Integration(ctx context.Context, c Caller, key string) (status IntegrationStatus, err error) {
	a := v.begin(c, ActionGetIntegration, Slot{Integration: key})
	defer func() { err = a.close(ctx, err) }()
	if err := a.reads(Slot{Integration: key}); err != nil {
		return IntegrationStatus{}, err
	}
	i, err := v.lookup(ctx, c.Org, key)
	if err != nil {
		return IntegrationStatus{}, err
	}
	return v.integrationStatus(ctx, c, i, nil)
}

// Registration is what a caller gives to register a catalog entry.
type Registration struct {
	Key         string
	Name        string // "": the key
	Category    string // "": custom
	Description string
	AuthTypes   []string
}

// Register adds an entry to the org's catalog.
func (v *Vault) Register(ctx context.Context, c Caller, r Registration) (i Integration, err error) {
	if err := r.check(); err != nil {
		return Integration{}, err // its key is not fit for an audit entry
	}
	ctx = backends.Fresh(ctx)
	a := v.begin(c, ActionRegister, Slot{Integration: r.Key})
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return Integration{}, err
	}
	if err := a.grant(Slot{Integration: r.Key}, true); err != nil {
		return Integration{}, err
	}
	_, rev, err := v.entry(ctx, c.Org, r.Key)
	if err == nil {
		return Integration{}, errorf(IntegrationExists, "Integration %s already exists", r.Key).
			detailed("choose another key, or set its credentials as it is")
	}
	if KindOf(err) != IntegrationNotFound {
		return Integration{}, err
	}
	d := entryDoc{Registered: true, Name: r.Name, Category: r.Category, Description: r.Description, AuthTypes: r.AuthTypes, Enabled: true, CreatedAt: v.now()}
	d.UpdatedAt = d.CreatedAt
	return a.storeEntry(ctx, r.Key, rev, d, d.integration(r.Key))
}

// storeEntry commits an org's catalog entry.
func (a *attempt) storeEntry(ctx context.Context, key string, at backends.Revision, d entryDoc, i Integration) (Integration, error) {
	change, err := a.v.put(entryKey(a.caller.Org, key), at, d)
	if err != nil {
		return Integration{}, err
	}
	_, err = a.commit(ctx, change)
	if errors.Is(err, backends.ErrConflict) {
		return Integration{}, errorf(IntegrationExists, "Integration %s was changed by another caller at the same time", key).
			detailed("read it again before repeating the change")
	}
	if err != nil {
		return Integration{}, storageError(err)
	}
	return i, nil
}

func (r *Registration) check() error {
	if r.Name == "" {
		r.Name = r.Key
	}
	if r.Category == "" {
		r.Category = "custom"
	}
	if err := CheckIntegrationKey(r.Key); err != nil {
		return err
	}
	if err := checkName("name", r.Name); err != nil {
		return err
	}
	if err := checkSlug("category", r.Category); err != nil {
		return err
	}
	if len(r.Description) > maxDescription || !printable(r.Description) {
		return errorf(InvalidRequest, "The description must be at most %d bytes of printable text in one line", maxDescription)
	}
	if len(r.AuthTypes) > MaxFields {
		return errorf(InvalidRequest, "%d auth types given; at most %d are allowed", len(r.AuthTypes), MaxFields)
	}
	for _, t := range r.AuthTypes {
		if err := checkSlug("auth type", t); err != nil {
			return err
		}
	}
	return nil
}

const maxDescription = 1024 // bytes

// IntegrationChange is what Update changes; nil fields stay.
type IntegrationChange struct {
	Name    *string // of a registered entry only
	Enabled *bool
}

// UpdateIntegration enables, disables or, when it was registered, renames a
// catalog entry for the caller's org.
func (v *Vault) UpdateIntegration(ctx context.Context, c Caller, key string, change IntegrationChange) (status IntegrationStatus, err error) {
	ctx = backends.Fresh(ctx)
	a := v.begin(c, ActionUpdateIntegration, Slot{Integration: key})
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return IntegrationStatus{}, err
	}
	if err := a.grant(Slot{Integration: key}, true); err != nil {
		return IntegrationStatus{}, err
	}
	i, rev, err := v.entry(ctx, c.Org, key)
	if err != nil {
		return IntegrationStatus{}, err
	}
	if i, err = change.apply(i, v.now()); err != nil {
		return IntegrationStatus{}, err
	}
	a.note("enabled", i.Enabled)
	d := entryDoc{Enabled: i.Enabled, CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt}
	if i.Registered {
		d.Registered, d.Name, d.Category, d.Description, d.AuthTypes = true, i.Name, i.Category, i.Description, i.AuthTypes
	}
	if i, err = a.storeEntry(ctx, key, rev, d, i); err != nil {
		return IntegrationStatus{}, err
	}
	return v.integrationStatus(ctx, c, i, nil)
}

func (change IntegrationChange) apply(i Integration, now time.Time) (Integration, error) {
	if change.Name == nil && change.Enabled == nil {
		return Integration{}, errorf(InvalidRequest, "Nothing to change: give enabled or name")
	}
	if change.Name != nil {
		if !i.Registered {
			return Integration{}, errorf(InvalidRequest, "Integration %s comes from a catalog file and cannot be renamed here", i.Key).
				detailed("an entry with the same key in a catalog file of yours replaces it")
		}
		if err := checkName("name", *change.Name); err != nil {
			return Integration{}, err
		}
		i.Name = *change.Name
	}
	if change.Enabled != nil {
		i.Enabled = *change.Enabled
	}
	i.UpdatedAt = now
	return i, nil
}

// EnvironmentStatus is an environment, and who holds its key.
type EnvironmentStatus struct {
	envs.Environment
	KeyHeld bool     // by this host
	Readers []string // recipients of the key, for admins alone
}

// Environments returns the environments that the caller's grant covers, in the
// order they were configured.
func (v *Vault) Environments(_ context.Context, c Caller) []EnvironmentStatus {
	var list []EnvironmentStatus
	for _, e := range v.envs.All() {
		if scope := envs.Scope(e.Name); c.mayRead(v.envs, scope) {
			status := EnvironmentStatus{Environment: e, KeyHeld: v.keys.holds(scope)}
			if keys := v.keys.current().scopes[scope]; c.Admin && len(keys) > 0 {
				status.Readers = slices.Clone(keys[0].doc.Readers)
			}
			list = append(list, status)
		}
	}
	return list
}

// CatalogKeys returns the keys of the catalog files' entries that the caller's grant
// covers, in their order. It looks into memory alone, so what an org registered is not
// among them.
func (v *Vault) CatalogKeys(c Caller) []string {
	var keys []string
	for _, i := range (*v.catalog.Load()).All() {
		if c.usesIntegration(i.Key) {
			keys = append(keys, i.Key)
		}
	}
	return keys
}
