package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/sidevault/sidevault/vault/secret"
)

// ErrNoIdentity: none of the identities opens the key file.
var ErrNoIdentity = errors.New("no identity opens this key")

// maxKeyFile bounds the plaintext of a key file; a hybrid identity has about
// 80 bytes.
const maxKeyFile = 4 << 10

// Key is the key of one environment, of the shared scope, or the vault's control
// key: an age identity and the MAC keys derived from it. It never changes, may be
// used concurrently, and prints as its public recipient.
type Key struct {
	identity    age.Identity
	headers     *headers // of the files for its recipient
	public      string
	private     secret.Value // the identity as age prints it
	recordMAC   []byte
	documentMAC []byte
}

// Algorithm is the kind of age identity that a key is made of.
type Algorithm uint8

const (
	X25519      Algorithm = iota // age's native recipients
	PostQuantum                  // ML-KEM-768 with X25519, age's hybrid recipients (age 1.3)
)

// NewKey makes a key.
func NewKey(a Algorithm) (*Key, error) {
	if a == PostQuantum {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return nil, fmt.Errorf("make a hybrid key: %w", err)
		}
		return derive(id, id.Recipient(), id.Recipient().String(), id.String())
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return keyOf(id)
}

func keyOf(id *age.X25519Identity) (*Key, error) {
	fast, err := newX25519Identity(id)
	if err != nil {
		return nil, err
	}
	return derive(fast, id.Recipient(), id.Recipient().String(), id.String())
}

func derive(id age.Identity, to age.Recipient, public, private string) (*Key, error) {
	k := &Key{identity: id, headers: &headers{to: to}, public: public, private: secret.New(private)}
	for info, key := range map[string]*[]byte{
		"sidevault record mac v1":   &k.recordMAC,
		"sidevault document mac v1": &k.documentMAC,
	} {
		derived, err := hkdf.Key(sha256.New, []byte(private), nil, info, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive the MAC key: %w", err)
		}
		*key = derived
	}
	return k, nil
}

// Recipient returns the key's public half, as age prints it (age1…).
func (k *Key) Recipient() string { return k.public }

// Fits reports whether a record was encrypted to this key, and no more than that.
func (k *Key) Fits(file []byte) bool {
	_, err := age.Decrypt(bytes.NewReader(file), k.identity)
	return err == nil
}

// Format prints the public recipient whatever the verb.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.public) }

// Wrap returns the key as an age file for the root recipients: an identity file
// such as age-keygen writes, encrypted.
func (k *Key) Wrap(roots ...age.Recipient) ([]byte, error) {
	var file bytes.Buffer
	w, err := age.Encrypt(&file, roots...)
	if err != nil {
		return nil, wrapError(err)
	}
	if _, err := fmt.Fprintf(w, "# public key: %s\n%s\n", k.public, k.private.Reveal()); err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("wrap a key: %w", err)
	}
	return file.Bytes(), nil
}

// Unwrap opens what Wrap returned with one of the root identities. The error
// wraps ErrNoIdentity when none of them fits, ErrPlugin when a plugin gave no
// answer, ErrIntegrity when the file is damaged or holds no single key.
func Unwrap(file []byte, roots ...age.Identity) (*Key, error) {
	plain, err := decrypt(file, maxKeyFile, roots...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, ErrNoIdentity
	}
	if errors.Is(err, ErrPlugin) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: a key file: %w", ErrIntegrity, err)
	}
	defer clear(plain)
	return ParseKey(plain)
}

// ParseKey reads an identity file with one identity, comments and all. Its
// errors never quote the file.
func ParseKey(file []byte) (*Key, error) {
	ids, err := age.ParseIdentities(bytes.NewReader(file))
	if err != nil || len(ids) != 1 {
		return nil, fmt.Errorf("%w: a key file does not hold one age identity", ErrIntegrity)
	}
	switch id := ids[0].(type) {
	case *age.X25519Identity:
		return keyOf(id)
	case *age.HybridIdentity:
		return derive(id, id.Recipient(), id.Recipient().String(), id.String())
	default:
		return nil, fmt.Errorf("%w: a key file holds an identity of another kind", ErrIntegrity)
	}
}

// A signed document is JSON that storage keeps in clear but that only a holder
// of the control key can have written, under the one storage key it was written
// for:
//
//	document || "\n" || base64url(HMAC-SHA256(documentMAC, key || 0x00 || document)) || "\n"
//
// documentMAC is derived like the record's MAC key, with info "sidevault document mac
// v1". The document holds no newline (compact JSON), and a storage key holds no
// NUL.

// Sign returns document, signed, for the storage key.
func (k *Key) Sign(key string, document []byte) []byte {
	signed := append(bytes.Clone(document), '\n')
	return k.appendSignature(signed, key, document)
}

// Verify returns the document that was signed with k for the storage
// key, else an error that wraps ErrIntegrity. The document shares its
// memory.
func (k *Key) Verify(key string, signed []byte) ([]byte, error) {
	document, signature, ok := bytes.Cut(signed, []byte("\n"))
	// Compared as text: decoders accept more than one way to write it.
	if !ok || !hmac.Equal(signature, k.appendSignature(nil, key, document)) {
		return nil, fmt.Errorf("%w: %s was not written by this vault", ErrIntegrity, key)
	}
	return document, nil
}

// appendSignature appends the line that stands behind the document under key.
func (k *Key) appendSignature(to []byte, key string, document []byte) []byte {
	h := hmac.New(sha256.New, k.documentMAC)
	io.WriteString(h, key)
	h.Write([]byte{0})
	h.Write(document)
	return append(base64.RawURLEncoding.AppendEncode(to, h.Sum(nil)), '\n')
}
