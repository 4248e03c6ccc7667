package rest

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the server's own. Their labels hold patterns of routes, methods and
// statuses: never a name out of a request.
type metrics struct {
	requests     *prometheus.HistogramVec
	authFailures prometheus.Counter
}

func newMetrics(registry *prometheus.Registry) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sidevault_http_request_duration_seconds",
			Help:    "Time to answer HTTP requests.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}, []string{"route", "method", "status"}),
		authFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sidevault_authentication_failures_total",
			Help: "Requests with a key or token that is not valid.",
		}),
	}
	registry.MustRegister(m.requests, m.authFailures)
	return m
}

// routeMetrics are those of one route. The series of its success is looked up once.
type routeMetrics struct {
	requests     *prometheus.HistogramVec
	method, path string
	succeeded    func() prometheus.Observer
}

func (m *metrics) of(method, path string) *routeMetrics {
	return &routeMetrics{requests: m.requests, method: method, path: path, succeeded: sync.OnceValue(func() prometheus.Observer {
		return m.requests.WithLabelValues(path, method, strconv.Itoa(http.StatusOK))
	})}
}

func (m *routeMetrics) observe(method string, status int, took time.Duration) {
	if method == m.method && status == http.StatusOK {
		m.succeeded().Observe(took.Seconds())
		return
	}
	m.requests.WithLabelValues(m.path, method, strconv.Itoa(status)).Observe(took.Seconds())
}

// watch adds the number of watches under way.
func (m *metrics) watch(registry *prometheus.Registry, count func() float64) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sidevault_watches", Help: "Watches that are served."}, count))
}
