package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sidevault/sidevault/plugins/host"
)

// programs returns the configured programs as the host takes them. What is wrong
// with any of them is an error with its place.
func (c settings) programs(dev bool) ([]host.Program, error) {
	var list []host.Program
	var problems []error
	for _, spec := range c.Programs {
		p, err := spec.program(c.PluginDir, dev)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %s.%s: %w", spec.At, programsKey, spec.Name, err))
		}
		list = append(list, p)
	}
	if len(problems) > 0 {
		return nil, usagef("%s", errors.Join(problems...))
	}
	return list, nil
}

// programNames are the names that the catalog may bind.
func (c settings) programNames() []string {
	names := []string{}
	for _, p := range c.Programs {
		names = append(names, p.Name)
	}
	return names
}

func (s programSpec) program(dir string, dev bool) (host.Program, error) {
	path, err := s.find(dir)
	if err != nil {
		return host.Program{}, err
	}
	if s.SHA256 == "" && !dev {
		return host.Program{}, unpinned(path)
	}
	return host.Program{
		Name: s.Name, Path: path, Args: s.Args, SHA256: s.SHA256, AllowUnpinned: dev, Files: s.Files, Env: s.Env, Read: s.Read,
		User: s.User, Instances: s.Instances, Calls: s.Calls, Eager: s.Eager,
	}, nil
}

// find returns where the program is. One that is not there is left to the host,
// which says so of this plugin and runs the others.
func (s programSpec) find(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if filepath.IsAbs(s.Path) {
		return filepath.Clean(s.Path), nil
	}
	if s.Path != "" {
		return filepath.Join(dir, s.Path), nil
	}
	validator, syncer := filepath.Join(dir, "sidevault-validator-"+s.Name), filepath.Join(dir, "sidevault-syncer-"+s.Name)
	switch {
	case exists(validator) && exists(syncer):
		return "", fmt.Errorf("%s and %s both exist: say with path which of them is meant", validator, filepath.Base(syncer))
	case exists(syncer):
		return syncer, nil
	}
	return validator, nil
}

// unpinned says which sum is missing, so that whoever knows the file to be right can
// add it.
func unpinned(path string) error {
	sum, err := fileSum(path)
	if err != nil {
		return fmt.Errorf("sha256 is missing, and the program cannot be read: %w", err)
	}
	return fmt.Errorf("sha256 is missing; if %s is what it should be, add the line\n    sha256: %s", path, sum)
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
