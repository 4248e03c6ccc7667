package main

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/vault"
)

// spans makes spans of an engine's calls. Keys of records are in none of them: they
// name integrations and credentials.
type spans struct {
	tracer trace.Tracer
	system attribute.KeyValue
	kind   trace.SpanKind
}

// newSpans returns nil when tracing is off.
func newSpans(tracer trace.Tracer, scheme string) *spans {
	if tracer == nil {
		return nil
	}
	s := &spans{tracer: tracer, system: semconv.DBSystemNameKey.String(scheme), kind: trace.SpanKindInternal}
	if open.Shared(scheme) {
		s.kind = trace.SpanKindClient
	}
	if scheme == open.Postgres {
		s.system = semconv.DBSystemNamePostgreSQL
	}
	return s
}

// begin begins a span below the one of a request that is traced; what the sidecar does
// by itself, every second, has none. end takes the call's error.
func (s *spans) begin(ctx context.Context, operation string) (_ context.Context, end func(error)) {
	if s == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := s.tracer.Start(ctx, operation, trace.WithSpanKind(s.kind), trace.WithAttributes(s.system, semconv.DBOperationName(operation)))
	return ctx, func(err error) {
		fault(span, storageErrorKind(err))
		span.End()
	}
}

// fault notes an error by its kind; its text stays in the log, under the same trace.
func fault(span trace.Span, kind string) {
	if kind != "" {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		span.SetStatus(codes.Error, "")
	}
}

// tracedPlugins makes spans of calls of plugins. What a plugin says is in none of them.
type tracedPlugins struct {
	vault.Plugins
	tracer trace.Tracer
}

func (p tracedPlugins) Validate(ctx context.Context, call vault.PluginCall) (vault.Validation, error) {
	ctx, span := p.begin(ctx, "sidevault.plugin.v1.Validator/Validate", call.Binding.Plugin)
	defer span.End()
	result, err := p.Plugins.Validate(ctx, call)
	p.end(span, result.Rejected, "rejected", err)
	return result, err
}

func (p tracedPlugins) Sync(ctx context.Context, call vault.SyncCall) (vault.SyncResult, error) {
	ctx, span := p.begin(ctx, "sidevault.plugin.v1.Syncer/Sync", call.Binding.Plugin)
	defer span.End()
	result, err := p.Plugins.Sync(ctx, call)
	p.end(span, result.Failed, "failed", err)
	return result, err
}

const (
	pluginAttribute  = "sidevault.plugin.name"
	outcomeAttribute = "sidevault.plugin.outcome"
)

func (p tracedPlugins) begin(ctx context.Context, method, plugin string) (context.Context, trace.Span) {
	return p.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.RPCSystemNameGRPC, semconv.RPCMethod(method), attribute.String(pluginAttribute, plugin)))
}

// end notes what the plugin answered. That it refuses a value is no error.
func (p tracedPlugins) end(span trace.Span, refused bool, word string, err error) {
	switch {
	case err != nil:
		fault(span, "unavailable")
	case refused:
		span.SetAttributes(attribute.String(outcomeAttribute, word))
	default:
		span.SetAttributes(attribute.String(outcomeAttribute, "ok"))
	}
}
