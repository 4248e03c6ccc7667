package vault

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sidevault/sidevault/envs"
)

// Condition is how an open vault fares, for metrics and probes. It names no
// credential, no integration and no caller. Counts are since the vault was opened.
type Condition struct {
	Resolved       Resolves
	Decryptions    uint64 // of records, because they were not in memory
	DecryptedBytes uint64 // that decrypted records take in memory, sealed, of Options.CacheBytes
	Audit          AuditCondition
	Keys           []KeyCondition // of every scope, the shared one last
	// KeysUnread is why keys of this host could not be opened for the moment, or nil:
	// a plugin of its identities gave no answer.
	KeysUnread error
}

// Resolves counts successful reads by where the credential was found.
type Resolves struct {
	Own    uint64 // in the scope that was asked for
	Parent uint64 // in a parent of that environment
	Shared uint64 // in the shared scope, asked for by an environment
}

// AuditCondition is how the reads get into the audit log.
type AuditCondition struct {
	Lag      time.Duration // what was read longer ago is in the log; 0 when nothing waits
	Pending  int           // reads that are counted and not in the log
	Failures uint64        // attempts to write that failed
	// FailingSince is when the first of the last such attempts was; zero: the last one
	// succeeded.
	FailingSince time.Time
	// Refused is why reads are refused meanwhile, or nil.
	Refused error
}

// KeyCondition is the newest key of a scope.
type KeyCondition struct {
	Scope     string    // an environment, or @shared
	CreatedAt time.Time // zero: storage has none
	Held      bool      // by this host
}

// Condition returns how the vault fares, from memory alone.
func (v *Vault) Condition() Condition {
	return Condition{
		Resolved:       v.resolved.load(),
		Decryptions:    v.records.decryptions.Load(),
		DecryptedBytes: v.records.cache.WeightedSize(),
		Audit:          v.reads.condition(),
		Keys:           v.keyConditions(),
		KeysUnread:     v.keys.current().unanswered,
	}
}

func (v *Vault) keyConditions() []KeyCondition {
	set := v.keys.current()
	var list []KeyCondition
	for _, scope := range v.envs.Scopes() {
		k := KeyCondition{Scope: segment(scope)}
		if keys := set.scopes[scope]; len(keys) > 0 {
			k.CreatedAt, k.Held = keys[0].doc.CreatedAt, keys[0].Key != nil
		}
		list = append(list, k)
	}
	return list
}

// Readiness says whether a vault can serve, and how its parts fare.
type Readiness struct {
	Condition
	Err     error // why it cannot serve, or nil
	Storage error // why storage does not answer, or nil: also while reads of what is kept go on
}

// Readiness asks storage, and looks at the rest in memory.
func (v *Vault) Readiness(ctx context.Context) Readiness {
	_, err := v.backend.Head(ctx)
	r := Readiness{Condition: v.Condition(), Storage: storageErrorOr(err)}
	if r.Err = r.Storage; v.servesStale() {
		r.Err = nil
	}
	if r.Err == nil {
		r.Err = r.Audit.Refused
	}
	return r
}

// Ready returns why the vault cannot serve at the moment, or nil: also while storage
// is away, as long as reads of what is kept go on. Then Stale is not 0.
func (v *Vault) Ready(ctx context.Context) error { return v.Readiness(ctx).Err }

// waiting is reads that are counted and not in the audit log.
type waiting struct {
	reads int
	first int64 // in milliseconds of Unix time
}

func (w *waiting) add(c *readCount) {
	if w.reads == 0 || c.first < w.first {
		w.first = c.first
	}
	w.reads += c.reads
}

func waitingOf(taken []countedReads) *waiting {
	w := new(waiting)
	for i := range taken {
		w.add(&taken[i].readCount)
	}
	return w
}

// condition looks at what waits, and what a flush under way has taken.
func (l *readLog) condition() AuditCondition {
	c := AuditCondition{Failures: l.failures.Load(), Refused: l.failing()}
	if since := l.failed.Load(); since != nil {
		c.FailingSince = *since
	}
	var w waiting
	if taken := l.underWay.Load(); taken != nil {
		w = *taken
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for j := range s.counts {
			w.add(&s.counts[j].readCount)
		}
		s.mu.Unlock()
	}
	c.Pending = w.reads
	if w.reads > 0 && l.mode != ReadsEach {
		c.Lag = max(0, l.v.clock().Sub(moment(w.first)))
	}
	return c
}

// resolves are the counters of [Resolves].
type resolves struct{ own, parent, shared atomic.Uint64 }

func (r *resolves) count(asked, found envs.Scope) {
	switch found {
	case asked:
		r.own.Add(1)
	case envs.Shared:
		r.shared.Add(1)
	default:
		r.parent.Add(1)
	}
}

func (r *resolves) load() Resolves {
	return Resolves{Own: r.own.Load(), Parent: r.parent.Load(), Shared: r.shared.Load()}
}
