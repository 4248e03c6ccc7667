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
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
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
	// pause is how long a client waits after storage was away.
	pause = 5 * time.Millisecond
)

// Run makes a vault in the storage, has clients use it, and checks their answers.
func Run(t *testing.T, s Storage, o Options) {
	t.Helper()
	o = o.complete()
	t.Logf("seed %d", o.Seed)
	r := &run{T: t, Options: o, began: time.Now()}
	r.sidecars = openSidecars(t, s, o)
	disturbed, calm := context.WithCancel(t.Context())
	var disturbing, clients sync.WaitGroup
	if s.Disturb != nil {
		disturbing.Go(func() { s.Disturb(disturbed) })
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

// sidecar is a vault on a handle of its own.
type sidecar struct {
	vault  *vault.Vault
	caller vault.Caller
}

func openSidecars(t *testing.T, s Storage, o Options) []sidecar {
	t.Helper()
	open := func() backends.Backend {
		b, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if o.Cached {
			b = cache.New(b, cache.Options{MaxStale: time.Minute})
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	made, err := vault.Init(t.Context(), vault.InitConfig{
		Backend: open(), Roots: []string{root.Recipient().String()}, Envs: tree, Org: "default", AdminName: "admin",
	})
	if err != nil {
		t.Fatal(err)
	}
	list := make([]sidecar, o.Sidecars)
	for n := range list {
		v, err := vault.Open(t.Context(), vault.Config{
			Backend: open(), Envs: tree, Catalog: catalog{}, Identities: []age.Identity{root}, Trusted: made.Trusted,
			Options: vault.Options{ReadGrace: time.Hour, Stale: func() time.Duration { return 1 }},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := v.Close(ctx); err != nil {
				t.Errorf("close a sidecar: %v", err)
			}
		})
		list[n] = sidecar{vault: v, caller: authenticate(t, v, made.Admin.Secret)}
	}
	return list
}

func authenticate(t *testing.T, v *vault.Vault, key secret.Value) vault.Caller {
	t.Helper()
	c, err := v.Authenticate(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	c.Origin = vault.Origin{Source: "rest", Peer: "127.0.0.1:1", RequestID: "linear"}
	return c
}

// catalog has one integration.
type catalog struct{}

var integration = vault.Integration{Key: "salesforce", Name: "Salesforce", Category: "crm", Enabled: true}

func (catalog) All() []vault.Integration { return []vault.Integration{integration} }

func (catalog) Lookup(key string) (vault.Integration, bool) {
	return integration, key == integration.Key
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
			time.Sleep(pause)
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
	v, c := r.sidecars[op.sidecar].vault, r.sidecars[op.sidecar].caller
	name := fmt.Sprintf("slot-%d", op.slot)
	slot, err := v.Slot(integration.Key, nil, name)
	if err != nil {
		r.Error(err)
		return
	}
	op.call = time.Since(r.began)
	switch op.kind {
	case opSet, opCreate:
		var set vault.SetResult
		in := vault.SetInput{Fields: seal.Fields{vault.ValueField: secret.New(op.value)}, MustCreate: op.kind == opCreate}
		set, err = v.Set(ctx, c, slot, in)
		op.version, op.revision, op.created = set.Credential.Version, set.Credential.Revision, set.Created
	case opRemove:
		var removed vault.Removed
		removed, err = v.Remove(ctx, c, slot, vault.RemoveOptions{})
		op.revision = removed.Credential.Revision
	case opResolve:
		var found vault.Resolved
		found, err = v.Resolve(ctx, c, slot, vault.ResolveOptions{NoFallback: true})
		if err == nil {
			op.value = found.Fields[vault.ValueField].Reveal() // not a secret: value-N
		}
		op.version, op.revision = found.Version, found.Credential.Revision
	}
	op.end = time.Since(r.began)
	op.outcome = r.classify(op, err)
}

// classify says what an answer means.
func (r *run) classify(op *operation, err error) outcome {
	switch vault.KindOf(err) {
	case vault.CredentialNotFound:
		return wasNone
	case vault.CredentialDeleted:
		return wasGone
	case vault.CredentialExists:
		return wasTaken
	case vault.BackendUnavailable:
		if op.kind == opResolve || !errors.Is(err, backends.ErrUnknownOutcome) {
			return wasNotDone
		}
		return wasUnknown
	}
	if err == nil {
		return wasDone
	}
	r.Errorf("%v: %v", op, err)
	return wasUnknown
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
			time.Sleep(pause)
		}
	}
}
