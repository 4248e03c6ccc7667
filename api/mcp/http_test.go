package mcp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sidevault/sidevault/api/codes"
	"github.com/sidevault/sidevault/api/mcp"
	"github.com/sidevault/sidevault/vault"
)

// web is the HTTP transport with two callers, whose names are their keys.
type web struct {
	t       *testing.T
	url     string
	revoked atomic.Bool
}

func newWeb(t *testing.T, o mcp.HTTPOptions) (*fixture, *web) {
	t.Helper()
	f, w := newFixture(t), &web{t: t}
	handler := mcp.NewHTTP(f.server, o)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c := f.caller(f.admin)
		c.Owner = r.Header.Get("Authorization")
		err := handler.Serve(rw, r, c, func() error {
			if w.revoked.Load() {
				return errors.New("revoked")
			}
			return nil
		})
		if err != nil {
			rw.Header().Set("Cache-Control", "no-store")
			http.Error(rw, err.Error(), codes.Status(vault.KindOf(err)))
		}
	}))
	// Streams must outlast what an ordinary request may take.
	server.Config.ReadTimeout, server.Config.WriteTimeout = ordinary, ordinary
	server.Start()
	t.Cleanup(server.Close)
	w.url = server.URL
	return f, w
}

const ordinary = time.Second

// send sends a request and returns its status, its body and the session it is in.
func (w *web) send(ctx context.Context, method, key, session, body string, headers ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, w.url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if session != "" {
		req.Header.Set("Mcp-Session-Id", session)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { resp.Body.Close() })
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, ""
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		w.t.Errorf("%s: Cache-Control: %s", method, resp.Header.Get("Cache-Control"))
	}
	return resp, string(text)
}

const (
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	ping       = `{"jsonrpc":"2.0","id":2,"method":"ping"}`
)

func (w *web) open(key string) string {
	w.t.Helper()
	resp, text := w.send(w.t.Context(), http.MethodPost, key, "", initialize)
	id := resp.Header.Get("Mcp-Session-Id")
	if resp.StatusCode != http.StatusOK || id == "" {
		w.t.Fatalf("initialize: status %d: %s", resp.StatusCode, text)
	}
	return id
}

func (w *web) pings(key, session string) int {
	w.t.Helper()
	resp, _ := w.send(w.t.Context(), http.MethodPost, key, session, ping)
	return resp.StatusCode
}

func TestSessionIsTheCallersOwn(t *testing.T) {
	_, w := newWeb(t, mcp.HTTPOptions{})
	id := w.open("alice")
	if got := w.pings("alice", id); got != http.StatusOK {
		t.Errorf("the owner: status %d", got)
	}
	if got := w.pings("mallory", id); got != http.StatusNotFound {
		t.Errorf("another caller: status %d", got)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if resp, _ := w.send(t.Context(), method, "mallory", id, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s of another caller: status %d", method, resp.StatusCode)
		}
	}
	if resp, _ := w.send(t.Context(), http.MethodDelete, "alice", id, ""); resp.StatusCode != http.StatusNoContent {
		t.Errorf("delete: status %d", resp.StatusCode)
	}
	if got := w.pings("alice", id); got != http.StatusNotFound {
		t.Errorf("a session that was deleted: status %d", got)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	_, w := newWeb(t, mcp.HTTPOptions{Sessions: 4, Each: 2})
	first, second := w.open("alice"), w.open("alice")
	w.pings("alice", first)
	third := w.open("alice")
	if w.pings("alice", second) != http.StatusNotFound || w.pings("alice", first) != http.StatusOK || w.pings("alice", third) != http.StatusOK {
		t.Error("the session that was used longest ago is not the one that went")
	}
	w.open("bob")
	w.open("carol")
	w.open("dave")
	if w.pings("alice", first) != http.StatusNotFound || w.pings("alice", third) != http.StatusOK {
		t.Error("with too many in all, the one that was used longest ago is not the one that went")
	}
}

func TestIdleSessionEnds(t *testing.T) {
	_, w := newWeb(t, mcp.HTTPOptions{Idle: 50 * time.Millisecond})
	id := w.open("alice")
	for range 200 {
		time.Sleep(100 * time.Millisecond)
		if w.pings("alice", id) == http.StatusNotFound {
			return
		}
	}
	t.Error("an idle session does not end")
}

// ends reports whether a stream ends.
func ends(resp *http.Response) bool {
	done := make(chan struct{})
	go func() {
		io.Copy(io.Discard, resp.Body)
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(10 * time.Second):
		return false
	}
}

const listen = `{"jsonrpc":"2.0","id":9,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` +
	`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`

func (w *web) streams(key string) []*http.Response {
	w.t.Helper()
	a, _ := w.send(w.t.Context(), http.MethodGet, key, w.open(key), "")
	b, text := w.send(w.t.Context(), http.MethodPost, key, "", listen, "Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: subscriptions/listen")
	for _, resp := range []*http.Response{a, b} {
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" {
			w.t.Fatalf("a stream: status %d, %s %s", resp.StatusCode, resp.Header.Get("Cache-Control"), text)
		}
	}
	return []*http.Response{a, b}
}

