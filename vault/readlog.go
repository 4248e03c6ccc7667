package vault

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sidevault/sidevault/backends"
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
	// maxPendingReads bounds how many different reads wait to be written; the
	// reader of one more flushes first, and is refused when that fails.
	maxPendingReads = 10_000
)

// readLog brings reads into the audit log.
type readLog struct {
	v     *Vault
	mode  ReadAudit
	grace time.Duration // while storage is away
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once

	flushing sync.Mutex // one flush at a time, so that entries keep their order

	mu      sync.Mutex
	pending map[readKey]*readCount
	writing map[readKey]*readCount // what a flush has taken; nobody changes it
	failed  time.Time              // since when flushing fails; zero while it works
}

// readKey is what reads that are counted together have in common.
type readKey struct {
	org, actor, credential, environment, name, resolvedFrom, source, peer, realm string
	version                                                                      uint64
}

type readCount struct {
	org    string // its UUID
	entry  auditBody
	logged bool // each read has its own entry already
	count  int
	since  time.Time
	last   time.Time
}

func newReadLog(v *Vault, mode ReadAudit, grace time.Duration) *readLog {
	l := &readLog{v: v, mode: mode, grace: max(grace, graceWithoutAudit), stop: make(chan struct{}), done: make(chan struct{}), pending: map[readKey]*readCount{}}
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
			failed = l.report(failed, l.flush(context.Background()))
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

// record takes one successful read. When it returns nil the read is in the audit
// log, or counted to be there within a second.
func (l *readLog) record(ctx context.Context, org Org, entry auditBody) error {
	entry.Outcome = OutcomeSuccess
	if l.mode == ReadsEach {
		if err := l.v.appendEntries(ctx, entry); err != nil {
			return storageError(err)
		}
	} else if err := l.failing(); err != nil {
		return err
	}
	for !l.add(org, entry) {
		if l.stuck() {
			return errorf(BackendUnavailable, "Reads are refused because they cannot be recorded").
				detailed("%d different ones wait for the audit log to be writable", maxPendingReads)
		}
		if err := l.flush(ctx); err != nil {
			return storageError(err)
		}
	}
	return nil
}

// stuck reports whether the last flush failed.
func (l *readLog) stuck() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.failed.IsZero()
}

// failing returns a BackendUnavailable when counts could not be written for too
// long.
func (l *readLog) failing() error {
	grace := graceWithoutAudit
	if l.v.Stale() > 0 {
		grace = l.grace
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed.IsZero() || l.v.clock().Sub(l.failed) < grace {
		return nil
	}
	return errorf(BackendUnavailable, "Reads are refused because they cannot be recorded").
		detailed("the audit log has not been writable since %s", l.failed.UTC().Format(TimeFormat))
}

// add counts a read, unless it is a new one and there is no room for more.
func (l *readLog) add(org Org, entry auditBody) bool {
	from, _ := entry.Metadata["resolvedFrom"].(*string)
	key := readKey{
		org: entry.Org, actor: entry.Actor.key(), credential: entry.CredentialID, version: entry.Version, name: entry.Name,
		environment: text(entry.Environment), resolvedFrom: text(from), source: entry.Source, peer: host(entry.Peer), realm: entry.Realm,
	}
	now := l.v.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.pending[key]; ok {
		c.count++
		c.last = now
		return true
	}
	if _, again := l.writing[key]; !again && len(l.pending)+len(l.writing) >= maxPendingReads {
		return false
	}
	entry.Peer = key.peer
	l.pending[key] = &readCount{org: org.ID, entry: entry, logged: l.mode == ReadsEach, count: 1, since: now, last: now}
	return true
}

// flush writes what is pending. What cannot be written stays pending.
func (l *readLog) flush(ctx context.Context) error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.mu.Lock()
	pending := l.pending
	l.pending, l.writing = map[readKey]*readCount{}, pending
	l.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(pending), func(a, b readKey) int {
		return pending[a].since.Compare(pending[b].since)
	})
	for len(keys) > 0 {
		chunk := keys[:min(len(keys), backends.MaxEntries)]
		err := l.write(ctx, pending, chunk)
		if errors.Is(err, backends.ErrUnknownOutcome) {
			// Counted twice beats not counted.
			err = l.write(ctx, pending, chunk)
		}
		if err != nil {
			l.putBack(keys)
			return err
		}
		keys = keys[len(chunk):]
	}
	l.mu.Lock()
	l.failed, l.writing = time.Time{}, nil
	l.mu.Unlock()
	return nil
}

// write commits the entries of some of the pending reads and the usage that they
// make, together.
func (l *readLog) write(ctx context.Context, pending map[readKey]*readCount, keys []readKey) error {
	counts := make([]*readCount, len(keys))
	var bodies []auditBody
	for i, k := range keys {
		counts[i] = pending[k]
		if !counts[i].logged {
			bodies = append(bodies, counts[i].body())
		}
	}
	for {
		changes, err := l.v.usageChanges(ctx, counts)
		if err != nil {
			return err
		}
		// Another sidecar may have counted reads of the same caller.
		if _, err = l.v.commit(ctx, changes, bodies...); !errors.Is(err, backends.ErrConflict) {
			return err
		}
	}
}

func (c *readCount) body() auditBody {
	body := c.entry
	body.Metadata = maps.Clone(c.entry.Metadata)
	body.Metadata["count"] = c.count
	body.Metadata["since"] = c.since.Format(TimeFormat)
	if c.count > 1 {
		body.RequestID = "" // one request's ID would stand for many
	}
	return body
}

// putBack returns what a failed flush has taken and not written.
func (l *readLog) putBack(unwritten []readKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed.IsZero() {
		l.failed = l.v.clock()
	}
	for _, k := range unwritten {
		c := l.writing[k]
		if later, ok := l.pending[k]; ok {
			c.count += later.count
			c.last = later.last
		}
		l.pending[k] = c
	}
	l.writing = nil
}

// close flushes what is pending, trying until ctx ends.
func (l *readLog) close(ctx context.Context) error {
	l.once.Do(func() { close(l.stop) })
	<-l.done
	for {
		err := l.flush(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, backends.ErrClosed) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(flushInterval / 10):
		}
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
