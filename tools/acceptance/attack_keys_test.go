package acceptance

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// TestAttackGuessedKeys guesses API keys. The peer that guesses is slowed down,
// whatever it does to look like another; who has a key and other peers are not.
func TestAttackGuessedKeys(t *testing.T) {
	t.Parallel()
	s := coveted(t)
	from := func(source, key string, headers ...string) int {
		t.Helper()
		return askFrom(t, s, source, "/v1/whoami", key, headers...).Status
	}
	guess := func(i int) string { return fmt.Sprintf("svk_%043d", i) }
	limited := 0
	for i := range 60 {
		if from("127.0.0.1", guess(i)) == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited < 20 {
		t.Errorf("%d of 60 guesses were refused as too many", limited)
	}
	for name, headers := range map[string][]string{
		"another agent": {"User-Agent: other"}, "another tenant": {"X-Tenantid: other"}, "another request": {"X-Request-Id: 1"},
		"another session": {"Cookie: a=b", "Mcp-Session-Id: x"}, "another address that it claims": {"X-Real-Ip: 192.0.2.1", "Client-Ip: 192.0.2.1"},
	} {
		refusals := 0
		for i := range 4 {
			if from("127.0.0.1", guess(i), headers...) == http.StatusTooManyRequests {
				refusals++
			}
		}
		if refusals == 0 {
			t.Errorf("%s: the peer is taken for a new one", name)
		}
	}
	if status := from("127.0.0.2", guess(0)); status != http.StatusUnauthorized {
		t.Errorf("another peer is refused with %d, want 401", status)
	}
	for _, source := range []string{"127.0.0.1", "127.0.0.2"} {
		if status := from(source, s.AdminKey); status != http.StatusOK {
			t.Errorf("the right key from %s: status %d", source, status)
		}
	}
	nearMisses(t, s)
}

// nearMisses sends what is almost a key, from a peer that has guesses left.
func nearMisses(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(s.AdminKey)))
	for i, key := range []string{
		s.AdminKey[:len(s.AdminKey)-1], s.AdminKey + "0", strings.ToLower(s.AdminKey), strings.ToUpper(s.AdminKey), strings.TrimPrefix(s.AdminKey, "svk_"),
		hash, "svk_" + hash[:43], "apikey/" + hash, "../apikey/" + hash, "svk_", "Bearer " + s.AdminKey, "*", "%",
	} {
		if status := askFrom(t, s, fmt.Sprintf("127.0.1.%d", i+1), "/v1/whoami", key).Status; status != http.StatusUnauthorized {
			t.Errorf("near miss %d: status %d, want 401", i, status)
		}
	}
}

// askFrom asks with a key from an address of the loopback network.
func askFrom(t *testing.T, s *sidecar.Sidecar, source, target, key string, headers ...string) *sidecar.Answer {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(t.Context(), "tcp4", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := strings.Replace(whole("GET", target, "", append(headers, "Connection: close")...), "KEY", key, 1)
	answers := talk(t, s, conn, text)
	if len(answers) != 1 {
		t.Fatalf("%d answers", len(answers))
	}
	return answers[0]
}

// idp signs tokens.
type idp struct{ key ed25519.PrivateKey }

func newIDP(t *testing.T) idp {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return idp{private}
}

func (p idp) public() ed25519.PublicKey { return p.key.Public().(ed25519.PublicKey) }

// jwks writes the key set of an issuer, under one ID each.
func jwks(t *testing.T, keys map[string]idp) (path string, text []byte) {
	t.Helper()
	set := struct {
		Keys []map[string]string `json:"keys"`
	}{}
	for kid, p := range keys {
		set.Keys = append(set.Keys, map[string]string{
			"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(p.public()),
		})
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "keys.json")
	must(t, os.WriteFile(path, text, 0o600))
	return path, text
}

type claims map[string]any

// parts returns the signed part of a token with some of the good claims changed.
func parts(header claims, changes claims) string {
	good := claims{
		"iss": "https://id.example.com", "aud": "sidevault", "sub": "mallory", "roles": []string{"integration_admin"},
		"exp": time.Now().Unix() + 300, "iat": time.Now().Unix(),
	}
	for name, v := range changes {
		if good[name] = v; v == nil {
			delete(good, name)
		}
	}
	encode := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return encode(header) + "." + encode(good)
}

func (p idp) token(header, changes claims) string {
	input := parts(header, changes)
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(p.key, []byte(input)))
}

