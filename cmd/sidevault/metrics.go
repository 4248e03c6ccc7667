package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// vaultMetrics counts for the vault. Its labels come from closed lists.
type vaultMetrics struct {
	operations *prometheus.CounterVec
	integrity  prometheus.Counter
}

// newMetrics returns a registry with what does not come from api/rest.
func newMetrics() (*prometheus.Registry, vaultMetrics) {
	m := vaultMetrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidevault_operations_total",
			Help: "Audited operations by action and outcome.",
		}, []string{"action", "outcome"}),
		integrity: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sidevault_integrity_failures_total",
			Help: "Stored records that failed their integrity check.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sidevault_build_info", Help: "1, with the version.",
		ConstLabels: prometheus.Labels{"version": version()},
	})
	build.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.operations, m.integrity, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry, m
}

func (m vaultMetrics) Operation(action, outcome string) {
	m.operations.WithLabelValues(action, outcome).Inc()
}

func (m vaultMetrics) IntegrityFailure() { m.integrity.Inc() }

func (m vaultMetrics) Synced(plugin string, ok bool) {}

func (m vaultMetrics) SyncsPending(plugin string, n int, oldest time.Time) {}
