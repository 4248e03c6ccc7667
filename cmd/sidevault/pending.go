package main

import (
	"errors"
	"os"
	"path/filepath"
)

// pendingFile is a file for its owner alone that has its name only once it is whole
// and on the disk.
type pendingFile struct {
	*os.File
	path string
}

func createPending(path string) (*pendingFile, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	return &pendingFile{File: f, path: path}, nil
}

// keep gives the file its name, in the place of one that has it.
func (p *pendingFile) keep() error {
	if err := errors.Join(p.Sync(), p.Close()); err != nil {
		return errors.Join(err, os.Remove(p.Name()))
	}
	if err := os.Rename(p.Name(), p.path); err != nil {
		return errors.Join(err, os.Remove(p.Name()))
	}
	return syncDir(filepath.Dir(p.path))
}

// drop removes the file.
func (p *pendingFile) drop() error { return errors.Join(p.Close(), os.Remove(p.Name())) }
