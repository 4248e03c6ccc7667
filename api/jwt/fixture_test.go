package jwt

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

const (
	issuer   = "https://id.example.com"
	audience = "sidevault"
)

// signer is a private key of the issuer.
type signer struct {
	kid, alg string
	private  crypto.Signer
}

func (s signer) jwk() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.private.Public(), KeyID: s.kid, Algorithm: s.alg, Use: "sig"}
}

var (
	rsaSigner = sync.OnceValue(func() signer { return newRSA("rsa-1", 2048) })
	ecSigner  = sync.OnceValue(func() signer { return newEC("ec-1", elliptic.P256(), "ES256") })
	edSigner  = sync.OnceValue(func() signer {
		_, private, _ := ed25519.GenerateKey(rand.Reader)
		return signer{"ed-1", "EdDSA", private}
	})
	// rogue has the kid of another key and is in no set.
	rogue = sync.OnceValue(func() signer { return newRSA("rsa-1", 2048) })
)

func newRSA(kid string, bits int) signer {
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return signer{kid, "RS256", private}
}

func newEC(kid string, curve elliptic.Curve, alg string) signer {
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return signer{kid, alg, private}
}

func keySetJSON(t testing.TB, signers ...signer) []byte {
	t.Helper()
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, s := range signers {
		set.Keys = append(set.Keys, s.jwk())
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type object = map[string]any

// good returns claims that are valid now, with some changed; nil removes one.
func good(changes object) object {
	now := time.Now().Unix()
	c := object{
		"iss": issuer, "aud": audience, "sub": "user-1", "name": "Ada", "email": "ada@example.com", "org": "acme",
		"iat": now, "nbf": now, "exp": now + 300,
	}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// sign makes a token by hand, so that its header can be anything.
func (s signer) sign(header, payload any) string {
	input := segment(header) + "." + segment(payload)
	digest := sha256.Sum256([]byte(input))
	var signature []byte
	var err error
	switch private := s.private.(type) {
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
	case ed25519.PrivateKey:
		signature = ed25519.Sign(private, []byte(input))
	case *ecdsa.PrivateKey:
		r, sig, signErr := ecdsa.Sign(rand.Reader, private, digest[:])
		size := (private.Params().BitSize + 7) / 8
		if err = signErr; err == nil {
			signature = append(r.FillBytes(make([]byte, size)), sig.FillBytes(make([]byte, size))...)
		}
	}
	if err != nil {
		panic(err)
	}
	return input + "." + encode(signature)
}

func (s signer) token(changes object) string { return s.sign(s.header(nil), good(changes)) }

func (s signer) header(changes object) object {
	h := object{"alg": s.alg, "kid": s.kid, "typ": "JWT"}
	maps.Copy(h, changes)
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == nil })
	return h
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// segment encodes one part of a token; a string is taken as it is.
func segment(v any) string {
	if text, ok := v.(string); ok {
		return encode([]byte(text))
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return encode(text)
}

var acme = vault.Org{ID: "11111111-1111-4111-8111-111111111111", Slug: "acme"}

func findOrg(_ context.Context, name string) (vault.Org, error) {
	switch name {
	case acme.Slug, acme.ID:
		return acme, nil
	case "away":
		return vault.Org{}, &vault.Error{Kind: vault.BackendUnavailable, Msg: "Storage is away"}
	}
	return vault.Org{}, &vault.Error{Kind: vault.InvalidRequest, Msg: "Unknown org " + name}
}

// fixture is a verifier that reads its keys from a file, its log and its clock.
type fixture struct {
	*Verifier
	file string
	log  *lockedBuffer
	mu   sync.Mutex
	time time.Time
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func config(t testing.TB, log *lockedBuffer, place string) Config {
	t.Helper()
	tree, err := envs.New([]envs.Environment{{Name: "staging"}, {Name: "production", Protected: true}})
	if err != nil {
		t.Fatal(err)
	}
	return Config{Issuer: issuer, Audience: audience, JWKS: place, Org: findOrg, Envs: tree, Logger: slog.New(slog.NewTextHandler(log, nil))}
}

func newFixture(t testing.TB, o Options, signers ...signer) *fixture {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.json")
	write(t, file, keySetJSON(t, signers...))
	return openFixture(t, o, file)
}

func openFixture(t testing.TB, o Options, place string) *fixture {
	t.Helper()
	f := &fixture{file: place, log: new(lockedBuffer)}
	cfg := config(t, f.log, place)
	cfg.Options = o
	var err error
	if f.Verifier, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	f.time = time.Now()
	f.keys.mu.Lock()
	f.keys.now = f.now
	f.keys.mu.Unlock()
	return f
}

func (f *fixture) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.time
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.time = f.time.Add(d)
}

func write(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// verify reports the reason of a refusal, "" for none, and holds the error to what
// every refusal must be.
func (f *fixture) verify(t testing.TB, token string) (vault.Caller, string) {
	t.Helper()
	c, err := f.Verify(t.Context(), secret.New(token))
	if err == nil {
		return c, ""
	}
	if c.Actor != (vault.Actor{}) || c.Admin || c.Org != (vault.Org{}) {
		t.Errorf("a refused token has a caller: %+v", c)
	}
	e, ok := errors.AsType[*vault.Error](err)
	if !ok || e.Kind != vault.Unauthorized || e.Msg != "Authentication failed" || e.Details != "the token is not valid here" || e.Err == nil {
		t.Fatalf("a refusal that says more or less: %#v", err)
	}
	for _, part := range strings.Split(token, ".") {
		if len(part) > 8 && strings.Contains(err.Error(), part) {
			t.Errorf("the reason quotes the token: %s", err)
		}
	}
	return c, e.Err.Error()
}

func (f *fixture) accepts(t testing.TB, token string) vault.Caller {
	t.Helper()
	c, reason := f.verify(t, token)
	if reason != "" {
		t.Errorf("refused: %s", reason)
	}
	return c
}

func (f *fixture) refuses(t testing.TB, token, reason string) {
	t.Helper()
	if _, got := f.verify(t, token); got == "" || !strings.Contains(got, reason) {
		t.Errorf("the reason is %q, not that %q", got, reason)
	}
}
