package bbolt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/backends"
)

// spoil makes of a good vault at path one that Open must refuse, and returns the
// path to open.
type spoil func(t *testing.T, path string) string

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil spoil
		says  string // with PATH and DIR in place of the two
		is    error
	}{
		{"no directory", inPlace(func(path string) error { return os.RemoveAll(filepath.Dir(path)) }), `directory DIR does not exist: create it with "mkdir -m 700 DIR"`, fs.ErrNotExist},
		{"no file", inPlace(os.Remove), `PATH does not exist: create it with "sidevault init"`, fs.ErrNotExist},
		{"open directory", chmodDir(0o750), `directory DIR is accessible to others (mode 0750): run "chmod 700 DIR"`, fs.ErrPermission},
		{"listable directory", chmodDir(0o704), `directory DIR is accessible to others (mode 0704): run "chmod 700 DIR"`, fs.ErrPermission},
		{"read-only directory", chmodDir(0o500), `directory DIR is read-only (mode 0500): run "chmod 700 DIR"`, fs.ErrPermission},
		{"readable file", chmod(0o640), `PATH is accessible to others (mode 0640): run "chmod 600 PATH"`, fs.ErrPermission},
		{"writable file", chmod(0o602), `PATH is accessible to others (mode 0602): run "chmod 600 PATH"`, fs.ErrPermission},
		{"read-only file", chmod(0o400), `PATH is read-only (mode 0400): run "chmod 600 PATH", or open it for reading only`, fs.ErrPermission},
		{"link to the file", linkFile, `PATH is a symbolic link: give the path of the file itself`, fs.ErrPermission},
		{"link to the directory", linkDir, `directory DIR is a symbolic link: give the path that it points to`, fs.ErrPermission},
		{"directory as file", replace(func(path string) error { return os.Mkdir(path, 0o700) }), `PATH is not a regular file: give the path of a vault`, fs.ErrInvalid},
		{"pipe", replace(func(path string) error { return syscall.Mkfifo(path, 0o600) }), `PATH is not a regular file: give the path of a vault`, fs.ErrInvalid},
		{"empty file", write(""), `PATH is empty and not a vault: remove it, then run "sidevault init"`, fs.ErrInvalid},
		{"short text", write("hello\n"), `PATH is not a bbolt file (`, nil},
		{"long text", write(strings.Repeat("not a database\n", 5000)), `PATH is not a bbolt file (`, nil},
		{"foreign database", replace(foreign), `PATH is a bbolt database but not a sidevault vault: `, nil},
		{"newer version", meta(keyVersion, number(formatVersion+1)), `PATH has format version 2 and this program knows 1: use a newer sidevault`, nil},
		{"no version", meta(keyVersion, nil), `PATH does not say which format version it has: restore it from a backup`, backends.ErrCorrupt},
		{"no head", meta(keyHead, nil), `PATH: storage is corrupt: the head has 0 bytes`, backends.ErrCorrupt},
		{"wrong head", meta(keyHead, make([]byte, headSize)), `PATH: storage is corrupt: the head names log entry 0, the last one is 2`, backends.ErrCorrupt},
		{"cut short", inPlace(func(path string) error { return os.Truncate(path, 4*4096) }), `PATH is cut short: `, backends.ErrCorrupt},
		{"cut to the head pages", inPlace(func(path string) error { return os.Truncate(path, 2*4096) }), `PATH is cut short: it has 8192 of `, backends.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := c.spoil(t, filledFile(t))
			b, err := Open(path, nil)
			if err == nil {
				b.Close()
				t.Fatal("it was opened")
			}
			says := strings.NewReplacer("PATH", path, "DIR", filepath.Dir(path)).Replace(c.says)
			if !strings.HasPrefix(err.Error(), says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("\n got %v\nwant %s", err, says)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
		})
	}
}

