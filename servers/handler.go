package servers

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	computeapi "github.com/nacre-cloud/nacre/compute/api"
	placementapi "github.com/nacre-cloud/nacre/compute/placement/api"
	identityapi "github.com/nacre-cloud/nacre/identity/api"
	imageapi "github.com/nacre-cloud/nacre/image/api"
	"github.com/nacre-cloud/nacre/internal/rest"
	networkapi "github.com/nacre-cloud/nacre/network/api"
)

// Handler serves every API of the cloud below its prefix ("/identity", "/image",
// "/compute", "/placement", "/network", "/object-store"), and /healthz, /readyz and /metrics. "/"
// says what is where.
func (cl *Cloud) Handler() http.Handler { return cl.handler }

// authURI is where clients get tokens, on the address that they asked.
const authURI = "/identity/v3"

func (cl *Cloud) routes() http.Handler {
	observe := func(area string) func(method, route string, status int, took time.Duration) {
		return cl.metrics.Observer(area)
	}
	apis := map[string]http.Handler{}
	if cl.Identity != nil {
		c := cl.identityAPI
		c.AuthURI, c.Observe, c.Log = authURI, observe("identity"), cl.log
		apis["identity"] = identityapi.New(cl.Identity, c)
	}
	if cl.Image != nil {
		apis["image"] = imageapi.New(imageapi.Config{Image: cl.Image, Tokens: cl.tokens, AuthURI: authURI, Observe: observe("image"), Log: cl.log})
	}
	if cl.Network != nil {
		apis["network"] = networkapi.New(networkapi.Config{Network: cl.Network, Tokens: cl.tokens, AuthURI: authURI, Observe: observe("network"), Log: cl.log})
	}
	if cl.Compute != nil {
		apis["compute"] = computeapi.New(computeapi.Config{Compute: cl.Compute, Tokens: cl.tokens, AuthURI: authURI, Observe: observe("compute"), Log: cl.log})
		apis["placement"] = placementapi.New(placementapi.Config{Placement: cl.Placement, Tokens: cl.tokens, AuthURI: authURI, Observe: observe("placement"), Log: cl.log})
		apis["host"] = cl.hostHandler()
	}
	if cl.Objects != nil {
		cl.objects = cl.objectHandler(observe("objectstore"))
		apis[objectPrefix[1:]] = cl.objects
	}
	for name, h := range apis {
		apis[name] = rest.Mount("/"+name, h)
	}
	apis["healthz"] = http.HandlerFunc(cl.healthz)
	apis["readyz"] = http.HandlerFunc(cl.readyz)
	apis["metrics"] = cl.metrics.Handler()
	apis[""] = http.HandlerFunc(cl.index)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if h, ok := apis[name]; ok {
			h.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})
}

// healthz is 200 while every part of the process runs.
func (cl *Cloud) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := cl.Healthy(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// readyz is 200 once every host has reported, and while the databases answer.
func (cl *Cloud) readyz(w http.ResponseWriter, r *http.Request) {
	switch waits, err := cl.waits(r.Context()); {
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case waits != "":
		http.Error(w, waits, http.StatusServiceUnavailable)
	default:
		_, _ = w.Write([]byte("ok\n"))
	}
}

func (cl *Cloud) index(w http.ResponseWriter, r *http.Request) {
	type service struct {
		Type string `json:"type"`
		URL  string `json:"url"`
	}
	base := "http://" + r.Host
	if r.TLS != nil {
		base = "https://" + r.Host
	}
	doc := struct {
		Cloud    string    `json:"cloud"`
		AuthURL  string    `json:"auth_url"`
		Region   string    `json:"region"`
		Services []service `json:"services"`
		Health   []string  `json:"health"`
	}{Cloud: "Nacre", AuthURL: base + "/identity/v3", Region: cl.c.Region, Health: []string{base + "/healthz", base + "/readyz", base + "/metrics"}}
	for _, s := range catalog {
		version := s.version
		if s.prefix == objectPrefix {
			version = "/info" // it has no version document, and an account has an owner
		}
		doc.Services = append(doc.Services, service{s.typ, base + s.prefix + version})
	}
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(doc)
}
