package acceptance

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// maxLag is how late a sidecar may learn, on a machine that does more besides, what
// another has changed. What it takes is in the log.
const maxLag = 2 * time.Second

// twoSidecars serves one vault from two hosts, so to speak.
func twoSidecars(t *testing.T, on *sidecar.Binary, args ...string) [2]*sidecar.Sidecar {
	t.Helper()
	v := on.Init(t)
	return [2]*sidecar.Sidecar{v.Start(t, args...), v.OtherHost(t).Start(t, args...)}
}

// until polls until done, and returns how long that took.
func until(t *testing.T, what string, done func() bool) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(200 * time.Microsecond) {
		if done() {
			return time.Since(began)
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%s: not seen within 30s", what)
		}
	}
}

// resolves reports whether the shared credential of salesforce answers so.
func resolves(c *sidecar.Client, status int, secret string) bool {
	answer, err := c.Try(http.MethodGet, resolve("salesforce", "staging"), nil)
	if err != nil || answer.Status != status {
		return false
	}
	if status != http.StatusOK {
		return true
	}
	var body struct{ Data struct{ Value string } }
	return json.Unmarshal(answer.Body, &body) == nil && body.Data.Value == secret
}

// TestOtherSidecarsSeeChanges changes a credential through one sidecar, which shows
// the change at once, and waits for the other.
func TestOtherSidecarsSeeChanges(t *testing.T) {
	t.Parallel()
	onShared(t, testOtherSidecarsSeeChanges)
}

func testOtherSidecarsSeeChanges(t *testing.T, on *sidecar.Binary) {
	two := twoSidecars(t, on)
	lags := map[string][]time.Duration{}
	for round := range 20 {
		writer, reader := two[round%2].Admin(), two[1-round%2].Admin()
		step := func(what string, status int, secret string, change func()) {
			t.Helper()
			change()
			if !resolves(writer, status, secret) {
				t.Errorf("%s: not seen by the sidecar that made the change", what)
			}
			lag := until(t, what, func() bool { return resolves(reader, status, secret) })
			lags[what] = append(lags[what], lag)
		}
		var set wire.SetResult
		first, second := fmt.Sprint("first ", round), fmt.Sprint("second ", round)
		step("set", http.StatusOK, first, func() { writer.Put(slot("salesforce", "staging"), value(first)).Wants(http.StatusCreated) })
		step("rotate", http.StatusOK, second, func() {
			set = sidecar.Data[wire.SetResult](writer.Put(slot("salesforce", "staging"), value(second)).Wants(http.StatusOK))
		})
		step("deactivate", http.StatusConflict, "", func() {
			writer.Patch(atID(set.Credential), map[string]any{"status": "inactive"}).Wants(http.StatusOK)
		})
		step("activate", http.StatusOK, second, func() {
			writer.Patch(atID(set.Credential), map[string]any{"status": "active"}).Wants(http.StatusOK)
		})
		step("delete", http.StatusNotFound, "", func() { writer.Delete(slot("salesforce", "staging")).Wants(http.StatusOK) })
	}
	for what, list := range lags {
		slices.Sort(list)
		median, worst := list[len(list)/2], list[len(list)-1]
		t.Logf("%s is seen by the other sidecar after %v at the median, %v at worst", what, median, worst)
		if median > maxLag {
			t.Errorf("%s takes %v", what, median)
		}
	}
}

// TestTwoSidecarsKeepOneAccount uses two sidecars at a time: the log has no gap, its
// chain holds, and reads through both count.
func TestTwoSidecarsKeepOneAccount(t *testing.T) {
	t.Parallel()
	onShared(t, testTwoSidecarsKeepOneAccount)
}

