package vault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault/seal"
)

const (
	// firstPause and longestPause bound the time between two attempts at a change,
	// which doubles each time and is cut by a random part of up to a half, so that
	// what failed together does not come back together.
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	// longestRetryAfter is the longest that a syncer may ask to be left alone.
	longestRetryAfter = time.Hour
	// leaseSlack is how long a lease outlives the timeout of the call that it was
	// taken for: the program may have to be started first.
	leaseSlack = 15 * time.Second
	// lockedPause is the pause of a change whose value this host has no key for.
	lockedPause = time.Minute
)

// errLeased says that another process is delivering the change.
var errLeased = errors.New("another sidecar is delivering it at the moment")

// deliver hands the pending change under key to its syncer, and whatever replaced it
// meanwhile. It returns when the change is due again, the zero time when nothing is
// pending any longer, and why an attempt failed, in words that may be shown.
func (c *courier) deliver(key string) (next time.Time, err error) {
	for {
		next, err = c.attempt(key)
		if !errors.Is(err, backends.ErrConflict) {
			return next, err
		}
	}
}

// attempt is one attempt at what is pending under key. It ends with ErrConflict when
// that was replaced before its outcome was stored.
func (c *courier) attempt(key string) (next time.Time, err error) {
	var d outboxDoc
	rev, err := c.v.document(c.ctx, key, &d)
	switch {
	case errors.Is(err, backends.ErrNotFound):
		return time.Time{}, nil
	case KindOf(err) == Integrity:
		return time.Time{}, errors.New("the pending sync fails its integrity check")
	case err != nil:
		return c.v.now().Add(pause(1)), errors.New("storage is unavailable")
	case !c.v.exclusive && d.Lease.holds(c.v.now()) && d.Lease.By != c.owner:
		return d.Lease.Until, errLeased
	}
	p, bound, err := c.parcel(key, d)
	if err != nil {
		return c.v.now().Add(pause(1)), errors.New("storage is unavailable")
	}
	if p.rev = rev; !bound {
		return c.fail(p, fmt.Sprintf("the catalog binds no syncer %s to %s", p.binding.Name, p.slot.Integration), longestPause)
	}
	call, secrets, err := c.call(p)
	if KindOf(err) == EnvironmentLocked {
		return c.v.now().Add(lockedPause), errors.New("this host has no key for its environment")
	}
	if err != nil {
		c.v.log.Error("the value of a pending sync cannot be read", ofRequest(d.RequestID), "key", key, "err", err)
		return c.fail(p, "the stored value cannot be read", 0)
	}
	if p.rev, err = c.lease(p); err != nil {
		return c.v.now().Add(pause(1)), err
	}
	return c.hand(p, call, secrets)
}

// parcel is a pending change with what is needed to deliver it.
type parcel struct {
	key         string
	rev         backends.Revision
	doc         outboxDoc
	org         Org
	slot        Slot
	integration Integration
	binding     Syncer
}

// parcel reports also whether the catalog has the binding still.
func (c *courier) parcel(key string, d outboxDoc) (p parcel, bound bool, err error) {
	p = parcel{key: key, doc: d, org: Org{ID: orgOfKey(key), Slug: d.Org}}
	var name string
	p.slot, name, _ = parseOutboxPath(outboxPath(key)) // signed, so it is a path that we made
	p.binding.Name, p.binding.Plugin = name, d.Plugin
	p.integration, err = c.v.lookup(c.ctx, p.org, p.slot.Integration)
	if KindOf(err) == IntegrationNotFound {
		return p, false, nil
	}
	for _, b := range p.integration.Syncers {
		if b.Name == name {
			p.binding, bound = b, true
		}
	}
	return p, bound, err
}

// hand makes the call and stores its outcome.
func (c *courier) hand(p parcel, call SyncCall, secrets seal.Fields) (time.Time, error) {
	struck := striker(p.integration, secrets)
	result, err := c.v.plugins.Sync(c.ctx, call)
	if c.ctx.Err() != nil {
		// The vault closes: what came of the call is not known, and it is made again.
		return c.v.now(), errors.New("the sidecar is stopping")
	}
	c.v.metrics.Synced(p.binding.Plugin, err == nil && !result.Failed)
	if err != nil {
		c.v.log.Warn("a sync got no answer", ofRequest(p.doc.RequestID), "plugin", p.binding.Plugin,
			"integration", p.slot.Integration, "attempt", call.Attempt, "err", err)
		return c.fail(p, foreign(struck, reason(err)), 0)
	}
	if !result.Failed {
		return c.succeed(p)
	}
	msg := foreign(struck, result.Message)
	if msg == "" {
		msg = fmt.Sprintf("plugin %s failed without saying why", p.binding.Plugin)
	}
	return c.fail(p, msg, result.RetryAfter)
}

func (c *courier) newLease(now time.Time, b Syncer) *leaseDoc {
	if c == nil {
		return nil
	}
	return &leaseDoc{By: c.owner, Until: now.Add(b.timeout() + leaseSlack)}
}

