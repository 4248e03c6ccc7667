package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/vault/secret"
)

const canary = "c4n4ry-value"

// sidecar answers every request with handle, and returns a client of it.
func sidecar(t *testing.T, handle http.HandlerFunc, o Options) *Client {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return newClient(t, server.URL, o)
}

func newClient(t *testing.T, address string, o Options) *Client {
	t.Helper()
	c, err := New(Config{Address: address, Token: secret.New("svk_token"), Options: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestRequests(t *testing.T) {
	env := "production"
	slot := Slot{Integration: "sales/force", Environment: &env, Name: "a b"}
	value := secret.New(canary)
	cases := map[string]struct {
		call func(*Client) error
		want string
	}{
		"set": {func(c *Client) error {
			_, err := c.Set(t.Context(), slot, SetInput{Value: &value, AuthType: "api_key"})
			return err
		}, `PUT /v1/integrations/sales%2Fforce/credentials {"environment":"production","name":"a b","authType":"api_key","value":"c4n4ry-value"}`},
		"set fields": {func(c *Client) error {
			_, err := c.Set(t.Context(), Slot{Integration: "sftp"}, SetInput{Fields: map[string]secret.Value{"password": value}})
			return err
		}, `PUT /v1/integrations/sftp/credentials {"fields":{"password":"c4n4ry-value"}}`},
		"status": {func(c *Client) error {
			_, err := c.Status(t.Context(), Slot{Integration: "slack"})
			return err
		}, "GET /v1/integrations/slack/credentials "},
		"remove": {func(c *Client) error {
			_, err := c.Remove(t.Context(), slot, RemoveOptions{IfExists: true})
			return err
		}, "DELETE /v1/integrations/sales%2Fforce/credentials?environment=production&ifExists=true&name=a+b "},
		"resolve": {func(c *Client) error {
			_, err := c.Resolve(t.Context(), slot, ResolveOptions{NoFallback: true, Version: 3})
			return err
		}, "GET /v1/credentials/sales%2Fforce?environment=production&fallback=false&name=a+b&version=3 "},
		"audit": {func(c *Client) error {
			_, err := c.Audit(t.Context(), AuditQuery{Limit: 5, Cursor: "9", Environment: &env, Since: time.Unix(0, 0)})
			return err
		}, "GET /v1/audit?cursor=9&environment=production&limit=5&since=1970-01-01T00%3A00%3A00.000Z "},
		"verify": {func(c *Client) error {
			_, err := c.AuditHead(t.Context(), true)
			return err
		}, "GET /v1/audit/head?verify=true "},
		"revoke": {func(c *Client) error {
			_, err := c.RevokeKey(t.Context(), "../x")
			return err
		}, "DELETE /v1/keys/..%2Fx "},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got string
			c := sidecar(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, body)
				if r.Header.Get("Authorization") != "Bearer svk_token" || r.Header.Get("User-Agent") != "test/1" {
					t.Errorf("headers: %v", r.Header)
				}
				io.WriteString(w, `{}`)
			}, Options{UserAgent: "test/1"})
			if err := tc.call(c); err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("sent %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestResolveKeepsSecretsClosed(t *testing.T) {
	c := sidecar(t, answer(200, `{"success":true,"data":{"id":"cred-1","fields":{"password":"`+canary+`"}}}`), Options{})
	got, err := c.Resolve(t.Context(), Slot{Integration: "sftp"}, ResolveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !got.Data.Fields["password"].Equal(secret.New(canary)) {
		t.Error("the value is not what was sent")
	}
	if text := fmt.Sprintf("%+v %#v %+v", got, got, c); strings.Contains(text, canary) || strings.Contains(text, "svk_token") {
		t.Errorf("a secret is printed: %s", text)
	}
}

func TestErrors(t *testing.T) {
	refusal := `{"success":false,"error":{"code":"CREDENTIAL_NOT_FOUND","message":"Credential not found","details":"none"},"request_id":"r1"}`
	c := sidecar(t, answer(404, refusal), Options{})
	_, err := c.Resolve(t.Context(), Slot{Integration: "slack"}, ResolveOptions{})
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != "CREDENTIAL_NOT_FOUND" || e.Status != 404 || e.RequestID != "r1" || e.Error() != "Credential not found: none" {
		t.Errorf("%#v", err)
	}
	for name, body := range map[string]string{
		"not JSON": canary, "HTML": "<html>" + canary, "wrong type": `{"data":{"version":"` + canary + `"}}`, "cut": `{"data":{"value":"` + canary,
	} {
		for _, status := range []int{200, 502} {
			c := sidecar(t, answer(status, body), Options{})
			_, err := c.Resolve(t.Context(), Slot{Integration: "slack"}, ResolveOptions{})
			if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), canary) {
				t.Errorf("%s, %d: %v", name, status, err)
			}
		}
	}
}

func TestRetries(t *testing.T) {
	cases := map[string]struct {
		method, retryAfter string
		failures           int32
		calls              int32
		fails              bool
	}{
		"read, unavailable for a moment": {"GET", "0", 2, 3, false},
		"read, unavailable for longer":   {"GET", "0", 9, 3, true},
		"read, no word on when":          {"GET", "", 9, 1, true},
		"read, not for a long time":      {"GET", "3600", 9, 1, true},
		"change":                         {"PUT", "0", 9, 1, true},
		"deletion":                       {"DELETE", "0", 9, 1, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			c := sidecar(t, func(w http.ResponseWriter, _ *http.Request) {
				if calls.Add(1) > tc.failures {
					io.WriteString(w, "{}")
					return
				}
				if tc.retryAfter != "" {
					w.Header().Set("Retry-After", tc.retryAfter)
				}
				w.WriteHeader(http.StatusServiceUnavailable)
				io.WriteString(w, `{"error":{"code":"BACKEND_UNAVAILABLE"}}`)
			}, Options{})
			err := perform(t.Context(), c, tc.method)
			if calls.Load() != tc.calls || (err != nil) != tc.fails {
				t.Errorf("%d calls, want %d; error %v", calls.Load(), tc.calls, err)
			}
		})
	}
}

func perform(ctx context.Context, c *Client, method string) error {
	value, slot := secret.New("x"), Slot{Integration: "slack"}
	var err error
	switch method {
	case "PUT":
		_, err = c.Set(ctx, slot, SetInput{Value: &value})
	case "DELETE":
		_, err = c.Remove(ctx, slot, RemoveOptions{})
	default:
		_, err = c.Status(ctx, slot)
	}
	return err
}

// A sidecar that is being restarted is waited for, whatever the call: nothing was
// sent.
func TestRetryWhileConnectionIsRefused(t *testing.T) {
	path := socket(t)
	c := newClient(t, "unix://"+path, Options{Retries: 6})
	go func() {
		time.Sleep(120 * time.Millisecond)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Error(err)
			return
		}
		server := &http.Server{Handler: answer(200, "{}")}
		t.Cleanup(func() { server.Close() })
		go server.Serve(l)
	}()
	if err := perform(t.Context(), c, "PUT"); err != nil {
		t.Error(err)
	}
}

