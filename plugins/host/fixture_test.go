//go:build linux

package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sidevault/sidevault/plugins/pluginpb"
)

// The test binary is also the supervisor, the plugin with all its faults, and a host
// that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "supervise":
			os.Exit(Supervise(os.Args[2:]))
		case "fixture":
			fixture(os.Args[2])
			os.Exit(0)
		case "host":
			runHost(os.Args[2])
		}
	}
	goleak.VerifyTestMain(m)
}

// fixture is a plugin that goes wrong at its start, or serves.
func fixture(mode string) {
	switch mode {
	case "serve":
		serveFixture(pluginpb.ProtocolVersion, plugin.DefaultGRPCServer)
	case "syncer":
		serveFixture(pluginpb.ProtocolVersion, func(opts []grpc.ServerOption) *grpc.Server {
			s := grpc.NewServer(opts...)
			pluginpb.RegisterSyncerServer(s, fixtureSyncer{})
			return s
		})
	case "version7":
		serveFixture(7, plugin.DefaultGRPCServer)
	case "netrpc":
		serveFixture(pluginpb.ProtocolVersion, nil)
	case "exit0":
	case "exit3":
		os.Exit(3)
	case "garbage":
		fmt.Println("hello, this is no handshake")
		time.Sleep(time.Hour)
	case "longline":
		flood(os.Stdout, "y", 1<<30)
	case "silent":
		time.Sleep(time.Hour)
	case "closed":
		os.Stdout.Close()
		time.Sleep(time.Hour)
	case "nocert":
		l, _ := net.Listen("unix", os.Getenv("PLUGIN_UNIX_SOCKET_DIR")+"/s")
		fmt.Printf("1|1|unix|%s|grpc\n", l.Addr())
		time.Sleep(time.Hour)
	case "elsewhere":
		fmt.Printf("1|1|unix|/run/elsewhere.sock|grpc|%s\n", strings.Repeat("A", 60))
		time.Sleep(time.Hour)
	case "deaf":
		cert, err := serverCert()
		if err != nil {
			panic(err)
		}
		l, _ := net.Listen("unix", os.Getenv("PLUGIN_UNIX_SOCKET_DIR")+"/s")
		fmt.Printf("1|1|unix|%s|grpc|%s\n", l.Addr(), cert)
		time.Sleep(time.Hour)
	}
}

func serveFixture(version uint, server func([]grpc.ServerOption) *grpc.Server) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: version, MagicCookieKey: pluginpb.CookieKey, MagicCookieValue: pluginpb.CookieValue,
		},
		Plugins:    plugin.PluginSet{"x": fixtureServer{stdout: os.Stdout, stderr: os.Stderr}},
		GRPCServer: server,
		Logger:     hclog.NewNullLogger(),
	})
}

type fixtureServer struct {
	plugin.NetRPCUnsupportedPlugin
	pluginpb.UnimplementedPluginServer
	pluginpb.UnimplementedValidatorServer
	stdout, stderr *os.File // those that go-plugin replaces
}

func (f fixtureServer) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginpb.RegisterPluginServer(s, f)
	pluginpb.RegisterValidatorServer(s, f)
	return nil
}

func (fixtureServer) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a server")
}

func (fixtureServer) Describe(context.Context, *pluginpb.DescribeRequest) (*pluginpb.DescribeResponse, error) {
	return &pluginpb.DescribeResponse{Name: "fixture", Version: "1.2.3\x1b[31m", Description: "goes wrong", Services: []string{"validator", "root"}}, nil
}

// order is what the config of a call tells the fixture to do.
type order struct {
	Do   string
	Path string
	N    int
	Text string
}

func valid() *pluginpb.ValidateResponse {
	return &pluginpb.ValidateResponse{Verdict: pluginpb.ValidateResponse_VERDICT_VALID}
}

