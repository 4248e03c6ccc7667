package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// defaultCacheBytes is how much of the records that it has decrypted a vault keeps.
const defaultCacheBytes = 12 << 20

// records keeps decrypted records, since one age decryption costs a fifth of a
// millisecond. They are sealed under a random key of this process (AES-256-GCM, NIST SP
// 800-38D), so that what lies in memory is ciphertext, and opened for the length of a
// request. A record is addressed by its credential, its version and the revision that
// the credential had: what that stands for never changes, so nothing here is stale.
type records struct {
	aead  cipher.AEAD
	nonce atomic.Uint64 // counts, so that none is used twice under the key
	cache *otter.Cache[recordID, []byte]
}

type recordID struct {
	org     string
	id      ID
	version uint64
	at      Revision // of the credential
}

// recordOverhead is what an entry takes besides its ciphertext, in bytes.
const recordOverhead = 256

func newRecords(most int) (*records, error) {
	key := make([]byte, 32)
	rand.Read(key)
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	r := &records{}
	if r.aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	r.cache, err = otter.New(&otter.Options[recordID, []byte]{
		MaximumWeight: uint64(most),
		Weigher:       func(_ recordID, sealed []byte) uint32 { return uint32(len(sealed)) + recordOverhead },
	})
	return r, err
}

func (r *records) get(id recordID) (seal.Fields, bool) {
	sealed, ok := r.cache.GetIfPresent(id)
	if !ok {
		return nil, false
	}
	size := r.aead.NonceSize()
	plain, err := r.aead.Open(nil, sealed[:size], sealed[size:], nil)
	if err != nil {
		return nil, false // memory has changed under us: decrypt the record itself
	}
	defer clear(plain)
	return decodeFields(plain)
}

func (r *records) put(id recordID, fields seal.Fields) {
	plain := encodeFields(fields)
	defer clear(plain)
	nonce := make([]byte, r.aead.NonceSize(), r.aead.NonceSize()+len(plain)+r.aead.Overhead())
	binary.BigEndian.PutUint64(nonce[4:], r.nonce.Add(1))
	r.cache.Set(id, r.aead.Seal(nonce, nonce, plain, nil))
}

// encodeFields writes each name and value after its length, as an unsigned varint.
func encodeFields(fields seal.Fields) []byte {
	size := 0
	for name, value := range fields {
		size += len(name) + value.Len() + 2*binary.MaxVarintLen64
	}
	b := make([]byte, 0, size)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
		b = binary.AppendUvarint(b, uint64(fields[name].Len()))
		b = append(b, fields[name].Reveal()...)
	}
	return b
}

func decodeFields(b []byte) (seal.Fields, bool) {
	fields := seal.Fields{}
	for len(b) > 0 {
		name, rest, ok := cutCounted(b)
		value, rest, okValue := cutCounted(rest)
		if !ok || !okValue {
			return nil, false
		}
		fields[string(name)] = secret.New(string(value))
		b = rest
	}
	return fields, true
}

func cutCounted(b []byte) (part, rest []byte, ok bool) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, nil, false
	}
	return b[used : used+int(n)], b[used+int(n):], true
}
