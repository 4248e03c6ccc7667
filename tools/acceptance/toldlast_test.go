package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// toldLast is another system that remembers what it was told last of each slot of
// slack's.
type toldLast struct {
	*httptest.Server
	mu    sync.Mutex
	last  map[string]told // by environment
	calls int
}

func newTold(t *testing.T) *toldLast {
	l := &toldLast{last: map[string]told{}}
	l.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var c told
		// One that was cut off is tried again.
		if json.NewDecoder(r.Body).Decode(&c) != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.calls++
		l.last[c.Environment] = c
	}))
	t.Cleanup(l.Close)
	t.Cleanup(l.CloseClientConnections)
	return l
}

// configure binds slack to the system and returns the arguments of serve.
func (l *toldLast) configure(t *testing.T, v *sidecar.Vault) []string {
	t.Helper()
	catalog := fmt.Sprintf("integrations:\n  - {key: slack, syncers: [{plugin: carrier, config: {url: %q}, timeout: 3s, mode: swallow}]}\n", l.URL)
	return v.Configure(t, catalog, sidecar.Program{Name: "carrier", Path: binary.BuildProgram(t, "./programs/syncer")})
}

// wants waits until nothing is pending, and fails the test unless the system was told
// of each slot's last state last.
func (l *toldLast) wants(t *testing.T, c *sidecar.Client, h *history) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for ; pending(c) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what was to be delivered is still pending")
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("another system was told %d times", l.calls)
	for _, environment := range loadEnvironments {
		last, held := l.last[environment], h.slots[place{"slack", environment}]
		switch {
		case held == nil && last.Change == "set":
			t.Errorf("%s: version %d was delivered last, and was removed since", place{"slack", environment}, last.Version)
		case held != nil && (last.Change != "set" || last.ID != held.id || last.Version != held.version):
			t.Errorf("%s: %s of version %d was delivered last, and the slot holds %d", place{"slack", environment}, last.Change, last.Version, held.version)
		}
	}
	if l.calls == 0 {
		t.Error("nothing was delivered")
	}
}
