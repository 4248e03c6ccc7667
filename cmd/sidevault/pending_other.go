//go:build !linux

package main

import (
	"errors"
	"os"
)

// createNameless fails: this system has no files without a name.
func createNameless(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func linkNameless(*os.File, string) error { return errors.ErrUnsupported }