// lease keeps other processes from delivering the same change for the time of a
// call, and returns the change's revision.
func (c *courier) lease(p parcel) (backends.Revision, error) {
	now, held := c.v.now(), p.doc.Lease
	if c.v.exclusive || held.holds(now) && held.By == c.owner && held.Until.Sub(now) > p.binding.timeout() {
		return p.rev, nil
	}
	p.doc.Lease = c.newLease(now, p.binding)
	return c.store(p)
}

// store puts a changed document back.
func (c *courier) store(p parcel, entries ...auditBody) (backends.Revision, error) {
	put, err := c.v.put(p.key, p.rev, p.doc)
	if err != nil {
		return 0, err
	}
	rev, err := c.v.commit(c.ctx, []backends.Change{put}, entries...)
	return rev, orUnavailable(err)
}

// orUnavailable leaves a conflict as it is, and of any other error no text.
func orUnavailable(err error) error {
	if err != nil && !errors.Is(err, backends.ErrConflict) {
		return errors.New("storage is unavailable")
	}
	return err
}

// call returns what the syncer is told, and every field of the value.
func (c *courier) call(p parcel) (SyncCall, seal.Fields, error) {
	d := p.doc
	call := SyncCall{
		PluginCall: PluginCall{Binding: p.binding.Binding, Org: d.Org, Slot: p.slot},
		Change:     d.Change, CredentialID: d.CredentialID, Version: d.Version,
		IdempotencyKey: d.idempotencyKey(), Attempt: d.Attempts + 1,
	}
	if d.Change != SyncSet {
		return call, nil, nil
	}
	cred, err := c.v.byID(c.ctx, p.org, Address{ID: d.CredentialID})
	if err != nil {
		return SyncCall{}, nil, err
	}
	fields, err := c.v.versionFields(c.ctx, p.org, &cred, d.Version)
	call.AuthType, call.Fields = cred.AuthType, p.binding.given(fields)
	return call, fields, err
}

// succeed takes the change out of the outbox, with its audit entry in the same
// commit.
func (c *courier) succeed(p parcel) (next time.Time, err error) {
	again := c.v.now().Add(pause(1))
	var last syncedDoc
	at, err := c.v.document(c.ctx, syncedKey(p.key), &last)
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		return again, orUnavailable(err)
	}
	d := p.doc
	put, err := c.v.put(syncedKey(p.key), at, syncedDoc{
		Change: d.Change, CredentialID: d.CredentialID, Version: d.Version, ChangedAt: d.ChangedAt, SyncedAt: c.v.now(),
	})
	if err != nil {
		return again, err
	}
	entry := p.entry(OutcomeSuccess, d.Attempts+1)
	if _, err = c.v.commit(c.ctx, []backends.Change{backends.Delete(p.key, p.rev), put}, entry); err != nil {
		return again, orUnavailable(err)
	}
	c.v.count(entry.Action, entry.Outcome)
	return time.Time{}, nil
}

// fail stores that an attempt failed and when the next is due. The first failure of
// a change is audited; the others are counted and logged.
func (c *courier) fail(p parcel, why string, wait time.Duration) (time.Time, error) {
	d := &p.doc
	d.Attempts++
	wait = max(pause(d.Attempts), min(wait, longestRetryAfter))
	d.LastError, d.NextAttempt, d.Lease = why, c.v.now().Add(wait), nil
	var entries []auditBody
	if d.Attempts == 1 {
		entries = append(entries, p.entry(ToolSetupFailed.String(), d.Attempts))
	}
	if _, err := c.store(p, entries...); err != nil {
		return c.v.now().Add(pause(1)), err
	}
	c.v.log.Warn("a sync failed and is tried again", ofRequest(d.RequestID), "plugin", p.binding.Plugin, "syncer", p.binding.Name,
		"integration", p.slot.Integration, "environment", p.slot.Scope, "change", d.Change, "attempts", d.Attempts,
		"next_attempt", d.NextAttempt, "reason", why)
	return d.NextAttempt, errors.New(why)
}

// pause returns how long to wait after that many failed attempts.
func pause(attempts int) time.Duration {
	p := min(firstPause<<min(attempts-1, 20), longestPause)
	return p - rand.N(p/2)
}

// entry is the audit entry of an attempt to deliver the change.
func (p parcel) entry(outcome string, attempts int) auditBody {
	e := systemEntry(ActionSync, targetIntegration, p.slot.Integration)
	e.Source, e.Outcome, e.Org = "", outcome, p.doc.Org
	e.Environment, e.Name = p.slot.Scope.Ptr(), p.slot.Name
	e.CredentialID, e.Version = string(p.doc.CredentialID), p.doc.Version
	e.Metadata = map[string]any{
		"attempts": attempts, "change": string(p.doc.Change), "plugin": p.binding.Plugin, "syncer": p.binding.Name,
	}
	return e
}
