package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/plugins/internal/trial"
	"github.com/sidevault/sidevault/plugins/sdk"
	"github.com/sidevault/sidevault/vault/secret"
)

const (
	canary = "canary-5f1e/do not show"
	token  = "tr-token-canary-77"
)

// seen is a request as the aggregator gets it.
type seen struct {
	method, uri, body string
	header            http.Header
}

// aggregator answers one thing after another, and the last one again and again.
type aggregator struct {
	*httptest.Server
	mu      sync.Mutex
	got     []seen
	answers []http.HandlerFunc
}

func open(t *testing.T, answers ...http.HandlerFunc) *aggregator {
	t.Helper()
	a := &aggregator{answers: answers}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *aggregator) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	do := a.answers[min(len(a.got), len(a.answers)-1)]
	a.got = append(a.got, seen{r.Method, r.RequestURI, string(body), r.Header})
	a.mu.Unlock()
	do(w, r)
}

func (a *aggregator) requests() []seen {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.got
}

func (a *aggregator) env(more map[string]string) func(string) string {
	env := map[string]string{"TR_URL": a.URL, "TR_TOKEN": token}
	for name, value := range more {
		env[name] = value
	}
	return func(name string) string { return env[name] }
}

func answering(code int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

func cutOff(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func change(c sdk.Change) sdk.SyncRequest {
	r := sdk.SyncRequest{
		Change: c, CredentialID: "cred-01890000-0000-7000-8000-000000000001", Version: 3, IdempotencyKey: "key-of-version-3", Attempt: 1,
	}
	r.Place = sdk.Place{Org: "acme", Integration: "trust.radius", Environment: "production", Name: "a b"}
	if c == sdk.Set {
		r.AuthType, r.Fields = "api_key", map[string]secret.Value{"api_key": secret.New(canary)}
	}
	return r
}

// run syncs within a time, and sees to it that nothing secret is in the answer.
func run(t *testing.T, env func(string) string, r sdk.SyncRequest, within time.Duration) (sdk.SyncResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	got, err := syncer{env: env}.Sync(ctx, r)
	if said := fmt.Sprintf("%+v %v", got, err); strings.Contains(said, "canary") {
		t.Errorf("a secret is in %s", said)
	}
	return got, err
}

func TestSet(t *testing.T) {
	a := open(t, answering(204, ""))
	if got, err := run(t, a.env(nil), change(sdk.Set), 5*time.Second); err != nil || !reflect.DeepEqual(got, sdk.Done()) {
		t.Fatalf("%+v, %v", got, err)
	}
	r := a.requests()[0]
	if r.method != "PUT" || r.uri != "/v1/orgs/acme/credentials/trust.radius?environment=production&name=a+b" {
		t.Errorf("%s %s", r.method, r.uri)
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer " + token, "Idempotency-Key": "key-of-version-3", "Content-Type": "application/json",
		"Sidevault-Credential": "cred-01890000-0000-7000-8000-000000000001", "Sidevault-Version": "3",
	} {
		if r.header.Get(name) != want {
			t.Errorf("the header %s is not as it should be", name)
		}
	}
	var body map[string]any
	want := map[string]any{
		"org": "acme", "integration": "trust.radius", "environment": "production", "name": "a b", "version": 3.0, "authType": "api_key",
		"credentialId": "cred-01890000-0000-7000-8000-000000000001", "fields": map[string]any{"api_key": canary},
	}
	if err := json.Unmarshal([]byte(r.body), &body); err != nil || !reflect.DeepEqual(body, want) {
		t.Errorf("the body is not as it should be: %v", err)
	}
}

func TestSharedScope(t *testing.T) {
	a := open(t, answering(200, "{}"))
	r := change(sdk.Set)
	r.Place.Environment, r.AuthType, r.Config = "", "", sdk.Config(`{"path":"/orgs/{org}/x/{integration}"}`)
	if got, err := run(t, a.env(map[string]string{"TR_URL": a.URL + "/base/"}), r, 5*time.Second); err != nil || !reflect.DeepEqual(got, sdk.Done()) {
		t.Fatalf("%+v, %v", got, err)
	}
	if got := a.requests()[0]; got.uri != "/base/orgs/acme/x/trust.radius?name=a+b" || !strings.Contains(got.body, `"environment":null`) || !strings.Contains(got.body, `"authType":null`) {
		t.Errorf("%s", got.uri)
	}
}

func TestRemove(t *testing.T) {
	for _, code := range []int{200, 202, 204, 404, 410} {
		a := open(t, answering(code, ""))
		if got, err := run(t, a.env(nil), change(sdk.Remove), 5*time.Second); err != nil || !reflect.DeepEqual(got, sdk.Done()) {
			t.Errorf("%d: %+v, %v", code, got, err)
		}
		if r := a.requests(); len(r) != 1 || r[0].method != "DELETE" || r[0].body != "" || r[0].header.Get("Content-Type") != "" {
			t.Errorf("%d: %+v", code, r)
		}
	}
}

// What a call makes of one answer after another, and how often it asks.
func TestRetries(t *testing.T) {
	ok, fail := answering(200, ""), sdk.Fail
	for name, test := range map[string]struct {
		answers []http.HandlerFunc
		asks    int
		want    sdk.SyncResult
	}{
		"500 then 200":         {[]http.HandlerFunc{answering(500, ""), ok}, 2, sdk.Done()},
		"502, 504 then 200":    {[]http.HandlerFunc{answering(502, ""), answering(504, ""), ok}, 3, sdk.Done()},
		"500 again and again":  {[]http.HandlerFunc{answering(500, `{"message":"out of order"}`)}, 3, fail("TrustRadius answered 500: out of order")},
		"429 then 200":         {[]http.HandlerFunc{answering(429, "", "Retry-After", "1"), ok}, 2, sdk.Done()},
		"429 for long":         {[]http.HandlerFunc{answering(429, "", "Retry-After", "60"), ok}, 1, fail("TrustRadius answered 429").RetryAfter(time.Minute)},
		"503 for long":         {[]http.HandlerFunc{answering(503, "", "Retry-After", "7")}, 1, fail("TrustRadius answered 503").RetryAfter(7 * time.Second)},
		"503 then 200":         {[]http.HandlerFunc{answering(503, ""), ok}, 2, sdk.Done()},
		"cut off then 200":     {[]http.HandlerFunc{cutOff, ok}, 2, sdk.Done()},
		"cut off":              {[]http.HandlerFunc{cutOff}, 3, fail("TrustRadius closed the connection before it had answered")},
		"400":                  {[]http.HandlerFunc{answering(400, `{"message":"no"}`), ok}, 1, fail("TrustRadius answered 400: no")},
		"401":                  {[]http.HandlerFunc{answering(401, "<html>"), ok}, 1, fail("TrustRadius answered 401")},
		"404 of PUT":           {[]http.HandlerFunc{answering(404, `{"message":"no such org"}`), ok}, 1, fail("TrustRadius answered 404: no such org")},
		"409":                  {[]http.HandlerFunc{answering(409, `{"message":7}`), ok}, 1, fail("TrustRadius answered 409")},
		"501":                  {[]http.HandlerFunc{answering(501, ""), ok}, 1, fail("TrustRadius answered 501")},
		"500 then 400":         {[]http.HandlerFunc{answering(500, ""), answering(400, "")}, 2, fail("TrustRadius answered 400")},
		"a redirect":           {[]http.HandlerFunc{answering(307, "", "Location", "http://169.254.169.254/"), ok}, 1, fail("TrustRadius answered 307, a redirect, which is not followed: give the final address in TR_URL")},
		"a giant body":         {[]http.HandlerFunc{answering(400, strings.Repeat("x", 1<<20)), ok}, 1, fail("TrustRadius answered 400")},
		"a giant good body":    {[]http.HandlerFunc{answering(200, strings.Repeat("x", 1<<20))}, 1, sdk.Done()},
		"the secrets back":     {[]http.HandlerFunc{answering(400, `{"message":"bad key `+canary+` of `+token+`"}`)}, 1, fail("TrustRadius answered 400: bad key <redacted> of <redacted>")},
		"a secret at the edge": {[]http.HandlerFunc{answering(400, `{"message":"`+strings.Repeat("é", 190)+canary+`"}`)}, 1, fail("TrustRadius answered 400: %s<redacted>", strings.Repeat("é", 190))},
		"a long message":       {[]http.HandlerFunc{answering(400, `{"message":"`+strings.Repeat("é\\n", 300)+`"}`)}, 1, fail("TrustRadius answered 400: %s...", strings.Repeat("é ", 100))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := open(t, test.answers...)
			a.Config.ErrorLog = nil
			got, err := run(t, a.env(nil), change(sdk.Set), 30*time.Second)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("%+v, %v", got, err)
			}
			r := a.requests()
			if len(r) != test.asks {
				t.Errorf("%d requests", len(r))
			}
			for _, again := range r[1:] {
				if again.uri != r[0].uri || again.body != r[0].body || again.header.Get("Idempotency-Key") != r[0].header.Get("Idempotency-Key") {
					t.Error("another try is another request")
				}
			}
		})
	}
}

