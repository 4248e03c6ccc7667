package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

// oneEntry is a catalog with salesforce in it.
type oneEntry struct{}

func (oneEntry) All() []vault.Integration {
	return []vault.Integration{{Key: "salesforce", Name: "Salesforce", Category: "crm", Enabled: true}}
}

func (e oneEntry) Lookup(key string) (vault.Integration, bool) {
	return e.All()[0], key == "salesforce"
}

// fixture is a server in this process with its log and an admin's key.
type fixture struct {
	t       testing.TB
	handler http.Handler
	vault   *vault.Vault
	log     *bytes.Buffer
	key     string
	org     vault.Org
}

func newFixture(t testing.TB, on storage, o Options) *fixture {
	t.Helper()
	return openFixture(t, on, o, oneEntry{}, nil)
}

func openFixture(t testing.TB, on storage, o Options, c vault.Catalog, plugins vault.Plugins) *fixture {
	t.Helper()
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b, stale := on(t)
	made, err := vault.Init(t.Context(), vault.InitConfig{Backend: b, Roots: []string{root.Recipient().String()}, Envs: tree, Org: "default", AdminName: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, log: new(bytes.Buffer), key: made.Admin.Secret.Reveal(), org: made.Org}
	logger := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	v, err := vault.Open(t.Context(), vault.Config{
		Backend: b, Envs: tree, Catalog: c, Identities: []age.Identity{root}, Trusted: made.Trusted,
		Options: vault.Options{Logger: logger, Plugins: plugins, Exclusive: stale == nil, Stale: stale},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close(context.Background()) })
	f.vault = v
	f.handler = New(Config{Vault: v, Registry: prometheus.NewRegistry(), Logger: logger, Options: o})
	return f
}

// do sends a request with the admin's key, as change has altered it.
func (f *fixture) do(method, target, body string, change func(*http.Request)) (int, wire.Failure) {
	f.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8271/", strings.NewReader(body))
	if err := setTarget(r, target); err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.key)
	r.RemoteAddr = "127.0.0.1:40000"
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8271}
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	if w.Header().Get(wire.HeaderRequestID) == "" || w.Header().Get("Cache-Control") != "no-store" {
		f.t.Errorf("%s %s: an answer without X-Request-Id or Cache-Control: no-store", method, target)
	}
	var failure wire.Failure
	if w.Code >= 400 {
		if err := json.Unmarshal(w.Body.Bytes(), &failure); err != nil || failure.Success || failure.Error.Code == "" {
			f.t.Errorf("%s %s: status %d without the body of an error", method, target, w.Code)
		}
	}
	return w.Code, failure
}

// setTarget gives the request any target, also one that a client would refuse to
// send.
func setTarget(r *http.Request, target string) error {
	u, err := r.URL.Parse(target)
	if err != nil {
		return err
	}
	r.URL, r.RequestURI = u, target
	return nil
}

func TestGuard(t *testing.T) { onEach(t, testGuard) }

func testGuard(t *testing.T, on storage) {
	proxy := netip.MustParsePrefix("10.0.0.0/8")
	f := newFixture(t, on, Options{TrustedProxies: []netip.Prefix{proxy}})
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"plain", nil, 200},
		{"bare key", header("Authorization", f.key), 200},
		{"scheme in lower case", header("Authorization", "bearer "+f.key), 200},
		{"no key", func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		{"another scheme", header("Authorization", "Basic "+f.key), 401},
		{"unknown key", header("Authorization", "Bearer svk_"+strings.Repeat("0", 43)), 401},
		{"key with something behind it", header("Authorization", "Bearer "+f.key+"x"), 401},
		{"two keys", func(r *http.Request) { r.Header.Add("Authorization", "Bearer x") }, 400},
		{"Host localhost", host("localhost:8271"), 200},
		{"Host IPv6", host("[::1]:8271"), 200},
		{"Host of 127/8", host("127.9.9.9"), 200},
		{"foreign Host", host("evil.example:8271"), 403},
		{"Host that ends like ours", host("localhost.evil.example"), 403},
		{"Host that begins like ours", host("127.0.0.1.evil.example"), 403},
		{"no Host", host(""), 403},
		{"own Origin", header("Origin", "http://127.0.0.1:8271"), 200},
		{"foreign Origin", header("Origin", "https://evil.example"), 403},
		{"opaque Origin", header("Origin", "null"), 403},
		{"cross-site fetch", header("Sec-Fetch-Site", "cross-site"), 403},
		{"same-site fetch", header("Sec-Fetch-Site", "same-site"), 403},
		{"user's own navigation", header("Sec-Fetch-Site", "none"), 200},
		{"forwarded for", header("X-Forwarded-For", "127.0.0.1"), 403},
		{"forwarded", header("Forwarded", "for=127.0.0.1"), 403},
		{"forwarded by a trusted proxy", func(r *http.Request) {
			r.RemoteAddr = "10.1.2.3:5"
			r.Header.Set("X-Forwarded-For", "192.0.2.1")
		}, 200},
		{"own tenant by ID", header(wire.HeaderTenantID, f.org.ID), 200},
		{"own tenant by slug", header(wire.HeaderTenantID, "default"), 200},
		{"another tenant", header(wire.HeaderTenantID, "6f1c0a52-9f2e-4f0e-9a43-6a0d8ac9d0b1"), 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := "/v1/whoami"
			f := *f
			f.t = t
			if status, failure := f.do(http.MethodGet, r, "", c.change); status != c.status {
				t.Errorf("status %d (%s), want %d", status, failure.Error.Message, c.status)
			}
		})
	}
}

