package acceptance

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

const (
	mcpPing   = `{"jsonrpc":"2.0","id":2,"method":"ping"}`
	mcpListen = `{"jsonrpc":"2.0","id":3,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
)

func openMCP(c *sidecar.Client) string {
	return c.Post("/mcp", mcpInitialize).Wants(http.StatusOK).Header.Get("Mcp-Session-Id")
}

func TestMCPSessionIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	c := binary.Serve(t).Admin()
	request := map[string]any{"name": "owner", "scope": "user", "environments": []string{"*"}, "integrations": []string{"*"}}
	key := createKey(c, request)
	owner := c.As(key.Key)
	session := "Mcp-Session-Id: " + openMCP(owner)
	owner.Post("/mcp", mcpPing, session).Wants(http.StatusOK)
	owner.Post("/mcp", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, session).Wants(http.StatusAccepted)
	// An admin of the same org is another caller, too.
	for _, other := range []*sidecar.Client{c, c.As(createKey(c, request).Key)} {
		other.Post("/mcp", mcpPing, session).Wants(http.StatusNotFound)
		other.Get("/mcp", session).Wants(http.StatusNotFound)
		other.Delete("/mcp", session).Wants(http.StatusNotFound)
	}
	owner.Post("/mcp", mcpPing, session).Wants(http.StatusOK)
	owner.Get("/mcp", "Mcp-Protocol-Version: "+mcpModern).Wants(http.StatusMethodNotAllowed)
	owner.Delete("/mcp", "Mcp-Protocol-Version: "+mcpModern).Wants(http.StatusMethodNotAllowed)

	// A revoked key stops working in its own session at once.
	c.Delete("/v1/keys/" + key.ID).Wants(http.StatusOK)
	owner.Post("/mcp", mcpPing, session).Fails(http.StatusUnauthorized, "UNAUTHORIZED")

	mine := "Mcp-Session-Id: " + openMCP(c)
	c.Delete("/mcp", mine).Wants(http.StatusNoContent)
	c.Post("/mcp", mcpPing, mine).Wants(http.StatusNotFound)
}

// streamMCP opens a stream and returns what tells that it has ended.
func streamMCP(t *testing.T, c *sidecar.Sidecar, key, method, body string, headers ...string) <-chan struct{} {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.URL+"/mcp", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := bearer{key, recorder}.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s of a stream: status %d", method, resp.StatusCode)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer resp.Body.Close()
		buffer := make([]byte, 1024)
		for {
			if _, err := resp.Body.Read(buffer); err != nil {
				return
			}
		}
	}()
	return ended
}

func listenMCP(t *testing.T, s *sidecar.Sidecar, key string) <-chan struct{} {
	t.Helper()
	return streamMCP(t, s, key, http.MethodPost, mcpListen, "Mcp-Protocol-Version: "+mcpModern, "Mcp-Method: subscriptions/listen")
}

// A shutdown does not wait for those who listen.
func TestMCPStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	session := "Mcp-Session-Id: " + openMCP(s.Admin())
	streams := []<-chan struct{}{streamMCP(t, s, s.AdminKey, http.MethodGet, "", session), listenMCP(t, s, s.AdminKey)}
	s.Admin().Get("/mcp", session).Wants(http.StatusConflict)
	if took := s.Stop(); took > 5*time.Second {
		t.Errorf("the shutdown took %s", took)
	}
	for _, ended := range streams {
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("a stream does not end")
		}
	}
}

func TestMCPToldOfReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "catalog.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("integrations: []\n")
	s := binary.Init(t).Start(t, "--catalog", path)
	agents := []*agent{overHTTP(t, s, s.AdminKey, mcpSessions), overHTTP(t, s, s.AdminKey, mcpModern)}
	// The streams that tell open in the background.
	time.Sleep(500 * time.Millisecond)
	write("integrations:\n  - {key: acme_billing, name: Acme Billing, category: finance, authTypes: [api_key]}\n")
	s.Signal(syscall.SIGHUP)
	for _, a := range agents {
		select {
		case <-a.changed:
		case <-time.After(10 * time.Second):
			t.Error("an agent is not told that the tools have changed")
		}
		list, err := a.session.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, tool := range list.Tools {
			found = found || tool.Name == mcpList && strings.Contains(tool.Description, "acme_billing")
		}
		if !found {
			t.Error("tools/list does not know the new integration")
		}
		a.call(mcpSet, arguments{"integration_key": "acme_billing", "value": "x"}).ok()
	}
}

func TestMCPStdioWithoutASidecar(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	call := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"list_environments"}}
{"jsonrpc":"2.0","id":3,"method":"tools/list"}
`
	for says, environ := range map[string][]string{
		"no sidecar answers":    {"SIDEVAULT_ADDR=http://127.0.0.1:1", "SIDEVAULT_TOKEN=" + s.AdminKey},
		`"code":"unauthorized"`: {"SIDEVAULT_ADDR=" + s.URL, "SIDEVAULT_TOKEN=svk_" + strings.Repeat("0", 43)},
	} {
		o := binary.Run(t, call, environ, "mcp")
		if o.Code != 0 || !strings.Contains(o.Stdout, says) || strings.Count(o.Stdout, "\n") != 3 {
			t.Errorf("without %s: exit code %d\n%s", says, o.Code, o.Stdout)
		}
	}
	if o := binary.Run(t, call, nil, "mcp"); o.Code != 4 || o.Stdout != "" {
		t.Errorf("without a key: exit code %d: %s", o.Code, o.Stdout)
	}
}
