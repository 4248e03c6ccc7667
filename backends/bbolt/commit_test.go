package bbolt

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
)

func newRequest(b backends.Batch) *request {
	return &request{batch: b, done: make(chan struct{})}
}

// TestGroup puts batches into one transaction: each is judged by what the ones
// before it left, and a refused one disturbs no other.
func TestGroup(t *testing.T) {
	b := open(t, newFile(t))
	events, err := b.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	half := put("half", 0, "lost")
	half.Changes = append(half.Changes, backends.Check("a", 9))
	half.Entries = [][]byte{[]byte("lost")}
	group := []*request{
		newRequest(put("a", 0, "one")),
		newRequest(put("a", 0, "conflict")),
		newRequest(half),
		newRequest(put("a", 1, "two")),
		newRequest(backends.Batch{Entries: [][]byte{[]byte("entry")}}),
		newRequest(put("b", 0, "three")),
	}
	id := transactions(t, b)
	b.commit(group)
	if n := transactions(t, b) - id; n != 1 {
		t.Errorf("%d transactions, want 1", n)
	}
	for i, want := range []backends.Revision{1, 0, 0, 2, 3, 4} {
		r := group[i]
		if conflict := errors.Is(r.err, backends.ErrConflict); r.revision != want || conflict != (want == 0) {
			t.Errorf("batch %d: revision %d, %v", i, r.revision, r.err)
		}
	}
	for _, want := range []backends.Revision{1, 2, 4} {
		if e := <-events; e.Revision != want {
			t.Errorf("event of revision %d, want %d", e.Revision, want)
		}
	}
	if h, err := b.Head(t.Context()); err != nil || h.Revision != 4 || h.Seq != 1 {
		t.Errorf("head %+v, %v", h, err)
	}

	b.commit([]*request{newRequest(put("a", 0, "conflict"))})
	if n := transactions(t, b) - id; n != 1 {
		t.Error("refused batches alone were committed")
	}
}

// transactions returns the number of the last one in the file.
func transactions(t *testing.T, b *Backend) (id int) {
	t.Helper()
	err := b.db.View(func(tx *bolt.Tx) error {
		id = tx.ID()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// holdCommitter keeps the committer in a transaction until the returned function
// is called.
func holdCommitter(t *testing.T, b *Backend) func() {
	t.Helper()
	tx, err := b.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	held := make(chan error)
	go func() {
		_, err := b.Commit(context.Background(), put("held", 0, ""))
		held <- err
	}()
	for b.calls.TryLock() { // until the call is under way
		b.calls.Unlock()
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	return func() {
		tx.Rollback()
		if err := <-held; err != nil {
			t.Errorf("Commit: %v", err)
		}
	}
}

func TestQueuedCommitsShareOneTransaction(t *testing.T) {
	b := open(t, newFile(t))
	id := transactions(t, b)
	release := holdCommitter(t, b)
	const writers = 20
	var done atomic.Int64
	for i := range writers {
		go func() {
			if _, err := b.Commit(context.Background(), put(fmt.Sprint(i), 0, "")); err != nil {
				t.Errorf("Commit: %v", err)
			}
			done.Add(1)
		}()
	}
	for len(b.queue) < writers {
		time.Sleep(time.Millisecond)
	}
	release()
	for done.Load() < writers {
		time.Sleep(time.Millisecond)
	}
	if n := transactions(t, b) - id; n != 2 {
		t.Errorf("%d transactions, want 2", n)
	}
}

func TestQueuedCommitIsGivenUp(t *testing.T) {
	b := open(t, newFile(t))
	release := holdCommitter(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	value := []byte("lost")
	_, err := b.Commit(ctx, backends.Batch{Changes: []backends.Change{backends.Put("a", 0, value)}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Commit: got %v", err)
	}
	value[0] = 'X' // the caller's again
	release()
	if _, err := b.Get(t.Context(), "a"); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("a batch that was given up was applied: %v", err)
	}
}

// TestCommitOutlivesContext ends the context when the transaction has begun.
func TestCommitOutlivesContext(t *testing.T) {
	b := open(t, newFile(t))
	tx, err := b.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := b.Commit(ctx, put("a", 0, "kept"))
		done <- err
	}()
	time.Sleep(300 * time.Millisecond) // the committer waits for the transaction by then
	cancel()
	time.Sleep(10 * time.Millisecond)
	tx.Rollback()
	if err := <-done; err != nil {
		t.Errorf("Commit: got %v", err)
	}
	if _, err := b.Get(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

// TestWriteError takes the file's descriptor away for a while, so that every write
// fails.
func TestWriteError(t *testing.T) {
	path := filledFile(t)
	b := open(t, path)
	before, err := b.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	restore := breakWrites(t, b)
	for range 3 {
		_, err := b.Commit(t.Context(), put("c", 0, "lost"))
		if !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("Commit: got %v", err)
		}
	}
	if h, err := b.Head(t.Context()); err != nil || h != before {
		t.Errorf("the head moved from %+v to %+v, %v", before, h, err)
	}
	restore()
	if rev, err := b.Commit(t.Context(), put("c", 0, "kept")); err != nil || rev != before.Revision+1 {
		t.Errorf("Commit: revision %d, %v", rev, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	checkPages(t, path)
}

func breakWrites(t *testing.T, b *Backend) (restore func()) {
	t.Helper()
	fd := int(b.file.Fd())
	saved, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	readable, err := syscall.Open(b.path, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(with int) {
		if err := syscall.Dup3(with, fd, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		syscall.Close(with)
	}
	replace(readable)
	return func() { replace(saved) }
}
