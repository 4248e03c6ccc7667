package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// A rotation gives a scope a new key and seals every record of it anew, while reads
// and writes go on:
//
//	start  one commit: the new key's file and document, the old document as
//	       retired, the rotation's document, an audit entry
//	steps  commits of some records each, sealed anew under the revisions they had,
//	       with the rotation's document, which says how far they have come
//	end    one commit: the old keys and the rotation's document deleted, an
//	       audit entry
//
// Every commit of a newly sealed record checks the revision of its key's document
// ([scopeKey.check]), so from the start on nothing is sealed with an old key any
// more, by whatever process: one pass over the credentials is enough. Both keys
// open records until the end.

// rotationDoc is how far a rotation is.
type rotationDoc struct {
	From      int       `json:"from"` // number of the newest old key
	To        int       `json:"to"`
	StartedAt time.Time `json:"startedAt"`
	StartedBy Actor     `json:"startedBy"`
	// After is the key of the last credential whose records are done.
	After   string    `json:"after,omitempty"`
	Done    int       `json:"done"`  // credentials that were looked at
	Total   int       `json:"total"` // credentials that there were at the start; 0: not counted yet
	Records int       `json:"records"`
	Damaged []string  `json:"damaged,omitempty"` // the first records that no key opens
	Lease   *leaseDoc `json:"lease,omitempty"`
}

const (
	rotationLease = 30 * time.Second
	rotationRetry = 2 * time.Second
	firstReload   = time.Second / 4 // between attempts to read changed keys
	maxReload     = time.Minute
	maxDamaged    = 10 // records that a rotation names
	maxKeyNumber  = 9999
	stepChanges   = 40      // records of one commit, with room for the documents
	stepBytes     = 1 << 19 // of ciphertext in one commit
	stepPage      = 100     // credentials that are read at once
)

// Rotation is how far the rotation of a scope's key is.
type Rotation struct {
	Scope     envs.Scope
	Running   bool // false: none is under way, and the rest is zero but for Key
	Key       int  // number of the newest key
	Recipient string
	StartedAt time.Time
	StartedBy Actor
	Done      int // credentials that are sealed anew
	Total     int // of so many; 0: not counted yet
	// Damaged names records that no key opens. With one of them the rotation does
	// not end, and the old key stays.
	Damaged []string
}

// StartRotation gives a scope a new key, and returns while its records are sealed
// anew in the background. One that is under way goes on.
func (v *Vault) StartRotation(ctx context.Context, c Caller, scope envs.Scope) (r Rotation, err error) {
	a, err := v.beginRotation(c, ActionRotateKey, scope)
	if err == nil {
		err = a.startRotation(ctx, scope)
	}
	if err != nil {
		return Rotation{}, a.close(ctx, err)
	}
	v.rotator.start(scope)
	return v.rotation(ctx, scope)
}

// Rotation returns how far the rotation of a scope's key is.
func (v *Vault) Rotation(ctx context.Context, c Caller, scope envs.Scope) (r Rotation, err error) {
	a, err := v.beginRotation(c, ActionShowRotation, scope)
	if err == nil {
		r, err = v.rotation(backends.Fresh(ctx), scope)
	}
	if err != nil {
		return Rotation{}, a.close(ctx, err)
	}
	return r, nil
}

// Rotate rotates a scope's key to the end, for whoever holds the storage. progress
// is called after each commit. What is returned has the new key.
func (v *Vault) Rotate(ctx context.Context, scope envs.Scope, progress func(Rotation)) (Rotation, error) {
	a := v.beginOn(Caller{Actor: systemEntry("", "", "").Actor, Origin: Origin{Source: "cli"}}, ActionRotateKey, targetEnvironment, segment(scope))
	a.entry.Environment = scope.Ptr()
	if err := a.startRotation(ctx, scope); err != nil {
		return Rotation{}, a.close(ctx, err)
	}
	if err := v.rotator.run(backends.Fresh(ctx), scope, progress); err != nil {
		return Rotation{}, err
	}
	r, err := v.rotation(backends.Fresh(ctx), scope)
	if err == nil && r.Running {
		err = errorf(BackendUnavailable, "Another process is rotating the key of %s", scope).detailed("wait until it ends, or for %s after it was killed", rotationLease)
	}
	if err != nil {
		return Rotation{}, err
	}
	return r, nil
}

func (v *Vault) beginRotation(c Caller, action string, scope envs.Scope) (*attempt, error) {
	a := v.beginOn(c, action, targetEnvironment, segment(scope))
	a.entry.Environment = scope.Ptr()
	if err := a.admin(); err != nil {
		return a, err
	}
	if !c.mayChange(v.envs, scope) {
		return a, a.outside(scope)
	}
	return a, nil
}

