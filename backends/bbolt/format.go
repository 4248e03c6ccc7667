package bbolt

import (
	"bytes"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
)

// The file is a bbolt database with three buckets. Integers are big-endian, so
// that the log's keys sort by number.
//
//	records   key                    revision (8 bytes) || value
//	log       seq (8 bytes)          Entry.Marshal: prev (32) || hash (32) || body
//	meta      "format"               "sidevault"
//	          "version"              version (8 bytes)
//	          "head"                 revision (8) || seq (8) || hash (32)
//
// The head is that of the last commit: its seq and hash are the last log
// entry's, or zeros when the log is empty.
const (
	bucketRecords = "records"
	bucketLog     = "log"
	bucketMeta    = "meta"

	keyFormat  = "format"
	keyVersion = "version"
	keyHead    = "head"

	formatName    = "sidevault"
	formatVersion = 1

	headSize = 8 + 8 + len(backends.Hash{})
)

// buckets is the three of one transaction.
type buckets struct {
	records, log, meta *bolt.Bucket
}

func load(tx *bolt.Tx) (buckets, error) {
	s := buckets{
		records: tx.Bucket([]byte(bucketRecords)),
		log:     tx.Bucket([]byte(bucketLog)),
		meta:    tx.Bucket([]byte(bucketMeta)),
	}
	if s.records == nil || s.log == nil || s.meta == nil {
		return s, fmt.Errorf("%w: a bucket is missing", backends.ErrCorrupt)
	}
	return s, nil
}

// initialize writes an empty vault.
func initialize(tx *bolt.Tx) error {
	for _, name := range []string{bucketRecords, bucketLog, bucketMeta} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	s, err := load(tx)
	if err != nil {
		return err
	}
	if err := s.meta.Put([]byte(keyFormat), []byte(formatName)); err != nil {
		return err
	}
	if err := s.meta.Put([]byte(keyVersion), number(formatVersion)); err != nil {
		return err
	}
	return s.putHead(backends.Head{})
}

func readHead(meta *bolt.Bucket) (backends.Head, error) {
	stored := meta.Get([]byte(keyHead))
	if len(stored) != headSize {
		return backends.Head{}, fmt.Errorf("%w: the head has %d bytes", backends.ErrCorrupt, len(stored))
	}
	return backends.Head{
		Revision: backends.Revision(binary.BigEndian.Uint64(stored)),
		Seq:      binary.BigEndian.Uint64(stored[8:]),
		Hash:     backends.Hash(stored[16:]),
	}, nil
}

func (s buckets) putHead(h backends.Head) error {
	stored := make([]byte, 0, headSize)
	stored = binary.BigEndian.AppendUint64(stored, uint64(h.Revision))
	stored = binary.BigEndian.AppendUint64(stored, h.Seq)
	return s.meta.Put([]byte(keyHead), append(stored, h.Hash[:]...))
}

// checkHead holds the head to the last log entry.
func (s buckets) checkHead() error {
	h, err := readHead(s.meta)
	if err != nil {
		return err
	}
	var last backends.Entry
	if k, v := s.log.Cursor().Last(); k != nil {
		if last, err = parseEntry(k, v); err != nil {
			return err
		}
	}
	if last.Seq != h.Seq || last.Hash != h.Hash {
		return fmt.Errorf("%w: the head names log entry %d, the last one is %d", backends.ErrCorrupt, h.Seq, last.Seq)
	}
	return nil
}

// revision returns that of the record under key, 0 when there is none.
func (s buckets) revision(key string) (backends.Revision, error) {
	stored := s.records.Get([]byte(key))
	if stored == nil {
		return 0, nil
	}
	r, err := parseRecord(key, stored)
	return r.Revision, err
}

func (s buckets) putRecord(key string, at backends.Revision, value []byte) error {
	stored := make([]byte, 8, 8+len(value))
	binary.BigEndian.PutUint64(stored, uint64(at))
	return s.records.Put([]byte(key), append(stored, value...))
}

// parseRecord reads a stored record. Value is part of stored.
func parseRecord(key string, stored []byte) (backends.Record, error) {
	if len(stored) < 8 {
		return backends.Record{}, fmt.Errorf("%w: the record %q has %d bytes", backends.ErrCorrupt, key, len(stored))
	}
	return backends.Record{
		Key:      key,
		Value:    stored[8:],
		Revision: backends.Revision(binary.BigEndian.Uint64(stored)),
	}, nil
}

// copyRecord is parseRecord with a Value of its own.
func copyRecord(key string, stored []byte) (backends.Record, error) {
	r, err := parseRecord(key, stored)
	r.Value = bytes.Clone(r.Value)
	return r, err
}

func parseEntry(key, stored []byte) (backends.Entry, error) {
	if len(key) != 8 {
		return backends.Entry{}, fmt.Errorf("%w: a log key of %d bytes", backends.ErrCorrupt, len(key))
	}
	return backends.UnmarshalEntry(binary.BigEndian.Uint64(key), stored)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
