// Package backup is the format of a vault's backup: one age file whose plaintext is
// lines of JSON, so that a person with the age command, grep and base64 gets
// everything back without Sidevault.
//
//	{"backup":{"format":1,"vault":UUID,"control":"age1…","createdAt":TIME,"head":HEAD}}
//	{"key":"live/…","text":"…"}                    a record of storage, in the order of the keys' bytes;
//	{"key":"record/…","file":"base64"}             its value as text, or where that is none, as base64
//	{"key":"live/…","changed":true,"text":"…"}     a record that changed while the others were read: of the
//	{"key":"live/…","changed":true,"gone":true}    lines of one key the last holds; gone: there is no record
//	{"seq":1,"hash":"hex","text":"…"}              an entry of the log, from the first to the last
//	{"end":{"head":HEAD,"records":N,"changes":N,"entries":N,"sha256":"hex"}}
//	base64url                                      the signature of the line before
//
// HEAD is {"revision":N,"seq":N,"hash":"hex"}: in the first line where storage stood
// when the backup began, in the last the moment whose state the file holds. sha256 is
// that of every line before the last two, newlines and all. The signature is the
// control key's ([seal.Key.Sign], for the name in signedAs), so only a holder of the
// vault's keys can have written the file as it is: age alone authenticates nobody.
//
// The package knows lines, their order and their seal. What the records mean it leaves
// to the vault.
package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault/seal"
)

// format is the version of the file.
const format = 1

// signedAs stands for the storage key in the last line's signature. No record of
// storage has it: it holds a space.
const signedAs = "backup file"

// Errors of reading a backup.
var (
	ErrNotBackup  = errors.New("it is no backup of a vault")
	ErrDamaged    = errors.New("the backup is damaged or was altered")
	ErrNoIdentity = errors.New("no identity given opens the backup: it was made for others")
	ErrNewer      = errors.New("the backup was written by a newer version of sidevault: use that version or newer")
)

// Head is a moment of storage.
type Head struct {
	Revision backends.Revision `json:"revision"`
	Seq      uint64            `json:"seq"`
	Hash     backends.Hash     `json:"hash"`
}

// Header is the first line.
type Header struct {
	Format    int       `json:"format"`
	Vault     string    `json:"vault"`   // its UUID
	Control   string    `json:"control"` // recipient of the control key that signs the end
	CreatedAt time.Time `json:"createdAt"`
	Head      Head      `json:"head"` // when the backup began
}

// End is the last line but for its signature.
type End struct {
	Head    Head          `json:"head"`    // the moment whose state the file holds
	Records uint64        `json:"records"` // lines of records that are not changes
	Changes uint64        `json:"changes"`
	Entries uint64        `json:"entries"`
	SHA256  backends.Hash `json:"sha256"`
}

// line is any line; exactly one of Backup, Key, Seq and End is given.
type line struct {
	Backup  *Header        `json:"backup,omitempty"`
	Key     string         `json:"key,omitempty"`
	Seq     uint64         `json:"seq,omitempty"`
	Hash    *backends.Hash `json:"hash,omitempty"`
	Changed bool           `json:"changed,omitempty"`
	Gone    bool           `json:"gone,omitempty"`
	Text    *string        `json:"text,omitempty"`
	File    []byte         `json:"file,omitempty"`
	End     *End           `json:"end,omitempty"`
}

func (l *line) setValue(value []byte) {
	if text := string(value); readable(text) {
		l.Text = &text
	} else {
		l.File = value
	}
}

func (l *line) value() []byte {
	if l.Text != nil {
		return []byte(*l.Text)
	}
	return l.File
}

// readable reports whether a value is text that a person reads and that JSON keeps.
func readable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == utf8.RuneError })
}

// Writer writes a backup. It is not for concurrent use.
type Writer struct {
	file io.WriteCloser // age's
	buf  *bufio.Writer
	json *json.Encoder // into buf, and into sum
	sum  hash.Hash
	end  End
	size uint64
}

// NewWriter begins a backup for the recipients.
func NewWriter(w io.Writer, h Header, to ...age.Recipient) (*Writer, error) {
	file, err := age.Encrypt(w, to...)
	if err != nil {
		return nil, fmt.Errorf("encrypt the backup: %w", err)
	}
	out := &Writer{file: file, buf: bufio.NewWriterSize(file, 64<<10), sum: sha256.New()}
	out.json = json.NewEncoder(io.MultiWriter(out, out.sum))
	out.json.SetEscapeHTML(false)
	h.Format = format
	return out, out.json.Encode(line{Backup: &h})
}

// Write counts what goes into the file.
func (w *Writer) Write(p []byte) (int, error) {
	w.size += uint64(len(p))
	return w.buf.Write(p)
}

// Size is how many bytes of plaintext have been written.
func (w *Writer) Size() uint64 { return w.size }

// Record writes a record; their keys ascend, and no change comes before one.
func (w *Writer) Record(key string, value []byte) error {
	l := line{Key: key}
	l.setValue(value)
	w.end.Records++
	return w.json.Encode(l)
}

// Change writes what has become of a key meanwhile: a value, or nil when it is gone.
// No entry comes before one.
func (w *Writer) Change(key string, value []byte) error {
	l := line{Key: key, Changed: true, Gone: value == nil}
	if value != nil {
		l.setValue(value)
	}
	w.end.Changes++
	return w.json.Encode(l)
}

// Entry writes an entry of the log; they come in their order, from the first.
func (w *Writer) Entry(e backends.Entry) error {
	l := line{Seq: e.Seq, Hash: &e.Hash}
	l.setValue(e.Body)
	w.end.Entries++
	return w.json.Encode(l)
}

// End signs and ends the backup, which holds the state at head.
func (w *Writer) End(head backends.Head, control *seal.Key) (End, error) {
	w.end.Head = Head(head)
	w.sum.Sum(w.end.SHA256[:0])
	doc, err := json.Marshal(line{End: &w.end})
	if err != nil {
		return End{}, err
	}
	if _, err := w.Write(control.Sign(signedAs, doc)); err != nil {
		return End{}, err
	}
	if err := w.buf.Flush(); err != nil {
		return End{}, err
	}
	return w.end, w.file.Close()
}