// startRotation commits the start, unless a rotation is under way.
func (a *attempt) startRotation(ctx context.Context, scope envs.Scope) error {
	ctx = backends.Fresh(ctx)
	return retry(func() error {
		var d rotationDoc
		if _, err := a.v.document(ctx, rotationKey(segment(scope)), &d); !errors.Is(err, backends.ErrNotFound) {
			return err
		}
		if err := a.v.keys.load(ctx, a.v); err != nil {
			return err
		}
		changes, err := a.newKeyChanges(scope)
		if err != nil {
			return err
		}
		if _, err := a.commit(ctx, changes...); err != nil {
			if errors.Is(err, backends.ErrConflict) {
				return err
			}
			return storageError(err)
		}
		return a.v.keys.load(ctx, a.v)
	})
}

// newKeyChanges returns the changes that start a rotation.
func (a *attempt) newKeyChanges(scope envs.Scope) ([]backends.Change, error) {
	v := a.v
	old, err := v.keys.newest(scope)
	if err != nil {
		return nil, err
	}
	if old.number == maxKeyNumber {
		return nil, errorf(Internal, "The key of %s has been rotated too often", scope)
	}
	fresh, err := newScopeKey(v.header)
	if err != nil {
		return nil, err
	}
	now, next := v.now(), old.number+1
	changes, err := keyChanges(v.control, old.segment, next, fresh, keyDoc{Recipient: fresh.Recipient(), Readers: old.doc.Readers, CreatedAt: now})
	if err != nil {
		return nil, errorf(Internal, "The new key cannot be wrapped for its recipients").because(err)
	}
	v.keys.learn(changes[0].Value, fresh)
	retired := old.doc
	retired.RetiredAt = now
	info, err := v.put(keyInfoKey(old.segment, old.number), old.info, retired)
	if err != nil {
		return nil, err
	}
	state, err := v.put(rotationKey(old.segment), 0, rotationDoc{
		From: old.number, To: next, StartedAt: now, StartedBy: a.caller.Actor,
	})
	if err != nil {
		return nil, err
	}
	a.note("stage", "start")
	a.note("from", old.number)
	a.note("to", next)
	return append(changes, info, state), nil
}

// rotation reads how far a rotation is.
func (v *Vault) rotation(ctx context.Context, scope envs.Scope) (Rotation, error) {
	r := Rotation{Scope: scope}
	if keys := v.keys.current().scopes[scope]; len(keys) > 0 {
		r.Key, r.Recipient = keys[0].number, keys[0].doc.Recipient
	}
	var d rotationDoc
	_, err := v.document(ctx, rotationKey(segment(scope)), &d)
	if errors.Is(err, backends.ErrNotFound) {
		return r, nil
	}
	if err != nil {
		return Rotation{}, err
	}
	return d.rotation(r), nil
}

func (d rotationDoc) rotation(r Rotation) Rotation {
	r.Running, r.StartedAt, r.StartedBy = true, d.StartedAt, d.StartedBy
	r.Done, r.Total, r.Damaged = d.Done, d.Total, d.Damaged
	if r.Total > 0 {
		r.Done = min(r.Done, r.Total)
	}
	return r
}

// finish commits the end of a rotation: the old keys are destroyed.
func (v *Vault) finish(ctx context.Context, scope envs.Scope, d rotationDoc, at Revision) error {
	segment := segment(scope)
	changes := []backends.Change{backends.Delete(rotationKey(segment), at)}
	destroyed := 0
	for _, family := range []string{keyFileFamily, keyInfoFamily} {
		newest := fmt.Sprintf("%s%s/%04d", family, segment, d.To)
		err := each(ctx, v.backend, family+segment+"/", func(r backends.Record) error {
			if strings.Compare(r.Key, newest) < 0 {
				changes = append(changes, backends.Delete(r.Key, r.Revision))
				destroyed++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	entry := systemEntry(ActionRotateKey, targetEnvironment, segment)
	entry.Environment = scope.Ptr()
	entry.Metadata = map[string]any{
		"stage": "end", "from": d.From, "to": d.To, "credentials": d.Done, "records": d.Records, "startedBy": d.StartedBy.ID,
	}
	entries, err := v.forOrgs(ctx, entry)
	if err != nil {
		return err
	}
	if _, err := v.commit(ctx, changes, entries...); err != nil {
		return err
	}
	v.log.InfoContext(ctx, "a key was rotated; the old one is destroyed", "scope", segment, "number", d.To, "records", d.Records)
	return v.keys.load(ctx, v)
}
