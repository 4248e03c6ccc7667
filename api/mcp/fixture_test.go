package mcp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/api/mcp"
	"github.com/sidevault/sidevault/api/mcp/local"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

// entries is a catalog.
type entries []vault.Integration

func (e entries) All() []vault.Integration { return e }

func (e entries) Lookup(key string) (vault.Integration, bool) {
	for _, i := range e {
		if i.Key == key {
			return i, true
		}
	}
	return vault.Integration{}, false
}

func catalog() entries {
	return entries{
		{Key: "closed", Name: "Closed", Category: "other"},
		{Key: "salesforce", Name: "Salesforce", Category: "crm", Enabled: true, AuthTypes: []string{"oauth2"}},
		{Key: "sftp", Name: "SFTP", Category: "files", Enabled: true, Fields: []vault.Field{
			{Name: "host", Required: true}, {Name: "password", Required: true, Secret: true},
		}},
	}
}

// fixture is a vault with the tools over it.
type fixture struct {
	t        testing.TB
	vault    *vault.Vault
	server   *mcp.Server
	registry *prometheus.Registry
	admin    vault.Caller
	user     vault.Caller

	mu  sync.Mutex
	log bytes.Buffer
}

func (f *fixture) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.Write(p)
}

func (f *fixture) logged() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.String()
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b := memory.New()
	made, err := vault.Init(t.Context(), vault.InitConfig{Backend: b, Roots: []string{root.Recipient().String()}, Envs: tree, Org: "default", AdminName: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, registry: prometheus.NewRegistry()}
	logger := slog.New(slog.NewJSONHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.vault, err = vault.Open(t.Context(), vault.Config{
		Backend: b, Envs: tree, Catalog: catalog(), Identities: []age.Identity{root}, Trusted: made.Trusted, Options: vault.Options{Logger: logger},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.vault.Close(context.Background()) })
	if f.admin, err = f.vault.Authenticate(t.Context(), made.Admin.Secret); err != nil {
		t.Fatal(err)
	}
	f.admin.Origin.Source = "mcp"
	f.user = f.admin
	f.user.Admin = false
	f.server = mcp.New(mcp.Config{Version: "test", Logger: logger, Registry: f.registry})
	return f
}

func (f *fixture) caller(c vault.Caller) mcp.Caller {
	return mcp.Caller{ID: c.Actor.ID, Owner: c.Actor.ID, RequestID: "r1", Port: local.NewPort(f.vault, c)}
}

// serve serves a caller over a pair of pipes and returns the client's ends.
func (f *fixture) serve(c mcp.Caller) (io.ReadCloser, io.WriteCloser) {
	f.t.Helper()
	fromClient, toServer := io.Pipe()
	fromServer, toClient := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.server.ServeStdio(context.Background(), c, fromClient, toClient); err != nil {
			f.t.Errorf("serve: %v", err)
		}
		toClient.Close()
	}()
	f.t.Cleanup(func() {
		toServer.Close()
		fromServer.Close()
		<-done
	})
	return fromServer, toServer
}

// connect connects the SDK's client.
func (f *fixture) connect(c mcp.Caller) *sdk.ClientSession {
	f.t.Helper()
	in, out := f.serve(c)
	client := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(f.t.Context(), &sdk.IOTransport{Reader: in, Writer: out}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { session.Close() })
	return session
}

// called is what a call answered.
type called struct {
	failed  bool
	text    string
	content map[string]any
	mcp.Failure
}

func call(t testing.TB, s *sdk.ClientSession, tool string, arguments any) called {
	t.Helper()
	r, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	out := called{failed: r.IsError, text: r.Content[0].(*sdk.TextContent).Text}
	if err := json.Unmarshal([]byte(out.text), &out.content); err != nil {
		t.Fatalf("%s: the text is not JSON", tool)
	}
	structured, err := json.Marshal(r.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	var again map[string]any
	if err := json.Unmarshal(structured, &again); err != nil || len(again) != len(out.content) {
		t.Fatalf("%s: the structured content is not the text", tool)
	}
	if out.failed {
		if err := json.Unmarshal(structured, &out.Failure); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// exchange sends a line as it is and returns the line that answers it.
func (f *fixture) exchange(c mcp.Caller, lines ...string) []string {
	f.t.Helper()
	in, out := f.serve(c)
	go func() {
		for _, line := range lines {
			io.WriteString(out, line+"\n")
		}
		out.Close()
	}()
	all, err := io.ReadAll(in)
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(all)), "\n")
}
