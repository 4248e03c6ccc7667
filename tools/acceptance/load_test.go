package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// scale is how much a load is of everything.
type scale struct {
	connections, senders, watchers, samples int
	// resident bounds the sidecar's memory, in MiB.
	resident int
}

var (
	shortLoad = scale{connections: 1000, senders: 50, watchers: 500, samples: 1000, resident: 400}
	longLoad  = scale{connections: 1000, senders: 400, watchers: 10_000, samples: 3000, resident: 1500}
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
	l.read(t) // for the caches
	alone := l.read(t)
	t.Logf("%-16s %v", "alone", alone)
	for _, b := range burdens {
		l.under(t, b, alone)
	}
	until(t, "the end of what bad clients held", func() bool { return l.files(t) < 100 })
	peak := l.resident(t, "VmHWM")
	t.Logf("after all: %d MiB, %d MiB at the peak, %d files", l.resident(t, "VmRSS"), peak, l.files(t))
	if peak > of.resident {
		t.Errorf("the sidecar had %d MiB in memory, of %d", peak, of.resident)
	}
	l.read(t)
}

// loaded is a sidecar under load.
type loaded struct {
	s  *sidecar.Sidecar
	of scale
}

// under measures what others get while a burden is carried.
func (l *loaded) under(t *testing.T, b burden, alone latencies) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	began := time.Now()
	defer func() {
		cancel()
		done.Wait()
		t.Logf("%-16s took %v", b.name, time.Since(began).Round(time.Millisecond))
	}()
	b.carry(ctx, t, l, &done)
	got := l.read(t)
	t.Logf("%-16s %v: %.1f times the 99th percentile; %d MiB, %d files", b.name, got,
		float64(got.p99)/float64(alone.p99), l.resident(t, "VmRSS"), l.files(t))
	if got.p99 > slowest {
		t.Errorf("%s: reads of others take %v", b.name, got)
	}
}

type latencies struct{ median, p99, worst time.Duration }

func (l latencies) String() string {
	return fmt.Sprintf("median %6v, p99 %6v, worst %6v", l.median.Round(10*time.Microsecond), l.p99.Round(10*time.Microsecond), l.worst.Round(10*time.Microsecond))
}

// read resolves from new connections, and is never refused.
func (l *loaded) read(t *testing.T) latencies {
	t.Helper()
	const readers = 4
	transport := &http.Transport{MaxIdleConnsPerHost: readers}
	defer transport.CloseIdleConnections()
	c := sidecar.NewClient(t, l.s.URL, l.s.AdminKey, transport)
	all := make([][]time.Duration, readers)
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			for range l.of.samples / readers {
				began := time.Now()
				answer, err := c.Try(http.MethodGet, resolve("slack", "staging"), nil)
				if err != nil || answer.Status != http.StatusOK || !strings.Contains(string(answer.Body), `"kept"`) {
					t.Errorf("a read was refused: %v", err)
					return
				}
				all[i] = append(all[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	took := slices.Concat(all...)
	slices.Sort(took)
	if len(took) < readers {
		t.Fatal("there is nothing to measure")
	}
	return latencies{took[len(took)/2], took[len(took)*99/100], took[len(took)-1]}
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