func forgedMAC(header claims, secret []byte) string {
	input := parts(header, nil)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestAttackTokens presents forged JWTs to the program. The package that verifies them
// has the long table; this one shows that nothing on the way lets them past.
func TestAttackTokens(t *testing.T) {
	t.Parallel()
	ours, theirs := newIDP(t), newIDP(t)
	path, text := jwks(t, map[string]idp{"k1": ours})
	other, _ := jwks(t, map[string]idp{"k1": theirs})
	s := coveted(t, "--jwt-issuer", "https://id.example.com", "--jwt-audience", "sidevault", "--jwt-jwks", path, "--jwt-org", "default")
	header := claims{"alg": "EdDSA", "kid": "k1"}
	with := func(name string, v any) claims { return claims{"alg": "EdDSA", "kid": "k1", name: v} }
	past := time.Now().Unix() - 120
	none := parts(claims{"alg": "none", "kid": "k1"}, nil)
	peer := 0
	for name, token := range map[string]string{
		"no algorithm, no signature":       none + ".",
		"no algorithm, some signature":     none + ".AAAA",
		"no algorithm in another case":     parts(claims{"alg": "nOnE"}, nil) + ".",
		"MAC with the public key":          forgedMAC(claims{"alg": "HS256", "kid": "k1"}, ours.public()),
		"MAC with the key set":             forgedMAC(claims{"alg": "HS256", "kid": "k1"}, text),
		"MAC with nothing":                 forgedMAC(claims{"alg": "HS256", "kid": "k1"}, nil),
		"expired":                          ours.token(header, claims{"exp": past}),
		"without an end":                   ours.token(header, claims{"exp": nil}),
		"not yet valid":                    ours.token(header, claims{"nbf": time.Now().Unix() + 300}),
		"key of another issuer":            theirs.token(header, nil),
		"key and name of another issuer":   theirs.token(header, claims{"iss": "https://evil.example"}),
		"another issuer, our key":          ours.token(header, claims{"iss": "https://evil.example"}),
		"another audience":                 ours.token(header, claims{"aud": "other"}),
		"unknown kid":                      ours.token(with("kid", "k2"), nil),
		"kid that climbs":                  ours.token(with("kid", "../../../../../../dev/null"), nil),
		"kid that names another set":       theirs.token(with("kid", other), nil),
		"kid of SQL":                       ours.token(with("kid", "k1' OR '1'='1"), nil),
		"kid of a shell":                   ours.token(with("kid", "k1|id"), nil),
		"empty kid":                        ours.token(with("kid", ""), nil),
		"key set in the header":            theirs.token(with("jku", "file://"+other), nil),
		"key in the header":                theirs.token(with("jwk", claims{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(theirs.public())}), nil),
		"critical extension":               ours.token(with("crit", []string{"exp"}), nil),
		"another org":                      ours.token(header, claims{"org": "other"}),
		"org that climbs":                  ours.token(header, claims{"org": "../default"}),
		"signature of other claims":        parts(header, claims{"sub": "root"}) + "." + strings.Split(ours.token(header, nil), ".")[2],
		"without a signature":              parts(header, nil) + ".",
		"the signature of an all-zero key": parts(header, nil) + "." + base64.RawURLEncoding.EncodeToString(make([]byte, ed25519.SignatureSize)),
	} {
		peer++
		a := askFrom(t, s, fmt.Sprintf("127.0.2.%d", peer), resolve("salesforce", ""), token)
		var f wire.Failure
		if err := json.Unmarshal(a.Body, &f); err != nil || a.Status != http.StatusUnauthorized || f.Error.Details != "the token is not valid here" {
			t.Errorf("%s: status %d, %q; want 401 without a reason", name, a.Status, f.Error.Details)
		}
	}
	s.Client(ours.token(header, nil)).Get(resolve("salesforce", "")).Wants(http.StatusOK)
	s.Client(ours.token(header, claims{"roles": nil})).Delete(slot("salesforce", "")).Fails(http.StatusForbidden, "FORBIDDEN_ADMIN_SCOPE")
	stillThere(t, s)
}
