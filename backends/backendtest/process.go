package backendtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/sidevault/sidevault/backends"
)

// What a child process finds in its environment.
const (
	childAddress = "BACKENDTEST_CHILD_ADDRESS"
	childName    = "BACKENDTEST_CHILD_NAME"
)

// increments is how many each process makes.
const increments = 100

// Child is for the TestMain of a driver whose Options have an Address. In the
// processes that the suite starts it does their part and ends them; in the test's own
// process it returns.
//
//	func TestMain(m *testing.M) {
//		backendtest.Child(func(address string) (backends.Backend, error) { return mydriver.Open(address) })
//		os.Exit(m.Run())
//	}
func Child(open func(address string) (backends.Backend, error)) {
	address := os.Getenv(childAddress)
	if address == "" {
		return
	}
	b, err := open(address)
	if err == nil {
		err = errors.Join(incrementAll(context.Background(), b, os.Getenv(childName)), b.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// incrementAll increments one counter, and notes each time in the log, from a few
// goroutines at once.
func incrementAll(ctx context.Context, b backends.Backend, name string) error {
	const workers = 4
	failed := make(chan error, workers)
	for i := range workers {
		go func() {
			var err error
			for n := 0; n < increments/workers && err == nil; n++ {
				err = incrementOne(ctx, b, fmt.Sprint(name, ".", i))
			}
			failed <- err
		}()
	}
	var err error
	for range workers {
		err = errors.Join(err, <-failed)
	}
	return err
}

func incrementOne(ctx context.Context, b backends.Backend, who string) error {
	for {
		r, err := b.Get(ctx, "counter")
		if err != nil && !errors.Is(err, backends.ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(r.Value))
		own, err := b.Get(ctx, "own/"+who)
		if err != nil && !errors.Is(err, backends.ErrNotFound) {
			return err
		}
		_, err = b.Commit(ctx, backends.Batch{
			Changes: []backends.Change{
				backends.Put("counter", r.Revision, []byte(strconv.Itoa(n+1))),
				backends.Put("own/"+who, own.Revision, fmt.Append(nil, n+1)),
			},
			Entries: [][]byte{fmt.Appendf(nil, "%d by %s", n+1, who), []byte("and one more")},
		})
		if !errors.Is(err, backends.ErrConflict) {
			return err
		}
	}
}

// testProcesses lets two processes and this one increment one counter, and reads from
// the log that every value was reached once, in order, without a gap in the chain.
func testProcesses(u *subject) {
	open, address := u.suite.Address(u.T)
	u.Backend.Close()
	u.open = open
	u.Backend = u.mustOpen()
	var children sync.WaitGroup
	for i := range 2 {
		children.Go(func() {
			if out, err := child(u.T, address, fmt.Sprint("child", i)); err != nil {
				u.Errorf("child %d: %v: %s", i, err, out)
			}
		})
	}
	if err := incrementAll(u.Context(), u.Backend, "parent"); err != nil {
		u.Errorf("parent: %v", err)
	}
	children.Wait()
	log := u.chain(100)
	if len(log) != 2*3*increments {
		u.Fatalf("%d log entries, want %d", len(log), 2*3*increments)
	}
	for i := 0; i < len(log); i += 2 {
		var n int
		var who string
		if _, err := fmt.Sscanf(string(log[i].Body), "%d by %s", &n, &who); err != nil || n != i/2+1 || string(log[i+1].Body) != "and one more" {
			u.Fatalf("entries %d and %d read %q and %q, want increment %d", i+1, i+2, log[i].Body, log[i+1].Body, i/2+1)
		}
	}
	if r, err := u.Get(u.Context(), "counter"); err != nil || string(r.Value) != strconv.Itoa(3*increments) {
		u.Errorf("the counter is %s, %v; want %d", r.Value, err, 3*increments)
	}
}

// child runs this test binary once more, for its Child alone.
func child(t *testing.T, address, name string) ([]byte, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^$")
	cmd.Env = append(os.Environ(), childAddress+"="+address, childName+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.CombinedOutput()
}
