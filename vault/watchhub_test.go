package vault_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault"
)

// cutting is storage whose watches end after a few events, as those of a connection do
// that is lost.
type cutting struct{ backends.Backend }

func (c cutting) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	in, err := c.Backend.Watch(ctx, after)
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan backends.Event)
	go func() {
		defer close(out)
		defer cancel()
		for range 7 {
			e, open := <-in
			if !open {
				return
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// watching is what one watcher has seen.
type watching struct {
	name   string
	caller vault.Caller
	slow   bool // it does not take its first event before all is written
	from   vault.Revision
	seen   []vault.Revision
}

// concerns reports whether the watcher is to see what happens to a storage key.
func (w *watching) concerns(key string) bool {
	return strings.HasPrefix(key, "live/") && (w.caller.Admin || strings.Contains(key, "/staging/") || strings.Contains(key, "/@shared/"))
}

// TestWatchersMissNothing has watchers of two grants begin anywhere while others write:
// each sees every commit that concerns it, once and in order, also when it falls behind
// and when storage's watches are cut.
func TestWatchersMissNothing(t *testing.T) {
	for name, around := range map[string]func(backends.Backend) backends.Backend{
		"storage":       func(b backends.Backend) backends.Backend { return b },
		"watches ended": func(b backends.Backend) backends.Backend { return cutting{b} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, vault.Options{})
			f.config.Backend = around(f.backend)
			f.Vault = f.open()
			k, err := f.CreateKey(t.Context(), f.admin, vault.KeyInput{Name: "k", Environments: []string{"staging"}, Integrations: []string{"salesforce"}})
			if err != nil {
				t.Fatal(err)
			}
			testWatchers(f, f.caller(k.Secret))
		})
	}
}

func testWatchers(f *fixture, user vault.Caller) {
	const writers, sets, watchers = 4, 100, 8
	t := f.t
	head, err := f.backend.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var writing, reading sync.WaitGroup
	var last atomic.Uint64 // the revision that all must see
	written := make(chan struct{})
	all := make([]*watching, watchers)
	for i := range writers {
		environment := []string{"staging", "production", "", "development"}[i]
		writing.Go(func() {
			for n := range sets {
				f.set("salesforce", environment, fmt.Sprint(n))
			}
		})
	}
	for i := range all {
		all[i] = &watching{name: fmt.Sprint("watcher ", i), caller: f.admin, slow: i%3 == 0}
		if i%2 == 0 {
			all[i].caller = user
		}
		after := vault.Revision(0)
		if i%4 > 1 {
			after = head.Revision
		}
		reading.Go(func() { f.watch(all[i], after, written, &last) })
	}
	writing.Wait()
	set := f.set("salesforce", "", "the last")
	last.Store(uint64(set.Credential.Revision))
	close(written)
	reading.Wait()
	events := f.events(head.Revision, set.Credential.Revision)
	for _, w := range all {
		var want []vault.Revision
		for _, e := range events {
			if e.Revision > w.from && len(e.Keys) > 0 && w.concerns(e.Keys[0]) {
				want = append(want, e.Revision)
			}
		}
		if diff := cmp.Diff(want, w.seen); diff != "" || len(want) == 0 {
			t.Errorf("%s, from %d (-want +got):\n%s", w.name, w.from, diff)
		}
	}
}

// watch watches until the last revision that is written.
func (f *fixture) watch(w *watching, after vault.Revision, written <-chan struct{}, last *atomic.Uint64) {
	err := f.Watch(f.t.Context(), w.caller, after, func(e vault.Event) error {
		if w.slow {
			<-written
		}
		if e.Reset {
			return fmt.Errorf("reset at %d", e.Revision)
		}
		w.seen = append(w.seen, e.Revision)
		if end := last.Load(); end != 0 && e.Revision >= vault.Revision(end) {
			return errEnough
		}
		return nil
	}, time.Minute, func(at vault.Revision) error {
		if w.from == 0 {
			w.from = at
		}
		return nil
	})
	if err != errEnough {
		f.t.Errorf("%s: %v", w.name, err)
	}
}

// events returns the commits that changed a slot, and their slots alone.
func (f *fixture) events(after, upTo vault.Revision) (list []backends.Event) {
	f.t.Helper()
	events, err := f.backend.Watch(f.t.Context(), after)
	if err != nil {
		f.t.Fatal(err)
	}
	for e := range events {
		var live []string
		for _, key := range e.Keys {
			if strings.HasPrefix(key, "live/") {
				live = append(live, key)
			}
		}
		list = append(list, backends.Event{Revision: e.Revision, Keys: live})
		if e.Revision >= upTo {
			break
		}
	}
	return list
}

// A sign of life names the last commit also where that concerned others: whoever goes
// on from there later is spared what storage may have forgotten by then.
func TestWatchMovesOn(t *testing.T) {
	f := newFixture(t, vault.Options{})
	k, err := f.CreateKey(t.Context(), f.admin, vault.KeyInput{Name: "k", Environments: []string{"staging"}, Integrations: []string{"salesforce"}})
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	var once sync.Once
	var unseen atomic.Uint64
	done := make(chan error)
	go func() {
		done <- f.Watch(t.Context(), f.caller(k.Secret), 0, func(e vault.Event) error {
			return fmt.Errorf("an event of %v", e.Slot)
		}, time.Millisecond, func(at vault.Revision) error {
			once.Do(func() { close(begun) })
			if end := unseen.Load(); end != 0 && at >= vault.Revision(end) {
				return errEnough
			}
			return nil
		})
	}()
	<-begun
	unseen.Store(uint64(f.set("salesforce", "production", "x").Credential.Revision))
	select {
	case err := <-done:
		if err != errEnough {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the watch stands still")
	}
}

// A key that is revoked ends the watches of that key, and those of others do not look.
func TestWatchLooksAtItsKey(t *testing.T) {
	f := newFixture(t, vault.Options{})
	newKey := func(name string) vault.NewKey {
		k, err := f.CreateKey(t.Context(), f.admin, vault.KeyInput{Name: name, Environments: []string{"staging"}, Integrations: []string{"salesforce"}})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	ended, seen := make(chan string, 2), make(chan struct{})
	var begun sync.WaitGroup
	begun.Add(2)
	ctx, cancel := context.WithCancel(t.Context())
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel()
	keys := map[string]vault.NewKey{"revoked": newKey("revoked"), "kept": newKey("kept")}
	for name, k := range keys {
		caller := f.caller(k.Secret)
		watches.Go(func() {
			looks := 0
			err := f.Watch(ctx, caller, 0, func(vault.Event) error {
				close(seen)
				return nil
			}, time.Hour, func(vault.Revision) error {
				if looks++; looks == 1 {
					begun.Done()
					return nil
				}
				ended <- name
				_, err := f.Authenticate(ctx, k.Secret)
				return err
			})
			if name == "revoked" && vault.KindOf(err) != vault.Unauthorized {
				t.Errorf("the watch of a revoked key ends with %v", err)
			}
		})
	}
	begun.Wait()
	newKey("another")
	if _, err := f.RevokeKey(t.Context(), f.admin, keys["revoked"].ID); err != nil {
		t.Fatal(err)
	}
	if first := <-ended; first != "revoked" {
		t.Errorf("the first that looks at its key is %s", first)
	}
	f.set("salesforce", "staging", "x")
	select {
	case <-seen: // what came before that it has passed over
	case <-time.After(30 * time.Second):
		t.Fatal("the watch of the other key stands still")
	}
	if len(ended) > 0 {
		t.Errorf("%s looks at its key, too", <-ended)
	}
}
