package postgres

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sidevault/sidevault/backends"
)

const (
	// maxGroup and maxGroupSize bound what travels in one round trip.
	maxGroup     = 64
	maxGroupSize = 8 << 20

	// settle is how long a caller whose context has ended still waits for the
	// outcome of what was sent, which is nearly always enough to learn it.
	settle = 250 * time.Millisecond
)

// request is a batch on its way through the queue. Whoever moves it out of
// waiting owns it: the committer by taking it, the caller by giving it up.
type request struct {
	batch backends.Batch
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

// Commit applies a batch that is still queued when ctx ends not at all. When it
// was sent already, and the answer does not come within a quarter of a second, the
// error is ErrUnknownOutcome.
func (b *Backend) Commit(ctx context.Context, batch backends.Batch) (backends.Revision, error) {
	if err := batch.Validate(); err != nil {
		return 0, err
	}
	if err := b.calls.enter(ctx); err != nil {
		return 0, err
	}
	defer b.calls.leave()
	r := &request{batch: clone(batch), done: make(chan struct{})}
	select {
	case b.queue <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case <-r.done:
		return r.revision, r.err
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, givenUp) {
			return 0, ctx.Err()
		}
	}
	select {
	case <-r.done:
		return r.revision, r.err
	case <-time.After(settle):
		return 0, fmt.Errorf("%s: %w: %w", b.place, backends.ErrUnknownOutcome, ctx.Err())
	}
}

// clone copies the batch: a caller whose context ends gets its slices back while
// the committer may still be sending.
func clone(batch backends.Batch) backends.Batch {
	c := backends.Batch{Changes: make([]backends.Change, len(batch.Changes)), Entries: make([][]byte, len(batch.Entries))}
	for i, change := range batch.Changes {
		change.Value = append([]byte{}, change.Value...) // nil would be NULL
		c.Changes[i] = change
	}
	for i, body := range batch.Entries {
		c.Entries[i] = bytes.Clone(body)
	}
	return c
}

func (r *request) size() int {
	n := 0
	for _, c := range r.batch.Changes {
		n += len(c.Key) + len(c.Value)
	}
	for _, body := range r.batch.Entries {
		n += len(body)
	}
	return n
}

// committer commits what is queued until the queue is closed.
func (b *Backend) committer() {
	defer close(b.committed)
	for r := range b.queue {
		b.commit(r)
	}
}

// commit carries first, and what else is in the queue, to the server and answers
// every request. It takes none before it has a connection: a caller whose context
// ends while the server is away then knows that nothing was sent.
func (b *Backend) commit(first *request) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*b.timeout)
	defer cancel()
	c, err := b.connection(ctx)
	group := b.gather(first)
	switch {
	case err != nil:
		err = b.place.explain(err)
	case len(group) == 0:
		c.Release()
	default:
		err = b.send(ctx, c, group)
	}
	for _, r := range group {
		if err != nil {
			r.revision, r.err = 0, err
		}
		close(r.done)
	}
}

// gather takes first and what else is in the queue.
func (b *Backend) gather(first *request) []*request {
	// The callers that the last commit has just answered may be about to queue
	// their next batch: let those that can run do so, and wait for nobody.
	runtime.Gosched()
	var group []*request
	size := 0
	for r := first; ; {
		if r.state.CompareAndSwap(waiting, taken) {
			group = append(group, r)
			size += r.size()
		}
		if len(group) == maxGroup || size >= maxGroupSize {
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

// connection returns one on which the commit's statement is prepared.
func (b *Backend) connection(ctx context.Context) (*pgxpool.Conn, error) {
	var err error
	for range b.attempts {
		var c *pgxpool.Conn
		if c, err = b.pool.Acquire(ctx); err != nil {
			return nil, err
		}
		if _, err = c.Conn().Prepare(ctx, b.sql.commit, b.sql.commit); err == nil {
			return c, nil
		}
		if c.Release(); !connectionLost(err) {
			return nil, err
		}
	}
	return nil, err
}

// send tries again, on another connection, only while nothing has been sent.
func (b *Backend) send(ctx context.Context, c *pgxpool.Conn, group []*request) error {
	for attempt := int32(1); ; attempt++ {
		err := b.sendOnce(ctx, c, group)
		c.Release()
		switch pg := serverError(err); {
		case err == nil:
			return nil
		case pg != nil && pg.SeverityUnlocalized == "ERROR", pgconn.SafeToRetry(err) && attempt == b.attempts:
			// An ERROR rolls back. A connection that ended may have ended
			// after the commit.
			return b.place.explain(err)
		case !pgconn.SafeToRetry(err):
			return refuse(backends.ErrUnknownOutcome, "%s: %v: no answer came (%s): read what is stored", b.place, backends.ErrUnknownOutcome, said(err))
		}
		if c, err = b.connection(ctx); err != nil {
			return b.place.explain(err)
		}
	}
}

func (b *Backend) sendOnce(ctx context.Context, c *pgxpool.Conn, group []*request) error {
	rows, err := c.Query(ctx, b.sql.commit, b.arguments(group)...)
	if err != nil {
		return err
	}
	return readOutcomes(rows, group)
}

// arguments lays the batches end to end, as the function commit_batches wants them.
func (b *Backend) arguments(group []*request) []any {
	n := len(group)
	counts := map[backends.Op][]int32{backends.OpPut: make([]int32, n), backends.OpDelete: make([]int32, n), backends.OpCheck: make([]int32, n)}
	entries := make([]int32, n)
	keys, expected := []string{}, []int64{}
	contents, bodies := [][]byte{}, [][]byte{}
	for i, r := range group {
		for _, op := range []backends.Op{backends.OpPut, backends.OpDelete, backends.OpCheck} {
			for _, c := range r.batch.Changes {
				if c.Op != op {
					continue
				}
				counts[op][i]++
				keys = append(keys, c.Key)
				expected = append(expected, expectation(c.If))
				if op == backends.OpPut {
					contents = append(contents, c.Value)
				}
			}
		}
		entries[i] = int32(len(r.batch.Entries))
		bodies = append(bodies, r.batch.Entries...)
	}
	return []any{counts[backends.OpPut], counts[backends.OpDelete], counts[backends.OpCheck], entries, keys, expected, contents, bodies, b.history}
}

// readOutcomes notes in each request what became of its batch. A nil error means
// that the transaction is committed.
func readOutcomes(rows pgx.Rows, group []*request) error {
	var revision, found int64
	var key *string
	i := 0
	_, err := pgx.ForEachRow(rows, []any{&revision, &key, &found}, func() error {
		if i < len(group) {
			group[i].settle(revision, key, found)
		}
		i++
		return nil
	})
	if err == nil && i != len(group) {
		err = fmt.Errorf("%d answers to %d batches", i, len(group))
	}
	return err
}

func (r *request) settle(revision int64, key *string, found int64) {
	if key == nil {
		r.revision = backends.Revision(revision)
		return
	}
	for _, c := range r.batch.Changes {
		if c.Key == *key {
			r.err = fmt.Errorf("%w: key %q has revision %d, not %d", backends.ErrConflict, c.Key, found, c.If)
			return
		}
	}
	r.err = fmt.Errorf("%w: key %q", backends.ErrConflict, *key)
}
