package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sidevault/sidevault/backends"
)

const (
	// heartbeat is how often storage is asked whether it is there while the watch is
	// established: an event that does not come looks like none.
	heartbeat = 2 * time.Second
	// The pauses between attempts to establish a watch, of which up to half is
	// chance.
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

var errWatchEnded = errors.New("the watch ended")

// follower is what only the goroutine that follows the watch uses.
type follower struct {
	epoch   uint64            // of the last watch
	resumes bool              // seen is where to go on from
	seen    backends.Revision // the last event's
	told    int               // the loss that OnError knows of
}

// run keeps a watch established until Close, or until storage is closed.
func (c *Cache) run() {
	defer close(c.ended)
	defer c.valid.Store(0)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		began := c.clock()
		live, err := c.follow()
		c.valid.Store(0)
		if errors.Is(err, backends.ErrUnavailable) {
			c.away.Store(&err)
		}
		if c.ctx.Err() != nil || errors.Is(err, backends.ErrClosed) {
			return
		}
		if !live || errors.Is(err, backends.ErrUnavailable) {
			c.tell(err) // a watch that ended may be back at once
		}
		if live && c.clock()-began > lastPause {
			pause = firstPause
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(pause - rand.N(pause/2)):
		}
	}
}

// follow establishes a watch and follows it until it or storage is lost.
func (c *Cache) follow() (live bool, err error) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	began := c.clock()
	head, err := c.probe(ctx)
	if err != nil {
		return false, err
	}
	select {
	case <-c.kick: // of a read from before the probe
	default:
	}
	c.away.Store(nil)
	events, err := c.subscribe(ctx, cancel, head)
	if err != nil {
		return false, err
	}
	if !c.follower.resumes {
		// No event will say what happened to what was read before.
		c.clear()
		c.right.Store(int64(began))
		c.follower.resumes = true
	}
	c.follower.epoch++
	c.valid.Store(c.follower.epoch)
	c.tell(nil)
	return true, c.keep(ctx, events)
}

// The losses, from bad to worse.
const (
	lostNothing = iota
	lostWatch
	lostStorage
)

// tell passes on that something was lost, or something worse, or that all is back,
// once.
func (c *Cache) tell(err error) {
	loss := lostNothing
	switch {
	case errors.Is(err, backends.ErrUnavailable):
		loss = lostStorage
	case err != nil:
		loss = lostWatch
	}
	if told := c.follower.told; loss > told || loss == lostNothing && told != lostNothing {
		c.follower.told = loss
		c.onError(err)
	}
}

// probe asks storage where it stands. No answer means that it is away.
func (c *Cache) probe(ctx context.Context) (backends.Head, error) {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	head, err := c.inner.Head(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: no answer within %v", backends.ErrUnavailable, c.timeout)
	}
	return head, err
}

// subscribe watches from the last event that was seen or, where those after it are
// gone, from head.
func (c *Cache) subscribe(ctx context.Context, cancel context.CancelFunc, head backends.Head) (<-chan backends.Event, error) {
	limit := time.AfterFunc(c.timeout, cancel) // a context with a deadline would end the watch too
	defer limit.Stop()
	f := &c.follower
	if f.resumes {
		events, err := c.inner.Watch(ctx, f.seen)
		if !errors.Is(err, backends.ErrCompacted) {
			return events, err
		}
		f.resumes = false
	}
	f.seen = head.Revision
	return c.inner.Watch(ctx, f.seen)
}

func (c *Cache) clear() {
	for i := range c.shards {
		c.shards[i].clear()
	}
}

// keep applies events until the watch ends or storage is found to be away.
func (c *Cache) keep(ctx context.Context, events <-chan backends.Event) error {
	answers := make(chan error, 1)
	due := time.NewTimer(heartbeat)
	defer due.Stop()
	var asked time.Duration // when the probe under way began; 0: none is
	ask := func() {
		if asked != 0 {
			return
		}
		asked = c.clock()
		go func() {
			_, err := c.probe(ctx)
			answers <- err
		}()
	}
	for {
		select {
		case e, open := <-events:
			if !open {
				return errWatchEnded
			}
			c.apply(e)
			c.follower.seen = e.Revision
		case <-c.kick:
			return c.reason()
		case <-c.suspect:
			ask()
		case <-due.C:
			ask()
		case err := <-answers:
			if err != nil {
				return err
			}
			c.right.Store(int64(asked))
			asked = 0
			due.Reset(heartbeat)
		}
	}
}

// reason returns why storage is away.
func (c *Cache) reason() error {
	if reason := c.away.Load(); reason != nil {
		return *reason
	}
	return errWatchEnded
}
