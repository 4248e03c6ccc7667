// Package testserver runs the storage servers that tests need: real ones, on free
// ports of the loopback interface, with data in a directory of their own. They end
// with the test, and with the test binary whatever becomes of it.
//
// It is for tests only, and it never skips: where a server's program is missing it
// fails the test and says what to install.
package testserver

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// shared is what Run stops: servers that outlive the test that started them.
var shared struct {
	sync.Mutex
	cluster  *Cluster
	postgres *PostgresServer
	stops    []func()
}

// Run runs the tests of a package, then stops the shared servers, and fails if a
// goroutine is left. Its TestMain
// calls it:
//
//	func TestMain(m *testing.M) { os.Exit(testserver.Run(m)) }
func Run(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	for _, stop := range shared.stops {
		stop()
	}
	if code == 0 {
		code = leaked()
	}
	return code
}

// leaked reports the goroutines that the tests have left.
func leaked() int {
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines were left:", err)
		return 1
	}
	return 0
}

// tool finds a program that make tools builds.
func tool(name string) (string, error) {
	places := []string{os.Getenv("SIDEVAULT_TOOLS")}
	if dir, err := os.Getwd(); err == nil {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			places = append(places, filepath.Join(dir, ".tools"))
		}
	}
	for _, dir := range places {
		if path := filepath.Join(dir, name); dir != "" && executable(path) {
			return path, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%s is not in $SIDEVAULT_TOOLS, .tools or PATH: run make tools", name)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// freePorts returns n TCP ports of the loopback interface that nobody listens on.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed when it has ended
}

// start runs the program until it is stopped, or until the test binary dies.
func start(path string, args ...string) (*process, error) {
	return startAs(nil, path, args...)
}

// startAs is start as another user, unless as is nil.
func startAs(as *syscall.Credential, path string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(path, args...), out: &output{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "LC_ALL=C"}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: as}
	started := make(chan error)
	go func() {
		// The death signal is tied to the thread that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
		}
		close(p.done)
	}()
	return p, <-started
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop sends the signal, waits, and kills the process if it does not end.
func (p *process) stop(with syscall.Signal) {
	p.cmd.Process.Signal(with)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// output keeps the end of what a server prints.
type output struct {
	mu   sync.Mutex
	text []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, p...)
	o.text = o.text[max(0, len(o.text)-64<<10):]
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(o.text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
}
