package vault

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/sidevault/sidevault/backends"
)

// How many watchers a second are told of changes. One change that thousands watch would
// else keep requests from the processor until all of them know of it.
const (
	watchRate  = 20_000
	watchBurst = 10
)

// watchBehind is how many commits that concern it a watcher may fall behind before it
// has to read on in storage.
const watchBehind = 64

// watchHub follows storage once for all who watch. It reads what a commit changed once,
// and wakes those alone whom that concerns: commits are many, since what is read is
// counted in storage, too. While nobody watches it does nothing.
type watchHub struct {
	v     *Vault
	limit *rate.Limiter

	mu  sync.Mutex
	run *hubRun // nil: there is none
	// resume is where the next run goes on from when one has ended before its members;
	// 0: it begins with the last commit.
	resume Revision
}

// hubRun is one watch of storage, which ends with its last member, or with storage's.
type hubRun struct {
	hub    *watchHub
	cancel context.CancelFunc
	ready  chan struct{} // closed when the watch has begun, or has not: err
	err    error

	// Under the hub's lock.
	at      Revision // what is above is yet to be handed out
	members map[*member]struct{}
}

// member is a watcher's part in a run.
type member struct {
	run     *hubRun
	caller  Caller
	commits chan *commit // closed when the run ends, and when the member falls behind

	// Under the hub's lock.
	upTo   Revision // what concerns the member is in commits up to here
	behind bool
}

func newWatchHub(v *Vault) *watchHub {
	return &watchHub{v: v, limit: rate.NewLimiter(watchRate, watchBurst)}
}

// join returns a member, which is to leave, and the revision from which on it gets what
// concerns it. It may get some of what was before.
func (h *watchHub) join(ctx context.Context, c Caller) (*member, Revision, error) {
	h.mu.Lock()
	if h.run == nil {
		h.begin()
	}
	r := h.run
	m := &member{run: r, caller: c, commits: make(chan *commit, watchBehind), upTo: r.at}
	r.members[m] = struct{}{}
	h.mu.Unlock()
	select {
	case <-r.ready:
	case <-ctx.Done():
		m.leave()
		return nil, 0, ctx.Err()
	}
	if r.err != nil {
		m.leave()
		return nil, 0, r.err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return m, r.at, nil
}

// begin makes a run. The lock is held.
func (h *watchHub) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	h.run = &hubRun{hub: h, cancel: cancel, ready: make(chan struct{}), members: map[*member]struct{}{}}
	go h.run.follow(ctx, h.resume)
	h.resume = 0
}

// leave ends a membership, and the run with the last one.
func (m *member) leave() {
	h := m.run.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(m.run.members, m)
	if len(m.run.members) > 0 {
		return
	}
	m.run.cancel()
	if h.run == m.run {
		h.run = nil
	}
}

// position returns up to where the member, who has seen what was up to a revision, has
// nothing more to see.
func (m *member) position(seen Revision) Revision {
	h := m.run.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.behind || len(m.commits) > 0 {
		return seen
	}
	return max(seen, m.upTo)
}

func (r *hubRun) follow(ctx context.Context, resume Revision) {
	defer r.end()
	events, err := r.watch(ctx, resume)
	r.err = err
	close(r.ready)
	if err != nil {
		return
	}
	for e := range events {
		if r.publish(ctx, e) != nil {
			return
		}
	}
}

// watch watches storage from a revision on or, where that is 0 or what came after it is
// gone, from the last commit.
func (r *hubRun) watch(ctx context.Context, from Revision) (<-chan backends.Event, error) {
	backend := r.hub.v.backend
	if from > 0 {
		events, err := backend.Watch(ctx, from)
		if !errors.Is(err, backends.ErrCompacted) {
			r.start(from)
			return events, err
		}
	}
	head, err := backend.Head(ctx)
	if err != nil {
		return nil, err
	}
	r.start(head.Revision)
	return backend.Watch(ctx, head.Revision)
}

