package vault

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sidevault/sidevault/backends"
)

const (
	// background is how many deliveries to one plugin run at once that nobody waits
	// for: fewer than a plugin takes, so that callers find room.
	background = 4
	// rescan is how often the outbox is read for what other processes left behind.
	rescan = 15 * time.Second
	// loadRetry is how soon it is read again after a failure.
	loadRetry = 2 * time.Second
	// leasePoll is how often a delivery of another process is looked at while a
	// caller waits for it.
	leasePoll = 250 * time.Millisecond
	// reportPause is the least time between two counts of what is pending.
	reportPause = time.Second
)

// courier delivers what the outbox holds: at once what was just committed, and with
// growing pauses what failed. One change of a slot is under way to one syncer at a
// time, so they arrive in their order. It keeps in memory when each is due; what
// is to be delivered, it reads from storage.
type courier struct {
	v     *Vault
	owner string // of leases: this process
	ctx   context.Context
	stop  context.CancelFunc
	wake  chan struct{}
	wg    sync.WaitGroup

	mu    sync.Mutex
	jobs  map[string]*job  // by outbox key
	queue queue            // those that wait for their time, soonest first
	lines map[string]*line // by plugin
	dirty map[string]bool  // plugins whose counts changed
	told  time.Time        // when the metrics were told last
}

// job is a pending change on its way to one syncer.
type job struct {
	key     string
	plugin  string
	since   time.Time // when the change was stored
	at      time.Time // when it is due
	index   int       // in the queue; notQueued
	running bool
	inLine  bool // it waits in its plugin's line
	again   bool // it is due once more when the delivery under way ends
	waiting []chan<- error
}

// notQueued is the index of a job that is running, or waits in its plugin's line.
const notQueued = -1

// line is what is due for one plugin and waits for room.
type line struct {
	running int
	due     []*job
}

func startCourier(v *Vault) *courier {
	c := &courier{
		v: v, owner: uuid.NewString(), wake: make(chan struct{}, 1),
		jobs: map[string]*job{}, lines: map[string]*line{}, dirty: map[string]bool{},
	}
	c.ctx, c.stop = context.WithCancel(backends.Fresh(context.Background()))
	c.wg.Go(c.load)
	c.wg.Go(c.run)
	return c
}

// close ends the deliveries under way and waits for that as long as ctx allows.
func (c *courier) close(ctx context.Context) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	c.stop()
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("a plugin call did not end")
	}
}

