package main

import (
	"fmt"
	"io"
	"time"
)

const (
	patience = 2 * time.Second // before a person is told that something goes on
	redraw   = 200 * time.Millisecond
)

// progress is a line on a terminal that says how far something is that takes long.
type progress struct {
	w     io.Writer // nil: there is no terminal
	next  time.Time
	drawn bool
}

func newProgress(sh *shell) *progress {
	p := &progress{next: time.Now().Add(patience)}
	if isTerminal(sh.err) {
		p.w = sh.err
	}
	return p
}

// show replaces the line.
func (p *progress) show(format string, args ...any) {
	if p.w == nil || time.Now().Before(p.next) {
		return
	}
	p.next, p.drawn = time.Now().Add(redraw), true
	fmt.Fprintf(p.w, "\r\x1b[K"+format, args...)
}

// end removes the line.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
