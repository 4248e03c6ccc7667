package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

// load commits from several goroutines until it is stopped, and keeps what came of
// it.
type load struct {
	*Backend
	stop    chan struct{}
	workers sync.WaitGroup

	mu       sync.Mutex
	outcomes map[string]error
	longest  time.Duration // without a commit that succeeded
	last     time.Time
}

func startLoad(t *testing.T, b *Backend) *load {
	l := &load{Backend: b, stop: make(chan struct{}), outcomes: map[string]error{}, last: time.Now()}
	for i := range 4 {
		l.workers.Go(func() { l.work(t.Context(), i) })
	}
	return l
}

func (l *load) work(ctx context.Context, i int) {
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		default:
		}
		key := fmt.Sprintf("load/%d/%d", i, n)
		_, err := l.Commit(ctx, backends.Batch{Changes: []backends.Change{backends.Put(key, 0, nil)}, Entries: [][]byte{[]byte(key)}})
		l.mu.Lock()
		l.outcomes[key] = err
		if err == nil {
			l.longest = max(l.longest, time.Since(l.last))
			l.last = time.Now()
		}
		l.mu.Unlock()
		time.Sleep(2 * time.Millisecond)
	}
}

// end stops the load and compares what was told with what is there.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.workers.Wait()
	stored, logged := l.everything(t)
	acknowledged, unknown := 0, 0
	for key, err := range l.outcomes {
		if stored[key] != logged[key] {
			t.Errorf("%s was applied by half: %d records, %d entries", key, stored[key], logged[key])
		}
		switch {
		case err == nil:
			acknowledged++
			if stored[key] != 1 {
				t.Errorf("%s was acknowledged and is lost", key)
			}
		case errors.Is(err, backends.ErrUnknownOutcome):
			unknown++
		case stored[key] != 0:
			t.Errorf("%s was refused (%v) and is there", key, err)
		case !errors.Is(err, backends.ErrUnavailable):
			t.Errorf("%s: got %v", key, err)
		}
	}
	t.Logf("%d commits, %d acknowledged, %d unknown, at most %v without one", len(l.outcomes), acknowledged, unknown, l.longest.Round(time.Millisecond))
	if acknowledged < 20 {
		t.Errorf("only %d commits came through", acknowledged)
	}
}

// everything reads all records and the whole log, and verifies the chain.
func (l *load) everything(t *testing.T) (stored, logged map[string]int) {
	t.Helper()
	stored, logged = map[string]int{}, map[string]int{}
	for after := ""; ; {
		page, err := l.List(t.Context(), "", after, backends.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			stored[r.Key]++
			after = r.Key
		}
		if len(page) < backends.MaxPage {
			break
		}
	}
	var last backends.Entry
	for {
		page, err := l.Log(t.Context(), last.Seq, backends.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if err := e.Follows(last.Seq, last.Hash); err != nil {
				t.Fatal(err)
			}
			logged[string(e.Body)]++
			last = e
		}
		if len(page) < backends.MaxPage {
			return stored, logged
		}
	}
}

// TestNodesStop stops each node of three in turn, and the leader, in different ways.
// Commits go on within an election.
func TestNodesStop(t *testing.T) {
	c := testserver.Etcd(t, 3)
	faults := []struct {
		name  string
		node  func() int
		stop  func(int)
		start func(int)
	}{
		{"kill leader", func() int { return c.Leader(t) }, c.Kill, func(i int) { c.Start(t, i) }},
		{"stop leader", func() int { return c.Leader(t) }, c.Stop, func(i int) { c.Start(t, i) }},
		{"pause leader", func() int { return c.Leader(t) }, c.Pause, c.Resume},
		{"kill 0", func() int { return 0 }, c.Kill, func(i int) { c.Start(t, i) }},
		{"kill 1", func() int { return 1 }, c.Kill, func(i int) { c.Start(t, i) }},
		{"kill 2", func() int { return 2 }, c.Kill, func(i int) { c.Start(t, i) }},
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			b := open(t, c.URL())
			seen := observe(t, b)
			l := startLoad(t, b)
			time.Sleep(300 * time.Millisecond)
			node := f.node()
			f.stop(node)
			time.Sleep(3 * time.Second)
			f.start(node)
			time.Sleep(500 * time.Millisecond)
			l.end(t)
			// An election takes up to 2 s here, and a member that hangs is given
			// up after half the request timeout.
			if l.longest > 6*time.Second {
				t.Errorf("no commit for %v", l.longest)
			}
			seen.check(t, l)
		})
	}
}

// observer is a watch from the start, and how often it reported each key.
type observer struct {
	mu   sync.Mutex
	keys map[string]int
	last backends.Revision
	err  error
}

func observe(t *testing.T, b *Backend) *observer {
	t.Helper()
	events, err := b.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{keys: map[string]int{}}
	go func() {
		for e := range events {
			o.note(e)
		}
	}()
	return o
}

