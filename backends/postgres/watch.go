package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/internal/feed"
)

const (
	changesPage = 500

	// heartbeat is how long the listener relies on notifications before it looks
	// by itself, which also tells it that its connection is dead.
	heartbeat = 5 * time.Second

	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Watch replays from the table of changes what came before this handle's first
// Watch, and goes on with what the listener hears. A lost connection is made up
// for from the table.
func (b *Backend) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	h, floor, err := b.state(ctx)
	switch {
	case err != nil:
		return nil, err
	case after > h.Revision:
		return nil, fmt.Errorf("%s: %w: revision %d, the last one is %d", b.place, backends.ErrCompacted, after, h.Revision)
	case after < floor:
		return nil, fmt.Errorf("%s: %w: revision %d, kept from %d on", b.place, backends.ErrCompacted, after, floor)
	}
	if err := b.calls.enter(ctx); err != nil {
		return nil, err
	}
	defer b.calls.leave()
	events, err := b.feedAt(h.Revision).Watch(ctx, after)
	if err == nil || ctx.Err() != nil {
		return events, err
	}
	out := make(chan backends.Event)
	b.watches.Go(func() {
		defer close(out)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(b.background, cancel)()
		b.replay(ctx, after, out)
	})
	return out, nil
}

// feedAt returns the feed. The first call makes it, of the events above at, and
// starts the listener.
func (b *Backend) feedAt(at backends.Revision) *feed.Feed {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.feed == nil {
		b.feed = feed.New(at)
		b.watches.Go(func() { b.listen(b.background, at) })
	}
	return b.feed
}

// restartFeed cuts off the watchers, who have missed events that are gone.
func (b *Backend) restartFeed(at backends.Revision) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.feed.Close()
	if b.background.Err() == nil {
		b.feed = feed.New(at)
	}
}

// replay hands out the events above after from the table until the feed has the
// next one, and then those of the feed.
func (b *Backend) replay(ctx context.Context, after backends.Revision, out chan<- backends.Event) {
	for {
		live, err := b.feedAt(after).Watch(ctx, after)
		if err == nil {
			forward(ctx, live, out)
			return
		}
		if !errors.Is(err, backends.ErrCompacted) && !errors.Is(err, backends.ErrClosed) {
			return
		}
		var p changesRead
		err = b.read(ctx, func(ctx context.Context, c *pgx.Conn) (err error) {
			p, err = b.readChanges(ctx, c, after)
			return err
		})
		if err != nil || after < p.floor || after > p.head {
			return
		}
		for _, e := range p.events {
			if !offer(ctx, e, out) {
				return
			}
		}
		after = p.upTo
	}
}

func forward(ctx context.Context, in <-chan backends.Event, out chan<- backends.Event) {
	for e := range in {
		if !offer(ctx, e, out) {
			return
		}
	}
}

func offer(ctx context.Context, e backends.Event, out chan<- backends.Event) bool {
	select {
	case out <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// changesRead is the events above a revision, as of one moment.
type changesRead struct {
	head, floor backends.Revision
	events      []backends.Event
	upTo        backends.Revision // events has all up to this revision
}

func (b *Backend) readChanges(ctx context.Context, c *pgx.Conn, after backends.Revision) (changesRead, error) {
	var p changesRead
	var head, floor int64
	var revision *int64
	var keys []string
	args := []any{clamp(uint64(after)), changesPage}
	err := each(ctx, c, b.sql.changes, args, []any{&head, &floor, &revision, &keys}, func() error {
		p.head, p.floor = backends.Revision(head), backends.Revision(floor)
		if revision != nil {
			p.events = append(p.events, backends.Event{Revision: backends.Revision(*revision), Keys: keys})
			keys, revision = nil, nil
		}
		return nil
	})
	p.upTo = max(p.head, after)
	if n := len(p.events); n == changesPage {
		p.upTo = p.events[n-1].Revision
	}
	return p, err
}

// listen feeds the events above last to the watchers until ctx ends, on a
// connection of its own, over as many connections as it takes.
func (b *Backend) listen(ctx context.Context, last backends.Revision) {
	backoff := minBackoff
	for ctx.Err() == nil {
		if heard := b.follow(ctx, &last); heard {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// follow listens on one connection until that fails, and reports whether it was
// ever good.
func (b *Backend) follow(ctx context.Context, last *backends.Revision) (heard bool) {
	c, err := pgx.ConnectConfig(ctx, b.dial.Copy())
	if err != nil {
		return false
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.Close(ctx)
	}()
	err = b.bounded(ctx, func(ctx context.Context) error {
		if err := b.prepareSession(ctx, c); err != nil {
			return err
		}
		_, err := c.Exec(ctx, b.sql.listen)
		return err
	})
	for err == nil {
		if err = b.bounded(ctx, func(ctx context.Context) error { return b.catchUp(ctx, c, last) }); err != nil {
			return heard
		}
		heard = true
		err = awaitNotification(ctx, c)
	}
	return heard
}

func (b *Backend) bounded(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return fn(ctx)
}

// awaitNotification returns nil when there is something to look at, or when it is
// time to look anyway.
func awaitNotification(ctx context.Context, c *pgx.Conn) error {
	waiting, cancel := context.WithTimeout(ctx, heartbeat)
	defer cancel()
	_, err := c.WaitForNotification(waiting)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil && !c.IsClosed() {
		return nil
	}
	return err
}

// catchUp publishes what was committed above last.
func (b *Backend) catchUp(ctx context.Context, c *pgx.Conn, last *backends.Revision) error {
	for {
		p, err := b.readChanges(ctx, c, *last)
		if err != nil {
			return err
		}
		if *last < p.floor || *last > p.head {
			*last = p.head
			b.restartFeed(p.head)
			return nil
		}
		b.mu.Lock()
		for _, e := range p.events {
			b.feed.Publish(e)
		}
		b.mu.Unlock()
		*last = p.upTo
		if len(p.events) < changesPage {
			return nil
		}
	}
}