func filledFile(t testing.TB) string {
	t.Helper()
	path := newFile(t)
	b := open(t, path)
	for _, key := range []string{"a", "b"} {
		batch := put(key, 0, strings.Repeat("value", 10_000))
		batch.Entries = [][]byte{[]byte(key)}
		if _, err := b.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func inPlace(do func(path string) error) spoil {
	return func(t *testing.T, path string) string {
		if err := do(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

func replace(do func(path string) error) spoil {
	return inPlace(func(path string) error { return errors.Join(os.Remove(path), do(path)) })
}

func write(text string) spoil {
	return replace(func(path string) error { return os.WriteFile(path, []byte(text), 0o600) })
}

func chmod(mode fs.FileMode) spoil {
	return inPlace(func(path string) error { return os.Chmod(path, mode) })
}

func chmodDir(mode fs.FileMode) spoil {
	return func(t *testing.T, path string) string {
		t.Cleanup(func() { os.Chmod(filepath.Dir(path), 0o700) })
		return inPlace(func(path string) error { return os.Chmod(filepath.Dir(path), mode) })(t, path)
	}
}

func linkFile(t *testing.T, path string) string {
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func linkDir(t *testing.T, path string) string {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Dir(path), link); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(link, filepath.Base(path))
}

// foreign makes another program's database, of the kind that bbolt rewrites when
// it is opened for writing.
func foreign(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("other"))
		return err
	})
	return errors.Join(err, db.Close())
}

func meta(key string, value []byte) spoil {
	return inPlace(func(path string) error {
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bolt.Tx) error {
			if value == nil {
				return tx.Bucket([]byte(bucketMeta)).Delete([]byte(key))
			}
			return tx.Bucket([]byte(bucketMeta)).Put([]byte(key), value)
		})
		return errors.Join(err, db.Close())
	})
}

func TestForeignFileIsNotTouched(t *testing.T) {
	path := filepath.Join(newDir(t), "other.db")
	if err := foreign(path); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Open(path, nil); err == nil {
		b.Close()
		t.Fatal("it was opened")
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Error("opening it changed it")
	}
}

func TestOpenInUse(t *testing.T) {
	path := newFile(t)
	b := open(t, path)
	for _, o := range []*Options{nil, {ReadOnly: true}} {
		start := time.Now()
		_, err := Open(path, o)
		if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), path+" is in use by another process") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took < defaultLockTimeout/2 || took > 4*defaultLockTimeout {
			t.Errorf("it took %v to say so", took)
		}
	}
	time.AfterFunc(200*time.Millisecond, func() { b.Close() })
	open(t, path)
}

func TestReadOnly(t *testing.T) {
	path := filledFile(t)
	chmod(0o400)(t, path)
	chmodDir(0o500)(t, path)
	first, err := Open(path, &Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := Open(path, &Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.Get(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	_, err = first.Commit(t.Context(), put("c", 0, ""))
	if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "for reading only") {
		t.Errorf("Commit: got %v", err)
	}
}

func TestCreate(t *testing.T) {
	dir := newDir(t)
	path := filepath.Join(dir, "vault.db")
	old := syscall.Umask(0)
	err := Create(path)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 1 {
		t.Errorf("the directory holds %q", names)
	}
	open(t, path)
}

func TestCreateNeverOverwrites(t *testing.T) {
	path := filepath.Join(newDir(t), "vault.db")
	for _, make := range []func() error{
		func() error { return os.WriteFile(path, []byte("precious"), 0o600) },
		func() error { return os.Symlink("nowhere", path) },
		func() error { return os.Mkdir(path, 0o700) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if err := Create(path); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path+" exists already") {
			t.Errorf("got %v", err)
		}
		os.Remove(path)
	}
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Create(path); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("in an open directory: got %v", err)
	}
}

// TestCreateRace lets many create the same file: one does.
func TestCreateRace(t *testing.T) {
	path := filepath.Join(newDir(t), "vault.db")
	errs := make(chan error)
	for range 8 {
		go func() { errs <- Create(path) }()
	}
	made := 0
	for range 8 {
		if err := <-errs; err == nil {
			made++
		} else if !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v", err)
		}
	}
	if made != 1 {
		t.Errorf("%d of 8 made it", made)
	}
	open(t, path)
}
