package rest

import (
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
)

// A part says since when it is in its state: as it knows, or as it was seen.
func TestSince(t *testing.T) {
	h := newHistory()
	minute := func(n int) time.Time { return h.began.Add(time.Duration(n) * time.Minute) }
	for at, step := range []struct {
		status string
		known  int // minute that the part itself names; 0: none
		since  int
	}{
		{isOK, 0, 0},
		{isOK, 0, 0},
		{isDegraded, 0, 2},
		{isDegraded, 0, 2},
		{isDegraded, 1, 1},
		{isUnavailable, 0, 5},
		{isOK, 0, 6},
		{isOK, 0, 6},
	} {
		p := inOrder("storage")
		p.Status = step.status
		if step.known != 0 {
			p.since = minute(step.known)
		}
		got := h.settle([]part{p, inOrder("keys")}, minute(at))
		if want := wire.Time(minute(step.since)); got[0].Since != want || got[0].Status != step.status {
			t.Errorf("minute %d: %+v", at, got[0])
		}
		if got[1].Since != wire.Time(h.began) {
			t.Errorf("minute %d: what has not changed: %+v", at, got[1])
		}
	}
	broken := inOrder("audit").because(isDegraded, "", time.Time{})
	if got := h.settle([]part{broken}, minute(9)); got[0].Since != wire.Time(minute(9)) {
		t.Errorf("one that is first seen with a fault: %+v", got[0])
	}
}
