// Package secret holds values that must not reach a log, an error or an encoder
// by accident. A secret is a [Value] from the moment it is parsed until the
// moment it is written to the one who may have it; only Reveal gives it back.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// Redacted is what a secret prints as.
const Redacted = "<redacted>"

// Value is a secret string. The zero Value holds the empty string. Values are
// immutable and may be shared between goroutines.
//
// The pointer is deliberate: fmt calls no method on a value that it finds in an
// unexported field, but prints a *string nested there as an address.
type Value struct{ p *string }

// New returns a Value holding s.
func New(s string) Value { return Value{&s} }

// Reveal returns the plaintext. Call it where the plaintext leaves, no earlier.
func (v Value) Reveal() string {
	if v.p == nil {
		return ""
	}
	return *v.p
}

// Len returns the plaintext's length in bytes.
func (v Value) Len() int { return len(v.Reveal()) }

// Equal reports whether v and w hold the same text, in a time that depends on
// their lengths only.
func (v Value) Equal(w Value) bool {
	a, b := sha256.Sum256([]byte(v.Reveal())), sha256.Sum256([]byte(w.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Format prints a placeholder whatever the verb.
func (v Value) Format(f fmt.State, _ rune) { fmt.Fprint(f, Redacted) }

// LogValue returns a placeholder.
func (v Value) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText always fails: a secret leaves through Reveal alone.
func (v Value) MarshalText() ([]byte, error) {
	return nil, errors.New("secret: refusing to marshal")
}

// UnmarshalText reads a secret from a request or a file.
func (v *Value) UnmarshalText(b []byte) error {
	*v = New(string(b))
	return nil
}
