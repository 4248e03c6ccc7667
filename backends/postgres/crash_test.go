package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/backendtest"
	"github.com/sidevault/sidevault/backends/testserver"
)

// childVariable makes the test binary play another process: its value is that one's
// name. The argument is the URL.
const childVariable = "POSTGRES_TEST_CHILD"

func TestMain(m *testing.M) {
	backendtest.Child(func(address string) (backends.Backend, error) { return Open(context.Background(), address, nil) })
	name := os.Getenv(childVariable)
	if name == "" {
		os.Exit(testserver.Run(m))
	}
	b, err := Open(context.Background(), os.Args[1], nil)
	if err == nil {
		err = countAlone(b, name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child is another process at work on the same storage.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines []string // what it printed, complete after wait
	read  sync.WaitGroup
	errs  strings.Builder
}

func startChild(t *testing.T, at, name string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.CommandContext(t.Context(), exe, at)}
	c.cmd.Env = append(os.Environ(), childVariable+"="+name)
	c.cmd.Stderr = &c.errs
	c.stdin, err = c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.read.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines = append(c.lines, s.Text())
		}
	})
	return c
}

// wait tells the child to stop and waits for it.
func (c *child) wait(t *testing.T) {
	t.Helper()
	c.stdin.Close()
	c.read.Wait()
	if err := c.cmd.Wait(); err != nil || c.errs.Len() > 0 {
		t.Errorf("the child: %v: %s", err, &c.errs)
	}
}

// untilTold ends when the parent closes standard input.
func untilTold() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}

// countAlone increments counters of its own, one log entry for each increment, and
// prints what was acknowledged. It goes on while the storage is away.
func countAlone(b *Backend, name string) error {
	told := untilTold()
	errs := make(chan error)
	for i := range 4 {
		go func() { errs <- countOne(told, b, fmt.Sprintf("%s.%d", name, i)) }()
	}
	var all error
	for range 4 {
		all = errors.Join(all, <-errs)
	}
	return all
}

func countOne(told context.Context, b *Backend, key string) error {
	var at backends.Revision
	for n := 1; told.Err() == nil; {
		body := fmt.Sprint(key, " ", n)
		batch := put(key, at, strconv.Itoa(n))
		batch.Entries = [][]byte{[]byte(body)}
		rev, err := b.Commit(context.Background(), batch)
		switch {
		case errors.Is(err, backends.ErrUnknownOutcome), errors.Is(err, backends.ErrUnavailable):
			unknown := errors.Is(err, backends.ErrUnknownOutcome)
			r, found := settled(b, key)
			if applied := found == strconv.Itoa(n); applied && !unknown {
				return fmt.Errorf("%s was applied, though: %w", body, err)
			} else if !applied {
				continue
			}
			rev = r
		case err != nil:
			return err
		}
		at = rev
		os.Stdout.WriteString(body + "\n")
		n++
	}
	return nil
}

// settled reads until the storage answers.
func settled(b *Backend, key string) (backends.Revision, string) {
	for {
		r, err := b.Get(context.Background(), key)
		if err == nil || errors.Is(err, backends.ErrNotFound) {
			return r.Revision, string(r.Value)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestKilled kills the server under load from two processes, again and again: what
// was acknowledged is there, nothing was applied twice or by half, and those that
// write and watch go on by themselves.
func TestKilled(t *testing.T) {
	s := testserver.StartPostgres(t, testserver.PostgresConfig{})
	at := s.URL(s.NewDatabase(t), testserver.PostgresOwner)
	b := open(t, at, nil)
	f := &follower{b: b}
	children := []*child{startChild(t, at, "one"), startChild(t, at, "two")}
	for range 3 {
		time.Sleep(700 * time.Millisecond)
		s.Kill()
		if _, err := b.Head(t.Context()); !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("Head of a killed server: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
		s.Start(t)
	}
	time.Sleep(500 * time.Millisecond)
	for _, c := range children {
		c.wait(t)
	}
	h, err := b.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.until(t, h.Revision, 0)
	f.consecutive(t, 1, h.Revision)
	checkCounts(t, b, append(children[0].lines, children[1].lines...))
}

// checkCounts compares the log, which must have each increment once and in order,
// with what was acknowledged.
func checkCounts(t *testing.T, b *Backend, acknowledged []string) {
	t.Helper()
	logged := map[string]int{}
	var after uint64
	for {
		page, err := b.Log(t.Context(), after, backends.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			after = e.Seq
			key, n, _ := strings.Cut(string(e.Body), " ")
			if logged[key]++; n != strconv.Itoa(logged[key]) {
				t.Fatalf("entry %d is %q after increment %d", e.Seq, e.Body, logged[key]-1)
			}
		}
		if len(page) < backends.MaxPage {
			break
		}
	}
	for _, line := range acknowledged {
		key, text, _ := strings.Cut(line, " ")
		if n, _ := strconv.Atoi(text); n == 0 || n > logged[key] {
			t.Errorf("%s was acknowledged, the log has %d", line, logged[key])
		}
	}
	for key, n := range logged {
		if r, err := b.Get(t.Context(), key); err != nil || string(r.Value) != strconv.Itoa(n) {
			t.Errorf("%s is %s, %v; the log has %d", key, r.Value, err, n)
		}
	}
	if total := checkChain(t, b); total < 50 || len(acknowledged) < 50 {
		t.Errorf("only %d increments, %d acknowledged", total, len(acknowledged))
	}
	t.Logf("%d increments were acknowledged", len(acknowledged))
}
