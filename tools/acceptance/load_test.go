package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// scale is how much a load is of everything.
type scale struct {
	connections, senders, watchers int
	reads                          time.Duration // how long reads are measured
	// resident bounds the sidecar's memory, in MiB.
	resident int
}

var (
	shortLoad = scale{connections: 1000, senders: 50, watchers: 500, reads: time.Second, resident: 250}
	longLoad  = scale{connections: 1000, senders: 400, watchers: 10_000, reads: 4 * time.Second, resident: 1000}
)

// slowest bounds a read under load, whatever else the machine does. What it takes is
// in the log.
const slowest = 2 * time.Second

// TestLoad lets bad clients loose on a sidecar, one kind at a time: others are served
// meanwhile, the bad ones are refused, and memory stays within its bound.
func TestLoad(t *testing.T) {
	of := shortLoad
	if *torture {
		of = longLoad
	}
	v := binary.Shipped(t).Init(t)
	args := v.Configure(t, behaviours(""), trial(t))
	s := v.Start(t, append(args, "--log-level", "info", "--limits-connections", strconv.Itoa(of.watchers+of.connections+1000),
		"--watch-limit", strconv.Itoa(of.watchers), "--limits-header-timeout", "3s", "--limits-read-timeout", "4s", "--limits-write-timeout", "5s")...)
	s.Admin().Put(slot("slack", "staging"), value("kept")).Wants(http.StatusCreated)
	l := &loaded{s: s, of: of}
	t.Logf("idle: %d MiB, %d files", l.resident(t, "VmRSS"), l.files(t))
	l.read(t, of.reads) // for the caches
	for _, b := range burdens {
		l.under(t, b)
	}
	until(t, "the end of what bad clients held", func() bool { return l.files(t) < 100 })
	peak := l.resident(t, "VmHWM")
	t.Logf("after all: %d MiB, %d MiB at the peak, %d files", l.resident(t, "VmRSS"), peak, l.files(t))
	if peak > of.resident {
		t.Errorf("the sidecar had %d MiB in memory, of %d", peak, of.resident)
	}
	l.read(t, of.reads)
}

// loaded is a sidecar under load.
type loaded struct {
	s    *sidecar.Sidecar
	of   scale
	done sync.WaitGroup
}

// under measures what others get while a burden is carried.
func (l *loaded) under(t *testing.T, kind string) {
	t.Helper()
	alone := l.read(t, l.of.reads/2) // right before, since others use the machine, too
	ctx, cancel := context.WithCancel(t.Context())
	defer l.done.Wait()
	defer cancel()
	c := l.carry(t, kind)
	defer c.end()
	if kind == "watchers" {
		l.watched(ctx, t, c)
	} else {
		c.await("carried")
	}
	began, its, theirs := time.Now(), processor(t, l.s.PID()), processor(t, c.cmd.Process.Pid)
	got := l.read(t, l.of.reads)
	took := time.Since(began)
	its, theirs = processor(t, l.s.PID())-its, processor(t, c.cmd.Process.Pid)-theirs
	t.Logf("%-16s %v alone", kind, alone)
	t.Logf("%-16s %v: %.1f times the 99th percentile; processors: sidecar %d%%, bad clients %d%%; %d MiB, %d files", kind, got,
		float64(got.P99)/float64(alone.P99), 100*its/took, 100*theirs/took, l.resident(t, "VmRSS"), l.files(t))
	if got.P99 > slowest {
		t.Errorf("%s: reads of others take %v", kind, got)
	}
}

// resident returns a line of the process's status, in MiB.
func (l *loaded) resident(t *testing.T, name string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name+":" {
			kib, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatalf("the process has no %s", name)
	return 0
}

// files is how many files the process has open.
func (l *loaded) files(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", l.s.PID()))
	if err != nil {
		t.Skipf("the files of an undumpable process are root's to see: %v", err)
	}
	return len(list)
}
