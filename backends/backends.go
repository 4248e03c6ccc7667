// Package backends is the contract between the vault and its storage.
//
// A backend keeps records (a key and opaque bytes) and one append-only log. It
// sees ciphertext and authenticated metadata only; it never sees a secret, and
// it interprets nothing but the order of keys.
//
// Everything that must change together is one [Batch]: a value, not a closure,
// because etcd and serializable PostgreSQL run closures more than once. Each
// change names the revision its key must still have, so a batch built from what
// was read either finds that state unchanged or fails with [ErrConflict] and
// leaves nothing.
//
// The package holds no engine. Those are in its sub-packages, and each of them
// passes the suite in backendtest.
package backends

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits that every backend honours and [Batch.Validate] enforces. They are
// what etcd's default limits leave room for.
const (
	MaxKey     = 1024    // bytes in a key
	MaxValue   = 1 << 20 // bytes in a record's value or a log entry's body
	MaxBatch   = 5 << 18 // bytes of values and bodies in one batch (1.25 MiB)
	MaxChanges = 48      // changes in one batch
	MaxEntries = 48      // log entries in one batch
	MaxPage    = 1000    // records or entries that one List or Log returns
)

// Errors of a backend. Each is wrapped with the key or the path it concerns;
// compare with [errors.Is].
var (
	// ErrNotFound: there is no record under the key.
	ErrNotFound = errors.New("no such record")

	// ErrConflict: a key did not have the revision that its change names.
	// Nothing of the batch was applied. Read again, rebuild, retry.
	ErrConflict = errors.New("the record changed meanwhile")

	// ErrInvalid: the batch or the key breaks a limit above. Nothing was
	// applied, and nothing will be on a retry.
	ErrInvalid = errors.New("not storable")

	// ErrUnavailable: the engine cannot be reached or refuses writes (disk
	// full, read-only, no quorum). Nothing of the batch was applied.
	ErrUnavailable = errors.New("storage is unavailable")

	// ErrUnknownOutcome: the connection was lost or the context ended after
	// the commit was sent. The batch was applied whole or not at all, and
	// only reading tells which.
	ErrUnknownOutcome = errors.New("the outcome of the commit is unknown")

	// ErrCompacted: the events after the revision that Watch was given are
	// no longer kept. Read the state afresh and watch from its [Head].
	ErrCompacted = errors.New("the events after that revision are gone")

	// ErrCorrupt: the engine's own structures do not add up (a log entry
	// too short to be one, a page that fails its check).
	ErrCorrupt = errors.New("storage is corrupt")

	// ErrClosed: the backend was closed before or during the call. A commit
	// that returns it was not applied.
	ErrClosed = errors.New("storage is closed")
)

// Revision is a position in the order of all commits, counted from 1. As a
// record's revision it is that of the commit which last put the record. Zero
// means that there is no record.
type Revision uint64

// Record is a stored value. Key and Value belong to the receiver.
type Record struct {
	Key      string
	Value    []byte
	Revision Revision
}

// Backend is a storage engine. Its methods may be called concurrently; they
// honour the context's end and return [ErrClosed] after Close.
//
// Reads see every commit that was acknowledged before the read began, by this
// handle. An acknowledged commit survives the death of the process and, where
// the engine's disk keeps its promise, of the machine.
type Backend interface {
	// Get returns the record under key, or ErrNotFound.
	Get(ctx context.Context, key string) (Record, error)

	// List returns the records whose keys begin with prefix and are greater
	// than after ("" for all), in the order of the keys' bytes, at most limit
	// of them (1 to MaxPage, else ErrInvalid). Fewer than limit means that
	// there are no more.
	List(ctx context.Context, prefix, after string, limit int) ([]Record, error)

	// Commit applies the batch whole, durably and at one revision, which it
	// returns; or it returns an error and, but for ErrUnknownOutcome, nothing
	// was applied. Every commit takes a revision, also one of entries or checks
	// alone. The batch is not kept: its slices may be reused afterwards.
	Commit(ctx context.Context, b Batch) (Revision, error)

	// Log returns the log entries numbered above after, ascending, at most
	// limit of them (1 to MaxPage, else ErrInvalid). It does not verify the
	// chain.
	Log(ctx context.Context, after uint64, limit int) ([]Entry, error)

	// Head returns the revision of the last commit and the last log entry's
	// number and hash, of one and the same moment.
	Head(ctx context.Context) (Head, error)

	// Watch reports each commit above the revision after that changed a key,
	// once and in order; after must be from Head, Commit or an Event. It
	// returns ErrCompacted when the events since then are gone, or when after is
	// above the head (storage was restored from a backup). The channel is
	// closed when ctx ends, when the backend closes, and when the receiver
	// falls too far behind: watch again from the last Event's revision.
	Watch(ctx context.Context, after Revision) (<-chan Event, error)

	// Close waits for the calls under way and releases the engine. It is
	// idempotent.
	Close() error
}

