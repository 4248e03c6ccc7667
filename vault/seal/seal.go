// Package seal turns a credential's fields into ciphertext bound to their place,
// and back. It refuses to return anything that was altered, moved or written by
// someone without the key.
//
// Each environment, and the shared scope, has a [Key]: an age identity that the
// vault made. A record is a standard binary age file (age-encryption.org/v1) for
// that key's recipient, so the stock age command opens it. age authenticates no
// writer: anyone who knows the recipient can encrypt to it. Therefore the
// plaintext carries a MAC, keyed from the identity, over the place and the
// fields:
//
//	{"place":{"org":…,"integration":…,"environment":…|null,"name":…,"id":…,"version":…},
//	 "fields":{…},
//	 "mac":"base64"}
//
//	mac = HMAC-SHA256(macKey, "sidevault record v1" and then, each preceded by its
//	      length as 4 bytes big-endian: org, integration, environment ("" for the
//	      shared scope), name, id, version in decimal, and for each field in the
//	      order of the names' bytes: name, value)
//	macKey = HKDF-SHA256(secret: the identity as age prints it, no salt,
//	         info: "sidevault record mac v1")
//
// Keys themselves are stored as age files for the vault's root recipients
// ([Key.Wrap], [Unwrap]).
package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/sidevault/sidevault/vault/secret"
)

// ErrIntegrity: the record is not one that a holder of this key sealed for this
// place. Its text never quotes the record.
var ErrIntegrity = errors.New("the record fails its integrity check")

// maxPlaintext bounds what Open reads: 64 KiB of fields, every byte of them
// escaped as six, and room for the place.
const maxPlaintext = 512 << 10

// Place is where a record belongs. Every part is bound into the record.
type Place struct {
	Org         string // the org's UUID
	Integration string
	Environment string // "" for the shared scope
	Name        string
	ID          string // the credential's
	Version     uint64
}

// Fields are a credential's secret fields by name.
type Fields map[string]secret.Value

// payload is the plaintext of a record, as drawn in the package comment.
type payload struct {
	Place  placeJSON         `json:"place"`
	Fields map[string]string `json:"fields"`
	MAC    string            `json:"mac"`
}

type placeJSON struct {
	Org         string  `json:"org"`
	Integration string  `json:"integration"`
	Environment *string `json:"environment"`
	Name        string  `json:"name"`
	ID          string  `json:"id"`
	Version     uint64  `json:"version"`
}

// Seal returns fields as a record for place. Names and values must be UTF-8: JSON
// would quietly change anything else.
func (k *Key) Seal(place Place, fields Fields) ([]byte, error) {
	for name, value := range fields {
		if !utf8.ValidString(name) || !utf8.ValidString(value.Reveal()) {
			return nil, errors.New("seal a record: a field is not UTF-8")
		}
	}
	if !utf8.ValidString(place.Org + "\x00" + place.Integration + "\x00" + place.Environment + "\x00" + place.Name + "\x00" + place.ID) {
		return nil, errors.New("seal a record: its place is not UTF-8")
	}
	plain, err := json.Marshal(payload{
		Place:  place.json(),
		Fields: reveal(fields),
		MAC:    base64.StdEncoding.EncodeToString(k.mac(place, fields)),
	})
	if err != nil {
		return nil, fmt.Errorf("encode a record: %w", err)
	}
	defer clear(plain)
	file, err := k.headers.encrypt(plain)
	if err != nil {
		return nil, fmt.Errorf("encrypt a record: %w", err)
	}
	return file, nil
}

// Open returns the fields of a record that was sealed with k for place, else an
// error that wraps ErrIntegrity.
func (k *Key) Open(file []byte, place Place) (Fields, error) {
	found, fields, err := k.unseal(file)
	if err != nil {
		return nil, err
	}
	if found != place {
		return nil, fmt.Errorf("%w: it belongs to another place", ErrIntegrity)
	}
	return fields, nil
}

// Place returns the place that a record was sealed with k for, else an error that
// wraps ErrIntegrity.
func (k *Key) Place(file []byte) (Place, error) {
	place, _, err := k.unseal(file)
	return place, err
}

func (k *Key) unseal(file []byte) (Place, Fields, error) {
	plain, err := decrypt(file, maxPlaintext, k.identity)
	if err != nil {
		return Place{}, nil, fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	defer clear(plain)
	var p payload
	if json.Unmarshal(plain, &p) != nil {
		// The decoder's text could quote the plaintext.
		return Place{}, nil, fmt.Errorf("%w: its plaintext is not a record", ErrIntegrity)
	}
	fields := make(Fields, len(p.Fields))
	for name, value := range p.Fields {
		fields[name] = secret.New(value)
	}
	mac, err := base64.StdEncoding.DecodeString(p.MAC)
	if err != nil || !hmac.Equal(mac, k.mac(p.Place.place(), fields)) {
		return Place{}, nil, fmt.Errorf("%w: it was not written by a holder of the environment's key", ErrIntegrity)
	}
	return p.Place.place(), fields, nil
}

func (k *Key) mac(p Place, fields Fields) []byte {
	h := hmac.New(sha256.New, k.recordMAC)
	h.Write([]byte("sidevault record v1"))
	for _, part := range []string{p.Org, p.Integration, p.Environment, p.Name, p.ID, strconv.FormatUint(p.Version, 10)} {
		writePart(h, part)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		writePart(h, name)
		writePart(h, fields[name].Reveal())
	}
	return h.Sum(nil)
}

func writePart(h io.Writer, part string) {
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
	io.WriteString(h, part)
}

// decrypt returns the plaintext in one buffer of the right size, for the caller to
// clear: growing it would leave copies behind.
func decrypt(file []byte, limit int64, identities ...age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(file), identities...)
	if err != nil {
		return nil, err
	}
	// The plaintext is shorter than the file, so there is room to see its end.
	plain := make([]byte, min(int64(len(file)), limit+1))
	n := 0
	for err == nil && n < len(plain) {
		var more int
		more, err = r.Read(plain[n:])
		n += more
	}
	switch {
	case int64(n) > limit:
		err = fmt.Errorf("its plaintext is over %d bytes", limit)
	case err == nil:
		err = errors.New("its plaintext is as long as itself")
	case errors.Is(err, io.EOF):
		return plain[:n], nil
	}
	clear(plain)
	return nil, err
}

func reveal(fields Fields) map[string]string {
	plain := make(map[string]string, len(fields))
	for name, value := range fields {
		plain[name] = value.Reveal()
	}
	return plain
}

func (p Place) json() placeJSON {
	j := placeJSON{Org: p.Org, Integration: p.Integration, Name: p.Name, ID: p.ID, Version: p.Version}
	if p.Environment != "" {
		j.Environment = &p.Environment
	}
	return j
}

func (j placeJSON) place() Place {
	p := Place{Org: j.Org, Integration: j.Integration, Name: j.Name, ID: j.ID, Version: j.Version}
	if j.Environment != nil {
		p.Environment = *j.Environment
	}
	return p
}

// IsFile reports whether it begins as an age file does, which takes no key.
func IsFile(file []byte) bool {
	_, err := age.Decrypt(bytes.NewReader(file), nobody{})
	_, intact := errors.AsType[*age.NoIdentityMatchError](err)
	return intact
}

// nobody is an identity that opens nothing.
type nobody struct{}

func (nobody) Unwrap([]*age.Stanza) ([]byte, error) { return nil, age.ErrIncorrectIdentity }
