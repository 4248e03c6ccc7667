package backendtest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/sidevault/sidevault/backends"
)

const (
	racers = 16
	wins   = 200 // commits that a race goes on for
)

// testCreateRace lets many create the same key: one does, the others learn so.
func testCreateRace(u *subject) {
	u.raceCreate(u.Backend)
}

// raceCreate spreads the racers over the handles.
func (u *subject) raceCreate(handles ...backends.Backend) {
	u.Helper()
	for round := range 10 {
		var won atomic.Int64
		var at atomic.Uint64
		key := keyOf(round)
		together(racers, func(i int) {
			b := handles[i%len(handles)]
			rev, err := b.Commit(u.Context(), batch(backends.Put(key, 0, []byte(key)), backends.Put(fmt.Sprint(key, "/", i), 0, nil)))
			switch {
			case err == nil:
				won.Add(1)
				at.Store(uint64(rev))
			case !errors.Is(err, backends.ErrConflict):
				u.Errorf("Commit: %v", err)
			}
		})
		if n := won.Load(); n != 1 {
			u.Errorf("%d of %d created %q", n, racers, key)
		}
		u.expect(key, key, backends.Revision(at.Load()))
		if left := u.all(key+"/", 100); len(left) != 1 {
			u.Errorf("the losers left %d records", len(left)-1)
		}
	}
}

// testCounterRace increments one counter from many sides.
func testCounterRace(u *subject) {
	u.raceCounter(u.Backend)
}

// raceCounter spreads the racers over the handles.
func (u *subject) raceCounter(handles ...backends.Backend) {
	u.Helper()
	c := &counter{subject: u, wins: map[backends.Revision]bool{}}
	together(racers, func(i int) {
		for c.total() < wins && !u.Failed() {
			c.increment(handles[i%len(handles)])
		}
	})
	r, err := u.Get(u.Context(), "counter")
	if err != nil {
		u.Fatalf("Get: %v", err)
	}
	if string(r.Value) != strconv.Itoa(c.total()) {
		u.Errorf("the counter is %s after %d successes", r.Value, c.total())
	}
	if log := u.chain(100); len(log) != c.total() {
		u.Errorf("%d successes wrote %d log entries", c.total(), len(log))
	}
}

type counter struct {
	*subject
	mu   sync.Mutex
	wins map[backends.Revision]bool // the revisions that were replaced
}

func (c *counter) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.wins)
}

func (c *counter) increment(b backends.Backend) {
	r, err := b.Get(c.Context(), "counter")
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		c.Errorf("Get: %v", err)
		return
	}
	n, _ := strconv.Atoi(string(r.Value))
	next := []byte(strconv.Itoa(n + 1))
	rev, err := b.Commit(c.Context(), backends.Batch{
		Changes: []backends.Change{backends.Put("counter", r.Revision, next)},
		Entries: [][]byte{next},
	})
	switch {
	case errors.Is(err, backends.ErrConflict):
		return
	case err != nil:
		c.Errorf("Commit: %v", err)
		return
	case rev <= r.Revision:
		c.Errorf("revision %d replaced %d", rev, r.Revision)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wins[r.Revision] {
		c.Errorf("two commits replaced revision %d", r.Revision)
	}
	c.wins[r.Revision] = true
}

// testTransferRace moves tokens between three keys: each commit depends on two of
// them, so that a commit which saw only one half shows in the sum.
func testTransferRace(u *subject) {
	const tokens = 30
	u.commit(backends.Put("t/0", 0, []byte(strconv.Itoa(tokens))), backends.Put("t/1", 0, []byte("0")), backends.Put("t/2", 0, []byte("0")))
	var moved atomic.Int64
	together(racers, func(i int) {
		for moved.Load() < wins/2 && !u.Failed() {
			if u.transfer(fmt.Sprint("t/", i%3), fmt.Sprint("t/", (i/3+i+1)%3)) {
				moved.Add(1)
			}
			i++
		}
	})
	sum := 0
	for _, r := range u.all("t/", 10) {
		n, _ := strconv.Atoi(string(r.Value))
		sum += n
	}
	if sum != tokens {
		u.Errorf("%d tokens are left of %d", sum, tokens)
	}
}

func (u *subject) transfer(from, to string) bool {
	a, errA := u.Get(u.Context(), from)
	b, errB := u.Get(u.Context(), to)
	if err := errors.Join(errA, errB); err != nil {
		u.Errorf("Get: %v", err)
		return false
	}
	n, _ := strconv.Atoi(string(a.Value))
	m, _ := strconv.Atoi(string(b.Value))
	if n == 0 || from == to {
		return false
	}
	_, err := u.Commit(u.Context(), batch(
		backends.Put(from, a.Revision, []byte(strconv.Itoa(n-1))),
		backends.Put(to, b.Revision, []byte(strconv.Itoa(m+1)))))
	if err != nil && !errors.Is(err, backends.ErrConflict) {
		u.Errorf("Commit: %v", err)
	}
	return err == nil
}

// testNoFalseConflicts lets many write their own keys and the one log: nothing
// that a batch names changes meanwhile, so no batch may be refused.
func testNoFalseConflicts(u *subject) {
	together(racers, func(i int) {
		var at backends.Revision
		for n := range 10 {
			rev, err := u.Commit(u.Context(), backends.Batch{
				Changes: []backends.Change{backends.Put(keyOf(i), at, []byte(strconv.Itoa(n))), backends.Check("none", 0)},
				Entries: [][]byte{[]byte(keyOf(i))},
			})
			if err != nil || rev <= at {
				u.Errorf("Commit of a key of one's own: revision %d after %d, %v", rev, at, err)
				return
			}
			at = rev
		}
		u.expect(keyOf(i), "9", at)
	})
}