func TestRequestIDs(t *testing.T) {
	for given, kept := range map[string]bool{
		"abc-1": true, strings.Repeat("x", 128): true, "with space": true,
		"": false, strings.Repeat("x", 129): false, "new\nline": false, "tab\t": false, "ümlaut": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header[wire.HeaderRequestID] = []string{given}
		if got := requestID(r); (got == given) != kept || got == "" {
			t.Errorf("%q became %q", given, got)
		}
	}
}

func TestTooManyFailures(t *testing.T) { onEach(t, testTooManyFailures) }

func testTooManyFailures(t *testing.T, on storage) {
	f := newFixture(t, on, Options{})
	wrong := func(r *http.Request) { r.Header.Set("Authorization", "Bearer svk_"+strings.Repeat("A", 43)) }
	var last int
	for range failureBurst + 5 {
		last, _ = f.do(http.MethodGet, "/v1/whoami", "", wrong)
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("status %d after many failures", last)
	}
	if status, _ := f.do(http.MethodGet, "/v1/whoami", "", nil); status != http.StatusOK {
		t.Errorf("status %d for a valid key of the same peer", status)
	}
}

const canary = "canary-8c1f04d2"

func TestBadRequests(t *testing.T) { onEach(t, testBadRequests) }

func testBadRequests(t *testing.T, on storage) {
	f := newFixture(t, on, Options{})
	const slot = "/v1/integrations/salesforce/credentials"
	for _, c := range []struct {
		name, method, target, body string
		status                     int
		says                       string
	}{
		{"no body", "PUT", slot, "", 400, "no body"},
		{"not JSON", "PUT", slot, `{"value":"` + canary, 400, "not valid JSON"},
		{"two objects", "PUT", slot, `{"value":"` + canary + `"}{}`, 400, "not valid JSON"},
		{"an array", "PUT", slot, `["` + canary + `"]`, 400, "not a JSON object"},
		{"a string", "PUT", slot, `"` + canary + `"`, 400, "not a JSON object"},
		{"unknown field", "PUT", slot, `{"valeu":"` + canary + `"}`, 400, `did you mean "value"`},
		{"field in another case", "PUT", slot, `{"VALUE":"` + canary + `"}`, 400, `did you mean "value"`},
		{"field twice", "PUT", slot, `{"value":"a","value":"` + canary + `"}`, 400, "twice"},
		{"number for a value", "PUT", slot, `{"value":12345678}`, 422, "value has the wrong type"},
		{"object for a value", "PUT", slot, `{"value":{"x":"` + canary + `"}}`, 422, "value has the wrong type"},
		{"string for fields", "PUT", slot, `{"fields":"` + canary + `"}`, 422, "fields has the wrong type"},
		{"nested field", "PUT", slot, `{"fields":{"host":{"x":"` + canary + `"}}}`, 422, "fields.host has the wrong type"},
		{"both", "PUT", slot, `{"value":"a","fields":{"b":"` + canary + `"}}`, 400, "not both"},
		{"null value", "PUT", slot, `{"value":null}`, 422, "value"},
		{"empty value", "PUT", slot, `{"value":""}`, 422, "1 to 8192"},
		{"long value", "PUT", slot, `{"value":"` + strings.Repeat("x", 8193) + `"}`, 422, "8193"},
		{"NUL", "PUT", slot, `{"value":"` + canary + `\u0000"}`, 422, "NUL"},
		{"invalid UTF-8", "PUT", slot, `{"value":"` + canary + "\xff" + `"}`, 400, "UTF-8"},
		{"lone surrogate", "PUT", slot, `{"value":"` + canary + `\ud800"}`, 400, "UTF-8"},
		{"time", "PUT", slot, `{"value":"` + canary + `","expiresAt":"tomorrow"}`, 422, "RFC 3339"},
		{"time in the past", "PUT", slot, `{"value":"` + canary + `","expiresAt":"2001-01-01T00:00:00Z"}`, 422, "future"},
		{"large body", "PUT", slot, `{"value":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "too large"},
		{"unknown environment", "PUT", slot + "?environment=prod", `{"value":"` + canary + `"}`, 400, `did you mean "production"`},
		{"empty environment", "PUT", slot + "?environment=", `{"value":"` + canary + `"}`, 400, "empty"},
		{"empty environment in the body", "PUT", slot, `{"environment":"","value":"` + canary + `"}`, 400, "empty"},
		{"environments differ", "PUT", slot + "?environment=staging", `{"environment":"production","value":"` + canary + `"}`, 400, "differ"},
		{"unknown parameter", "PUT", slot + "?enviroment=staging", `{"value":"` + canary + `"}`, 400, `did you mean "environment"`},
		{"parameter twice", "PUT", slot + "?environment=staging&environment=production", `{"value":"` + canary + `"}`, 400, "2 times"},
		{"malformed query", "PUT", slot + "?environment=%zz", `{"value":"` + canary + `"}`, 400, "malformed"},
		{"NUL in a parameter", "GET", slot + "?name=%00", "", 400, "NUL"},
		{"invalid UTF-8 in a parameter", "GET", slot + "?name=%ff", "", 400, "UTF-8"},
		{"empty name", "GET", slot + "?name=", "", 400, "name is empty"},
		{"long name", "GET", slot + "?name=" + strings.Repeat("x", 129), "", 400, "128"},
		{"key of 256 characters", "PUT", "/v1/integrations/" + strings.Repeat("k", 256) + "/credentials", `{"value":"` + canary + `"}`, 400, "256 characters"},
		{"encoded slash", "PUT", "/v1/integrations/..%2f..%2fsalesforce/credentials", `{"value":"` + canary + `"}`, 400, "integration key"},
		{"encoded dots", "GET", "/v1/integrations/%2e%2e/credentials", "", 400, "integration key"},
		{"NUL in the key", "GET", "/v1/integrations/sales%00force", "", 400, "integration key"},
		{"reserved key", "PUT", "/v1/integrations/categories/credentials", `{"value":"` + canary + `"}`, 400, "reserved"},
		{"not in the catalog", "PUT", "/v1/integrations/salesfroce/credentials", `{"value":"` + canary + `"}`, 404, `did you mean "salesforce"`},
		{"no such path", "GET", "/v2/" + canary, "", 404, "no such path"},
		{"no such method", "PATCH", slot, "", 405, "method"},
		{"body of a delete", "DELETE", slot, `{"value":"` + canary + `"}`, 400, "no body"},
		{"boolean", "GET", "/v1/credentials/salesforce?fallback=yes", "", 400, "true or false"},
		{"version", "GET", "/v1/credentials/salesforce?version=0", "", 400, "whole number"},
		{"limit", "GET", "/v1/audit?limit=501", "", 400, "1 to 500"},
		{"cursor", "GET", "/v1/audit?cursor=x", "", 400, "cursor"},
		{"action", "GET", "/v1/audit?action=set_integration_credential", "", 400, `did you mean "set_integration_credentials"`},
		{"outcome", "GET", "/v1/audit?outcome=ok", "", 400, "success"},
		{"status", "GET", "/v1/integrations/credentials?status=deleted", "", 400, "inactive"},
		{"since", "GET", "/v1/audit?since=yesterday", "", 400, "RFC 3339"},
		{"key scope", "POST", "/v1/keys", `{"name":"k","scope":"root","environments":["*"],"integrations":["*"]}`, 400, "user or admin"},
		{"key environment", "POST", "/v1/keys", `{"name":"k","scope":"user","environments":["stagin"],"integrations":["*"]}`, 400, `did you mean "staging"`},
		{"key without a grant", "POST", "/v1/keys", `{"name":"k","scope":"user"}`, 422, "environments is missing"},
		{"key with an empty grant", "POST", "/v1/keys", `{"name":"k","scope":"user","environments":[],"integrations":["*"]}`, 400, "1 to 256"},
		{"entry without a key", "POST", "/v1/integrations", `{}`, 422, "id is missing"},
		{"auth type", "PUT", slot, `{"value":"` + canary + `","authType":"a b"}`, 422, "authType"},
		{"label's name", "PUT", slot, `{"value":"` + canary + `","labels":{"a b":"c"}}`, 422, "label"},
		{"label's value", "PUT", slot, `{"value":"` + canary + `","labels":{"a":"` + strings.Repeat("x", 257) + `"}}`, 422, "label"},
		{"key ID", "DELETE", "/v1/keys/1", "", 400, "UUID"},
		{"retry an unknown environment", "POST", "/v1/sync/retry", `{"environment":"prod"}`, 400, `did you mean "production"`},
		{"retry an empty environment", "POST", "/v1/sync/retry", `{"environment":""}`, 400, "empty"},
		{"retry an empty integration", "POST", "/v1/sync/retry", `{"integrationId":""}`, 400, "integration key"},
		{"retry an empty name", "POST", "/v1/sync/retry", `{"name":""}`, 400, "name"},
		{"retry a plugin", "POST", "/v1/sync/retry", `{"plugin":"A b"}`, 400, "binding"},
		{"retry with the wrong type", "POST", "/v1/sync/retry", `{"environment":5}`, 422, "environment has the wrong type"},
		{"retry something else", "POST", "/v1/sync/retry", `{"integration":"salesforce"}`, 400, `did you mean "integrationId"`},
		{"syncs of a key", "GET", "/v1/sync?integration=a%2fb", "", 400, "integration key"},
		{"syncs of an environment", "GET", "/v1/sync?environment=prod", "", 400, `did you mean "production"`},
		{"syncs of a plugin", "GET", "/v1/sync?plugin=A", "", 400, "binding"},
		{"cursor of syncs", "GET", "/v1/sync?cursor=x", "", 400, "cursor"},
		{"limit of syncs", "GET", "/v1/sync?limit=0", "", 400, "1 to 500"},
		{"If-Match", "PUT-IF-MATCH", slot, `{"value":"` + canary + `"}`, 400, "If-Match"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := *f
			f.t = t
			method, change := c.method, func(*http.Request) {}
			if method == "PUT-IF-MATCH" {
				method, change = "PUT", func(r *http.Request) { r.Header.Set("If-Match", "42") }
			}
			status, failure := f.do(method, c.target, c.body, change)
			text, _ := json.Marshal(failure)
			said := failure.Error.Message + " " + failure.Error.Details
			if status != c.status || !strings.Contains(said, c.says) {
				t.Errorf("status %d, %q; want %d and %q", status, said, c.status, c.says)
			}
			if status == http.StatusUnprocessableEntity && len(failure.Detail) == 0 {
				t.Error("a 422 without detail")
			}
			if bytes.Contains(text, []byte(canary)) {
				t.Error("the answer quotes the value")
			}
		})
	}
	if strings.Contains(f.log.String(), canary) {
		t.Error("the log quotes a value")
	}
	if status, failure := f.do(http.MethodGet, "/v1/credentials/salesforce", "", nil); status != http.StatusNotFound {
		t.Errorf("something was stored: status %d %s", status, failure.Error.Code)
	}
}

func FuzzBodies(f *testing.F) {
	fx := newFixture(f, inMemory, Options{})
	f.Add(`{"value":"x"}`, "environment=staging")
	f.Add(`{"fields":{"a":"b"},"labels":{"c":"d"},"expiresAt":"2030-01-01T00:00:00Z"}`, "name=%20")
	f.Add("{", "%zz")
	f.Fuzz(func(t *testing.T, body, query string) {
		for _, target := range []string{
			"PUT /v1/integrations/salesforce/credentials", "POST /v1/integrations/salesforce/credentials/test", "POST /v1/keys", "POST /v1/integrations",
			"PATCH /v1/integrations/salesforce", "POST /v1/credentials", "POST /v1/sync/retry", "GET /v1/audit", "DELETE /v1/integrations/jira/credentials",
			"PATCH /v1/credentials/salesforce/550e8400-e29b-41d4-a716-446655440099", "POST /v1/credentials/salesforce/550e8400-e29b-41d4-a716-446655440099/rollback",
		} {
			method, path, _ := strings.Cut(target, " ")
			r := httptest.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(body))
			r.URL.RawQuery = query
			r.Header.Set("Authorization", "Bearer "+fx.key)
			w := httptest.NewRecorder()
			fx.handler.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Errorf("%s answers %d", target, w.Code)
			}
		}
	})
}

// untouched is a body that nobody is to read.
type untouched struct{ reads int }

func (u *untouched) Read([]byte) (int, error) {
	u.reads++
	return 0, io.EOF
}

func (*untouched) Close() error { return nil }

// What is too large by its own account is refused before any of it is read.
func TestTooLargeIsNotRead(t *testing.T) {
	f := newFixture(t, inMemory, Options{})
	var body untouched
	status, failure := f.do(http.MethodPut, "/v1/integrations/salesforce/credentials", "", func(r *http.Request) {
		r.Body, r.ContentLength = &body, maxBody+1
	})
	if status != http.StatusRequestEntityTooLarge || failure.Error.Code != "PAYLOAD_TOO_LARGE" || body.reads > 0 {
		t.Errorf("status %d, code %s, after %d reads", status, failure.Error.Code, body.reads)
	}
	if status, failure = f.do(http.MethodPut, "/v1/integrations/salesforce/credentials", strings.Repeat(" ", maxBody+1), func(r *http.Request) {
		r.ContentLength = -1
	}); status != http.StatusRequestEntityTooLarge {
		t.Errorf("of a length that is not known: status %d, code %s", status, failure.Error.Code)
	}
}
