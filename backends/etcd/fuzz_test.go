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
	one := backends.Entry{Seq: 2, Body: []byte("y")}
	key, stored := l.run([]backends.Entry{{Seq: 1, Body: []byte("x")}, one})
	f.Add(key, []byte(stored))
	f.Add("/sidevault/l/1", []byte{})
	f.Add("/sidevault/l/00000000000000000001-00", []byte{})
	f.Fuzz(func(t *testing.T, key string, stored []byte) {
		r, err := parseRecord(key, stored)
		if err == nil && marshalRecord(r.Revision, r.Value) != string(stored) {
			t.Error("a record is not what is stored")
		}
		entries, entryErr := l.parseRun(key, stored)
		if entryErr == nil {
			if again, same := l.run(entries); again != key || same != string(stored) {
				t.Error("the entries are not what is stored")
			}
		}
		for _, err := range []error{err, entryErr} {
			if err != nil && !errors.Is(err, backends.ErrCorrupt) {
				t.Errorf("not ErrCorrupt: %v", err)
			}
		}
	})
}
