// Package trial is what the tests of the bundled programs share: a program built and
// started as the sidecar would, a name server that answers what a test says, and the
// page that documents the programs. Only tests import it.
package trial

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/sidevault/sidevault/plugins/pluginpb"
)

// Program is a plugin that runs.
type Program struct {
	Plugin    pluginpb.PluginClient
	Validator pluginpb.ValidatorClient
	Syncer    pluginpb.SyncerClient
	stderr    *buffer
}

// Start builds the program of the test's own folder, without cgo as it is shipped, and
// starts it with these variables and no others. The test's end stops it.
func Start(t *testing.T, service string, env ...string) *Program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	build := exec.Command("go", "build", "-trimpath", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(path)
	cmd.Dir, cmd.Env = t.TempDir(), env
	p := &Program{stderr: new(buffer)}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: pluginpb.ProtocolVersion, MagicCookieKey: pluginpb.CookieKey, MagicCookieValue: pluginpb.CookieValue,
		},
		Plugins:          plugin.PluginSet{service: connector{}},
		Cmd:              cmd,
		SkipHostEnv:      true,
		AutoMTLS:         true,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		StartTimeout:     30 * time.Second,
		Logger:           hclog.NewNullLogger(),
		Stderr:           p.stderr,
	})
	t.Cleanup(client.Kill)
	protocol, err := client.Client()
	if err != nil {
		t.Fatalf("start: %v\n%s", err, p.Log())
	}
	raw, err := protocol.Dispense(service)
	if err != nil {
		t.Fatal(err)
	}
	conn := raw.(*grpc.ClientConn)
	p.Plugin, p.Validator, p.Syncer = pluginpb.NewPluginClient(conn), pluginpb.NewValidatorClient(conn), pluginpb.NewSyncerClient(conn)
	return p
}

// Describes checks what the program tells of itself.
func (p *Program) Describes(t *testing.T, name, service string) {
	t.Helper()
	d, err := p.Plugin.Describe(t.Context(), &pluginpb.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if d.GetName() != name || d.GetVersion() == "" || d.GetDescription() == "" || len(d.GetServices()) != 1 || d.GetServices()[0] != service {
		t.Errorf("describes itself as %v", d)
	}
}

// Log returns what the program has written to standard error.
func (p *Program) Log() string { return p.stderr.String() }

// connector gives the connection itself.
type connector struct{ plugin.NetRPCUnsupportedPlugin }

func (connector) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (connector) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