func (o *observer) note(e backends.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.Revision <= o.last {
		o.err = fmt.Errorf("event %d came after %d", e.Revision, o.last)
	}
	o.last = e.Revision
	for _, key := range e.Keys {
		o.keys[key]++
	}
}

// check wants each record that is there in one event, and no other.
func (o *observer) check(t *testing.T, l *load) {
	t.Helper()
	stored, _ := l.everything(t)
	eventually(t, func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil && !maps.Equal(o.keys, stored) {
			return fmt.Errorf("%d keys were reported, %d are there", len(o.keys), len(stored))
		}
		return o.err
	})
}

// TestOneNodeRestarts kills a lone node under load again and again.
func TestOneNodeRestarts(t *testing.T) {
	c := testserver.Etcd(t, 1)
	b := open(t, c.URL())
	seen := observe(t, b)
	l := startLoad(t, b)
	for range 4 {
		time.Sleep(300 * time.Millisecond)
		c.Kill(0)
		time.Sleep(200 * time.Millisecond)
		c.Start(t, 0)
	}
	time.Sleep(time.Second)
	l.end(t)
	seen.check(t, l)
}

// TestLostAnswers breaks the connection under single commits, each of which must be
// told the truth though its answer was lost.
func TestLostAnswers(t *testing.T) {
	c := testserver.SharedEtcd(t)
	url, breakAll := proxied(t, c)
	b := open(t, url())
	l := startLoad(t, b)
	for range 100 {
		time.Sleep(10 * time.Millisecond)
		breakAll()
	}
	time.Sleep(200 * time.Millisecond)
	l.end(t)
	for key, err := range l.outcomes {
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// TestNoQuorum leaves one node of three: calls end within the timeout and say why.
func TestNoQuorum(t *testing.T) {
	c := testserver.Etcd(t, 3)
	b, err := Open(t.Context(), c.URL(), &Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	at, err := b.Commit(t.Context(), put("k", 0, "v"))
	if err != nil {
		t.Fatal(err)
	}
	c.Kill(0)
	c.Kill(1)
	start := time.Now()
	_, err = b.Get(t.Context(), "k")
	checkLine(t, err, backends.ErrUnavailable, "more than half of")
	_, err = b.Commit(t.Context(), put("k", at, "w"))
	if !errors.Is(err, backends.ErrUnavailable) && !errors.Is(err, backends.ErrUnknownOutcome) {
		t.Errorf("Commit: got %v", err)
	}
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("two calls took %v with a timeout of 1 s", took)
	}
	_, err = Open(t.Context(), c.URL()+"?dial-timeout=1s", nil)
	checkLine(t, err, backends.ErrUnavailable, "more than half of")
	c.Launch(t, 0)
	c.Start(t, 1)
	eventually(t, func() error { _, err := b.Get(t.Context(), "k"); return err })
}

// TestCountersOverBrokenConnections increments counters through two handles while the connections
// break, and wants every acknowledged increment once.
func TestCountersOverBrokenConnections(t *testing.T) {
	url, breakAll := proxied(t, testserver.SharedEtcd(t))
	shared := url()
	handles := []*Backend{open(t, shared), open(t, shared)}
	var sure, unknown [4]int
	var workers sync.WaitGroup
	for i := range sure {
		workers.Go(func() {
			for n := 0; n < 60; n++ {
				switch err := increment(t.Context(), handles[i%2], fmt.Sprint("counter/", i/2)); {
				case err == nil:
					sure[i]++
				case errors.Is(err, backends.ErrUnknownOutcome):
					unknown[i]++
				case !errors.Is(err, backends.ErrConflict) && !errors.Is(err, backends.ErrUnavailable):
					t.Errorf("increment: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { workers.Wait(); close(done) }()
	for open := true; open; {
		select {
		case <-done:
			open = false
		case <-time.After(25 * time.Millisecond):
			breakAll()
		}
	}
	for k := range 2 {
		r, err := handles[0].Get(t.Context(), fmt.Sprint("counter/", k))
		if err != nil {
			t.Fatal(err)
		}
		n, _ := strconv.Atoi(string(r.Value))
		low, more := sure[2*k]+sure[2*k+1], unknown[2*k]+unknown[2*k+1]
		if low == 0 || n < low || n > low+more {
			t.Errorf("counter %d is %d after %d sure and %d unknown increments", k, n, low, more)
		}
	}
}

func increment(ctx context.Context, b *Backend, key string) error {
	r, err := b.Get(ctx, key)
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		return err
	}
	n, _ := strconv.Atoi(string(r.Value))
	_, err = b.Commit(ctx, put(key, r.Revision, strconv.Itoa(n+1)))
	return err
}

func eventually(t *testing.T, call func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for err := call(); err != nil; err = call() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
