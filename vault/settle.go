package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sidevault/sidevault/backends"
)

const (
	// backupPage is how many records or entries a backup reads at once.
	backupPage = 100
	// held is how many changed keys are read while this process's writers wait; what
	// is more is read before.
	held = 64
	// chases bounds how often what changed is read before writers are made to wait,
	// and stops how often they are: once, where nobody else writes to the storage.
	chases, stops = 30, 200
	// patience bounds how long writers wait each time.
	patience = 2 * time.Second
)

// hearing collects the keys that commits change, from a moment on.
type hearing struct {
	start backends.Head

	mu     sync.Mutex
	keys   map[string]struct{}
	seen   backends.Revision
	failed error
	moved  chan struct{} // has room for one: something above changed
}

// hear begins to listen, and ends with ctx.
func hear(ctx context.Context, b backends.Backend) (*hearing, error) {
	head, err := b.Head(ctx)
	if err != nil {
		return nil, err
	}
	events, err := b.Watch(ctx, head.Revision)
	if err != nil {
		return nil, err
	}
	h := &hearing{start: head, seen: head.Revision, keys: map[string]struct{}{}, moved: make(chan struct{}, 1)}
	go h.follow(ctx, b, events)
	return h, nil
}

func (h *hearing) follow(ctx context.Context, b backends.Backend, events <-chan backends.Event) {
	for {
		for e := range events {
			h.add(e)
		}
		var err error
		if events, err = b.Watch(ctx, h.at()); err != nil {
			h.mu.Lock()
			h.failed = err
			h.mu.Unlock()
			h.wake()
			return
		}
	}
}

func (h *hearing) at() backends.Revision {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}

func (h *hearing) add(e backends.Event) {
	h.mu.Lock()
	for _, key := range e.Keys {
		h.keys[key] = struct{}{}
	}
	h.seen = e.Revision
	h.mu.Unlock()
	h.wake()
}

func (h *hearing) wake() {
	select {
	case h.moved <- struct{}{}:
	default:
	}
}

func (h *hearing) has(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.keys[key]
	return ok
}

// take returns the keys, and forgets them, unless there are fewer than that.
func (h *hearing) take(least int) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.keys) < least {
		return nil
	}
	var keys []string
	for key := range h.keys {
		if !isLocal(key) {
			keys = append(keys, key)
		}
	}
	clear(h.keys)
	return keys
}

// reached waits until every commit up to that one has been heard of.
func (h *hearing) reached(ctx context.Context, rev backends.Revision) error {
	for {
		h.mu.Lock()
		seen, failed := h.seen, h.failed
		h.mu.Unlock()
		switch {
		case seen >= rev:
			return nil
		case failed != nil:
			return failed
		}
		select {
		case <-h.moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// announce makes the mark that the backup begins with, and its audit entry.
func (t *taking) announce(ctx context.Context, a *attempt) error {
	err := retry(func() error {
		mark, err := t.mark(ctx)
		if err != nil {
			return err
		}
		_, err = a.commit(ctx, mark)
		return err
	})
	if _, ours := errors.AsType[*Error](err); ours || err == nil {
		return err
	}
	return storageError(err)
}

// mark is the change that stores the document of this backup.
func (t *taking) mark(ctx context.Context) (backends.Change, error) {
	r, err := t.v.gate.Backend.Get(ctx, backupKey)
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		return backends.Change{}, err
	}
	return t.v.put(backupKey, r.Revision, t.doc)
}

// settle writes what changed until the file holds the state of one moment, which it
// returns.
//
// A commit that is a mark has a revision F. Once the watch has reported F, every key
// that changed before is known; those that were not read since are read; and if the
// head is still at F then, no commit came between: what was read is the state at F.
func (t *taking) settle(ctx context.Context) (backends.Head, error) {
	for range chases {
		keys := t.heard.take(held)
		if keys == nil {
			break
		}
		if err := t.reread(ctx, keys); err != nil {
			return backends.Head{}, err
		}
	}
	for range stops {
		changes, head, still, err := t.stop(ctx)
		if err != nil {
			return backends.Head{}, err
		}
		if err := t.write(changes); err != nil || still {
			return head, err
		}
		if err := ctx.Err(); err != nil {
			return backends.Head{}, err
		}
	}
	return backends.Head{}, errorf(BackendUnavailable, "Storage is changed too fast by others for a backup").
		detailed("no moment was found in which nothing changed; try again when other hosts write less")
}

// stop makes this process's writers wait, and reads what changed before. still says
// that nobody else wrote either.
func (t *taking) stop(ctx context.Context) (changes []backends.Record, head backends.Head, still bool, err error) {
	g := t.v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	brief, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	mark, err := t.mark(brief)
	if err != nil {
		return nil, head, false, err
	}
	at, err := g.Backend.Commit(brief, backends.Batch{Changes: []backends.Change{mark}})
	if errors.Is(err, backends.ErrConflict) {
		return nil, head, false, nil // another backup of this vault
	}
	if err != nil {
		return nil, head, false, err
	}
	if err := t.heard.reached(brief, at); err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return nil, head, false, nil
		}
		return nil, head, false, lost(err)
	}
	if changes, err = t.read(ctx, t.heard.take(0)); err != nil {
		return nil, head, false, err
	}
	head, err = g.Backend.Head(ctx)
	return changes, head, head.Revision == at, err
}

// lost says why no more is heard of changes.
func lost(err error) error {
	if errors.Is(err, backends.ErrCompacted) {
		return fmt.Errorf("%w: it changed faster than could be followed; try again", backends.ErrUnavailable)
	}
	return err
}

// reread writes what has become of the keys.
func (t *taking) reread(ctx context.Context, keys []string) error {
	for _, key := range keys {
		changes, err := t.read(ctx, []string{key})
		if err != nil {
			return err
		}
		if err := t.write(changes); err != nil {
			return err
		}
	}
	return nil
}

// read returns the records under the keys; one that is gone has a nil value.
func (t *taking) read(ctx context.Context, keys []string) ([]backends.Record, error) {
	var changes []backends.Record
	for _, key := range keys {
		r, err := t.v.gate.Backend.Get(ctx, key)
		switch {
		case errors.Is(err, backends.ErrNotFound):
			r = backends.Record{Key: key}
		case err != nil:
			return nil, err
		case r.Value == nil:
			r.Value = []byte{}
		}
		changes = append(changes, r)
	}
	return changes, nil
}

func (t *taking) write(changes []backends.Record) error {
	for _, c := range changes {
		if err := t.out.Change(c.Key, c.Value); err != nil {
			return err
		}
		t.records++
	}
	t.progress()
	return nil
}
