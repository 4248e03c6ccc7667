package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// figure is one line of the table: what was measured in each round, of the sidecar
// and beside it of what it is compared with.
type figure struct {
	work      string
	reference string // what it is compared with; "" when with nothing
	unit      string
	ours      []float64
	theirs    []float64
	measure   measure
	goal      float64
	atLeast   bool // the goal is a lower bound
	report    bool // there is no goal
}

// measure makes one number of a round, which the goal is about.
type measure struct {
	name string
	of   func(ours, theirs float64) float64
}

func ratio() measure {
	return measure{"ratio", func(ours, theirs float64) float64 { return ours / theirs }}
}

func difference(unit string) measure {
	return measure{unit + " more", func(ours, theirs float64) float64 { return ours - theirs }}
}

// alone is the measure of what is compared with nothing.
func alone(unit string) measure {
	return measure{unit, func(ours, _ float64) float64 { return ours }}
}

// ratioBeyond is the ratio that is left when ours may take so much more.
func ratioBeyond(allowance float64, unit string) measure {
	return measure{fmt.Sprintf("ratio, less %g %s", allowance, unit), func(ours, theirs float64) float64 {
		return max(ours-allowance, 0) / theirs
	}}
}

// values are the measure of each round.
func (f figure) values() []float64 {
	var list []float64
	for i, ours := range f.ours {
		theirs := math.NaN()
		if i < len(f.theirs) {
			theirs = f.theirs[i]
		}
		list = append(list, f.measure.of(ours, theirs))
	}
	return list
}

func (f figure) verdict() string {
	m := median(f.values())
	switch {
	case f.report:
		return "reported"
	case f.atLeast && m >= f.goal, !f.atLeast && m <= f.goal:
		return "reached"
	default:
		return "missed"
	}
}

func (f figure) goalText() string {
	switch {
	case f.report:
		return ""
	case f.atLeast:
		return "at least " + number(f.goal)
	default:
		return "at most " + number(f.goal)
	}
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	n := len(sorted)
	if n == 0 {
		return math.NaN()
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// number prints three digits, and no fraction that says nothing.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return ""
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// outcome is what became of a row.
type outcome struct {
	row     string
	figures []figure
	skipped string // why it was not measured
}

const header = `| row | work | compared with | it | sidevault | unit | measure | median | min to max | goal | |
|---|---|---|---|---|---|---|---|---|---|---|
`

// print writes the outcome as lines of the table.
func (o outcome) print(w io.Writer) {
	if o.skipped != "" {
		fmt.Fprintf(w, "| %s | not measured: %s | | | | | | | | | |\n", o.row, o.skipped)
	}
	for _, f := range o.figures {
		values := f.values()
		cells := []string{
			o.row, f.work, f.reference, number(median(f.theirs)), number(median(f.ours)), f.unit, f.measure.name,
			number(median(values)), number(slices.Min(values)) + " to " + number(slices.Max(values)), f.goalText(), f.verdict(),
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
}
