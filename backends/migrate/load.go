package migrate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/sidevault/sidevault/backends"
)

var errNoLast = errors.New("what is to be loaded lacks the record that makes it what it is")

// The stages of a load, in their order, before VerifyingLog.
const (
	LoadingRecords Stage = "Stored records"
	LoadingLog     Stage = "Stored log entries"
	ReadingBack    Stage = "Read back records"
)

// LoadConfig is what a load needs.
type LoadConfig struct {
	To       backends.Backend
	LastKey  string // the record that makes storage what it is; Each has it
	NotesKey string // where the target keeps the notes; Each has no such record
	// Name tells what is loaded from anything else: a load that was interrupted goes on
	// when it is called again with the same.
	Name string
	// Each calls record with every record, always in the same order, then entry with
	// every entry of the log.
	Each func(ctx context.Context, record func(backends.Record) error, entry func(backends.Entry) error) error
	// Records, Digest and Head are what Each comes to: how many records, the exclusive
	// or of the SHA-256 of each one's key, NUL and value, and the end of the log.
	Records uint64
	Digest  [sha256.Size]byte
	Head    backends.Head // Revision is not looked at
	// Entries are appended to the log in the commit that makes the target whole.
	Entries [][]byte
	// Progress, when not nil, is called now and then.
	Progress func(Progress)
}

// loader is a load under way.
type loader struct {
	copier
	cfg  LoadConfig
	last []byte
}

// Load puts records and log into To, which must be empty or hold what an earlier call
// with the same name left. As with [Copy] the target is no whole thing before
// everything was read back.
func Load(ctx context.Context, cfg LoadConfig) (Result, error) {
	l := &loader{cfg: cfg, copier: copier{Config: Config{To: cfg.To, LastKey: cfg.LastKey, NotesKey: cfg.NotesKey, Progress: cfg.Progress}}}
	if l.Progress == nil {
		l.Progress = func(Progress) {}
	}
	for _, step := range []func(context.Context) error{l.beginLoad, l.store, l.readBack, l.verifyLog, l.complete} {
		if err := step(ctx); err != nil {
			return Result{}, err
		}
	}
	head, err := l.To.Head(ctx)
	return Result{Records: cfg.Records, Head: head}, err
}

func (l *loader) beginLoad(ctx context.Context) error {
	switch err := l.readNotes(ctx); {
	case errors.Is(err, backends.ErrNotFound):
		if err := l.checkEmpty(ctx); err != nil {
			return err
		}
		source := l.cfg.Head
		source.Revision = 0
		l.notes = notes{Format: notesFormat, Source: source, Load: l.cfg.Name}
		return l.commit(ctx, backends.Batch{})
	case err != nil:
		return err
	case l.notes.Load != l.cfg.Name:
		return ErrUnfinished
	}
	return nil
}

// store puts what the target lacks.
func (l *loader) store(ctx context.Context) error {
	at, err := l.To.Head(ctx)
	if err != nil {
		return err
	}
	have, next := l.notes.Records, uint64(0)
	p := packer{flush: func(b backends.Batch) error {
		l.notes.Records = max(next, have)
		return l.commit(ctx, b)
	}}
	record := func(r backends.Record) error {
		if r.Key == l.LastKey {
			l.last = r.Value
			return nil
		}
		if next >= have {
			if err := p.put(backends.Put(r.Key, 0, r.Value)); err != nil {
				return err
			}
		}
		next++
		l.Progress(Progress{LoadingRecords, next, l.cfg.Records})
		return nil
	}
	entry := func(e backends.Entry) error {
		if e.Seq <= at.Seq {
			return nil
		}
		if err := e.Follows(at.Seq, at.Hash); err != nil {
			return fmt.Errorf("%w: %w", ErrBroken, err)
		}
		at.Seq, at.Hash = e.Seq, e.Hash
		l.Progress(Progress{LoadingLog, e.Seq, l.cfg.Head.Seq})
		return p.entry(e.Body)
	}
	if err := l.cfg.Each(ctx, record, entry); err != nil {
		return err
	}
	if l.last == nil {
		return errNoLast
	}
	return p.end()
}

// readBack compares the target's records with what was loaded, by their digest.
func (l *loader) readBack(ctx context.Context) error {
	var digest [sha256.Size]byte
	mix(&digest, l.LastKey, l.last)
	n := uint64(1)
	for target := (walk{from: l.To, skip: []string{l.NotesKey}}); ; n++ {
		r, err := target.next(ctx)
		if err != nil {
			return err
		}
		if r == nil {
			break
		}
		mix(&digest, r.Key, r.Value)
		l.Progress(Progress{ReadingBack, n, l.cfg.Records})
	}
	if n != l.cfg.Records || digest != l.cfg.Digest {
		return fmt.Errorf("%w: it has %d records of %d, or others than were stored", ErrDiffers, n, l.cfg.Records)
	}
	return nil
}

func mix(digest *[sha256.Size]byte, key string, value []byte) {
	h := sha256.New()
	h.Write([]byte(key + "\x00"))
	h.Write(value)
	for i, x := range h.Sum(nil) {
		digest[i] ^= x
	}
}

func (l *loader) complete(ctx context.Context) error {
	return l.whole(ctx, l.last, l.cfg.Entries)
}