func TestStreamsEndWithTheServer(t *testing.T) {
	closing := make(chan struct{})
	_, w := newWeb(t, mcp.HTTPOptions{Closing: closing})
	streams := w.streams("alice")
	close(closing)
	for _, s := range streams {
		if !ends(s) {
			t.Error("a stream does not end")
		}
	}
}

func TestStreamsEndWithTheKey(t *testing.T) {
	_, w := newWeb(t, mcp.HTTPOptions{Recheck: 20 * time.Millisecond})
	streams := w.streams("alice")
	w.revoked.Store(true)
	for _, s := range streams {
		if !ends(s) {
			t.Error("a stream does not end")
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	_, w := newWeb(t, mcp.HTTPOptions{Each: 2})
	w.streams("alice")
	headers := []string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: subscriptions/listen"}
	if resp, _ := w.send(t.Context(), http.MethodPost, "alice", "", listen, headers...); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one stream too many: status %d", resp.StatusCode)
	}
	if resp, _ := w.send(t.Context(), http.MethodPost, "bob", "", listen, headers...); resp.StatusCode != http.StatusOK {
		t.Errorf("another caller's stream: status %d", resp.StatusCode)
	}
}

func TestToolsChangedIsTold(t *testing.T) {
	t.Parallel()
	f, w := newWeb(t, mcp.HTTPOptions{})
	for _, revision := range []string{"2025-11-25", "2026-07-28"} {
		told := make(chan struct{}, 8)
		client := sdk.NewClient(&sdk.Implementation{Name: "t", Version: "1"}, &sdk.ClientOptions{
			ToolListChangedHandler: func(context.Context, *sdk.ToolListChangedRequest) { told <- struct{}{} },
		})
		session, err := client.Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: w.url, HTTPClient: http.DefaultClient}, &sdk.ClientSessionOptions{ProtocolVersion: revision})
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		if got := session.InitializeResult().ProtocolVersion; got != revision {
			t.Errorf("revision %s, want %s", got, revision)
		}
		time.Sleep(ordinary + ordinary/2)
		for attempt := 0; ; attempt++ {
			f.server.ToolsChanged()
			select {
			case <-told:
			case <-time.After(200 * time.Millisecond):
				if attempt < 50 {
					continue
				}
				t.Errorf("%s: the client was not told", revision)
			}
			break
		}
		// The tool that was put in again still works.
		if got := call(t, session, set, args{"integration_key": "salesforce", "value": "x"}); got.failed {
			t.Error(got.text)
		}
	}
}

