package backendtest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/sidevault/sidevault/backends"
)

// second opens another handle, and closes it after use has returned.
func (u *subject) second(use func(second backends.Backend)) {
	u.Helper()
	second := u.mustOpen()
	use(second)
	if err := second.Close(); err != nil {
		u.Errorf("Close: %v", err)
	}
}

func testSharedRace(u *subject) {
	u.second(func(second backends.Backend) { u.raceCounter(u.Backend, second) })
}

func testSharedCreate(u *subject) {
	u.second(func(second backends.Backend) { u.raceCreate(u.Backend, second) })
}

func testSharedList(u *subject) {
	u.second(func(second backends.Backend) { u.listWhileWriting(second) })
}

// testSharedConflict commits in turns through two handles, of which neither may go
// by what it knew from its own last commit.
func testSharedConflict(u *subject) {
	u.second(func(second backends.Backend) {
		handles := [2]backends.Backend{u.Backend, second}
		var stale, at backends.Revision
		for n := range 20 {
			b := batch(backends.Put("k", at, []byte{byte(n)}), backends.Check("none", 0))
			b.Entries = [][]byte{{byte(n)}}
			next, err := handles[n%2].Commit(u.Context(), b)
			if err != nil || next <= at {
				u.Fatalf("commit %d: revision %d after %d, %v", n, next, at, err)
			}
			stale, at = at, next
			u.refuse(backends.ErrConflict, batch(backends.Put("k", stale, nil)))
			u.expect("k", string([]byte{byte(n)}), at)
			if h, err := second.Head(u.Context()); err != nil || h.Revision != at || h.Seq != uint64(n+1) {
				u.Fatalf("after commit %d at %d the head is %+v, %v", n, at, h, err)
			}
		}
		if log := u.chain(7); len(log) != 20 {
			u.Errorf("%d log entries, want 20", len(log))
		}
	})
}

// testSharedWatch watches through one handle what is committed through both.
func testSharedWatch(u *subject) {
	u.second(func(second backends.Backend) {
		ctx, cancel := context.WithCancel(u.Context())
		defer cancel()
		start := u.head().Revision
		events := []<-chan backends.Event{u.watch(ctx, start), u.watch(ctx, start)}
		done := u.write(second, 5)
		for _, ch := range events {
			u.expectEvents(ch, done)
		}
		rev := u.commit(backends.Put("own", 0, nil))
		for _, ch := range events {
			u.expectEvent(ch, rev, "own")
		}
	})
}

// testSharedClose closes one handle under load, which must not touch the other.
func testSharedClose(u *subject) {
	second := u.mustOpen()
	var written atomic.Int64
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				if _, err := second.Commit(u.Context(), batch(backends.Put(keyOf(i)+"/"+keyOf(n), 0, nil))); err != nil {
					u.onlyClosed(err)
					return
				}
				written.Add(1)
			}
		})
	}
	var at backends.Revision
	for n := 0; n < 50 || written.Load() < 50 && !u.Failed(); n++ {
		at = u.commit(backends.Put("own", at, nil))
	}
	if err := second.Close(); err != nil {
		u.Errorf("Close: %v", err)
	}
	writers.Wait()
	u.expect("own", "", u.commit(backends.Put("own", at, nil)))
	if got := int64(len(u.all("k/", backends.MaxPage))); got != written.Load() {
		u.Errorf("%d commits were acknowledged before Close, %d are there", written.Load(), got)
	}
}
