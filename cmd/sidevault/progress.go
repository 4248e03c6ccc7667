package main

import (
	"fmt"
	"io"
	"strings"
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

// bar is a progress line of something whose end is known, with its rate and the time
// that is left.
type bar struct {
	*progress
	what    string
	started time.Time
	first   int // how much was done when it was first told
	told    bool
}

func newBar(sh *shell, what string) *bar {
	return &bar{progress: newProgress(sh), what: what, started: time.Now()}
}

const barWidth = 24

// set says how much is done.
func (b *bar) set(done, total int) {
	if !b.told {
		b.first, b.told, b.started = done, true, time.Now()
	}
	if total <= 0 {
		b.show("%s", b.what)
		return
	}
	done = min(done, total)
	filled := barWidth * done / total
	line := fmt.Sprintf("%s [%s%s] %d of %d (%d%%)", b.what, strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), done, total, 100*done/total)
	if passed := time.Since(b.started); done > b.first && passed > 0 {
		rate := float64(done-b.first) / passed.Seconds()
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		line += fmt.Sprintf(", %.0f/s, %s left", rate, left.Round(time.Second))
	}
	b.show("%s", line)
}
