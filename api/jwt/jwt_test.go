package jwt

import (
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

func TestCaller(t *testing.T) {
	f := newFixture(t, Options{}, rsaSigner(), ecSigner(), edSigner())
	for _, s := range []signer{rsaSigner(), ecSigner(), edSigner()} {
		c := f.accepts(t, s.token(object{"roles": []string{"integration_admin"}}))
		if c.Actor != (vault.Actor{ID: "user-1", Name: "Ada", Email: "ada@example.com", Kind: "jwt"}) || c.Org != acme || !c.Admin {
			t.Errorf("%s: %+v", s.alg, c)
		}
		if !slices.Equal(c.Environments, []string{"*"}) || !slices.Equal(c.Integrations, []string{"*"}) {
			t.Errorf("%s: the grant is %v, %v", s.alg, c.Environments, c.Integrations)
		}
	}
	if c := f.accepts(t, rsaSigner().token(object{"org": acme.ID, "name": nil, "email": nil})); c.Admin || c.Actor.Name != "user-1" || c.Actor.Email != "" {
		t.Errorf("%+v", c)
	}
	dirty := object{"name": "Ada\u2028\n\x1b[31m\u202e <b>" + strings.Repeat("ä", 200), "email": "a\x00b@example.com"}
	c := f.accepts(t, rsaSigner().token(dirty))
	if len(c.Actor.Name) > 128 || !strings.HasPrefix(c.Actor.Name, "Ada[31m <b>ä") || strings.ContainsRune(c.Actor.Name, '\uFFFD') || c.Actor.Email != "ab@example.com" {
		t.Errorf("name %q, email %q", c.Actor.Name, c.Actor.Email)
	}
}

func TestAlgorithms(t *testing.T) {
	p384 := newEC("p384", elliptic.P384(), "ES384")
	p384.alg = ""
	f := newFixture(t, Options{Algorithms: []string{"PS256", "ES256", "ES384"}}, signer{"any", "", rsaSigner().private}, p384, rsaSigner())
	pss := func(s signer, kid string) string {
		signing := jose.SigningKey{Algorithm: jose.PS256, Key: jose.JSONWebKey{Key: s.private, KeyID: kid}}
		made, err := jose.NewSigner(signing, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(good(nil))
		jws, err := made.Sign(text)
		if err != nil {
			t.Fatal(err)
		}
		token, _ := jws.CompactSerialize()
		return token
	}
	f.accepts(t, pss(rsaSigner(), "any"))
	f.refuses(t, pss(rsaSigner(), "rsa-1"), "not that of the key")
	f.refuses(t, signer{"any", "RS256", rsaSigner().private}.token(nil), "not allowed")
	f.refuses(t, signer{"p384", "ES256", p384.private}.token(nil), "not that of the key")
	f.refuses(t, signer{"any", "ES256", ecSigner().private}.token(nil), "not that of the key")
}

func TestRefused(t *testing.T) {
	f := newFixture(t, Options{}, rsaSigner(), ecSigner(), edSigner())
	s := rsaSigner()
	now := time.Now().Unix()
	valid := s.token(nil)
	parts := strings.Split(valid, ".")
	hs := func(key []byte) string {
		input := segment(s.header(object{"alg": "HS256"})) + "." + segment(good(object{"roles": "integration_admin"}))
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		return input + "." + encode(mac.Sum(nil))
	}
	der, _ := x509.MarshalPKIXPublicKey(s.private.Public())
	n := s.private.Public().(*rsa.PublicKey).N.Bytes()
	for _, c := range []struct{ name, token, reason string }{
		{"alg none", segment(object{"alg": "none", "kid": s.kid}) + "." + parts[1] + "." + parts[2], "not allowed"},
		{"alg none, unsigned", segment(object{"alg": "none", "kid": s.kid}) + "." + parts[1] + ".", "form"},
		{"alg None", segment(s.header(object{"alg": "None"})) + "." + parts[1] + "." + parts[2], "not allowed"},
		{"no alg", segment(s.header(object{"alg": nil})) + "." + parts[1] + "." + parts[2], "not allowed"},
		{"alg of another type", segment(s.header(object{"alg": []string{"RS256"}})) + "." + parts[1] + "." + parts[2], "header"},
		{"HMAC with the public key's DER", hs(der), "not allowed"},
		{"HMAC with the public key's PEM", hs(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "not allowed"},
		{"HMAC with the modulus", hs(n), "not allowed"},
		{"HMAC with the key set", hs(keySetJSON(t, s)), "not allowed"},
		{"signature stripped", parts[0] + "." + parts[1] + ".", "form"},
		{"signature of another key", rogue().token(nil), "signature"},
		{"signature of other claims", parts[0] + "." + segment(good(object{"sub": "root"})) + "." + parts[2], "signature"},
		{"signature cut", valid[:len(valid)-8], "signature"},
		{"alg of another key", s.sign(ecSigner().header(nil), good(nil)), "signature"},
		{"kid of another key", s.sign(s.header(object{"kid": ecSigner().kid}), good(nil)), "not that of the key"},
		{"expired", s.token(object{"exp": now - 31}), "expired"},
		{"not yet valid", s.token(object{"nbf": now + 60}), "not valid yet"},
		{"issued in the future", s.token(object{"iat": now + 60}), "not valid yet"},
		{"no exp", s.token(object{"exp": nil}), "no end"},
		{"exp null", s.sign(s.header(nil), `{"exp":null}`), "no end"},
		{"exp a string", s.token(object{"exp": "9999999999"}), "malformed"},
		{"exp too large", s.sign(s.header(nil), `{"exp":1e300}`), "malformed"},
		{"wrong issuer", s.token(object{"iss": issuer + "/"}), "issuer"},
		{"issuer in another case", s.token(object{"iss": strings.ToUpper(issuer)}), "issuer"},
		{"no issuer", s.token(object{"iss": nil}), "issuer"},
		{"issuer a list", s.token(object{"iss": []string{issuer}}), "malformed"},
		{"wrong audience", s.token(object{"aud": "sidevault2"}), "audience"},
		{"wrong audiences", s.token(object{"aud": []string{"a", "SIDEVAULT"}}), "audience"},
		{"no audience", s.token(object{"aud": nil}), "audience"},
		{"empty audiences", s.token(object{"aud": []string{}}), "audience"},
		{"audience of another type", s.token(object{"aud": object{audience: true}}), "malformed"},
		{"no sub", s.token(object{"sub": nil}), "ID"},
		{"sub a number", s.token(object{"sub": 7}), "malformed"},
		{"sub that does not print", s.token(object{"sub": "a\u2028"}), "ID"},
		{"sub too long", s.token(object{"sub": strings.Repeat("x", 129)}), "ID"},
		{"no org", s.token(object{"org": nil}), "org"},
		{"unknown org", s.token(object{"org": "other"}), "org is unknown"},
		{"org a list", s.token(object{"org": []string{"acme"}}), "org"},
		{"org an object", s.token(object{"org": object{"acme": true}}), "org"},
		{"org empty", s.token(object{"org": ""}), "org"},
		{"roles a number", s.token(object{"roles": 1}), "roles"},
		{"roles an object", s.token(object{"roles": object{"integration_admin": true}}), "roles"},
		{"roles of two types", s.token(object{"roles": []any{"integration_admin", 1}}), "roles"},
		{"no kid", s.sign(s.header(object{"kid": nil}), good(nil)), "names no key"},
		{"unknown kid", s.sign(s.header(object{"kid": "rsa-2"}), good(nil)), "not in the key set"},
		{"kid a path", s.sign(s.header(object{"kid": "../../../../dev/null"}), good(nil)), "not in the key set"},
		{"kid the set's own path", s.sign(s.header(object{"kid": f.file}), good(nil)), "not in the key set"},
		{"kid SQL", s.sign(s.header(object{"kid": "' OR 1=1 --"}), good(nil)), "not in the key set"},
		{"kid with NUL", s.sign(s.header(object{"kid": "rsa-1\x00"}), good(nil)), "not in the key set"},
		{"kid too long", s.sign(s.header(object{"kid": strings.Repeat("k", 257)}), good(nil)), "names no key"},
		{"kid a number", s.sign(s.header(object{"kid": 1}), good(nil)), "header"},
		{"crit", s.sign(s.header(object{"crit": []string{"b64"}, "b64": false}), good(nil)), "critical"},
		{"crit empty", s.sign(s.header(object{"crit": []string{}}), good(nil)), "critical"},
		{"crit null", s.sign(`{"alg":"RS256","kid":"rsa-1","crit":null}`, good(nil)), "critical"},
		{"own key in the header", rogue().sign(rogue().header(object{"jwk": rogue().jwk()}), good(nil)), "signature"},
		{"own key set in the header", rogue().sign(rogue().header(object{"jku": "https://evil.example/keys", "x5u": "https://evil.example/x"}), good(nil)), "signature"},
		{"another type", s.sign(s.header(object{"typ": "logout+jwt"}), good(nil)), "type"},
		{"header member twice", s.sign(`{"alg":"RS256","kid":"rsa-1","kid":"ec-1"}`, good(nil)), "header"},
		{"claim twice", s.sign(s.header(nil), fmt.Sprintf(`{"iss":%q,"iss":"x"}`, issuer)), "malformed"},
		{"claim twice, deep", s.sign(s.header(nil), `{"realm_access":{"roles":[],"roles":["integration_admin"]}}`), "malformed"},
		{"claims no object", s.sign(s.header(nil), `["iss"]`), "malformed"},
		{"claims null", s.sign(s.header(nil), `null`), "no end"},
		{"claims no JSON", s.sign(s.header(nil), `{"iss":`), "malformed"},
		{"claims not UTF-8", s.sign(s.header(nil), "{\"sub\":\"\xff\"}"), "malformed"},
		{"two parts", parts[0] + "." + parts[1], "form"},
		{"four parts", valid + ".x", "form"},
		{"five parts", valid + ".x.x", "form"},
		{"empty", "", "form"},
		{"dots", "..", "form"},
		{"empty header", "." + parts[1] + "." + parts[2], "form"},
		{"padding", parts[0] + "=." + parts[1] + "." + parts[2], "form"},
		{"a line end", parts[0] + "\n." + parts[1] + "." + parts[2], "form"},
		{"other base64", "+/+/." + parts[1] + "." + parts[2], "form"},
		{"header no JSON", "AAAA." + parts[1] + "." + parts[2], "header"},
		{"huge", s.token(object{"pad": strings.Repeat("x", maxToken)}), "too long"},
	} {
		t.Run(c.name, func(t *testing.T) { f.refuses(t, c.token, c.reason) })
	}
	f.accepts(t, valid)
	for _, name := range []string{"integration_admin", "Ada", "user-1", "ada@example.com", parts[2]} {
		if strings.Contains(f.log.String(), name) {
			t.Errorf("the log quotes %q", name)
		}
	}
}

func TestClocksApart(t *testing.T) {
	f := newFixture(t, Options{}, edSigner())
	now := time.Now().Unix()
	f.accepts(t, edSigner().token(object{"exp": now - 25, "nbf": nil, "iat": nil}))
	f.accepts(t, edSigner().token(object{"nbf": now + 25, "iat": now + 25}))
	f.accepts(t, edSigner().token(object{"aud": []string{"other", audience}}))
}

func TestClaimsMapping(t *testing.T) {
	f := newFixture(t, Options{
		Claims:    Claims{ID: "oid", Name: "profile.display", Email: `https://acme\.example/mail`, Org: "tenant.slug", Roles: "realm_access.roles"},
		AdminRole: "vault admin", Environments: []string{"*", "production"}, Integrations: []string{"salesforce"},
	}, edSigner())
	given := object{
		"oid": "7", "profile": object{"display": "Eve"}, "https://acme.example/mail": "eve@example.com", "tenant": object{"slug": "acme"},
		"roles": []string{"vault admin"}, "realm_access.roles": []string{"vault admin"},
	}
	c := f.accepts(t, edSigner().token(given))
	if c.Actor != (vault.Actor{ID: "7", Name: "Eve", Email: "eve@example.com", Kind: "jwt"}) || c.Admin {
		t.Errorf("%+v", c)
	}
	if !slices.Equal(c.Environments, []string{"*", "production"}) || !slices.Equal(c.Integrations, []string{"salesforce"}) {
		t.Errorf("the grant is %v, %v", c.Environments, c.Integrations)
	}
	for name, roles := range map[string]any{"array": []string{"a", "vault admin"}, "string": "vault admin"} {
		given["realm_access"] = object{"roles": roles}
		if c := f.accepts(t, edSigner().token(given)); !c.Admin {
			t.Errorf("%s: no admin", name)
		}
	}
	for _, roles := range []any{"no vault admin", []string{"no vault admin"}, "vault", []string{}, "VAULT ADMIN"} {
		given["realm_access"] = object{"roles": roles}
		if c := f.accepts(t, edSigner().token(given)); c.Admin {
			t.Errorf("%v is an admin", roles)
		}
	}
}

func TestOrgs(t *testing.T) {
	f := newFixture(t, Options{FixedOrg: acme.ID}, edSigner())
	if c := f.accepts(t, edSigner().token(object{"org": nil})); c.Org != acme {
		t.Errorf("the org is %v", c.Org)
	}
	f.refuses(t, edSigner().token(object{"org": "other"}), "org is unknown")
	f.refuses(t, edSigner().token(object{"org": 1}), "org")
	_, err := f.Verify(t.Context(), secret.New(edSigner().token(object{"org": "away"})))
	if vault.KindOf(err) != vault.BackendUnavailable {
		t.Errorf("while the storage is away: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "keys.json")
	write(t, good, keySetJSON(t, edSigner()))
	empty := filepath.Join(dir, "empty.json")
	write(t, empty, []byte(`{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}`))
	text := filepath.Join(dir, "text")
	write(t, text, []byte(`{"keys":"c2VjcmV0"}`))
	for says, change := range map[string]func(*Config){
		"issuer is missing":             func(c *Config) { c.Issuer = "" },
		"audience is missing":           func(c *Config) { c.Audience = "" },
		"key set is missing":            func(c *Config) { c.JWKS = "" },
		`"HS256" cannot be allowed`:     func(c *Config) { c.Algorithms = []string{"RS256", "HS256"} },
		`"none" cannot be allowed`:      func(c *Config) { c.Algorithms = []string{"none"} },
		`"rs256" cannot be allowed`:     func(c *Config) { c.Algorithms = []string{"rs256"} },
		`Unknown environment "prod"`:    func(c *Config) { c.Environments = []string{"prod"} },
		"integration key is not valid":  func(c *Config) { c.Integrations = []string{"a b"} },
		"Unknown org":                   func(c *Config) { c.FixedOrg = "other" },
		`claim "a..b" is no path`:       func(c *Config) { c.Claims.Roles = "a..b" },
		"must be https":                 func(c *Config) { c.JWKS = "http://id.example.com/keys" },
		"without a user":                func(c *Config) { c.JWKS = "https://u:p@id.example.com/keys" },
		"no such file":                  func(c *Config) { c.JWKS = filepath.Join(dir, "none.json") },
		"not a file":                    func(c *Config) { c.JWKS = dir },
		"no key that can be used":       func(c *Config) { c.JWKS = empty },
		"not a JSON Web Key Set":        func(c *Config) { c.JWKS = text },
		"must be https, or http to a l": func(c *Config) { c.JWKS = "ftp://127.0.0.1/keys" },
	} {
		cfg := config(t, new(lockedBuffer), good)
		change(&cfg)
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%v\ndoes not say %q", err, says)
		}
	}
}

func FuzzVerify(f *testing.F) {
	fx := newFixture(f, Options{}, rsaSigner(), ecSigner(), edSigner())
	valid := edSigner().token(nil)
	parts := strings.Split(valid, ".")
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	f.Add(string(header), string(payload), parts[2])
	f.Add(`{"alg":"none","kid":"rsa-1"}`, string(payload), "AA")
	f.Add(`{"alg":"HS256","kid":"rsa-1","crit":[]}`, `{"exp":1e99,"aud":[[]]}`, "")
	f.Add(`{"alg":"ES256","kid":"ec-1","jwk":{"kty":"EC"}}`, `{"a":{"a":{}}}`, parts[2])
	f.Fuzz(func(t *testing.T, header, payload, signature string) {
		// Whatever claims are signed, none passes without being what it must be.
		if c, reason := fx.verify(t, edSigner().sign(edSigner().header(nil), payload)); reason == "" {
			if c.Actor.Kind != "jwt" || !vault.IsName(c.Actor.ID) || c.Actor.Name != vault.Clean(c.Actor.Name) || c.Org != acme {
				t.Errorf("claims %q make the caller %+v", payload, c)
			}
		}
		// Without the key, no header and no claims pass.
		token := encode([]byte(header)) + "." + encode([]byte(payload)) + "." + signature
		if _, reason := fx.verify(t, token); reason == "" && token != valid {
			t.Errorf("accepted: %s", token)
		}
		if _, reason := fx.verify(t, header+"."+payload+"."+signature); reason == "" {
			t.Errorf("accepted: %s.%s.%s", header, payload, signature)
		}
	})
}
