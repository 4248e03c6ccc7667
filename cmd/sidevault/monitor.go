package main

import (
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
)

// storage is what stands between a served vault and its engine: what watches the
// engine's calls, and a cache.
type storage struct {
	cfg     settings
	log     *slog.Logger
	cache   *cache.Cache // nil: it is not open
	metrics storageMetrics
	spans   *spans
}

func newStorage(cfg settings, log *slog.Logger, tracer trace.Tracer) *storage {
	return &storage{cfg: cfg, log: log, metrics: newStorageMetrics(), spans: newSpans(tracer, cfg.Storage.scheme)}
}

// around puts what watches the engine, and the cache, around the engine that was opened.
func (s *storage) around(b backends.Backend) backends.Backend {
	b = &watched{Backend: b, metrics: s.metrics, spans: s.spans}
	o := cache.Options{Exclusive: true}
	if s.cfg.Storage.shared() {
		o = cache.Options{MaxStale: s.cfg.MaxStale, OnError: s.changed}
	}
	o.MaxBytes, _ = s.cfg.cacheSizes()
	s.cache = cache.New(b, o)
	return s.cache
}

// changed says once that the storage, or its watch, was lost, and once that it is back.
func (s *storage) changed(err error) {
	switch {
	case err == nil:
		s.log.Info("the storage is back", "backend", s.cfg.Storage.String())
	case errors.Is(err, backends.ErrUnavailable):
		s.log.Error("the storage does not answer: reads of kept records are served, changes are refused",
			"backend", s.cfg.Storage.String(), "max_stale", s.cfg.MaxStale.String(), "err", err)
	default:
		s.log.Warn("the watch of the storage was lost: every read goes to the storage until it is back",
			"backend", s.cfg.Storage.String(), "err", err)
	}
}

// stale is for how long what is served may have been out of date.
func (s *storage) stale() time.Duration {
	if s.cache == nil || !s.cfg.Storage.shared() {
		return 0
	}
	return s.cache.Stale()
}

func (s *storage) stats() cache.Stats {
	if s.cache == nil {
		return cache.Stats{}
	}
	return s.cache.Stats()
}

// collectors are the metrics of the storage.
func (s *storage) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		s.metrics.errors, s.metrics.took,
		gaugeOf("sidevault_storage_stale_seconds",
			"For how long what is served may have been out of date, because the storage is away; 0 when it answers.",
			func() float64 { return s.stale().Seconds() }),
		counterOf("sidevault_cache_hits_total", "Records and documents of the storage that were read from memory.",
			func() float64 { return float64(s.stats().Hits) }),
		counterOf("sidevault_cache_misses_total", "Records and documents that were asked of the storage because they were not in memory.",
			func() float64 { return float64(s.stats().Misses) }),
		gaugeOf("sidevault_cache_bytes", "Bytes that records and documents of the storage take in memory, of two thirds of cache-size.",
			func() float64 { return float64(s.stats().Bytes) }),
	}
}
