package rest

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

// headless is a backend that can be read and not be asked where it stands, as a cache
// whose storage is away.
type headless struct {
	backends.Backend
	away atomic.Bool
}

func (b *headless) Head(ctx context.Context) (backends.Head, error) {
	if b.away.Load() {
		return backends.Head{}, backends.ErrUnavailable
	}
	return b.Backend.Head(ctx)
}

// staleServer is a server whose vault says that it is stale for a time that a test sets.
type staleServer struct {
	t       *testing.T
	handler http.Handler
	key     string
	backend *headless
	stale   atomic.Int64
}

func newStaleServer(t *testing.T, mode vault.ReadAudit) *staleServer {
	t.Helper()
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := &staleServer{t: t, backend: &headless{Backend: memory.New()}}
	made, err := vault.Init(t.Context(), vault.InitConfig{
		Backend: s.backend, Roots: []string{root.Recipient().String()}, Envs: tree, Org: "default", AdminName: "admin",
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(t.Context(), vault.Config{
		Backend: s.backend, Envs: tree, Catalog: oneEntry{}, Identities: []age.Identity{root}, Trusted: made.Trusted,
		Options: vault.Options{ReadAudit: mode, ReadGrace: time.Minute, Stale: func() time.Duration { return time.Duration(s.stale.Load()) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close(context.Background()) })
	s.key = made.Admin.Secret.Reveal()
	s.handler = New(Config{Vault: v, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	return s
}

func (s *staleServer) get(path string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:8271"+path, nil)
	r.Header.Set("Authorization", "Bearer "+s.key)
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8271}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local))))
	return w
}

func TestStaleHeader(t *testing.T) {
	s := newStaleServer(t, vault.ReadsCoalesced)
	for _, c := range []struct {
		path   string
		stale  time.Duration
		status int
		header string
	}{
		{"/v1/whoami", 0, 200, ""},
		{"/v1/whoami", time.Nanosecond, 200, "1"},
		{"/v1/whoami", 2 * time.Second, 200, "2"},
		{"/v1/whoami", 2*time.Second + 1, 200, "3"},
		{"/v1/credentials/salesforce", time.Second, 404, "1"},
		{"/healthz", time.Second, 200, ""},
		{"/readyz", time.Second, 200, ""},
	} {
		s.stale.Store(int64(c.stale))
		w := s.get(c.path)
		if got := w.Header().Get(wire.HeaderStale); w.Code != c.status || got != c.header {
			t.Errorf("%s, stale for %v: status %d, %q; want %d, %q", c.path, c.stale, w.Code, got, c.status, c.header)
		}
	}
}

func TestReadyWhileStale(t *testing.T) {
	for _, c := range []struct {
		mode            vault.ReadAudit
		stale           time.Duration
		away            bool
		status          int
		says, atBackend string
	}{
		{vault.ReadsCoalesced, 0, false, 200, "ok", "ok"},
		{vault.ReadsCoalesced, time.Second, true, 200, "degraded", "degraded"},
		{vault.ReadsCoalesced, time.Minute + 1, true, 503, "unavailable", "unavailable"},
		{vault.ReadsEach, time.Second, true, 503, "unavailable", "unavailable"},
		{vault.ReadsCoalesced, 0, true, 503, "unavailable", "unavailable"},
	} {
		s := newStaleServer(t, c.mode)
		s.stale.Store(int64(c.stale))
		s.backend.away.Store(c.away)
		w := s.get("/readyz")
		var health wire.Health
		if err := json.Unmarshal(w.Body.Bytes(), &health); err != nil {
			t.Fatal(err)
		}
		checks := map[string]wire.Check{}
		for _, check := range health.Checks {
			checks[check.Name] = check
		}
		if w.Code != c.status || health.Status != c.says || checks["storage"].Status != c.atBackend {
			t.Errorf("%+v: status %d, %+v", c, w.Code, health)
		}
		if storage := checks["storage"]; (storage.Reason == "") != (c.stale == 0 && !c.away) {
			t.Errorf("%+v: the reason is %q", c, storage.Reason)
		}
	}
}
