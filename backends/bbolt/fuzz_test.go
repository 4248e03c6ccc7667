package bbolt

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sidevault/sidevault/backends"
)

// FuzzStored reads what the file keeps under its keys.
func FuzzStored(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add(number(1), append(number(7), "value"...))
	f.Add(number(1), backends.Entry{Seq: 1, Body: []byte("x")}.Marshal())
	f.Fuzz(func(t *testing.T, key, stored []byte) {
		r, err := copyRecord(string(key), stored)
		if err == nil && !bytes.Equal(append(number(uint64(r.Revision)), r.Value...), stored) {
			t.Error("a record is not what is stored")
		}
		e, entryErr := parseEntry(key, stored)
		if entryErr == nil && (!bytes.Equal(number(e.Seq), key) || !bytes.Equal(e.Marshal(), stored)) {
			t.Error("an entry is not what is stored")
		}
		for _, err := range []error{err, entryErr} {
			if err != nil && !errors.Is(err, backends.ErrCorrupt) {
				t.Errorf("not ErrCorrupt: %v", err)
			}
		}
	})
}
