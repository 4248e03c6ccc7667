package rest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/jwt"
	"github.com/sidevault/sidevault/envs"
)

// A token that is signed by the configured issuer is a caller, and no other is.
func TestJWT(t *testing.T) { onEach(t, testJWT) }

func testJWT(t *testing.T, on storage) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	set := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","use":"sig","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	if err := os.WriteFile(file, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	var tokens lateTokens
	f := newFixture(t, on, Options{Tokens: &tokens})
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	tokens.Tokens, err = jwt.Open(t.Context(), jwt.Config{
		Issuer: "https://id.example.com", Audience: "sidevault", JWKS: file, Org: f.vault.Org, Envs: tree, Logger: slog.New(slog.DiscardHandler),
		Options: jwt.Options{Claims: jwt.Claims{Roles: "realm_access.roles"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	token := func(header string, change func(map[string]any)) string {
		claims := map[string]any{
			"iss": "https://id.example.com", "aud": "sidevault", "sub": "user-1", "email": "ada@example.com", "org": f.org.ID,
			"exp": time.Now().Unix() + 60, "realm_access": map[string]any{"roles": []string{"integration_admin"}},
		}
		if change != nil {
			change(claims)
		}
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(text)
		return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(input)))
	}
	const header = `{"alg":"EdDSA","kid":"k1"}`
	user := func(c map[string]any) { delete(c, "realm_access") }
	for _, c := range []struct {
		name, path, token string
		status            int
	}{
		{"admin", "/v1/audit", token(header, nil), 200},
		{"user", "/v1/whoami", token(header, user), 200},
		{"user as an admin", "/v1/audit", token(header, user), 403},
		{"expired", "/v1/whoami", token(header, func(c map[string]any) { c["exp"] = time.Now().Unix() - 60 }), 401},
		{"wrong issuer", "/v1/whoami", token(header, func(c map[string]any) { c["iss"] = "https://id.example.org" }), 401},
		{"wrong audience", "/v1/whoami", token(header, func(c map[string]any) { c["aud"] = "other" }), 401},
		{"unknown org", "/v1/whoami", token(header, func(c map[string]any) { c["org"] = "other" }), 401},
		{"org of odd text", "/v1/whoami", token(header, func(c map[string]any) { c["org"] = "../default" }), 401},
		{"alg none", "/v1/whoami", token(`{"alg":"none","kid":"k1"}`, nil), 401},
		{"HMAC", "/v1/whoami", token(`{"alg":"HS256","kid":"k1"}`, nil), 401},
		{"unknown key", "/v1/whoami", token(`{"alg":"EdDSA","kid":"../k1"}`, nil), 401},
		{"critical extension", "/v1/whoami", token(`{"alg":"EdDSA","kid":"k1","crit":["x"],"x":1}`, nil), 401},
		{"altered", "/v1/whoami", strings.Replace(token(header, nil), ".", ".e", 1), 401},
	} {
		status, failure := f.do(http.MethodGet, c.path, "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+c.token) })
		if status != c.status || status == 401 && failure.Error.Details != "the token is not valid here" {
			t.Errorf("%s: status %d %+v", c.name, status, failure.Error)
		}
		for part := range strings.SplitSeq(c.token, ".") {
			if strings.Contains(f.log.String(), part) {
				t.Errorf("%s: the log quotes the token", c.name)
			}
		}
	}
}

// lateTokens is a verifier that is made after the server.
type lateTokens struct{ Tokens }
