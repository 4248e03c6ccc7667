package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/sidevault/sidevault/plugins/pluginpb"
)

// process is one run of the program.
type process struct {
	cmd    *exec.Cmd
	client *plugin.Client
	conn   *grpc.ClientConn

	sockets        string // folder for them
	stdout, stderr io.ReadCloser
	out, errs      recording // what it wrote
	later          recording // what came as standard output over go-plugin's own stream
	laterErrs      recording
	killed         atomic.Bool // it did not end by itself
}

// recording keeps the beginning of what is written to it.
type recording struct {
	mu   sync.Mutex
	text []byte
}

const maxRecording = 4 << 20

func (r *recording) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, p[:min(len(p), maxRecording-len(r.text))]...)
	return len(p), nil
}

func (r *recording) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.text)
}

// start runs the program up to its handshake.
func start(p Program, dir string) (*process, error) {
	r := &process{cmd: exec.Command(p.Path, p.Args...)}
	r.cmd.Dir = dir
	r.cmd.SysProcAttr = apart()
	r.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: pluginpb.ProtocolVersion, MagicCookieKey: pluginpb.CookieKey, MagicCookieValue: pluginpb.CookieValue,
		},
		Plugins:          plugin.PluginSet{},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     p.Timeout,
		Logger:           hclog.NewNullLogger(),
		SyncStdout:       &r.later,
		SyncStderr:       &r.laterErrs,
		RunnerFunc: func(_ hclog.Logger, with *exec.Cmd, sockets string) (runner.Runner, error) {
			r.sockets = sockets
			r.cmd.Env = append(environment(p, dir), with.Env...)
			return r, nil
		},
	})
	if _, err := r.client.Start(); err != nil {
		r.stop()
		return r, err
	}
	c, err := r.client.Client()
	if err != nil {
		r.stop()
		return r, err
	}
	r.conn = c.(*plugin.GRPCClient).Conn
	return r, nil
}

// stop tells the program to end, and ends it when it does not.
func (r *process) stop() {
	r.client.Kill()
	if r.cmd.Process != nil {
		// What the program has started itself.
		syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	}
	// go-plugin leaves it when the program cannot be started.
	if r.sockets != "" {
		os.RemoveAll(r.sockets)
	}
}

// kill ends the program at once.
func (r *process) kill() {
	r.Kill(context.Background())
	r.stop()
}

func (r *process) ended() bool { return r.client.Exited() }

// handshake is the first line of standard output, in parts.
func (r *process) handshake() []string {
	line, _, _ := strings.Cut(r.out.String(), "\n")
	return strings.Split(strings.TrimSpace(line), "|")
}

// The rest makes a process what go-plugin runs.

func (r *process) Start(context.Context) (err error) {
	if r.stdout, err = r.cmd.StdoutPipe(); err != nil {
		return err
	}
	if r.stderr, err = r.cmd.StderrPipe(); err != nil {
		return err
	}
	return r.cmd.Start()
}

func (r *process) Wait(context.Context) error { return r.cmd.Wait() }

func (r *process) Kill(context.Context) error {
	if r.cmd.Process == nil {
		return nil
	}
	r.killed.Store(true)
	err := syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

func (r *process) Stdout() io.ReadCloser { return copied{r.stdout, &r.out} }
func (r *process) Stderr() io.ReadCloser { return copied{r.stderr, &r.errs} }
func (r *process) Name() string          { return r.cmd.Path }

func (r *process) ID() string {
	if r.cmd.Process == nil {
		return ""
	}
	return strconv.Itoa(r.cmd.Process.Pid)
}

func (r *process) Diagnose(context.Context) string { return "" }

func (r *process) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

func (r *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// copied keeps what is read.
type copied struct {
	io.ReadCloser
	to *recording
}

func (c copied) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if n > 0 {
		c.to.Write(p[:n])
	}
	return n, err
}

// lastWords is the end of what a program said, on one line.
func lastWords(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := []rune(strings.TrimSpace(lines[len(lines)-1]))
	if len(last) == 0 {
		return ""
	}
	return fmt.Sprintf("; its last words: %s", string(last[:min(len(last), 300)]))
}

// environment is what a sidecar gives a program, besides the handshake's.
func environment(p Program, dir string) []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=" + dir, "TMPDIR=" + dir,
	}, p.Env...)
}
