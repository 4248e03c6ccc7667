package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

// programs are plugins in this process. What they do is in their config, or in the
// fields that they are given.
type programs struct {
	slow   time.Duration // of a validation
	failed atomic.Bool   // syncs fail
	states []vault.PluginState
}

func (p *programs) Validate(ctx context.Context, c vault.PluginCall) (vault.Validation, error) {
	select {
	case <-time.After(p.slow):
	case <-ctx.Done():
		return vault.Validation{}, &vault.PluginError{Plugin: c.Binding.Plugin, Reason: "did not answer in time"}
	}
	value := c.Fields[vault.ValueField].Reveal()
	if secret, ok := c.Fields["key"]; ok {
		value = secret.Reveal()
	}
	switch {
	case value == "crash":
		return vault.Validation{}, &vault.PluginError{Plugin: c.Binding.Plugin, Reason: "crashed", Err: errors.New("exit status 2")}
	case strings.HasPrefix(value, "bad"):
		return vault.Validation{Rejected: true, Message: "nobody knows " + value, Fields: map[string]string{"key": "has the form of " + value, "other": "x"}}, nil
	}
	return vault.Validation{}, nil
}

func (p *programs) Sync(context.Context, vault.SyncCall) (vault.SyncResult, error) {
	if p.failed.Load() {
		return vault.SyncResult{Failed: true, Message: "the receiver is down"}, nil
	}
	return vault.SyncResult{}, nil
}

func (p *programs) States() []vault.PluginState { return p.states }

// boundEntry is a catalog with salesforce, which has a validator and syncers.
type boundEntry struct{}

func (boundEntry) Lookup(key string) (vault.Integration, bool) {
	i, ok := oneEntry{}.Lookup(key)
	i.Validators = []vault.Validator{{Binding: vault.Binding{Name: "check", Plugin: "http"}}}
	i.Syncers = []vault.Syncer{
		{Binding: vault.Binding{Name: "tell", Plugin: "webhook"}, OnRemove: vault.Surface},
		{Binding: vault.Binding{Name: "quiet", Plugin: "webhook"}, OnSet: vault.Swallow},
	}
	return i, ok
}

func (b boundEntry) All() []vault.Integration {
	i, _ := b.Lookup("salesforce")
	return []vault.Integration{i}
}

// json sends a request and decodes the answer.
func (f *fixture) json(method, target, body string, into any) int {
	f.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8271"+target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+f.key)
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	if into != nil {
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			f.t.Fatalf("%s %s: %v", method, target, err)
		}
	}
	return w.Code
}

const slotPath = "/v1/integrations/salesforce/credentials"

func TestRejections(t *testing.T) { onEach(t, testRejections) }

func testRejections(t *testing.T, on storage) {
	f := openFixture(t, on, Options{}, boundEntry{}, &programs{})
	for _, path := range []string{"PUT " + slotPath, "POST " + slotPath + "/test"} {
		method, target, _ := strings.Cut(path, " ")
		var got wire.Failure
		status := f.json(method, target, `{"fields":{"key":"bad-`+canary+`"}}`, &got)
		if status != 400 || got.Error.Code != "INVALID_CREDENTIALS" || got.Error.Message != "nobody knows <redacted>" || got.Error.Details == "" || got.Data != nil {
			t.Errorf("%s: %d %+v", path, status, got)
		}
		if len(got.Detail) != 1 || strings.Join(got.Detail[0].Loc, ".") != "body.fields.key" || got.Detail[0].Type != "rejected" || got.Detail[0].Msg != "has the form of <redacted>" {
			t.Errorf("%s: %+v", path, got.Detail)
		}
		if status := f.json(method, target, `{"value":"crash"}`, &got); status != 503 || got.Error.Code != "VALIDATOR_UNAVAILABLE" {
			t.Errorf("%s: %d %+v", path, status, got)
		}
	}
	if status := f.json("GET", "/v1/credentials/salesforce", "", nil); status != http.StatusNotFound {
		t.Errorf("something is stored: %d", status)
	}
	if status := f.json("POST", slotPath+"/test", `{"value":"good","authType":"oauth2"}`, nil); status != 200 {
		t.Errorf("a good value: %d", status)
	}
	if strings.Contains(f.log.String(), canary) {
		t.Error("the log quotes a value")
	}
}

// failure is a Failure whose data is what was stored.
type failure struct {
	wire.Failure
	Data struct {
		wire.SetResult
		WasNoop *bool `json:"wasNoop"`
	} `json:"data"`
}

// After a syncer in surface mode has failed, the answer says what was stored all the
// same, on every route.
func TestStoredAndNotSynced(t *testing.T) { onEach(t, testStoredAndNotSynced) }

