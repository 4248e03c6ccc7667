package seal

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"
)

// The parts of the X25519 recipient stanza (age-encryption.org/v1).
const (
	x25519Stanza  = "X25519"
	x25519Info    = "age-encryption.org/v1/X25519"
	x25519FileKey = 16 // bytes
)

// x25519Identity is an age.X25519Identity that opens files in half of the time. age's
// derives its public key anew for every file, which takes as long as the agreement on a
// key itself; this one has it.
type x25519Identity struct {
	private *ecdh.PrivateKey
	public  []byte
}

// newX25519Identity takes the identity as age prints it, which age has read.
func newX25519Identity(id *age.X25519Identity) (*x25519Identity, error) {
	scalar := bech32Data(strings.ToLower(id.String()))
	defer clear(scalar)
	private, err := ecdh.X25519().NewPrivateKey(scalar)
	if err != nil {
		return nil, errors.New("the identity is no X25519 key")
	}
	return &x25519Identity{private, private.PublicKey().Bytes()}, nil
}

// Unwrap returns the file key from the first stanza that is meant for this identity. It
// implements age.Identity.
func (i *x25519Identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, stanza := range stanzas {
		key, err := i.open(stanza)
		if !errors.Is(err, age.ErrIncorrectIdentity) {
			return key, err
		}
	}
	return nil, age.ErrIncorrectIdentity
}

func (i *x25519Identity) open(stanza *age.Stanza) ([]byte, error) {
	if stanza.Type != x25519Stanza {
		return nil, age.ErrIncorrectIdentity
	}
	share, err := x25519Share(stanza)
	if err != nil {
		return nil, err
	}
	secret, err := i.private.ECDH(share)
	if err != nil {
		return nil, fmt.Errorf("an %s stanza: %w", x25519Stanza, err) // its share is of low order
	}
	defer clear(secret)
	salt := append(share.Bytes(), i.public...)
	wrap, err := hkdf.Key(sha256.New, secret, salt, x25519Info, chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(wrap)
	aead, err := chacha20poly1305.New(wrap)
	if err != nil {
		return nil, err
	}
	// A key that is used once is used with the nonce 0. The length was checked: one
	// ciphertext must not open under many keys.
	key, err := aead.Open(nil, make([]byte, aead.NonceSize()), stanza.Body, nil)
	if err != nil {
		return nil, age.ErrIncorrectIdentity
	}
	return key, nil
}

// x25519Share returns the ephemeral share of a stanza that is well formed.
func x25519Share(stanza *age.Stanza) (*ecdh.PublicKey, error) {
	malformed := errors.New("a malformed " + x25519Stanza + " stanza")
	if len(stanza.Args) != 1 || len(stanza.Body) != x25519FileKey+chacha20poly1305.Overhead {
		return nil, malformed
	}
	share, err := base64.RawStdEncoding.Strict().DecodeString(stanza.Args[0])
	if err != nil || strings.ContainsAny(stanza.Args[0], "\r\n") {
		return nil, malformed
	}
	key, err := ecdh.X25519().NewPublicKey(share)
	if err != nil {
		return nil, malformed
	}
	return key, nil
}
