package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == referenceWord {
		exit(serveReference(os.Args[2], os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// Every row is measured, and says something; how fast anything is, is no matter here.
func TestEveryRow(t *testing.T) {
	dir := t.TempDir()
	program, err := build(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{size: short(), dir: dir, program: program, stores: map[int]*store{}}
	seen := map[string]bool{}
	err = b.run(t.Context(), regexp.MustCompile("."), func(o outcome) {
		seen[o.row] = true
		checkOutcome(t, b, o)
	})
	if err != nil {
		t.Error(err)
	}
	for _, r := range rows() {
		if !seen[r.name] {
			t.Errorf("%s was not measured", r.name)
		}
	}
	if err := b.close(); err != nil {
		t.Error(err)
	}
}

func checkOutcome(t *testing.T, b *bench, o outcome) {
	t.Helper()
	if o.skipped != "" {
		t.Errorf("%s was not measured: %s", o.row, o.skipped)
	}
	if o.skipped == "" && len(o.figures) == 0 {
		t.Errorf("%s has no figures", o.row)
	}
	for _, f := range o.figures {
		if len(f.ours) != b.size.rounds && o.row != "memory" || f.reference != "" && len(f.theirs) != len(f.ours) {
			t.Errorf("%s: %d and %d rounds of %d", f.work, len(f.ours), len(f.theirs), b.size.rounds)
		}
		for _, v := range append(f.values(), f.ours...) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s: %v", f.work, v)
			}
		}
		if median(f.ours) <= 0 {
			t.Errorf("%s: nothing was measured of the sidecar", f.work)
		}
	}
}

// The program prints the table, and its exit tells of what it was asked alone.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-short", "-run", "^allocations$"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"load average before", header, "| allocations | allocations of a warm resolve | bare Gin |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output does not say %q:\n%s", want, &out)
		}
	}
	if n := strings.Count(out.String(), "\n| "); n != 2 {
		t.Errorf("%d lines of the table, of a head and one row:\n%s", n, &out)
	}
}

// A row that fails is no figure, and a row for which there is no time says so.
func TestRunOfFailures(t *testing.T) {
	b := &bench{size: short(), dir: t.TempDir(), program: filepath.Join(t.TempDir(), "missing"), stores: map[int]*store{}}
	record := func(o outcome) { t.Errorf("%s has an outcome: %+v", o.row, o) }
	if err := b.run(t.Context(), regexp.MustCompile("^start$"), record); err == nil {
		t.Error("there is no error without a program")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var skipped int
	err := b.run(over, regexp.MustCompile("^start$"), func(o outcome) {
		if o.skipped != "" {
			skipped++
		}
	})
	if err != nil || skipped != 1 {
		t.Errorf("%d rows skipped without time, %v", skipped, err)
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		figure figure
		want   string
	}{
		{figure{ours: []float64{9, 1, 8}, theirs: []float64{10, 10, 10}, measure: ratio(), goal: 0.8, atLeast: true}, "0.80 reached"},
		{figure{ours: []float64{7, 1, 9}, theirs: []float64{10, 10, 10}, measure: ratio(), goal: 0.8, atLeast: true}, "0.70 missed"},
		{figure{ours: []float64{30}, theirs: []float64{10}, measure: difference("µs"), goal: 20}, "20.0 reached"},
		{figure{ours: []float64{31}, theirs: []float64{10}, measure: difference("µs"), goal: 20}, "21.0 missed"},
		{figure{ours: []float64{0.9}, theirs: []float64{0.4}, measure: ratioBeyond(0.4, "ms"), goal: 1.3}, "1.25 reached"},
		{figure{ours: []float64{41}, measure: alone("MiB"), goal: 40}, "41.0 missed"},
		{figure{ours: []float64{1, 2}, measure: alone("MiB"), report: true}, "1.50 reported"},
	} {
		if got := fmt.Sprint(number(median(c.figure.values())), " ", c.figure.verdict()); got != c.want {
			t.Errorf("%v against %v, %s: %s, want %s", c.figure.ours, c.figure.theirs, c.figure.measure.name, got, c.want)
		}
	}
}