// Head is where a backend stands: the last commit's revision, and the number
// and the hash of the last log entry (zeros for an empty log).
type Head struct {
	Revision Revision
	Seq      uint64
	Hash     Hash
}

// Event is one commit: its revision and the keys that it put or deleted.
type Event struct {
	Revision Revision
	Keys     []string
}

// Batch is what changes together. A batch of entries alone is allowed; an empty
// one is not.
type Batch struct {
	Changes []Change
	Entries [][]byte // bodies to append to the log, in this order
}

// Op says what a [Change] does.
type Op uint8

const (
	OpPut    Op = iota + 1 // store Value under Key
	OpDelete               // remove the record under Key
	OpCheck                // change nothing, but hold the commit to If
)

// Change is one key's part of a [Batch]. If is the revision that the key must
// have when the batch is applied; 0 means that it must not exist.
type Change struct {
	Op    Op
	Key   string
	If    Revision
	Value []byte
}

// Put stores value under key, which must still have revision at (0: be absent).
func Put(key string, at Revision, value []byte) Change {
	return Change{Op: OpPut, Key: key, If: at, Value: value}
}

// Delete removes key, which must still have revision at.
func Delete(key string, at Revision) Change {
	return Change{Op: OpDelete, Key: key, If: at}
}

// Check holds the commit to key having revision at (0: being absent).
func Check(key string, at Revision) Change {
	return Change{Op: OpCheck, Key: key, If: at}
}

// Validate returns an ErrInvalid that says what is wrong with the batch, or nil.
// Every backend calls it first.
func (b Batch) Validate() error {
	if len(b.Changes) == 0 && len(b.Entries) == 0 {
		return fmt.Errorf("%w: an empty batch", ErrInvalid)
	}
	if len(b.Changes) > MaxChanges || len(b.Entries) > MaxEntries {
		return fmt.Errorf("%w: %d changes (at most %d) and %d entries (at most %d)", ErrInvalid,
			len(b.Changes), MaxChanges, len(b.Entries), MaxEntries)
	}
	size, seen := 0, make(map[string]bool, len(b.Changes))
	for _, c := range b.Changes {
		if err := c.validate(); err != nil {
			return err
		}
		if seen[c.Key] {
			return fmt.Errorf("%w: key %q twice in one batch", ErrInvalid, c.Key)
		}
		seen[c.Key] = true
		size += len(c.Value)
	}
	for _, body := range b.Entries {
		if len(body) == 0 || len(body) > MaxValue {
			return fmt.Errorf("%w: a log entry of %d bytes", ErrInvalid, len(body))
		}
		size += len(body)
	}
	if size > MaxBatch {
		return fmt.Errorf("%w: a batch of %d bytes (at most %d)", ErrInvalid, size, MaxBatch)
	}
	return nil
}

func (c Change) validate() error {
	switch {
	case c.Op < OpPut || c.Op > OpCheck:
		return fmt.Errorf("%w: unknown operation %d on key %q", ErrInvalid, c.Op, c.Key)
	case c.Op == OpDelete && c.If == 0:
		return fmt.Errorf("%w: deleting key %q, which must be absent", ErrInvalid, c.Key)
	case c.Op != OpPut && c.Value != nil:
		return fmt.Errorf("%w: a value for key %q, which is not put", ErrInvalid, c.Key)
	case len(c.Value) > MaxValue:
		return fmt.Errorf("%w: a value of %d bytes for key %q (at most %d)", ErrInvalid, len(c.Value), c.Key, MaxValue)
	}
	return ValidateKey(c.Key)
}

// ValidateKey returns an ErrInvalid unless key has 1 to MaxKey bytes, none of
// them NUL (PostgreSQL's text holds none) and all of them valid UTF-8.
func ValidateKey(key string) error {
	if len(key) == 0 || len(key) > MaxKey {
		return fmt.Errorf("%w: a key of %d bytes (1 to %d)", ErrInvalid, len(key), MaxKey)
	}
	if !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return fmt.Errorf("%w: key %q holds NUL or is not UTF-8", ErrInvalid, key)
	}
	return nil
}
