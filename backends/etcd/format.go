package etcd

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sidevault/sidevault/backends"
)

// layout is the prefix below which everything is kept:
//
//	PREFIX/head             journal: where the storage stands and what the last transaction changed
//	PREFIX/l/NUMBER         log entry: prev (32) || hash (32) || body; NUMBER has 20 digits
//	PREFIX/l/NUMBER-COUNT   log entries of one commit, the first of that number, each
//	                        length (varint) || entry; COUNT has 2 digits and is not 01
//	PREFIX/r/KEY            record: revision (8) || 0x01 || value
//	PREFIX/turn             milliseconds that a writer asked the others to rest, in digits
//
// Integers are big-endian, varints those of encoding/binary.
type layout string

func (l layout) head() string             { return string(l) + "/head" }
func (l layout) turn() string             { return string(l) + "/turn" }
func (l layout) entry(seq uint64) string  { return fmt.Sprintf("%s/l/%020d", string(l), seq) }
func (l layout) logEnd() string           { return string(l) + "/l0" } // '0' follows '/'
func (l layout) record(key string) string { return string(l) + "/r/" + key }

// maxRun is how many entries one key may hold. It may grow, and what was written must be
// found: never shrink.
const maxRun = backends.MaxEntries

// run returns the key and the value that hold the entries of one commit. etcd keeps each
// key in memory, and its work is by key: with one for each entry, a sidecar that serves
// reads costs it half as much again.
func (l layout) run(entries []backends.Entry) (key, stored string) {
	key = l.entry(entries[0].Seq)
	if len(entries) == 1 {
		return key, string(entries[0].Marshal())
	}
	var b []byte
	for _, e := range entries {
		one := e.Marshal()
		b = append(binary.AppendUvarint(b, uint64(len(one))), one...)
	}
	return fmt.Sprintf("%s-%02d", key, len(entries)), string(b)
}

// parseRun reads what run returned.
func (l layout) parseRun(key string, stored []byte) ([]backends.Entry, error) {
	number, _, several := strings.Cut(strings.TrimPrefix(key, string(l)+"/l/"), "-")
	first, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no key of log entries", backends.ErrCorrupt, key)
	}
	ones := [][]byte{stored}
	if several {
		ones = split(stored)
	}
	var entries []backends.Entry
	for i, one := range ones {
		e, err := backends.UnmarshalEntry(first+uint64(i), one)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 || len(entries) > maxRun {
		return nil, fmt.Errorf("%w: %q holds %d log entries", backends.ErrCorrupt, key, len(entries))
	}
	if again, same := l.run(entries); again != key || same != string(stored) {
		return nil, fmt.Errorf("%w: %q does not hold the log entries that it names", backends.ErrCorrupt, key)
	}
	return entries, nil
}

// split returns what follows each length, and what is left where those end.
func split(b []byte) (parts [][]byte) {
	for len(b) > 0 {
		size, n := binary.Uvarint(b)
		end := n + int(min(size, uint64(len(b))))
		if n <= 0 || end > len(b) {
			return append(parts, b)
		}
		parts, b = append(parts, b[n:end]), b[end:]
	}
	return parts
}

const (
	recordFormat = 1
	recordHeader = 9
	headFormat   = 1
	nonceSize    = 16
	headFixed    = 1 + 8 + 8 + len(backends.Hash{}) + nonceSize
)

func marshalRecord(revision backends.Revision, value []byte) string {
	stored := binary.BigEndian.AppendUint64(make([]byte, 0, recordHeader+len(value)), uint64(revision))
	return string(append(append(stored, recordFormat), value...))
}

func parseRecord(key string, stored []byte) (backends.Record, error) {
	if len(stored) < recordHeader || stored[8] != recordFormat {
		return backends.Record{}, fmt.Errorf("%w: the record under key %q has no header of ours", backends.ErrCorrupt, key)
	}
	revision := binary.BigEndian.Uint64(stored)
	return backends.Record{Key: key, Value: stored[recordHeader:len(stored):len(stored)], Revision: backends.Revision(revision)}, nil
}

// holds returns the comparisons that are true exactly when the record under key has
// the revision: etcd compares whole values, but they are ordered, and what begins
// with a revision lies between it and the next one.
func (l layout) holds(c backends.Change) []clientv3.Cmp {
	key := l.record(c.Key)
	if c.If == 0 {
		return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}
	}
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.Value(key), ">", string(binary.BigEndian.AppendUint64(nil, uint64(c.If)))),
		clientv3.Compare(clientv3.Value(key), "<", string(binary.BigEndian.AppendUint64(nil, uint64(c.If+1)))),
	}
}

