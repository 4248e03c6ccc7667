package load

import (
	"math/bits"
	"time"
)

// Latencies are counted in classes that are at most 1/64 wide of what they hold: 64
// of them for each power of two nanoseconds.
const (
	classBits = 6
	classes   = (64 - classBits) << classBits
)

// Histogram counts latencies. Its zero value is empty.
type Histogram struct {
	counts [classes]uint32
	total  uint64
}

func (h *Histogram) record(d time.Duration) {
	h.counts[class(uint64(max(d, 0)))]++
	h.total++
}

func (h *Histogram) add(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

// Of returns the histogram of those latencies.
func Of(latencies []time.Duration) Histogram {
	var h Histogram
	for _, d := range latencies {
		h.record(d)
	}
	return h
}

// Quantile returns the latency that the given part of all does not exceed; 0 when
// there is none.
func (h *Histogram) Quantile(part float64) time.Duration {
	rank := uint64(part * float64(h.total))
	var seen uint64
	for i, n := range h.counts {
		if seen += uint64(n); n > 0 && seen > rank || seen == h.total && seen > 0 {
			return middle(i)
		}
	}
	return 0
}

// class returns the class of a number: its highest bits after the first one, and
// how far those are shifted.
func class(ns uint64) int {
	shift := max(bits.Len64(ns)-classBits-1, 0)
	return shift<<classBits + int(ns>>shift)
}

func middle(class int) time.Duration {
	shift := max(class>>classBits-1, 0)
	low := uint64(class-shift<<classBits) << shift
	return time.Duration(low + (1<<shift)/2)
}
