// Package bbolt is the default storage backend: one file, embedded, used by one
// process at a time.
//
// Commits that wait at the same time share one transaction and so one disk
// synchronization. A lone writer never waits for company.
//
// The package refuses what would quietly weaken a vault: a file or directory
// that others may read, a symbolic link, a file that is not a vault of its own.
// It creates a file only when asked to, by [Create]. It never repairs one.
package bbolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/internal/feed"
)

// Backend is a [backends.Backend] in one bbolt file.
//
// A damaged page is an ErrCorrupt of the call that met it. Once a commit has met
// one, the file is not written to any more: reads go on, commits fail. After a
// synchronization that failed commits fail, too, until the file was opened and read
// anew (see [Backend.reopen]).
type Backend struct {
	path     string
	readOnly bool

	engine sync.RWMutex // held for writing while the file is opened anew
	file   *os.File
	info   os.FileInfo // of file, when it was opened
	page   int         // bytes in a page
	db     *bolt.DB    // nil when the file could not be opened anew
	feed   *feed.Feed
	last   backends.Revision // that the feed knows of; the committer's alone

	places atomic.Int64 // that were read since the last look at what is mapped
	least  atomic.Int64 // bytes of files that were mapped since the mapping was let go of last

	queue     chan *request
	committed chan struct{} // closed when the committer has ended

	calls  sync.RWMutex // held for reading by every call, for writing by Close
	closed atomic.Bool

	unwritable atomic.Pointer[error] // why commits fail for good
	unusable   atomic.Pointer[error] // why every call fails for good
	doubt      atomic.Pointer[doubt] // why calls fail until the file was opened anew
}

func (b *Backend) Get(ctx context.Context, key string) (backends.Record, error) {
	if err := backends.ValidateKey(key); err != nil {
		return backends.Record{}, err
	}
	var r backends.Record
	err := b.view(ctx, bucketRecords, 1, func(records *bolt.Bucket) error {
		stored := records.Get([]byte(key))
		if stored == nil {
			return fmt.Errorf("%w: key %q", backends.ErrNotFound, key)
		}
		var err error
		r, err = copyRecord(key, stored)
		return err
	})
	return r, err
}

func (b *Backend) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	if err := validLimit(limit); err != nil {
		return nil, err
	}
	var page []backends.Record
	err := b.view(ctx, bucketRecords, limit, func(records *bolt.Bucket) error {
		from := []byte(max(prefix, after))
		c := records.Cursor()
		k, v := c.Seek(from)
		if after != "" && string(k) == after {
			k, v = c.Next()
		}
		for ; k != nil && len(page) < limit && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			r, err := copyRecord(string(k), v)
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			page = append(page, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

func (b *Backend) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	if err := validLimit(limit); err != nil {
		return nil, err
	}
	if after+1 == 0 {
		return nil, nil
	}
	var page []backends.Entry
	err := b.view(ctx, bucketLog, limit, func(log *bolt.Bucket) error {
		c := log.Cursor()
		for k, v := c.Seek(number(after + 1)); k != nil && len(page) < limit; k, v = c.Next() {
			e, err := parseEntry(k, v)
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			page = append(page, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

func (b *Backend) Head(ctx context.Context) (backends.Head, error) {
	var h backends.Head
	err := b.view(ctx, bucketMeta, 1, func(meta *bolt.Bucket) error {
		var err error
		h, err = readHead(meta)
		return err
	})
	return h, err
}

// Watch returns ErrCompacted for a revision before the file was opened, and for
// one that the file has not reached (it was restored from a copy).
func (b *Backend) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	h, err := b.Head(ctx)
	if err != nil {
		return nil, err
	}
	if after > h.Revision {
		return nil, fmt.Errorf("%w: revision %d, the last one is %d", backends.ErrCompacted, after, h.Revision)
	}
	b.engine.RLock()
	defer b.engine.RUnlock()
	return b.feed.Watch(ctx, after)
}

func (b *Backend) Close() error {
	first := b.closed.CompareAndSwap(false, true)
	b.calls.Lock()
	defer b.calls.Unlock()
	if !first {
		return nil
	}
	close(b.queue)
	<-b.committed
	b.feed.Close()
	switch {
	case b.unwritable.Load() != nil || b.unusable.Load() != nil:
		return b.abandon()
	case b.db == nil:
		return nil
	}
	return b.db.Close()
}

// abandon lets go of the file without bbolt: a panic inside it may have left its
// own locks held, and its Close would wait for them for ever. The mapping stays
// until the process ends, and the lock on the file with it unless given up.
func (b *Backend) abandon() error {
	return errors.Join(syscall.Flock(int(b.file.Fd()), syscall.LOCK_UN), b.file.Close())
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
	reason, doubt := b.unusable.Load(), b.doubt.Load()
	switch {
	case b.closed.Load():
		b.calls.RUnlock()
		return backends.ErrClosed
	case reason != nil:
		b.calls.RUnlock()
		return *reason
	case doubt != nil && doubt.reads:
		b.calls.RUnlock()
		return doubt.err
	}
	return nil
}

func (b *Backend) leave() { b.calls.RUnlock() }

// view runs fn, which reads at most so many items, in a read transaction. What fn keeps
// must be copied.
func (b *Backend) view(ctx context.Context, bucket string, most int, fn func(*bolt.Bucket) error) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.leave()
	err := b.read(bucket, fn)
	b.touched(1 + most/perFault)
	return err
}

func (b *Backend) read(bucket string, fn func(*bolt.Bucket) error) (err error) {
	begun := false
	defer b.guard(&err, func(reason error) {
		if !begun {
			b.unusable.Store(&reason)
		}
	})()
	b.engine.RLock()
	defer b.engine.RUnlock()
	if b.db == nil {
		return fmt.Errorf("%s: %w: it could not be opened anew", b.path, backends.ErrUnavailable)
	}
	err = b.db.View(func(tx *bolt.Tx) error {
		begun = true
		found := tx.Bucket([]byte(bucket))
		if found == nil {
			return fmt.Errorf("%w: the bucket %q is missing", backends.ErrCorrupt, bucket)
		}
		return fn(found)
	})
	return describe(b.path, err)
}

// guard turns a panic of bbolt, and a fault in the mapped file, into ErrCorrupt:
// bbolt trusts its pages, and a damaged or truncated file is met that way.
func (b *Backend) guard(err *error, met func(reason error)) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			*err = fmt.Errorf("%s: %w: %v", b.path, backends.ErrCorrupt, p)
			met(*err)
		}
	}
}

// describe adds the path to an error of the engine, and leaves the others.
func describe(path string, err error) error {
	switch {
	case err == nil, errors.Is(err, backends.ErrNotFound),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, backends.ErrCorrupt):
		return fmt.Errorf("%s: %w", path, err)
	}
	return fmt.Errorf("%s: %w: %w", path, backends.ErrUnavailable, err)
}

func validLimit(limit int) error {
	if limit < 1 || limit > backends.MaxPage {
		return fmt.Errorf("%w: a limit of %d (1 to %d)", backends.ErrInvalid, limit, backends.MaxPage)
	}
	return nil
}
