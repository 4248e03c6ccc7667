// Package feed hands commits to watchers, for the backends that have one
// process's view of them. It keeps a bounded history in memory, never blocks
// the one who publishes, and drops the watcher that does not keep up.
package feed

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/sidevault/sidevault/backends"
)

const (
	// History is how many of the last events can still be replayed.
	History = 1024

	// Buffer is how many events a watcher may fall behind, beyond those that
	// were replayed to it.
	Buffer = 256
)

// Feed is the events of one storage, from the revision given to New onwards.
// Its methods may be called concurrently.
type Feed struct {
	mu       sync.Mutex
	floor    backends.Revision // the events up to it are gone
	events   []backends.Event  // ascending, all above floor
	watchers map[*watcher]struct{}
	closed   bool
}

type watcher struct {
	after  backends.Revision
	events chan backends.Event
	stop   func() bool
}

// New returns a feed of the events above head.
func New(head backends.Revision) *Feed {
	return &Feed{floor: head, watchers: map[*watcher]struct{}{}}
}

// Publish hands e to the watchers and keeps it for later ones. Events are
// published in ascending order of their revisions.
func (f *Feed) Publish(e backends.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.events) == History {
		f.floor = f.events[0].Revision
		f.events[0] = backends.Event{}
		f.events = f.events[1:] // append moves the rest now and then
	}
	f.events = append(f.events, e)
	for w := range f.watchers {
		if !w.offer(e) {
			f.drop(w)
		}
	}
}

// Watch is the Watch of a [backends.Backend].
func (f *Feed) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, backends.ErrClosed
	case after < f.floor:
		return nil, fmt.Errorf("%w: revision %d, kept from %d on", backends.ErrCompacted, after, f.floor)
	}
	missed := f.events[sort.Search(len(f.events), func(i int) bool { return f.events[i].Revision > after }):]
	w := &watcher{after: after, events: make(chan backends.Event, len(missed)+Buffer)}
	for _, e := range missed {
		w.offer(e)
	}
	f.watchers[w] = struct{}{}
	w.stop = context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.drop(w)
	})
	return w.events, nil
}

// Close closes every watcher's channel and refuses new ones.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for w := range f.watchers {
		f.drop(w)
	}
}

func (f *Feed) drop(w *watcher) {
	if _, ok := f.watchers[w]; !ok {
		return
	}
	delete(f.watchers, w)
	w.stop()
	close(w.events)
}

// offer returns false when the watcher has no room for e.
func (w *watcher) offer(e backends.Event) bool {
	if e.Revision <= w.after {
		return true
	}
	select {
	case w.events <- backends.Event{Revision: e.Revision, Keys: slices.Clone(e.Keys)}:
		return true
	default:
		return false
	}
}
