// Package etcd is the storage backend in an etcd cluster, version 3.5 or later.
// Several processes on several hosts may share one prefix of it.
//
// A commit is one etcd transaction that compares every key it names and the head
// of the storage, and puts everything or nothing. Batches that wait at the same
// time in one process share a transaction. Watch is etcd's own, on the head, which
// names the keys of each commit.
//
// The package refuses a prefix that holds something else, an etcd that is too old,
// and everything that it cannot read back exactly. It never compacts the cluster,
// which others may use: that is its operator's to configure.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sidevault/sidevault/backends"
)

// Backend is a [backends.Backend] below a prefix of an etcd cluster.
//
// Reads are linearizable. A call ends with ErrUnavailable when the cluster does not
// answer within the request timeout, and at once when no member can be reached.
type Backend struct {
	client  *clientv3.Client
	layout  layout
	name    string // for errors: the members, without the user
	user    string
	timeout time.Duration

	queue     chan *request
	committed chan struct{} // closed when the committer has ended

	calls    sync.RWMutex // held for reading by every call, for writing by Close
	closed   atomic.Bool
	begun    atomic.Bool     // whether there was a head at any time
	watching context.Context // ends with Close
	unwatch  context.CancelFunc
	watchers sync.WaitGroup

	scans hints
}

func (b *Backend) Get(ctx context.Context, key string) (backends.Record, error) {
	if err := backends.ValidateKey(key); err != nil {
		return backends.Record{}, err
	}
	resp, err := b.read(ctx, b.layout.record(key))
	if err != nil {
		return backends.Record{}, err
	}
	if len(resp.Kvs) == 0 {
		return backends.Record{}, fmt.Errorf("%w: key %q", backends.ErrNotFound, key)
	}
	r, err := parseRecord(key, resp.Kvs[0].Value)
	return r, b.located(err)
}

func (b *Backend) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	if err := validLimit(limit); err != nil {
		return nil, err
	}
	if after+1 == 0 {
		return nil, b.ready(ctx)
	}
	// etcd counts the whole range, and the numbers tell where the page ends. What is
	// behind it is asked for only at the end of the log, or at a gap in it. The key that holds
	// the first entry may have the number of one before it.
	before := min(after, maxRun-1)
	from, end := b.layout.entry(after+1-before), b.layout.logEnd()
	ends := []string{end}
	if last := after + uint64(limit); last > after && last+1 != 0 {
		ends = []string{b.layout.entry(last + 1), end}
	}
	var page []backends.Entry
	for _, until := range ends {
		if len(page) >= limit {
			break
		}
		resp, err := b.read(ctx, from, clientv3.WithRange(until), clientv3.WithLimit(int64(limit-len(page)+int(before))))
		if err != nil {
			return nil, err
		}
		for _, kv := range resp.Kvs {
			entries, err := b.layout.parseRun(string(kv.Key), kv.Value)
			if err != nil {
				return nil, b.located(err)
			}
			for _, e := range entries {
				if e.Seq > after {
					page = append(page, e)
				}
			}
		}
		from = until
	}
	return page[:min(len(page), limit)], nil
}

func (b *Backend) Head(ctx context.Context) (backends.Head, error) {
	if err := b.enter(ctx); err != nil {
		return backends.Head{}, err
	}
	defer b.leave()
	at, err := b.readHead(ctx, false)
	return at.Head, err
}

// position is the head as etcd had it at one moment.
type position struct {
	journal
	mod   int64 // the etcd revision that put it, 0 when there is none
	store int64 // the etcd revision of the whole store at that moment
}

// readHead reads the head; a stubborn read goes on trying until the request timeout
// when no member can be reached.
func (b *Backend) readHead(ctx context.Context, stubborn bool, opts ...clientv3.OpOption) (position, error) {
	var at position
	begun := b.begun.Load() // before the read: a first commit may overtake it
	err := b.try(ctx, stubborn, func(ctx context.Context) error {
		resp, err := b.client.Get(ctx, b.layout.head(), opts...)
		if err == nil {
			at, err = parsePosition(resp)
		}
		return err
	})
	if err == nil && len(opts) == 0 {
		err = b.continues(at, begun)
	}
	return at, err
}

// continues refuses storage that had begun and whose head is gone: a handle that saw
// one must not begin again from nothing.
func (b *Backend) continues(at position, begun bool) error {
	if at.mod != 0 {
		b.begun.Store(true)
	} else if begun {
		return b.located(fmt.Errorf("%w: the head was deleted: restore the cluster from a snapshot", backends.ErrCorrupt))
	}
	return nil
}

func (b *Backend) read(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	defer b.leave()
	var resp *clientv3.GetResponse
	err := b.try(ctx, false, func(ctx context.Context) (err error) {
		resp, err = b.client.Get(ctx, key, opts...)
		return err
	})
	return resp, err
}

// Pauses between the attempts at a read, and how many of them there are when no
// member can be reached. With a member but no leader they go on for the timeout.
const (
	firstPause  = 20 * time.Millisecond
	lastPause   = 300 * time.Millisecond
	unreachable = 4
)

// try calls a read until it succeeds, fails for good, or the request timeout is up.
func (b *Backend) try(ctx context.Context, stubborn bool, call func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	pause := firstPause
	for n := 1; ; n++ {
		// One member may hang while the others answer.
		attempt, cancel := context.WithTimeout(limited, b.timeout/2)
		err := call(attempt)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !transient(err), n >= unreachable && !stubborn && !fromServer(err):
			return b.describe(err)
		}
		select {
		case <-limited.Done():
			return b.describe(errors.Join(err, ctx.Err()))
		case <-time.After(pause):
			pause = min(2*pause, lastPause)
		}
	}
}

// Close waits for the calls under way; when the cluster does not answer they end
// with the request timeout.
func (b *Backend) Close() error {
	first := b.closed.CompareAndSwap(false, true)
	b.unwatch()
	b.calls.Lock()
	defer b.calls.Unlock()
	if !first {
		return nil
	}
	close(b.queue)
	<-b.committed
	b.watchers.Wait()
	if err := b.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection to %s: %w", b.name, err)
	}
	return nil
}

// enter admits a call; leave must follow it when it returns nil.
func (b *Backend) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.closed.Load() {
		return backends.ErrClosed
	}
	b.calls.RLock()
	if b.closed.Load() {
		b.calls.RUnlock()
		return backends.ErrClosed
	}
	return nil
}

func (b *Backend) leave() { b.calls.RUnlock() }

// ready is for a call that needs no answer of the cluster.
func (b *Backend) ready(ctx context.Context) error {
	err := b.enter(ctx)
	if err == nil {
		b.leave()
	}
	return err
}

func validLimit(limit int) error {
	if limit < 1 || limit > backends.MaxPage {
		return fmt.Errorf("%w: a limit of %d (1 to %d)", backends.ErrInvalid, limit, backends.MaxPage)
	}
	return nil
}

// cloneBatch copies what the caller may reuse while the commit is still under way.
func cloneBatch(b backends.Batch) backends.Batch {
	c := backends.Batch{Changes: slices.Clone(b.Changes), Entries: slices.Clone(b.Entries)}
	for i := range c.Changes {
		c.Changes[i].Value = slices.Clone(c.Changes[i].Value)
		c.Changes[i].Key = strings.Clone(c.Changes[i].Key)
	}
	for i := range c.Entries {
		c.Entries[i] = slices.Clone(c.Entries[i])
	}
	return c
}
