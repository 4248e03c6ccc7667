// Package migrate copies everything that one storage holds into another: every
// record under its key, and the whole log, entry by entry, so that its chain comes
// out with the same hashes. It needs no key and looks into nothing.
//
// Until the copy is whole the target holds notes on how far it has come, which every
// commit of the copy replaces, and lacks the record that makes it what it is. So a
// copy that was killed goes on where it stood, two copies cannot mix, and nobody can
// take a half for the whole: the notes go and that record comes in one last commit,
// after everything was read back and compared.
//
// Load fills a target in the same way from what is no storage, such as a backup.
//
// What does not come along are revisions: they are the engine's own. Nothing that is
// stored refers to one, but clients do: an ETag, or the place where a watch goes on,
// of before is not one of after.
package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sidevault/sidevault/backends"
)

// Errors of Copy that the one who started it must act on.
var (
	ErrNoSource   = errors.New("the source does not hold what is to be copied")
	ErrHalfSource = errors.New("the source is itself half of a copy: finish that one first")
	ErrNotEmpty   = errors.New("the target is not empty: name an empty one")
	ErrUnfinished = errors.New("the target holds half of a copy: go on with it, or empty the target")
	ErrChanged    = errors.New("the source was changed during the copy: stop what writes to it, empty the target and begin again")
	ErrBroken     = errors.New("the source's log is broken, and its chain cannot be copied")
	ErrDiffers    = errors.New("the copy differs from the source: empty the target and begin again")
)

const (
	// readPage is how many records are read at once: few, since each may have
	// [backends.MaxValue] bytes.
	readPage = 64
	// notesRoom is what a batch leaves for the notes.
	notesRoom = 16 << 10
	// notesFormat is the version of the notes.
	notesFormat = 1
)

// Config is what a copy needs.
type Config struct {
	From, To backends.Backend
	LastKey  string // the record that makes storage what it is; From has it
	NotesKey string // where the target keeps the notes; From has nothing there
	Resume   bool   // go on with a copy that was begun; begin one if none was
	// Progress, when not nil, is called now and then.
	Progress func(Progress)
}

// Stage is a part of a copy, in words for a person.
type Stage string

// The stages of a copy, in their order.
const (
	CopyingLog     Stage = "Copied log entries"
	CopyingRecords Stage = "Copied records"
	Comparing      Stage = "Compared records"
	VerifyingLog   Stage = "Verified log entries"
)

// Progress says how far a stage has come. Total is 0 when it is not known.
type Progress struct {
	Stage       Stage
	Done, Total uint64
}

// Result is what a finished copy holds.
type Result struct {
	Records uint64
	Head    backends.Head // of the target; its Seq and Hash are the source's
}

// notes is what the target knows of a copy that is not finished.
type notes struct {
	Format  int           `json:"format"`
	Source  backends.Head `json:"source"`         // where the source stood when it began
	Step    uint64        `json:"step"`           // counts commits
	After   string        `json:"after"`          // the last key that was copied
	Load    string        `json:"load,omitempty"` // what a Load takes the state from
	Records uint64        `json:"records"`
}

// copier is a copy under way.
type copier struct {
	Config
	notes notes
	at    backends.Revision // of the notes
}

// Copy copies From into To, which must be empty or, with Resume, hold what an earlier
// call left. Nothing else may write to either meanwhile: a change of the source ends
// the copy with ErrChanged, one of the target with an ErrConflict.
func Copy(ctx context.Context, cfg Config) (Result, error) {
	c := &copier{Config: cfg}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if err := c.begin(ctx); err != nil {
		return Result{}, err
	}
	for _, step := range []func(context.Context) error{c.copyLog, c.copyRecords, c.unchanged, c.compare, c.verifyLog, c.unchanged, c.finish} {
		if err := step(ctx); err != nil {
			return Result{}, err
		}
	}
	head, err := c.To.Head(ctx)
	return Result{Records: c.notes.Records + 1, Head: head}, err
}

// begin checks both ends, and writes the first notes or finds those of before.
func (c *copier) begin(ctx context.Context) error {
	head, err := c.checkSource(ctx)
	if err != nil {
		return err
	}
	switch err := c.readNotes(ctx); {
	case errors.Is(err, backends.ErrNotFound):
		if err := c.checkEmpty(ctx); err != nil {
			return err
		}
		c.notes = notes{Format: notesFormat, Source: head}
		return c.commit(ctx, backends.Batch{})
	case err != nil:
		return err
	case !c.Resume, c.notes.Load != "":
		return ErrUnfinished
	case c.notes.Source != head:
		return fmt.Errorf("%w: it was at revision %d, and is at %d", ErrChanged, c.notes.Source.Revision, head.Revision)
	}
	return nil
}

