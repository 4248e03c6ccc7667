package jwt

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sidevault/sidevault/vault/secret"
)

// host is an issuer's server of keys.
type host struct {
	*httptest.Server
	asked  atomic.Int32
	mu     sync.Mutex
	answer http.HandlerFunc
}

func newHost(t *testing.T, answer http.HandlerFunc) *host {
	t.Helper()
	h := &host{answer: answer}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		h.mu.Lock()
		answer := h.answer
		h.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *host) answers(answer http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = answer
}

func serve(text []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(text) }
}

func down(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }

// settle waits for what is read in the background.
func (f *fixture) settle() {
	f.keys.mu.Lock()
	flight := f.keys.flight
	f.keys.mu.Unlock()
	if flight != nil {
		<-flight
	}
}

// token returns a token that is valid for the fixture's clock.
func (f *fixture) token(s signer) string {
	return s.token(object{"exp": f.now().Unix() + 60})
}

func TestRotation(t *testing.T) {
	a, b := ecSigner(), edSigner()
	h := newHost(t, serve(keySetJSON(t, a)))
	f := openFixture(t, Options{}, h.URL)
	f.accepts(t, f.token(a))
	h.answers(serve(keySetJSON(t, a, b)))
	f.refuses(t, f.token(b), "not in the key set") // read just before
	f.pass(urlPace.retry)
	f.accepts(t, f.token(b))
	h.answers(serve(keySetJSON(t, b)))
	f.accepts(t, f.token(a))
	f.pass(urlPace.fresh)
	f.refuses(t, f.token(a), "not in the key set")
	f.accepts(t, f.token(b))
	// An issuer may withdraw all its keys.
	h.answers(serve(keySetJSON(t)))
	f.pass(urlPace.fresh)
	f.refuses(t, f.token(b), "not in the key set")
}

func TestRefreshInTheBackground(t *testing.T) {
	a := ecSigner()
	h := newHost(t, serve(keySetJSON(t, a)))
	f := openFixture(t, Options{}, h.URL)
	f.accepts(t, f.token(a))
	release := make(chan struct{})
	h.answers(func(w http.ResponseWriter, r *http.Request) { <-release; serve(keySetJSON(t))(w, r) })
	f.pass(urlPace.early)
	f.accepts(t, f.token(a)) // without waiting
	close(release)
	f.settle()
	f.refuses(t, f.token(a), "not in the key set")
}

func TestUnknownKidsAreLimited(t *testing.T) {
	h := newHost(t, serve(keySetJSON(t, ecSigner())))
	f := openFixture(t, Options{}, h.URL)
	f.accepts(t, f.token(ecSigner()))
	f.pass(urlPace.retry)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			f.refuses(t, edSigner().sign(edSigner().header(object{"kid": fmt.Sprint("kid-", i)}), good(nil)), "not in the key set")
		})
	}
	all.Wait()
	if n := h.asked.Load(); n > 2 {
		t.Errorf("the keys were asked for %d times", n)
	}
}

func TestSourceAway(t *testing.T) {
	a := ecSigner()
	h := newHost(t, down)
	f := openFixture(t, Options{}, h.URL)
	f.refuses(t, f.token(a), "no current key set")
	h.answers(serve(keySetJSON(t, a)))
	f.pass(urlPace.retry)
	f.accepts(t, f.token(a))
	redirect := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			serve(keySetJSON(t, a))(w, r)
			return
		}
		http.Redirect(w, r, "/keys", http.StatusFound)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"down":       down,
		"not JSON":   serve([]byte("<html>")),
		"no set":     serve([]byte(`{"error":"x"}`)),
		"too large":  serve(bytes.Repeat([]byte(" "), maxSet+1)),
		"elsewhere":  redirect,
		"too many":   serve([]byte(`{"keys":[` + strings.Repeat("{},", maxKeys) + `{}]}`)),
		"given once": serve([]byte(`{"keys":[],"keys":[]}`)),
	} {
		h.answers(answer)
		f.pass(urlPace.fresh)
		f.accepts(t, f.token(a))
		f.settle()
		if _, failing := f.keys.age(); !failing {
			t.Errorf("%s: it was taken for a key set", name)
		}
	}
	f.pass(urlPace.stale)
	f.refuses(t, f.token(a), "no current key set")
	h.answers(serve(keySetJSON(t, a)))
	f.pass(urlPace.retry)
	f.accepts(t, f.token(a))
	if strings.Contains(f.log.String(), h.URL) || !strings.Contains(f.log.String(), "status 502") {
		t.Errorf("the log:\n%s", f.log)
	}
}

