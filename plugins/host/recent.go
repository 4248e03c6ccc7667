package host

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// remembered is how many calls a process's log lines are struck out for.
const remembered = 256

// recent holds the secrets of a process's last calls. Adding is cheap, as every call
// does it; what it takes to strike them out is made when there is a line to log.
//
// Calls with the same secrets share an entry. One that was used again goes to the
// end when its turn to be forgotten comes, so at least the last 256 calls are known.
type recent struct {
	seed maphash.Seed

	mu    sync.Mutex
	known map[uint64]*given
	order []*given // a ring, once it is full
	next  int
}

type given struct {
	sum     uint64
	again   bool
	striker func() *secret.Striker // makes it once, when it is needed
}

func newRecent() *recent {
	return &recent{seed: maphash.MakeSeed(), known: map[uint64]*given{}}
}

// add remembers the secrets of a call. It is called before the call is made.
func (r *recent) add(fields seal.Fields) {
	if len(fields) == 0 {
		return
	}
	var sum uint64
	for _, v := range fields {
		sum += maphash.String(r.seed, v.Reveal()) // the order of the fields does not matter
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.known[sum]; g != nil {
		g.again = true
		return
	}
	g := &given{sum: sum, striker: sync.OnceValue(func() *secret.Striker { return strikerOf(fields) })}
	r.known[sum] = g
	if len(r.order) < remembered {
		r.order = append(r.order, g)
		return
	}
	for r.order[r.next].again {
		r.order[r.next].again = false
		r.next = (r.next + 1) % remembered
	}
	delete(r.known, r.order[r.next].sum)
	r.order[r.next] = g
	r.next = (r.next + 1) % remembered
}

// strike strikes out all that is remembered.
func (r *recent) strike(text string) string {
	r.mu.Lock()
	order := slices.Clone(r.order)
	r.mu.Unlock()
	// Most lines hold no secret, and a line in lower case is searched the fastest.
	lower := strings.ToLower(text)
	for _, g := range order {
		if s := g.striker(); s.Finds(lower) {
			text = s.Strike(text)
			lower = strings.ToLower(text)
		}
	}
	return text
}

func strikerOf(fields seal.Fields) *secret.Striker {
	return secret.NewStriker(slices.Collect(maps.Values(fields))...)
}