func testTwoSidecarsKeepOneAccount(t *testing.T, on *sidecar.Binary) {
	const each = 40
	two := twoSidecars(t, on)
	cred := createNamed(two[0].Admin(), "default", "s")
	before := sidecar.Data[wire.AuditHead](two[0].Admin().Get("/v1/audit/head").Wants(http.StatusOK)).Seq
	var wg sync.WaitGroup
	for n := range 8 {
		c := two[n%2].Admin()
		wg.Go(func() {
			for i := range each {
				if a, err := c.Try(http.MethodPut, slot("sftp", "")+fmt.Sprint("?name=n", i%5), value("x")); err != nil || a.Status > http.StatusCreated {
					t.Errorf("a set: %v, %+v", err, a)
				}
				if a, err := c.Try(http.MethodGet, resolve("slack", "staging"), nil); err != nil || a.Status != http.StatusOK {
					t.Errorf("a read: %v, %+v", err, a)
				}
			}
		})
	}
	wg.Wait()
	for _, s := range two {
		admin := s.Admin()
		until(t, "the reads of both sidecars", func() bool {
			return sidecar.Data[wire.Usage](admin.Get(atID(cred)+"/usage").Wants(http.StatusOK)).Reads == 8*each
		})
		wantsGapless(t, admin, before, 8*each)
	}
}

// wantsGapless fails the test unless the log is intact, and its entries after that one
// are numbered without gaps and have so many sets of sftp. Before it are those that
// belong to no org and are not shown.
func wantsGapless(t *testing.T, c *sidecar.Client, after uint64, sets int) {
	t.Helper()
	head := sidecar.Data[wire.AuditHead](c.Get("/v1/audit/head?verify=true").Wants(http.StatusOK))
	if head.Intact == nil || !*head.Intact {
		t.Error("the audit log's chain is broken")
	}
	next, found := uint64(0), 0
	for e := range auditPages(c, "limit=500") {
		if e.Seq <= after {
			break
		}
		if next != 0 && e.Seq != next {
			t.Fatalf("entry %d is followed by %d", e.Seq, next+1)
		}
		next = e.Seq - 1
		if e.Action == "set_integration_credentials" && e.TargetID == "sftp" {
			found++
		}
	}
	if next != after || found != sets {
		t.Errorf("the log ends before entry %d, and has %d sets of %d", next+1, found, sets)
	}
}

func TestKeysAreRevokedEverywhere(t *testing.T) {
	t.Parallel()
	onShared(t, testKeysAreRevokedEverywhere)
}

func testKeysAreRevokedEverywhere(t *testing.T, on *sidecar.Binary) {
	two := twoSidecars(t, on)
	createNamed(two[0].Admin(), "default", "s")
	for round := range 5 {
		here, there := two[round%2].Admin(), two[1-round%2].Admin()
		key := createKey(here, map[string]any{"name": "k", "scope": "user", "environments": []string{"*"}, "integrations": []string{"*"}})
		answers := func(status int) func() bool {
			return func() bool {
				a, err := there.As(key.Key).Try(http.MethodGet, resolve("slack", "staging"), nil)
				return err == nil && a.Status == status
			}
		}
		made := until(t, "a key that was created", answers(http.StatusOK))
		here.Delete("/v1/keys/" + key.ID).Wants(http.StatusOK)
		here.As(key.Key).Get(resolve("slack", "staging")).Fails(http.StatusUnauthorized, "UNAUTHORIZED")
		revoked := until(t, "a key that was revoked", answers(http.StatusUnauthorized))
		t.Logf("a key works at the other sidecar after %v, and no more after %v", made, revoked)
		if made > maxLag || revoked > maxLag {
			t.Error("that is too late")
		}
	}
}

