package kit

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are one cloud's or server's: HTTP requests by service, method, route
// template and status, and what the Go runtime tells.
type Metrics struct {
	reg      *prometheus.Registry
	requests *prometheus.HistogramVec
}

// NewMetrics makes a registry of its own; several in one process share nothing.
func NewMetrics() *Metrics {
	m := &Metrics{reg: prometheus.NewRegistry(), requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nacre_http_request_seconds", Help: "HTTP requests by route template.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30},
	}, []string{"service", "method", "route", "status"})}
	m.reg.MustRegister(m.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Observer counts the requests of a service.
func (m *Metrics) Observer(service string) func(method, route string, status int, took time.Duration) {
	return func(method, route string, status int, took time.Duration) {
		m.requests.WithLabelValues(service, method, route, strconv.Itoa(status)).Observe(took.Seconds())
	}
}

// Handler is /metrics.
func (m *Metrics) Handler() http.Handler { return promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{}) }
