package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Problem is one thing that is wrong with a catalog file. Its text is one line,
// whatever the file holds:
//
//	catalog.yaml:12:5: unknown key "doc" (did you mean "docs"?)
type Problem struct {
	place
	Msg   string
	Err   error // why the file could not be read; nil for what is in it
	sheet int   // which of the merged files it is in
}

// Error returns the place and the message.
func (p *Problem) Error() string { return p.place.String() + ": " + p.Msg }

// Unwrap returns Err.
func (p *Problem) Unwrap() error { return p.Err }

// place is where something stands in a file. Lines and columns count from 1;
// line 0 is the file as a whole.
type place struct {
	File         string
	Line, Column int
}

func (p place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// join returns the problems as one error, in the order of the files and of what
// stands in them; nil when there are none.
func join(list []*Problem) error {
	slices.SortStableFunc(list, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.sheet, b.sheet), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(list))
	for i, p := range list {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// quote returns s as a short Go string literal, fit for one line of a terminal.
func quote(s string) string {
	if r := []rune(s); len(r) > 40 {
		s = string(r[:40]) + "..."
	}
	return strconv.Quote(s)
}
