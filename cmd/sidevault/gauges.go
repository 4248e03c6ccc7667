package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/vault"
)

func gaugeOf(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}

func counterOf(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value)
}

// seconds is a moment as metrics have it; 0 is none.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}

// vaultCondition shows the condition of a vault, looked at once for each scrape.
type vaultCondition struct {
	condition func() vault.Condition

	resolved, decryptions, decryptedBytes        *prometheus.Desc
	lag, pending, failures, keyCreated, keysHeld *prometheus.Desc
}

func newVaultCondition(condition func() vault.Condition) *vaultCondition {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &vaultCondition{
		condition: condition,
		resolved: describe("sidevault_resolves_total",
			"Values handed out, by where they were found: own (the scope that was asked for), parent (a parent environment) or shared.", "from"),
		decryptions: describe("sidevault_decryptions_total",
			"Records that were decrypted because they were not in memory."),
		decryptedBytes: describe("sidevault_decrypted_cache_bytes",
			"Bytes that decrypted records take in memory, sealed, of a third of cache-size."),
		lag: describe("sidevault_audit_lag_seconds",
			"What was read longer ago is in the audit log; 0 when nothing waits, and about 1 at most when all is well."),
		pending: describe("sidevault_audit_pending_reads",
			"Reads that are counted and not yet in the audit log."),
		failures: describe("sidevault_audit_flush_failures_total",
			"Attempts to write counted reads into the audit log that failed."),
		keyCreated: describe("sidevault_environment_key_created_timestamp_seconds",
			"When the newest key of an environment was made; @shared is the scope of all environments.", "environment"),
		keysHeld: describe("sidevault_environment_key_held",
			"1 where this host holds the newest key of an environment.", "environment"),
	}
}

// Describe implements prometheus.Collector.
func (c *vaultCondition) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.resolved, c.decryptions, c.decryptedBytes, c.lag, c.pending, c.failures, c.keyCreated, c.keysHeld,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *vaultCondition) Collect(to chan<- prometheus.Metric) {
	now := c.condition()
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	counter(c.resolved, now.Resolved.Own, "own")
	counter(c.resolved, now.Resolved.Parent, "parent")
	counter(c.resolved, now.Resolved.Shared, "shared")
	counter(c.decryptions, now.Decryptions)
	counter(c.failures, now.Audit.Failures)
	gauge(c.decryptedBytes, float64(now.DecryptedBytes))
	gauge(c.lag, now.Audit.Lag.Seconds())
	gauge(c.pending, float64(now.Audit.Pending))
	for _, k := range now.Keys {
		held := 0.0
		if k.Held {
			held = 1
		}
		gauge(c.keysHeld, held, k.Scope)
		if !k.CreatedAt.IsZero() {
			gauge(c.keyCreated, seconds(k.CreatedAt), k.Scope)
		}
	}
}

// expiry shows when the certificate in force ends; there is none without TLS.
func (c *certificate) expiry() prometheus.Collector {
	return gaugeOf("sidevault_tls_certificate_not_after_timestamp_seconds", "When the TLS certificate that is served expires.",
		func() float64 { return seconds(c.current.Load().Leaf.NotAfter) })
}
