package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

// follower collects the events of a watch, and goes on from the last one when its
// channel is closed.
type follower struct {
	b         backends.Backend
	revisions []backends.Revision
	watches   int
}

func (f *follower) until(t *testing.T, last backends.Revision, after backends.Revision) {
	t.Helper()
	deadline := time.After(40 * time.Second)
	for after < last {
		ctx, cancel := context.WithCancel(t.Context())
		events, err := f.b.Watch(ctx, after)
		if errors.Is(err, backends.ErrUnavailable) {
			cancel()
			time.Sleep(10 * time.Millisecond)
			continue
		} else if err != nil {
			t.Fatalf("Watch(%d): %v", after, err)
		}
		f.watches++
		for open := true; open && after < last; {
			var e backends.Event
			select {
			case e, open = <-events:
			case <-deadline:
				t.Fatalf("no event after revision %d of %d", after, last)
			}
			if open {
				after = e.Revision
				f.revisions = append(f.revisions, e.Revision)
			}
		}
		cancel()
	}
}

// consecutive wants each revision from first to last once and in order.
func (f *follower) consecutive(t *testing.T, first, last backends.Revision) {
	t.Helper()
	for i, rev := range f.revisions {
		if rev != first+backends.Revision(i) {
			t.Fatalf("event %d is of revision %d, want %d", i, rev, first+backends.Revision(i))
		}
	}
	if n := len(f.revisions); n != int(last-first)+1 {
		t.Errorf("%d events, want %d", n, last-first+1)
	}
}

// TestWatchConnectionLost ends the listener's connection again and again while
// another handle commits: one channel must deliver everything, once and in order.
func TestWatchConnectionLost(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	at := s.URL(database, testserver.PostgresOwner)
	writer, watcher := open(t, at, nil), open(t, at, nil)
	f := &follower{b: watcher}
	const last = 400
	var lost atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range last {
			if _, err := writer.Commit(t.Context(), put(fmt.Sprint(i), 0, "x")); err != nil {
				t.Errorf("Commit: %v", err)
				return
			}
			if i%40 == 20 {
				var n int64
				err := writer.pool.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
					WHERE datname = current_database() AND application_name = 'sidevault watch'`).Scan(&n)
				if err != nil {
					t.Error(err)
				}
				lost.Add(n)
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	f.until(t, last, 0)
	<-done
	f.consecutive(t, 1, last)
	if lost.Load() < 3 {
		t.Errorf("the listener's connection was ended only %d times", lost.Load())
	}
	if f.watches != 1 {
		t.Errorf("the channel was closed %d times", f.watches-1)
	}
}

// TestWatchMissed commits while the listener has no connection, and nothing after
// that: the event comes with the next connection and not only with a heartbeat.
func TestWatchMissed(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	b := open(t, s.URL(database, testserver.PostgresOwner), nil)
	events, err := b.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		s.Admin(t, database, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'sidevault watch'`)
		if _, err := b.Commit(t.Context(), put(fmt.Sprint(round), 0, "x")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-events:
		case <-time.After(heartbeat / 2):
			t.Errorf("no event within %v", heartbeat/2)
			<-events
		}
	}
}

