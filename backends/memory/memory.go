// Package memory is a storage backend that keeps everything in the process, for
// tests and for trying things out. It keeps nothing on disk, and it makes no
// attempt to hold more than fits in memory.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/internal/feed"
)

// Backend is a [backends.Backend] in memory. Its storage ends with Close.
type Backend struct {
	feed *feed.Feed

	mu      sync.RWMutex
	records map[string]backends.Record
	keys    []string // of records, sorted
	log     []backends.Entry
	head    backends.Head
	closed  bool
}

// New returns an empty backend.
func New() *Backend {
	return &Backend{feed: feed.New(0), records: map[string]backends.Record{}}
}

func (b *Backend) Get(ctx context.Context, key string) (backends.Record, error) {
	if err := backends.ValidateKey(key); err != nil {
		return backends.Record{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.ready(ctx); err != nil {
		return backends.Record{}, err
	}
	r, ok := b.records[key]
	if !ok {
		return backends.Record{}, fmt.Errorf("%w: key %q", backends.ErrNotFound, key)
	}
	return cloneRecord(r), nil
}

func (b *Backend) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	if err := validLimit(limit); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	var page []backends.Record
	i := sort.Search(len(b.keys), func(i int) bool { return b.keys[i] > after && b.keys[i] >= prefix })
	for ; i < len(b.keys) && len(page) < limit && strings.HasPrefix(b.keys[i], prefix); i++ {
		page = append(page, cloneRecord(b.records[b.keys[i]]))
	}
	return page, nil
}

func (b *Backend) Commit(ctx context.Context, batch backends.Batch) (backends.Revision, error) {
	if err := batch.Validate(); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ready(ctx); err != nil {
		return 0, err
	}
	for _, c := range batch.Changes {
		if at := b.records[c.Key].Revision; at != c.If {
			return 0, fmt.Errorf("%w: key %q has revision %d, not %d", backends.ErrConflict, c.Key, at, c.If)
		}
	}
	b.apply(batch)
	return b.head.Revision, nil
}

func (b *Backend) apply(batch backends.Batch) {
	b.head.Revision++
	for _, body := range batch.Entries {
		b.log = append(b.log, b.head.Append(bytes.Clone(body)))
	}
	event := backends.Event{Revision: b.head.Revision}
	for _, c := range batch.Changes {
		switch c.Op {
		case backends.OpPut:
			b.put(backends.Record{Key: c.Key, Value: bytes.Clone(c.Value), Revision: b.head.Revision})
		case backends.OpDelete:
			b.remove(c.Key)
		case backends.OpCheck:
			continue
		}
		event.Keys = append(event.Keys, c.Key)
	}
	if len(event.Keys) > 0 {
		b.feed.Publish(event)
	}
}

func (b *Backend) put(r backends.Record) {
	if i, found := slices.BinarySearch(b.keys, r.Key); !found {
		b.keys = slices.Insert(b.keys, i, r.Key)
	}
	b.records[r.Key] = r
}

func (b *Backend) remove(key string) {
	if i, found := slices.BinarySearch(b.keys, key); found {
		b.keys = slices.Delete(b.keys, i, i+1)
	}
	delete(b.records, key)
}

func (b *Backend) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	if err := validLimit(limit); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	from := min(after, uint64(len(b.log)))
	page := slices.Clone(b.log[from:min(from+uint64(limit), uint64(len(b.log)))])
	for i := range page {
		page[i].Body = bytes.Clone(page[i].Body)
	}
	return page, nil
}

func (b *Backend) Head(ctx context.Context) (backends.Head, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.head, b.ready(ctx)
}

func (b *Backend) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	return b.feed.Watch(ctx, after)
}

// Close drops everything that is stored.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.records, b.keys, b.log, b.head = nil, nil, nil, backends.Head{}
	b.feed.Close()
	return nil
}

func (b *Backend) ready(ctx context.Context) error {
	if b.closed {
		return backends.ErrClosed
	}
	return ctx.Err()
}

func cloneRecord(r backends.Record) backends.Record {
	r.Value = bytes.Clone(r.Value)
	return r
}

func validLimit(limit int) error {
	if limit < 1 || limit > backends.MaxPage {
		return fmt.Errorf("%w: a limit of %d (1 to %d)", backends.ErrInvalid, limit, backends.MaxPage)
	}
	return nil
}
