package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// filesVariable is the one variable of ours that a program gets, with --files.
const filesVariable = variablePrefix + "FILES"

const filesPrefix = "sidevault-run-"

// secretDir is a directory in memory, of its owner alone. A lock says that somebody
// uses it.
type secretDir struct {
	path    string
	release func() error
}

// newSecretDir makes one in the first place that is in memory. What is left there by
// runs that were killed is removed.
func newSecretDir(sh *shell) (*secretDir, error) {
	var tried []string
	for _, base := range memoryPlaces(sh) {
		if !inMemory(base) {
			tried = append(tried, base)
			continue
		}
		sweep(base)
		// Another run's sweep may be faster than the lock.
		for range 3 {
			if d, err := makeSecretDir(base); err == nil {
				return d, nil
			}
		}
		tried = append(tried, base)
	}
	if len(tried) == 0 {
		return nil, failf(exitError, "--files needs a file system in memory, and this system has none that sidevault knows").
			hinted("without --files the program gets variables")
	}
	return nil, failf(exitError, "--files needs a file system in memory that can be written to: %s is none", strings.Join(tried, ", ")).
		hinted("name a directory on a tmpfs with XDG_RUNTIME_DIR, or leave --files out: the program then gets variables")
}

func makeSecretDir(base string) (*secretDir, error) {
	path, err := os.MkdirTemp(base, filesPrefix)
	if err != nil {
		return nil, err
	}
	release, err := lockDir(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	if info, err := os.Lstat(path); err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !inMemory(path) {
		return nil, errors.Join(errors.New("the directory was replaced"), err, release())
	}
	return &secretDir{path: path, release: release}, nil
}

// sweep removes what nobody uses.
func sweep(base string) {
	left, err := filepath.Glob(filepath.Join(base, filesPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() {
			continue
		}
		if s, ok := info.Sys().(*syscall.Stat_t); !ok || int(s.Uid) != os.Geteuid() {
			continue
		}
		if release, err := lockDir(path); err == nil {
			os.RemoveAll(path)
			release()
		}
	}
}

// put makes the directory hold the variables, each replaced at once.
func (d *secretDir) put(list []variable) error {
	wanted := map[string]bool{}
	for _, v := range list {
		if err := d.write(v); err != nil {
			return err
		}
		wanted[v.name] = true
	}
	present, err := os.ReadDir(d.path)
	for _, e := range present {
		if !wanted[e.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(d.path, e.Name())))
		}
	}
	return err
}

func (d *secretDir) write(v variable) error {
	path := filepath.Join(d.path, v.name)
	pending := path + ".new"
	if err := os.Remove(pending); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(pending, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(v.value.Reveal())
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(pending, path)
}

func (d *secretDir) remove() error { return errors.Join(os.RemoveAll(d.path), d.release()) }
