package main

import (
	"context"
	"strings"
	"syscall"
	"testing"
)

// Whoever watches for more than two seconds is told that something goes on. Programs are
// not, nor terminals that cannot replace a line.
func TestWatched(t *testing.T) {
	t.Parallel()
	_, screen := openPTY(t)
	for terminal, watched := range map[string]bool{"xterm": true, "dumb": false} {
		if p := newProgress(&shell{err: screen, environ: []string{"TERM=" + terminal}}); (p.w != nil) != watched {
			t.Errorf("TERM=%s: watched %v", terminal, p.w != nil)
		}
	}
	address, asked := silent(t)
	s := startSession(t, invocation{
		env: []string{addrVariable + "=" + address, tokenVariable + "=svk_x", "NO_COLOR=1"}, args: []string{"audit", "verify"},
	}.command(context.Background(), t))
	<-asked
	s.shows(t, "The sidecar walks its audit log, 3s so far", 1)
	s.cmd.Process.Signal(syscall.SIGINT)
	<-s.done
	if colored(s.shown.String()) {
		t.Errorf("colors although they are declined: %q", s.shown.String())
	}
}

// colored reports whether text sets colors: ESC [ ... m.
func colored(text string) bool {
	for part := range strings.SplitSeq(text, "\x1b[") {
		if end := strings.TrimLeft(part, "0123456789;"); len(end) < len(part) && strings.HasPrefix(end, "m") {
			return true
		}
	}
	return false
}

func TestColors(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	for env, wants := range map[string]bool{"NO_COLOR=": true, "NO_COLOR=1": false, "TERM=dumb": false} {
		s := startSession(t, invocation{
			env: []string{addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile, env}, args: []string{"doctor", "--data-dir", dir},
		}.command(context.Background(), t))
		s.shows(t, "identity: ", 1)
		<-s.done
		if got := s.shown.String(); colored(got) != wants {
			t.Errorf("%s: %q", env, got)
		}
	}
	if got := p.cli(t, "", "doctor", "--data-dir", dir); colored(got.out + got.err) {
		t.Errorf("a program gets colors: %q", got.out)
	}
}
