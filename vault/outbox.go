package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// outboxDoc is a change of a slot that one of its syncers has yet to take. It is
// stored in the commit of the change, under the slot and the binding, so that a
// newer change replaces it and nothing that was acknowledged is forgotten. It holds
// no secret: the value is read when it is delivered.
type outboxDoc struct {
	Org          string     `json:"org"` // slug
	Plugin       string     `json:"plugin"`
	Change       SyncChange `json:"change"`
	CredentialID ID         `json:"credentialId"`
	Version      uint64     `json:"version"`
	ChangedAt    time.Time  `json:"changedAt"`
	// Nonce tells apart changes of one kind within a millisecond. Records of the first
	// vaults have none.
	Nonce       string    `json:"nonce,omitempty"`
	RequestID   string    `json:"requestId,omitempty"` // of the change, for the log
	Attempts    int       `json:"attempts"`
	LastError   string    `json:"lastError,omitempty"`
	NextAttempt time.Time `json:"nextAttempt"`
	Lease       *leaseDoc `json:"lease,omitempty"`
}

// leaseDoc says which process is delivering a change, where several share storage.
// It outlives the process by little: one that is killed leaves the change to others.
type leaseDoc struct {
	By    string    `json:"by"`
	Until time.Time `json:"until"`
}

// syncedDoc is the last change of a slot that a syncer took.
type syncedDoc struct {
	Change       SyncChange `json:"change"`
	CredentialID ID         `json:"credentialId"`
	Version      uint64     `json:"version"`
	ChangedAt    time.Time  `json:"changedAt"`
	SyncedAt     time.Time  `json:"syncedAt"`
}

// idempotencyKey is the same for every attempt at the change and for no other
// change, of which one credential's version can see several: it is deactivated,
// and activated again.
func (d outboxDoc) idempotencyKey() string {
	return fmt.Sprintf("%s.%d.%s.%d%s", d.CredentialID, d.Version, d.Change, d.ChangedAt.UnixMilli(), d.Nonce)
}

// outgoing is what a change adds to its commit for the slot's syncers, and what is
// to be delivered after it.
type outgoing struct {
	changes []backends.Change
	pending []pendingSync
}

type pendingSync struct {
	key     string
	slot    Slot
	binding Syncer
	surface bool
	since   time.Time
}

func (o outgoing) and(other outgoing) outgoing {
	return outgoing{append(o.changes, other.changes...), append(o.pending, other.pending...)}
}

// outgoing returns what tells the syncers of the slot that its credential changed.
func (v *Vault) outgoing(ctx context.Context, org Org, cred Credential, change SyncChange) (o outgoing, err error) {
	syncers, err := v.syncers(ctx, org, cred.Slot.Integration)
	for _, b := range syncers {
		d := outboxDoc{
			Org: org.Slug, Plugin: b.Plugin, Change: change, CredentialID: cred.ID, Version: cred.Version,
			ChangedAt: v.now(), Nonce: rand.Text(), RequestID: requestID(ctx), NextAttempt: v.now(),
		}
		key := outboxKey(org, cred.Slot, b.Name)
		put, err := v.replaceOutbox(ctx, key, d, b)
		if err != nil {
			return outgoing{}, err
		}
		o.changes = append(o.changes, put)
		o.pending = append(o.pending, pendingSync{key: key, slot: cred.Slot, binding: b, surface: b.mode(change) == Surface, since: d.ChangedAt})
	}
	return o, err
}

// syncers returns what the catalog binds to an integration; nothing when it no
// longer has it.
func (v *Vault) syncers(ctx context.Context, org Org, integration string) ([]Syncer, error) {
	i, err := v.lookup(ctx, org, integration)
	if err != nil && KindOf(err) != IntegrationNotFound {
		return nil, err
	}
	return i.Syncers, nil
}

func (b Syncer) mode(c SyncChange) SyncMode {
	switch {
	case c == SyncRemove && b.OnRemove == "":
		return Swallow
	case c == SyncRemove:
		return b.OnRemove
	case b.OnSet == "":
		return Surface
	default:
		return b.OnSet
	}
}

func (b Binding) timeout() time.Duration {
	if b.Timeout == 0 {
		return DefaultPluginTimeout
	}
	return b.Timeout
}

// replaceOutbox returns the change that puts d in the place of whatever waits there.
// What another process is delivering at the moment keeps its lease: the newer
// change is delivered after it, by that process.
func (v *Vault) replaceOutbox(ctx context.Context, key string, d outboxDoc, b Syncer) (backends.Change, error) {
	if !v.exclusive {
		d.Lease = v.courier.newLease(v.now(), b)
	}
	old, err := v.backend.Get(ctx, key)
	if errors.Is(err, backends.ErrNotFound) {
		return v.put(key, 0, d)
	}
	if err != nil {
		return backends.Change{}, storageError(err)
	}
	var was outboxDoc
	// One that fails its check is replaced like any other.
	if v.decode(ctx, old, &was) == nil && !v.exclusive && was.Lease.holds(v.now()) {
		d.Lease = was.Lease
	}
	return v.put(key, old.Revision, d)
}

func (l *leaseDoc) holds(now time.Time) bool { return l != nil && now.Before(l.Until) }

// surface hands what was committed to the courier, and waits for the syncers in
// surface mode. done says what has been committed. It must be called after the
// slot's lock is released.
func (a *attempt) surface(ctx context.Context, done string) error {
	var names, reasons []string
	waits := make([]<-chan error, len(a.pending))
	for n, p := range a.pending {
		waits[n] = a.v.courier.send(p)
	}
	for n, p := range a.pending {
		if waits[n] == nil {
			continue
		}
		if err := await(ctx, waits[n], p.binding); err != nil {
			names = append(names, p.binding.Name)
			reasons = append(reasons, err.Error())
		}
	}
	slices.Sort(names) // a rename tells each syncer twice
	if len(names) == 0 {
		return nil
	}
	return errorf(ToolSetupFailed, "The credential was %s, but its sync to %s failed", done, joinNames(slices.Compact(names))).
		detailed("%s; it is tried again by itself, and repeating the call is safe", strings.Join(slices.Compact(reasons), "; "))
}

// await waits for a delivery, and for one that may be under way before it.
func await(ctx context.Context, result <-chan error, b Syncer) error {
	limit := time.NewTimer(2*b.timeout() + leaseSlack)
	defer limit.Stop()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		return errors.New("it is still under way")
	}
}

// parseOutboxPath reads what follows the org in an outbox key.
func parseOutboxPath(path string) (slot Slot, binding string, ok bool) {
	at := strings.LastIndexByte(path, '/')
	if at < 0 {
		return Slot{}, "", false
	}
	slot, ok = parsePath(path[:at])
	return slot, path[at+1:], ok
}

func outboxPath(key string) string {
	_, path, _ := strings.Cut(strings.TrimPrefix(key, outboxFamily), "/")
	return path
}
