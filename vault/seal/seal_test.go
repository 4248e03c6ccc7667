package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

var place = seal.Place{
	Org: "6f1c0a52-9f2e-4f0e-9a43-6a0d8ac9d0b1", Integration: "salesforce", Environment: "production",
	Name: "default", ID: "cred-0197a2b4-0000-7000-8000-000000000000", Version: 3,
}

func newKey(t testing.TB, a seal.Algorithm) *seal.Key {
	t.Helper()
	k, err := seal.NewKey(a)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func equal(a, b seal.Fields) bool {
	return maps.EqualFunc(a, b, func(v, w secret.Value) bool { return v.Equal(w) })
}

func TestSealOpen(t *testing.T) {
	for name, a := range map[string]seal.Algorithm{"x25519": seal.X25519, "post-quantum": seal.PostQuantum} {
		t.Run(name, func(t *testing.T) {
			k := newKey(t, a)
			fields := seal.Fields{"host": secret.New("sftp.example.com"), "password": secret.New("p\"ä\n")}
			file, err := k.Seal(place, fields)
			if err != nil {
				t.Fatal(err)
			}
			got, err := k.Open(file, place)
			if err != nil || !equal(got, fields) {
				t.Errorf("the fields did not come back: %v", err)
			}
			if bytes.Contains(file, []byte("sftp.example.com")) {
				t.Error("the record holds plaintext")
			}
		})
	}
}

// TestHeadersAreUsedOnce seals from many goroutines: no two records begin alike, and each
// opens for its own place.
func TestHeadersAreUsedOnce(t *testing.T) {
	k := newKey(t, seal.X25519)
	const each = 50
	var mu sync.Mutex
	var all sync.WaitGroup
	seen := map[string]bool{}
	for g := range 8 {
		all.Go(func() {
			for n := range each {
				place := seal.Place{Org: "o", Integration: "i", Name: fmt.Sprint(g), Version: uint64(n)}
				fields := seal.Fields{"value": secret.New(place.Name)}
				file, err := k.Seal(place, fields)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := k.Open(file, place); err != nil || !equal(got, fields) {
					t.Errorf("a record is not its own: %v", err)
				}
				mu.Lock()
				seen[string(file[:150])] = true // the recipient's stanza, with the share of the file key
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(seen) != 8*each {
		t.Errorf("%d records begin in %d ways", 8*each, len(seen))
	}
}

func TestOpenRefuses(t *testing.T) {
	k := newKey(t, seal.X25519)
	fields := seal.Fields{"value": secret.New("s3cret")}
	file, err := k.Seal(place, fields)
	if err != nil {
		t.Fatal(err)
	}
	moved := func(change func(*seal.Place)) seal.Place {
		p := place
		change(&p)
		return p
	}
	for name, p := range map[string]seal.Place{
		"org":         moved(func(p *seal.Place) { p.Org = "x" }),
		"integration": moved(func(p *seal.Place) { p.Integration = "x" }),
		"environment": moved(func(p *seal.Place) { p.Environment = "staging" }),
		"shared":      moved(func(p *seal.Place) { p.Environment = "" }),
		"name":        moved(func(p *seal.Place) { p.Name = "x" }),
		"id":          moved(func(p *seal.Place) { p.ID = "x" }),
		"version":     moved(func(p *seal.Place) { p.Version++ }),
	} {
		if got, err := k.Open(file, p); !errors.Is(err, seal.ErrIntegrity) || got != nil {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := newKey(t, seal.X25519).Open(file, place); !errors.Is(err, seal.ErrIntegrity) {
		t.Errorf("another key: %v", err)
	}
	for i := range file {
		altered := bytes.Clone(file)
		altered[i] ^= 1 << (i % 8)
		if _, err := k.Open(altered, place); !errors.Is(err, seal.ErrIntegrity) {
			t.Fatalf("byte %d altered: %v", i, err)
		}
		if _, err := k.Open(file[:i], place); !errors.Is(err, seal.ErrIntegrity) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

// TestForgery encrypts to the key's recipient as anyone can, with the MACs of
// other records and of other keys.
func TestForgery(t *testing.T) {
	k, other := newKey(t, seal.X25519), newKey(t, seal.X25519)
	genuine, err := other.Seal(place, seal.Fields{"value": secret.New("planted")})
	if err != nil {
		t.Fatal(err)
	}
	plain := decryptWith(t, other, genuine)
	to, err := age.ParseX25519Recipient(k.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"another key's MAC": plain,
		"no MAC":            bytes.Replace(plain, []byte(`"mac"`), []byte(`"max"`), 1),
		"not JSON":          []byte("planted"),
		"empty":             nil,
	} {
		var file bytes.Buffer
		w, err := age.Encrypt(&file, to)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(text)
		w.Close()
		if _, err := k.Open(file.Bytes(), place); !errors.Is(err, seal.ErrIntegrity) || strings.Contains(fmt.Sprint(err), "planted") {
			t.Errorf("%s: opened, or its error quotes the plaintext", name)
		}
	}
}

// decryptWith opens a record as the stock age command would, with the identity
// that Wrap stores.
func decryptWith(t *testing.T, k *seal.Key, file []byte) []byte {
	t.Helper()
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := k.Wrap(root.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	identityFile, err := age.Decrypt(bytes.NewReader(wrapped), root)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := age.ParseIdentities(identityFile)
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(file), ids...)
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return plain.Bytes()
}

func TestWrap(t *testing.T) {
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []seal.Algorithm{seal.X25519, seal.PostQuantum} {
		k := newKey(t, a)
		file, err := k.Wrap(root.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		again, err := seal.Unwrap(file, stranger, root)
		if err != nil || again.Recipient() != k.Recipient() {
			t.Errorf("unwrapped %v, %v", again, err)
		}
		if _, err := seal.Unwrap(file, stranger); !errors.Is(err, seal.ErrNoIdentity) {
			t.Errorf("a stranger: %v", err)
		}
		file[len(file)-1] ^= 1
		if _, err := seal.Unwrap(file, root); !errors.Is(err, seal.ErrIntegrity) {
			t.Errorf("a damaged file: %v", err)
		}
	}
}

func TestSign(t *testing.T) {
	k := newKey(t, seal.X25519)
	doc := []byte(`{"a":1}`)
	signed := k.Sign("live/x", doc)
	if got, err := k.Verify("live/x", signed); err != nil || !bytes.Equal(got, doc) {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := k.Verify("live/y", signed); !errors.Is(err, seal.ErrIntegrity) {
		t.Errorf("under another key: %v", err)
	}
	for i := range signed[:len(signed)-1] {
		altered := bytes.Clone(signed)
		altered[i] ^= 1 << (i % 8)
		if _, err := k.Verify("live/x", altered); err == nil {
			t.Fatalf("byte %d altered: accepted", i)
		}
	}
}

func TestKeyPrintsItsPublicHalf(t *testing.T) {
	k := newKey(t, seal.X25519)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{k, *k, struct{ K *seal.Key }{k}, []*seal.Key{k}} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "SECRET-KEY") {
				t.Errorf("%s of %T shows the private key", verb, v)
			}
		}
	}
}

func TestParseIdentities(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	secretKey := id.String()
	if ids, err := seal.ParseIdentities([]byte("# a comment\n\n" + secretKey + "\n")); err != nil || len(ids) != 1 {
		t.Errorf("%d identities, %v", len(ids), err)
	}
	for name, file := range map[string]string{
		"empty":     "",
		"garbage":   "hello\n",
		"typo":      secretKey[:30] + "b" + secretKey[31:] + "\n",
		"encrypted": "age-encryption.org/v1\n-> X25519 ...",
	} {
		_, err := seal.ParseIdentities([]byte(file))
		if err == nil || strings.Contains(err.Error(), secretKey[20:30]) {
			t.Errorf("%s: accepted, or the error quotes the key", name)
		}
	}
}

func FuzzOpenSeal(f *testing.F) {
	k := newKey(f, seal.X25519)
	f.Add("host", "example.com", "default", uint64(1), uint16(0))
	f.Add("", "\x00", "ä", uint64(1<<63), uint16(99))
	f.Fuzz(func(t *testing.T, field, value, name string, version uint64, bit uint16) {
		p := seal.Place{Org: "o", Integration: "i", Name: name, ID: "x", Version: version}
		fields := seal.Fields{field: secret.New(value)}
		file, err := k.Seal(p, fields)
		if valid := utf8.ValidString(field) && utf8.ValidString(value) && utf8.ValidString(name); valid != (err == nil) {
			t.Fatalf("sealing valid (%v) fields: %v", valid, err)
		}
		if err != nil {
			return
		}
		got, err := k.Open(file, p)
		if err != nil || !equal(got, fields) {
			t.Fatal("Open(Seal(x)) is not x")
		}
		file[int(bit/8)%len(file)] ^= 1 << (bit % 8)
		if _, err := k.Open(file, p); err == nil {
			t.Fatalf("opened with bit %d flipped", bit)
		}
	})
}

func FuzzOpen(f *testing.F) {
	k := newKey(f, seal.X25519)
	file, err := k.Seal(place, seal.Fields{"value": secret.New("x")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte("age-encryption.org/v1\n"))
	root, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := k.Open(data, place); err != nil && !errors.Is(err, seal.ErrIntegrity) {
			t.Fatal(err)
		}
		seal.Unwrap(data, root)
		seal.ParseIdentities(data)
		k.Verify("key", data)
	})
}

func BenchmarkSeal(b *testing.B) {
	k := newKey(b, seal.X25519)
	fields := seal.Fields{"value": secret.New(strings.Repeat("x", 200))}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Seal(place, fields); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	k := newKey(b, seal.X25519)
	file, err := k.Seal(place, seal.Fields{"value": secret.New(strings.Repeat("x", 200))})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(file, place); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAgeDecrypt is the reference for BenchmarkOpen: one decryption of a file
// of the same size.
func BenchmarkAgeDecrypt(b *testing.B) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, id.Recipient())
	if err != nil {
		b.Fatal(err)
	}
	w.Write(bytes.Repeat([]byte("x"), 460))
	w.Close()
	b.ReportAllocs()
	for b.Loop() {
		r, err := age.Decrypt(bytes.NewReader(file.Bytes()), id)
		if err != nil {
			b.Fatal(err)
		}
		var plain bytes.Buffer
		if _, err := plain.ReadFrom(r); err != nil {
			b.Fatal(err)
		}
	}
}
