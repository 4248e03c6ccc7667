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
	for i := range taken {
		r := &taken[i]
		by := r.reader.Value()
		key := usageKey{unique.Make(consumer{org: by.org.ID, kind: by.actor.Kind, actor: by.actor.ID}), string(r.credential)}
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

// step writes those that have waited longest.
func (u *readUsage) step(ctx context.Context) error {
	n := len(u.queue)
	return u.writeFirst(ctx, min(n, max(usageStep, n/usageShare, n-maxPendingReads)))
}

// all writes all that is pending.
func (u *readUsage) all(ctx context.Context) error { return u.writeFirst(ctx, len(u.queue)) }

func (u *readUsage) writeFirst(ctx context.Context, n int) error {
	first := u.queue[:n]
	u.queue = u.queue[n:]
	return u.write(ctx, first)
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

// write commits what was taken from the queue, many commits at a time. What cannot be
// written is queued again.
func (u *readUsage) write(ctx context.Context, taken []usageKey) (err error) {
	chunks := slices.Collect(slices.Chunk(taken, backends.MaxChanges))
	errs := inParallel(len(chunks), func(i int) error { return u.commit(ctx, chunks[i]) })
	for i, chunk := range chunks {
		if errs[i] != nil {
			u.queue = append(u.queue, chunk...)
			err = errs[i]
			continue
		}
		for _, key := range chunk {
			delete(u.pending, key)
		}
	}
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
		d.add(c.reader.Value().actor, c.reads, moment(c.first), moment(c.last))
		put, err := u.v.put(path, at, d)
		if err != nil {
			return nil, err
		}
		changes = append(changes, put)
	}
	return changes, nil
}
