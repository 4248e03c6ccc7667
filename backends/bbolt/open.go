package bbolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/internal/feed"
)

// defaultLockTimeout leaves a predecessor that is shutting down time to let go.
const defaultLockTimeout = time.Second

// Options are the optional settings of [Open].
type Options struct {
	// ReadOnly opens the file for inspection: commits fail, the file and its
	// directory may be read-only, and other readers may have it open too.
	ReadOnly bool

	// LockTimeout is how long to wait for another process to let go of the
	// file. The default is one second.
	LockTimeout time.Duration
}

// Open opens the vault file at path, which [Create] has made. Its error is one
// sentence that names the path and says what to do.
func Open(path string, o *Options) (*Backend, error) {
	if o == nil {
		o = &Options{}
	}
	b := &Backend{path: path, readOnly: o.ReadOnly}
	if err := b.open(o); err != nil {
		return nil, err
	}
	b.least.Store(mappedFiles())
	b.queue = make(chan *request, maxGroup)
	b.committed = make(chan struct{})
	go b.committer()
	return b, nil
}

// open looks at the file through a reading handle first: bbolt's writing one
// changes some files merely by opening them, and they might be foreign.
func (b *Backend) open(o *Options) error {
	if err := checkPlace(b.path, o.ReadOnly); err != nil {
		return err
	}
	look := *o
	look.ReadOnly = true
	head, err := b.attach(&look)
	if err == nil && !o.ReadOnly {
		if err := b.db.Close(); err != nil {
			return describe(b.path, err)
		}
		if head, err = b.attach(o); err == nil {
			err = b.settleLast()
		}
	}
	b.feed, b.last = feed.New(head.Revision), head.Revision
	return err
}

// settleLast brings to the disk what a process that was killed, or that met a failing
// disk, may have left to the system's write cache: before it is shown to anyone it
// must be there.
func (b *Backend) settleLast() error {
	if err := renew(b.file, b.page); err != nil {
		b.db.Close()
		return describe(b.path, err)
	}
	return nil
}

// attach opens the file with bbolt and checks that it is a vault's.
func (b *Backend) attach(o *Options) (head backends.Head, err error) {
	defer b.guard(&err, func(reason error) {
		err = refuse(backends.ErrCorrupt, "%v: restore it from a backup", reason)
		if b.file != nil {
			b.abandon()
		}
	})()
	b.db, err = bolt.Open(b.path, 0, b.engineOptions(o))
	if err != nil {
		return backends.Head{}, explain(b.path, err)
	}
	b.page = b.db.Info().PageSize
	if head, err = b.inspect(!o.ReadOnly); err != nil {
		b.db.Close()
		b.db = nil
	}
	return head, err
}

// engineOptions returns bbolt's. The free list is kept in the file, as bbolt does
// by default: without it, opening scans every page (0.4 s for a million records,
// in a goroutine whose panics nobody can catch), and so does recovering from a
// full disk. It is an array: as a hash map it is sorted anew for every commit,
// which with 42,000 free pages made a commit five times as slow.
func (b *Backend) engineOptions(o *Options) *bolt.Options {
	timeout := o.LockTimeout
	if timeout == 0 {
		timeout = defaultLockTimeout
	}
	return &bolt.Options{
		Timeout:      timeout,
		ReadOnly:     o.ReadOnly,
		FreelistType: bolt.FreelistArrayType,
		NoStatistics: true,
		OpenFile: func(path string, flag int, _ os.FileMode) (f *os.File, err error) {
			b.file, err = openFile(path, flag)
			return b.file, err
		},
	}
}

// openFile opens an existing regular file of the caller's own. What checkPlace
// saw may have changed since; this looks at the file that was opened.
func openFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag&^os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = checkFile(path, info, flag&os.O_RDWR == 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// inspect checks the marker and the version, for use also what must add up, and
// returns the head. For reading only, a log that does not end where it should is
// opened: whoever looks for what was done to it must see it.
func (b *Backend) inspect(forUse bool) (h backends.Head, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		if b.info, err = b.file.Stat(); err != nil {
			return describe(b.path, err)
		}
		if size := b.info.Size(); size < tx.Size() {
			return refuse(backends.ErrCorrupt, "%s is cut short: it has %d of %d bytes, restore it from a backup", b.path, size, tx.Size())
		}
		if err := checkFormat(b.path, tx); err != nil {
			return err
		}
		s, err := load(tx)
		if err == nil && forUse {
			err = s.checkHead()
		}
		if err == nil {
			h, err = readHead(s.meta)
		}
		return describe(b.path, err)
	})
	return h, err
}

func checkFormat(path string, tx *bolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil || string(meta.Get([]byte(keyFormat))) != formatName {
		return refuse(nil, "%s is a bbolt database but not a sidevault vault: give the path of a vault, or of a new file to \"sidevault init\"", path)
	}
	stored := meta.Get([]byte(keyVersion))
	if len(stored) != 8 {
		return refuse(backends.ErrCorrupt, "%s does not say which format version it has: restore it from a backup", path)
	}
	if v := binary.BigEndian.Uint64(stored); v != formatVersion {
		return refuse(nil, "%s has format version %d and this program knows %d: use a newer sidevault", path, v, formatVersion)
	}
	return nil
}

// explain turns bbolt's error on opening into a sentence.
func explain(path string, err error) error {
	var said *refusal
	switch {
	case errors.As(err, &said):
		return err
	case errors.Is(err, berrors.ErrTimeout):
		return refuse(backends.ErrUnavailable, "%s is in use by another process: stop that one first, or ask it through its API", path)
	case errors.Is(err, syscall.ELOOP):
		return refuse(fs.ErrPermission, "%s is a symbolic link: give the path of the file itself", path)
	case errors.Is(err, syscall.EROFS):
		return refuse(backends.ErrUnavailable, "%s is on a read-only file system: mount it for writing", path)
	case errors.Is(err, fs.ErrPermission):
		return refuse(fs.ErrPermission, "%s cannot be written or read by this user: give it to the user that runs sidevault", path)
	case errors.Is(err, fs.ErrNotExist):
		return refuse(fs.ErrNotExist, "%s does not exist: create it with \"sidevault init\"", path)
	}
	var sys *fs.PathError
	if errors.As(err, &sys) {
		return describe(path, err)
	}
	return refuse(err, "%s is not a bbolt file (%v): give the path of a vault, or restore it from a backup", path, err)
}

// refusal is a sentence for a person, and the error that errors.Is finds in it.
type refusal struct {
	sentence string
	err      error
}

func refuse(err error, format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), err}
}

func (r *refusal) Error() string { return r.sentence }
func (r *refusal) Unwrap() error { return r.err }