// load finds what is pending in storage: once, or again and again where others
// share it.
func (c *courier) load() {
	failed := false
	for {
		pause := rescan
		err := c.loadOnce()
		if err != nil && !failed && c.ctx.Err() == nil {
			c.v.log.Error("the pending syncs could not be read; they are tried again", "err", err)
		}
		if failed = err != nil; failed {
			pause = loadRetry
		} else if c.v.exclusive {
			return
		}
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (c *courier) loadOnce() error {
	return each(c.ctx, c.v.backend, outboxFamily, func(r backends.Record) error {
		var d outboxDoc
		if c.v.decode(c.ctx, r, &d) != nil {
			return nil // counted and logged; nothing is delivered for it
		}
		at := d.NextAttempt
		if d.Lease.holds(c.v.now()) && d.Lease.By != c.owner && !c.v.exclusive {
			at = d.Lease.Until
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.jobs[r.Key] == nil {
			c.push(&job{key: r.Key, plugin: d.Plugin, since: d.ChangedAt, at: at})
		}
		return nil
	})
}

// send makes a change that was just committed due. When its caller waits for it the
// result comes through the channel; else the channel is nil.
func (c *courier) send(p pendingSync) <-chan error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.jobs[p.key]
	if j == nil {
		j = &job{key: p.key, plugin: p.binding.Plugin, index: notQueued}
		c.jobs[p.key] = j
	}
	j.since, j.plugin = p.since, p.binding.Plugin
	var result chan error
	if p.surface {
		result = make(chan error, 1)
		j.waiting = append(j.waiting, result)
	}
	c.expedite(j, p.surface)
	return result
}

// hurry makes a pending change due at once, if it is known.
func (c *courier) hurry(key string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.jobs[key]; j != nil {
		c.expedite(j, false)
	}
}

// expedite makes a job due; past its plugin's line when somebody waits for it.
func (c *courier) expedite(j *job, urgent bool) {
	c.dirty[j.plugin] = true
	switch {
	case j.running:
		j.again = true
	case urgent:
		c.remove(j)
		c.begin(j, false)
	case !j.inLine:
		c.remove(j)
		j.at = c.v.now()
		c.push(j)
	}
}

// push puts a job into the queue.
func (c *courier) push(j *job) {
	c.jobs[j.key] = j
	c.dirty[j.plugin] = true
	heap.Push(&c.queue, j)
	c.nudge()
}

// remove takes a job out of wherever it waits.
func (c *courier) remove(j *job) {
	if j.index != notQueued {
		heap.Remove(&c.queue, j.index)
	}
	if j.inLine {
		l := c.line(j.plugin)
		l.due = slices.DeleteFunc(l.due, func(other *job) bool { return other == j })
		j.inLine = false
	}
}

// run starts what is due, until the courier is closed.
func (c *courier) run() {
	for {
		timer := time.NewTimer(c.dispatch())
		select {
		case <-c.ctx.Done():
			timer.Stop()
			return
		case <-c.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// dispatch starts what is due, and returns how long nothing else will be.
func (c *courier) dispatch() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.v.now()
	for len(c.queue) > 0 && !c.queue[0].at.After(now) {
		j := heap.Pop(&c.queue).(*job)
		l := c.line(j.plugin)
		l.due, j.inLine = append(l.due, j), true
	}
	for _, l := range c.lines {
		for l.running < background && len(l.due) > 0 {
			j := l.due[0]
			l.due, j.inLine = l.due[1:], false
			c.begin(j, true)
		}
	}
	wait := rescan
	if len(c.dirty) > 0 {
		wait = c.report(now)
	}
	if len(c.queue) > 0 {
		wait = min(wait, c.queue[0].at.Sub(now))
	}
	return max(wait, time.Millisecond)
}

func (c *courier) line(plugin string) *line {
	l := c.lines[plugin]
	if l == nil {
		l = new(line)
		c.lines[plugin] = l
	}
	return l
}

// begin starts a delivery. c.mu is held.
func (c *courier) begin(j *job, inLine bool) {
	if c.ctx.Err() != nil {
		return
	}
	j.running, j.again = true, false
	l := c.line(j.plugin)
	if inLine {
		l.running++
	}
	c.wg.Go(func() {
		next, err := c.deliver(j.key)
		c.mu.Lock()
		defer c.mu.Unlock()
		if inLine {
			l.running--
		}
		c.finish(j, next, err)
	})
}

// finish tells those who wait for a delivery how it ended, and when the change is
// due again; the zero time: never. c.mu is held.
func (c *courier) finish(j *job, next time.Time, err error) {
	j.running = false
	leased := errors.Is(err, errLeased)
	if leased && len(j.waiting) > 0 {
		next = c.v.now().Add(leasePoll)
	}
	switch {
	case j.again && len(j.waiting) > 0:
		c.begin(j, false) // what they wait for may be newer than what was delivered
		return
	case j.again:
		next = c.v.now()
	case !leased:
		for _, w := range j.waiting {
			w <- err
		}
		j.waiting = nil
	}
	c.dirty[j.plugin] = true
	if next.IsZero() {
		delete(c.jobs, j.key)
		c.nudge()
		return
	}
	j.at = next
	c.push(j)
}

// nudge has dispatch look at the lines again.
func (c *courier) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// report tells the metrics what waits for the plugins whose counts changed, but not
// more often than once in reportPause; it returns how long that is from now. c.mu is held.
func (c *courier) report(now time.Time) time.Duration {
	if wait := c.told.Add(reportPause).Sub(now); wait > 0 {
		return wait
	}
	n, oldest := map[string]int{}, map[string]time.Time{}
	for _, j := range c.jobs {
		n[j.plugin]++
		if at, known := oldest[j.plugin]; !known || j.since.Before(at) {
			oldest[j.plugin] = j.since
		}
	}
	for plugin := range c.dirty {
		c.v.metrics.SyncsPending(plugin, n[plugin], oldest[plugin])
	}
	clear(c.dirty)
	c.told = now
	return rescan
}

// queue is a heap of jobs by the time when they are due (see [container/heap]).
type queue []*job

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push is called by container/heap.
func (q *queue) Push(x any) {
	j := x.(*job)
	j.index = len(*q)
	*q = append(*q, j)
}

// Pop is called by container/heap.
func (q *queue) Pop() any {
	old := *q
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	j.index = notQueued
	return j
}
