package vault

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// Event is one change of a slot: never a value. It is shared: nobody changes it.
type Event struct {
	// Revision is where a watch goes on after this event. Of several events of one
	// commit only the last has it, so that none is lost between them.
	Revision Revision
	// Reset says that changes were missed: what the receiver knows is to be read
	// afresh. Slot and Credential are then empty.
	Reset      bool
	Slot       Slot
	Credential *Credential // what the slot holds; nil: nothing any more
	// Memo is the same one for all who are told of this change.
	Memo *Memo
}

// Memo keeps what one receiver of an event makes of it, such as its text, for the
// others. Of nil it keeps nothing.
type Memo struct {
	once sync.Once
	text []byte
	err  error
}

// Text returns what f, which must always return the same, returned when Text was first
// called. Nobody changes it.
func (m *Memo) Text(f func() ([]byte, error)) ([]byte, error) {
	if m == nil {
		return f()
	}
	m.once.Do(func() { m.text, m.err = f() })
	return m.text, m.err
}

// Watch calls f with every change of a slot that the caller's grant covers, from
// the revision after on (0: from this moment), until ctx ends or f returns an
// error. Changes that follow each other closely may be seen as one, with the last
// state. A watcher that is slower than the changes gets a Reset.
//
// alive is called at the start, every interval, and when the caller's API key may have
// changed, with the revision that a later watch goes on from; the caller's key is looked
// at again there. When it returns an error the watch ends with it.
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
	w := &watcher{v: v, caller: c, at: after, send: f, alive: alive, tick: tick.C}
	for {
		if err := w.follow(ctx); err != nil {
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
	alive  func(Revision) error
	tick   <-chan time.Time
}

// follow catches up with the others who watch and goes on with them, until it falls
// behind or storage's watch ends, which is no error.
func (w *watcher) follow(ctx context.Context) error {
	m, from, err := w.v.watches.join(ctx, w.caller)
	if err != nil {
		return watchError(ctx, err)
	}
	defer m.leave()
	if w.at > from {
		if err := w.check(ctx); err != nil {
			return err
		}
	}
	for w.at < from {
		if err := w.catchUp(ctx, from); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.tick:
			w.at = m.position(w.at)
			if err := w.alive(w.at); err != nil {
				return err
			}
		case c, open := <-m.commits:
			if !open {
				w.at = m.position(w.at)
				return nil
			}
			if err := w.see(ctx, c); err != nil {
				return err
			}
		}
	}
}

// check resets a watcher that knows of more than there is: storage was restored from a
// backup.
func (w *watcher) check(ctx context.Context) error {
	head, err := w.v.backend.Head(ctx)
	if err != nil {
		return watchError(ctx, err)
	}
	if w.at <= head.Revision {
		return nil
	}
	return w.reset(head.Revision)
}

// reset tells the receiver to read afresh, and goes on from now.
func (w *watcher) reset(now Revision) error {
	w.at = now
	return w.send(Event{Revision: now, Reset: true})
}

// catchUp passes on what storage says to have come after the last that was seen, until
// that is as far as the others are, or storage's watch ends.
func (w *watcher) catchUp(ctx context.Context, from Revision) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := w.v.backend.Watch(ctx, w.at)
	if errors.Is(err, backends.ErrCompacted) {
		head, err := w.v.backend.Head(ctx)
		if err != nil {
			return watchError(ctx, err)
		}
		return w.reset(head.Revision)
	}
	if err != nil {
		return watchError(ctx, err)
	}
	for w.at < from {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.tick:
			if err := w.alive(w.at); err != nil {
				return err
			}
		case e, open := <-events:
			if !open {
				return nil
			}
			if err := w.see(ctx, w.v.commitOf(e)); err != nil {
				return err
			}
		}
	}
	return nil
}

// see passes on what concerns the watcher of a commit that it has not seen.
func (w *watcher) see(ctx context.Context, c *commit) error {
	if c.revision <= w.at {
		return nil
	}
	if err := w.pass(ctx, c); err != nil {
		return err
	}
	w.at = c.revision
	if c.concernsKey(w.caller) {
		return w.alive(w.at)
	}
	return nil
}

// pass sends what a commit changed of the caller's slots. Where others have not read
// that, it waits for its turn to.
func (w *watcher) pass(ctx context.Context, c *commit) error {
	var mine []*change
	for _, change := range c.changes {
		if !change.concerns(w.v, w.caller) {
			continue
		}
		if !c.wasRead {
			if err := w.v.watches.limit.Wait(ctx); err != nil {
				return err
			}
			change.read(ctx, w.v)
		}
		if change.err != nil {
			return watchError(ctx, change.err)
		}
		mine = append(mine, change)
	}
	for i, change := range mine {
		event := Event{Slot: change.slot, Credential: change.credential, Memo: &change.memo}
		if i == len(mine)-1 {
			event.Revision = c.revision
		}
		if err := w.send(event); err != nil {
			return err
		}
	}
	return nil
}

// parseLiveKey reads what liveKey wrote.
func parseLiveKey(key string) (org string, s Slot, ok bool) {
	path, ok := strings.CutPrefix(key, liveFamily)
	if !ok {
		return "", Slot{}, false
	}
	org, path, _ = strings.Cut(path, "/")
	s, ok = parsePath(path)
	return org, s, ok
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
