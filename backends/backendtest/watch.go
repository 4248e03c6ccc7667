package backendtest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sidevault/sidevault/backends"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func (u *subject) watch(ctx context.Context, after backends.Revision) <-chan backends.Event {
	u.Helper()
	events, err := u.Watch(ctx, after)
	if err != nil {
		u.Fatalf("Watch(%d): %v", after, err)
	}
	return events
}

// next returns the next event, or false when the channel was closed.
func (u *subject) next(events <-chan backends.Event) (backends.Event, bool) {
	u.Helper()
	select {
	case e, ok := <-events:
		return e, ok
	case <-time.After(patience):
		u.Fatalf("no event within %v", patience)
		return backends.Event{}, false
	}
}

func (u *subject) expectEvent(events <-chan backends.Event, rev backends.Revision, keys ...string) {
	u.Helper()
	e, ok := u.next(events)
	slices.Sort(e.Keys)
	if !ok || e.Revision != rev || !slices.Equal(e.Keys, keys) {
		u.Fatalf("got event %d %q (open: %t), want %d %q", e.Revision, e.Keys, ok, rev, keys)
	}
}

// expectClosed expects the channel to close, whatever is still in it.
func (u *subject) expectClosed(events <-chan backends.Event) {
	u.Helper()
	for open := true; open; {
		_, open = u.next(events)
	}
}

func testWatch(u *subject) {
	ctx, cancel := context.WithCancel(u.Context())
	defer cancel()
	start := u.head().Revision
	events := u.watch(ctx, start)
	put := u.commit(backends.Put("a", 0, nil), backends.Put("b", 0, nil), backends.Check("none", 0))
	u.commit(backends.Check("a", put))
	u.commitBatch(backends.Batch{Entries: [][]byte{[]byte("no key")}})
	u.refuse(backends.ErrConflict, batch(backends.Put("a", 0, nil)))
	gone := u.commit(backends.Delete("a", put))
	same := u.commit(backends.Put("b", put, nil))

	u.expectEvent(events, put, "a", "b")
	u.expectEvent(events, gone, "a")
	u.expectEvent(events, same, "b")

	replayed := u.watch(ctx, start)
	u.expectEvent(replayed, put, "a", "b")
	u.expectEvent(replayed, gone, "a")
	middle := u.watch(ctx, put)
	u.expectEvent(middle, gone, "a")
	latest := u.watch(ctx, same)
	last := u.commit(backends.Put("c", 0, nil))
	for _, ch := range []<-chan backends.Event{events, latest} {
		u.expectEvent(ch, last, "c")
	}
}

// commits is what many goroutines committed, by revision.
type commits struct {
	mu   sync.Mutex
	keys map[backends.Revision][]string
}

// write commits n batches of two keys from each of the racers.
func (u *subject) write(b backends.Backend, n int) *commits {
	done := &commits{keys: map[backends.Revision][]string{}}
	together(racers, func(i int) {
		own := []string{keyOf(2 * i), keyOf(2*i + 1)}
		var at backends.Revision
		for range n {
			r, err := b.Get(u.Context(), own[0])
			if err != nil && !errors.Is(err, backends.ErrNotFound) {
				u.Errorf("Get: %v", err)
			}
			at, err = b.Commit(u.Context(), batch(backends.Put(own[0], r.Revision, nil), backends.Put(own[1], r.Revision, nil)))
			if err != nil {
				u.Errorf("Commit: %v", err)
				return
			}
			done.mu.Lock()
			done.keys[at] = own
			done.mu.Unlock()
		}
	})
	return done
}

func (u *subject) expectEvents(events <-chan backends.Event, want *commits) {
	u.Helper()
	for _, rev := range sortedKeys(want.keys) {
		u.expectEvent(events, rev, want.keys[rev]...)
	}
}

func testWatchContention(u *subject) {
	ctx, cancel := context.WithCancel(u.Context())
	defer cancel()
	start := u.head().Revision
	watchers := []<-chan backends.Event{u.watch(ctx, start), u.watch(ctx, start)}
	done := u.write(u.Backend, 5)
	for _, events := range watchers {
		u.expectEvents(events, done)
	}
}

// testWatchResume drops its watch again and again while others commit, goes on
// from the last event each time, and must miss and repeat nothing.
func testWatchResume(u *subject) {
	after := u.head().Revision
	var done *commits
	var writers sync.WaitGroup
	writers.Go(func() { done = u.write(u.Backend, 5) })
	var got []backends.Event
	for len(got) < racers*5 && !u.Failed() {
		ctx, cancel := context.WithCancel(u.Context())
		events := u.watch(ctx, after)
		for range 1 + len(got)%7 {
			if len(got) == racers*5 {
				break
			}
			e, ok := u.next(events)
			if !ok {
				break
			}
			after = e.Revision
			got = append(got, e)
		}
		cancel()
		u.expectClosed(events)
	}
	writers.Wait()
	for i, rev := range sortedKeys(done.keys) {
		if got[i].Revision != rev {
			u.Fatalf("event %d is of revision %d, want %d", i, got[i].Revision, rev)
		}
	}
}

// testWatchOwnership overwrites the keys of an event that another watcher gets too.
func testWatchOwnership(u *subject) {
	ctx, cancel := context.WithCancel(u.Context())
	defer cancel()
	start := u.head().Revision
	first, second := u.watch(ctx, start), u.watch(ctx, start)
	rev := u.commit(backends.Put("a", 0, nil))
	for _, events := range []<-chan backends.Event{first, second, u.watch(ctx, start)} {
		e, ok := u.next(events)
		if !ok || e.Revision != rev || len(e.Keys) != 1 || e.Keys[0] != "a" {
			u.Fatalf("got %v", e)
		}
		e.Keys[0] = "overwritten"
	}
}

func testWatchCancel(u *subject) {
	ctx, cancel := context.WithCancel(u.Context())
	idle := u.watch(ctx, u.head().Revision)
	other := u.watch(u.Context(), u.head().Revision)
	cancel()
	u.expectClosed(idle)
	if _, err := u.Watch(ctx, u.head().Revision); !errors.Is(err, context.Canceled) {
		u.Errorf("Watch with an ended context: got %v", err)
	}
	rev := u.commit(backends.Put("a", 0, nil))
	u.expectEvent(other, rev, "a")
}

func testWatchClose(u *subject) {
	start := u.head().Revision
	idle, full := u.watch(u.Context(), start), u.watch(u.Context(), start)
	rev := u.commit(backends.Put("a", 0, nil))
	u.expectEvent(idle, rev, "a")
	if err := u.Close(); err != nil {
		u.Errorf("Close: %v", err)
	}
	u.expectClosed(idle)
	u.expectClosed(full)
}

// testWatchSlow does not read its events for a while. It may then have lost its
// watch, but never an event from the middle of what it got.
func testWatchSlow(u *subject) {
	after := u.head().Revision
	events := u.watch(u.Context(), after)
	done := u.write(u.Backend, 40)
	var got []backends.Event
	revisions := sortedKeys(done.keys)
	for len(got) < len(revisions) {
		e, ok := u.next(events)
		if !ok {
			var err error
			if events, err = u.Watch(u.Context(), after); errors.Is(err, backends.ErrCompacted) {
				break
			} else if err != nil {
				u.Fatalf("Watch(%d): %v", after, err)
			}
			continue
		}
		if e.Revision != revisions[len(got)] {
			u.Fatalf("after %d events: revision %d, want %d", len(got), e.Revision, revisions[len(got)])
		}
		after = e.Revision
		got = append(got, e)
	}
}
