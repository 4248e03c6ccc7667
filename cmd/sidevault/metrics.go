package main

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sidevault/sidevault/vault"
)

// vaultMetrics counts for the vault. Its labels come from closed lists, and from
// the names of plugins in the configuration.
type vaultMetrics struct {
	operations  *prometheus.CounterVec
	reads       prometheus.Counter // of operations, those that are counted most often
	integrity   prometheus.Counter
	syncs       *prometheus.CounterVec
	pending     *prometheus.GaugeVec
	pendingFrom *prometheus.GaugeVec
}

// newMetrics returns a registry with what does not come from api/rest.
func newMetrics() (*prometheus.Registry, vaultMetrics, pluginMetrics) {
	m, p := newVaultMetrics(), newPluginMetrics()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sidevault_build_info", Help: "1, with the version, and that of Go.",
		ConstLabels: prometheus.Labels{"version": version(), "goversion": runtime.Version()},
	})
	build.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.operations, m.integrity, m.syncs, m.pending, m.pendingFrom,
		p.calls, p.took, p.processes, p.restarts, p.quarantined, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry, m, p
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

func newVaultMetrics() vaultMetrics {
	operations := counter("sidevault_operations_total", "Audited operations by action and outcome.", "action", "outcome")
	return vaultMetrics{
		operations: operations, reads: operations.WithLabelValues(vault.ActionRead, vault.OutcomeSuccess),
		integrity: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sidevault_integrity_failures_total",
			Help: "Stored records that failed their integrity check.",
		}),
		syncs:       counter("sidevault_sync_attempts_total", "Attempts to hand a change to a plugin, by outcome: ok or failed.", "plugin", "outcome"),
		pending:     gauge("sidevault_sync_pending", "Changes that wait for a plugin.", "plugin"),
		pendingFrom: gauge("sidevault_sync_oldest_pending_timestamp_seconds", "When the oldest change that waits was stored; 0 when none does.", "plugin"),
	}
}

func (m vaultMetrics) Operation(action, outcome string) {
	if action == vault.ActionRead && outcome == vault.OutcomeSuccess {
		m.reads.Inc()
		return
	}
	m.operations.WithLabelValues(action, outcome).Inc()
}

func (m vaultMetrics) IntegrityFailure() { m.integrity.Inc() }

func (m vaultMetrics) Synced(plugin string, ok bool) {
	outcome := "ok"
	if !ok {
		outcome = "failed"
	}
	m.syncs.WithLabelValues(plugin, outcome).Inc()
}

func (m vaultMetrics) SyncsPending(plugin string, n int, oldest time.Time) {
	m.pending.WithLabelValues(plugin).Set(float64(n))
	if n == 0 {
		oldest = time.Time{}
	}
	m.pendingFrom.WithLabelValues(plugin).Set(seconds(oldest))
}

// pluginMetrics counts for the host of the plugins.
type pluginMetrics struct {
	calls       *prometheus.CounterVec
	took        *prometheus.HistogramVec
	processes   *prometheus.GaugeVec
	restarts    *prometheus.CounterVec
	quarantined *prometheus.GaugeVec
}

func newPluginMetrics() pluginMetrics {
	return pluginMetrics{
		calls: counter("sidevault_plugin_calls_total", "Calls of plugins by outcome.", "plugin", "service", "outcome"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sidevault_plugin_call_duration_seconds",
			Help:    "How long calls of plugins took.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"plugin", "service"}),
		processes:   gauge("sidevault_plugin_processes", "Processes of a plugin that run.", "plugin"),
		restarts:    counter("sidevault_plugin_restarts_total", "Starts of a plugin's processes after their first one.", "plugin"),
		quarantined: gauge("sidevault_plugin_quarantined", "1 while a plugin that failed again and again is held back.", "plugin"),
	}
}

// expect shows the zeros of plugins that have not failed yet: a rise from nothing is
// none to Prometheus.
func (m pluginMetrics) expect(names []string) {
	for _, name := range names {
		m.restarts.WithLabelValues(name)
		m.Quarantined(name, false)
		m.Processes(name, 0)
	}
}

func (m pluginMetrics) Call(plugin, service, outcome string, took time.Duration) {
	m.calls.WithLabelValues(plugin, service, outcome).Inc()
	m.took.WithLabelValues(plugin, service).Observe(took.Seconds())
}

func (m pluginMetrics) Restart(plugin string) { m.restarts.WithLabelValues(plugin).Inc() }

func (m pluginMetrics) Processes(plugin string, n int) {
	m.processes.WithLabelValues(plugin).Set(float64(n))
}

func (m pluginMetrics) Quarantined(plugin string, yes bool) {
	value := 0.0
	if yes {
		value = 1
	}
	m.quarantined.WithLabelValues(plugin).Set(value)
}