// A server that comes up while the call waits gets the change.
func TestConnectionRefusedThenAccepted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	env := (&aggregator{Server: &httptest.Server{URL: "http://" + address}}).env(nil)
	if got, err := run(t, env, change(sdk.Set), 5*time.Second); err != nil || !reflect.DeepEqual(got, sdk.Fail("TrustRadius refuses connections")) {
		t.Fatalf("%+v, %v", got, err)
	}
	up := make(chan *http.Server, 1)
	time.AfterFunc(50*time.Millisecond, func() {
		s := &http.Server{Handler: answering(200, "")}
		up <- s
		if l, err := net.Listen("tcp", address); err == nil {
			s.Serve(l)
		}
	})
	got, err := run(t, env, change(sdk.Set), 5*time.Second)
	(<-up).Close()
	if err != nil || !reflect.DeepEqual(got, sdk.Done()) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDeadline(t *testing.T) {
	a := open(t, hang)
	before := time.Now()
	got, err := run(t, a.env(nil), change(sdk.Set), 300*time.Millisecond)
	if err != nil || !reflect.DeepEqual(got, sdk.Fail("TrustRadius did not answer in time")) || time.Since(before) > 2*time.Second {
		t.Errorf("%+v, %v after %v", got, err, time.Since(before))
	}
	// There is no time left to wait and ask again.
	b := open(t, answering(500, ""))
	if got, err := run(t, b.env(nil), change(sdk.Set), firstPause/2+margin); err != nil || !reflect.DeepEqual(got, sdk.Fail("TrustRadius answered 500")) || len(b.requests()) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	before = time.Now()
	if _, err := (syncer{env: a.env(nil)}).Sync(ctx, change(sdk.Set)); err != nil || time.Since(before) > 2*time.Second {
		t.Errorf("cancelled: %v after %v", err, time.Since(before))
	}
}

func TestToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	a := open(t, answering(200, ""))
	env := a.env(map[string]string{"TR_TOKEN_FILE": file})
	for _, text := range []string{"first-canary\n", "second-canary"} {
		os.WriteFile(file, []byte(text), 0o600)
		if got, err := run(t, env, change(sdk.Remove), 5*time.Second); err != nil || !reflect.DeepEqual(got, sdk.Done()) {
			t.Errorf("%+v, %v", got, err)
		}
		if r := a.requests(); r[len(r)-1].header.Get("Authorization") != "Bearer "+strings.TrimSpace(text) {
			t.Error("another token was sent")
		}
	}
}

func TestFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	os.WriteFile(file, []byte("canary\nInjected: 1"), 0o600)
	a := open(t, answering(200, ""))
	for _, test := range []struct {
		config, name, value, says string
	}{
		{`{"paht":"/"}`, "", "", "paht"}, {`{"path":"x"}`, "", "", "begin with /"}, {`{"path":"/{env}"}`, "", "", "{env} is not known"},
		{`{"path":"/a?b"}`, "", "", "query"}, {`{"path":"/{"}`, "", "", "brace"}, {`{"caFile":"/missing.pem"}`, "", "", "caFile"},
		{"", "TR_URL", "", "TR_URL is not set"}, {"", "TR_URL", "ftp://h", "https://"}, {"", "TR_URL", "https://u:canary@h", "user"},
		{"", "TR_URL", "https://h?x=canary", "query"}, {"", "TR_URL", "https://h\x00canary", "not a URL"}, {"", "TR_TOKEN", "", "TR_TOKEN_FILE"},
		{"", "TR_TOKEN_FILE", file, "characters"}, {"", "TR_TOKEN_FILE", file + ".missing", "read of the plugin"}, {"", "TR_TOKEN_FILE", os.DevNull, "no token"},
	} {
		env := a.env(nil)
		if test.name != "" {
			env = a.env(map[string]string{test.name: test.value})
		}
		r := change(sdk.Set)
		r.Config = sdk.Config(test.config)
		if got, err := run(t, env, r, 5*time.Second); err == nil || !strings.Contains(err.Error(), test.says) || !reflect.DeepEqual(got, sdk.SyncResult{}) {
			t.Errorf("%+v: %+v, %v", test, got, err)
		}
	}
	if n := len(a.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Without TLS, this host only; with it, a certificate that can be verified.
func TestTransport(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	a := open(t, answering(200, ""))
	away := syncer{env: a.env(map[string]string{"TR_URL": "http://tr.example.com"}), resolver: trial.Resolver(t, "10.255.255.1")}
	want := sdk.Fail("TrustRadius is not on this host, and is not connected to without TLS: use https")
	if got, err := away.Sync(ctx, change(sdk.Set)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("plain HTTP to another host: %+v, %v", got, err)
	}
	local := syncer{env: a.env(map[string]string{"TR_ALLOW_HTTP": "true"}), resolver: trial.Resolver(t, "127.0.0.1")}
	if got, err := local.Sync(ctx, change(sdk.Set)); err != nil || !reflect.DeepEqual(got, sdk.Done()) {
		t.Errorf("TR_ALLOW_HTTP: %+v, %v", got, err)
	}
	tls := httptest.NewTLSServer(answering(200, ""))
	defer tls.Close()
	secure := syncer{env: a.env(map[string]string{"TR_URL": tls.URL})}
	if got, err := secure.Sync(ctx, change(sdk.Set)); err != nil || !reflect.DeepEqual(got, sdk.Fail("TrustRadius has a TLS certificate that cannot be verified")) {
		t.Errorf("an unknown authority: %+v, %v", got, err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600)
	r := change(sdk.Set)
	r.Config = sdk.Config(fmt.Sprintf(`{"caFile":%q}`, ca))
	if got, err := secure.Sync(ctx, r); err != nil || !reflect.DeepEqual(got, sdk.Done()) {
		t.Errorf("caFile: %+v, %v", got, err)
	}
}