// TestWatchRestart restarts the server under a watch.
func TestWatchRestart(t *testing.T) {
	s := testserver.StartPostgres(t, testserver.PostgresConfig{NoSync: true})
	at := s.URL(s.NewDatabase(t), testserver.PostgresOwner)
	writer, watcher := open(t, at, nil), open(t, at, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := watcher.Watch(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	for rev := backends.Revision(1); rev < 4; rev++ {
		if _, err := writer.Commit(t.Context(), put(fmt.Sprint(rev), 0, "x")); err != nil {
			t.Fatal(err)
		}
		s.Restart(t)
		select {
		case e := <-events:
			if e.Revision != rev {
				t.Fatalf("got %v, want revision %d", e, rev)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no event of revision %d", rev)
		}
	}
}

// TestWatchLatency wants another handle's commit to be seen soon.
func TestWatchLatency(t *testing.T) {
	at := newDatabase(t)
	writer, watcher := open(t, at, nil), open(t, at, nil)
	events, err := watcher.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for i := range 50 {
		start := time.Now()
		if _, err := writer.Commit(t.Context(), put(fmt.Sprint(i), 0, "x")); err != nil {
			t.Fatal(err)
		}
		<-events
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("median %v", median)
	if median > 100*time.Millisecond {
		t.Errorf("an event takes %v at the median", median)
	}
}

// TestWatchHistory trims the changes: watchers further back are told so, also one
// whose connection was lost for too long.
func TestWatchHistory(t *testing.T) {
	s := testserver.Postgres(t)
	at := s.URL(s.NewDatabase(t), testserver.PostgresOwner)
	b := open(t, at, &Options{History: 100})
	const last = 1000
	for i := range last {
		if _, err := b.Commit(t.Context(), put("k", backends.Revision(i), "x")); err != nil {
			t.Fatal(err)
		}
	}
	var kept int
	if err := b.pool.QueryRow(t.Context(), "SELECT count(*) FROM sidevault.changes").Scan(&kept); err != nil || kept < 100 || kept > 400 {
		t.Errorf("%d changes are kept, %v; want 100 to 400", kept, err)
	}
	for _, after := range []backends.Revision{0, 1, last - 400, last + 1, 1 << 63} {
		if _, err := b.Watch(t.Context(), after); !errors.Is(err, backends.ErrCompacted) {
			t.Errorf("Watch(%d): %v", after, err)
		}
	}
	for _, after := range []backends.Revision{last - 100, last - 1} {
		f := &follower{b: b}
		f.until(t, last, after)
		f.consecutive(t, after+1, last)
	}
}

// TestWatchLongReplay watches from the beginning, through more than one page of
// changes, while others commit.
func TestWatchLongReplay(t *testing.T) {
	at := newDatabase(t)
	b := open(t, at, nil)
	const last = 2*changesPage + 300
	commit := func(from, to int) {
		for i := from; i < to; i++ {
			if _, err := b.Commit(t.Context(), put("k", backends.Revision(i), "x")); err != nil {
				t.Errorf("Commit: %v", err)
				return
			}
		}
	}
	commit(0, last-200)
	second := open(t, at, nil)
	go commit(last-200, last)
	f := &follower{b: second}
	f.until(t, last, 0)
	f.consecutive(t, 1, last)
}

// TestWatchRestored puts the storage back to an earlier state under a watcher, as a
// backup does: its channel is closed, and the next Watch says why.
func TestWatchRestored(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	b := open(t, s.URL(database, testserver.PostgresOwner), nil)
	for i := range 5 {
		if _, err := b.Commit(t.Context(), put("k", backends.Revision(i), "x")); err != nil {
			t.Fatal(err)
		}
	}
	events, err := b.Watch(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Revision != 5 {
		t.Fatalf("got %v", e)
	}
	s.Admin(t, database, "UPDATE sidevault.head SET revision = 2; DELETE FROM sidevault.changes WHERE revision > 2; NOTIFY sidevault_sidevault")
	select {
	case e, ok := <-events:
		if ok {
			t.Errorf("got %v", e)
		}
	case <-time.After(2 * heartbeat):
		t.Error("the channel was not closed")
	}
	if _, err := b.Watch(t.Context(), 5); !errors.Is(err, backends.ErrCompacted) {
		t.Errorf("Watch: %v", err)
	}
}

// TestWatchCloses ends watches in each of their states: nothing outlives Close.
func TestWatchCloses(t *testing.T) {
	at := newDatabase(t)
	first := open(t, at, nil)
	for i := range 3 * changesPage {
		if _, err := first.Commit(t.Context(), put("k", backends.Revision(i), "x")); err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, at, nil)
	var channels []<-chan backends.Event
	for _, after := range []backends.Revision{0, 3*changesPage - 1, 3 * changesPage, 7} {
		events, err := b.Watch(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		channels = append(channels, events)
	}
	<-channels[0]
	closed := make(chan error)
	go func() { closed <- b.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Close waits for watches that nobody reads")
	}
	for _, events := range channels {
		for range events {
		}
	}
}
