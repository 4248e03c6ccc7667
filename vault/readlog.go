package vault

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// ReadAudit says when a read's audit entry is written.
type ReadAudit string

const (
	// ReadsCoalesced counts reads by caller, credential and version, and writes
	// an entry with the count every second. A crash loses at most that second.
	ReadsCoalesced ReadAudit = "coalesced"
	// ReadsEach writes one entry for each read, before the value leaves.
	ReadsEach ReadAudit = "each"
)

const (
	flushInterval = time.Second
	// flushTurns is how many parts of what was counted are flushed one after the other in
	// an interval, so that requests at no moment wait for all of it.
	flushTurns = 32
	// graceWithoutAudit is how long reads go on while their counts cannot be
	// written, unless storage is away and Options.ReadGrace says longer.
	graceWithoutAudit = 10 * time.Second
	// maxPendingReads bounds how many different reads are counted; the reader of one
	// more flushes first, and is refused when that fails. While it does, so is the
	// reader of what a flush under way has taken.
	maxPendingReads = 40_000
	// flushers is how many commits of a flush are under way at once, so that they share
	// the disk's work.
	flushers = 32
)

// readShards is how many locks share the counts.
const readShards = 32

// readLog brings reads into the audit log. A read finds its count in one of several
// shards, each with a lock of its own, and raises it. Every second a flush takes what was
// counted and writes it: as audit entries at once, into the usage documents by and by
// (see readUsage).
type readLog struct {
	v     *Vault
	mode  ReadAudit
	grace time.Duration // while storage is away
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once

	ctx    context.Context // of the flushes at intervals
	cancel context.CancelFunc

	seed    maphash.Seed
	shards  [readShards]readShard
	pending atomic.Int64 // different reads: counted in the shards, or being written

	failed   atomic.Pointer[time.Time] // since when flushing fails; nil while it works
	failures atomic.Uint64             // flushes that failed
	underWay atomic.Pointer[waiting]   // what a flush has taken and not yet written

	flushing sync.Mutex // one flush at a time
	usage    readUsage
}

// readShard has its counts one after the other, so that those of many fit into the
// processor's caches, and cost no memory of their own. A [keptCredential] notes where its
// last reader's may be, and in which turn: most reads need not look for theirs.
type readShard struct {
	mu     sync.Mutex
	turn   uint32          // counts from 1 how often the counts were taken
	at     map[readKey]int // in counts
	counts []countedReads
}

// reader is who reads, and from where. Few readers read much: one is kept once.
type reader struct {
	org    Org
	actor  Actor
	origin Origin // of its host, and of no request
}

func (c *Caller) reader() reader {
	by := reader{org: c.Org, actor: c.Actor, origin: c.Origin}
	by.origin.Peer, by.origin.RequestID = host(c.Origin.Peer), ""
	return by
}

// readKey is what reads that are counted together have in common. There is one for each
// credential in use, so it is small.
type readKey struct {
	reader     unique.Handle[reader]
	credential ID
	version    uint64
	asked      envs.Scope // of the slot that was asked for
}

// readCount is how often something was read since it was last written.
type readCount struct {
	reads       int
	first, last int64           // in milliseconds of Unix time
	found       *keptCredential // of the key's ID
	requestID   string          // of the first
}

// countedReads are reads that have a key in common.
type countedReads struct {
	readKey
	readCount
}

func newReadLog(v *Vault, mode ReadAudit, grace time.Duration) *readLog {
	l := &readLog{v: v, mode: mode, grace: max(grace, graceWithoutAudit), stop: make(chan struct{}), done: make(chan struct{}), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].turn, l.shards[i].at = 1, map[readKey]int{}
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.usage = readUsage{v: v, pending: map[usageKey]usageCount{}}
	go l.run()
	return l
}

// run flushes at intervals until close.
func (l *readLog) run() {
	defer close(l.done)
	tick := time.NewTicker(flushInterval / flushTurns)
	defer tick.Stop()
	const turn = readShards / flushTurns
	failed := false
	for next := 0; ; next = (next + turn) % readShards {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			err := l.flushAnd(l.ctx, l.shards[next:next+turn], nil)
			failed = l.report(failed, err)
		}
	}
}

// report logs that flushing began to fail, or works again; each once. It reports whether
// it fails.
func (l *readLog) report(failed bool, err error) bool {
	fails := l.failed.Load() != nil
	switch {
	case err != nil && !failed:
		l.v.log.Error("reads could not be recorded in the audit log; they are kept and tried every second", "err", err)
	case failed && !fails:
		l.v.log.Info("reads are recorded in the audit log again")
	}
	return fails
}

// record takes one successful read of what was found for a slot of the scope that was
// asked for. When it returns nil the read is in the audit log, or counted to be there
// within a second.
func (l *readLog) record(ctx context.Context, a *attempt, asked envs.Scope, found *keptCredential) error {
	if l.mode == ReadsEach {
		body := a.entry
		body.Outcome, body.read = OutcomeSuccess, readNote{given: true, from: found.Slot.Scope}
		if err := l.v.appendEntries(ctx, body); err != nil {
			return storageError(err)
		}
	} else if err := l.failing(); err != nil {
		return err
	}
	for !l.add(a, asked, found) {
		if l.failed.Load() != nil {
			return errorf(BackendUnavailable, "Reads are refused because they cannot be recorded").
				detailed("%d different ones wait for the audit log to be writable", maxPendingReads)
		}
		if err := l.flush(ctx); err != nil {
			return storageError(err)
		}
	}
	return nil
}

