package rest

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// fuzzed is a server with a credential, for input that must never be its fault.
type fuzzed struct{ *fixture }

func newFuzzed(f *testing.F) fuzzed {
	fx := newFixture(f, inMemory, Options{})
	fx.do(http.MethodPut, "/v1/integrations/salesforce/credentials", `{"value":"x"}`, nil)
	return fuzzed{fx}
}

// leaver is a reader that goes away once something comes: a stream would not end.
type leaver struct {
	*httptest.ResponseRecorder
	leave func()
}

func (l leaver) Write(p []byte) (int, error) {
	l.leave()
	return l.ResponseRecorder.Write(p)
}

// send sends a request with a path that is sent as it is, and fails the test when
// the answer is the server's fault or a refusal without the body of one.
func (z fuzzed) send(t *testing.T, method, path, body string, header http.Header) int {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, "http://127.0.0.1/", strings.NewReader(body))
	if u, err := url.ParseRequestURI(path); err == nil {
		r.URL = u
	} else {
		return 0 // net/http refuses it
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Authorization", "Bearer "+z.key)
	w := leaver{httptest.NewRecorder(), cancel}
	z.handler.ServeHTTP(w, r)
	z.log.Reset()
	if w.Code >= http.StatusInternalServerError {
		t.Errorf("%s %q answers %d: %s", method, path, w.Code, w.Body)
	}
	if w.Code >= http.StatusBadRequest && !strings.Contains(w.Body.String(), `"code"`) {
		t.Errorf("%s %q answers %d without a code", method, path, w.Code)
	}
	return w.Code
}

func FuzzIDs(f *testing.F) {
	for _, id := range []string{
		"cred-550e8400-e29b-41d4-a716-446655440099", "550E8400-E29B-41D4-A716-446655440099", "cred-", "", "..", "a/b", "%00", "\xff",
		"{550e8400-e29b-41d4-a716-446655440099}", "urn:uuid:550e8400-e29b-41d4-a716-446655440099", strings.Repeat("x", 4096),
	} {
		f.Add(id, "salesforce")
		f.Add("550e8400-e29b-41d4-a716-446655440099", id)
	}
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, id, integration string) {
		id, integration = url.PathEscape(id), url.PathEscape(integration)
		byID := "/v1/credentials/" + integration + "/" + id
		for _, target := range []string{
			"GET /v1/integrations/credentials/" + id, "DELETE /v1/integrations/credentials/" + id, "DELETE " + byID,
			"PATCH " + byID, "GET " + byID + "/versions", "POST " + byID + "/rollback", "GET " + byID + "/usage",
			"GET /v1/credentials/" + integration + "/details",
		} {
			method, path, _ := strings.Cut(target, " ")
			body := map[string]string{http.MethodPatch: `{"status":"inactive"}`, http.MethodPost: `{"version":1}`}[method]
			code := z.send(t, method, path, body, nil)
			if code >= 200 && code < 300 && !strings.HasSuffix(path, "/details") {
				t.Errorf("%s succeeds with %d", target, code)
			}
		}
	})
}

func FuzzCursors(f *testing.F) {
	for _, cursor := range []string{"", "x", "salesforce/staging/default", "salesforce/@/a%20b", "../..", "a/b/c/d", "\x00/\xff/\n"} {
		f.Add(cursor)
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(cursor)))
	}
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, cursor string) {
		for _, c := range []string{cursor, base64.RawURLEncoding.EncodeToString([]byte(cursor))} {
			z.send(t, http.MethodGet, "/v1/integrations/credentials?limit=1&cursor="+url.QueryEscape(c), "", nil)
			z.send(t, http.MethodGet, "/v1/audit?limit=1&cursor="+url.QueryEscape(c), "", nil)
		}
	})
}

func FuzzLastEventIDs(f *testing.F) {
	for _, id := range []string{"", "1", "0", "-1", "9223372036854775807", "9223372036854775808", "1e3", "0x10", " 5", "\x00"} {
		f.Add(id)
	}
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, id string) {
		z.send(t, http.MethodGet, "/v1/watch", "", http.Header{"Last-Event-Id": {id}})
	})
}

func FuzzIfMatch(f *testing.F) {
	for _, tag := range []string{"", "*", `"1"`, `W/"1"`, `"`, `""`, `"18446744073709551615"`, `"18446744073709551614"`, `"1", "2"`, "\x00"} {
		f.Add(tag)
	}
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, tag string) {
		const slot = "/v1/integrations/salesforce/credentials"
		z.send(t, http.MethodPut, slot, `{"value":"x"}`, http.Header{"If-Match": {tag}})
		z.send(t, http.MethodPut, slot, `{"value":"x"}`, http.Header{"If-Match": {tag, tag}})
		z.send(t, http.MethodDelete, slot+"?name=none", "", http.Header{"If-Match": {tag}})
	})
}

// A query is read as the standard library reads it.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{"", "a=1&b=2", "a=%20+x&&=&b", "a;b=1", "%zz", "a=%", "name=%00&name=%ff", "a==b&c=d="} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		list, err := parseQuery(nil, query)
		want, wantErr := url.ParseQuery(query)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, want %v", query, err, wantErr)
		}
		if err != nil {
			return
		}
		got := url.Values{}
		for _, p := range list {
			got.Add(p.name, p.value)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	})
}
