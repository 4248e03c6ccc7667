package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sidevault/sidevault/backends"
)

// compare reads the records of both ends and compares them.
func (c *copier) compare(ctx context.Context) error {
	skip := []string{c.LastKey, c.NotesKey}
	source, target := walk{from: c.From, skip: skip}, walk{from: c.To, skip: skip}
	for n := uint64(0); ; n++ {
		want, err := source.next(ctx)
		if err != nil {
			return err
		}
		got, err := target.next(ctx)
		switch {
		case err != nil:
			return err
		case want == nil && got == nil && n == c.notes.Records:
			return nil
		case want == nil && got == nil:
			return fmt.Errorf("%w: it has %d records, and %d were copied", ErrDiffers, n, c.notes.Records)
		case got == nil || want != nil && want.Key < got.Key:
			return fmt.Errorf("%w: the record %q is missing", ErrDiffers, want.Key)
		case want == nil || got.Key < want.Key:
			return fmt.Errorf("%w: the record %q is not in the source", ErrDiffers, got.Key)
		case !bytes.Equal(want.Value, got.Value):
			return fmt.Errorf("%w: the record %q is another", ErrDiffers, want.Key)
		}
		c.Progress(Progress{Comparing, n + 1, c.notes.Records})
	}
}

// verifyLog walks the target's chain, which must end where the source's does.
func (c *copier) verifyLog(ctx context.Context) error {
	want := c.notes.Source
	var at backends.Head
	for at.Seq < want.Seq {
		page, err := c.To.Log(ctx, at.Seq, readPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return fmt.Errorf("%w: log entry %d is missing", ErrDiffers, at.Seq+1)
		}
		for _, e := range page {
			if err := e.Follows(at.Seq, at.Hash); err != nil {
				return fmt.Errorf("%w: %w", ErrDiffers, err)
			}
			at.Seq, at.Hash = e.Seq, e.Hash
		}
		c.Progress(Progress{VerifyingLog, at.Seq, want.Seq})
	}
	head, err := c.To.Head(ctx)
	if err == nil && (at.Seq != want.Seq || at.Hash != want.Hash || head.Seq != want.Seq || head.Hash != want.Hash) {
		err = fmt.Errorf("%w: its log ends with entry %d (%v), the source's with %d (%v)", ErrDiffers, head.Seq, head.Hash, want.Seq, want.Hash)
	}
	return err
}

// finish makes the target whole.
func (c *copier) finish(ctx context.Context) error {
	last, err := c.From.Get(ctx, c.LastKey)
	if err != nil {
		return err
	}
	return c.whole(ctx, last.Value, nil)
}

// whole puts the record that makes the target what it is, takes the notes away, and
// appends entries to the log.
func (c *copier) whole(ctx context.Context, last []byte, entries [][]byte) error {
	b := backends.Batch{Changes: []backends.Change{backends.Put(c.LastKey, 0, last), backends.Delete(c.NotesKey, c.at)}, Entries: entries}
	for {
		_, err := c.To.Commit(ctx, b)
		if !errors.Is(err, backends.ErrUnknownOutcome) {
			return err
		}
		switch _, getErr := c.To.Get(ctx, c.LastKey); {
		case getErr == nil:
			return nil
		case !errors.Is(getErr, backends.ErrNotFound):
			return errors.Join(err, getErr)
		}
	}
}

// walk goes through records in the order of their keys.
type walk struct {
	from  backends.Backend
	after string
	skip  []string
	page  []backends.Record
	end   bool
}

// next returns the next record that is not to be skipped, or nil after the last.
func (w *walk) next(ctx context.Context) (*backends.Record, error) {
	for {
		if len(w.page) == 0 {
			if w.end {
				return nil, nil
			}
			page, err := w.from.List(ctx, "", w.after, readPage)
			if err != nil {
				return nil, err
			}
			w.page, w.end = page, len(page) < readPage
			continue
		}
		r := &w.page[0]
		w.page, w.after = w.page[1:], r.Key
		if !slices.Contains(w.skip, r.Key) {
			return r, nil
		}
	}
}

// packer makes batches as large as they may be, with room for the notes.
type packer struct {
	flush func(backends.Batch) error
	batch backends.Batch
	size  int
}

func (p *packer) entry(body []byte) error {
	if err := p.room(len(body), len(p.batch.Entries) < backends.MaxEntries); err != nil {
		return err
	}
	p.batch.Entries = append(p.batch.Entries, body)
	return nil
}

func (p *packer) put(c backends.Change) error {
	if err := p.room(len(c.Value), len(p.batch.Changes) < backends.MaxChanges-1); err != nil {
		return err
	}
	p.batch.Changes = append(p.batch.Changes, c)
	return nil
}

// room flushes the batch unless it has room for one more of that size.
func (p *packer) room(size int, more bool) error {
	if !more || p.size+size > backends.MaxBatch-notesRoom {
		if err := p.end(); err != nil {
			return err
		}
	}
	p.size += size
	return nil
}

// end flushes what is left.
func (p *packer) end() error {
	if len(p.batch.Changes)+len(p.batch.Entries) == 0 {
		return nil
	}
	b := p.batch
	p.batch, p.size = backends.Batch{}, 0
	return p.flush(b)
}
