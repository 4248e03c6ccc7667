package vault

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
	"unique"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// Status is a credential's state.
type Status string

// The stored states. A credential whose ExpiresAt has passed is shown as
// StatusExpired, which is never stored.
const (
	StatusActive   Status = "active"
	StatusInactive Status = "inactive"
	StatusDeleted  Status = "deleted"
	StatusExpired  Status = "expired"
)

// Credential is what is known of a credential besides its secret fields. What every read
// of the secret needs comes first: of many credentials it has to be fetched from memory.
type Credential struct {
	ID       ID
	Slot     Slot
	Status   Status
	AuthType string
	Version  uint64 // the current one; versions count from 1 without gaps
	// Revision changes whenever anything of the credential does.
	Revision  backends.Revision
	ExpiresAt time.Time // zero: never
	UpdatedAt time.Time
	UpdatedBy By
	CreatedAt time.Time
	CreatedBy By
	Versions  []Version
	Labels    map[string]string
	DeletedAt time.Time // zero unless deleted
	DeletedBy By
	// LastRead is when it was last read, as far as Filter.Usage asked for that; nil:
	// never.
	LastRead *time.Time
}

// Version is one value that a credential had, of those that are kept.
type Version struct {
	Number uint64
	At     time.Time
	By     By
}

// StatusAt returns the status at a moment, which may be StatusExpired.
func (c *Credential) StatusAt(now time.Time) Status {
	if c.Status == StatusActive && !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt) {
		return StatusExpired
	}
	return c.Status
}

// credentialDoc is a credential as it is stored.
type credentialDoc struct {
	ID          ID                `json:"id"`
	Integration string            `json:"integration"`
	Environment *string           `json:"environment"`
	Name        string            `json:"name"`
	AuthType    string            `json:"authType,omitempty"`
	Status      Status            `json:"status"`
	Labels      map[string]string `json:"labels,omitempty"`
	Version     uint64            `json:"version"`
	Versions    []versionDoc      `json:"versions"`
	CreatedAt   time.Time         `json:"createdAt"`
	CreatedBy   Actor             `json:"createdBy"`
	UpdatedAt   time.Time         `json:"updatedAt"`
	UpdatedBy   Actor             `json:"updatedBy"`
	ExpiresAt   time.Time         `json:"expiresAt,omitzero"`
	DeletedAt   time.Time         `json:"deletedAt,omitzero"`
	DeletedBy   *Actor            `json:"deletedBy,omitempty"`
}

type versionDoc struct {
	Number uint64    `json:"version"`
	At     time.Time `json:"at"`
	By     Actor     `json:"by"`
}

// credDoc is what is stored under a credential's ID: the slot that it lives in,
// or the credential itself once it is deleted.
type credDoc struct {
	Live    *slotDoc       `json:"live,omitempty"`
	Deleted *credentialDoc `json:"deleted,omitempty"`
}

type slotDoc struct {
	Integration string  `json:"integration"`
	Environment *string `json:"environment"`
	Name        string  `json:"name"`
}

// goneDoc is what is stored for a slot whose credential was deleted.
type goneDoc struct {
	ID ID `json:"id"`
}

func (c Credential) doc() credentialDoc {
	d := credentialDoc{
		ID: c.ID, Integration: c.Slot.Integration, Environment: c.Slot.Scope.Ptr(), Name: c.Slot.Name,
		AuthType: c.AuthType, Status: c.Status, Labels: c.Labels, Version: c.Version,
		CreatedAt: c.CreatedAt, CreatedBy: c.CreatedBy.Actor(), UpdatedAt: c.UpdatedAt, UpdatedBy: c.UpdatedBy.Actor(),
		ExpiresAt: c.ExpiresAt, DeletedAt: c.DeletedAt,
	}
	if c.Status == StatusDeleted {
		by := c.DeletedBy.Actor()
		d.DeletedBy = &by
	}
	for _, v := range c.Versions {
		d.Versions = append(d.Versions, versionDoc{Number: v.Number, At: v.At, By: v.By.Actor()})
	}
	return d
}

