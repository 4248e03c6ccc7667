package vault

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

func TestRecordsComeBack(t *testing.T) {
	r, err := newRecords(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	id := recordID{org: "o", id: "cred-1", version: 1, at: 7}
	r.put(id, seal.Fields{"user": secret.New("u"), "password": secret.New(strings.Repeat("p", 8192)), "empty": secret.New("")})
	got, ok := r.get(id)
	if !ok || len(got) != 3 || !got["password"].Equal(secret.New(strings.Repeat("p", 8192))) || !got["user"].Equal(secret.New("u")) {
		t.Error("the fields are others")
	}
	for _, other := range []recordID{{"x", "cred-1", 1, 7}, {"o", "cred-2", 1, 7}, {"o", "cred-1", 2, 7}, {"o", "cred-1", 1, 8}} {
		if _, ok := r.get(other); ok {
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
		r.put(id, seal.Fields{"value": secret.New("canary-value")})
		kept, _ := r.cache.GetIfPresent(id)
		if strings.Contains(string(kept), "canary") {
			t.Fatal("a record is kept in clear")
		}
		nonces[string(kept[:r.aead.NonceSize()])] = true
		kept[len(kept)-1] ^= 1
		if _, ok := r.get(id); ok {
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
		r.put(recordID{id: ID(fmt.Sprint(n)), version: 1}, seal.Fields{"value": secret.New(strings.Repeat("x", 4096))})
	}
	r.cache.CleanUp()
	if got := r.cache.WeightedSize(); got > most {
		t.Errorf("%d bytes are kept, of at most %d", got, most)
	}
}

func FuzzFields(f *testing.F) {
	f.Add([]byte("\x05value\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, ok := decodeFields(b)
		if !ok {
			return
		}
		again, ok := decodeFields(encodeFields(fields))
		if !ok || len(again) != len(fields) {
			t.Error("fields do not survive")
		}
	})
}
