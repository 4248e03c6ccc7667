//go:build linux

package host

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/vault"
)

// counter is a Metrics that remembers.
type counter struct {
	mu          sync.Mutex
	calls       map[string]int
	restarts    int
	processes   map[string]int
	quarantined []bool
}

func (c *counter) Call(_, _, outcome string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = map[string]int{}
	}
	c.calls[outcome]++
}

func (c *counter) Restart(string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restarts++
}

func (c *counter) Processes(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.processes == nil {
		c.processes = map[string]int{}
	}
	c.processes[name] = n
}

func (c *counter) Quarantined(_ string, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quarantined = append(c.quarantined, yes)
}

func TestDeadlines(t *testing.T) {
	for _, do := range []string{"slow", "hang"} {
		t.Run(do, func(t *testing.T) {
			m := new(counter)
			r := newRig(t, quick(), Options{Metrics: m}, fixtureProgram("p", "serve"))
			first := r.ask("p", order{Do: "pid"})
			began := time.Now()
			_, err := r.validate(within(300*time.Millisecond, "p", order{Do: do}))
			if got := reasonOf(t, err); got != "did not answer within 300ms" {
				t.Error(got)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if second := r.ask("p", order{Do: "pid"}); first == second {
				t.Error("the process that did not answer is still called")
			}
			eventually(t, "the process is gone", func() bool { return r.stateOf("p").Processes == 1 })
			if s := r.stateOf("p"); s.Restarts != 1 || s.Failures != 1 || s.Calls != 3 {
				t.Errorf("state: %+v", s)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.calls["timeout"] != 1 || m.calls["rejected"] != 2 || m.restarts != 1 || m.processes["p"] != 1 || len(m.quarantined) != 0 {
				t.Errorf("metrics: %+v", m)
			}
		})
	}
}

// A process that hangs in one call keeps the others that are under way for a while.
func TestHungProcessKeepsItsCalls(t *testing.T) {
	tun := quick()
	tun.grace = 10 * time.Second
	r := newRig(t, tun, Options{}, fixtureProgram("p", "serve"))
	r.ok("p")
	done := make(chan error, 1)
	go func() {
		_, err := r.validate(callTo("p", order{Do: "sleep", N: 800}))
		done <- err
	}()
	eventually(t, "it is called", func() bool { return r.underWay("p") == 1 })
	if _, err := r.validate(within(200*time.Millisecond, "p", order{Do: "hang"})); err == nil {
		t.Fatal("a hung call was answered")
	}
	if err := <-done; err != nil {
		t.Errorf("the other call: %v", err)
	}
	eventually(t, "the process is gone", func() bool { return r.stateOf("p").Processes == 0 })
}

// Calls that the hung process takes along are told apart from those that it crashed in.
func TestHungProcessTakesOthersAlong(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	r.ok("p")
	done := make(chan error, 1)
	go func() {
		_, err := r.validate(callTo("p", order{Do: "hang"}))
		done <- err
	}()
	eventually(t, "it is called", func() bool { return r.underWay("p") == 1 })
	if _, err := r.validate(within(200*time.Millisecond, "p", order{Do: "hang"})); err == nil {
		t.Fatal("a hung call was answered")
	}
	if got := reasonOf(t, <-done); got != "was stopped during the call" {
		t.Error(got)
	}
	if s := r.stateOf("p"); s.Status == vault.PluginBackoff || s.Reason != "" {
		t.Errorf("it counts as a crash: %+v", s)
	}
}

func (r *rig) underWay(name string) int {
	r.t.Helper()
	p, err := r.program(name)
	if err != nil {
		r.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, m := range p.members {
		n += m.calls
	}
	return n
}

// A caller that goes away, or leaves little time, does not cost the process its life.
func TestImpatientCallers(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	pid := r.ask("p", order{Do: "pid"})
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := r.Validate(ctx, callTo("p", order{Do: "slow"}))
	if got := reasonOf(t, err); got != "was not waited for: the caller is gone" {
		t.Error(got)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = r.Validate(ctx, callTo("p", order{Do: "slow"}))
	if got := reasonOf(t, err); got != "did not answer before the caller's deadline" {
		t.Error(got)
	}
	if again := r.ask("p", order{Do: "pid"}); again != pid {
		t.Error("the process has been replaced")
	}
}

func TestBusy(t *testing.T) {
	p := fixtureProgram("p", "serve")
	p.Calls = 2
	m := new(counter)
	r := newRig(t, quick(), Options{Metrics: m}, p)
	r.ok("p")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := r.validate(callTo("p", order{Do: "sleep", N: 700})); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "both are called", func() bool { return r.underWay("p") == 2 })
	_, err := r.validate(within(100*time.Millisecond, "p", order{}))
	if got := reasonOf(t, err); !strings.HasPrefix(got, "is busy: 2 calls at once") {
		t.Error(got)
	}
	r.ok("p") // waits for its turn
	wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls["busy"] != 1 || m.calls["ok"] != 4 || m.restarts != 0 {
		t.Errorf("metrics: %+v", m)
	}
}

// At most Calls calls reach the processes at once, and all of the pool is used.
func TestPool(t *testing.T) {
	p := fixtureProgram("p", "serve")
	p.Calls, p.Instances = 6, 3
	r := newRig(t, quick(), Options{}, p)
	var most atomic.Int64
	var pids sync.Map
	stop := make(chan struct{})
	var watch, wg sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				most.Store(max(most.Load(), int64(r.underWay("p"))))
				time.Sleep(time.Millisecond)
			}
		}
	})
	for range 20 {
		wg.Go(func() {
			for {
				v, err := r.validate(callTo("p", order{Do: "pid", N: 20}))
				if err != nil {
					t.Error(err)
				}
				pids.Store(v.Message, true)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	eventually(t, "three processes are called", func() bool {
		n := 0
		pids.Range(func(any, any) bool { n++; return true })
		return n == 3
	})
	close(stop)
	wg.Wait()
	watch.Wait()
	if s := r.stateOf("p"); most.Load() > 6 || most.Load() < 3 || s.Processes != 3 || s.Restarts != 0 {
		t.Errorf("%d calls at once: %+v", most.Load(), s)
	}
}

func TestFirstCallsShareOneStart(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { r.ok("p") })
	}
	wg.Wait()
	if s := r.stateOf("p"); s.Processes != 1 || s.Restarts != 0 || s.Calls != 10 {
		t.Errorf("%+v", s)
	}
}

func TestQuarantine(t *testing.T) {
	m := new(counter)
	tun := quick()
	tun.quarantine, tun.maxQuar = 2*time.Second, 3*time.Second
	r := newRig(t, tun, Options{Metrics: m}, fixtureProgram("p", "serve"))
	// Whether the process's end is seen first by the call or by the host is open.
	crashed := func(reason string) bool {
		return reason == "crashed during the call" || reason == "crashed: it exited with code 3"
	}
	crashes := 0
	eventually(t, "it is quarantined", func() bool {
		_, err := r.validate(callTo("p", order{Do: "crash"}))
		reason := reasonOf(t, err)
		_, last, _ := strings.Cut(reason, ": the last time it ")
		switch {
		case reason == "crashed during the call":
			crashes++
		case strings.HasPrefix(reason, fmt.Sprintf("is held back after %d failures, next start at ", crashes)) && crashed(last):
			if s := r.stateOf("p"); s.Status != vault.PluginBackoff && s.Status != vault.PluginIdle {
				t.Errorf("state: %+v", s)
			}
		case strings.HasPrefix(reason, "is quarantined after 5 failures, next start at "):
			return true
		default:
			t.Error(reason)
		}
		return false
	})
	if s := r.stateOf("p"); crashes != 5 || s.Status != vault.PluginQuarantined || s.NextStart.IsZero() || !crashed(s.Reason) || s.Restarts != 4 {
		t.Errorf("after %d crashes: %+v", crashes, s)
	}
	began := time.Now()
	if _, err := r.validate(callTo("p", order{})); err == nil || time.Since(began) > time.Second {
		t.Errorf("a call in quarantine: %v after %v", err, time.Since(began))
	}
	eventually(t, "a probe is let through", func() bool {
		_, err := r.validate(callTo("p", order{Do: "crash"}))
		return reasonOf(t, err) == "crashed during the call"
	})
	eventually(t, "it is quarantined again", func() bool { return r.stateOf("p").Status == vault.PluginQuarantined })
	eventually(t, "it recovers", func() bool {
		_, err := r.validate(callTo("p", order{}))
		return err == nil
	})
	if s := r.stateOf("p"); s.Status != vault.PluginRunning || s.Reason != "" || !s.NextStart.IsZero() {
		t.Errorf("recovered: %+v", s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if got := fmt.Sprint(m.quarantined); got != "[true true false]" {
		t.Errorf("quarantined: %s", got)
	}
}

// A process that is killed from outside while it has nothing to do is found out.
func TestIdleCrash(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	killPID(t, r.ask("p", order{Do: "pid"}))
	eventually(t, "its end is seen", func() bool { return r.stateOf("p").Processes == 0 })
	if s := r.stateOf("p"); s.Reason != "crashed: it was killed by signal 9" {
		t.Errorf("%+v", s)
	}
	r.ok("p")
}

func TestReloadUnderLoad(t *testing.T) {
	keep, change := fixtureProgram("keep", "serve"), fixtureProgram("change", "serve")
	gone := fixtureProgram("gone", "serve")
	m := new(counter)
	r := newRig(t, quick(), Options{Metrics: m}, keep, change, gone)
	kept, old := r.ask("keep", order{Do: "pid"}), r.ask("change", order{Do: "pid"})
	r.ok("gone")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var calls atomic.Int64
	for _, name := range []string{"keep", "change", "change"} {
		for range 3 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := r.validate(callTo(name, order{Do: "sleep", N: 5})); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					calls.Add(1)
				}
			})
		}
	}
	for i := range 8 {
		next := change
		next.Env = map[string]string{"ROUND": fmt.Sprint(i)}
		if err := r.Reload([]Program{keep, next}); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if r.ask("keep", order{Do: "pid"}) != kept || r.ask("change", order{Do: "pid"}) == old {
		t.Error("the wrong processes have been replaced")
	}
	if _, err := r.validate(callTo("gone", order{})); reasonOf(t, err) != "is not configured" {
		t.Error(err)
	}
	eventually(t, "old processes are gone", func() bool { return len(descendants(os.Getpid())) == 4 })
	eventually(t, "and not counted", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.processes["gone"] == 0 && m.processes["change"] == 1
	})
	t.Logf("%d calls", calls.Load())
	if err := r.Reload([]Program{{Name: "bad"}}); err == nil {
		t.Error("a bad list was taken")
	}
	r.ok("keep")
}

