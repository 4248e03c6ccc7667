// Package vault is Sidevault's domain: which credential occupies which slot, who
// may set, read and remove it, and what is recorded of that.
//
// Every method of [Vault] takes the [Caller] and opens an attempt with it: what
// the caller may do is checked there, and the outcome, whichever it is, becomes
// an audit entry. A change and its entry are one commit; a secret leaves only
// after its read has been counted, and not at all while counts cannot be written:
// no record, no secret.
//
// The package refuses to know how a request came in, how it is answered and which
// engine stores its records. It sees a [backends.Backend] below, a [Catalog]
// beside, and is called by api and cmd from above.
package vault

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/seal"
)

// Metrics is the port through which the vault counts what it does. Its methods
// get names from closed lists only, never a credential's or a caller's.
type Metrics interface {
	// Operation counts an audited action with its outcome.
	Operation(action, outcome string)

	// IntegrityFailure counts a stored record that failed its check.
	IntegrityFailure()

	// Synced counts an attempt to hand a change to a plugin.
	Synced(plugin string, ok bool)

	// SyncsPending sets how many changes wait for a plugin, and since when the oldest
	// does; zero when none does.
	SyncsPending(plugin string, n int, oldest time.Time)
}

// Config is what a vault needs.
type Config struct {
	Backend    backends.Backend
	Envs       *envs.Tree
	Catalog    Catalog
	Identities []age.Identity // root identities of this host, which the vault keeps
	// Trusted is the recipient of the vault's control key, as Init returned it:
	// what ties this host to one vault, whoever can write the storage.
	Trusted string
	Options
}

// Options are the optional parts of a [Config].
type Options struct {
	ReadAudit    ReadAudit        // default ReadsCoalesced
	KeepVersions int              // of a credential; default 10, at most MaxKeepVersions
	CacheBytes   int              // of decrypted records, kept in memory, sealed; default 12 MiB
	Now          func() time.Time // default time.Now
	Logger       *slog.Logger     // default: discard
	Metrics      Metrics          // default: count nothing
	Plugins      Plugins          // default: none, and whatever is bound is unavailable
	// Exclusive says that no other process can have this storage open.
	Exclusive bool
	// Follow has the vault take over what other processes change of its keys as soon
	// as they do, and go on with rotations that were interrupted: for one that is
	// served.
	Follow bool
	// Stale returns for how long what the backend answers from may have been out of
	// date, because storage is away; 0: it is not. Default: always 0.
	Stale func() time.Duration
	// ReadGrace is for how long, by Stale, the backend answers from what it keeps, and
	// how long coalesced reads go on unrecorded meanwhile; of the latter the default,
	// and the least, is 10 seconds, the grace when storage answers but refuses to record.
	ReadGrace time.Duration
}

const (
	// defaultKeepVersions is how many versions of a credential are kept.
	defaultKeepVersions = 10
	// MaxKeepVersions bounds them, and MaxBindings the validators and the syncers of
	// an integration, so that every change fits one commit: a rename seals all kept
	// versions anew and tells every syncer twice.
	MaxKeepVersions = 24
	MaxBindings     = 8
)

// Vault is an open vault. Its methods may be called concurrently.
type Vault struct {
	backend backends.Backend // the gate
	gate    *gate
	envs    *envs.Tree
	catalog atomic.Pointer[Catalog]
	control *seal.Key
	// identities open key files that others write while the vault is open.
	identities []age.Identity
	keys       keyring
	rotator    *rotator
	reads      *readLog
	keep       int
	clock      func() time.Time
	log        *slog.Logger
	metrics    Metrics
	header     headerDoc
	records    *records
	resolved   resolves
	plugins    Plugins
	courier    *courier // nil when there are no plugins
	stale      func() time.Duration
	grace      time.Duration // how long the backend serves while storage is away
	// exclusive: no other process can have this storage open.
	exclusive bool

	// slots serialises changes of one slot within this process, so that they
	// need not fight with compare-and-set. Slots share locks by hash.
	slots [256]sync.Mutex
	seed  maphash.Seed

	watches *watchHub
}

