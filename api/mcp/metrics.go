package mcp

import "github.com/prometheus/client_golang/prometheus"

// metrics count tool calls. Their labels come from the table of tools and the list of
// codes: never from a request.
type metrics struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// unknownTool is the label of the calls of what is no tool.
const unknownTool = "unknown"

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sidevault_mcp_tool_calls_total",
			Help: "MCP tool calls by tool and outcome.",
		}, []string{"tool", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sidevault_mcp_tool_duration_seconds",
			Help:    "Time to run MCP tool calls.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}, []string{"tool"}),
	}
	if registry != nil {
		registry.MustRegister(m.calls, m.duration)
	}
	return m
}
