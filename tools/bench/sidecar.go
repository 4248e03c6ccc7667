package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// How long a process may take to answer, and to end.
const (
	startTimeout = time.Minute
	stopTimeout  = 15 * time.Second
)

// build builds the program as it is released.
func build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "sidevault")
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "./cmd/sidevault")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sidevault: %w\n%s", err, out)
	}
	return path, nil
}

const product = "github.com/sidevault/sidevault"

// sidecar is a running sidevault serve.
type sidecar struct {
	cmd     *exec.Cmd
	address string        // of TCP
	socket  string        // path of the Unix socket
	took    time.Duration // from its start to its first answer
	log     *tail

	cacheSize float64 // in MiB
	ended     chan error
}

// serve starts a sidecar on a free loopback port and on a Unix socket, and returns
// when it has answered once.
func (v *store) serve(ctx context.Context, program string, args ...string) (*sidecar, error) {
	s := &sidecar{socket: filepath.Join(v.dir, "sidevault.sock"), log: new(tail), ended: make(chan error, 1), cacheSize: v.cacheSize()}
	line := append([]string{"serve", "--data-dir", v.data(), "--listen", "127.0.0.1:0,unix://" + s.socket, "--environments", environments}, args...)
	s.cmd = exec.Command(program, append(line, v.storageArgs()...)...)
	s.cmd.Env = []string{"HOME=" + v.dir, "PATH=" + os.Getenv("PATH")}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	go func() {
		s.log.follow(stderr, address)
		s.ended <- s.cmd.Wait()
	}()
	select {
	case s.address = <-address:
	case err := <-s.ended:
		return nil, fmt.Errorf("sidevault serve ended at once: %w\n%s", err, s.log)
	case <-time.After(startTimeout):
		return nil, errors.Join(fmt.Errorf("sidevault serve did not answer within %s\n%s", startTimeout, s.log), s.cmd.Process.Kill())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.cmd.Process.Kill())
	}
	if err := s.get(ctx, "/readyz", "", io.Discard); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.took = time.Since(start)
	return s, nil
}

// get reads the answer to a GET into to.
func (s *sidecar) get(ctx context.Context, path, key string, to io.Writer) error {
	resp, err := s.send(ctx, path, key)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: the sidecar answered with status %d", path, resp.StatusCode)
	}
	_, err = io.Copy(to, resp.Body)
	return err
}

func (s *sidecar) send(ctx context.Context, path, key string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, nil)
	if err != nil {
		return nil, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	return http.DefaultClient.Do(req)
}

// stop ends the sidecar, in the way that flushes its audit.
func (s *sidecar) stop() error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case err := <-s.ended:
		if err != nil {
			return fmt.Errorf("sidevault serve ended with: %w\n%s", err, s.log)
		}
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(errors.New("sidevault serve did not end"), s.cmd.Process.Kill())
	}
}

// memory is what the process has in memory, in MiB. Anonymous memory is its own; the
// rest is pages of the vault's file and the program's, which the system can take back.
type memory struct{ resident, anonymous, peak float64 }

func (s *sidecar) memory() (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return memory{}, err
	}
	mebibytes := func(name string) float64 {
		m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(status)
		if m == nil {
			return 0
		}
		n, _ := strconv.ParseFloat(string(m[1]), 64)
		return n / 1024
	}
	return memory{mebibytes("VmRSS"), mebibytes("RssAnon"), mebibytes("VmHWM")}, nil
}

// quiet waits that long, and then until the process has hardly used a processor for a
// tenth of a second.
func (s *sidecar) quiet(settle time.Duration) error {
	const most, hardly = 4 * time.Second, 1 // ticks
	time.Sleep(settle)
	used, err := ticks(s.cmd.Process.Pid)
	for start := time.Now(); err == nil && time.Since(start) < most; {
		time.Sleep(min(settle, 100*time.Millisecond))
		before := used
		if used, err = ticks(s.cmd.Process.Pid); used-before <= hardly {
			break
		}
	}
	return err
}

// tick is the unit of processor times in /proc, on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// ticks is the processor time that a process has used (proc(5): utime and stime).
func ticks(pid int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, errors.New("/proc has no processor time")
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return user + system, err
}

// tail keeps the end of what a process logs.
type tail struct {
	mu    sync.Mutex
	lines [][]byte
}

const tailLines = 20

var servingRE = regexp.MustCompile(`sidevault is serving.*?127\.0\.0\.1:([1-9][0-9]*)`)

// follow reads a log to its end, and sends the address that it says to be served.
func (t *tail) follow(r io.Reader, address chan<- string) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if m := servingRE.FindSubmatch(lines.Bytes()); m != nil {
			address <- "127.0.0.1:" + string(m[1])
		}
		t.mu.Lock()
		t.lines = append(t.lines, bytes.Clone(lines.Bytes()))
		t.lines = t.lines[max(0, len(t.lines)-tailLines):]
		t.mu.Unlock()
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.Join(t.lines, []byte("\n")))
}