// Open opens a vault that Init has made. The backend remains the caller's to
// close, after the vault.
func Open(ctx context.Context, cfg Config) (*Vault, error) {
	v := &Vault{
		gate: newGate(cfg.Backend), envs: cfg.Envs, keep: cfg.KeepVersions,
		clock: cfg.Now, log: cfg.Logger, metrics: cfg.Metrics, seed: maphash.MakeSeed(),
	}
	v.backend, v.watches = v.gate, newWatchHub(v)
	v.plugins, v.exclusive, v.identities = cfg.Plugins, cfg.Exclusive, cfg.Identities
	v.SetCatalog(cfg.Catalog)
	if v.plugins == nil {
		v.plugins = noPlugins{}
	}
	if v.keep == 0 {
		v.keep = defaultKeepVersions
	}
	v.keep = min(v.keep, MaxKeepVersions)
	if v.clock == nil {
		v.clock = time.Now
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = defaultCacheBytes
	}
	var err error
	if v.records, err = newRecords(cfg.CacheBytes); err != nil {
		return nil, err
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if v.metrics == nil {
		v.metrics = noMetrics{}
	}
	head, err := v.backend.Head(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.unlock(ctx, cfg.Trusted); err != nil {
		return nil, err
	}
	if v.stale = cfg.Stale; v.stale == nil {
		v.stale = func() time.Duration { return 0 }
	}
	v.grace = cfg.ReadGrace
	v.reads = newReadLog(v, cfg.ReadAudit, cfg.ReadGrace)
	if cfg.Plugins != nil {
		v.courier = startCourier(v)
	}
	v.rotator = startRotator(v, cfg.Follow, head.Revision)
	return v, nil
}

// Close ends the deliveries and rotations under way, which go on when the vault is
// opened next, and flushes the read audit. It waits as long as ctx allows, and
// returns an error if reads remain unrecorded.
func (v *Vault) Close(ctx context.Context) error {
	return errors.Join(v.rotator.close(ctx), v.courier.close(ctx), v.reads.close(ctx))
}

// SetCatalog replaces the catalog; calls under way end with the one they began
// with.
func (v *Vault) SetCatalog(c Catalog) { v.catalog.Store(&c) }

// ID is the vault's own UUID.
func (v *Vault) ID() string { return v.header.ID }

func (v *Vault) servesStale() bool {
	stale := v.Stale()
	return stale > 0 && stale <= v.grace && v.reads.mode != ReadsEach
}

// Stale returns 0, or for how long what a read has just returned may have been out
// of date because storage is away.
func (v *Vault) Stale() time.Duration { return v.stale() }

// now is the time, in the precision that times are stored and shown with.
func (v *Vault) now() time.Time { return v.clock().UTC().Truncate(time.Millisecond) }

func (v *Vault) count(action, outcome string) { v.metrics.Operation(action, outcome) }

// lock locks a slot of an org for this process.
func (v *Vault) lock(org Org, slot Slot) *sync.Mutex {
	m := &v.slots[maphash.String(v.seed, liveKey(org, slot))%uint64(len(v.slots))]
	m.Lock()
	return m
}

// conflicts bounds how often a change is tried anew because another process
// changed the slot meanwhile.
const conflicts = 20

// retry calls change until it does not end in a conflict with another process.
func retry(change func() error) error {
	for range conflicts {
		if err := change(); !errors.Is(err, backends.ErrConflict) {
			return err
		}
	}
	return errorf(BackendUnavailable, "The credential is being changed too often by others").
		detailed("nothing was changed; try again shortly")
}

type noMetrics struct{}

func (noMetrics) Operation(string, string) {}
func (noMetrics) IntegrityFailure()        {}
func (noMetrics) Synced(string, bool)      {}

func (noMetrics) SyncsPending(string, int, time.Time) {}