// Reload gives what is held back a new chance, and finds a file that has changed.
func TestReloadForgives(t *testing.T) {
	tun := quick()
	tun.firstPause, tun.maxPause = time.Hour, time.Hour
	bad, good := fixtureProgram("p", "exit3"), fixtureProgram("q", "serve")
	r := newRig(t, tun, Options{}, bad, good)
	for range 2 {
		_, err := r.validate(callTo("p", order{}))
		if got := reasonOf(t, err); got != "exited with code 3 before the handshake" {
			t.Fatal(got)
		}
	}
	_, err := r.validate(callTo("p", order{}))
	if got := reasonOf(t, err); !strings.HasPrefix(got, "is held back after 2 failures") {
		t.Fatal(got)
	}
	pid := r.ask("q", order{Do: "pid"})
	if err := r.Reload([]Program{bad, good}); err != nil {
		t.Fatal(err)
	}
	_, err = r.validate(callTo("p", order{}))
	if got := reasonOf(t, err); got != "exited with code 3 before the handshake" {
		t.Error(got)
	}
	if r.ask("q", order{Do: "pid"}) != pid {
		t.Error("a program that works was started again")
	}
}

// Close waits for calls as long as it may, and no longer.
func TestClose(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	r.ok("p")
	results := make(chan error, 2)
	call := func(o order) {
		_, err := r.validate(callTo("p", o))
		results <- err
	}
	go call(order{Do: "sleep", N: 300})
	eventually(t, "it is called", func() bool { return r.underWay("p") == 1 })
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := <-results; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	_, err := r.validate(callTo("p", order{}))
	if got := reasonOf(t, err); got != "is stopped: the sidecar is shutting down" {
		t.Error(got)
	}
	if err := r.Reload(nil); err == nil {
		t.Error("a closed host was reloaded")
	}
}

func TestCloseKills(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	r.ok("p")
	done := make(chan error, 1)
	go func() {
		_, err := r.validate(callTo("p", order{Do: "hang"}))
		done <- err
	}()
	eventually(t, "it is called", func() bool { return r.underWay("p") == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := r.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := reasonOf(t, <-done); got != "was stopped during the call" {
		t.Error(got)
	}
}

// lateContext is one whose timer is late: it has not ended when its deadline passes.
type lateContext struct{ context.Context }

func (lateContext) Deadline() (time.Time, bool) { return time.Now(), true }

func TestDeadlineBeforeItsTimer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if !isOver(lateContext{ctx}) || ctx.Err() == nil {
		t.Error("a call whose deadline has passed is not over, or before its context")
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if isOver(ctx) {
		t.Error("a call is over that has an hour left")
	}
}