func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sv") // a socket's path has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s.sock")
}

func TestUnreachable(t *testing.T) {
	c := newClient(t, "unix://"+socket(t), Options{Retries: -1})
	e, ok := errors.AsType[*UnreachableError](perform(t.Context(), c, "GET"))
	if !ok || !strings.HasPrefix(e.Error(), "no sidecar answers at unix:///") {
		t.Errorf("%v", e)
	}
	stop := make(chan struct{})
	slow := sidecar(t, func(http.ResponseWriter, *http.Request) { <-stop }, Options{Timeout: 50 * time.Millisecond})
	t.Cleanup(func() { close(stop) }) // before the server's, which waits for it
	err := perform(t.Context(), slow, "GET")
	if e, ok := errors.AsType[*UnreachableError](err); !ok || !strings.HasSuffix(e.Error(), "no answer in time") {
		t.Errorf("%v", err)
	}
}

func TestRedirectsAreRefused(t *testing.T) {
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	t.Cleanup(other.Close)
	c := sidecar(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}, Options{})
	if err := perform(t.Context(), c, "GET"); err == nil || reached.Load() {
		t.Errorf("followed: %v", err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	c := sidecar(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := bytes.Repeat([]byte(" "), 1<<20)
		for range 10 {
			w.Write(chunk)
		}
	}, Options{})
	if err := perform(t.Context(), c, "GET"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("%v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{
		"", "127.0.0.1:8271", "ftp://127.0.0.1", "http://192.0.2.1:8271", "http://example.com", "http://localhost.example.com",
		"unix://relative.sock", "http://user:secret@127.0.0.1", "http://127.0.0.1/path", "http://127.0.0.1?x=" + canary,
	} {
		if _, err := New(Config{Address: address}); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, address := range []string{DefaultAddress, "http://[::1]:1", "http://localhost:1/", "https://example.com", "unix:///s.sock"} {
		if _, err := New(Config{Address: address}); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := New(Config{Address: DefaultAddress, Token: secret.New(canary + "\r\nX: y")}); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a token with a line break: %v", err)
	}
}

func TestSetRefusesWhatJSONWouldChange(t *testing.T) {
	c := sidecar(t, func(http.ResponseWriter, *http.Request) { t.Error("sent") }, Options{})
	value := secret.New(canary + "\xff")
	_, err := c.Set(t.Context(), Slot{Integration: "slack"}, SetInput{Value: &value})
	if _, ok := errors.AsType[*InputError](err); !ok || strings.Contains(err.Error(), canary) {
		t.Errorf("%v", err)
	}
}

func TestReady(t *testing.T) {
	c := sidecar(t, answer(503, `{"status":"unavailable","checks":[{"name":"vault","status":"unavailable"}]}`), Options{})
	if h, err := c.Ready(t.Context()); err != nil || h.Status != "unavailable" {
		t.Errorf("%+v, %v", h, err)
	}
}