func testStoredAndNotSynced(t *testing.T, on storage) {
	p := new(programs)
	f := openFixture(t, on, Options{}, boundEntry{}, p)
	p.failed.Store(true)
	var set failure
	call := func(method, target, body string) failure {
		t.Helper()
		var got failure
		status := f.json(method, target, body, &got)
		if status != 500 || got.Error.Code != "TOOL_SETUP_FAILED" || got.Success || got.RequestID == "" || got.Data.ID == "" {
			t.Errorf("%s %s: %d %+v", method, target, status, got)
		}
		if text := got.Error.Message + got.Error.Details; !strings.Contains(text, "sync to tell") || !strings.Contains(text, "safe") || !strings.Contains(text, "the receiver is down") {
			t.Errorf("%s %s: %s", method, target, text)
		}
		return got
	}
	if set = call("PUT", slotPath, `{"value":"one"}`); set.Data.Version != 1 || !set.Data.IsConfigured || !set.Data.HasCredentials || set.Data.WasNoop != nil {
		t.Errorf("set: %+v", set.Data)
	}
	id := set.Data.ID
	if got := call("POST", slotPath, `{"value":"two"}`); got.Data.Version != 2 || got.Data.ID != id {
		t.Errorf("rotated: %+v", got.Data)
	}
	if got := call("POST", "/v1/credentials/salesforce/"+id+"/rollback", `{"version":1}`); got.Data.Version != 3 {
		t.Errorf("rolled back: %+v", got.Data)
	}
	if got := call("PATCH", "/v1/credentials/salesforce/"+id, `{"name":"moved"}`); got.Data.Name != "moved" {
		t.Errorf("moved: %+v", got.Data)
	}
	for n, target := range []string{"/v1/credentials", "/v1/integrations/credentials"} {
		name := fmt.Sprint("made-", n)
		got := call("POST", target, `{"integrationId":"salesforce","name":"`+name+`","value":"x"}`)
		if got.Data.Name != name || got.Data.Version != 1 {
			t.Errorf("created: %+v", got.Data)
		}
		target = map[int]string{0: "/v1/credentials/salesforce/" + got.Data.ID, 1: "/v1/integrations/credentials/" + got.Data.ID}[n]
		if got := call("DELETE", target, ""); got.Data.WasNoop == nil || *got.Data.WasNoop || got.Data.Status != "deleted" {
			t.Errorf("deleted: %+v", got.Data)
		}
	}
	if got := call("DELETE", slotPath+"?name=moved", ""); got.Data.WasNoop == nil || got.Data.ID != id {
		t.Errorf("deleted: %+v", got.Data)
	}
}

func TestSyncRoutes(t *testing.T) { onEach(t, testSyncRoutes) }

func testSyncRoutes(t *testing.T, on storage) {
	p := new(programs)
	f := openFixture(t, on, Options{}, boundEntry{}, p)
	var status struct{ Data wire.SlotStatus }
	if f.json("GET", slotPath, "", &status); status.Data.Sync == nil || len(status.Data.Sync) != 0 {
		t.Errorf("an empty slot: %+v", status.Data)
	}
	p.failed.Store(true)
	f.json("PUT", slotPath, `{"value":"one"}`, nil)
	f.json("PUT", slotPath, `{"environment":"staging","value":"two"}`, nil)
	f.json("GET", slotPath, "", &status)
	if got := status.Data.Sync; len(got) != 2 || got[0].Plugin != "quiet" && got[1].Plugin != "quiet" {
		t.Fatalf("status: %+v", got)
	}
	for _, s := range status.Data.Sync {
		if s.Plugin == "tell" && (s.Program != "webhook" || s.State != "failing" || s.Attempts < 1 || s.LastError == "" || s.NextAttempt == nil || s.Change != "set" || s.Version != 1) {
			t.Errorf("tell: %+v", s)
		}
	}
	var seen []string
	for cursor, pages := "", 0; ; pages++ {
		var page wire.Page[wire.Sync]
		f.json("GET", "/v1/sync?limit=3"+cursor, "", &page)
		for _, s := range page.Data {
			seen = append(seen, s.IntegrationID+" "+scopeText(s.Environment)+" "+s.Name+" "+s.Plugin)
		}
		if cursor = "&cursor=" + page.NextCursor; page.NextCursor == "" || pages > 4 {
			break
		}
	}
	if len(seen) != 4 {
		t.Errorf("listed %q", seen)
	}
	for query, want := range map[string]int{"?environment=staging": 2, "?plugin=tell": 2, "?environment=staging&plugin=tell": 1, "?name=other": 0, "?integration=slack": 0} {
		var page wire.Page[wire.Sync]
		if f.json("GET", "/v1/sync"+query, "", &page); len(page.Data) != want || page.Data == nil {
			t.Errorf("%s: %d syncs, want %d", query, len(page.Data), want)
		}
	}
	retrySyncs(t, f, p)
}

