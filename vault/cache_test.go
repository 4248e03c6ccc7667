package vault

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

func TestRecordsComeBack(t *testing.T) {
	r, err := newRecords(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	id := recordID{id: "cred-1", version: 1, at: 7}
	object := []byte(`{"password":"` + strings.Repeat("p", 8192) + `"}`)
	r.put(id, object)
	got, ok := r.get([]byte("before"), id)
	if rest, found := bytes.CutPrefix(got, []byte("before")); !ok || !found || !bytes.Equal(rest, object) {
		t.Error("what comes back is not what was kept")
	}
	for _, other := range []recordID{{"cred-2", 1, 7}, {"cred-1", 2, 7}, {"cred-1", 1, 8}} {
		if got, ok := r.get(nil, other); ok || got != nil {
			t.Errorf("%+v is answered with another's fields", other)
		}
	}
}

// TestRecordsAreSealed looks at what is kept: ciphertext, under a nonce of its own.
func TestRecordsAreSealed(t *testing.T) {
	r, err := newRecords(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	nonces := map[string]bool{}
	for n := range uint64(100) {
		id := recordID{id: "cred-1", version: n}
		r.put(id, []byte("canary-value"))
		kept, _ := r.cache.GetIfPresent(id)
		if strings.Contains(string(kept), "canary") {
			t.Fatal("a record is kept in clear")
		}
		nonces[string(kept[:r.aead.NonceSize()])] = true
		kept[len(kept)-1] ^= 1
		if _, ok := r.get(nil, id); ok {
			t.Error("an altered record is opened")
		}
	}
	if len(nonces) != 100 {
		t.Errorf("%d nonces for 100 records", len(nonces))
	}
}

func TestRecordsAreBounded(t *testing.T) {
	const most = 1 << 20
	r, err := newRecords(most)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(2000) {
		r.put(recordID{id: ID(fmt.Sprint(n)), version: 1}, make([]byte, 4096))
	}
	r.cache.CleanUp()
	if got := r.cache.WeightedSize(); got > most {
		t.Errorf("%d bytes are kept, of at most %d", got, most)
	}
}

func FuzzFields(f *testing.F) {
	f.Add("value", "x", "", "")
	f.Add("value", `"\\`, "x", "\u2028<")
	f.Fuzz(func(t *testing.T, name, value, another, second string) {
		fields := seal.Fields{name: secret.New(value)}
		if another != "" {
			fields[another] = secret.New(second)
		}
		object, err := appendFields(nil, fields)
		for name, value := range fields {
			if !utf8.ValidString(name + value.Reveal()) {
				if err == nil {
					t.Error("what is not UTF-8 is written")
				}
				return
			}
		}
		again, parseErr := parseFields(object)
		same := err == nil && parseErr == nil && maps.EqualFunc(fields, again, secret.Value.Equal)
		_, opaque := fields[ValueField]
		if opaque = opaque && len(fields) == 1; !same || (Resolved{Secret: secret.Hold(object)}).Opaque() != opaque {
			t.Error("the fields do not survive")
		}
	})
}