// failing returns a BackendUnavailable when counts could not be written for too
// long.
func (l *readLog) failing() error {
	since := l.failed.Load()
	if since == nil {
		return nil
	}
	grace := graceWithoutAudit
	if l.v.Stale() > 0 {
		grace = l.grace
	}
	if l.v.clock().Sub(*since) < grace {
		return nil
	}
	return errorf(BackendUnavailable, "Reads are refused because they cannot be recorded").
		detailed("the audit log has not been writable since %s", since.UTC().Format(TimeFormat))
}

// add counts a read, unless it is a new one and there is no room for more.
func (l *readLog) add(a *attempt, asked envs.Scope, found *keptCredential) bool {
	by, at, version := a.caller.reader(), a.at.UnixMilli(), a.entry.Version
	s := l.shard(found.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, counted := s.noted(&by, found, version, asked)
	if !counted {
		key := readKey{reader: unique.Make(by), credential: found.ID, version: version, asked: asked}
		if i, counted = s.at[key]; !counted {
			if l.pending.Load() >= maxPendingReads {
				return false
			}
			l.pending.Add(1)
			i = s.insert(countedReads{key, readCount{first: at, last: at, found: found, requestID: a.caller.Origin.RequestID}})
		}
		found.counted.Store(uint64(s.turn)<<32 | uint64(i))
	}
	c := &s.counts[i]
	c.reads++
	c.first, c.last = min(c.first, at), max(c.last, at)
	return true
}

// noted returns the count that the credential has noted, if it is the one: another vault over
// the same cache may have noted its own.
func (s *readShard) noted(by *reader, found *keptCredential, version uint64, asked envs.Scope) (at int, is bool) {
	noted := found.counted.Load()
	if at = int(uint32(noted)); uint32(noted>>32) != s.turn || at >= len(s.counts) {
		return 0, false
	}
	c := &s.counts[at]
	return at, c.credential == found.ID && c.version == version && c.asked == asked && c.reader.Value() == *by
}

// insert returns where it puts what is not there yet.
func (s *readShard) insert(c countedReads) int {
	i := len(s.counts)
	s.counts = append(s.counts, c)
	s.at[c.readKey] = i
	return i
}

func (l *readLog) shard(id ID) *readShard {
	return &l.shards[maphash.String(l.seed, string(id))%uint64(len(l.shards))]
}

// take takes what was counted in some of the shards.
func take(from []readShard) (taken []countedReads) {
	for i := range from {
		s := &from[i]
		s.mu.Lock()
		taken = append(taken, s.counts...)
		clear(s.counts) // whose room is needed again
		clear(s.at)
		s.counts = s.counts[:0]
		s.turn++
		s.mu.Unlock()
	}
	slices.SortFunc(taken, func(a, b countedReads) int { return cmp.Compare(a.first, b.first) })
	return taken
}

// putBack counts again what a failed flush has taken and not written.
func (l *readLog) putBack(unwritten []countedReads) {
	for _, t := range unwritten {
		s := l.shard(t.credential)
		s.mu.Lock()
		if i, counted := s.at[t.readKey]; counted {
			l.pending.Add(-1)
			t.reads += s.counts[i].reads
			t.last = s.counts[i].last
			s.counts[i] = t
		} else {
			s.insert(t)
		}
		s.mu.Unlock()
	}
}

// flush writes the entries of all that is pending, and usage as far as its turn has come.
// What cannot be written stays pending.
func (l *readLog) flush(ctx context.Context) error {
	return l.flushAnd(ctx, l.shards[:], l.usage.step)
}

// settle is flush with all of the usage of one credential.
func (l *readLog) settle(ctx context.Context, org Org, id ID) error {
	return l.flushAnd(ctx, l.shards[:], func(ctx context.Context) error { return l.usage.settle(ctx, org.ID, string(id)) })
}

// flushAnd writes the entries of what was counted in some of the shards, and usage as far as
// its turn has come; then what else of that is to be written.
func (l *readLog) flushAnd(ctx context.Context, from []readShard, then func(context.Context) error) error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	taken := take(from)
	l.underWay.Store(waitingOf(taken))
	written, err := l.write(ctx, taken)
	l.underWay.Store(nil)
	l.usage.add(written)
	if err == nil && then != nil {
		err = then(ctx)
	}
	switch {
	case err != nil:
		now := l.v.clock()
		l.failed.CompareAndSwap(nil, &now)
		l.failures.Add(1)
	case len(written) > 0 || l.pending.Load() == 0: // else there was nothing to try it with
		l.failed.Store(nil)
	}
	return err
}

// end waits for a flush under way, and breaks it off after half of the time there is: storage
// that is away may not answer it at all, and what is lost is still to be said.
func (l *readLog) end(ctx context.Context) {
	defer l.cancel()
	if deadline, ok := ctx.Deadline(); ok {
		late := time.AfterFunc(time.Until(deadline)/2, l.cancel)
		defer late.Stop()
	}
	<-l.done
}

// close flushes what is pending, trying until ctx ends.
func (l *readLog) close(ctx context.Context) error {
	l.once.Do(func() { close(l.stop) })
	l.end(ctx)
	var reason error
	for {
		err := l.flushAnd(ctx, l.shards[:], l.usage.all)
		if err == nil || errors.Is(err, backends.ErrClosed) {
			return err
		}
		if ctx.Err() == nil || reason == nil {
			reason = err // the end of ctx is none
		}
		select {
		case <-ctx.Done():
			return l.lost(reason)
		case <-time.After(flushInterval / 10):
		}
	}
}

// lost says how many reads will not be in the audit log.
func (l *readLog) lost(reason error) error {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for j := range s.counts {
			n += s.counts[j].reads
		}
		s.mu.Unlock()
	}
	if n == 0 {
		return errorf(BackendUnavailable, "The last reads are in the audit log, and could not be counted in the usage of their credentials").because(reason)
	}
	return errorf(BackendUnavailable, "%d reads could not be recorded in the audit log", n).because(reason)
}
