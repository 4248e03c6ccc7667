package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// What audit entries are about.
const (
	targetIntegration = "integration"
	targetAPIKey      = "api_key"
	targetAuditLog    = "audit_log"
	targetVault       = "vault"
	targetEnvironment = "environment"
	targetPlugin      = "plugin"
)

// OutcomeSuccess is the outcome of an attempt that succeeded; that of any other
// is the name of the error's [Kind].
const OutcomeSuccess = "success"

// TimeFormat is how times are stored and shown: RFC 3339, UTC, milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// AuditEntry is one entry of the audit log with its place in the chain.
type AuditEntry struct {
	auditBody
	Seq  uint64
	Prev backends.Hash
	Hash backends.Hash
}

// commit applies changes together with the attempt's audit entry, whose outcome
// is success. ErrConflict comes back as it is.
func (a *attempt) commit(ctx context.Context, changes ...backends.Change) (backends.Revision, error) {
	a.entry.Outcome = OutcomeSuccess
	rev, err := a.v.commit(ctx, changes, a.entry)
	if err == nil {
		a.v.count(a.entry.Action, OutcomeSuccess)
	}
	return rev, err
}

func (a *attempt) note(key string, value any) {
	if a.entry.Metadata == nil {
		a.entry.Metadata = map[string]any{}
	}
	a.entry.Metadata[key] = value
}

func (v *Vault) appendEntries(ctx context.Context, bodies ...auditBody) error {
	_, err := v.commit(ctx, nil, bodies...)
	return err
}

func (v *Vault) commit(ctx context.Context, changes []backends.Change, bodies ...auditBody) (backends.Revision, error) {
	return commitEntries(ctx, v.backend, v.now(), changes, bodies...)
}

func commitEntries(ctx context.Context, b backends.Backend, now time.Time, changes []backends.Change, bodies ...auditBody) (backends.Revision, error) {
	e := newEntries(now, len(bodies))
	for i := range bodies {
		if err := e.add(&bodies[i]); err != nil {
			return 0, err
		}
	}
	return b.Commit(ctx, backends.Batch{Changes: changes, Entries: e.encoded})
}

// AuditQuery selects audit entries. Zero fields select all.
type AuditQuery struct {
	Before      uint64 // entries numbered below it; 0: from the newest
	Limit       int    // at most so many
	Action      string
	Integration string
	Environment *string
	ActorID     string
	Outcome     string
	Since       time.Time // at or after
	Until       time.Time // before
}

// auditScan bounds how many entries one call looks through; a page that comes
// back short then carries on with the next cursor.
const auditScan = 20_000

// Audit returns entries of the caller's org that its grant covers, newest first,
// and the number to go on before: 0 when there are no more.
func (v *Vault) Audit(ctx context.Context, c Caller, q AuditQuery) (entries []AuditEntry, next uint64, err error) {
	a := v.beginOn(c, ActionListAudit, targetAuditLog, "")
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return nil, 0, err
	}
	if err := v.reads.flush(ctx); err != nil {
		return nil, 0, storageError(err)
	}
	head, err := v.backend.Head(ctx)
	if err != nil {
		return nil, 0, storageError(err)
	}
	before := head.Seq + 1
	if q.Before != 0 {
		before = min(before, q.Before)
	}
	entries, next, err = v.scanAudit(ctx, c, q, before)
	return entries, next, err
}

func (v *Vault) scanAudit(ctx context.Context, c Caller, q AuditQuery, before uint64) (found []AuditEntry, next uint64, err error) {
	stop := before - min(before, auditScan)
	size := uint64(min(q.Limit+1, backends.MaxPage)) // with one more, which says whether there is a next page
	for before > 1 && before > stop {
		n := min(before-1, size)
		size = min(4*size, backends.MaxPage) // few of them may match
		page, err := v.backend.Log(ctx, before-1-n, int(n))
		if err != nil {
			return nil, 0, storageError(err)
		}
		for _, raw := range slices.Backward(page) {
			e, err := decodeAudit(raw)
			if err != nil {
				return nil, 0, v.integrityError(ctx, err)
			}
			if q.matches(e) && v.mayAudit(c, e) {
				if len(found) == q.Limit {
					return found, before, nil // there is one more
				}
				found = append(found, e)
			}
			before = raw.Seq
		}
		if len(page) == 0 {
			break
		}
	}
	return found, cursorBefore(before), nil
}