// journal is what the head holds: where the storage stands, which transaction put
// it there, and the keys that each commit of that transaction put or deleted. The
// last commit has the head's revision, those before it count down from there.
//
//	0x01 || revision (8) || seq (8) || hash (32) || nonce (16) || number of commits || commits
//	commit = number of keys || keys
//	key    = length || bytes
//
// Numbers and lengths are varints (encoding/binary). Every transaction puts a new
// head, so watching this one key tells everything, and what a transaction did can be
// read from the head's history by its nonce.
type journal struct {
	backends.Head
	nonce   [nonceSize]byte
	commits [][]string
}

// follow returns the journal, still without commits, of a transaction on top of j.
func (j journal) follow() journal {
	next := journal{Head: j.Head}
	rand.Read(next.nonce[:])
	return next
}

func (j journal) marshal() string {
	b := []byte{headFormat}
	b = binary.BigEndian.AppendUint64(b, uint64(j.Revision))
	b = binary.BigEndian.AppendUint64(b, j.Seq)
	b = append(append(b, j.Hash[:]...), j.nonce[:]...)
	b = binary.AppendUvarint(b, uint64(len(j.commits)))
	for _, keys := range j.commits {
		b = binary.AppendUvarint(b, uint64(len(keys)))
		for _, key := range keys {
			b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
		}
	}
	return string(b)
}

// events returns the commits of the journal above the revision after, in order.
func (j journal) events(after backends.Revision) []backends.Event {
	var events []backends.Event
	first := j.Revision - backends.Revision(len(j.commits)) + 1
	for i, keys := range j.commits {
		if rev := first + backends.Revision(i); rev > after {
			events = append(events, backends.Event{Revision: rev, Keys: keys})
		}
	}
	return events
}

func parseJournal(stored []byte) (journal, error) {
	var j journal
	if len(stored) > 0 && stored[0] > headFormat {
		return j, fmt.Errorf("%w: it was written in format %d and this program knows %d: use a newer Sidevault", backends.ErrUnavailable, stored[0], headFormat)
	}
	if len(stored) < headFixed || stored[0] != headFormat {
		return j, fmt.Errorf("%w: the head is not one of ours", backends.ErrCorrupt)
	}
	j.Revision = backends.Revision(binary.BigEndian.Uint64(stored[1:]))
	j.Seq = binary.BigEndian.Uint64(stored[9:])
	j.Hash = backends.Hash(stored[17 : headFixed-nonceSize])
	j.nonce = [nonceSize]byte(stored[headFixed-nonceSize : headFixed])
	var err error
	if j.commits, err = parseCommits(stored[headFixed:]); err != nil {
		return journal{}, err
	}
	if uint64(len(j.commits)) > uint64(j.Revision) || j.Revision > 1<<62 || j.Seq > 1<<62 {
		return journal{}, fmt.Errorf("%w: the head's numbers do not add up", backends.ErrCorrupt)
	}
	return j, nil
}

func parseCommits(rest []byte) ([][]string, error) {
	in := bytes.NewReader(rest)
	commits := make([][]string, count(in))
	for i := range commits {
		keys := make([]string, count(in))
		for k := range keys {
			key := make([]byte, count(in))
			in.Read(key)
			keys[k] = string(key)
		}
		commits[i] = keys
	}
	var again journal
	again.commits = commits
	if in.Len() != 0 || again.marshal()[headFixed:] != string(rest) {
		return nil, fmt.Errorf("%w: the head's list of commits does not add up", backends.ErrCorrupt)
	}
	return commits, nil
}

// count reads a number of things, each of which takes at least a byte, and returns
// at most the bytes that are left.
func count(in *bytes.Reader) uint64 {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return 0
	}
	return min(n, uint64(in.Len()))
}

func parsePosition(resp *clientv3.GetResponse) (position, error) {
	at := position{store: resp.Header.Revision}
	if len(resp.Kvs) == 0 {
		return at, nil
	}
	var err error
	at.mod = resp.Kvs[0].ModRevision
	at.journal, err = parseJournal(resp.Kvs[0].Value)
	return at, err
}
