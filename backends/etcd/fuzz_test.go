package etcd

import (
	"errors"
	"testing"

	"github.com/sidevault/sidevault/backends"
)

// FuzzStored reads what the cluster keeps under its keys.
func FuzzStored(f *testing.F) {
	l := layout("/sidevault")
	f.Add("k", []byte{})
	f.Add("k", []byte(marshalRecord(7, []byte("value"))))
	f.Add(l.entry(1), backends.Entry{Seq: 1, Body: []byte("x")}.Marshal())
	f.Add("/sidevault/l/1", []byte{})
	f.Fuzz(func(t *testing.T, key string, stored []byte) {
		r, err := parseRecord(key, stored)
		if err == nil && marshalRecord(r.Revision, r.Value) != string(stored) {
			t.Error("a record is not what is stored")
		}
		e, entryErr := l.parseEntry(key, stored)
		if entryErr == nil && (l.entry(e.Seq) != key || string(e.Marshal()) != string(stored)) {
			t.Error("an entry is not what is stored")
		}
		for _, err := range []error{err, entryErr} {
			if err != nil && !errors.Is(err, backends.ErrCorrupt) {
				t.Errorf("not ErrCorrupt: %v", err)
			}
		}
	})
}
