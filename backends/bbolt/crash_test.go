package bbolt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sidevault/sidevault/backends"
)

// childVariable makes the test binary play another process: its value names the
// part, the one after it the path.
const childVariable = "BBOLT_TEST_CHILD"

func TestMain(m *testing.M) {
	play := map[string]func(path string) error{
		"write": writeUntilKilled, "create": createUntilKilled, "full": fillDisk,
	}[os.Getenv(childVariable)]
	if play == nil {
		goleak.VerifyTestMain(m)
		return
	}
	if err := play(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, part, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe, path)
	c.Env = append(os.Environ(), childVariable+"="+part)
	return c
}

// writeUntilKilled increments one counter per goroutine, and prints what was
// acknowledged.
func writeUntilKilled(path string) error {
	b, err := Open(path, nil)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for i := range 4 {
		go func() { errs <- count(b, i) }()
	}
	return <-errs
}

func count(b *Backend, i int) error {
	key := strconv.Itoa(i)
	r, err := b.Get(context.Background(), key)
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		return err
	}
	n, _ := strconv.Atoi(string(r.Value))
	for {
		n++
		batch := put(key, r.Revision, strconv.Itoa(n))
		batch.Entries = [][]byte{[]byte(key)}
		if r.Revision, err = b.Commit(context.Background(), batch); err != nil {
			return err
		}
		os.Stdout.WriteString(fmt.Sprintf("%d %d\n", i, n))
	}
}

// TestKilled kills a writer again and again: what it was told to be stored must
// be there, and the log must be whole.
func TestKilled(t *testing.T) {
	path := newFile(t)
	for round := range 6 {
		acknowledged := killWriter(t, path, time.Duration(20+30*round)*time.Millisecond)
		b := open(t, path)
		stored := 0
		for i, n := range acknowledged {
			r, err := b.Get(t.Context(), strconv.Itoa(i))
			if got, _ := strconv.Atoi(string(r.Value)); n > 0 && (err != nil || got < n) {
				t.Errorf("counter %d: %d was acknowledged, %d is stored, %v", i, n, got, err)
			} else {
				stored += got
			}
		}
		checkChain(t, b, stored)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		checkPages(t, path)
	}
}

func killWriter(t *testing.T, path string, after time.Duration) (acknowledged [4]int) {
	t.Helper()
	c := child(t, "write", path)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if after > 0 {
			time.AfterFunc(after, func() { c.Process.Kill() })
			after = 0
		}
		var i, n int
		if _, err := fmt.Sscan(lines.Text(), &i, &n); err == nil {
			acknowledged[i] = n
		}
	}
	if c.Wait(); stderr.Len() > 0 {
		t.Fatalf("the writer said %s", &stderr)
	}
	return acknowledged
}

func checkChain(t *testing.T, b *Backend, want int) {
	t.Helper()
	var last backends.Entry
	for {
		page, err := b.Log(t.Context(), last.Seq, backends.MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if err := e.Follows(last.Seq, last.Hash); err != nil {
				t.Fatal(err)
			}
			last = e
		}
		if len(page) < backends.MaxPage {
			break
		}
	}
	if last.Seq != uint64(want) {
		t.Errorf("the counters add up to %d, the log has %d entries", want, last.Seq)
	}
}

func createUntilKilled(path string) error {
	for i := 0; ; i++ {
		fmt.Println(i)
		if err := Create(fmt.Sprint(path, ".", i)); err != nil {
			return err
		}
	}
}

// TestKilledCreating kills a process that creates files: each is whole or not there.
func TestKilledCreating(t *testing.T) {
	for round := range 5 {
		path := filepath.Join(newDir(t), "vault.db")
		c := child(t, "create", path)
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(30+7*round)*time.Millisecond, func() { c.Process.Kill() })
		io.Copy(io.Discard, out)
		c.Wait()
		made, _ := filepath.Glob(path + ".*")
		for _, path := range made[max(0, len(made)-50):] {
			b, err := Open(path, nil)
			if err != nil {
				t.Errorf("half-made: %v", err)
				continue
			}
			b.Close()
		}
	}
}

// TestFullDisk runs fillDisk in a mount name space of its own, so that the small
// file system disappears with the process.
func TestFullDisk(t *testing.T) {
	c := child(t, "full", newDir(t))
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := c.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM), bytes.Contains(out, []byte("cannot mount")):
		t.Skipf("this machine lets nobody mount a small file system: %v %s", err, out)
	case err != nil:
		t.Errorf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}
