package cache_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/backends/memory"
)

var errDown = errors.Join(backends.ErrUnavailable, errors.New("connection refused"))

// engine is storage in memory with the faults of a network in front of it. Others
// reach the storage itself.
type engine struct {
	others *memory.Backend

	mu        sync.Mutex
	down      bool             // every call fails
	hung      bool             // every call waits for its context
	mute      bool             // events wait
	unmuted   chan struct{}    // closed when mute ends
	compacted bool             // the next Watch from a revision fails
	noWatch   bool             // Watch fails
	commitErr error            // of the next commit, which is applied
	read      func(key string) // called by Get when it has read
	watches   map[*context.CancelFunc]bool
	calls     map[string]int
}

func newEngine() *engine {
	return &engine{others: memory.New(), watches: map[*context.CancelFunc]bool{}, calls: map[string]int{}}
}

func (e *engine) set(f func(*engine)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
}

func (e *engine) called(method string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[method]
}

// call counts a call and fails it as a broken network would.
func (e *engine) call(ctx context.Context, method string) error {
	e.mu.Lock()
	e.calls[method]++
	down, hung := e.down, e.hung
	e.mu.Unlock()
	if hung {
		<-ctx.Done()
		return ctx.Err()
	}
	if down {
		return errDown
	}
	return nil
}

// goDown takes the engine away, and its watches with it.
func (e *engine) goDown() {
	e.set(func(e *engine) { e.down = true })
	e.cutWatches()
}

func (e *engine) comeBack() { e.set(func(e *engine) { e.down, e.hung = false, false }) }

func (e *engine) cutWatches() {
	e.set(func(e *engine) {
		for cancel := range e.watches {
			(*cancel)()
		}
		clear(e.watches)
	})
}

func (e *engine) muteEvents() {
	e.set(func(e *engine) { e.mute, e.unmuted = true, make(chan struct{}) })
}

func (e *engine) unmuteEvents() {
	e.set(func(e *engine) {
		e.mute = false
		close(e.unmuted)
	})
}

func (e *engine) Get(ctx context.Context, key string) (backends.Record, error) {
	if err := e.call(ctx, "Get"); err != nil {
		return backends.Record{}, err
	}
	r, err := e.others.Get(ctx, key)
	e.mu.Lock()
	read := e.read
	e.mu.Unlock()
	if read != nil {
		read(key)
	}
	return r, err
}

func (e *engine) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	if err := e.call(ctx, "List"); err != nil {
		return nil, err
	}
	return e.others.List(ctx, prefix, after, limit)
}

func (e *engine) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	if err := e.call(ctx, "Commit"); err != nil {
		return 0, err
	}
	rev, err := e.others.Commit(ctx, b)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && e.commitErr != nil {
		rev, err, e.commitErr = 0, e.commitErr, nil
	}
	return rev, err
}

func (e *engine) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	if err := e.call(ctx, "Log"); err != nil {
		return nil, err
	}
	return e.others.Log(ctx, after, limit)
}

func (e *engine) Head(ctx context.Context) (backends.Head, error) {
	if err := e.call(ctx, "Head"); err != nil {
		return backends.Head{}, err
	}
	return e.others.Head(ctx)
}

func (e *engine) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	if err := e.call(ctx, "Watch"); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.noWatch {
		return nil, errDown
	}
	if e.compacted {
		e.compacted = false
		return nil, backends.ErrCompacted
	}
	ctx, cancel := context.WithCancel(ctx)
	in, err := e.others.Watch(ctx, after)
	if err != nil {
		cancel()
		return nil, err
	}
	e.watches[&cancel] = true
	out := make(chan backends.Event)
	go e.relay(ctx, in, out)
	return out, nil
}

func (e *engine) relay(ctx context.Context, in <-chan backends.Event, out chan<- backends.Event) {
	defer close(out)
	for event := range in {
		e.mu.Lock()
		mute, unmuted := e.mute, e.unmuted
		e.mu.Unlock()
		if mute {
			select {
			case <-unmuted:
			case <-ctx.Done():
				return
			}
		}
		select {
		case out <- event:
		case <-ctx.Done():
			return
		}
	}
}

func (e *engine) Close() error { return e.others.Close() }

// bench is a cache over such an engine.
type bench struct {
	*testing.T
	*cache.Cache
	engine *engine
}

// try runs a test in a bubble, where time passes only when everybody waits.
func try(t *testing.T, o cache.Options, test func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		b := &bench{T: t, Cache: cache.New(e, o), engine: e}
		synctest.Wait() // until the watch is established
		test(b)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// put commits a value in the name of somebody else.
func (b *bench) put(key, value string) backends.Revision {
	return b.commit(b.engine.others, key, value)
}

func (b *bench) commit(to backends.Backend, key, value string) backends.Revision {
	b.Helper()
	r, err := b.engine.others.Get(b.Context(), key)
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		b.Fatal(err)
	}
	rev, err := to.Commit(b.Context(), backends.Batch{Changes: []backends.Change{backends.Put(key, r.Revision, []byte(value))}})
	if err != nil {
		b.Fatalf("Commit: %v", err)
	}
	return rev
}

// reads expects a value ("": none) through the cache, and so many questions to
// storage.
func (b *bench) reads(key, value string, asked int) {
	b.Helper()
	before := b.engine.called("Get")
	r, err := b.Get(b.Context(), key)
	if value == "" && !errors.Is(err, backends.ErrNotFound) {
		b.Errorf("Get(%q) = %q, %v; want none", key, r.Value, err)
	} else if value != "" && (err != nil || string(r.Value) != value || r.Key != key) {
		b.Errorf("Get(%q) = %q, %q, %v; want %q", key, r.Key, r.Value, err, value)
	}
	if n := b.engine.called("Get") - before; n != asked {
		b.Errorf("Get(%q) asked storage %d times, want %d", key, n, asked)
	}
}

// refuses expects every call but hits to fail at once.
func (b *bench) refuses(key string) {
	b.Helper()
	began := time.Now()
	_, get := b.Get(b.Context(), key)
	_, list := b.List(b.Context(), "", "", 10)
	_, commit := b.Commit(b.Context(), backends.Batch{Entries: [][]byte{[]byte("x")}})
	_, log := b.Log(b.Context(), 0, 10)
	_, head := b.Head(b.Context())
	_, watch := b.Watch(b.Context(), 0)
	for name, err := range map[string]error{"Get": get, "List": list, "Commit": commit, "Log": log, "Head": head, "Watch": watch} {
		if !errors.Is(err, backends.ErrUnavailable) {
			b.Errorf("%s while storage is away: %v", name, err)
		}
	}
	if took := time.Since(began); took > 0 {
		b.Errorf("failing took %v", took)
	}
}
