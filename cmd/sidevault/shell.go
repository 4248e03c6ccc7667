package main

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// shell is what the program was started in.
type shell struct {
	in      *os.File
	out     io.Writer
	err     io.Writer
	environ []string
}

func processShell() *shell {
	return &shell{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ()}
}

// getenv returns a variable's value; an empty one counts as not set.
func (s *shell) getenv(name string) string {
	for _, line := range s.environ {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			return v
		}
	}
	return ""
}

// isTerminal reports whether a person is at the other end of f.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
