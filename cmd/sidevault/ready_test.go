package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestReady(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	ask := func(addr string, args ...string) outcome {
		return invocation{env: []string{addrVariable + "=" + addr}, args: append([]string{"ready"}, args...)}.run(t)
	}
	ask(p.addr).wants(t, exitOK, "ok\n")
	ask(p.addr, "--live").wants(t, exitOK, "ok\n")
	ask(p.addr, "--json").wants(t, exitOK, `"name": "vault"`)
	ask("http://127.0.0.1:1").wants(t, exitUnavailable, "http://127.0.0.1:1")
}

// A sidecar that answers can be unable to serve.
func TestReadyTellsStatuses(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]exitCode{"ok": exitOK, "degraded": exitOK, "unavailable": exitUnavailable, "of tomorrow": exitUnavailable} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/readyz" || r.Header.Get("Authorization") != "" {
					t.Errorf("%s with %d headers of authorization", r.URL.Path, len(r.Header["Authorization"]))
				}
				w.Header().Set("Content-Type", "application/json")
				if want != exitOK {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				fmt.Fprintf(w, `{"status": %q, "checks": [{"name": "vault", "status": %q, "reason": "a reason"}]}`, status, status)
			}))
			defer s.Close()
			parts := []string{status}
			if status != "ok" {
				parts = append(parts, "vault: "+status+": a reason")
			}
			sidevault(t, "ready", "--addr", s.URL).wants(t, want, parts...)
			sidevault(t, "ready", "--addr", s.URL, "--json").wants(t, want, `"status": "`+status)
		})
	}
}
