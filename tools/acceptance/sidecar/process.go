package sidecar

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// How long a process may take to answer, and to end.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 15 * time.Second
)

// Sidecar is a running sidevault serve.
type Sidecar struct {
	*Vault
	// URL is where it answers, as in http://127.0.0.1:40123.
	URL string

	t       testing.TB
	cmd     *exec.Cmd
	log     *Log
	done    chan struct{} // closed when the process has ended
	waitErr error         // of the process; read it after done
}

// Serve makes a vault and starts serving it, with further arguments for serve.
func (b *Binary) Serve(t testing.TB, args ...string) *Sidecar {
	t.Helper()
	return b.Init(t).Start(t, args...)
}

// Start serves the vault on a free loopback port with the log at debug level, and
// returns when it answers. It is stopped when the test ends, unless it has ended
// before.
func (v *Vault) Start(t testing.TB, args ...string) *Sidecar {
	t.Helper()
	s, err := v.TryStart(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TryStart is Start for tests of what keeps a sidecar from starting: the error
// quotes the log.
func (v *Vault) TryStart(t testing.TB, args ...string) (*Sidecar, error) {
	t.Helper()
	line := append([]string{"serve"}, v.Args("--listen", "127.0.0.1:0", "--log-level", "debug")...)
	s := &Sidecar{Vault: v, t: t, log: new(Log), done: make(chan struct{})}
	s.cmd = exec.Command(v.binary.path, withEnvironments(append(line, args...))...)
	s.cmd.Env = append(environment(t), v.binary.environ...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.waitErr = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(s.cleanup)
	if err := s.waitReady(); err != nil {
		return nil, err
	}
	return s, nil
}

var addressRE = regexp.MustCompile(`127\.0\.0\.1:([1-9][0-9]*)`)

// waitReady waits until the log has the address and the address answers.
func (s *Sidecar) waitReady() error {
	deadline := time.Now().Add(startTimeout)
	for time.Now().Before(deadline) {
		select {
		case <-s.done:
			return fmt.Errorf("sidevault serve ended at once: %v\n%s", s.waitErr, s.Log())
		case <-time.After(10 * time.Millisecond):
		}
		at := addressRE.FindString(s.Log())
		if at == "" {
			continue
		}
		s.URL = "http://" + at
		if resp, err := http.Get(s.URL + "/healthz"); err == nil {
			resp.Body.Close()
			return nil
		}
	}
	return fmt.Errorf("sidevault serve did not answer within %s\n%s", startTimeout, s.Log())
}

// Admin returns a client with the vault's first key.
func (s *Sidecar) Admin() *Client { return s.Client(s.AdminKey) }

// Client returns a client with that API key; "" sends none.
func (s *Sidecar) Client(key string) *Client {
	return NewClient(s.t, s.URL, key, s.binary.transport)
}

// Run runs a client command of the command line against the sidecar, with the
// admin's key.
func (s *Sidecar) Run(input string, args ...string) Outcome {
	s.t.Helper()
	return s.binary.Run(s.t, input, []string{"SIDEVAULT_ADDR=" + s.URL, "SIDEVAULT_TOKEN=" + s.AdminKey}, args...)
}

// Log returns what the process has written so far, to either output.
func (s *Sidecar) Log() string { return s.log.String() }

// PID is the process's ID.
func (s *Sidecar) PID() int { return s.cmd.Process.Pid }

// Signal sends the process a signal.
func (s *Sidecar) Signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatal(err)
	}
}

// Kill ends the process as kill -9 does, and returns when it has ended.
func (s *Sidecar) Kill() {
	s.t.Helper()
	s.Signal(syscall.SIGKILL)
	<-s.done
}

// Stop sends SIGTERM and waits for the end. It returns how long that took; an
// exit code other than 0 fails the test.
func (s *Sidecar) Stop() time.Duration {
	s.t.Helper()
	start := time.Now()
	s.Signal(syscall.SIGTERM)
	if !s.Ended(stopTimeout) {
		s.Kill()
		s.t.Fatalf("sidevault did not end within %s of SIGTERM\n%s", stopTimeout, s.Log())
	}
	if s.waitErr != nil {
		s.t.Errorf("sidevault ended with %v\n%s", s.waitErr, s.Log())
	}
	return time.Since(start)
}

// Ended reports whether the process ends within that time.
func (s *Sidecar) Ended(within time.Duration) bool {
	select {
	case <-s.done:
		return true
	case <-time.After(within):
		return s.hasEnded()
	}
}

func (s *Sidecar) hasEnded() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *Sidecar) cleanup() {
	if !s.hasEnded() {
		s.Stop()
	}
	failOnRace(s.t, s.Log())
	if strings.Contains(s.Log(), "panic while handling") {
		s.t.Errorf("sidevault had a panic:\n%s", s.Log())
	}
}

// Log collects what a process writes, for a test to read meanwhile.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
