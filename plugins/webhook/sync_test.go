package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
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
	key    = "canary-key-of-32-bytes-012345678"
)

// seen is a message as the endpoint gets it.
type seen struct {
	method, uri, body string
	header            http.Header
}

type endpoint struct {
	*httptest.Server
	mu  sync.Mutex
	got []seen
}

func open(t *testing.T, do http.HandlerFunc) *endpoint {
	t.Helper()
	e := new(endpoint)
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.got = append(e.got, seen{r.Method, r.RequestURI, string(body), r.Header})
		e.mu.Unlock()
		do(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) messages() []seen {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got
}

// config is that of a binding to this endpoint.
func (e *endpoint) config(more string) string {
	return fmt.Sprintf(`{"url":"%s/hook?a=b","allowPrivate":true%s}`, e.URL, more)
}

func answering(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, `{"message":"you sent `+canary+`"}`)
	}
}

// secretFile holds a signing secret for each key.
func secretFile(t *testing.T, keys ...string) string {
	t.Helper()
	file, text := filepath.Join(t.TempDir(), "secret"), ""
	for _, k := range keys {
		text += keyPrefix + base64.StdEncoding.EncodeToString([]byte(k)) + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func envOf(file string) func(string) string {
	return func(name string) string { return map[string]string{"WEBHOOK_SECRET_FILE": file}[name] }
}

func change(c sdk.Change, config string) sdk.SyncRequest {
	r := sdk.SyncRequest{
		Change: c, CredentialID: "cred-01890000-0000-7000-8000-000000000001", Version: 3, IdempotencyKey: "cred.1/3", Attempt: 1,
		Config: sdk.Config(config),
	}
	r.Place = sdk.Place{Org: "acme", Integration: "github", Environment: "production", Name: "default"}
	if c == sdk.Set {
		r.Fields = map[string]secret.Value{"token": secret.New(canary)}
	}
	return r
}

// run syncs, and sees to it that nothing secret is in the answer.
func run(t *testing.T, s syncer, r sdk.SyncRequest) (sdk.SyncResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	got, err := s.Sync(ctx, r)
	if said := fmt.Sprintf("%+v %v", got, err); strings.Contains(said, "canary") {
		t.Errorf("a secret is in %s", said)
	}
	return got, err
}

// verify computes the signature anew, as a receiver does.
func verify(t *testing.T, m seen, key string) {
	t.Helper()
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s.%s.%s", m.header.Get("webhook-id"), m.header.Get("webhook-timestamp"), m.body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for signature := range strings.SplitSeq(m.header.Get("webhook-signature"), " ") {
		if hmac.Equal([]byte(signature), []byte(want)) {
			return
		}
	}
	t.Error("no signature is right")
}

// The example of the specification's own libraries.
func TestSignatureOfTheSpecification(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(file, []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), 0o600)
	keys, err := readKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	got := keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s", got)
	}
}

func TestMessages(t *testing.T) {
	e := open(t, answering(202))
	s := syncer{env: envOf(secretFile(t, key))}
	base := `"org":"acme","integration":"github","environment":"production","name":"default","credentialId":"cred-01890000-0000-7000-8000-000000000001","version":3`
	for i, test := range []struct {
		request    sdk.SyncRequest
		kind, data string
	}{
		{change(sdk.Set, e.config("")), "credential.set", base},
		{change(sdk.Set, e.config(`,"includeSecret":true`)), "credential.set", base + `,"fields":{"token":"` + canary + `"}`},
		{change(sdk.Remove, e.config(`,"includeSecret":true`)), "credential.removed", base},
	} {
		if got, err := run(t, s, test.request); err != nil || !reflect.DeepEqual(got, sdk.Done()) {
			t.Fatalf("%d: %+v, %v", i, got, err)
		}
		m := e.messages()[i]
		verify(t, m, key)
		if m.method != "POST" || m.uri != "/hook?a=b" || m.header.Get("Content-Type") != "application/json" {
			t.Errorf("%d: %s %s", i, m.method, m.uri)
		}
		at, err := strconv.ParseInt(m.header.Get("webhook-timestamp"), 10, 64)
		if err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
			t.Errorf("%d: the timestamp is %q", i, m.header.Get("webhook-timestamp"))
		}
		var body struct{ Timestamp time.Time }
		if err := json.Unmarshal([]byte(m.body), &body); err != nil || body.Timestamp.Unix() != at {
			t.Errorf("%d: the body's time is not that of the header: %v", i, err)
		}
		if want := `{"type":"` + test.kind + `","timestamp":"`; !strings.HasPrefix(m.body, want) || !strings.HasSuffix(m.body, `","data":{`+test.data+"}}") {
			t.Errorf("%d: the body is not as it should be", i)
		}
		if strings.Contains(fmt.Sprint(m.header, m.uri), "canary") || test.data == base && strings.Contains(m.body, "canary") {
			t.Errorf("%d: a secret is where it should not be", i)
		}
	}
}

func TestSharedScope(t *testing.T) {
	e := open(t, answering(200))
	r := change(sdk.Set, e.config(""))
	r.Place.Environment = ""
	if _, err := run(t, syncer{env: envOf(secretFile(t, key))}, r); err != nil || !strings.Contains(e.messages()[0].body, `"environment":null`) {
		t.Errorf("%v", err)
	}
}