func TestBadRequestsQuoteNothing(t *testing.T) {
	f, w := newWeb(t, mcp.HTTPOptions{})
	id := w.open("alice")
	const secret = "SECRETQ7Z9"
	modern := []string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: " + secret}
	meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
	for _, c := range []struct {
		body    string
		headers []string
	}{
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"` + secret + `"}}`, nil},
		{`{"jsonrpc":"2.0","id":5,"method":"` + secret + `"}`, nil},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":"` + secret + `"}`, nil},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":["` + secret + `"]}}`, nil},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"list_environments","arguments":"` + secret + `"}}`, nil},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"list_environments","name":"` + secret + `"}}`, nil},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"cursor":{"` + secret + `":1}}}`, nil},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"` + secret, nil},
		{secret, nil},
		{`["` + secret + `"]`, nil},
		{`{"jsonrpc":"` + secret + `","id":5,"method":"ping"}`, nil},
		{`{"jsonrpc":"2.0","id":["` + secret + `"],"method":"ping"}`, nil},
		{`{"jsonrpc":"2.0","id":5,"result":"` + secret + `"}`, nil},
		{`{"jsonrpc":"2.0","method":"notifications/` + secret + `"}`, nil},
		{`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{"` + secret + `":1}}}`, nil},
		{`{"jsonrpc":"2.0","id":5,"method":"initialize","params":{"protocolVersion":["` + secret + `"]}}`, nil},
		{`{"jsonrpc":"2.0","id":5,"method":"initialize","params":"` + secret + `"}`, nil},
		{ping, []string{"Mcp-Protocol-Version: 1999-" + secret}},
		{ping, []string{"Last-Event-ID: " + secret}},
		{ping, []string{"Accept: " + secret}},
		{ping, []string{"Content-Type: text/" + secret}},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"list_environments",` + meta + `}}`, modern},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"` + secret + `",` + meta + `}}`, modern},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2027-` + secret + `"}}}`, modern},
		{`{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{"_meta":"` + secret + `"}}`, modern},
		{strings.Replace(listen, `{"toolsListChanged":true}`, `"`+secret+`"`, 1), []string{"Mcp-Protocol-Version: 2026-07-28", "Mcp-Method: subscriptions/listen"}},
	} {
		for _, session := range []string{id, ""} {
			resp, text := w.send(t.Context(), http.MethodPost, "alice", session, c.body, c.headers...)
			if strings.Contains(text, secret) {
				t.Errorf("%s: the answer quotes it: %s", c.body, text)
			}
			if resp.StatusCode < 400 && !strings.Contains(text, `"error"`) && !strings.Contains(text, `"isError":true`) && resp.StatusCode != http.StatusAccepted {
				t.Errorf("%s: status %d: %s", c.body, resp.StatusCode, text)
			}
			for name, values := range resp.Header {
				if strings.Contains(strings.Join(values, " "), secret) {
					t.Errorf("%s: the header %s quotes it", c.body, name)
				}
			}
		}
	}
	if strings.Contains(f.logged(), secret) {
		t.Error("the log quotes it")
	}
}

func TestMethodsAndSizes(t *testing.T) {
	_, w := newWeb(t, mcp.HTTPOptions{})
	for _, c := range []struct {
		method, session, body string
		status                int
		headers               []string
	}{
		{http.MethodGet, "", "", http.StatusBadRequest, nil},
		{http.MethodGet, "nosuch", "", http.StatusNotFound, nil},
		{http.MethodGet, "", "", http.StatusMethodNotAllowed, []string{"Mcp-Protocol-Version: 2026-07-28"}},
		{http.MethodPost, "", ping, http.StatusBadRequest, nil},
		{http.MethodPost, "nosuch", ping, http.StatusNotFound, nil},
		{http.MethodPost, "", `{"x":"` + strings.Repeat("x", 256<<10) + `"}`, http.StatusRequestEntityTooLarge, nil},
	} {
		if resp, text := w.send(t.Context(), c.method, "alice", c.session, c.body, c.headers...); resp.StatusCode != c.status {
			t.Errorf("%s %.40s: status %d, want %d: %s", c.method, c.body, resp.StatusCode, c.status, text)
		}
	}
}
