package acceptance

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

var (
	crashRounds = flag.Int("crash-rounds", 6, "how often the sidecar is killed under load")
	torture     = flag.Bool("torture", false, "take longer over tests of lost writes and linearizability")
	crashSeed   = flag.Uint64("crash-seed", 0, "seed of the load, 0 for a new one; timing stays the machine's")
)

const (
	loadClients = 16
	// stopRounds is how often the sidecar is asked to end under load.
	stopRounds = 3
	maxStop    = 10 * time.Second
	// torturingRounds is how often it is killed on each storage when there is time, and
	// leastRounds, which are 200 on all three, when there is less than torturingTime.
	torturingRounds = 200
	leastRounds     = 67
	torturingTime   = 3 * time.Minute
)

// torturous returns how often a test is to try something.
func torturous(usually, torturing int) int {
	if *torture {
		return torturing
	}
	return usually
}

// seeded returns the source of a load, and says how to repeat it.
func seeded(t *testing.T) *rand.Rand {
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("to repeat the load: -crash-seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestKillLosesNothing kills the sidecar with SIGKILL while it is written to.
func TestKillLosesNothing(t *testing.T) { onEach(t, testKillLosesNothing) }

func testKillLosesNothing(t *testing.T, on *sidecar.Binary) {
	rounds := *crashRounds
	if *torture {
		// What is looked for is lost writes, not data races.
		on, rounds = on.Shipped(t), max(rounds, torturingRounds)
	}
	v := on.Init(t)
	if v.URL != "" && !*torture {
		rounds = (rounds + 2) / 3
	}
	to := newTold(t)
	endUnderLoad(t, v, to, rounds, (*sidecar.Sidecar).Kill)
}

// TestStopLosesNothing ends it with SIGTERM while it is written to: what it
// carries out, it also answers.
func TestStopLosesNothing(t *testing.T) { onEach(t, testStopLosesNothing) }

func testStopLosesNothing(t *testing.T, on *sidecar.Binary) {
	h := endUnderLoad(t, on.Init(t), newTold(t), stopRounds, func(s *sidecar.Sidecar) {
		if took := s.Stop(); took > maxStop {
			t.Errorf("the sidecar took %s to end", took)
		}
	})
	if h.cutButDone > 0 {
		t.Errorf("%d requests were carried out and not answered", h.cutButDone)
	}
}

// endUnderLoad ends a sidecar under load so many times, and after each start
// holds what is stored to what clients were told. At the end another system
// has been told of the last state of every slot.
func endUnderLoad(t *testing.T, v *sidecar.Vault, to *toldLast, rounds int, end func(*sidecar.Sidecar)) *history {
	began, random, h := time.Now(), seeded(t), newHistory(t)
	args := append(to.configure(t, v), "--keep-versions", "24")
	for round := range rounds {
		if round >= leastRounds && time.Since(began) > torturingTime {
			t.Logf("%d rounds", round)
			break
		}
		s := v.Start(t, args...)
		h.check(s.Admin())
		load(s, h, random, fmt.Sprintf("r%d", round), end)
		if round%torturous(1, 20) == 0 {
			wantsIntact(t, verifyOffline(t, v))
			t.Logf("round %d after %v", round, time.Since(began).Round(time.Millisecond))
		}
		if t.Failed() {
			return h
		}
	}
	s := v.Start(t, args...)
	h.check(s.Admin())
	wantsIntact(t, s.Run("", "audit", "verify"))
	h.wantsEfforts()
	to.wants(t, s.Admin(), h)
	return h
}

func wantsIntact(t *testing.T, o sidecar.Outcome) {
	t.Helper()
	if o.Code != 0 || !strings.Contains(o.Stdout, "intact") {
		t.Errorf("audit verify ended with %d: %s%s", o.Code, o.Stdout, o.Stderr)
	}
}

// load sends requests from all clients until the sidecar has been ended, at a moment
// of chance after some were answered. They go past the recorder, which would take most of
// the time.
func load(s *sidecar.Sidecar, h *history, random *rand.Rand, round string, end func(*sidecar.Sidecar)) {
	var wg sync.WaitGroup
	var over atomic.Bool
	var answered atomic.Int64
	transport := &http.Transport{MaxIdleConnsPerHost: loadClients}
	defer transport.CloseIdleConnections()
	for i := range loadClients {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		c := sidecar.NewClient(h.t, s.URL, s.AdminKey, transport)
		wg.Go(func() {
			for n := 0; !over.Load(); n++ {
				if !h.attempt(c, newEffort(own, fmt.Sprintf("%s-%d-%d", round, i, n))) {
					return
				}
				answered.Add(1)
			}
		})
	}
	enough := 15 + random.Int64N(40)
	until(h.t, "requests that are answered", func() bool { return answered.Load() >= enough })
	time.Sleep(time.Duration(random.IntN(torturous(300, 100))) * time.Millisecond)
	end(s)
	over.Store(true)
	wg.Wait()
}

// The slots of the load. Those of sftp hold several fields.
var (
	loadIntegrations = []string{"slack", "salesforce", "sftp"}
	loadEnvironments = []string{"", "development", "production", "staging"}
)

type place struct{ integration, environment string }

func (p place) String() string { return p.integration + " in " + p.environment + "." }

type verb int

const (
	setting verb = iota
	removing
	reading
)

// effort is one request of a client, and what it was told.
type effort struct {
	id     string // the request's ID, which begins its value
	place  place
	verb   verb
	fields map[string]string

	began, ended uint64 // on the history's clock; ended is 0 when it was cut off
	status       int
	unconfirmed  bool
	credential   string
	version      uint64
	seq          uint64 // of its audit entry; 0: it changed nothing
}

func newEffort(random *rand.Rand, id string) *effort {
	e := &effort{id: id, place: place{
		loadIntegrations[random.IntN(len(loadIntegrations))],
		loadEnvironments[random.IntN(len(loadEnvironments))],
	}}
	switch n := random.IntN(10); {
	case n < 2:
		e.verb = removing
	case n < 3:
		e.verb = reading
	default:
		e.fields = spread(e.place, id+strings.Repeat("x", random.IntN(4000)))
	}
	return e
}

// spread puts a text into the fields of the place's integration.
func spread(p place, text string) map[string]string {
	if p.integration == "sftp" {
		return map[string]string{"host": text, "username": text + "u", "password": text + "p"}
	}
	return map[string]string{"value": text}
}

func (e *effort) body() any {
	if v, opaque := e.fields["value"]; opaque {
		return value(v)
	}
	return map[string]any{"fields": e.fields}
}

// send sends the request and notes the answer; the error is that of a request
// that was cut off.
func (e *effort) send(c *sidecar.Client) error {
	method, path, body := http.MethodPut, slot(e.place.integration, e.place.environment), any(nil)
	switch e.verb {
	case setting:
		body = e.body()
	case removing:
		method = http.MethodDelete
	case reading:
		method, path = http.MethodGet, ownResolve(e.place)
	}
	answer, err := c.Try(method, path, body, wire.HeaderRequestID+": "+e.id)
	if err != nil {
		return err
	}
	e.status = answer.Status
	if e.status == http.StatusServiceUnavailable {
		time.Sleep(10 * time.Millisecond)
		// Only this tells a change that may have happened from one that has not.
		e.unconfirmed = strings.Contains(string(answer.Body), "whole or not at all")
	}
	if e.status < http.StatusMultipleChoices {
		e.learn(answer)
	}
	return nil
}

func (e *effort) learn(answer *sidecar.Answer) {
	switch e.verb {
	case setting:
		r := sidecar.Data[wire.SetResult](answer)
		e.credential, e.version = r.ID, r.Version
	case removing:
		e.credential = sidecar.Data[wire.Removal](answer).ID
	case reading:
		r := sidecar.Data[wire.Resolved](answer)
		e.credential, e.version, e.fields = r.ID, r.Version, revealed(r)
	}
}

// ownResolve is where a slot's own credential is resolved, without those it could
// fall back to.
func ownResolve(p place) string {
	path := resolve(p.integration, p.environment)
	if p.environment == "" {
		return path + "?fallback=false"
	}
	return path + "&fallback=false"
}

func revealed(r wire.Resolved) map[string]string {
	plain := map[string]string{}
	if r.Value != nil {
		plain["value"] = r.Value.Reveal()
	}
	for name, v := range r.Fields {
		plain[name] = v.Reveal()
	}
	return plain
}
