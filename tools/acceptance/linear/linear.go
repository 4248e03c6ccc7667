// Package linear runs sidecars against one storage, has clients set, create, resolve
// and remove at random, and checks what they were answered against what is promised.
//
// Without a cache everything is linearizable: there is one order of all operations,
// through whichever sidecar, that explains every answer and puts none before one that
// ended before it began. With a cache that holds of every operation that changes
// something or is refused; what is resolved through one sidecar is never older than
// what was set, removed or resolved through the same one before.
package linear

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// Storage is what a run uses.
type Storage struct {
	// Open opens another handle on the same storage, which is empty at first.
	Open func(context.Context) (backends.Backend, error)
	// Disturb, when not nil, harms the storage (kills and restarts its server, say)
	// again and again until the context ends, and leaves it in order.
	Disturb func(context.Context)
}

// Options say how much a run does.
type Options struct {
	Cached     bool // the sidecars have caches
	Sidecars   int  // default 2
	Clients    int  // of each sidecar; default 4
	Slots      int  // default 3
	Operations int  // in all; default 2000
	// Seed makes the choices repeatable, not the order of events. Default: the time.
	Seed uint64
}

func (o Options) complete() Options {
	for at, def := range map[*int]int{&o.Sidecars: 2, &o.Clients: 4, &o.Slots: 3, &o.Operations: 2000} {
		if *at == 0 {
			*at = def
		}
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	return o
}

const (
	// patience bounds one operation, and how long sidecars may differ at the end.
	patience = 20 * time.Second
	// runLimit bounds a run, however often storage is away.
	runLimit = 2 * time.Minute
	// breath is how long a client waits after storage was away.
	breath = 5 * time.Millisecond
)

// Run makes a vault in the storage, has clients use it, and checks their answers.
func Run(t *testing.T, s Storage, o Options) {
	t.Helper()
	o = o.complete()
	perform(t, openSidecars(t, s, o), s.Disturb, o)
}

// sidecar carries operations out.
type sidecar interface {
	// perform notes the answer in op and returns what it means; an error is an answer
	// that nothing explains.
	perform(ctx context.Context, op *operation) (outcome, error)
}

// perform has clients use the sidecars, and checks their answers.
func perform(t *testing.T, sidecars []sidecar, disturb func(context.Context), o Options) {
	t.Helper()
	t.Logf("seed %d", o.Seed)
	r := &run{T: t, Options: o, began: time.Now(), sidecars: sidecars}
	disturbed, calm := context.WithCancel(t.Context())
	var disturbing, clients sync.WaitGroup
	if disturb != nil {
		disturbing.Go(func() { disturb(disturbed) })
	}
	for n := range o.Sidecars * o.Clients {
		clients.Go(func() { r.client(n) })
	}
	clients.Wait()
	calm()
	disturbing.Wait()
	r.converge()
	r.check()
}

// run is a run under way.
type run struct {
	*testing.T
	Options
	began    time.Time
	sidecars []sidecar
	started  atomic.Int64
	values   atomic.Int64

	mu      sync.Mutex
	history []operation
}

// client performs random operations through one sidecar until there were enough.
func (r *run) client(n int) {
	random := rand.New(rand.NewPCG(r.Seed, uint64(n)))
	for r.started.Add(1) <= int64(r.Operations) && !r.Failed() && time.Since(r.began) < runLimit {
		op := operation{client: n, sidecar: n % r.Sidecars, slot: random.IntN(r.Slots), kind: randomKind(random)}
		if op.kind == opSet || op.kind == opCreate {
			op.value = fmt.Sprintf("value-%d", r.values.Add(1))
		}
		r.perform(&op)
		if op.outcome == wasNotDone {
			r.started.Add(-1)
			time.Sleep(breath)
			continue
		}
		r.mu.Lock()
		r.history = append(r.history, op)
		r.mu.Unlock()
	}
}

func randomKind(random *rand.Rand) kind {
	return []kind{opSet, opSet, opCreate, opRemove, opRemove, opResolve, opResolve, opResolve, opResolve}[random.IntN(9)]
}

// perform carries an operation out and notes the answer.
func (r *run) perform(op *operation) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	op.call = time.Since(r.began)
	var err error
	op.outcome, err = r.sidecars[op.sidecar].perform(ctx, op)
	op.end = time.Since(r.began)
	if err != nil {
		r.Errorf("%v: %v", op, err)
		op.outcome = wasUnknown
	}
}

// converge waits until all sidecars resolve the same.
func (r *run) converge() {
	r.Helper()
	deadline := time.Now().Add(patience)
	for slot := range r.Slots {
		for {
			answers := map[string]bool{}
			for n := range r.sidecars {
				op := operation{sidecar: n, slot: slot, kind: opResolve}
				r.perform(&op)
				answers[fmt.Sprint(op.outcome, op.value, op.revision)] = true
				if op.outcome == wasNotDone {
					answers["again"] = true
				}
			}
			if len(answers) == 1 {
				break
			}
			if time.Now().After(deadline) {
				r.Fatalf("the sidecars still differ: %v", answers)
			}
			time.Sleep(breath)
		}
	}
}
