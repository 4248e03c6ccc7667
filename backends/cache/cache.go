// Package cache keeps the records that a shared engine returned, as they were
// returned, so that reading them again needs no round trip, and so that reads go
// on for a while when the engine cannot be reached. It holds what storage holds,
// ciphertext and signed documents, and the knowledge that a key has no record;
// it decrypts and interprets nothing, and it writes nothing to disk.
//
// A cache is kept right by the engine's Watch. It answers a Get by itself only
// while a watch is established that began before the record was read, and no event
// and no commit has named the key since. So what is read through one cache is
// never older than what was committed, or read before, through the same one; what
// others commit is seen when their event arrives. [backends.Fresh] asks storage.
//
// Three states follow from that:
//
//	live     the watch is established: hits are answered from memory
//	blind    storage answers, but the watch is lost: every Get goes to storage
//	away     storage does not answer: Get answers from memory for at most MaxStale,
//	         everything else fails at once; one probe at a time looks for its return
//
// After a lost watch the cache goes on from the last event, and asks storage once
// more for each record before it answers for it again; when events are missing it
// forgets everything.
//
// Storage that no other process can change needs no watch ([Options.Exclusive]): the
// cache then keeps what View is asked for, in the form that the reader made of it,
// and the rest is as near in storage.
package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidevault/sidevault/backends"
)

const (
	// DefaultMaxBytes is how much a cache holds.
	DefaultMaxBytes = 64 << 20
	// DefaultTimeout is how long storage has to answer a Get or a probe before it
	// counts as away.
	DefaultTimeout = 2 * time.Second
)

// Options are the optional parts of a cache.
type Options struct {
	// MaxBytes bounds what is kept: keys, values and a lump sum for each record.
	// Default DefaultMaxBytes. What does not fit in a shard of it (a 32nd, but at
	// least 2 MiB where there is as much) is not kept.
	MaxBytes int

	// MaxStale is how long records may be served after the cache was last known to
	// be right, when storage is away; 0: not at all.
	MaxStale time.Duration

	// Exclusive says that nobody changes the storage but through this cache. It then
	// watches nothing and is always live, Fresh asks nothing more, and Get keeps nothing.
	Exclusive bool

	// Timeout bounds a Get of storage, a probe, and the start of a watch. Default
	// DefaultTimeout.
	Timeout time.Duration

	// OnError, when not nil, is called with the reason when the watch is lost and not
	// back at once, when storage is away (the reason is an ErrUnavailable), and with
	// nil when both are back. It must not block.
	OnError func(error)
}

// Cache is a [backends.Backend] over another one. Its List, Log, Head and Watch are
// those of the other.
type Cache struct {
	inner     backends.Backend
	exclusive bool
	maxStale  time.Duration
	timeout   time.Duration
	onError   func(error)

	shards []shard // as many as a power of two
	seed   maphash.Seed

	// valid is the epoch whose records may be served without asking: the number of
	// the watch that is established, or 0.
	valid atomic.Uint64
	// away is why storage counts as away; nil: it does not.
	away atomic.Pointer[error]
	// right is when the cache was last known to be right, by clock; 0: never.
	right atomic.Int64
	born  time.Time

	misses atomic.Uint64

	kick    chan struct{} // a read found storage away
	suspect chan struct{} // a commit did not get through

	follower follower

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  chan struct{} // closed when the follower has
	closed atomic.Bool
	once   sync.Once
	err    error // of Close
}

// New returns a cache over b, which it closes with itself. It begins to watch at
// once; until that is established every read goes to b.
func New(b backends.Backend, o Options) *Cache {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	c := &Cache{
		inner: b, exclusive: o.Exclusive, maxStale: o.MaxStale, timeout: o.Timeout, onError: o.OnError,
		shards: newShards(o.MaxBytes), seed: maphash.MakeSeed(), born: time.Now(),
		kick: make(chan struct{}, 1), suspect: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if c.exclusive {
		c.valid.Store(1)
		close(c.ended)
		return c
	}
	go c.run()
	return c
}

// Stale returns 0, or when storage is away for how long the cache may have been
// out of date. For a read it is the greater of what it is before and after it.
func (c *Cache) Stale() time.Duration {
	if c.away.Load() == nil {
		return 0
	}
	return max(c.clock()-time.Duration(c.right.Load()), 1)
}

// clock is the time since the cache was made. It is never 0 and never jumps.
func (c *Cache) clock() time.Duration { return time.Since(c.born) + 1 }

// Get answers from memory where it may; the package says when.
func (c *Cache) Get(ctx context.Context, key string) (backends.Record, error) {
	if err := c.ready(ctx); err != nil {
		return backends.Record{}, err
	}
	if c.exclusive {
		return c.inner.Get(ctx, key)
	}
	e, err := c.find(ctx, key, true)
	if err != nil {
		return backends.Record{}, err
	}
	return e.record()
}

// fetch asks storage for a record on behalf of all who wait for it.
func (c *Cache) fetch(ctx context.Context, s *shard, key string, f *flight) {
	epoch := c.valid.Load() // of a watch that began before the record is read
	r, err := c.ask(ctx, key)
	var e *entry
	if err == nil || errors.Is(err, backends.ErrNotFound) {
		e = &entry{shard: s, key: key, value: r.Value, revision: r.Revision, err: err, epoch: epoch}
	}
	s.finish(key, f, e, err)
}

// ask reads a record from storage, which has the cache's timeout to answer.
func (c *Cache) ask(ctx context.Context, key string) (backends.Record, error) {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := c.inner.Get(bounded, key)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: no answer within %v", backends.ErrUnavailable, c.timeout)
	}
	if errors.Is(err, backends.ErrUnavailable) && !c.exclusive {
		c.lose(err)
	}
	return r, err
}

