package vault

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// Event is one change of a slot: never a value.
type Event struct {
	// Revision is where a watch goes on after this event. Of several events of one
	// commit only the last has it, so that none is lost between them.
	Revision Revision
	// Reset says that changes were missed: what the receiver knows is to be read
	// afresh. Slot and Credential are then empty.
	Reset      bool
	Slot       Slot
	Credential *Credential // what the slot holds; nil: nothing any more
}

// How many changes a second are told to watchers, counted for each of them. One change
// that thousands watch would else keep requests from the processor until all of them
// know of it.
const (
	watchRate  = 20_000
	watchBurst = 200
)

// Watch calls f with every change of a slot that the caller's grant covers, from
// the revision after on (0: from this moment), until ctx ends or f returns an
// error. Changes that follow each other closely may be seen as one, with the last
// state. A watcher that is slower than the changes gets a Reset.
//
// alive is called at the start, every interval, and when an API key has changed, with
// the revision that a later watch goes on from; the caller's key is looked at again
// there. When it returns an error the watch ends with it.
func (v *Vault) Watch(ctx context.Context, c Caller, after Revision, f func(Event) error, interval time.Duration, alive func(Revision) error) (err error) {
	a := v.beginOn(c, ActionWatch, targetIntegration, "")
	if after == 0 {
		head, err := v.backend.Head(ctx)
		if err != nil {
			return a.close(ctx, storageError(err))
		}
		after = head.Revision
	}
	if err := alive(after); err != nil {
		return err
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	w := &watcher{v: v, caller: c, at: after, send: f}
	for {
		events, err := v.backend.Watch(ctx, w.at)
		if errors.Is(err, backends.ErrCompacted) {
			if err := w.reset(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return watchError(ctx, err)
		}
		if err := w.follow(ctx, events, tick.C, alive); err != nil {
			return err
		}
	}
}

func watchError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return storageError(err)
}

type watcher struct {
	v      *Vault
	caller Caller
	at     Revision // the last one that was seen
	send   func(Event) error
}

// reset tells the receiver to read afresh, and goes on from now.
func (w *watcher) reset(ctx context.Context) error {
	head, err := w.v.backend.Head(ctx)
	if err != nil {
		return watchError(ctx, err)
	}
	w.at = head.Revision
	return w.send(Event{Revision: w.at, Reset: true})
}

// follow passes events on until the channel closes, which is no error unless the
// context ended: the backend closes it on those who fall behind.
func (w *watcher) follow(ctx context.Context, events <-chan backends.Event, tick <-chan time.Time, alive func(Revision) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
			if err := alive(w.at); err != nil {
				return err
			}
		case e, open := <-events:
			if !open {
				// A closed backend closes every channel: Watch says so.
				return nil
			}
			if err := w.pass(ctx, e); err != nil {
				return err
			}
			w.at = e.Revision
			if slices.ContainsFunc(e.Keys, isAPIKeyKey) {
				if err := alive(w.at); err != nil {
					return err
				}
			}
		}
	}
}

// isAPIKeyKey reports whether a storage key is an API key's.
func isAPIKeyKey(key string) bool { return strings.HasPrefix(key, apiKeyPrefix) }

// pass sends what a commit changed of the caller's slots.
func (w *watcher) pass(ctx context.Context, e backends.Event) error {
	prefix := livePrefix(w.caller.Org)
	var events []Event
	for _, key := range e.Keys {
		path, ours := strings.CutPrefix(key, prefix)
		if !ours {
			continue
		}
		slot, ok := parsePath(path)
		if !ok || !w.caller.usesIntegration(slot.Integration) || !w.caller.mayRead(w.v.envs, slot.Scope) {
			continue
		}
		if err := w.v.watchLimit.Wait(ctx); err != nil {
			return err
		}
		event := Event{Slot: slot}
		switch cred, err := w.v.live(ctx, w.caller.Org, slot); {
		case err == nil:
			event.Credential = &cred
		case !errors.Is(err, backends.ErrNotFound):
			return err
		}
		events = append(events, event)
	}
	for i, event := range events {
		if i == len(events)-1 {
			event.Revision = e.Revision
		}
		if err := w.send(event); err != nil {
			return err
		}
	}
	return nil
}

// parsePath reads what Slot.path wrote.
func parsePath(path string) (Slot, bool) {
	parts := strings.Split(path, "/")
	if len(parts) != 3 {
		return Slot{}, false
	}
	name, err := url.PathUnescape(parts[2])
	s := Slot{Integration: parts[0], Name: name}
	if parts[1] != sharedSegment {
		s.Scope = envs.Scope(parts[1])
	}
	return s, err == nil
}
