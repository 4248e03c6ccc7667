package etcd

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// grace is how long a caller whose context ended waits for the outcome of a commit
// that is under way: a healthy cluster answers within it.
const grace = 500 * time.Millisecond

// request is a batch on its way through the queue. Whoever moves it out of
// waiting owns it: the committer by taking it, the caller by giving it up.
type request struct {
	ctx   context.Context
	batch backends.Batch
	since time.Time
	state atomic.Int32
	done  chan struct{}

	// Written by the committer before it closes done.
	revision backends.Revision
	err      error
}

const (
	waiting int32 = iota
	taken
	givenUp
)

func (r *request) answer(revision backends.Revision, err error) {
	r.revision, r.err = revision, err
	close(r.done)
}

// Commit applies a batch that is still queued when ctx ends not at all. The outcome
// of one that is under way then is waited for a moment more, and unknown after that.
// When the cluster lost the answer, Commit finds out what became of the batch.
func (b *Backend) Commit(ctx context.Context, batch backends.Batch) (backends.Revision, error) {
	if err := batch.Validate(); err != nil {
		return 0, err
	}
	if err := b.enter(ctx); err != nil {
		return 0, err
	}
	defer b.leave()
	r := &request{ctx: ctx, batch: cloneBatch(batch), since: time.Now(), done: make(chan struct{})}
	busy := time.NewTimer(b.timeout)
	defer busy.Stop()
	select {
	case b.queue <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-busy.C:
		return 0, b.overdue()
	}
	select {
	case <-r.done:
		return r.revision, r.err
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, givenUp) {
			return 0, ctx.Err()
		}
		return b.awaitOutcome(r)
	case <-busy.C:
		if r.state.CompareAndSwap(waiting, givenUp) {
			return 0, b.overdue()
		}
	}
	select {
	case <-r.done:
		return r.revision, r.err
	case <-ctx.Done():
		return b.awaitOutcome(r)
	}
}

func (b *Backend) awaitOutcome(r *request) (backends.Revision, error) {
	select {
	case <-r.done:
		return r.revision, r.err
	case <-time.After(grace):
		return 0, fmt.Errorf("%s: %w: %w", b.name, backends.ErrUnknownOutcome, r.ctx.Err())
	}
}

func (b *Backend) overdue() error {
	return fmt.Errorf("%s: %w: commits before this one take longer than %v", b.name, backends.ErrUnavailable, b.timeout)
}

// writer is the committer's own state.
type writer struct {
	*Backend
	at       position      // where the storage stood when last seen
	known    bool          // whether at is of any use
	latency  time.Duration // of the last transaction that was refused
	turn     int64         // the etcd revision of the last request for a turn that was seen
	deferred []*request
}

// committer commits what is queued until the queue is closed.
func (b *Backend) committer() {
	defer close(b.committed)
	w := &writer{Backend: b}
	for {
		group, open := w.gather()
		if !open {
			return
		}
		w.commit(group)
	}
}

// gather waits for a request and takes those that came with it, as many as fit into
// one transaction. It returns false when there are none and will be none.
func (w *writer) gather() ([]*request, bool) {
	later := w.deferred
	w.deferred = nil
	var g group
	for _, r := range later {
		w.place(&g, r)
	}
	if len(g.requests) == 0 {
		r, open := <-w.queue
		if !open {
			return nil, false
		}
		w.take(&g, r)
	}
	// The callers that the last commit has just answered may be about to queue
	// their next batch: let those that can run do so, and wait for nobody.
	runtime.Gosched()
	for !g.full && len(w.deferred) < queueLength {
		select {
		case r, open := <-w.queue:
			if !open {
				return g.requests, true
			}
			w.take(&g, r)
		default:
			return g.requests, true
		}
	}
	return g.requests, true
}

func (w *writer) take(g *group, r *request) {
	if r.state.CompareAndSwap(waiting, taken) {
		w.place(g, r)
	}
}

func (w *writer) place(g *group, r *request) {
	if !g.add(w.layout, r) {
		w.deferred = append(w.deferred, r)
	}
}

// commit carries the group through and answers every request in it.
func (w *writer) commit(group []*request) {
	ctx, cancel := context.WithTimeout(context.Background(), w.timeout)
	defer cancel()
	for n := 0; ; n++ {
		group = w.dropEnded(group)
		if len(group) == 0 {
			return
		}
		if !w.spare(ctx) && n > 0 {
			fail(group, fmt.Errorf("%s: %w: no commit came through within %v", w.name, backends.ErrUnavailable, w.timeout))
			return
		}
		group = w.attempt(ctx, group, n)
	}
}

// spare tells whether there is enough time for an attempt and for finding out what
// became of it.
func (w *writer) spare(ctx context.Context) bool {
	deadline, _ := ctx.Deadline()
	return time.Until(deadline) > w.timeout/4
}

// dropEnded answers the requests whose callers have gone or have waited too long;
// nothing of theirs is under way.
func (w *writer) dropEnded(group []*request) []*request {
	var rest []*request
	for _, r := range group {
		err := r.ctx.Err()
		if err == nil && time.Since(r.since) > w.timeout {
			err = w.overdue()
		}
		if err != nil {
			r.answer(0, err)
			continue
		}
		rest = append(rest, r)
	}
	return rest
}

func fail(group []*request, err error) {
	for _, r := range group {
		r.answer(0, err)
	}
}

// attempt sends the group as one transaction, and returns those that have to be sent
// again: the head had moved, or another request of the group was refused.
func (w *writer) attempt(ctx context.Context, group []*request, n int) []*request {
	if !w.known {
		at, err := w.readHead(ctx, false)
		if err != nil {
			fail(group, w.notSent(err))
			return nil
		}
		w.at, w.known = at, true
	}
	t := w.plan(group, n)
	start := time.Now()
	sending, sent := withSent(ctx)
	limited, cancel := context.WithTimeout(sending, w.timeout/3)
	defer cancel()
	resp, err := w.client.Txn(limited).If(t.compares...).Then(t.puts...).Else(t.looks...).Commit()
	switch {
	case err == nil && resp.Succeeded:
		w.applied(group, t, position{journal: t.next, mod: resp.Header.Revision})
		w.yield(resp)
		return nil
	case err == nil:
		w.latency = time.Since(start)
		return w.refused(ctx, group, t, resp)
	case !transient(err):
		fail(group, w.describe(err))
		return nil
	case !sent.Load():
		return w.unsent(ctx, group, n, err)
	}
	return w.resolve(ctx, group, t, err)
}

// notSent is for a commit that failed before its transaction was sent.
func (w *writer) notSent(err error) error {
	if err == context.DeadlineExceeded {
		return w.describe(err)
	}
	return err
}

func (w *writer) unsent(ctx context.Context, group []*request, n int, err error) []*request {
	if n+1 >= unreachable {
		fail(group, w.describe(err))
		return nil
	}
	select {
	case <-ctx.Done():
	case <-time.After(firstPause << n):
	}
	return group
}

// applied answers the group, and those of the deferred requests that the group has
// refuted.
func (w *writer) applied(group []*request, t txn, at position) {
	w.at = at
	w.begun.Store(true)
	for i, r := range group {
		r.answer(t.next.Revision-backends.Revision(len(group)-1-i), nil)
	}
	var rest []*request
	for _, r := range w.deferred {
		if err := t.refutes(r.batch); err != nil {
			r.answer(0, err)
			continue
		}
		rest = append(rest, r)
	}
	w.deferred = rest
}