func rejected(text string) *pluginpb.ValidateResponse {
	return &pluginpb.ValidateResponse{Verdict: pluginpb.ValidateResponse_VERDICT_REJECTED, Message: text}
}

func (f fixtureServer) Validate(ctx context.Context, r *pluginpb.ValidateRequest) (*pluginpb.ValidateResponse, error) {
	var o order
	if r.GetConfig() != "" {
		if err := json.Unmarshal([]byte(r.GetConfig()), &o); err != nil {
			return nil, err
		}
	}
	value := r.GetFields()["value"]
	switch o.Do {
	case "":
		return valid(), nil
	case "reject":
		return rejected("no good\x1b[31m\nat all"), nil
	case "echo":
		answer := rejected("you sent " + value)
		answer.FieldMessages = map[string]string{"value": "is " + value}
		return answer, nil
	case "request":
		r.Config = ""
		return rejected(r.String()), nil
	case "fields":
		answer := rejected(strings.Repeat("é", 5000))
		answer.FieldMessages = map[string]string{}
		for i := range 100 {
			answer.FieldMessages[strconv.Itoa(1000+i)] = "x"
		}
		return answer, nil
	case "huge":
		return rejected(strings.Repeat("x", 100<<10)), nil
	case "noverdict":
		return &pluginpb.ValidateResponse{}, nil
	case "verdict9":
		return &pluginpb.ValidateResponse{Verdict: 9}, nil
	case "error":
		return nil, status.Error(codes.Unavailable, "the provider says "+value)
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case "sleep":
		time.Sleep(time.Duration(o.N) * time.Millisecond)
		return valid(), nil
	case "hang":
		select {}
	case "crash":
		os.Exit(3)
	case "segv":
		syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case "pid":
		time.Sleep(time.Duration(o.N) * time.Millisecond)
		return rejected(strconv.Itoa(os.Getpid())), nil
	}
	return f.write(o, value)
}

// write fills the log.
func (f fixtureServer) write(o order, value string) (*pluginpb.ValidateResponse, error) {
	switch o.Do {
	case "log":
		for range max(1, o.N) {
			fmt.Fprint(f.stderr, strings.ReplaceAll(o.Text, "VALUE", value))
		}
		return valid(), nil
	case "print":
		fmt.Fprintln(os.Stderr, "printed "+value) // through go-plugin
		return valid(), nil
	case "stdout":
		flood(f.stdout, o.Text, 256<<20)
		return valid(), nil
	case "gigabyte":
		flood(f.stderr, o.Text, 1<<30)
		return valid(), nil
	}
	return f.probe(o)
}

// probe tries what a plugin must not be able to do, and says what came of it.
func (f fixtureServer) probe(o order) (*pluginpb.ValidateResponse, error) {
	switch o.Do {
	case "spawn":
		return rejected(spawn(o.N)), nil
	case "read":
		b, err := os.ReadFile(o.Path)
		return rejected(outcome(len(b), err)), nil
	case "write":
		return rejected(outcome(1, os.WriteFile(o.Path, []byte("x"), 0o600))), nil
	case "signal":
		return rejected(outcome(1, syscall.Kill(o.N, 0))), nil
	case "dial":
		c, err := net.Dial("unix", o.Path)
		if err == nil {
			c.Close()
		}
		return rejected(outcome(1, err)), nil
	case "hydra":
		// A process that has always gone when one looks, and left another.
		script := "echo >>heads\nsetsid /bin/sh ./hydra >/dev/null 2>&1 &\n"
		if err := os.WriteFile("hydra", []byte(script), 0o600); err != nil {
			return nil, err
		}
		return rejected(outcome(1, exec.Command("/bin/sh", "./hydra").Run())), nil
	case "self":
		return rejected(self()), nil
	}
	return nil, status.Error(codes.InvalidArgument, "unknown order")
}

func outcome(n int, err error) string {
	if err != nil {
		return "refused: " + err.Error()
	}
	return fmt.Sprintf("done: %d", n)
}

