package vault

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
	// graceWithoutAudit is how long reads go on while their counts cannot be
	// written, unless storage is away and Options.ReadGrace says longer.
	graceWithoutAudit = 10 * time.Second
	// maxPendingReads bounds how many different reads are counted; the reader of one
	// more flushes first, and is refused when that fails.
	maxPendingReads = 20_000
	// flushers is how many commits of a flush are under way at once, so that they share
	// the disk's work.
	flushers = 32
)

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

	seed   maphash.Seed
	shards [32]readShard
	counts atomic.Int64 // in all shards

	failed atomic.Pointer[time.Time] // since when flushing fails; nil while it works

	flushing sync.Mutex // one flush at a time
	usage    readUsage
}

type readShard struct {
	mu     sync.Mutex
	counts map[readKey]*readCount
}

// readKey is what reads that are counted together have in common.
type readKey struct {
	org                                                string // its UUID
	actor, kind, credential, name, source, peer, realm string
	environment, from                                  envs.Scope
	version                                            uint64
}

// readCount is how often something was read since it was last written. Its shard's
// lock guards it, but for the key.
type readCount struct {
	readKey
	entry *auditBody // of one of these reads; nobody changes it
	reads
}

type reads struct {
	count       int
	since, last time.Time
	requestID   string // of the first
}

// takenReads are counted reads that a flush has taken out of their count.
type takenReads struct {
	*readCount
	entry *auditBody
	reads
}

func newReadLog(v *Vault, mode ReadAudit, grace time.Duration) *readLog {
	l := &readLog{v: v, mode: mode, grace: max(grace, graceWithoutAudit), stop: make(chan struct{}), done: make(chan struct{}), seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].counts = map[readKey]*readCount{}
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.usage = readUsage{v: v, pending: map[usageKey]*usageCount{}}
	go l.run()
	return l
}

// run flushes at intervals until close.
func (l *readLog) run() {
	defer close(l.done)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			failed = l.report(failed, l.flush(l.ctx))
		}
	}
}

// report logs that flushing began to fail, or works again; each once.
func (l *readLog) report(failed bool, err error) bool {
	switch {
	case err != nil && !failed:
		l.v.log.Error("reads could not be recorded in the audit log; they are kept and tried every second", "err", err)
	case err == nil && failed:
		l.v.log.Info("reads are recorded in the audit log again")
	}
	return err != nil
}

// record takes one successful read of what was found in a scope. When it returns nil
// the read is in the audit log, or counted to be there within a second.
func (l *readLog) record(ctx context.Context, c *Caller, entry *auditBody, asked Slot, from envs.Scope) error {
	if l.mode == ReadsEach {
		body := *entry
		body.Outcome, body.read = OutcomeSuccess, &readNote{from: from}
		if err := l.v.appendEntries(ctx, body); err != nil {
			return storageError(err)
		}
	} else if err := l.failing(); err != nil {
		return err
	}
	key := readKey{
		org: c.Org.ID, actor: entry.Actor.ID, kind: entry.Actor.Kind, credential: entry.CredentialID, version: entry.Version, name: entry.Name,
		environment: asked.Scope, from: from, source: entry.Source, peer: host(entry.Peer), realm: entry.Realm,
	}
	for !l.add(key, entry) {
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
func (l *readLog) add(key readKey, entry *auditBody) bool {
	now := l.v.now()
	s := l.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts[key]
	if c == nil {
		if l.counts.Load() >= maxPendingReads {
			return false
		}
		l.counts.Add(1)
		c = &readCount{readKey: key}
		s.counts[key] = c
	}
	if c.entry == nil || c.entry.Actor != entry.Actor {
		kept := *entry
		c.entry = &kept
	}
	if c.count == 0 {
		c.since, c.requestID = now, entry.RequestID
	}
	c.count++
	c.last = now
	return true
}

func (l *readLog) shard(key readKey) *readShard {
	return &l.shards[maphash.String(l.seed, key.credential)%uint64(len(l.shards))]
}

// take returns what was counted, and begins anew. What was not read since the last time
// is forgotten.
func (l *readLog) take() []takenReads {
	taken := make([]takenReads, 0, l.counts.Load())
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for key, c := range s.counts {
			if c.count == 0 {
				delete(s.counts, key)
				l.counts.Add(-1)
				continue
			}
			taken = append(taken, takenReads{c, c.entry, c.reads})
			c.reads = reads{}
		}
		s.mu.Unlock()
	}
	slices.SortFunc(taken, func(a, b takenReads) int { return a.since.Compare(b.since) })
	return taken
}

// putBack counts again what a failed flush has taken and not written.
func (l *readLog) putBack(unwritten []takenReads) {
	for _, t := range unwritten {
		s := l.shard(t.readKey)
		s.mu.Lock()
		if c := t.readCount; c.count > 0 {
			t.count += c.count
			t.last = c.last
		}
		t.readCount.reads = t.reads
		s.mu.Unlock()
	}
}

// flush writes the entries of what is pending, and usage as far as its turn has come.
// What cannot be written stays pending.
func (l *readLog) flush(ctx context.Context) error { return l.flushAnd(ctx, l.usage.step) }

// settle is flush with all of the usage of one credential.
func (l *readLog) settle(ctx context.Context, org Org, id ID) error {
	return l.flushAnd(ctx, func(ctx context.Context) error { return l.usage.settle(ctx, org.ID, string(id)) })
}

func (l *readLog) flushAnd(ctx context.Context, usage func(context.Context) error) error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	written, err := l.write(ctx, l.take())
	l.usage.add(written)
	if err == nil {
		err = usage(ctx)
	}
	if err == nil {
		l.failed.Store(nil)
	} else {
		now := l.v.clock()
		l.failed.CompareAndSwap(nil, &now)
	}
	return err
}

