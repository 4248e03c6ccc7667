package vault

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"unique"

	"github.com/sidevault/sidevault/backends"
)

// A flush writes at most so many usage documents, or this part of those that wait: a
// document is rewritten for a number in it, and with very many in use that costs more
// than the reads.
const (
	usageStep  = 240 / flushTurns
	usageShare = 30 * flushTurns
)

// readUsage brings reads that are in the audit log into the usage documents. Where few
// are in use all are written with every flush. Of very many each has its turn within
// half a minute; a crash forgets the numbers since then, which the audit log has. The
// read log's flushing guards it.
type readUsage struct {
	v       *Vault
	pending map[usageKey]usageCount
	queue   []usageKey // of what is pending, longest first
}

// usageKey is whose reads of what a usage document counts.
type usageKey struct {
	consumer   unique.Handle[consumer]
	credential string
}

type consumer struct{ org, kind, actor string }

func (k usageKey) path() string {
	c := k.consumer.Value()
	return usagePrefix(c.org, k.credential) + url.PathEscape(Actor{ID: c.actor, Kind: c.kind}.key())
}

type usageCount struct {
	reader      unique.Handle[reader] // that read last
	reads       int
	first, last int64 // in milliseconds of Unix time
}

// add counts reads to be written.
func (u *readUsage) add(taken []countedReads) {
	var by unique.Handle[reader]
	var consumes unique.Handle[consumer]
	for i := range taken {
		r := &taken[i]
		if r.reader != by {
			by = r.reader
			who := by.Value()
			consumes = unique.Make(consumer{org: who.org.ID, kind: who.actor.Kind, actor: who.actor.ID})
		}
		key := usageKey{consumes, string(r.credential)}
		c, known := u.pending[key]
		if !known {
			u.queue = append(u.queue, key)
			c.first = r.first
		}
		c.reads += r.reads
		c.first = min(c.first, r.first)
		if r.last >= c.last {
			c.last, c.reader = r.last, r.reader
		}
		u.pending[key] = c
	}
}

// due takes those that have waited longest from the queue.
func (u *readUsage) due() []usageKey {
	n := len(u.queue)
	return u.take(min(n, max(usageStep, n/usageShare, n-maxPendingReads)))
}

func (u *readUsage) take(n int) []usageKey {
	first := u.queue[:n]
	u.queue = u.queue[n:]
	return first
}

// step writes those that have waited longest.
func (u *readUsage) step(ctx context.Context) error { return u.write(ctx, u.due()) }

// all writes all that is pending.
func (u *readUsage) all(ctx context.Context) error { return u.write(ctx, u.take(len(u.queue))) }

// prepareDue is step, but for the commits.
func (u *readUsage) prepareDue(ctx context.Context) (prepared []preparedCommit, err error) {
	for keys := range slices.Chunk(u.due(), backends.MaxChanges) {
		changes, failed := u.changes(ctx, keys)
		if failed != nil {
			u.ended(keys, failed)
			err = failed
			continue
		}
		prepared = append(prepared, preparedCommit{
			commit: func() error { return u.commit(ctx, keys, changes) },
			ended:  func(err error) { u.ended(keys, err) },
		})
	}
	return prepared, err
}

// settle writes what is pending of one credential.
func (u *readUsage) settle(ctx context.Context, org, credential string) error {
	var its, others []usageKey
	for _, k := range u.queue {
		if k.credential == credential && k.consumer.Value().org == org {
			its = append(its, k)
		} else {
			others = append(others, k)
		}
	}
	u.queue = others
	return u.write(ctx, its)
}

// write commits what was taken from the queue, many commits at a time.
func (u *readUsage) write(ctx context.Context, taken []usageKey) error {
	var prepared []preparedCommit
	for keys := range slices.Chunk(taken, backends.MaxChanges) {
		prepared = append(prepared, preparedCommit{
			commit: func() error { return u.commit(ctx, keys, nil) },
			ended:  func(err error) { u.ended(keys, err) },
		})
	}
	return commitAll(prepared)
}

// ended queues again what could not be written.
func (u *readUsage) ended(keys []usageKey, err error) {
	if err != nil {
		u.queue = append(u.queue, keys...)
		return
	}
	for _, key := range keys {
		delete(u.pending, key)
	}
}

// commit brings the counts into their documents, of which changes are known for the first
// attempt, or nil.
func (u *readUsage) commit(ctx context.Context, keys []usageKey, changes []backends.Change) (err error) {
	for again := false; ; again = true {
		if again || changes == nil {
			if changes, err = u.changes(ctx, keys); err != nil {
				return err
			}
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
		d.add(c.reader.Value().actor, c.reads, moment(c.first), moment(c.last))
		put, err := u.v.put(path, at, d)
		if err != nil {
			return nil, err
		}
		changes = append(changes, put)
	}
	return changes, nil
}
