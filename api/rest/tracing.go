package rest

import (
	"strconv"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sidevault/sidevault/api/wire"
)

// requestIDAttribute leads from a span to the log and to the audit log.
const requestIDAttribute = "sidevault.request_id"

// traced returns h with a span around each request, below its caller's where it has a
// trace context (W3C Trace Context). The span has the route's pattern and no path or
// query: those can hold anything that somebody mistook for a path.
func (s *server) traced(path string, h gin.HandlerFunc) gin.HandlerFunc {
	if s.tracer == nil {
		return h
	}
	return func(c *gin.Context) {
		ctx := propagation.TraceContext{}.Extract(c.Request.Context(), propagation.HeaderCarrier(c.Request.Header))
		name, attributes := method(c.Request), []attribute.KeyValue{scheme(c)}
		verb := semconv.HTTPRequestMethodKey.String(name)
		if name == otherMethod {
			name, verb = "HTTP", semconv.HTTPRequestMethodOther
		}
		if path != noRoute {
			name += " " + path
			attributes = append(attributes, semconv.HTTPRoute(path))
		}
		ctx, span := s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(append(attributes, verb)...))
		defer span.End()
		c.Request = c.Request.WithContext(ctx)
		h(c)
		status := c.Writer.Status()
		span.SetAttributes(semconv.HTTPResponseStatusCode(status), attribute.String(requestIDAttribute, c.Writer.Header().Get(wire.HeaderRequestID)))
		if status >= 500 {
			span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
			span.SetStatus(codes.Error, "")
		}
	}
}

func scheme(c *gin.Context) attribute.KeyValue {
	if c.Request.TLS != nil {
		return semconv.URLScheme("https")
	}
	return semconv.URLScheme("http")
}