// Commit fails at once while storage is away. What it changed, or may have changed,
// or found changed by others, is forgotten before it returns.
func (c *Cache) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	if err := c.reachable(ctx); err != nil {
		return 0, err
	}
	rev, err := c.inner.Commit(ctx, b)
	switch {
	case err == nil:
		c.forget(b, rev)
	case errors.Is(err, backends.ErrInvalid), errors.Is(err, backends.ErrClosed):
	case errors.Is(err, backends.ErrUnavailable):
		// Nothing was applied, and what is known may be all there is for a while.
		// Storage that refuses writes can still be read, so this alone is no outage.
		poke(c.suspect)
	default:
		c.forget(b, math.MaxUint64)
		if errors.Is(err, backends.ErrUnknownOutcome) {
			poke(c.suspect)
		}
	}
	return rev, err
}

// forget drops what is known of the batch's keys from before rev.
func (c *Cache) forget(b backends.Batch, rev backends.Revision) {
	for _, change := range b.Changes {
		c.shard(change.Key).drop(change.Key, rev)
	}
}

// List is storage's; what it shows to be out of date is forgotten.
func (c *Cache) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	if err := c.reachable(ctx); err != nil {
		return nil, err
	}
	page, err := c.inner.List(ctx, prefix, after, limit)
	for _, r := range page {
		c.shard(r.Key).observe(r.Key, r.Revision)
	}
	return page, c.note(err)
}

func (c *Cache) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	if err := c.reachable(ctx); err != nil {
		return nil, err
	}
	page, err := c.inner.Log(ctx, after, limit)
	return page, c.note(err)
}

func (c *Cache) Head(ctx context.Context) (backends.Head, error) {
	if err := c.reachable(ctx); err != nil {
		return backends.Head{}, err
	}
	h, err := c.inner.Head(ctx)
	return h, c.note(err)
}

// Watch is storage's; whoever gets an event finds the keys as the event left them,
// or later.
func (c *Cache) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	if err := c.reachable(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	in, err := c.inner.Watch(ctx, after)
	if err != nil {
		cancel()
		return nil, c.note(err)
	}
	out := make(chan backends.Event)
	stop := context.AfterFunc(c.ctx, cancel)
	go func() {
		defer close(out)
		defer cancel()
		defer stop()
		c.forward(ctx, in, out)
	}()
	return out, nil
}

// forward passes events on when they are applied.
func (c *Cache) forward(ctx context.Context, in <-chan backends.Event, out chan<- backends.Event) {
	for e := range in {
		c.apply(e)
		select {
		case out <- e:
		case <-ctx.Done():
			return
		}
	}
}

// apply forgets what an event says to be out of date.
func (c *Cache) apply(e backends.Event) {
	for _, key := range e.Keys {
		c.shard(key).drop(key, e.Revision)
	}
}

// Close closes storage too.
func (c *Cache) Close() error {
	c.once.Do(func() {
		c.closed.Store(true)
		c.cancel()
		<-c.ended
		c.err = c.inner.Close()
	})
	return c.err
}

func (c *Cache) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.closed.Load() {
		return backends.ErrClosed
	}
	return nil
}

// reachable is ready for what needs storage.
func (c *Cache) reachable(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	if reason := c.away.Load(); reason != nil {
		return *reason
	}
	return nil
}

// note has storage looked at when a call did not get through.
func (c *Cache) note(err error) error {
	if errors.Is(err, backends.ErrUnavailable) {
		poke(c.suspect)
	}
	return err
}

// lose takes storage for away until a probe says otherwise.
func (c *Cache) lose(reason error) {
	c.away.CompareAndSwap(nil, &reason)
	poke(c.kick)
}

func (c *Cache) shard(key string) *shard {
	return &c.shards[maphash.String(c.seed, key)&uint64(len(c.shards)-1)]
}

func poke(signal chan<- struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// record returns what the entry knows, in memory of the caller's own.
func (e *entry) record() (backends.Record, error) {
	if e.err != nil {
		return backends.Record{}, e.err
	}
	return backends.Record{Key: e.key, Value: bytes.Clone(e.value), Revision: e.revision}, nil
}
