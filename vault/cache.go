package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/maypok86/otter/v2"

	"github.com/sidevault/sidevault/vault/seal"
)

// defaultCacheBytes is how much of the records that it has decrypted a vault keeps.
const defaultCacheBytes = 12 << 20

// records keeps decrypted records, since one age decryption costs a fifth of a
// millisecond. They are sealed under a random key of this process (AES-256-GCM, NIST SP
// 800-38D), so that what lies in memory is ciphertext, and opened for the length of a
// request. A record is addressed by its credential, its version and the revision that
// the credential had: what that stands for never changes, so nothing here is stale.
//
// What is sealed is the fields as they leave ([appendFields]): who reads a secret that
// was read before gets it decrypted into the answer, and nowhere else.
type records struct {
	aead  cipher.AEAD
	nonce atomic.Uint64 // counts, so that none is used twice under the key
	cache *otter.Cache[recordID, []byte]
	// decryptions counts the records that were not here.
	decryptions atomic.Uint64
}

type recordID struct {
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

// get appends the fields of a record to to.
func (r *records) get(to []byte, id recordID) ([]byte, bool) {
	sealed, ok := r.cache.GetIfPresent(id)
	if !ok {
		return to, false
	}
	size := r.aead.NonceSize()
	opened, err := r.aead.Open(to, sealed[:size], sealed[size:], nil)
	if err != nil {
		return to, false // memory has changed under us: decrypt the record itself
	}
	return opened, true
}

func (r *records) put(id recordID, fields []byte) {
	nonce := make([]byte, r.aead.NonceSize(), r.aead.NonceSize()+len(fields)+r.aead.Overhead())
	binary.BigEndian.PutUint64(nonce[4:], r.nonce.Add(1))
	r.cache.Set(id, r.aead.Seal(nonce, nonce, fields, nil))
}

// appendFields appends fields as a JSON object, its members in the order of their
// names.
func appendFields(to []byte, fields seal.Fields) ([]byte, error) {
	room := 2
	for name, value := range fields {
		room += longestQuoted*(len(name)+value.Len()) + len(`"":"",`)
	}
	to = append(slices.Grow(to, room), '{')
	var err error
	for i, name := range slices.Sorted(maps.Keys(fields)) {
		if i > 0 {
			to = append(to, ',')
		}
		if to, err = jsontext.AppendQuote(to, name); err != nil {
			return to, err
		}
		to = append(to, ':')
		if to, err = jsontext.AppendQuote(to, fields[name].Reveal()); err != nil {
			return to, errors.New("a field is not UTF-8") // the error could quote it
		}
	}
	return append(to, '}'), nil
}

// longestQuoted is how many bytes JSON may make of one.
const longestQuoted = 6

// parseFields reads what appendFields wrote.
func parseFields(object []byte) (seal.Fields, error) {
	var fields seal.Fields
	if json.Unmarshal(object, &fields) != nil {
		return nil, errors.New("the fields are no JSON object of strings") // the error could quote it
	}
	return fields, nil
}
