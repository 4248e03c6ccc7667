package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// tracingPlan is what the settings say of traces.
type tracingPlan struct {
	Endpoint string // of the receiver's traces; "": there are none
	Ratio    float64
}

func tracingTable() []setting {
	return []setting{
		{key: "tracing.endpoint",
			help:  "`URL` of an OpenTelemetry receiver (OTLP over HTTP) that gets traces, as in http://127.0.0.1:4318; default none",
			apply: applyTracingEndpoint},
		{key: "tracing.ratio", def: []string{"1"},
			help:  "`part` of the requests that are traced, 0 to 1; one that is part of a trace already is traced when its caller is",
			apply: applyTracingRatio},
	}
}

// applyTracingEndpoint takes a base, as OTEL_EXPORTER_OTLP_ENDPOINT does.
func applyTracingEndpoint(c *settings, v []string) error {
	c.Tracing.Endpoint = ""
	if v[0] == "" {
		return nil
	}
	u, err := url.Parse(v[0])
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("it is not a URL as http://127.0.0.1:4318") // what it is could hold a password
	}
	if u.User != nil {
		return errors.New("the URL holds a user: give what the receiver wants in OTEL_EXPORTER_OTLP_HEADERS")
	}
	c.Tracing.Endpoint = u.JoinPath("v1", "traces").String()
	return nil
}

func applyTracingRatio(c *settings, v []string) error {
	ratio, err := strconv.ParseFloat(v[0], 64)
	if err != nil || !(ratio >= 0 && ratio <= 1) {
		return fmt.Errorf("%q is not a number from 0 to 1", v[0])
	}
	c.Tracing.Ratio = ratio
	return nil
}

// tracing sends spans to a receiver; nil: it is off, as by default.
type tracing struct {
	provider *sdktrace.TracerProvider
	log      *slog.Logger
	endpoint string

	mu   sync.Mutex
	said time.Time // when a failure was logged last
}

const (
	tracerName = "github.com/sidevault/sidevault"
	// lament is how often it is logged at most that spans cannot be delivered.
	lament = time.Minute
	// lastSpans is how long a stop waits for the receiver.
	lastSpans = 2 * time.Second
)

// startTracing begins to send spans, if the settings want it. A receiver that is away
// costs spans, and nothing else: they wait in a queue that is bounded.
func startTracing(ctx context.Context, plan tracingPlan, log *slog.Logger) (*tracing, error) {
	if plan.Endpoint == "" {
		return nil, nil
	}
	t := &tracing{log: log, endpoint: plan.Endpoint}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(t.failed))
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(plan.Endpoint))
	if err != nil {
		return nil, failf(exitError, "tracing.endpoint").because(err)
	}
	what, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName("sidevault"), semconv.ServiceVersion(version())),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nil, usagef("the OTEL_ variables cannot be used").because(err)
	}
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(what),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(plan.Ratio))))
	return t, nil
}

// tracer is nil when tracing is off.
func (t *tracing) tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer(tracerName, trace.WithInstrumentationVersion(version()), trace.WithSchemaURL(semconv.SchemaURL))
}

func (t *tracing) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.said) < lament {
		return
	}
	t.said = time.Now()
	t.log.Warn("traces cannot be delivered, and some are lost; it is tried on", "err", t.without(err))
}

// close sends what waits. What the receiver does not take is lost.
func (t *tracing) close(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastSpans)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("the last traces were not delivered", "err", t.without(err))
	}
}

// without is the text of an error without the receiver's URL, whose path is a key with
// some.
func (t *tracing) without(err error) string {
	return strings.ReplaceAll(err.Error(), t.endpoint, "the receiver")
}

// tracedLog adds to the lines of a request that is traced which trace it is.
type tracedLog struct{ slog.Handler }

// Handle implements slog.Handler.
func (h tracedLog) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h tracedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return tracedLog{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h tracedLog) WithGroup(name string) slog.Handler { return tracedLog{h.Handler.WithGroup(name)} }