// write commits the entries of what was taken, many commits at a time, and returns
// those whose entries are in the log. The others are pending again.
func (l *readLog) write(ctx context.Context, taken []takenReads) (written []takenReads, err error) {
	if l.mode == ReadsEach {
		return taken, nil // by each read for itself
	}
	chunks := slices.Collect(slices.Chunk(taken, backends.MaxEntries))
	errs := inParallel(len(chunks), func(i int) error { return l.v.appendReads(ctx, chunks[i]) })
	for i, chunk := range chunks {
		if errs[i] != nil {
			l.putBack(chunk)
			err = errs[i]
			continue
		}
		written = append(written, chunk...)
	}
	return written, err
}

// inParallel calls do for 0 to n-1, some at a time, and returns its errors. After one
// it begins no more.
func inParallel(n int, do func(int) error) []error {
	errs := make([]error, n)
	var failed atomic.Pointer[error]
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, flushers) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if first := failed.Load(); first != nil {
					errs[i] = *first
				} else if errs[i] = do(i); errs[i] != nil {
					failed.Store(&errs[i])
				}
			}
		})
	}
	wg.Wait()
	return errs
}

// appendReads commits the entries of counted reads.
func (v *Vault) appendReads(ctx context.Context, counted []takenReads) error {
	bodies := make([]auditBody, len(counted))
	for i := range counted {
		bodies[i] = counted[i].body()
	}
	err := v.appendEntries(ctx, bodies...)
	if errors.Is(err, backends.ErrUnknownOutcome) {
		// Counted twice beats not counted.
		err = v.appendEntries(ctx, bodies...)
	}
	return err
}

func (t *takenReads) body() auditBody {
	body := *t.entry
	body.Outcome, body.Peer, body.RequestID = OutcomeSuccess, t.peer, t.requestID
	body.read = &readNote{from: t.from, count: t.count, since: t.since.Format(TimeFormat)}
	if t.count > 1 {
		body.RequestID = "" // one request's ID would stand for many
	}
	return body
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
		err := l.flushAnd(ctx, l.usage.all)
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
		for _, c := range s.counts {
			n += c.count
		}
		s.mu.Unlock()
	}
	if n == 0 {
		return errorf(BackendUnavailable, "The last reads are in the audit log, and could not be counted in the usage of their credentials").because(reason)
	}
	return errorf(BackendUnavailable, "%d reads could not be recorded in the audit log", n).because(reason)
}
