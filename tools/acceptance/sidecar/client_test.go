package sidecar

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestRequestsAreSentAsWritten guards the tests of path tricks and odd bodies:
// nothing may be cleaned up on the way.
func TestRequestsAreSentAsWritten(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %q %q", r.Method, r.RequestURI, r.Host, r.Header.Get("Authorization"), body)
	}))
	defer server.Close()
	c := NewClient(t, server.URL, "key", nil)
	for want, got := range map[string]*Answer{
		`PUT /a/../b%2f..%5c?x=%zz h.example "Bearer key" "\xff\x00"`: c.Put(`/a/../b%2f..%5c?x=%zz`, "\xff\x00", "Host: h.example"),
		`POST // h.example "bare" "{\"a\":1}"`:                        c.As("").Post("//", map[string]int{"a": 1}, "Host: h.example", "Authorization: bare"),
		`GET / h.example "" ""`:                                       c.As("").For(t).Get("/", "Host: h.example"),
	} {
		if string(got.Body) != want {
			t.Errorf("sent %s, want %s", got.Body, want)
		}
	}
}
