package acceptance

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// told is a change as the syncer of programs/syncer hands it on.
type told struct {
	Change, Integration, Environment, Name, ID, Key, Value string
	Version                                                uint64
	Attempt                                                int
}

// system is the other system: it remembers what it is told, and answers as it is
// set to.
type system struct {
	*httptest.Server
	mu     sync.Mutex
	got    []told
	answer func(told) int
}

func newSystem(t *testing.T) *system {
	s := new(system)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c told
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.got = append(s.got, c)
		answer := s.answer
		s.mu.Unlock()
		if answer != nil {
			w.WriteHeader(answer(c))
			fmt.Fprintf(w, "the value %s was not taken", c.Value)
		}
	}))
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Close)
	return s
}

func (s *system) answers(f func(told) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *system) calls() []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]told(nil), s.got...)
}

func always(status int) func(told) int { return func(told) int { return status } }

// carried is a vault whose integration acme tells the other system.
func carried(t *testing.T, to *system, more string) (*sidecar.Vault, []string) {
	t.Helper()
	v := binary.Init(t)
	catalog := fmt.Sprintf("integrations:\n  - {key: acme, syncers: [{plugin: carrier, config: {url: %q}, timeout: 3s%s}]}\n", to.URL, more)
	return v, v.Configure(t, catalog, sidecar.Program{Name: "carrier", Path: binary.BuildProgram(t, "./programs/syncer")})
}

func syncState(t *testing.T, c *sidecar.Client, environment string) wire.Sync {
	t.Helper()
	status := sidecar.Data[wire.SlotStatus](c.Get(slotOf("acme") + environment).Wants(http.StatusOK))
	if len(status.Sync) != 1 {
		t.Fatalf("the status has %d syncs", len(status.Sync))
	}
	return status.Sync[0]
}

// TestSyncIsSurfacedOnSet follows the documented case: the sync fails, the value is
// stored, and a retry of the call succeeds.
func TestSyncIsSurfacedOnSet(t *testing.T) {
	t.Parallel()
	other := newSystem(t)
	v, args := carried(t, other, "")
	s := v.Start(t, args...)
	c := newCanary(t, s)
	admin := s.Admin()
	other.answers(always(http.StatusBadGateway))
	a := c.inspect(admin.Put(slotOf("acme")+"?environment=staging", map[string]any{"value": c.secret}))
	f := a.Fails(http.StatusInternalServerError, "TOOL_SETUP_FAILED")
	wantsLine(t, s, "a sync failed and is tried again", f.RequestID)
	if !strings.Contains(f.Error.Message+f.Error.Details, "502") || !strings.Contains(string(a.Body), `"data":{`) || !strings.Contains(string(a.Body), `"version":1`) {
		t.Errorf("the answer does not tell what failed and what is stored: %s", a.Body)
	}
	admin.Get("/v1/credentials/acme?environment=staging").Wants(http.StatusOK)
	sync := syncState(t, admin, "?environment=staging")
	if sync.State != "failing" || sync.Attempts == 0 || sync.LastError == "" || sync.NextAttempt == nil {
		t.Errorf("the status says %+v", sync)
	}
	if o := s.Run("", "sync", "list"); o.Code != 0 || !strings.Contains(o.Stdout, "acme") || !strings.Contains(o.Stdout, "failing") {
		t.Errorf("sidevault sync list ended with %d: %s%s", o.Code, o.Stdout, o.Stderr)
	}
	other.answers(nil)
	admin.Put(slotOf("acme")+"?environment=staging", map[string]any{"value": c.secret + "2"}).Wants(http.StatusOK)
	if sync = syncState(t, admin, "?environment=staging"); sync.State != "synced" {
		t.Errorf("the status says %+v", sync)
	}
	got := other.calls()
	if last := got[len(got)-1]; last.Value != c.secret+"2" || last.Version != 2 || last.Environment != "staging" {
		t.Error("the other system has another value")
	}
	if got[0].Key == got[len(got)-1].Key {
		t.Error("two changes have one idempotency key")
	}
	c.absent()
}

// TestSyncIsSwallowedOnRemove removes while the other system is away, and sees it
// told later.
func TestSyncIsSwallowedOnRemove(t *testing.T) {
	t.Parallel()
	other := newSystem(t)
	v, args := carried(t, other, "")
	s := v.Start(t, args...)
	admin := s.Admin()
	admin.Put(slotOf("acme"), map[string]any{"value": "x-value"}).Wants(http.StatusCreated)
	other.answers(always(http.StatusServiceUnavailable))
	admin.Delete(slotOf("acme")).Wants(http.StatusOK)
	waitFor(t, "a failed attempt", func() bool { return syncState(t, admin, "").State == "failing" })
	other.answers(nil)
	if o := s.Run("", "sync", "retry", "acme"); o.Code != 0 {
		t.Errorf("sidevault sync retry ended with %d: %s", o.Code, o.Stderr)
	}
	waitFor(t, "the removal", func() bool { return syncState(t, admin, "").State == "synced" })
	got := other.calls()
	first, last := got[1], got[len(got)-1]
	if last.Change != "remove" || last.Value != "" || first.Key != last.Key || last.Attempt < 2 {
		t.Errorf("told %+v, then %+v", first, last)
	}
}