func (c *copier) checkSource(ctx context.Context) (backends.Head, error) {
	switch _, err := c.From.Get(ctx, c.NotesKey); {
	case err == nil:
		return backends.Head{}, ErrHalfSource
	case !errors.Is(err, backends.ErrNotFound):
		return backends.Head{}, err
	}
	if _, err := c.From.Get(ctx, c.LastKey); errors.Is(err, backends.ErrNotFound) {
		return backends.Head{}, ErrNoSource
	} else if err != nil {
		return backends.Head{}, err
	}
	return c.From.Head(ctx)
}

func (c *copier) checkEmpty(ctx context.Context) error {
	head, err := c.To.Head(ctx)
	if err != nil {
		return err
	}
	page, err := c.To.List(ctx, "", "", 1)
	if err == nil && (len(page) > 0 || head.Seq > 0) {
		err = ErrNotEmpty
	}
	return err
}

func (c *copier) readNotes(ctx context.Context) error {
	r, err := c.To.Get(ctx, c.NotesKey)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(r.Value, &c.notes); err != nil || c.notes.Format != notesFormat {
		return fmt.Errorf("%w (its notes are of another version)", ErrUnfinished)
	}
	c.at = r.Revision
	return nil
}

// commit commits a batch together with the notes.
func (c *copier) commit(ctx context.Context, b backends.Batch) error {
	c.notes.Step++
	text, err := json.Marshal(c.notes)
	if err != nil {
		return err
	}
	b.Changes = append(b.Changes, backends.Put(c.NotesKey, c.at, text))
	for {
		rev, err := c.To.Commit(ctx, b)
		if !errors.Is(err, backends.ErrUnknownOutcome) {
			c.at = rev
			return err
		}
		wanted := c.notes
		switch readErr := c.readNotes(ctx); {
		case readErr == nil && c.notes == wanted:
			return nil
		case readErr == nil && c.notes.Step+1 == wanted.Step, errors.Is(readErr, backends.ErrNotFound) && wanted.Step == 1:
			c.notes = wanted // it was not applied
		default:
			return errors.Join(err, readErr)
		}
	}
}

// copyLog appends what the target's log lacks, in the same order.
func (c *copier) copyLog(ctx context.Context) error {
	at, err := c.To.Head(ctx)
	if err != nil {
		return err
	}
	total := c.notes.Source.Seq
	for at.Seq < total {
		page, err := c.From.Log(ctx, at.Seq, backends.MaxEntries)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return fmt.Errorf("%w: entry %d of %d is missing", ErrBroken, at.Seq+1, total)
		}
		if at, err = c.appendEntries(ctx, at, page); err != nil {
			return err
		}
		c.Progress(Progress{CopyingLog, at.Seq, total})
	}
	if at.Seq != total || at.Hash != c.notes.Source.Hash {
		return fmt.Errorf("%w: entry %d is not the last one that was written", ErrBroken, at.Seq)
	}
	return nil
}

// appendEntries appends entries that must follow the target's log, which is at at.
func (c *copier) appendEntries(ctx context.Context, at backends.Head, entries []backends.Entry) (backends.Head, error) {
	p := packer{flush: func(b backends.Batch) error { return c.commit(ctx, b) }}
	for _, e := range entries {
		if e.Seq > c.notes.Source.Seq {
			break
		}
		if err := e.Follows(at.Seq, at.Hash); err != nil {
			return at, fmt.Errorf("%w: %w", ErrBroken, err)
		}
		at.Seq, at.Hash = e.Seq, e.Hash
		if err := p.entry(e.Body); err != nil {
			return at, err
		}
	}
	return at, p.end()
}

// copyRecords puts the records after the last one that was copied, but for the one
// that comes last of all.
func (c *copier) copyRecords(ctx context.Context) error {
	next := c.notes // as of the records that the batch in the making has
	p := packer{flush: func(b backends.Batch) error {
		c.notes.After, c.notes.Records = next.After, next.Records
		return c.commit(ctx, b)
	}}
	records := walk{from: c.From, after: next.After, skip: []string{c.LastKey}}
	for {
		r, err := records.next(ctx)
		if err != nil {
			return err
		}
		if r == nil {
			return p.end()
		}
		if err := p.put(backends.Put(r.Key, 0, r.Value)); err != nil {
			return err
		}
		next.After = r.Key
		next.Records++
		c.Progress(Progress{CopyingRecords, next.Records, 0})
	}
}

// unchanged compares the source with where it stood at the beginning.
func (c *copier) unchanged(ctx context.Context) error {
	head, err := c.From.Head(ctx)
	if err == nil && head != c.notes.Source {
		err = fmt.Errorf("%w: it was at revision %d, and is at %d", ErrChanged, c.notes.Source.Revision, head.Revision)
	}
	return err
}
