package acceptance

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// spanReceiver is an OTLP receiver that keeps what it is sent.
type spanReceiver struct {
	*httptest.Server
	mu    sync.Mutex
	raw   []byte
	spans []*otlp.Span
	from  []*common.KeyValue // of the resource
}

func newSpanReceiver(t *testing.T) *spanReceiver {
	r := new(spanReceiver)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var sent collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &sent)
		}
		if err != nil || req.URL.Path != "/v1/traces" || req.Header.Get("Api-Key") != "of the receiver" {
			t.Errorf("not what a receiver gets: %s %v", req.URL.Path, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw = append(r.raw, body...)
		for _, resource := range sent.GetResourceSpans() {
			r.from = resource.GetResource().GetAttributes()
			for _, scope := range resource.GetScopeSpans() {
				r.spans = append(r.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// named returns the spans of a trace with that name; of any trace when it is "".
func (r *spanReceiver) named(traceID, name string) (found []*otlp.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if s.GetName() == name && (traceID == "" || hex.EncodeToString(s.GetTraceId()) == traceID) {
			found = append(found, s)
		}
	}
	return found
}

// one waits for a span and fails the test unless it is the only one of its name.
func (r *spanReceiver) one(t *testing.T, traceID, name string) *otlp.Span {
	t.Helper()
	until(t, "the span "+name, func() bool { return len(r.named(traceID, name)) > 0 })
	found := r.named(traceID, name)
	if len(found) != 1 {
		t.Errorf("%d spans %s", len(found), name)
	}
	return found[0]
}

// attributes returns what a span says, as text.
func attributes(list []*common.KeyValue) map[string]string {
	found := map[string]string{}
	for _, kv := range list {
		switch v := kv.GetValue().GetValue().(type) {
		case *common.AnyValue_IntValue:
			text, _ := json.Marshal(v.IntValue)
			found[kv.GetKey()] = string(text)
		default:
			found[kv.GetKey()] = kv.GetValue().GetStringValue()
		}
	}
	return found
}

// wantsSpan fails the test unless the span has this parent, kind and attributes.
func wantsSpan(t *testing.T, s *otlp.Span, parent []byte, kind otlp.Span_SpanKind, want map[string]string) {
	t.Helper()
	got := attributes(s.GetAttributes())
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %s is %q, want %q", s.GetName(), name, got[name], value)
		}
	}
	if !bytes.Equal(s.GetParentSpanId(), parent) || s.GetKind() != kind {
		t.Errorf("%s: the parent is %x, the kind %v", s.GetName(), s.GetParentSpanId(), s.GetKind())
	}
}

const (
	callersTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersSpan   = "00f067aa0ba902b7"
	unwantedTrace = "5bf92f3577b34da6a3ce929d0e0e4736"
	routeOfSet    = "PUT /v1/integrations/:integration/credentials"
	routeOfRead   = "GET /v1/credentials/:integration"
)

// TestTraces sends requests with and without a trace of the caller's to a sidecar, and
// looks at what a receiver gets.
func TestTraces(t *testing.T) {
	t.Parallel()
	r := newSpanReceiver(t)
	v := binary.With("OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_EXPORTER_OTLP_HEADERS=api-key=of%20the%20receiver", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test").Init(t)
	s := v.Start(t, append(v.Configure(t, behaviours(""), trial(t)), "--tracing-endpoint", r.URL)...)
	c := s.Admin()
	c.Put(slotOf("accept"), value(metricsCanary), "traceparent: 00-"+callersTrace+"-"+callersSpan+"-01", "X-Request-Id: traced-1").Wants(http.StatusCreated)
	c.Get("/v1/credentials/accept", "traceparent: 00-"+unwantedTrace+"-"+callersSpan+"-00").Wants(http.StatusOK)
	c.Get("/v1/credentials/slack", "X-Request-Id: traced-2").Wants(http.StatusNotFound)
	c.Put(slotOf("crash"), value(metricsCanary)).Wants(http.StatusServiceUnavailable)
	c.Get("/healthz").Wants(http.StatusOK)
	c.Get("/v1/" + metricsCanary).Wants(http.StatusNotFound)

	set := r.one(t, callersTrace, routeOfSet)
	parent, _ := hex.DecodeString(callersSpan)
	wantsSpan(t, set, parent, otlp.Span_SPAN_KIND_SERVER, map[string]string{
		"http.request.method": "PUT", "http.route": "/v1/integrations/:integration/credentials", "http.response.status_code": "201",
		"url.scheme": "http", "sidevault.request_id": "traced-1", "error.type": "",
	})
	validate := r.one(t, callersTrace, "sidevault.plugin.v1.Validator/Validate")
	wantsSpan(t, validate, set.GetSpanId(), otlp.Span_SPAN_KIND_CLIENT, map[string]string{
		"rpc.system.name": "grpc", "sidevault.plugin.name": "trial", "sidevault.plugin.outcome": "ok",
	})
	wantsSpan(t, r.one(t, callersTrace, "commit"), set.GetSpanId(), otlp.Span_SPAN_KIND_INTERNAL, map[string]string{
		"db.system.name": "bbolt", "db.operation.name": "commit",
	})
	read := r.one(t, "", routeOfRead)
	wantsSpan(t, read, nil, otlp.Span_SPAN_KIND_SERVER, map[string]string{"http.response.status_code": "404", "sidevault.request_id": "traced-2", "error.type": ""})
	until(t, "the set that fails", func() bool { return len(r.named("", routeOfSet)) == 2 })
	failed := r.named("", routeOfSet)[1]
	wantsSpan(t, failed, nil, otlp.Span_SPAN_KIND_SERVER, map[string]string{"http.response.status_code": "503", "error.type": "503"})
	r.one(t, "", "GET")
	s.Stop()
	wantsLogged(t, s, "traced-1", callersTrace, hex.EncodeToString(set.GetSpanId()))
	wantsLogged(t, s, "traced-2", hex.EncodeToString(read.GetTraceId()), hex.EncodeToString(read.GetSpanId()))
	r.wantsNothingElse(t, s)
}

// wantsLogged fails the test unless the line of a request says which trace it is.
func wantsLogged(t *testing.T, s *sidecar.Sidecar, requestID, traceID, spanID string) {
	t.Helper()
	if l := wantsLine(t, s, "request", requestID); l["trace_id"] != traceID || l["span_id"] != spanID {
		t.Errorf("the line of %s: %v", requestID, l)
	}
}

// wantsNothingElse looks, after the end, for what must not have been sent.
func (r *spanReceiver) wantsNothingElse(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	if from := attributes(r.from); from["service.name"] != "sidevault" || from["service.version"] == "" || from["deployment.environment.name"] != "test" {
		t.Errorf("the resource is %v", from)
	}
	for _, word := range []string{metricsCanary, s.AdminKey, "healthz", "accept", "slack"} {
		if bytes.Contains(r.raw, []byte(word)) {
			t.Error("the spans name what must not be in them")
		}
	}
	unwanted, _ := hex.DecodeString(unwantedTrace)
	for _, span := range r.spans {
		if bytes.Equal(span.GetTraceId(), unwanted) {
			t.Errorf("%s is of a trace whose caller does not want it", span.GetName())
		}
		if len(span.GetParentSpanId()) == 0 && span.GetKind() != otlp.Span_SPAN_KIND_SERVER {
			t.Errorf("%s is below no request", span.GetName())
		}
	}
}

// Without the setting nothing is sent, whatever the environment says.
func TestTracesAreOff(t *testing.T) {
	t.Parallel()
	var asked bool
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	s := binary.With("OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL, "OTEL_BSP_SCHEDULE_DELAY=1").Serve(t)
	s.Admin().Get("/v1/whoami", "traceparent: 00-"+callersTrace+"-"+callersSpan+"-01").Wants(http.StatusOK)
	s.Stop()
	server.Close()
	if asked || strings.Contains(s.Log(), "trace_id") {
		t.Error("the sidecar traces, and was not told to")
	}
}

// A receiver that is away costs traces, and neither answers nor the stop.
func TestTracesWithoutReceiver(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	s := binary.With("OTEL_BSP_SCHEDULE_DELAY=20").Serve(t, "--tracing-endpoint", gone.URL+"/the-key-of-a-receiver")
	for range 3 {
		s.Admin().Get("/v1/whoami").Wants(http.StatusOK)
	}
	if took := s.Stop(); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if n := strings.Count(s.Log(), "traces cannot be delivered") + strings.Count(s.Log(), "the last traces were not delivered"); n == 0 || n > 3 {
		t.Errorf("the log says %d times that traces are lost", n)
	}
	if strings.Contains(s.Log(), "the-key-of-a-receiver") {
		t.Error("the log shows the receiver's path, which is a key with some")
	}
}
