package vault

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// A flush writes at most so many usage documents, or this part of those that wait: a
// document is rewritten for a number in it, and with very many in use that costs more
// than the reads.
const (
	usageStep  = 240
	usageShare = 30
)

// readUsage brings reads that are in the audit log into the usage documents. Where few
// are in use all are written with every flush. Of very many each has its turn within
// half a minute; a crash forgets the numbers since then, which the audit log has. The
// read log's flushing guards it.
type readUsage struct {
	v       *Vault
	pending map[usageKey]*usageCount
	queue   []usageKey // of what is pending, longest first
}

// usageKey is whose reads of what a usage document counts.
type usageKey struct{ org, credential, kind, actor string }

func (k usageKey) path() string {
	return usagePrefix(k.org, k.credential) + url.PathEscape(Actor{ID: k.actor, Kind: k.kind}.key())
}

type usageCount struct {
	usageKey
	actor       Actor
	reads       int
	first, last time.Time
}

// add counts reads to be written.
func (u *readUsage) add(taken []takenReads) {
	for i := range taken {
		r := &taken[i]
		key := usageKey{org: r.org, credential: r.credential, kind: r.kind, actor: r.actor}
		u.count(&usageCount{usageKey: key, actor: r.entry.Actor, reads: r.count, first: r.since, last: r.last})
	}
}

func (u *readUsage) count(more *usageCount) {
	c := u.pending[more.usageKey]
	if c == nil {
		u.pending[more.usageKey] = more
		u.queue = append(u.queue, more.usageKey)
		return
	}
	c.reads += more.reads
	if more.first.Before(c.first) {
		c.first = more.first
	}
	if more.last.After(c.last) {
		c.last, c.actor = more.last, more.actor
	}
}

// step writes those that have waited longest.
func (u *readUsage) step(ctx context.Context) error {
	n := len(u.queue)
	return u.write(ctx, u.queue[:min(n, max(usageStep, n/usageShare, n-maxPendingReads))])
}

// settle writes what is pending of one credential.
func (u *readUsage) settle(ctx context.Context, org, credential string) error {
	other := func(k usageKey) bool { return k.org != org || k.credential != credential }
	return u.write(ctx, slices.DeleteFunc(slices.Clone(u.queue), other))
}

// all writes all that is pending.
func (u *readUsage) all(ctx context.Context) error { return u.write(ctx, u.queue) }

// write commits some of what is pending, many commits at a time. What cannot be
// written stays pending.
func (u *readUsage) write(ctx context.Context, keys []usageKey) (err error) {
	if len(keys) == 0 {
		return nil
	}
	chunks := slices.Collect(slices.Chunk(keys, backends.MaxChanges))
	errs := inParallel(len(chunks), func(i int) error { return u.commit(ctx, chunks[i]) })
	for i, chunk := range chunks {
		if errs[i] != nil {
			err = errs[i]
			continue
		}
		for _, key := range chunk {
			delete(u.pending, key)
		}
	}
	u.queue = slices.DeleteFunc(slices.Clone(u.queue), func(k usageKey) bool { return u.pending[k] == nil })
	return err
}

// commit brings the counts into their documents.
func (u *readUsage) commit(ctx context.Context, keys []usageKey) error {
	for again := false; ; again = true {
		changes, err := u.changes(ctx, keys)
		if err != nil {
			return err
		}
		_, err = u.v.commit(ctx, changes)
		switch {
		case errors.Is(err, backends.ErrConflict):
			// Another sidecar counted reads of the same caller.
		case errors.Is(err, backends.ErrUnknownOutcome) && !again:
			// Counted twice beats not counted.
		default:
			return err
		}
	}
}

// changes returns what the counts change of their documents.
func (u *readUsage) changes(ctx context.Context, keys []usageKey) ([]backends.Change, error) {
	var changes []backends.Change
	for _, key := range keys {
		c, path := u.pending[key], key.path()
		var d usageDoc
		at, err := u.v.document(ctx, path, &d)
		if KindOf(err) == Integrity {
			// Reads must not stop because somebody altered a statistic: it starts anew.
			d, err = usageDoc{}, nil
		}
		if err != nil && !errors.Is(err, backends.ErrNotFound) {
			return nil, err
		}
		d.add(c.actor, c.reads, c.first, c.last)
		put, err := u.v.put(path, at, d)
		if err != nil {
			return nil, err
		}
		changes = append(changes, put)
	}
	return changes, nil
}
