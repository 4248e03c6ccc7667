package backendtest

import (
	"bytes"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/sidevault/sidevault/backends"
)

func testLog(u *subject) {
	u.commitBatch(backends.Batch{Entries: [][]byte{[]byte("1"), []byte("2")}})
	mixed := u.commitBatch(backends.Batch{
		Changes: []backends.Change{backends.Put("a", 0, nil)},
		Entries: [][]byte{[]byte("3")},
	})
	before := u.head()
	without := u.commit(backends.Put("b", 0, nil))
	if h := u.head(); h.Seq != before.Seq || h.Hash != before.Hash || h.Revision != without || without <= mixed {
		u.Errorf("a commit without entries moved the head from %+v to %+v", before, h)
	}
	u.commitBatch(backends.Batch{Entries: [][]byte{[]byte("4"), []byte("4"), []byte("5")}})
	var got []byte
	for _, e := range u.chain(2) {
		got = append(got, e.Body...)
	}
	if string(got) != "123445" {
		u.Errorf("the log reads %s, want 123445", got)
	}
	for _, c := range []struct {
		after uint64
		limit int
		want  string
	}{{0, 1, "1"}, {2, 2, "34"}, {5, 5, "5"}, {6, 5, ""}, {7, 5, ""}, {math.MaxInt64, 5, ""}, {math.MaxUint64, 5, ""}} {
		page, err := u.Log(u.Context(), c.after, c.limit)
		var bodies []byte
		for _, e := range page {
			bodies = append(bodies, e.Body...)
		}
		if err != nil || string(bodies) != c.want {
			u.Errorf("Log(%d, %d) reads %q, %v; want %q", c.after, c.limit, bodies, err, c.want)
		}
	}
}

// testLogContention appends from many sides, and wants every batch's entries once,
// side by side and in their order.
func testLogContention(u *subject) {
	const each = 10
	together(racers, func(i int) {
		for n := range each {
			var b backends.Batch
			for k := range 1 + n%3 {
				b.Entries = append(b.Entries, fmt.Appendf(nil, "%d.%d.%d", i, n, k))
			}
			if _, err := u.Commit(u.Context(), b); err != nil {
				u.Errorf("Commit: %v", err)
			}
		}
	})
	next := map[int]int{}
	log := u.chain(7)
	for len(log) > 0 {
		var i, n, k int
		if _, err := fmt.Sscanf(string(log[0].Body), "%d.%d.%d", &i, &n, &k); err != nil || n != next[i] || k != 0 {
			u.Fatalf("entry %d is %q, want the start of batch %d of %d", log[0].Seq, log[0].Body, next[i], i)
		}
		next[i]++
		for k := range 1 + n%3 {
			if want := fmt.Appendf(nil, "%d.%d.%d", i, n, k); len(log) == 0 || !bytes.Equal(log[0].Body, want) {
				u.Fatalf("the log goes on with %d entries, want %q", len(log), want)
			}
			log = log[1:]
		}
	}
	for i := range racers {
		if next[i] != each {
			u.Errorf("%d of %d batches are in the log", next[i], each)
		}
	}
}

// testHeadConsistent reads the head while others commit, and compares what it saw
// with the log and the revisions as they turned out.
func testHeadConsistent(u *subject) {
	var stop atomic.Bool
	var mu sync.Mutex
	seqAt := map[backends.Revision]uint64{} // by the commits' own revisions
	heads := make([][]backends.Head, 2)
	var readers sync.WaitGroup
	for i := range heads {
		readers.Go(func() {
			for !stop.Load() && len(heads[i]) < 5000 {
				h, err := u.Head(u.Context())
				if err != nil {
					u.Errorf("Head: %v", err)
				}
				heads[i] = append(heads[i], h)
			}
		})
	}
	together(4, func(i int) {
		for n := range 20 {
			body := fmt.Appendf(nil, "%d.%d", i, n)
			rev, err := u.Commit(u.Context(), backends.Batch{Entries: [][]byte{body}})
			if err != nil {
				u.Errorf("Commit: %v", err)
			}
			mu.Lock()
			seqAt[rev] = 0
			mu.Unlock()
		}
	})
	stop.Store(true)
	readers.Wait()
	log := u.chain(100)
	for i, rev := range sortedKeys(seqAt) {
		seqAt[rev] = uint64(i + 1)
	}
	for _, seen := range heads {
		var last backends.Head
		for _, h := range seen {
			if h.Seq > uint64(len(log)) || h.Seq > 0 && h.Hash != log[h.Seq-1].Hash || h.Seq != seqAt[h.Revision] {
				u.Fatalf("the head %+v never was: revision %d ended at entry %d of %d", h, h.Revision, seqAt[h.Revision], len(log))
			}
			if h.Revision < last.Revision || h.Seq < last.Seq {
				u.Fatalf("the head went back from %+v to %+v", last, h)
			}
			last = h
		}
	}
}