// retrySyncs retries the four syncs that fail, at last with success.
func retrySyncs(t *testing.T, f *fixture, p *programs) {
	t.Helper()
	var status struct{ Data wire.SlotStatus }
	retry := func(body string, want int) {
		t.Helper()
		var got struct {
			Message string
			Data    wire.RetryResult
		}
		if status := f.json("POST", "/v1/sync/retry", body, &got); status != 200 || got.Data.Retried != want || !strings.HasPrefix(got.Message, fmt.Sprint(want, " sync")) {
			t.Errorf("%s: %d %+v, want %d", body, status, got, want)
		}
	}
	retry("", 4)
	retry(`{"environment":null}`, 2)
	retry(`{"environment":"staging","plugin":"quiet"}`, 1)
	p.failed.Store(false) // from here on they may also go by themselves
	f.json("POST", "/v1/sync/retry", "{}", nil)
	end := time.Now().Add(10 * time.Second)
	for done := 0; done < 2; time.Sleep(10 * time.Millisecond) {
		if done = 0; time.Now().After(end) {
			t.Fatalf("not delivered: %+v", status.Data.Sync)
		}
		f.json("GET", slotPath, "", &status)
		for _, s := range status.Data.Sync {
			if s.State == "synced" && s.SyncedAt != nil && s.NextAttempt == nil {
				done++
			}
		}
	}
	retry(`{"plugin":"tell","integrationId":"salesforce","environment":null}`, 1)
}

func scopeText(environment *string) string {
	if environment == nil {
		return "all"
	}
	return *environment
}

func TestPluginRoutes(t *testing.T) { onEach(t, testPluginRoutes) }

func testPluginRoutes(t *testing.T, on storage) {
	at := time.Date(2026, 4, 29, 14, 0, 0, 0, time.UTC)
	p := &programs{states: []vault.PluginState{
		{Name: "http", Path: "/p/http", SHA256: strings.Repeat("a", 64), Version: "1.2.3", Services: []string{"validator"}, Status: vault.PluginRunning, Processes: 1, Calls: 7, Failures: 2, Restarts: 3},
	}}
	f := openFixture(t, on, Options{}, boundEntry{}, p)
	ready := func() (h wire.Health) {
		if status := f.json("GET", "/readyz", "", &h); status != 200 {
			t.Errorf("readyz: %d", status)
		}
		return h
	}
	if h := ready(); h.Status != "ok" || len(h.Checks) != 5 || h.Checks[1] != (wire.Check{Name: "plugins", Status: "ok", Since: h.Checks[1].Since}) {
		t.Errorf("readyz: %+v", h)
	}
	p.states = append(p.states, vault.PluginState{Name: "webhook", Path: "/p/webhook", Status: vault.PluginQuarantined, Reason: "exit status 2", NextStart: at})
	if h := ready(); h.Status != "degraded" || h.Checks[0].Status != "ok" || h.Checks[1].Status != "degraded" || !strings.HasSuffix(h.Checks[1].Reason, ": webhook") {
		t.Errorf("readyz: %+v", h)
	}
	var page wire.Page[wire.Plugin]
	if status := f.json("GET", "/v1/plugins", "", &page); status != 200 || len(page.Data) != 2 {
		t.Fatalf("%d %+v", status, page)
	}
	one, two := page.Data[0], page.Data[1]
	if one.Name != "http" || one.Services[0] != "validator" || one.Calls != 7 || one.Failures != 2 || one.Restarts != 3 || one.Processes != 1 || one.NextStart != nil {
		t.Errorf("%+v", one)
	}
	if two.Services == nil || two.Status != "quarantined" || two.Reason != "exit status 2" || !time.Time(*two.NextStart).Equal(at) {
		t.Errorf("%+v", two)
	}
}

// A validator may take longer than the server's deadlines, which are for slow peers.
func TestSlowPlugins(t *testing.T) { onEach(t, testSlowPlugins) }

func testSlowPlugins(t *testing.T, on storage) {
	const deadline = 250 * time.Millisecond
	f := openFixture(t, on, Options{}, boundEntry{}, &programs{slow: 4 * deadline})
	server := httptest.NewUnstartedServer(f.handler)
	server.Config.ReadTimeout, server.Config.WriteTimeout = deadline, deadline
	server.Start()
	t.Cleanup(server.Close)
	for range 2 { // on one connection
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+slotPath, strings.NewReader(`{"value":"good"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+f.key)
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode > 201 {
			t.Errorf("%d, %v: %s", res.StatusCode, err, body)
		}
	}
}