// self tells what the process has: its environment, descriptors, directory, limits
// and privileges.
func self() string {
	env := os.Environ()
	names := make([]string, len(env))
	for i, e := range env {
		names[i], _, _ = strings.Cut(e, "=")
	}
	var inherited []string
	for fd := range 64 {
		var stat syscall.Stat_t
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 && syscall.Fstat(fd, &stat) == nil {
			inherited = append(inherited, strconv.Itoa(fd))
		}
	}
	dir, _ := os.Getwd()
	in, _ := io.ReadAll(os.Stdin)
	b, _ := os.ReadFile("/proc/self/status")
	var status []string
	for line := range strings.Lines(string(b)) {
		for _, want := range []string{"CapEff", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Uid", "Gid", "Groups"} {
			if strings.HasPrefix(line, want+":") {
				status = append(status, strings.Join(strings.Fields(line), " "))
			}
		}
	}
	for name, resource := range map[string]int{"core": syscall.RLIMIT_CORE, "nofile": syscall.RLIMIT_NOFILE, "fsize": syscall.RLIMIT_FSIZE} {
		var l syscall.Rlimit
		syscall.Getrlimit(resource, &l)
		status = append(status, fmt.Sprintf("%s=%d", name, l.Max))
	}
	status = append(status, fmt.Sprintf("umask=%o", syscall.Umask(0o077)), "")
	return fmt.Sprintf("env=%s fds=%s dir=%s stdin=%d sid=%v %s", strings.Join(names, ","), strings.Join(inherited, ","), dir, len(in),
		sid() == os.Getpid(), strings.Join(status, "; "))
}

func sid() int {
	id, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	return int(id)
}

// fixtureSyncer fails, unless the config is empty.
type fixtureSyncer struct {
	pluginpb.UnimplementedSyncerServer
}

func (fixtureSyncer) Sync(_ context.Context, r *pluginpb.SyncRequest) (*pluginpb.SyncResponse, error) {
	var o order
	if err := json.Unmarshal([]byte(r.GetConfig()), &o); err != nil {
		return nil, err
	}
	switch o.Do {
	case "":
		return &pluginpb.SyncResponse{Outcome: pluginpb.SyncResponse_OUTCOME_DONE}, nil
	case "outcome9":
		return &pluginpb.SyncResponse{Outcome: 9}, nil
	case "unspecified":
		return &pluginpb.SyncResponse{}, nil
	}
	r.Config = ""
	return &pluginpb.SyncResponse{Outcome: pluginpb.SyncResponse_OUTCOME_FAILED, Message: r.String(), RetryAfterSeconds: uint32(o.N)}, nil
}

// spawn leaves processes behind that belong to no session or group of the plugin,
// and returns the pid of the first.
func spawn(n int) string {
	first := ""
	for range max(1, n) {
		// The shell in between ends at once, so that the sleeper is an orphan.
		out, err := exec.Command("/bin/sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!").Output()
		if err != nil {
			return "refused: " + err.Error()
		}
		if first == "" {
			first = strings.TrimSpace(string(out))
		}
	}
	return first
}

func flood(w io.Writer, text string, n int) {
	piece := bytes.Repeat([]byte(text), 1+(1<<18)/len(text))
	for ; n > 0; n -= len(piece) {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

// runHost is a host that starts a plugin with offspring, says so, and waits to be
// killed.
func runHost(runDir string) {
	h, err := New(Config{
		Programs:   []Program{fixtureProgram("doomed", "serve")},
		Supervisor: testSupervisor,
		Options:    Options{RunDir: runDir, Logger: slog.New(slog.DiscardHandler)},
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for range 3 {
		_, err = h.Validate(context.Background(), callTo("doomed", order{Do: "spawn", N: 3}))
	}
	fmt.Println("ready", err)
	time.Sleep(time.Hour)
}