func TestSlowSource(t *testing.T) {
	release := make(chan struct{})
	h := newHost(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	f := openFixture(t, Options{}, h.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := f.Verify(ctx, secret.New(f.token(ecSigner()))); err == nil || time.Since(start) > readTimeout/2 {
		t.Errorf("%v after %s", err, time.Since(start))
	}
	// Without a patient caller it ends by itself.
	f.settle()
	if took := time.Since(start); took > readTimeout+2*time.Second {
		t.Errorf("it was waited for %s", took)
	}
}

func TestFile(t *testing.T) {
	a, b := ecSigner(), edSigner()
	f := newFixture(t, Options{}, a)
	f.accepts(t, f.token(a))
	write(t, f.file, keySetJSON(t, b))
	f.pass(time.Second)
	f.accepts(t, f.token(b))
	f.refuses(t, f.token(a), "not in the key set")
	write(t, f.file, []byte("{"))
	f.pass(time.Second)
	f.accepts(t, f.token(b))
	if !strings.Contains(f.log.String(), "not a JSON Web Key Set") {
		t.Errorf("the log:\n%s", f.log)
	}
	f.pass(filePace.stale)
	f.refuses(t, f.token(b), "no current key set")
	write(t, f.file, keySetJSON(t, b))
	f.pass(time.Second)
	f.accepts(t, f.token(b))
}

func TestKeysThatAreNotUsed(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	n := rsaSigner().private.Public().(*rsa.PublicKey).N
	private, _ := json.Marshal(jose.JSONWebKey{Key: ecSigner().private, KeyID: "k"})
	jwk := func(k any, change func(*jose.JSONWebKey)) string {
		key := jose.JSONWebKey{Key: k, KeyID: "k"}
		if change != nil {
			change(&key)
		}
		text, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	public := ecSigner().private.Public()
	for _, c := range []struct{ name, keys, says string }{
		{"symmetric", `{"kty":"oct","kid":"k","k":"c2VjcmV0"}`, "symmetric"},
		{"symmetric in disguise", `{"kty":"RSA","kid":"k","k":"c2VjcmV0","n":"AQAB","e":"AQAB"}`, "symmetric"},
		{"private", string(private), "private"},
		{"small RSA", jwk(&small.PublicKey, nil), "1024 bits"},
		{"RSA exponent 1", jwk(&rsa.PublicKey{N: n, E: 1}, nil), "malformed"},
		{"RSA exponent even", jwk(&rsa.PublicKey{N: n, E: 65536}, nil), "exponent"},
		{"no point of the curve", `{"kty":"EC","kid":"k","crv":"P-256","x":"` + encode(make([]byte, 32)) + `","y":"` + encode(make([]byte, 32)) + `"}`, "malformed"},
		{"unknown type", `{"kty":"XYZ","kid":"k"}`, "not known"},
		{"for encryption", jwk(public, func(k *jose.JSONWebKey) { k.Use = "enc" }), "not for signatures"},
		{"for signing alone", strings.Replace(jwk(public, nil), "{", `{"key_ops":["sign"],`, 1), "not for signatures"},
		{"without kid", jwk(public, func(k *jose.JSONWebKey) { k.KeyID = "" }), "kid"},
		{"the same kid twice", jwk(public, nil) + "," + jwk(edSigner().private.Public(), nil), "same kid"},
		{"the same kid, one unusable", jwk(public, nil) + "," + `{"kty":"oct","kid":"k","k":"c2VjcmV0"}`, "same kid"},
		{"a member twice", `{"kty":"oct","kty":"EC","kid":"k"}`, "not a JSON Web Key"},
		{"no object", `7`, "not a JSON Web Key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, refused, err := parseKeys([]byte(`{"keys":[` + c.keys + `]}`))
			if err != nil && c.name != "a member twice" {
				t.Fatal(err)
			}
			if len(set) != 0 || err == nil && !strings.Contains(strings.Join(refused, "; "), c.says) || strings.Contains(strings.Join(refused, ""), "c2VjcmV0") {
				t.Errorf("%d keys, refused: %q", len(set), refused)
			}
		})
	}
	set, _, err := parseKeys(keySetJSON(t, rsaSigner(), ecSigner()))
	if err != nil || len(set) != 2 {
		t.Errorf("%d keys, %v", len(set), err)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(keySetJSON(f, rsaSigner(), ecSigner(), edSigner()))
	f.Add([]byte(`{"keys":[{"kty":"oct","kid":"k","k":"AA"},{"kty":"EC","kid":"k","crv":"P-256","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, _, err := parseKeys(text)
		for kid, k := range set {
			if err != nil || kid == "" || k.fits("HS256") || k.fits("none") {
				t.Errorf("key %q is usable: %v", kid, err)
			}
		}
	})
}
