package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-plugin/runner"
)

// longestHandshake bounds the first line of standard output.
const longestHandshake = 4 << 10

// Exit codes of a supervisor besides the plugin's own.
const (
	exitNotRun = 126
	exitKilled = 128 // and the number of the signal
)

// process is one subprocess: a supervisor with the plugin under it. It implements
// go-plugin's runner, so that starting, reading and killing are the host's own.
type process struct {
	host *Host
	prog *Program
	id   identity
	dir  string
	env  []string // the plugin's
	logs io.Writer

	late context.Context // when this ends before the handshake, so does the process
	keep func() bool     // lifts that

	cmd    *exec.Cmd
	life   *os.File // the supervisor ends the plugin when this is closed
	dead   sync.Once
	killed atomic.Bool

	line   chan struct{} // closed when there is a first line, or none will come
	first  []byte
	read   int
	refuse atomic.Pointer[string] // why the plugin could not be run at all

	strayed bool // the handshake names an address that is not the plugin's

	exited chan struct{} // closed at the end; then these are set:
	code   int
	byUs   bool // it was killed
}

func newProcess(h *Host, p *Program, id identity, dir string, logs io.Writer) *process {
	return &process{host: h, prog: p, id: id, dir: dir, logs: logs, line: make(chan struct{}), exited: make(chan struct{})}
}

var _ runner.Runner = (*process)(nil)

// Start implements runner.Runner.
func (p *process) Start(context.Context) error {
	pipes, err := newPipes()
	if err != nil {
		return err
	}
	p.cmd = p.command(pipes)
	p.cmd.Stdout, p.cmd.Stderr = pipes.out.w, pipes.err.w
	if err := p.cmd.Start(); err != nil {
		pipes.close()
		return fmt.Errorf("start the supervisor: %w", err)
	}
	p.life = pipes.life.w
	p.host.born(p.cmd.Process.Pid)
	for _, f := range []*os.File{pipes.out.w, pipes.err.w, pipes.life.r, pipes.status.w} {
		f.Close()
	}
	p.host.work.Add(1) // whoever starts a process is counted itself
	go p.watch(pipes)
	p.keep = context.AfterFunc(p.late, p.kill)
	return p.instruct()
}

// watch reads what the process writes until it ends, and clears up behind it.
func (p *process) watch(pipes *pipes) {
	defer p.host.work.Done()
	var readers sync.WaitGroup
	readers.Go(func() { p.readStdout(pipes.out.r) })
	readers.Go(func() { io.Copy(p.logs, pipes.err.r) })
	readers.Go(func() { p.readStatus(pipes.status.r) })
	stop := context.AfterFunc(p.host.ctx, p.kill)
	p.cmd.Wait() // its error is the exit code
	stop()
	p.code, p.byUs = p.cmd.ProcessState.ExitCode(), p.killed.Load()
	p.kill()
	// Nobody should hold the other ends any longer; if somebody does, reading ends here.
	abandon := time.AfterFunc(time.Second, func() {
		pipes.out.r.Close()
		pipes.err.r.Close()
		pipes.status.r.Close()
	})
	readers.Wait()
	abandon.Stop()
	pipes.out.r.Close()
	pipes.err.r.Close()
	pipes.status.r.Close()
	p.host.died(p.cmd.Process.Pid)
	if err := os.RemoveAll(p.dir); err != nil {
		p.host.log(p.prog.Name).Warn("the working directory of a plugin is left", "error", err.Error())
	}
	close(p.exited)
}

// readStdout keeps the first line, and drops the rest.
func (p *process) readStdout(r io.Reader) {
	defer func() {
		select {
		case <-p.line:
		default:
			close(p.line)
		}
	}()
	buf := make([]byte, longestHandshake)
	n := 0
	for n < len(buf) {
		got, err := r.Read(buf[n:])
		if at := bytes.IndexByte(buf[n:n+got], '\n'); at >= 0 {
			p.first = buf[:n+at+1]
			break
		}
		n += got
		if err != nil {
			p.first = buf[:n]
			return
		}
	}
	if p.first == nil {
		p.first = buf[:n]
	}
	close(p.line)
	discard(r)
}

// discard reads in large pieces: what floods standard output should cost little.
func discard(r io.Reader) {
	io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 64<<10))
}

// readStatus learns why the plugin could not be run, if so.
func (p *process) readStatus(r io.Reader) {
	text, _ := io.ReadAll(io.LimitReader(r, 1<<10))
	if len(text) > 0 {
		reason := printable(string(text), 500)
		p.refuse.Store(&reason)
	}
	io.Copy(io.Discard, r)
}

// kill ends the plugin and all that it has started.
func (p *process) kill() {
	p.dead.Do(func() {
		p.killed.Store(true)
		p.end()
		p.host.work.Add(1) // the process is counted itself
		go func() {
			defer p.host.work.Done()
			select {
			case <-p.exited:
			case <-time.After(10 * time.Second):
				p.host.log(p.prog.Name).Error("the supervisor of a plugin does not end: killing it", "pid", p.cmd.Process.Pid)
				p.cmd.Process.Kill()
			}
		}()
	})
}

// reader is what go-plugin reads: one line, and no more.
type reader struct{ p *process }

// Read implements io.Reader.
func (r reader) Read(b []byte) (int, error) {
	<-r.p.line
	n := copy(b, r.p.first[r.p.read:])
	r.p.read += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements io.Closer.
func (reader) Close() error { return nil }

// Stdout implements runner.Runner.
func (p *process) Stdout() io.ReadCloser { return reader{p} }

// Stderr implements runner.Runner. The host reads the real one itself.
func (p *process) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name implements runner.Runner.
func (p *process) Name() string { return p.prog.Name }

// Diagnose implements runner.Runner.
func (p *process) Diagnose(context.Context) string { return "" }

// Wait implements runner.AttachedRunner.
func (p *process) Wait(context.Context) error {
	<-p.exited
	return nil
}

// Kill implements runner.AttachedRunner.
func (p *process) Kill(context.Context) error {
	if p.running() {
		p.kill()
	}
	return nil
}

// running reports whether the process has been started; it may have ended.
func (p *process) running() bool { return p.life != nil }

// ID implements runner.AttachedRunner.
func (p *process) ID() string { return strconv.Itoa(p.cmd.Process.Pid) }

// HostToPlugin implements runner.AddrTranslator.
func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// PluginToHost implements runner.AddrTranslator. It keeps the sidecar from being sent
// elsewhere than to the plugin.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	p.strayed = true
	switch network {
	case "unix":
		if !filepath.IsAbs(address) {
			address = filepath.Join(p.dir, address)
		}
		if filepath.Dir(filepath.Clean(address)) != p.dir {
			return "", "", errors.New("the socket is not in the working directory of the plugin")
		}
	case "tcp":
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			return "", "", errors.New("the address is not on the loopback interface")
		}
	default:
		return "", "", errors.New("the network is neither unix nor tcp")
	}
	p.strayed = false
	return network, address, nil
}

// environment is the plugin's: what go-plugin needs, the program's own, and defaults.
func (p *process) environment(handshake []string) []string {
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": p.dir, "TMPDIR": p.dir,
	}
	for name, value := range p.prog.Env {
		env[name] = value
	}
	for _, entry := range handshake {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	env["PLUGIN_UNIX_SOCKET_DIR"] = p.dir
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}