func (r *hubRun) start(at Revision) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.at = at
}

// end sends the members to look for another run.
func (r *hubRun) end() {
	h := r.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	r.cancel()
	if h.run == r {
		h.run = nil
		h.resume = r.at
	}
	for m := range r.members {
		if !m.behind {
			close(m.commits)
		}
	}
}

// publish hands a commit to those whom it concerns, a few at a time.
func (r *hubRun) publish(ctx context.Context, e backends.Event) error {
	c := r.hub.v.commitOf(e)
	if err := c.read(ctx, r.hub.v); err != nil {
		return err
	}
	concerned := r.concerned(c)
	for part := range slices.Chunk(concerned, watchBurst) {
		if err := r.hub.limit.WaitN(ctx, len(part)); err != nil {
			return err
		}
		r.hand(c, part)
	}
	return nil
}

// concerned returns the members whom a commit concerns. The others have seen it with
// that, and who joins from then on knows that it has been.
func (r *hubRun) concerned(c *commit) (list []*member) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	for m := range r.members {
		switch {
		case m.behind:
		case c.concerns(r.hub.v, m.caller):
			list = append(list, m)
		default:
			m.upTo = c.revision
		}
	}
	r.at = c.revision
	return list
}

func (r *hubRun) hand(c *commit, to []*member) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	for _, m := range to {
		select {
		case m.commits <- c:
			m.upTo = c.revision
		default:
			m.behind = true
			close(m.commits)
		}
	}
}

// commit is what a commit changed that watchers are told of. It is not changed once it
// was read.
type commit struct {
	revision Revision
	changes  []*change
	keys     []string // of API keys, in storage
	// speakers are the IDs of these keys; nil with keys: they are not known.
	speakers []string
	wasRead  bool
}

// change is a slot that was changed, and how it is since.
type change struct {
	org        string
	slot       Slot
	credential *Credential // nil: there is none
	err        error
	memo       Memo
}

func (v *Vault) commitOf(e backends.Event) *commit {
	c := &commit{revision: e.Revision}
	for _, key := range e.Keys {
		if strings.HasPrefix(key, apiKeyPrefix) {
			c.keys = append(c.keys, key)
		}
		if org, slot, ok := parseLiveKey(key); ok {
			c.changes = append(c.changes, &change{org: org, slot: slot})
		}
	}
	return c
}

// read reads the state of what was changed. It returns an error when ctx has ended.
func (c *commit) read(ctx context.Context, v *Vault) error {
	c.wasRead = true
	for _, change := range c.changes {
		change.read(ctx, v)
	}
	for _, key := range c.keys {
		known, err := kept(ctx, v, key, apiKeyDoc.parsed)
		if err != nil {
			c.speakers = nil
			break
		}
		c.speakers = append(c.speakers, known.ID)
	}
	return ctx.Err()
}

func (c *change) read(ctx context.Context, v *Vault) {
	credential, err := v.glance(ctx, Org{ID: c.org}, c.slot)
	switch {
	case err == nil:
		c.credential = &credential.Credential
	case !errors.Is(err, backends.ErrNotFound):
		c.err = err
	}
}

// concerns reports whether a watcher is to be told of anything in the commit.
func (c *commit) concerns(v *Vault, caller Caller) bool {
	return c.concernsKey(caller) || slices.ContainsFunc(c.changes, func(change *change) bool { return change.concerns(v, caller) })
}

// concernsKey reports whether the caller's key may have been changed.
func (c *commit) concernsKey(caller Caller) bool {
	return len(c.keys) > 0 && (c.speakers == nil || slices.Contains(c.speakers, caller.Actor.ID))
}

func (c *change) concerns(v *Vault, caller Caller) bool {
	return c.org == caller.Org.ID && caller.usesIntegration(c.slot.Integration) && caller.mayRead(v.envs, c.slot.Scope)
}
