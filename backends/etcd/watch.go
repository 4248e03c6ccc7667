package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sidevault/sidevault/backends"
)

const (
	watchBuffer = 1024        // events that a receiver may fall behind
	slowGrace   = time.Second // that it has to catch up when it fell further behind

	watchPause     = 50 * time.Millisecond // before another stream
	lastWatchPause = 500 * time.Millisecond
)

// Watch goes on by itself when it lost its connection. It returns ErrCompacted for a
// revision whose successors the cluster has compacted away.
func (b *Backend) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	defer b.leave()
	from, err := b.locate(ctx, after)
	if err != nil {
		return nil, err
	}
	events := make(chan backends.Event, watchBuffer)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(b.watching, cancel)
	b.watchers.Go(func() {
		defer close(events)
		defer cancel()
		defer stop()
		(&watcher{Backend: b, after: after, events: events}).run(ctx, from)
	})
	return events, nil
}

// watcher is one call of Watch. Everything up to after was handed over.
type watcher struct {
	*Backend
	after  backends.Revision
	events chan<- backends.Event
}

// run follows the head from an etcd revision on until ctx ends or it cannot go on
// without a gap.
func (w *watcher) run(ctx context.Context, from int64) {
	for w.follow(ctx, from) {
		pause := watchPause
		for again := true; again; pause = min(2*pause, lastWatchPause) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			var err error
			from, err = w.locate(ctx, w.after)
			if again = errors.Is(err, backends.ErrUnavailable); err != nil && !again {
				return
			}
		}
	}
}

// follow hands over the events of one stream. It returns true when the stream ended
// and another one is to go on from there.
func (w *watcher) follow(ctx context.Context, from int64) bool {
	stream, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range w.client.Watch(stream, w.layout.head(), clientv3.WithRev(from), clientv3.WithProgressNotify()) {
		if resp.Err() != nil {
			break
		}
		for _, e := range resp.Events {
			j, err := parseJournal(e.Kv.Value)
			if err != nil || !w.handOver(ctx, j) {
				return false
			}
		}
	}
	return ctx.Err() == nil
}

// handOver returns false when the receiver does not keep up.
func (w *watcher) handOver(ctx context.Context, j journal) bool {
	for _, e := range j.events(w.after) {
		if len(e.Keys) > 0 && !w.offer(ctx, e) {
			return false
		}
		w.after = e.Revision
	}
	return true
}

func (w *watcher) offer(ctx context.Context, e backends.Event) bool {
	select {
	case w.events <- e:
		return true
	default:
	}
	late := time.NewTimer(slowGrace)
	defer late.Stop()
	select {
	case w.events <- e:
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// locate returns the etcd revision to watch the head from, so that the first event is
// that of the first commit above after.
func (b *Backend) locate(ctx context.Context, after backends.Revision) (int64, error) {
	at, err := b.readHead(ctx, false)
	switch {
	case err != nil:
		return 0, err
	case after > at.Revision:
		return 0, fmt.Errorf("%w: revision %d, the last one is %d", backends.ErrCompacted, after, at.Revision)
	case after == at.Revision:
		return at.store + 1, nil
	}
	return b.search(ctx, at, after)
}

// search finds the first head above the revision after in the history that leads to
// at: in growing steps back, then by halves.
func (b *Backend) search(ctx context.Context, at position, after backends.Revision) (int64, error) {
	first, below, galloping := at, int64(0), true
	for step := int64(1); first.mod-below > 1; step *= 2 {
		probe := below + (first.mod-below)/2
		if galloping {
			probe = max(1, first.mod-step)
		}
		older, err := b.readHead(ctx, false, clientv3.WithRev(probe))
		switch {
		case err != nil && !errors.Is(err, backends.ErrCompacted):
			return 0, err
		case err != nil, older.mod == 0, older.Revision <= after:
			below, galloping = probe, false
		default:
			first = older
		}
	}
	if events := first.events(0); len(events) == 0 || events[0].Revision > after+1 {
		return 0, fmt.Errorf("%w: revision %d: the cluster was compacted since", backends.ErrCompacted, after)
	}
	return first.mod, nil
}
