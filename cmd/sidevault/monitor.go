package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/cache"
)

// storage is what stands between a served vault and its engine: the count of the
// engine's errors, and a cache.
type storage struct {
	cfg    settings
	log    *slog.Logger
	cache  *cache.Cache // nil when the storage is not shared, or not open
	errors *prometheus.CounterVec
}

func newStorage(cfg settings, log *slog.Logger) *storage {
	return &storage{cfg: cfg, log: log, errors: counter("sidevault_storage_errors_total",
		"Calls of the storage that failed, by kind: unavailable, unknown_outcome, timeout, corrupt or other.", "kind")}
}

// around puts the count and the cache around the engine that was opened.
func (s *storage) around(b backends.Backend) backends.Backend {
	b = &counting{Backend: b, errors: s.errors}
	most, _ := s.cfg.cacheSizes()
	if !s.cfg.Storage.shared() {
		return cache.New(b, cache.Options{MaxBytes: most, Exclusive: true})
	}
	s.cache = cache.New(b, cache.Options{MaxBytes: most, MaxStale: s.cfg.MaxStale, OnError: s.changed})
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
	if s.cache == nil {
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

// collectors are the metrics of the storage. The cache's are there where it is.
func (s *storage) collectors() []prometheus.Collector {
	list := []prometheus.Collector{s.errors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sidevault_storage_stale_seconds",
		Help: "For how long what is served may have been out of date, because the storage is away; 0 when it answers.",
	}, func() float64 { return s.stale().Seconds() })}
	if !s.cfg.Storage.shared() {
		return list
	}
	return append(list,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sidevault_cache_hits_total", Help: "Records that were read from memory.",
		}, func() float64 { return float64(s.stats().Hits) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sidevault_cache_misses_total", Help: "Records that were asked of the storage because they were not in memory.",
		}, func() float64 { return float64(s.stats().Misses) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sidevault_cache_bytes", Help: "Bytes that the records in memory take, of two thirds of cache-size.",
		}, func() float64 { return float64(s.stats().Bytes) }),
	)
}

// counting counts the errors of an engine.
type counting struct {
	backends.Backend
	errors *prometheus.CounterVec
}

func (c *counting) note(err error) {
	if kind := storageErrorKind(err); kind != "" {
		c.errors.WithLabelValues(kind).Inc()
	}
}

// storageErrorKind names an error that is the engine's fault; "" for the others.
func storageErrorKind(err error) string {
	for _, expected := range []error{
		nil, backends.ErrNotFound, backends.ErrConflict, backends.ErrInvalid, backends.ErrClosed, backends.ErrCompacted, context.Canceled,
	} {
		if errors.Is(err, expected) {
			return ""
		}
	}
	switch {
	case errors.Is(err, backends.ErrUnknownOutcome):
		return "unknown_outcome"
	case errors.Is(err, backends.ErrUnavailable):
		return "unavailable"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, backends.ErrCorrupt):
		return "corrupt"
	}
	return "other"
}

func (c *counting) Get(ctx context.Context, key string) (backends.Record, error) {
	r, err := c.Backend.Get(ctx, key)
	c.note(err)
	return r, err
}

func (c *counting) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	page, err := c.Backend.List(ctx, prefix, after, limit)
	c.note(err)
	return page, err
}

func (c *counting) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	rev, err := c.Backend.Commit(ctx, b)
	c.note(err)
	return rev, err
}

func (c *counting) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	page, err := c.Backend.Log(ctx, after, limit)
	c.note(err)
	return page, err
}

func (c *counting) Head(ctx context.Context) (backends.Head, error) {
	h, err := c.Backend.Head(ctx)
	c.note(err)
	return h, err
}

func (c *counting) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	events, err := c.Backend.Watch(ctx, after)
	c.note(err)
	return events, err
}
