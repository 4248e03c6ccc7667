package linear

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/memory"
)

// server is storage in memory that several handles share, and that can be away.
type server struct {
	store *memory.Backend

	mu    sync.Mutex
	down  bool
	wires map[*context.CancelFunc]bool
}

func newServer() *server {
	return &server{store: memory.New(), wires: map[*context.CancelFunc]bool{}}
}

func (s *server) open(context.Context) (backends.Backend, error) { return &handle{s.store, s}, nil }

func (s *server) away() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// disturb takes the server away and brings it back, with its watches cut.
func (s *server) disturb(ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond)
		s.mu.Lock()
		s.down = true
		for cancel := range s.wires {
			(*cancel)()
		}
		clear(s.wires)
		s.mu.Unlock()
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		s.mu.Lock()
		s.down = false
		s.mu.Unlock()
	}
}

// handle is a connection. A commit during whose time the server goes away was
// applied or not, and its caller is not told which.
type handle struct {
	*memory.Backend
	server *server
}

func (h *handle) Get(ctx context.Context, key string) (backends.Record, error) {
	if h.server.away() {
		return backends.Record{}, backends.ErrUnavailable
	}
	return h.Backend.Get(ctx, key)
}

func (h *handle) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	if h.server.away() {
		return nil, backends.ErrUnavailable
	}
	return h.Backend.List(ctx, prefix, after, limit)
}

func (h *handle) Head(ctx context.Context) (backends.Head, error) {
	if h.server.away() {
		return backends.Head{}, backends.ErrUnavailable
	}
	return h.Backend.Head(ctx)
}

func (h *handle) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	if h.server.away() {
		return 0, backends.ErrUnavailable
	}
	if rand.IntN(4) == 0 {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond) // a network
	}
	if h.server.away() && rand.IntN(2) == 0 {
		return 0, backends.ErrUnknownOutcome
	}
	rev, err := h.Backend.Commit(ctx, b)
	if err == nil && h.server.away() {
		return 0, backends.ErrUnknownOutcome
	}
	return rev, err
}

func (h *handle) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	if h.server.down {
		return nil, backends.ErrUnavailable
	}
	ctx, cancel := context.WithCancel(ctx)
	h.server.wires[&cancel] = true
	events, err := h.Backend.Watch(ctx, after)
	if err != nil {
		return nil, err
	}
	late := make(chan backends.Event)
	go func() { // a network
		defer close(late)
		for e := range events {
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
			select {
			case late <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return late, nil
}

func (h *handle) Close() error { return nil }

func TestSidecarsShareStorage(t *testing.T) {
	for name, cached := range map[string]bool{"direct": false, "cached": true} {
		t.Run(name, func(t *testing.T) {
			Run(t, Storage{Open: newServer().open}, Options{Cached: cached})
		})
		t.Run(name+", server lost again and again", func(t *testing.T) {
			s := newServer()
			Run(t, Storage{Open: s.open, Disturb: s.disturb}, Options{Cached: cached})
		})
	}
}

// The checks find what they are for.
func TestBadHistories(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	done := func(k kind, value string, version uint64, revision backends.Revision, from, to int) operation {
		return operation{kind: k, value: value, outcome: wasDone, version: version, revision: revision, created: version == 1, call: ms(from), end: ms(to)}
	}
	set1, set2 := done(opSet, "v1", 1, 5, 0, 1), done(opSet, "v2", 2, 6, 2, 3)
	removed := done(opRemove, "", 0, 7, 4, 5)
	elsewhere := func(op operation) operation { op.sidecar = 1; return op }
	answered := func(op operation, o outcome) operation { op.outcome, op.version, op.revision = o, 0, 0; return op }
	unknown := answered(done(opSet, "v3", 0, 0, 6, 7), wasUnknown)
	for name, c := range map[string]struct {
		history          []operation
		linear, promised bool
	}{
		"plain":                         {[]operation{set1, set2, done(opResolve, "v2", 2, 6, 4, 5)}, true, true},
		"old value":                     {[]operation{set1, set2, done(opResolve, "v1", 1, 5, 4, 5)}, false, false},
		"old value elsewhere":           {[]operation{set1, set2, elsewhere(done(opResolve, "v1", 1, 5, 4, 5))}, false, true},
		"overlapping":                   {[]operation{set1, set2, done(opResolve, "v1", 1, 5, 2, 5)}, true, true},
		"back in time elsewhere":        {[]operation{set1, set2, elsewhere(done(opResolve, "v2", 2, 6, 4, 5)), elsewhere(done(opResolve, "v1", 1, 5, 6, 7))}, false, false},
		"never set":                     {[]operation{set1, done(opResolve, "v9", 2, 6, 4, 5)}, false, false},
		"metadata of another":           {[]operation{set1, set2, done(opResolve, "v1", 2, 6, 4, 5)}, false, false},
		"lost set":                      {[]operation{set1, answered(done(opResolve, "", 0, 0, 4, 5), wasNone)}, false, false},
		"lost set elsewhere":            {[]operation{set1, elsewhere(answered(done(opResolve, "", 0, 0, 4, 5), wasNone))}, false, true},
		"removed":                       {[]operation{set1, set2, removed, answered(done(opResolve, "", 0, 0, 6, 7), wasNone)}, true, true},
		"removed and back":              {[]operation{set1, set2, removed, done(opResolve, "v2", 2, 6, 6, 7)}, false, false},
		"none and back elsewhere":       {[]operation{set1, elsewhere(done(opResolve, "v1", 1, 5, 2, 3)), set2, removed, elsewhere(answered(done(opResolve, "", 0, 0, 6, 7), wasNone)), elsewhere(done(opResolve, "v2", 2, 6, 8, 9))}, false, false},
		"two creations":                 {[]operation{set1, done(opSet, "v2", 1, 6, 2, 3)}, false, true},
		"refused without reason":        {[]operation{set1, answered(done(opRemove, "", 0, 0, 2, 3), wasNone)}, false, true},
		"taken without reason":          {[]operation{answered(done(opCreate, "v1", 0, 0, 2, 3), wasTaken)}, false, true},
		"unknown, applied late":         {[]operation{set1, unknown, done(opResolve, "v1", 1, 5, 8, 9), done(opResolve, "v3", 2, 6, 10, 11)}, true, true},
		"unknown, applied and undone":   {[]operation{set1, unknown, done(opResolve, "v3", 2, 6, 8, 9), done(opResolve, "v1", 1, 5, 10, 11)}, false, false},
		"unknown, never applied":        {[]operation{set1, unknown, done(opResolve, "v1", 1, 5, 8, 9)}, true, true},
		"already deleted without being": {[]operation{answered(done(opRemove, "", 0, 0, 2, 3), wasGone)}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			result, _ := linearizable(c.history, time.Second)
			if (result == porcupine.Ok) != c.linear {
				t.Errorf("linearizable: %s, want %t", result, c.linear)
			}
			if problems := sessions(c.history); (len(problems) == 0) != c.promised {
				t.Errorf("problems: %v, want none: %t", problems, c.promised)
			}
		})
	}
}