// TestKilledBetweenCommitAndSync kills the sidecar while the other system has not
// answered: the change is stored, and told after the restart, in order.
func TestKilledBetweenCommitAndSync(t *testing.T) {
	t.Parallel()
	other := newSystem(t)
	v, args := carried(t, other, "")
	s := v.Start(t, args...)
	held := make(chan struct{})
	other.answers(func(told) int { <-held; return http.StatusOK })
	go s.Admin().Try(http.MethodPut, slotOf("acme"), map[string]any{"value": "first-value"})
	waitFor(t, "the first attempt", func() bool { return len(other.calls()) == 1 })
	s.Kill()
	other.answers(nil)
	close(held)
	s = v.Start(t, args...)
	admin := s.Admin()
	waitFor(t, "the delivery", func() bool { return syncState(t, admin, "").State == "synced" })
	admin.Put(slotOf("acme"), map[string]any{"value": "second-value"}).Wants(http.StatusOK)
	var versions []uint64
	for _, c := range other.calls() {
		versions = append(versions, c.Version)
	}
	if n := len(versions); n < 3 || versions[n-1] != 2 || versions[n-2] != 1 {
		t.Errorf("told of versions %d", versions)
	}
}

// TestManySyncsDrain has 1,000 changes wait for a system that was away, and sets
// another credential while they drain.
func TestManySyncsDrain(t *testing.T) {
	t.Parallel()
	const many = 1000
	other := newSystem(t)
	v, args := carried(t, other, ", mode: swallow")
	s := v.Start(t, args...)
	admin := s.Admin()
	other.answers(always(http.StatusServiceUnavailable))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := w; n < many; n += 8 {
				admin.Put(fmt.Sprintf("%s?name=slot-%d", slotOf("acme"), n), map[string]any{"value": "x-value"}).Wants(http.StatusCreated)
			}
		})
	}
	wg.Wait()
	if m := string(admin.Get("/metrics").Body); !strings.Contains(m, `sidevault_sync_pending{plugin="carrier"}`) {
		t.Error("the metrics do not tell what is pending")
	}
	other.answers(nil)
	admin.Post("/v1/sync/retry", map[string]any{"integrationId": "acme"}).Wants(http.StatusOK)
	began := time.Now()
	admin.Put(slotOf("acme"), map[string]any{"value": "y-value"}).Wants(http.StatusCreated)
	admin.Get("/v1/credentials/acme").Wants(http.StatusOK)
	t.Logf("a set and a resolve meanwhile took %s", time.Since(began))
	waitFor(t, "the last delivery", func() bool {
		return len(sidecar.Data[[]wire.Sync](admin.Get("/v1/sync?limit=1").Wants(http.StatusOK))) == 0
	})
}

// TestBundledTrustRadius runs the bundled syncer against an aggregator that fails on
// demand, with the built-in catalog's entry.
func TestBundledTrustRadius(t *testing.T) {
	t.Parallel()
	type request struct{ method, path, key, token, body string }
	var mu sync.Mutex
	var got []request
	status := http.StatusInternalServerError
	aggregator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, request{r.Method, r.URL.Path, r.Header.Get("Idempotency-Key"), r.Header.Get("Authorization"), string(body)})
		w.WriteHeader(status)
	}))
	defer aggregator.Close()
	token := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(token, []byte("aggregator-token\n"), 0o600))
	v := binary.Init(t)
	s := v.Start(t, v.Configure(t, "integrations:\n  - {key: trustradius, syncers: [{plugin: trustradius, timeout: 5s}]}\n", sidecar.Program{
		Name: "trustradius", Path: binary.BuildProgram(t, "github.com/sidevault/sidevault/plugins/trustradius"),
		Env:  map[string]string{"TR_URL": aggregator.URL, "TR_TOKEN_FILE": token},
		More: []string{"read: [" + token + "]"},
	})...)
	admin := s.Admin()
	admin.Put(slotOf("trustradius"), map[string]any{"value": "tr-value"}).Fails(http.StatusInternalServerError, "TOOL_SETUP_FAILED")
	mu.Lock()
	status = http.StatusOK
	mu.Unlock()
	set := sidecar.Data[wire.SetResult](admin.Put(slotOf("trustradius"), map[string]any{"value": "tr-value-2"}).Wants(http.StatusOK))
	admin.Delete(slotOf("trustradius")).Wants(http.StatusOK)
	waitFor(t, "the removal", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got[len(got)-1].method == http.MethodDelete
	})
	mu.Lock()
	defer mu.Unlock()
	put := got[len(got)-2]
	if put.method != http.MethodPut || !strings.Contains(put.body, "tr-value-2") || !strings.Contains(put.key, set.Credential.ID) || !strings.Contains(put.token, "aggregator-token") {
		t.Errorf("the aggregator got %+v", put)
	}
	for _, r := range got {
		if strings.Contains(r.path, "tr-value") {
			t.Error("the value is in a URL")
		}
	}
}
