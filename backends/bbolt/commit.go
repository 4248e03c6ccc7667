package bbolt

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
)

// maxGroup bounds the batches of one transaction, and with them what one
// transaction holds in memory: 64 of the largest batches are 80 MiB.
const maxGroup = 64

// request is a batch on its way through the queue. Whoever moves it out of
// waiting owns it: the committer by taking it, the caller by giving it up.
type request struct {
	batch backends.Batch
	state atomic.Int32
	done  chan struct{}

	// Written by the committer before it closes done.
	revision backends.Revision
	keys     []string
	err      error
}

const (
	waiting int32 = iota
	taken
	givenUp
)

// Commit applies a batch that is still queued when ctx ends not at all; one whose
// transaction has begun is carried through and its outcome reported.
func (b *Backend) Commit(ctx context.Context, batch backends.Batch) (backends.Revision, error) {
	if err := batch.Validate(); err != nil {
		return 0, err
	}
	if err := b.enter(ctx); err != nil {
		return 0, err
	}
	defer b.leave()
	if b.readOnly {
		return 0, fmt.Errorf("%s: %w: it was opened for reading only", b.path, backends.ErrUnavailable)
	}
	r := &request{batch: batch, done: make(chan struct{})}
	select {
	case b.queue <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, givenUp) {
			return 0, ctx.Err()
		}
		<-r.done
	}
	return r.revision, r.err
}

// committer commits what is queued until the queue is closed, and opens the file
// anew where a synchronization has failed.
func (b *Backend) committer() {
	defer close(b.committed)
	var again <-chan time.Time
	for {
		select {
		case r, open := <-b.queue:
			if !open {
				return
			}
			group := b.gather(r)
			b.commit(group)
			for _, r := range group {
				b.touched(len(r.keys))
			}
		case <-again:
			b.resolveDoubt()
			again = nil
		}
		if again == nil && b.doubt.Load() != nil {
			again = time.After(doubtPause)
		}
	}
}

// gather takes first and what else is in the queue.
func (b *Backend) gather(first *request) []*request {
	// The callers that the last commit has just answered may be about to queue
	// their next batch, and one who queues one has often more: let those that can run do
	// so while more come of it, and wait for nobody.
	for before := -1; len(b.queue) > before && len(b.queue) < maxGroup; runtime.Gosched() {
		before = len(b.queue)
	}
	var group []*request
	for r := first; ; {
		if r.state.CompareAndSwap(waiting, taken) {
			group = append(group, r)
		}
		if len(group) == maxGroup {
			return group
		}
		select {
		case next, open := <-b.queue:
			if !open {
				return group
			}
			r = next
		default:
			return group
		}
	}
}

// commit carries the group through one transaction and answers every request.
func (b *Backend) commit(group []*request) {
	if err := b.transact(group); err != nil {
		for _, r := range group {
			if r.err == nil {
				r.revision, r.keys, r.err = 0, nil, err
			}
		}
	}
	for _, r := range group {
		if len(r.keys) > 0 {
			b.feed.Publish(backends.Event{Revision: r.revision, Keys: r.keys})
		}
		b.last = max(b.last, r.revision)
	}
	for _, r := range group {
		close(r.done)
	}
}

// errNothing rolls back a transaction in which no batch was applied.
var errNothing = errors.New("nothing to commit")

// transact returns an error when the transaction as a whole came to nothing; a
// batch that was refused on its own has that in its request.
func (b *Backend) transact(group []*request) error {
	if reason := b.unwritable.Load(); reason != nil {
		return *reason
	}
	if doubt := b.doubt.Load(); doubt != nil {
		return doubt.err
	}
	var before, after backends.Head
	err := b.update(func(s buckets) (err error) {
		if before, err = readHead(s.meta); err != nil {
			return err
		}
		after = before
		for _, r := range group {
			if err := s.apply(r, &after); err != nil {
				return err
			}
		}
		if after == before {
			return errNothing
		}
		return s.putHead(after)
	})
	switch {
	case err == nil, errors.Is(err, errNothing):
		return nil
	case errors.Is(err, backends.ErrCorrupt):
		return err
	}
	return b.settle(err, before)
}

// update runs fn in a write transaction.
func (b *Backend) update(fn func(buckets) error) (err error) {
	defer b.guard(&err, func(reason error) { b.unwritable.Store(&reason) })()
	return b.db.Update(func(tx *bolt.Tx) error {
		s, err := load(tx)
		if err != nil {
			return err
		}
		s.log.FillPercent = 1 // appended to only
		return fn(s)
	})
}

// settle says what a failed transaction left. Almost always nothing: bbolt
// writes its pages beside the old ones and points to them last. When it is that
// pointer's synchronization that failed, this process sees the new state and the
// disk may not have it; nobody may be told either way until the file was opened anew.
func (b *Backend) settle(cause error, before backends.Head) error {
	var found backends.Head
	err := b.read(bucketMeta, func(meta *bolt.Bucket) (err error) {
		found, err = readHead(meta)
		return err
	})
	moved := err != nil || found != before
	if moved || !clean(cause) {
		b.doubt.Store(&doubt{reads: moved, err: b.notKept(cause)})
	}
	if moved {
		return fmt.Errorf("%s: %w: %w", b.path, backends.ErrUnknownOutcome, cause)
	}
	return fmt.Errorf("%s: %w: %w", b.path, backends.ErrUnavailable, cause)
}

// apply applies the request's batch and moves head on, or notes in the request
// why it refused the batch. The error is the transaction's.
func (s buckets) apply(r *request, head *backends.Head) error {
	for _, c := range r.batch.Changes {
		at, err := s.revision(c.Key)
		if err == nil && at != c.If {
			err = fmt.Errorf("%w: key %q has revision %d, not %d", backends.ErrConflict, c.Key, at, c.If)
		}
		if err != nil {
			r.err = err
			return nil
		}
	}
	head.Revision++
	r.revision = head.Revision
	for _, c := range r.batch.Changes {
		if err := s.change(c, r); err != nil {
			return err
		}
	}
	for _, body := range r.batch.Entries {
		e := head.Append(body)
		if err := s.log.Put(number(e.Seq), e.Marshal()); err != nil {
			return err
		}
	}
	return nil
}

func (s buckets) change(c backends.Change, r *request) error {
	switch c.Op {
	case backends.OpPut:
		r.keys = append(r.keys, c.Key)
		return s.putRecord(c.Key, r.revision, c.Value)
	case backends.OpDelete:
		r.keys = append(r.keys, c.Key)
		return s.records.Delete([]byte(c.Key))
	}
	return nil
}