func cursorBefore(seq uint64) uint64 {
	if seq <= 1 {
		return 0
	}
	return seq
}

func decodeAudit(raw backends.Entry) (AuditEntry, error) {
	e := AuditEntry{Seq: raw.Seq, Prev: raw.Prev, Hash: raw.Hash}
	if err := json.Unmarshal(raw.Body, &e.auditBody); err != nil {
		return AuditEntry{}, fmt.Errorf("audit entry %d: %w", raw.Seq, err)
	}
	return e, nil
}

func (v *Vault) mayAudit(c Caller, e AuditEntry) bool {
	if e.Org != c.Org.Slug {
		return false
	}
	if e.Environment != nil && !slices.Contains(c.Environments, *e.Environment) && !v.starCovers(c, *e.Environment) {
		return false
	}
	return e.TargetType != targetIntegration || e.TargetID == "" || c.usesIntegration(e.TargetID)
}

// starCovers reports whether a grant of All covers an environment, which may
// since have left the configuration.
func (v *Vault) starCovers(c Caller, environment string) bool {
	e, _ := v.envs.Lookup(environment)
	return !e.Protected && slices.Contains(c.Environments, All)
}

func (q AuditQuery) matches(e AuditEntry) bool {
	at := e.Time
	return (q.Action == "" || q.Action == e.Action) &&
		(q.Integration == "" || e.TargetType == targetIntegration && q.Integration == e.TargetID) &&
		(q.Environment == nil || e.Environment != nil && *q.Environment == *e.Environment) &&
		(q.ActorID == "" || q.ActorID == e.Actor.ID) &&
		(q.Outcome == "" || q.Outcome == e.Outcome) &&
		(q.Since.IsZero() || at >= q.Since.UTC().Format(TimeFormat)) &&
		(q.Until.IsZero() || at < q.Until.UTC().Format(TimeFormat))
}

// AuditHead returns the number and hash of the last audit entry. Kept elsewhere,
// it proves later that nothing before it was rewritten.
func (v *Vault) AuditHead(ctx context.Context, c Caller) (head backends.Head, err error) {
	a := v.beginOn(c, ActionVerifyAudit, targetAuditLog, "")
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return backends.Head{}, err
	}
	if head, err = v.backend.Head(ctx); err != nil {
		return backends.Head{}, storageError(err)
	}
	return head, nil
}

// Verdict is what walking the audit log's chain found.
type Verdict struct {
	Head   backends.Head
	Broken uint64 // number of the first broken entry; 0: the chain is intact
	Reason string // what is wrong with it
}

// VerifyAudit walks the whole chain of the audit log, of every org, and says
// where it breaks first.
func (v *Vault) VerifyAudit(ctx context.Context, c Caller) (verdict Verdict, err error) {
	a := v.beginOn(c, ActionVerifyAudit, targetAuditLog, "")
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return Verdict{}, err
	}
	return VerifyChain(ctx, v.backend, nil)
}

// VerifyChain walks the chain of a backend's log, which needs no key. progress, unless
// it is nil, is told how many of the entries were walked.
func VerifyChain(ctx context.Context, b backends.Backend, progress func(done, total uint64)) (Verdict, error) {
	head, err := b.Head(ctx)
	if err != nil {
		return Verdict{}, storageError(err)
	}
	verdict := Verdict{Head: head}
	for at := (backends.Head{}); at.Seq < head.Seq; {
		page, err := b.Log(ctx, at.Seq, backends.MaxPage)
		if err != nil {
			return Verdict{}, storageError(err)
		}
		for _, e := range page {
			if at.Seq == head.Seq {
				break
			}
			if err := e.Follows(at.Seq, at.Hash); err != nil {
				verdict.Broken, verdict.Reason = at.Seq+1, err.Error()
				return verdict, nil
			}
			at.Seq, at.Hash = e.Seq, e.Hash
		}
		if len(page) == 0 {
			verdict.Broken = at.Seq + 1
			verdict.Reason = fmt.Sprintf("entry %d is missing: the log says that it has %d", at.Seq+1, head.Seq)
			return verdict, nil
		}
		if progress != nil {
			progress(at.Seq, head.Seq)
		}
		if at.Seq == head.Seq && at.Hash != head.Hash {
			verdict.Broken, verdict.Reason = at.Seq, fmt.Sprintf("entry %d is not the last one that was written", at.Seq)
		}
	}
	return verdict, nil
}
