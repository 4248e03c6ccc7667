package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends/testserver"
)

// asProgram makes the test binary the program itself.
const asProgram = "RUN_AS_SIDEVAULT"

func TestMain(m *testing.M) {
	if runPlugin() {
		return
	}
	// A plugin's supervisor is this program without its environment.
	if os.Getenv(asProgram) != "" || len(os.Args) > 1 && os.Args[1] == supervisorWord {
		main()
		return
	}
	os.Exit(testserver.Run(m))
}

// deadline bounds whatever a test waits for.
const deadline = 20 * time.Second

// invocation is a command line to run as a process of its own.
type invocation struct {
	env   []string
	stdin string
	dir   string
	args  []string
}

// outcome is what became of one.
type outcome struct {
	code     int
	out, err string
}

func (i invocation) command(ctx context.Context, t *testing.T) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, i.args...)
	cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GORACE=atexit_sleep_ms=0"}, i.env...)
	cmd.Stdin = strings.NewReader(i.stdin)
	cmd.Dir = i.dir
	return cmd
}

func (i invocation) run(t *testing.T) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := i.command(ctx, t)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func sidevault(t *testing.T, args ...string) outcome {
	t.Helper()
	return invocation{args: args}.run(t)
}

// wants fails the test unless the exit code is that, and the text holds the parts.
func (o outcome) wants(t *testing.T, code exitCode, parts ...string) {
	t.Helper()
	if o.code != int(code) {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", o.code, code, o.out, o.err)
	}
	for _, part := range parts {
		if !strings.Contains(o.out+o.err, part) {
			t.Errorf("%q is not in\nstdout: %s\nstderr: %s", part, o.out, o.err)
		}
	}
}

// makeVault makes a vault and returns its directory and the file with its admin
// key.
func makeVault(t *testing.T, more ...string) (dir, keyFile string) {
	t.Helper()
	base := t.TempDir()
	dir, keyFile = filepath.Join(base, "data"), filepath.Join(base, "admin.key")
	sidevault(t, append([]string{"init", "--data-dir", dir, "--admin-key-file", keyFile}, more...)...).wants(t, exitOK)
	return dir, keyFile
}

// process is a sidecar that a test has started.
type process struct {
	cmd     *exec.Cmd
	addr    string // of the first listener, for SIDEVAULT_ADDR
	keyFile string
	out     lockedBuffer
	log     lockedBuffer
	done    chan error
}

// lockedBuffer is written by a process while a test reads it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// serveVault makes a vault and serves it.
func serveVault(t *testing.T, more ...string) (*process, string) {
	t.Helper()
	dir, keyFile := makeVault(t)
	return startServe(t, keyFile, append([]string{"--data-dir", dir}, more...)...), dir
}

// startServe starts a sidecar and waits until it serves.
func startServe(t *testing.T, keyFile string, more ...string) *process {
	t.Helper()
	return startServeWith(t, keyFile, nil, more...)
}

func startServeWith(t *testing.T, keyFile string, env []string, more ...string) *process {
	t.Helper()
	args := []string{"serve"}
	if !strings.Contains(strings.Join(more, " "), "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	p := &process{keyFile: keyFile, done: make(chan error, 1)}
	p.cmd = invocation{env: env, args: append(append(args, "--log-format", "json"), more...)}.command(context.Background(), t)
	p.cmd.Stdout = &p.out
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	serving := make(chan []string, 1)
	go p.follow(stderr, serving)
	select {
	case addresses := <-serving:
		p.addr = addresses[0]
		if !strings.Contains(p.addr, "://") {
			p.addr = "http://" + p.addr
		}
	case err := <-p.done:
		p.done <- err
		t.Fatalf("serve ended: %v\n%s", err, &p.log)
	case <-time.After(deadline):
		t.Fatalf("serve does not come up\n%s", &p.log)
	}
	return p
}

// follow keeps the log, says when the sidecar serves, and waits for its end.
func (p *process) follow(stderr io.Reader, serving chan<- []string) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.log.Write(append(lines.Bytes(), '\n'))
		var line struct {
			Msg       string   `json:"msg"`
			Addresses []string `json:"addresses"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "sidevault is serving" {
			serving <- line.Addresses
		}
	}
	p.done <- p.cmd.Wait()
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
	p.done <- nil
}

// signalled sends a signal and waits for the end; it returns the exit code.
func (p *process) signalled(t *testing.T, s syscall.Signal) int {
	t.Helper()
	p.cmd.Process.Signal(s)
	return p.wait(t)
}

func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		p.done <- nil
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(deadline):
		t.Fatalf("serve does not end\n%s", &p.log)
		return -1
	}
}

// cli runs a client command against the sidecar.
func (p *process) cli(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	return invocation{
		env:   []string{addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile},
		stdin: stdin, args: args,
	}.run(t)
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if so() {
			return
		}
	}
	t.Fatalf("still not so: %s", what)
}

// writeFile writes a file that a test needs.
func writeFile(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
