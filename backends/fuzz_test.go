package backends

import (
	"bytes"
	"testing"
)

// FuzzEntries reads log entries as they are stored: one that follows is one that was
// appended.
func FuzzEntries(f *testing.F) {
	var h Head
	first := h.Append([]byte(`{"action":"x"}`))
	f.Add(first.Marshal(), uint16(0))
	f.Add([]byte{}, uint16(1))
	f.Add(make([]byte, entryHeader), uint16(300))
	f.Fuzz(func(t *testing.T, stored []byte, bit uint16) {
		e, err := UnmarshalEntry(1, stored)
		if (err == nil) != (len(stored) >= entryHeader) {
			t.Fatalf("%d bytes: %v", len(stored), err)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(e.Marshal(), stored) {
			t.Error("an entry is not stored as it was read")
		}
		if e.Follows(0, Hash{}) == nil {
			var h Head
			if again := h.Append(e.Body); again.Hash != e.Hash {
				t.Error("an entry follows that was never appended")
			}
		}
		var h Head
		whole := h.Append(e.Body).Marshal()
		whole[int(bit/8)%len(whole)] ^= 1 << (bit % 8)
		if altered, _ := UnmarshalEntry(1, whole); altered.Follows(0, Hash{}) == nil {
			t.Errorf("bit %d is not covered", bit)
		}
	})
}

// FuzzHash reads hashes as they are printed.
func FuzzHash(f *testing.F) {
	f.Add("")
	f.Add(Hash{1, 2, 3}.String())
	f.Fuzz(func(t *testing.T, text string) {
		var h Hash
		if h.UnmarshalText([]byte(text)) == nil && len(text) != len(h.String()) {
			t.Errorf("%q is read as %s", text, h)
		}
	})
}