// receiver is another system that notes when it is told two things of one slot at a
// time.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	running  map[string]int
	overlaps int
	last     map[string]uint64
	calls    int
	failing  bool // half of the calls
	held     chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{running: map[string]int{}, last: map[string]uint64{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var c told
		if err := json.NewDecoder(req.Body).Decode(&c); err != nil {
			t.Error(err)
		}
		if r.receive(c) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(r.Close)
	t.Cleanup(r.CloseClientConnections)
	return r
}

// receive takes its time, and reports whether it refuses.
func (r *receiver) receive(c told) bool {
	r.mu.Lock()
	r.calls++
	r.running[c.Name]++
	if r.running[c.Name] > 1 {
		r.overlaps++
	}
	held := r.held
	r.mu.Unlock()
	if held != nil {
		<-held
	}
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[c.Name]--
	if r.failing && rand.IntN(2) == 0 {
		return true
	}
	r.last[c.Name] = c.Version
	return false
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// carriers are two sidecars that tell a receiver of what changes.
func carriers(t *testing.T, on *sidecar.Binary, to *receiver, timeout time.Duration) [2]*sidecar.Sidecar {
	t.Helper()
	v := on.Init(t)
	catalog := fmt.Sprintf("integrations:\n  - {key: acme, syncers: [{plugin: carrier, config: {url: %q}, timeout: %s, mode: swallow}]}\n", to.URL, timeout)
	carrier := sidecar.Program{Name: "carrier", Path: binary.BuildProgram(t, "./programs/syncer")}
	other := v.OtherHost(t)
	return [2]*sidecar.Sidecar{v.Start(t, v.Configure(t, catalog, carrier)...), other.Start(t, other.Configure(t, catalog, carrier)...)}
}

func pending(c *sidecar.Client) int {
	return len(sidecar.Data[[]wire.Sync](c.Get("/v1/sync?limit=1").Wants(http.StatusOK)))
}

// TestSidecarsShareTheirSyncs sets slots through two sidecars while half of the
// deliveries fail: nothing is delivered twice at a time, and every slot's last
// version is delivered last.
func TestSidecarsShareTheirSyncs(t *testing.T) {
	t.Parallel()
	onShared(t, testSidecarsShareTheirSyncs)
}

func testSidecarsShareTheirSyncs(t *testing.T, on *sidecar.Binary) {
	const slots, sets = 10, 6
	to := newReceiver(t)
	to.failing = true
	two := carriers(t, on, to, 10*time.Second)
	var wg sync.WaitGroup
	for n := range slots {
		wg.Go(func() {
			for i := range sets {
				two[(n+i)%2].Admin().Put(fmt.Sprintf("%s?name=slot-%d", slotOf("acme"), n), map[string]any{"value": "x-value"})
			}
		})
	}
	wg.Wait()
	to.mu.Lock()
	to.failing = false
	to.mu.Unlock()
	two[0].Admin().Post("/v1/sync/retry", map[string]any{"integrationId": "acme"}).Wants(http.StatusOK)
	waitFor(t, "the last delivery", func() bool { return pending(two[0].Admin())+pending(two[1].Admin()) == 0 })
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.overlaps > 0 {
		t.Errorf("%d of %d deliveries overlapped", to.overlaps, to.calls)
	}
	for n := range slots {
		if last := to.last[fmt.Sprint("slot-", n)]; last != sets {
			t.Errorf("slot %d: version %d was delivered last", n, last)
		}
	}
}

// TestKilledSidecarsSyncsAreDelivered kills a sidecar during a delivery: the other
// waits for the lease to run out, and delivers then.
func TestKilledSidecarsSyncsAreDelivered(t *testing.T) {
	t.Parallel()
	onShared(t, testKilledSidecarsSyncsAreDelivered)
}

func testKilledSidecarsSyncsAreDelivered(t *testing.T, on *sidecar.Binary) {
	to := newReceiver(t)
	held := make(chan struct{})
	to.held = held
	t.Cleanup(func() { close(held) })
	two := carriers(t, on, to, time.Second)
	go two[0].Admin().Try(http.MethodPut, slotOf("acme"), map[string]any{"value": "x-value"})
	waitFor(t, "the first attempt", func() bool { return to.count() == 1 })
	time.Sleep(500 * time.Millisecond)
	if n := to.count(); n != 1 {
		t.Errorf("%d deliveries of one change at a time", n)
	}
	two[0].Kill()
	to.mu.Lock()
	to.running = map[string]int{} // who was told is gone
	to.held = nil
	to.mu.Unlock()
	began := time.Now()
	for syncState(t, two[1].Admin(), "").State != "synced" {
		if time.Since(began) > time.Minute {
			t.Fatal("the other sidecar does not deliver what the killed one had begun")
		}
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(began)
	t.Logf("delivered %v after the kill", took.Round(time.Millisecond))
	if took < 5*time.Second || to.count() < 2 {
		t.Errorf("delivered %d times, after %v: before the lease can have run out", to.count(), took)
	}
}
