package bbolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/internal/feed"
)

// doubtPause is how long after a failed synchronization, and after an attempt to open
// the file anew, the next attempt is made.
const doubtPause = 250 * time.Millisecond

// doubt is that it is not known what the disk has. After a failed synchronization Linux
// takes the pages for written and reports success the next time, so that a second one
// proves nothing.
type doubt struct {
	err   error
	reads bool // what would be read may not be on the disk, either
}

// clean reports whether a transaction failed before anything was to be synchronized:
// bbolt passes on what writing a page says as a PathError, what growing the file says as
// a text, and what synchronizing says as the bare number.
func clean(cause error) bool {
	path, ok := errors.AsType[*fs.PathError](cause)
	return ok && path.Op == "write" || strings.HasPrefix(cause.Error(), "file resize error")
}

// resolveDoubt opens the file anew, or leaves the doubt as it is.
func (b *Backend) resolveDoubt() {
	if b.unwritable.Load() != nil || b.unusable.Load() != nil {
		return
	}
	was := b.doubt.Load()
	if err := b.reopen(); err != nil {
		b.doubt.Store(&doubt{reads: was.reads || b.db == nil, err: b.notKept(err)})
		return
	}
	b.doubt.Store(nil)
}

func (b *Backend) notKept(cause error) error {
	return fmt.Errorf("%s: %w: the disk did not keep what was written; changes go on when the file can be written and read anew: %w",
		b.path, backends.ErrUnavailable, cause)
}

// reopen writes the pointers to the last state again and has them synchronized, opens
// the file anew, and reads all of it from the disk. Every other page that the
// state consists of was synchronized before the pointer to it was written. As long
// as the disk does not take the pointers, the old handle serves reads.
func (b *Backend) reopen() error {
	f, err := openFile(b.path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !os.SameFile(info, b.info) {
		return errors.Join(errors.New("another file took its place: start sidevault again"), err)
	}
	if err := renew(f, b.page); err != nil {
		return err
	}
	if err := b.replace(f); err != nil {
		return err
	}
	if err := b.readAll(); err != nil {
		b.unwritable.Store(&err)
		return err
	}
	return nil
}

// replace opens the file anew in place of the old handle.
func (b *Backend) replace(f *os.File) error {
	b.engine.Lock()
	defer b.engine.Unlock()
	if b.db != nil {
		b.db.Close() // what it has to say of a failing disk was said
		b.db = nil
	}
	forget(f)
	head, err := b.attach(&Options{})
	if errors.Is(err, backends.ErrCorrupt) {
		b.unusable.Store(&err)
	}
	if err != nil {
		return err
	}
	if head.Revision != b.last {
		// Watchers do not know what the commit whose outcome was unknown has changed.
		b.feed.Close()
		b.feed, b.last = feed.New(head.Revision), head.Revision
	}
	return nil
}

// readAll reads every page that holds something.
func (b *Backend) readAll() error {
	parts := map[string]func(k, v []byte) error{
		bucketRecords: func(k, v []byte) error { _, err := parseRecord(string(k), v); return err },
		bucketLog:     func(k, v []byte) error { _, err := parseEntry(k, v); return err },
	}
	for name, check := range parts {
		if err := b.read(name, func(bucket *bolt.Bucket) error { return bucket.ForEach(check) }); err != nil {
			return err
		}
	}
	return nil
}

// renew writes the first two pages again as they are and waits for the disk. They hold
// nothing but the pointers, each within one sector.
func renew(f *os.File, page int) error {
	pointers := make([]byte, 2*page)
	if _, err := f.ReadAt(pointers, 0); err != nil {
		return err
	}
	if _, err := f.WriteAt(pointers, 0); err != nil {
		return err
	}
	return f.Sync()
}
