package servers

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/metadata"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// Metadata is the edge from the data planes' metadata proxies to compute. It is
// an http.RoundTripper that is there before the cloud is, so that a data plane can
// be made with it; while no cloud serves it the answer is 503.
type Metadata struct {
	secret string
	h      atomic.Pointer[http.Handler]
	via    http.RoundTripper
}

// NewMetadata makes an edge whose proxies sign with secret; empty makes a random one.
func NewMetadata(secret string) *Metadata {
	if secret == "" {
		secret = strings.ToLower(rand.Text())
	}
	m := &Metadata{secret: secret}
	m.via = rest.Transport(http.HandlerFunc(m.handle))
	return m
}

// Secret signs the instance id in the proxies' requests.
func (m *Metadata) Secret() string { return m.secret }

// URL is where proxies send requests by this round tripper.
func (m *Metadata) URL() string { return "http://metadata" }

// RoundTrip implements http.RoundTripper.
func (m *Metadata) RoundTrip(r *http.Request) (*http.Response, error) { return m.via.RoundTrip(r) }

func (m *Metadata) handle(w http.ResponseWriter, r *http.Request) {
	h := m.h.Load()
	if h == nil {
		http.Error(w, "the metadata service is not there", http.StatusServiceUnavailable)
		return
	}
	(*h).ServeHTTP(w, r)
}

// serve lets a cloud's compute answer; nil ends it.
func (m *Metadata) serve(svc *compute.Service, log *slog.Logger) {
	if svc == nil {
		m.h.Store(nil)
		return
	}
	var h http.Handler = &metadata.Handler{Lookup: svc.Guest, Secret: []byte(m.secret), Log: log}
	m.h.Store(&h)
}
