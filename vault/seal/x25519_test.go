package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

// spy keeps the stanzas of a file.
type spy struct{ stanzas []*age.Stanza }

func (s *spy) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	s.stanzas = stanzas
	return nil, age.ErrIncorrectIdentity
}

// stanzasFor returns the stanzas of a file for those recipients.
func stanzasFor(t *testing.T, to ...age.Recipient) []*age.Stanza {
	t.Helper()
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to...)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var s spy
	if _, err := age.Decrypt(&file, &s); err == nil {
		t.Fatal("a file opened for nobody")
	}
	return s.stanzas
}

func newAgeIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The identity opens what age's own opens, with the same file key, and refuses what that
// refuses in the same way: as meant for another, or as malformed.
func TestX25519IdentityIsAges(t *testing.T) {
	id, other := newAgeIdentity(t), newAgeIdentity(t)
	ours, err := newX25519Identity(id)
	if err != nil {
		t.Fatal(err)
	}
	its := func() *age.Stanza { return stanzasFor(t, id.Recipient())[0] }
	changed := func(change func(*age.Stanza)) []*age.Stanza {
		s := its()
		change(s)
		return []*age.Stanza{s}
	}
	share := func(b []byte) []*age.Stanza {
		return changed(func(s *age.Stanza) { s.Args[0] = base64.RawStdEncoding.EncodeToString(b) })
	}
	opened := 0
	for name, stanzas := range map[string][]*age.Stanza{
		"its own":             {its()},
		"the second of two":   stanzasFor(t, other.Recipient(), id.Recipient()),
		"another's":           stanzasFor(t, other.Recipient()),
		"none":                nil,
		"another kind":        changed(func(s *age.Stanza) { s.Type = "ssh-ed25519" }),
		"no share":            changed(func(s *age.Stanza) { s.Args = nil }),
		"two shares":          changed(func(s *age.Stanza) { s.Args = append(s.Args, s.Args[0]) }),
		"a short share":       share(make([]byte, 31)),
		"a long share":        share(make([]byte, 33)),
		"a share of order 1":  share(make([]byte, 32)),
		"another share":       share(bytes.Repeat([]byte{9}, 32)),
		"padded":              changed(func(s *age.Stanza) { s.Args[0] += "=" }),
		"broken over lines":   changed(func(s *age.Stanza) { s.Args[0] = s.Args[0][:8] + "\n" + s.Args[0][8:] }),
		"unused bits":         changed(func(s *age.Stanza) { s.Args[0] = strings.TrimRight(s.Args[0], "AEIMQUYcgkosw048") + "B" }),
		"an altered body":     changed(func(s *age.Stanza) { s.Body[3] ^= 1 }),
		"a short body":        changed(func(s *age.Stanza) { s.Body = s.Body[:31] }),
		"a long body":         changed(func(s *age.Stanza) { s.Body = append(s.Body, 0) }),
		"malformed, then own": append(share(make([]byte, 31)), its()),
	} {
		got, err := ours.Unwrap(stanzas)
		want, wantErr := id.Unwrap(stanzas)
		if !bytes.Equal(got, want) || (err == nil) != (wantErr == nil) || errors.Is(err, age.ErrIncorrectIdentity) != errors.Is(wantErr, age.ErrIncorrectIdentity) {
			t.Errorf("%s: got an error %v, age has %v; the same key: %v", name, err, wantErr, bytes.Equal(got, want))
		}
		if err == nil {
			opened++
		}
	}
	if opened != 2 {
		t.Errorf("%d of the files were opened, not 2", opened)
	}
}
