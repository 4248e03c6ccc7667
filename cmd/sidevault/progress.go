package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	patience = 2 * time.Second // before a person is told that something goes on
	redraw   = 200 * time.Millisecond
)

// progress is a line on a terminal that says how far something is that takes long.
type progress struct {
	w     io.Writer // nil: nobody watches
	next  time.Time
	drawn bool
}

func newProgress(sh *shell) *progress {
	p := &progress{next: time.Now().Add(patience)}
	// A terminal that is called dumb cannot replace a line.
	if isTerminal(sh.err) && sh.getenv("TERM") != "dumb" {
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
		p.drawn = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// bar is a progress line of something that is done in steps, with its rate and, where
// its end is known, the time that is left.
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

// stage says what is done next, of which nothing is done yet.
func (b *bar) stage(what string) {
	if what != b.what {
		b.what, b.told = what, false
	}
}

// set says how much is done; total is 0 where that is not known.
func (b *bar) set(done, total int) {
	if !b.told {
		b.first, b.told, b.started = done, true, time.Now()
	}
	if total <= 0 {
		b.show("%s%s", b.what, map[bool]string{true: fmt.Sprintf(": %d", done)}[done > 0])
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

// waiting shows for how long one answer is waited for, of which nothing is known before
// it comes. The returned function ends that.
func waiting(sh *shell, what string) (end func()) {
	p := newProgress(sh)
	if p.w == nil {
		return func() {}
	}
	var ended sync.WaitGroup
	came, began := make(chan struct{}), time.Now()
	ended.Go(func() {
		tick := time.NewTicker(redraw)
		defer tick.Stop()
		defer p.end()
		for {
			select {
			case <-came:
				return
			case <-tick.C:
				p.show("%s, %s so far", what, time.Since(began).Round(time.Second))
			}
		}
	})
	return sync.OnceFunc(func() {
		close(came)
		ended.Wait()
	})
}
