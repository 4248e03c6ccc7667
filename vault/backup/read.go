package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault/seal"
)

// maxLine bounds a line: a value of [backends.MaxValue] bytes, every one escaped as
// six, and room for its key.
const maxLine = 7 << 20

// Item is what a line holds: a record, or an entry of the log.
type Item struct {
	Key     string // "" for an entry
	Value   []byte
	Changed bool
	Gone    bool
	Entry   backends.Entry
}

// Reader reads a backup and holds it to its format. It is not for concurrent use.
type Reader struct {
	lines   *bufio.Scanner
	sum     hash.Hash
	header  Header
	seen    End
	end     End
	signed  []byte
	last    string // key of the last record
	changed bool   // changes have begun
}

// NewReader opens a backup and reads its first line.
func NewReader(r io.Reader, identities ...age.Identity) (*Reader, error) {
	plain, err := age.Decrypt(r, identities...)
	if _, none := errors.AsType[*age.NoIdentityMatchError](err); none {
		return nil, ErrNoIdentity
	}
	if errors.Is(err, seal.ErrPlugin) {
		return nil, err
	}
	if err != nil {
		// age quotes what it could not read, which may be any bytes.
		return nil, fmt.Errorf("%w, or its beginning is damaged: it is no age file", ErrNotBackup)
	}
	out := &Reader{lines: bufio.NewScanner(plain), sum: sha256.New()}
	out.lines.Buffer(make([]byte, 0, 16<<10), maxLine)
	out.lines.Split(wholeLines)
	first, err := out.next()
	if err != nil {
		return nil, err
	}
	if first.Backup == nil {
		return nil, ErrNotBackup
	}
	if out.header = *first.Backup; out.header.Format > format {
		return nil, ErrNewer
	}
	return out, nil
}

// wholeLines is bufio.ScanLines for lines that all end with a newline; it keeps it.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

// Header returns the first line. Until Verify nobody vouches for it.
func (r *Reader) Header() Header { return r.header }

// raw returns the next line, which the next call overwrites.
func (r *Reader) raw() ([]byte, error) {
	if r.lines.Scan() {
		return r.lines.Bytes(), nil
	}
	switch err := r.lines.Err(); {
	case err == nil, errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: it ends in the middle", ErrDamaged)
	case errors.Is(err, bufio.ErrTooLong):
		return nil, damaged("a line is longer than any record")
	default:
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// next reads a line that is not the end's, whose bytes are not part of the sum.
func (r *Reader) next() (l line, err error) {
	text, err := r.raw()
	if err != nil {
		return line{}, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&l) != nil || d.More() {
		return line{}, damaged("a line of it is not one of a backup")
	}
	if l.End != nil {
		r.signed = bytes.Clone(text)
	} else {
		r.sum.Write(text)
	}
	return l, nil
}

// Next returns the next record or entry, and io.EOF after the last when everything
// that can be checked without a key was as it must be.
func (r *Reader) Next() (Item, error) {
	l, err := r.next()
	switch {
	case err != nil:
		return Item{}, err
	case l.End != nil:
		return Item{}, r.finish(*l.End)
	case l.Seq != 0:
		return r.entry(l)
	case l.Key != "" && r.seen.Entries == 0:
		return r.record(l)
	}
	return Item{}, damaged("its lines are out of order")
}

func (r *Reader) record(l line) (Item, error) {
	switch {
	case backends.ValidateKey(l.Key) != nil:
		return Item{}, damaged("a record has no valid key")
	case !l.Changed && (r.changed || l.Key <= r.last || l.Gone):
		return Item{}, damaged("the record %.100q is out of order", l.Key)
	case l.Changed:
		r.changed = true
		r.seen.Changes++
	default:
		r.last = l.Key
		r.seen.Records++
	}
	return Item{Key: l.Key, Value: l.value(), Changed: l.Changed, Gone: l.Gone}, nil
}

func (r *Reader) entry(l line) (Item, error) {
	if l.Hash == nil || l.Key != "" {
		return Item{}, damaged("log entry %d is incomplete", l.Seq)
	}
	e := backends.Entry{Seq: l.Seq, Prev: r.seen.Head.Hash, Hash: *l.Hash, Body: l.value()}
	if err := e.Follows(r.seen.Head.Seq, r.seen.Head.Hash); err != nil {
		return Item{}, damaged("log %s", err)
	}
	r.seen.Head.Seq, r.seen.Head.Hash = e.Seq, e.Hash
	r.seen.Entries++
	return Item{Entry: e}, nil
}

// finish holds what was read to what the end says, and returns io.EOF.
func (r *Reader) finish(end End) error {
	r.sum.Sum(r.seen.SHA256[:0])
	r.seen.Head.Revision = end.Head.Revision
	if r.seen != end {
		return damaged("its last line is of another content: %d records, %d changes and %d log entries, and it has %d, %d and %d",
			end.Records, end.Changes, end.Entries, r.seen.Records, r.seen.Changes, r.seen.Entries)
	}
	signature, err := r.raw()
	if err != nil {
		return err
	}
	r.signed = append(r.signed, signature...)
	if r.lines.Scan() {
		return damaged("something follows its last line")
	}
	if err := r.lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r.end = end
	return io.EOF
}

// End returns the last line, once Next has returned io.EOF.
func (r *Reader) End() End { return r.end }

// Verify returns nil when a holder of the control key, which the header names, has
// written what was read. Call it once Next has returned io.EOF.
func (r *Reader) Verify(control *seal.Key) error {
	if control.Recipient() != r.header.Control {
		return damaged("its control key is not the one that it names")
	}
	if _, err := control.Verify(signedAs, r.signed); err != nil {
		return damaged("it was not written by a holder of the vault's keys")
	}
	return nil
}
