package etcd

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

// TestSlowReceiver reads nothing until its watch is taken away, and goes on from its
// last event without a gap.
func TestSlowReceiver(t *testing.T) {
	b := open(t, testserver.SharedEtcd(t).URL())
	events, err := b.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	const commits = watchBuffer + 200
	failed := make(chan error, 32)
	for i := range cap(failed) {
		go func() {
			var err error
			for n := i; n < commits && err == nil; n += cap(failed) {
				_, err = b.Commit(t.Context(), put(fmt.Sprint(n), 0, ""))
			}
			failed <- err
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(slowGrace + 500*time.Millisecond)
	var last backends.Revision
	for e := range events {
		last++
		if e.Revision != last {
			t.Fatalf("event %d came after %d", e.Revision, last-1)
		}
	}
	if last != watchBuffer {
		t.Errorf("the watch ended after %d events, want %d", last, watchBuffer)
	}
	if events, err = b.Watch(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for last < commits {
		last++
		if e := <-events; e.Revision != last {
			t.Fatalf("event %d came after %d", e.Revision, last-1)
		}
	}
}

// TestWatchIsPrompt measures how soon one handle sees what another commits.
func TestWatchIsPrompt(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		url := testserver.Etcd(t, nodes).URL()
		writer, reader := open(t, url), open(t, url)
		events, err := reader.Watch(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		var took []time.Duration
		for n := range 51 {
			start := time.Now()
			at, err := writer.Commit(t.Context(), put(fmt.Sprint(n), 0, ""))
			if err != nil {
				t.Fatal(err)
			}
			if e := <-events; e.Revision != at {
				t.Fatalf("got event %d, want %d", e.Revision, at)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		t.Logf("%d nodes: median %v, longest %v after the commit began", nodes, took[25], took[50])
		if took[25] > 100*time.Millisecond {
			t.Errorf("%d nodes: the median is %v", nodes, took[25])
		}
	}
}
