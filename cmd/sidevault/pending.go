package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// pendingFile is a new file for its owner alone that has its name only once it is whole
// and on the disk. Where the system can, it has no name at all before: a process that is
// killed leaves nothing.
type pendingFile struct {
	*os.File
	path     string
	named    bool // it has a name of its own meanwhile
	replaces bool // it takes the place of a file that has its name
}

func createPending(path string) (*pendingFile, error) {
	if f, err := createNameless(path); err == nil {
		return &pendingFile{File: f, path: path}, nil
	}
	return createNamed(path)
}

// createReplacement is createPending for a file that replaces the one at its path. Only
// what has a name can.
func createReplacement(path string) (*pendingFile, error) {
	p, err := createNamed(path)
	if err == nil {
		p.replaces = true
	}
	return p, err
}

func createNamed(path string) (*pendingFile, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	return &pendingFile{File: f, path: path, named: true}, nil
}

// keep gives the file its name. Unless it is a replacement it does not if there is one
// that has it: a link replaces nothing.
func (p *pendingFile) keep() error {
	err := p.Sync()
	if err == nil && p.replaces {
		err = os.Rename(p.Name(), p.path)
	} else if err == nil && p.named {
		err = linkOrRename(p.Name(), p.path)
	} else if err == nil {
		err = linkNameless(p.File, p.path)
	}
	if err = errors.Join(err, p.drop()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(p.path))
}

// linkOrRename links; where the file system has no links it renames, which could replace
// what has come there this very moment.
func linkOrRename(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if exists(to) {
		return &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

// drop closes the file, and takes away the name that it has meanwhile.
func (p *pendingFile) drop() error {
	err := p.Close()
	if !p.named {
		return err
	}
	if gone := os.Remove(p.Name()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}
