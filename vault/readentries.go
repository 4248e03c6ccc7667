package vault

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// write commits the entries of what was taken, many commits at a time, and returns
// those whose entries are in the log. The others are pending again.
func (l *readLog) write(ctx context.Context, taken []countedReads) (written []countedReads, err error) {
	defer func() { l.pending.Add(-int64(len(written))) }()
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
func (v *Vault) appendReads(ctx context.Context, counted []countedReads) error {
	bodies := make([]auditBody, len(counted))
	for i := range counted {
		bodies[i] = v.readEntry(&counted[i])
	}
	err := v.appendEntries(ctx, bodies...)
	if errors.Is(err, backends.ErrUnknownOutcome) {
		// Counted twice beats not counted.
		err = v.appendEntries(ctx, bodies...)
	}
	return err
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
	body.read = &readNote{from: t.found.Slot.Scope, count: t.reads, since: moment(t.first).Format(TimeFormat)}
	return body
}

// moment is a time that was kept in milliseconds.
func moment(unixMilli int64) time.Time { return time.UnixMilli(unixMilli).UTC() }
