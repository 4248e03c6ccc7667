package bbolt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// checkPlace refuses a path whose directory or file would not keep a vault safe.
func checkPlace(path string, readOnly bool) error {
	if err := checkDir(filepath.Dir(path), readOnly); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return explain(path, err)
	}
	return checkFile(path, info, readOnly)
}

func checkDir(dir string, readOnly bool) error {
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse(fs.ErrNotExist, "directory %s does not exist: create it with \"mkdir -m 700 %s\"", dir, dir)
	case err != nil:
		return explain(dir, err)
	case info.Mode()&fs.ModeSymlink != 0:
		return refuse(fs.ErrPermission, "directory %s is a symbolic link: give the path that it points to", dir)
	case !info.IsDir():
		return refuse(fs.ErrInvalid, "%s is not a directory: give the path of a file in a directory of its own", dir)
	case info.Mode().Perm()&0o077 != 0:
		return refuse(fs.ErrPermission, "directory %s is accessible to others (mode %04o): run \"chmod 700 %s\"", dir, info.Mode().Perm(), dir)
	case !readOnly && info.Mode().Perm()&0o300 != 0o300:
		return refuse(fs.ErrPermission, "directory %s is read-only (mode %04o): run \"chmod 700 %s\"", dir, info.Mode().Perm(), dir)
	}
	return nil
}

func checkFile(path string, info fs.FileInfo, readOnly bool) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return refuse(fs.ErrPermission, "%s is a symbolic link: give the path of the file itself", path)
	case !info.Mode().IsRegular():
		return refuse(fs.ErrInvalid, "%s is not a regular file: give the path of a vault", path)
	case info.Mode().Perm()&0o077 != 0:
		return refuse(fs.ErrPermission, "%s is accessible to others (mode %04o): run \"chmod 600 %s\"", path, info.Mode().Perm(), path)
	case !readOnly && info.Mode().Perm()&0o200 == 0:
		return refuse(fs.ErrPermission, "%s is read-only (mode %04o): run \"chmod 600 %s\", or open it for reading only", path, info.Mode().Perm(), path)
	case info.Size() == 0:
		return refuse(fs.ErrInvalid, "%s is empty and not a vault: remove it, then run \"sidevault init\"", path)
	}
	return nil
}

// Create makes an empty vault file at path, readable by its owner alone. It
// fails with fs.ErrExist when there is anything at path already. The file
// appears under its name only when it is complete and on the disk.
func Create(path string) (err error) {
	dir := filepath.Dir(path)
	if err := checkDir(dir, false); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return refuse(fs.ErrExist, "%s exists already: open it, or choose another path", path)
	}
	draft, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.new")
	if err != nil {
		return describe(path, err)
	}
	defer func() { err = errors.Join(err, ignoreMissing(os.Remove(draft.Name()))) }()
	if err := errors.Join(draft.Close(), fill(draft.Name())); err != nil {
		return describe(path, err)
	}
	// Unlike a rename, a link never replaces what another process put there.
	if err := os.Link(draft.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return refuse(fs.ErrExist, "%s exists already: open it, or choose another path", path)
		}
		return describe(path, err)
	}
	return describe(path, syncDir(dir))
}

// fill writes an empty vault to the empty file and synchronizes it.
func fill(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: defaultLockTimeout, NoStatistics: true})
	if err != nil {
		return err
	}
	return errors.Join(db.Update(initialize), db.Sync(), db.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
