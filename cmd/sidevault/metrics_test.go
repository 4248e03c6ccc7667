package main

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func TestPluginMetrics(t *testing.T) {
	registry, vault, plugins := newMetrics()
	plugins.Call("http", "validator", "rejected", 30*time.Millisecond)
	plugins.Call("http", "validator", "ok", 3*time.Second)
	plugins.Restart("http")
	plugins.Processes("http", 2)
	plugins.Quarantined("http", true)
	plugins.Quarantined("webhook", false)
	vault.Synced("webhook", true)
	vault.Synced("webhook", false)
	vault.Synced("webhook", false)
	vault.SyncsPending("webhook", 3, time.UnixMilli(1_700_000_000_250))
	vault.SyncsPending("idle", 0, time.Time{})
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		`sidevault_plugin_calls_total{outcome="rejected",plugin="http",service="validator"} 1`,
		`sidevault_plugin_call_duration_seconds_count{plugin="http",service="validator"} 2`,
		`sidevault_plugin_call_duration_seconds_bucket{plugin="http",service="validator",le="0.05"} 1`,
		`sidevault_plugin_processes{plugin="http"} 2`,
		`sidevault_plugin_restarts_total{plugin="http"} 1`,
		`sidevault_plugin_quarantined{plugin="http"} 1`,
		`sidevault_plugin_quarantined{plugin="webhook"} 0`,
		`sidevault_sync_attempts_total{outcome="ok",plugin="webhook"} 1`,
		`sidevault_sync_attempts_total{outcome="failed",plugin="webhook"} 2`,
		`sidevault_sync_pending{plugin="webhook"} 3`,
		`sidevault_sync_oldest_pending_timestamp_seconds{plugin="webhook"} 1.70000000025e+09`,
		`sidevault_sync_oldest_pending_timestamp_seconds{plugin="idle"} 0`,
	} {
		if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}
