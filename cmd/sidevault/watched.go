package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sidevault/sidevault/backends"
)

// storageMetrics count the calls of an engine.
type storageMetrics struct {
	errors *prometheus.CounterVec
	took   *prometheus.HistogramVec

	get, list, commit, log, head prometheus.Observer // of took
}

func newStorageMetrics() storageMetrics {
	m := storageMetrics{
		errors: counter("sidevault_storage_errors_total",
			"Calls of the storage that failed, by kind: unavailable, unknown_outcome, timeout, corrupt or other.", "kind"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sidevault_storage_operation_duration_seconds",
			Help: "How long calls of the storage took, those that failed included. What is read from memory is none.",
			// From a page that bbolt has mapped to a commit that waits for an election of etcd's.
			Buckets: []float64{.00001, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"operation"}),
	}
	for _, kind := range []string{errUnavailable, errUnknownOutcome, errTimeout, errCorrupt, errOther} {
		m.errors.WithLabelValues(kind)
	}
	m.get, m.list, m.commit = m.took.WithLabelValues("get"), m.took.WithLabelValues("list"), m.took.WithLabelValues("commit")
	m.log, m.head = m.took.WithLabelValues("log"), m.took.WithLabelValues("head")
	return m
}

// The kinds of an engine's errors.
const (
	errUnavailable    = "unavailable"
	errUnknownOutcome = "unknown_outcome"
	errTimeout        = "timeout"
	errCorrupt        = "corrupt"
	errOther          = "other"
)

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
		return errUnknownOutcome
	case errors.Is(err, backends.ErrUnavailable):
		return errUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		return errTimeout
	case errors.Is(err, backends.ErrCorrupt):
		return errCorrupt
	}
	return errOther
}

// watched times the calls of an engine and counts its errors.
type watched struct {
	backends.Backend
	metrics storageMetrics
	spans   *spans // nil: tracing is off
}

func (w *watched) note(err error) {
	if kind := storageErrorKind(err); kind != "" {
		w.metrics.errors.WithLabelValues(kind).Inc()
	}
}

// timed makes one call of the engine.
func timed[T any](ctx context.Context, w *watched, operation string, o prometheus.Observer, call func(context.Context) (T, error)) (T, error) {
	ctx, end := w.spans.begin(ctx, operation)
	began := time.Now()
	result, err := call(ctx)
	o.Observe(time.Since(began).Seconds())
	end(err)
	w.note(err)
	return result, err
}

func (w *watched) Get(ctx context.Context, key string) (backends.Record, error) {
	return timed(ctx, w, "get", w.metrics.get, func(ctx context.Context) (backends.Record, error) {
		return w.Backend.Get(ctx, key)
	})
}

func (w *watched) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	return timed(ctx, w, "list", w.metrics.list, func(ctx context.Context) ([]backends.Record, error) {
		return w.Backend.List(ctx, prefix, after, limit)
	})
}

func (w *watched) Commit(ctx context.Context, b backends.Batch) (backends.Revision, error) {
	return timed(ctx, w, "commit", w.metrics.commit, func(ctx context.Context) (backends.Revision, error) {
		return w.Backend.Commit(ctx, b)
	})
}

func (w *watched) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	return timed(ctx, w, "log", w.metrics.log, func(ctx context.Context) ([]backends.Entry, error) {
		return w.Backend.Log(ctx, after, limit)
	})
}

func (w *watched) Head(ctx context.Context) (backends.Head, error) {
	return timed(ctx, w, "head", w.metrics.head, w.Backend.Head)
}

// Watch is not timed: it lasts as long as somebody listens.
func (w *watched) Watch(ctx context.Context, after backends.Revision) (<-chan backends.Event, error) {
	events, err := w.Backend.Watch(ctx, after)
	w.note(err)
	return events, err
}
