package api

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// Config is what the API needs besides the Service. Zero values work.
type Config struct {
	// AuthURI is announced in WWW-Authenticate; empty is the request's own host
	// and prefix with /v3.
	AuthURI string
	// Federation says how assertions of identity providers arrive.
	Federation FederationConfig
	// Observe is told of every answer, by route template.
	Observe func(method, route string, status int, took time.Duration)
	Log     *slog.Logger
}

// New serves the API.
func New(svc *identity.Service, cfg Config) http.Handler {
	if cfg.AuthURI == "" {
		cfg.AuthURI = "/v3"
	}
	s := &rest.Service{
		Name: "identity", Dialect: rest.Keystone(), Tokens: svc, AuthURI: cfg.AuthURI,
		MaxBody: 112 << 10, Routes: routes(svc, cfg), Observe: cfg.Observe, Log: cfg.Log,
	}
	return s.Handler()
}

// Operations are the routes, for documents and matrices.
func Operations() []nacre.Operation {
	s := &rest.Service{Name: "identity", Dialect: rest.Keystone(), Routes: routes(&identity.Service{}, Config{})}
	return s.Operations()
}

// handlers hold what the routes share.
type handlers struct {
	svc *identity.Service
	fed FederationConfig
}

func id(rule ...string) []string {
	out := make([]string, len(rule))
	for i, r := range rule {
		out[i] = "identity:" + r
	}
	return out
}

func routes(svc *identity.Service, cfg Config) []rest.Route {
	h := &handlers{svc, cfg.Federation}
	if h.fed.Keys == nil {
		h.fed.Keys = fernet.Memory()
	}
	var all []rest.Route
	for _, part := range [][]rest.Route{
		h.versionRoutes(), h.authRoutes(), h.projectRoutes(), h.userRoutes(), h.groupRoutes(), h.roleRoutes(),
		h.grantRoutes(), h.catalogRoutes(), h.appCredRoutes(), h.credentialRoutes(), h.limitRoutes(), h.policyRoutes(), h.trustRoutes(),
		h.endpointGroupRoutes(), h.policyAssociationRoutes(), h.goneRoutes(), h.oauth2Routes(),
		h.federationRoutes(), h.oauthRoutes(), h.domainConfigRoutes(),
	} {
		all = append(all, part...)
	}
	return all
}