// The ID is that of the change: the same for another try, another one for another
// change, and without the dots that part what is signed.
func TestMessageID(t *testing.T) {
	e := open(t, answering(200))
	s := syncer{env: envOf(secretFile(t, key))}
	again, other := change(sdk.Set, e.config("")), change(sdk.Set, e.config(""))
	again.Attempt, other.IdempotencyKey = 2, "cred.1/4"
	for _, r := range []sdk.SyncRequest{change(sdk.Set, e.config("")), again, other} {
		if _, err := run(t, s, r); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for _, m := range e.messages() {
		ids = append(ids, m.header.Get("webhook-id"))
	}
	if len(ids) != 3 || ids[0] != ids[1] || ids[0] == ids[2] || strings.Contains(ids[0], ".") || !strings.HasPrefix(ids[0], "msg_") {
		t.Errorf("IDs: %q", ids)
	}
}

func TestTwoKeys(t *testing.T) {
	e := open(t, answering(200))
	other := strings.ToUpper(key)
	// secretFile in the configuration goes before the variable.
	config := e.config(fmt.Sprintf(`,"secretFile":%q`, secretFile(t, key, other)))
	if got, err := run(t, syncer{env: envOf("/missing")}, change(sdk.Set, config)); err != nil || !reflect.DeepEqual(got, sdk.Done()) {
		t.Fatalf("%+v, %v", got, err)
	}
	verify(t, e.messages()[0], key)
	verify(t, e.messages()[0], other)
}

func TestAnswers(t *testing.T) {
	s := syncer{env: envOf(secretFile(t, key))}
	for name, test := range map[string]struct {
		do   http.HandlerFunc
		want sdk.SyncResult
	}{
		"400":      {answering(400), sdk.Fail("the endpoint answered 400")},
		"404":      {answering(404), sdk.Fail("the endpoint answered 404")},
		"410":      {answering(410), sdk.Fail("the endpoint is gone (410): give its new url in the catalog, or take the binding out").RetryAfter(24 * time.Hour)},
		"429":      {answering(429, "Retry-After", "30"), sdk.Fail("the endpoint answered 429").RetryAfter(30 * time.Second)},
		"500":      {answering(500), sdk.Fail("the endpoint answered 500")},
		"redirect": {answering(308, "Location", "http://127.0.0.1/"), sdk.Fail("the endpoint answered 308, a redirect, which is not followed: give the final url in the catalog")},
		"cut off":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, sdk.Fail("the endpoint closed the connection before it had answered")},
		"hangs":    {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, sdk.Fail("the endpoint did not answer in time")},
		"giant": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write(make([]byte, 1<<16))
			}
		}, sdk.Done()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := open(t, test.do)
			got, err := run(t, s, change(sdk.Set, e.config("")))
			if err != nil || !reflect.DeepEqual(got, test.want) || len(e.messages()) != 1 {
				t.Errorf("%+v, %v after %d messages", got, err, len(e.messages()))
			}
		})
	}
}

func TestNetworks(t *testing.T) {
	e := open(t, answering(200))
	file := secretFile(t, key)
	_, port, _ := net.SplitHostPort(e.Listener.Addr().String())
	for _, test := range []struct{ address, config, says string }{
		{"127.0.0.1", `"url":"http://hooks.example.com:` + port + `"`, "private address"},
		{"169.254.169.254", `"url":"http://hooks.example.com","allowPrivate":true`, "never connected to"},
		{"10.255.255.1", `"url":"http://hooks.example.com","allowPrivate":true,"includeSecret":true`, "without TLS"},
		{"127.0.0.1", `"url":"http://hooks.example.com:` + port + `","allowPrivate":true,"includeSecret":true`, ""},
	} {
		s := syncer{env: envOf(file), resolver: trial.Resolver(t, test.address)}
		got, err := run(t, s, change(sdk.Set, "{"+test.config+"}"))
		if test.says == "" {
			if err != nil || !reflect.DeepEqual(got, sdk.Done()) || len(e.messages()) != 1 {
				t.Errorf("%s: %+v, %v", test.config, got, err)
			}
			continue
		}
		if said := fmt.Sprintf("%+v", got); err != nil || !strings.Contains(said, test.says) || len(e.messages()) != 0 {
			t.Errorf("%s: %s, %v", test.config, said, err)
		}
	}
}

func TestFaults(t *testing.T) {
	good := secretFile(t, key)
	for _, test := range []struct{ config, file, says string }{
		{`{}`, good, "url is missing"}, {`{"uri":"x"}`, good, "uri"}, {`{"url":"ftp://h"}`, good, "https://"}, {`{"url":"https://u:canary@h"}`, good, "user"},
		{`{"url":"https://h\u0000canary"}`, good, "not a URL"}, {`{"url":"https://h","caFile":"/missing"}`, good, "caFile"},
		{`{"url":"https://h"}`, "", "WEBHOOK_SECRET_FILE"}, {`{"url":"https://h"}`, good + ".missing", "read of the plugin"},
		{`{"url":"https://h"}`, secretFile(t), "empty"}, {`{"url":"https://h"}`, secretFile(t, "canary-short"), "24 to 64 bytes"},
		{`{"url":"https://h"}`, secretFile(t, key, strings.Repeat(key, 3)), "24 to 64 bytes"},
	} {
		if got, err := run(t, syncer{env: envOf(test.file)}, change(sdk.Set, test.config)); err == nil || !strings.Contains(err.Error(), test.says) || !reflect.DeepEqual(got, sdk.SyncResult{}) {
			t.Errorf("%+v: %+v, %v", test, got, err)
		}
	}
	for _, text := range []string{"canary", "whsec_canary!", base64.StdEncoding.EncodeToString([]byte(key)), "whsk_" + base64.StdEncoding.EncodeToString([]byte(key))} {
		file := filepath.Join(t.TempDir(), "secret")
		os.WriteFile(file, []byte(text), 0o600)
		if _, err := readKeys(file); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
