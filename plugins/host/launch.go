package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/vault"
)

// about is what a program says of itself.
type about struct {
	version, description string
	services             []string
}

// launch starts one process, from the check of its files to the first answer. Its
// error's reason is why that did not come about; a fault is one that only a person can
// mend.
func (p *program) launch() (m *member, failed *vault.PluginError, fault bool) {
	sum, id, err := p.inspect(nil)
	p.setSum(sum)
	if err != nil {
		return nil, p.fail(err.Error(), nil), true
	}
	dir, err := p.host.workDir(id)
	if err != nil {
		return nil, p.fail("cannot be given a working directory", err), false
	}
	m = newMember(p)
	m.proc = newProcess(p.host, &p.cfg, id, dir, m.stderr)
	if reason, err := m.connect(p.host.tun.start); err != nil {
		m.discard()
		// Go-plugin's text quotes what the program has written.
		return nil, p.fail(reason, errors.New(printable(err.Error(), 500))), false
	}
	return m, nil, false
}

// inspect looks for what only a person can mend.
func (p *program) inspect(known sums) (sum string, id identity, err error) {
	if sum, err = p.cfg.verify(known); err != nil {
		return sum, id, err
	}
	if p.host.cfg.Sandbox == Required && !p.host.confines() {
		return sum, id, faultf("needs a sandbox, and this kernel has no Landlock: use Linux 5.13 or later, or allow plugins without one")
	}
	if id, err = p.cfg.identity(); err != nil {
		return sum, id, err
	}
	return sum, id, id.reach(p.host.dir)
}

// connect starts the process, shakes hands with it and asks what it is.
func (m *member) connect(within time.Duration) (reason string, err error) {
	ctx, cancel := context.WithTimeout(m.prog.host.ctx, within)
	defer cancel()
	m.proc.late = ctx
	config := m.clientConfig(within)
	addr, err := plugin.NewClient(config).Start()
	if err != nil {
		return m.proc.explain(ctx, within), err
	}
	if config.TLSConfig.RootCAs == nil {
		return "does not take part in AutoMTLS: its handshake has no certificate", errors.New("no certificate")
	}
	m.conn, err = grpc.NewClient("passthrough:///plugin",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, addr.Network(), addr.String())
		}),
		grpc.WithTransportCredentials(credentials.NewTLS(config.TLSConfig)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(mostAnswer)),
		grpc.WithMaxHeaderListSize(mostHeaders),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(), grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return "cannot be connected to", err
	}
	if m.about, err = describe(ctx, m.conn); err != nil {
		return m.proc.explain(ctx, within), err
	}
	if !m.proc.keep() {
		return m.proc.explain(ctx, within), context.Cause(ctx)
	}
	m.prog.host.work.Add(1) // whoever launches is counted itself
	go m.forward()
	return "", nil
}

// clientConfig makes go-plugin shake hands, and leaves everything else to the host:
// processes to process, calls to a connection of its own.
func (m *member) clientConfig(within time.Duration) *plugin.ClientConfig {
	return &plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: pluginpb.ProtocolVersion, MagicCookieKey: pluginpb.CookieKey, MagicCookieValue: pluginpb.CookieValue,
		},
		Plugins:          plugin.PluginSet{},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     2 * within, // the host's own is the one that counts
		Logger:           hclog.NewNullLogger(),
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: m.proc.dir},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			m.proc.env = m.proc.environment(cmd.Env)
			return m.proc, nil
		},
	}
}

// explain says why there was no handshake, and ends the process.
func (p *process) explain(ctx context.Context, within time.Duration) string {
	if ctx.Err() != nil {
		return fmt.Sprintf("did not answer within %v", within)
	}
	if !p.running() {
		return "cannot be started"
	}
	<-p.line
	if len(p.first) > 0 {
		if reason := misspoken(string(p.first)); reason != "" {
			return reason
		}
	}
	if p.strayed {
		return "names an address in the handshake that is not its own"
	}
	p.kill()
	<-p.exited
	ended := !p.byUs || p.code != exitKilled+int(syscall.SIGKILL)
	refused := p.refuse.Load()
	switch {
	case refused != nil:
		return *refused
	case ended && len(p.first) == 0:
		return p.ending() + " before the handshake"
	case ended:
		return p.ending() + " right after the handshake"
	case len(p.first) == 0:
		return "closed its standard output before the handshake"
	}
	return "does not answer at the address of its handshake"
}

// ending says how the process ended; it must have.
func (p *process) ending() string {
	if p.code > exitKilled && p.code <= exitKilled+64 {
		return fmt.Sprintf("was killed by signal %d", p.code-exitKilled)
	}
	return fmt.Sprintf("exited with code %d", p.code)
}

// misspoken says what is wrong with a handshake: CORE|VERSION|NETWORK|ADDRESS|PROTOCOL|CERTIFICATE.
func misspoken(line string) string {
	const garbage = "wrote something else than the handshake to its standard output"
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) < 4 || parts[0] != strconv.Itoa(plugin.CoreProtocolVersion) || !strings.HasSuffix(line, "\n") {
		return garbage
	}
	version, err := strconv.Atoi(parts[1])
	if err != nil {
		return garbage
	}
	if version != pluginpb.ProtocolVersion {
		return fmt.Sprintf("speaks protocol version %d, this sidecar speaks %d", version, pluginpb.ProtocolVersion)
	}
	if len(parts) < 5 || parts[4] != string(plugin.ProtocolGRPC) {
		return "speaks another protocol than gRPC"
	}
	return ""
}

// describe asks a program what it is. One that does not say is not the worse for it.
func describe(ctx context.Context, conn *grpc.ClientConn) (about, error) {
	var header, trailer metadata.MD
	answer, err := pluginpb.NewPluginClient(conn).Describe(ctx, &pluginpb.DescribeRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil && (isOver(ctx) || len(header)+len(trailer) == 0) {
		return about{}, err // the connection's, and not the program's
	}
	a := about{version: printable(answer.GetVersion(), 64), description: printable(answer.GetDescription(), 500)}
	for _, s := range []string{pluginpb.ServiceValidator, pluginpb.ServiceSyncer} {
		if slices.Contains(answer.GetServices(), s) {
			a.services = append(a.services, s)
		}
	}
	return a, nil
}
