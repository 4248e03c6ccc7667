package acceptance

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sidevault/sidevault/api/mcp"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// The tools, and the revisions of the protocol.
const (
	mcpSet      = "admin_set_integration_credentials"
	mcpRemove   = "admin_remove_integration_credentials"
	mcpAudit    = "admin_list_audit_log"
	mcpStatus   = "get_integration_status"
	mcpList     = "list_integrations"
	mcpSessions = "2025-11-25"
	mcpModern   = "2026-07-28"
)

const mcpInitialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"acceptance","version":"1"}}}`

// agent is the SDK's own client of a sidecar.
type agent struct {
	t       *testing.T
	session *sdk.ClientSession
	changed chan struct{} // told when the tools have changed
}

// bearer sends an API key with every request.
type bearer struct {
	key  string
	next http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.key)
	return b.next.RoundTrip(r)
}

// overHTTP connects an agent to /mcp.
func overHTTP(t *testing.T, s *sidecar.Sidecar, key, revision string) *agent {
	t.Helper()
	return connectAgent(t, revision, &sdk.StreamableClientTransport{
		Endpoint: s.URL + "/mcp", HTTPClient: &http.Client{Transport: bearer{key, recorder}},
	})
}

// overStdio connects an agent to a sidevault mcp of its own.
func overStdio(t *testing.T, s *sidecar.Sidecar, key, revision string) *agent {
	t.Helper()
	cmd := exec.Command(binary.Path(), "mcp")
	cmd.Env = []string{"SIDEVAULT_ADDR=" + s.URL, "SIDEVAULT_TOKEN=" + key, "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}
	var errs strings.Builder
	cmd.Stderr = &errs
	a := connectAgent(t, revision, &sdk.CommandTransport{Command: cmd})
	t.Cleanup(func() {
		a.session.Close()
		if strings.Contains(errs.String(), "WARNING: DATA RACE") {
			t.Errorf("sidevault mcp has a data race:\n%s", errs.String())
		}
	})
	return a
}

func connectAgent(t *testing.T, revision string, transport sdk.Transport) *agent {
	t.Helper()
	a := &agent{t: t, changed: make(chan struct{}, 16)}
	client := sdk.NewClient(&sdk.Implementation{Name: "acceptance", Version: "1"}, &sdk.ClientOptions{
		ToolListChangedHandler: func(context.Context, *sdk.ToolListChangedRequest) { a.changed <- struct{}{} },
	})
	var err error
	if a.session, err = client.Connect(t.Context(), transport, &sdk.ClientSessionOptions{ProtocolVersion: revision}); err != nil {
		t.Fatalf("connect at %s: %v", revision, err)
	}
	t.Cleanup(func() { a.session.Close() })
	if got := a.session.InitializeResult().ProtocolVersion; got != revision {
		t.Errorf("the revision is %s, want %s", got, revision)
	}
	return a
}

type arguments map[string]any

// toolAnswer is what a tool call answered.
type toolAnswer struct {
	mcp.Failure
	failed bool
	data   []byte
	t      *testing.T
}

func (a *agent) try(tool string, args arguments) (toolAnswer, error) {
	r, err := a.session.CallTool(a.t.Context(), &sdk.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		return toolAnswer{}, err
	}
	out := toolAnswer{failed: r.IsError, t: a.t}
	if out.data, err = json.Marshal(r.StructuredContent); err != nil {
		return toolAnswer{}, err
	}
	if r.IsError {
		err = json.Unmarshal(out.data, &out.Failure)
	}
	return out, err
}

func (a *agent) call(tool string, args arguments) toolAnswer {
	a.t.Helper()
	got, err := a.try(tool, args)
	if err != nil {
		a.t.Fatalf("%s: %v", tool, err)
	}
	return got
}

// into decodes a success.
func (r toolAnswer) into(to any) {
	r.t.Helper()
	if r.failed {
		r.t.Fatalf("%s: %s: %s", r.Code, r.Message, r.Details)
	}
	if err := json.Unmarshal(r.data, to); err != nil {
		r.t.Fatal(err)
	}
}

func (r toolAnswer) ok() map[string]any {
	r.t.Helper()
	var all map[string]any
	r.into(&all)
	return all
}

func (r toolAnswer) fails(status int, code string) toolAnswer {
	r.t.Helper()
	if !r.failed || r.Status != status || r.Code != code || r.Message == "" {
		r.t.Errorf("failed: %v, %s %d: %s, want %s %d", r.failed, r.Code, r.Status, r.Message, code, status)
	}
	return r
}

func (a *agent) tools() (names []string) {
	a.t.Helper()
	list, err := a.session.ListTools(a.t.Context(), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	return names
}

// eachTransport runs a test over both transports and at both revisions.
func eachTransport(t *testing.T, test func(t *testing.T, connect func(s *sidecar.Sidecar, key string) *agent)) {
	for name, connect := range map[string]func(*testing.T, *sidecar.Sidecar, string, string) *agent{"http": overHTTP, "stdio": overStdio} {
		for _, revision := range []string{mcpSessions, mcpModern} {
			t.Run(name+" "+revision, func(t *testing.T) {
				t.Parallel()
				test(t, func(s *sidecar.Sidecar, key string) *agent { return connect(t, s, key, revision) })
			})
		}
	}
}
