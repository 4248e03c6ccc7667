package bbolt

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// swallow puts a device in the place of the file that takes every write, keeps none and
// refuses to synchronize: what a failing disk looks like from here. It lasts until the
// file is opened anew.
func swallow(t *testing.T, b *Backend) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := syscall.Dup3(int(null.Fd()), int(b.file.Fd()), syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// hide takes the file out of reach of whoever wants to open it anew.
func hide(t *testing.T, path string) (show func()) {
	t.Helper()
	rename := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	rename(path, path+".hidden")
	return func() { rename(path+".hidden", path) }
}

// eventually calls a function until it returns nil.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * doubtPause)
	for err := try(); err != nil; err = try() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

// roomyFile returns a vault whose next commits need not grow the file.
func roomyFile(t *testing.T) (string, *Backend) {
	t.Helper()
	path := newFile(t)
	b := open(t, path)
	for i := range 3 {
		if _, err := b.Commit(t.Context(), put("a", backends.Revision(i), string(make([]byte, 60_000)))); err != nil {
			t.Fatal(err)
		}
	}
	return path, b
}

// TestFailedSync: after a synchronization that failed nothing is acknowledged, whatever
// the next one says, until the file was opened anew; reads and watches go on.
func TestFailedSync(t *testing.T) {
	path, b := roomyFile(t)
	before, err := b.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events, err := b.Watch(t.Context(), before.Revision)
	if err != nil {
		t.Fatal(err)
	}
	show := hide(t, path)
	swallow(t, b)
	for range 3 {
		if _, err := b.Commit(t.Context(), put("c", 0, "lost")); !errors.Is(err, backends.ErrUnavailable) || errors.Is(err, backends.ErrUnknownOutcome) {
			t.Errorf("Commit: got %v", err)
		}
	}
	if b.doubt.Load() == nil {
		t.Fatal("the backend trusts a file whose synchronization failed")
	}
	if _, err := b.Get(t.Context(), "a"); err != nil {
		t.Errorf("Get: %v", err)
	}
	if h, err := b.Head(t.Context()); err != nil || h != before {
		t.Errorf("the head moved from %+v to %+v, %v", before, h, err)
	}
	show()
	eventually(t, func() error { _, err := b.Commit(t.Context(), put("c", 0, "kept")); return err })
	if e := <-events; e.Revision != before.Revision+1 {
		t.Errorf("an event of revision %d, want %d", e.Revision, before.Revision+1)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	checkPages(t, path)
	if r, err := open(t, path).Get(t.Context(), "c"); err != nil || string(r.Value) != "kept" {
		t.Errorf("opened again: %v", err)
	}
}

// TestUnknownOutcome plays a transaction whose pointer was written and may not have
// reached the disk: nobody is told either way until the file was opened anew.
func TestUnknownOutcome(t *testing.T) {
	path := newFile(t)
	b := open(t, path)
	before, err := b.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events, err := b.Watch(t.Context(), before.Revision)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, b, "a")
	show := hide(t, path)
	err = b.settle(syscall.EIO, before)
	if !errors.Is(err, backends.ErrUnknownOutcome) || !errors.Is(err, syscall.EIO) || errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	_, getErr := b.Get(t.Context(), "a")
	_, commitErr := b.Commit(t.Context(), put("b", 0, ""))
	for _, err := range []error{getErr, commitErr} {
		if !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("afterwards: got %v, want %v", err, backends.ErrUnavailable)
		}
	}
	show()
	b.queue <- newRequest(put("b", 0, "")) // as the one that the committer had met it with
	eventually(t, func() error { _, err := b.Get(t.Context(), "a"); return err })
	if _, open := <-events; open {
		t.Error("a watcher goes on without the event of the commit")
	}
	if _, err := b.Watch(t.Context(), before.Revision); !errors.Is(err, backends.ErrCompacted) {
		t.Errorf("Watch from before: got %v", err)
	}
	if _, err := b.Commit(t.Context(), put("b", 0, "")); err != nil {
		t.Errorf("Commit: %v", err)
	}
}

// apply puts a key without anybody being told.
func apply(t *testing.T, b *Backend, key string) {
	t.Helper()
	err := b.update(func(s buckets) error {
		head, err := readHead(s.meta)
		if err != nil {
			return err
		}
		if err := s.apply(newRequest(put(key, 0, "one")), &head); err != nil {
			return err
		}
		return s.putHead(head)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestReplacedFile puts another file under the name while the disk is in doubt: it is
// not written to.
func TestReplacedFile(t *testing.T) {
	path, b := roomyFile(t)
	swallow(t, b)
	hide(t, path)
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(t.Context(), put("c", 0, "lost")); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("Commit: got %v", err)
	}
	if err := b.reopen(); err == nil {
		t.Error("another file was taken for the vault")
	}
	if _, err := b.Get(t.Context(), "a"); err != nil {
		t.Errorf("Get: %v", err)
	}
}
