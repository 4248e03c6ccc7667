package vault

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// preparedCommit is a commit that has only to be made. Those that are made at once share a
// transaction, and its work on the disk, where storage knows how.
type preparedCommit struct {
	commit func() error
	ended  func(error)
}

// commitAll makes the commits, some at a time, and tells each how it ended. After an error it
// begins no more.
func commitAll(prepared []preparedCommit) (err error) {
	errs := make([]error, len(prepared))
	var failed atomic.Pointer[error]
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(prepared), flushers) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(prepared); i = int(next.Add(1)) - 1 {
				if first := failed.Load(); first != nil {
					errs[i] = *first
				} else if errs[i] = prepared[i].commit(); errs[i] != nil {
					failed.Store(&errs[i])
				}
			}
		})
	}
	wg.Wait()
	for i, p := range prepared {
		p.ended(errs[i])
		err = cmp.Or(err, errs[i])
	}
	return err
}

// write commits the entries of what was taken, and the usage that is due beside them. It
// returns the reads whose entries are in the log; the others are pending again.
func (l *readLog) write(ctx context.Context, taken []countedReads) (written []countedReads, err error) {
	defer func() { l.pending.Add(-int64(len(written))) }()
	due, unread := l.usage.prepareDue(ctx)
	if l.mode == ReadsEach { // the entries are in the log, by each read for itself
		return taken, cmp.Or(commitAll(due), unread)
	}
	for group := range slices.Chunk(taken, flushers*backends.MaxEntries) {
		if err != nil {
			l.putBack(group)
			continue
		}
		var prepared []preparedCommit
		for chunk := range slices.Chunk(group, backends.MaxEntries) {
			prepared = append(prepared, l.prepare(ctx, chunk, &written))
		}
		err = commitAll(append(prepared, due...))
		due = nil
	}
	return written, cmp.Or(err, commitAll(due), unread)
}

// prepare prepares the commit of the entries of counted reads.
func (l *readLog) prepare(ctx context.Context, counted []countedReads, written *[]countedReads) preparedCommit {
	e := newEntries(l.v.now(), len(counted))
	var unencoded error
	for i := range counted {
		body := l.v.readEntry(&counted[i])
		unencoded = cmp.Or(unencoded, e.add(&body))
	}
	batch := backends.Batch{Entries: e.encoded}
	return preparedCommit{
		commit: func() error {
			if unencoded != nil {
				return unencoded
			}
			_, err := l.v.backend.Commit(ctx, batch)
			if errors.Is(err, backends.ErrUnknownOutcome) {
				// Counted twice beats not counted.
				_, err = l.v.backend.Commit(ctx, batch)
			}
			return err
		},
		ended: func(err error) {
			if err != nil {
				l.putBack(counted)
				return
			}
			*written = append(*written, counted...)
		},
	}
}

// readEntry is the audit entry of counted reads.
func (v *Vault) readEntry(t *countedReads) auditBody {
	by := t.reader.Value()
	c := Caller{Org: by.org, Actor: by.actor, Origin: by.origin}
	if t.reads == 1 {
		c.Origin.RequestID = t.requestID // one request's ID would stand for many
	}
	asked := t.found.Slot
	asked.Scope = t.asked
	body := v.entryOn(&c, ActionRead, asked)
	body.CredentialID, body.Version, body.Outcome = string(t.credential), t.version, OutcomeSuccess
	body.read = readNote{given: true, from: t.found.Slot.Scope, count: t.reads, since: moment(t.first)}
	return body
}

// moment is a time that was kept in milliseconds.
func moment(unixMilli int64) time.Time { return time.UnixMilli(unixMilli).UTC() }