// credential is made to be kept: what many have in common, they share.
func (d credentialDoc) credential(at backends.Revision) Credential {
	c := Credential{
		ID: d.ID, Slot: slotDoc{d.Integration, d.Environment, d.Name}.slot().interned(),
		AuthType: intern(d.AuthType), Status: intern(d.Status), Labels: d.Labels, Version: d.Version,
		CreatedAt: d.CreatedAt, CreatedBy: d.CreatedBy.by(), UpdatedAt: d.UpdatedAt, UpdatedBy: d.UpdatedBy.by(),
		ExpiresAt: d.ExpiresAt, DeletedAt: d.DeletedAt, Revision: at,
	}
	if d.DeletedBy != nil {
		c.DeletedBy = d.DeletedBy.by()
	}
	c.Versions = make([]Version, len(d.Versions))
	for i, v := range d.Versions {
		c.Versions[i] = Version{Number: v.Number, At: v.At, By: v.By.by()}
	}
	return c
}

// intern returns the one copy in memory of a text that many have.
func intern[T ~string](text T) T { return unique.Make(text).Value() }

func (s Slot) interned() Slot {
	return Slot{Integration: intern(s.Integration), Scope: intern(s.Scope), Name: intern(s.Name)}
}

func (d slotDoc) slot() Slot {
	s := Slot{Integration: d.Integration, Name: d.Name}
	if d.Environment != nil {
		s.Scope = envs.Scope(*d.Environment)
	}
	return s
}

func (s Slot) doc() *slotDoc {
	return &slotDoc{Integration: s.Integration, Environment: s.Scope.Ptr(), Name: s.Name}
}

// live returns the credential that occupies the slot, or backends.ErrNotFound.
func (v *Vault) live(ctx context.Context, org Org, slot Slot) (Credential, error) {
	shared, err := v.glance(ctx, org, slot)
	if err != nil {
		return Credential{}, err
	}
	return shared.Credential, nil
}

// keptCredential is a live credential as it is kept in memory, where a read of its secret
// leaves a note for the next.
type keptCredential struct {
	counted    atomic.Uint64 // where the last read of it is counted, see [readShard]
	Credential               // shared: nobody changes it
}

func (d credentialDoc) kept(at backends.Revision) *keptCredential {
	return &keptCredential{Credential: d.credential(at)}
}

// glance is live for those who change nothing of the credential.
func (v *Vault) glance(ctx context.Context, org Org, slot Slot) (*keptCredential, error) {
	return kept(ctx, v, liveKey(org, slot), credentialDoc.kept)
}

// lastDeleted returns the credential that was deleted last from the slot, or
// backends.ErrNotFound.
func (v *Vault) lastDeleted(ctx context.Context, org Org, slot Slot) (Credential, error) {
	var gone goneDoc
	if _, err := v.document(ctx, goneKey(org, slot), &gone); err != nil {
		return Credential{}, err
	}
	var d credDoc
	rev, err := v.document(ctx, credKey(org, gone.ID), &d)
	if err != nil {
		return Credential{}, err
	}
	if d.Deleted == nil {
		return Credential{}, backends.ErrNotFound
	}
	return d.Deleted.credential(rev), nil
}

// SlotStatus says what a slot holds.
type SlotStatus struct {
	Slot       Slot
	Credential *Credential // nil: nothing
	Sync       []Sync      // how far its last change has come, by syncer
}

// Status says what the slot holds, without its secret fields.
func (v *Vault) Status(ctx context.Context, c Caller, slot Slot) (status SlotStatus, err error) {
	a := v.begin(c, ActionStatus, slot)
	defer func() { err = a.close(ctx, err) }()
	if err := a.reads(slot); err != nil {
		return SlotStatus{}, err
	}
	if _, err := v.lookup(ctx, c.Org, slot.Integration); err != nil {
		return SlotStatus{}, err
	}
	cred, err := v.live(ctx, c.Org, slot)
	status.Slot = slot
	if err == nil {
		status.Credential = &cred
	} else if !errors.Is(err, backends.ErrNotFound) {
		return SlotStatus{}, err
	}
	status.Sync, err = v.syncsOf(ctx, c.Org, slot, status.Credential)
	return status, err
}
