package backendtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// calls is every method but Close, on keys that exist.
func calls(b backends.Backend) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Get":  func(ctx context.Context) error { _, err := b.Get(ctx, "a"); return err },
		"List": func(ctx context.Context) error { _, err := b.List(ctx, "", "", 10); return err },
		"Commit": func(ctx context.Context) error {
			_, err := b.Commit(ctx, batch(backends.Put("new", 0, nil)))
			return err
		},
		"Log":   func(ctx context.Context) error { _, err := b.Log(ctx, 0, 10); return err },
		"Head":  func(ctx context.Context) error { _, err := b.Head(ctx); return err },
		"Watch": func(ctx context.Context) error { _, err := b.Watch(ctx, 1); return err },
	}
}

func testClosed(u *subject) {
	u.commit(backends.Put("a", 0, nil))
	together(4, func(int) {
		if err := u.Close(); err != nil {
			u.Errorf("Close: %v", err)
		}
	})
	for name, call := range calls(u.Backend) {
		if err := call(u.Context()); !errors.Is(err, backends.ErrClosed) {
			u.Errorf("%s after Close: got %v, want %v", name, err, backends.ErrClosed)
		}
	}
	if err := u.Close(); err != nil {
		u.Errorf("Close again: %v", err)
	}
}

// testCloseUnderLoad closes the handle while many commit and read, and compares
// what was acknowledged with what is there afterwards.
func testCloseUnderLoad(u *subject) {
	var acknowledged [racers]int
	var started atomic.Int64
	closing := make(chan error)
	go func() {
		for started.Load() < 3*racers && !u.Failed() {
			time.Sleep(time.Millisecond)
		}
		closing <- u.Close()
	}()
	together(racers, func(i int) {
		var at backends.Revision
		for n := 1; ; n++ {
			rev, err := u.Commit(u.Context(), batch(backends.Put(keyOf(i), at, []byte(strconv.Itoa(n)))))
			if err != nil {
				u.onlyClosed(err)
				return
			}
			at, acknowledged[i] = rev, n
			started.Add(1)
			if _, err := u.List(u.Context(), "", "", 10); err != nil {
				u.onlyClosed(err)
				return
			}
		}
	})
	if err := <-closing; err != nil {
		u.Errorf("Close: %v", err)
	}
	u.reopen()
	if u.suite.Volatile {
		return
	}
	for i, n := range acknowledged {
		r, err := u.Get(u.Context(), keyOf(i))
		if n > 0 && (err != nil || string(r.Value) != strconv.Itoa(n)) {
			u.Errorf("%d was acknowledged, %q is stored, %v", n, r.Value, err)
		}
	}
}

func (u *subject) onlyClosed(err error) {
	u.Helper()
	if !errors.Is(err, backends.ErrClosed) {
		u.Errorf("while closing: got %v, want %v", err, backends.ErrClosed)
	}
}

func testCancelled(u *subject) {
	u.commit(backends.Put("a", 0, nil))
	before := u.head()
	cancelled, cancel := context.WithCancel(u.Context())
	cancel()
	expired, cancel := context.WithTimeout(u.Context(), -time.Second)
	defer cancel()
	for name, call := range calls(u.Backend) {
		if err := call(cancelled); !errors.Is(err, context.Canceled) {
			u.Errorf("%s with a cancelled context: got %v", name, err)
		}
		if err := call(expired); !errors.Is(err, context.DeadlineExceeded) {
			u.Errorf("%s with an expired context: got %v", name, err)
		}
	}
	u.expectNone("new")
	if u.head() != before {
		u.Error("a commit with an ended context moved the head")
	}
}

// testCancelRace ends contexts in the midst of commits: a nil error means applied,
// ErrUnknownOutcome either, anything else not applied.
func testCancelRace(u *subject) {
	outcomes := make([][20]error, racers)
	together(racers, func(i int) {
		for n := range outcomes[i] {
			ctx, cancel := context.WithCancel(u.Context())
			timer := time.AfterFunc(time.Duration(i*n)*50*time.Microsecond, cancel)
			key := fmt.Sprint(keyOf(i), "/", n)
			_, outcomes[i][n] = u.Commit(ctx, backends.Batch{
				Changes: []backends.Change{backends.Put(key, 0, nil)},
				Entries: [][]byte{[]byte(key)},
			})
			timer.Stop()
			cancel()
		}
	})
	var logged []string
	for _, e := range u.chain(100) {
		logged = append(logged, string(e.Body))
	}
	slices.Sort(logged)
	for i := range outcomes {
		for n, err := range outcomes[i] {
			u.checkOutcome(fmt.Sprint(keyOf(i), "/", n), err, logged)
		}
	}
}

func (u *subject) checkOutcome(key string, err error, logged []string) {
	u.Helper()
	_, missing := u.Get(u.Context(), key)
	if _, found := slices.BinarySearch(logged, key); found != (missing == nil) {
		u.Errorf("%q was applied by half: in the log: %t, record: %v", key, found, missing)
	}
	switch {
	case err == nil && missing != nil:
		u.Errorf("%q was acknowledged and is not there: %v", key, missing)
	case errors.Is(err, backends.ErrUnknownOutcome), err == nil:
	case !errors.Is(err, context.Canceled):
		u.Errorf("Commit(%q) with a context that ended: got %v", key, err)
	case missing == nil:
		u.Errorf("%q was given up and is there", key)
	}
}

func testReopen(u *subject) {
	at := u.commitBatch(backends.Batch{
		Changes: []backends.Change{backends.Put("a", 0, []byte("one")), backends.Put("b", 0, nil)},
		Entries: [][]byte{[]byte("1"), []byte("2")},
	})
	gone := u.commit(backends.Delete("b", at))
	head := u.head()
	u.reopen()
	if u.suite.Volatile {
		testEmpty(u)
		return
	}
	if h := u.head(); h != head {
		u.Errorf("the head was %+v, after opening again it is %+v", head, h)
	}
	u.expect("a", "one", at)
	u.expectNone("b")
	next := u.commitBatch(backends.Batch{
		Changes: []backends.Change{backends.Put("a", at, []byte("two"))},
		Entries: [][]byte{[]byte("3")},
	})
	if next <= gone {
		u.Errorf("revision %d came after %d", next, gone)
	}
	if log := u.chain(10); len(log) != 3 {
		u.Errorf("%d log entries, want 3", len(log))
	}
	testWatchReopened(u, at, next)
}

// testWatchReopened watches from a revision of the former handle: the events are
// replayed, or they are gone and Watch says so.
func testWatchReopened(u *subject, before, last backends.Revision) {
	u.Helper()
	ctx, cancel := context.WithCancel(u.Context())
	defer cancel()
	events, err := u.Watch(ctx, before)
	switch {
	case errors.Is(err, backends.ErrCompacted):
		u.watch(ctx, last)
	case err != nil:
		u.Errorf("Watch(%d): %v", before, err)
	default:
		e, ok := u.next(events)
		if !ok || e.Revision <= before || e.Revision > last {
			u.Errorf("Watch(%d) goes on with %v", before, e)
		}
	}
}
