package backends

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Hash is a SHA-256 of the log's chain.
type Hash [sha256.Size]byte

// String returns the hash in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText prints the hash as String does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText prints.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("a hash of %d hexadecimal digits, want %d", len(text), 2*len(h))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Entry is one entry of the log. Entries are numbered from 1 without gaps, and
// each carries the hash of the one before it (zeros for the first):
//
//	Hash = SHA-256("sidevault log v1" || 0x00 || Seq as 8 bytes, big-endian || Prev || Body)
type Entry struct {
	Seq  uint64
	Prev Hash
	Hash Hash
	Body []byte
}

// logDomain keeps the chain's hashes apart from every other use of SHA-256.
const logDomain = "sidevault log v1\x00"

// Append returns the entry that follows h with the given body, and moves h to
// it. A backend calls it inside the commit, once for each body.
func (h *Head) Append(body []byte) Entry {
	e := Entry{Seq: h.Seq + 1, Prev: h.Hash, Body: body}
	e.Hash = e.sum()
	h.Seq, h.Hash = e.Seq, e.Hash
	return e
}

func (e Entry) sum() Hash {
	var room [len(logDomain) + 8 + len(e.Prev)]byte
	before := append(binary.BigEndian.AppendUint64(append(room[:0], logDomain...), e.Seq), e.Prev[:]...)
	d := sha256.New()
	d.Write(before)
	d.Write(e.Body)
	return Hash(d.Sum(room[:0]))
}

// Follows returns nil when e is intact and is the entry that comes directly
// after the one numbered seq with the given hash; else it says what is wrong.
func (e Entry) Follows(seq uint64, hash Hash) error {
	switch {
	case e.Seq != seq+1:
		return fmt.Errorf("entry %d is missing: entry %d follows %d", seq+1, e.Seq, seq)
	case e.Prev != hash:
		return fmt.Errorf("entry %d does not continue entry %d: one of them was replaced", e.Seq, seq)
	case e.Hash != e.sum():
		return fmt.Errorf("entry %d was altered: its content does not match its hash", e.Seq)
	}
	return nil
}

// An entry is stored under its number as Prev || Hash || Body.
const entryHeader = 2 * sha256.Size

// Marshal returns the entry as it is stored under its number.
func (e Entry) Marshal() []byte {
	return bytes.Join([][]byte{e.Prev[:], e.Hash[:], e.Body}, nil)
}

// UnmarshalEntry reads the entry numbered seq from what Marshal returned. The
// body is a copy. It does not verify the hashes.
func UnmarshalEntry(seq uint64, stored []byte) (Entry, error) {
	if len(stored) < entryHeader {
		return Entry{}, fmt.Errorf("%w: log entry %d has %d bytes", ErrCorrupt, seq, len(stored))
	}
	return Entry{
		Seq:  seq,
		Prev: Hash(stored[:sha256.Size]),
		Hash: Hash(stored[sha256.Size:entryHeader]),
		Body: bytes.Clone(stored[entryHeader:]),
	}, nil
}
