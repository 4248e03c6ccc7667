package secret

import (
	"errors"
	"fmt"
	"log/slog"
)

// Bytes is a secret in memory that its owner clears when it is done with it. Unlike a
// [Value] it makes no copy that stays. The zero Bytes holds none.
//
// The pointer to a pointer is deliberate: fmt prints what a *[]byte in an unexported
// field points to.
type Bytes struct{ p **[]byte }

// Hold returns a Bytes over b, which stays the caller's to clear.
func Hold(b []byte) Bytes {
	held := &struct {
		b []byte
		p *[]byte
	}{b: b}
	held.p = &held.b
	return Bytes{&held.p}
}

// Reveal returns the plaintext itself, not a copy.
func (b Bytes) Reveal() []byte {
	if b.p == nil {
		return nil
	}
	return **b.p
}

// Clear overwrites the plaintext.
func (b Bytes) Clear() { clear(b.Reveal()) }

// Format prints a placeholder whatever the verb.
func (b Bytes) Format(f fmt.State, _ rune) { fmt.Fprint(f, Redacted) }

// LogValue returns a placeholder.
func (b Bytes) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText always fails: a secret leaves through Reveal alone.
func (b Bytes) MarshalText() ([]byte, error) {
	return nil, errors.New("secret: refusing to marshal")
}
