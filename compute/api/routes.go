// Package api is compute's HTTP face: Nova's API v2.1, microversions 2.1 to 2.96.
//
//	h := api.New(api.Config{Compute: svc, Tokens: identity})
//
// Routes are below /v2.1; a project id after it is accepted and ignored, as with
// nova. The root answers the version list without a token.
package api

import (
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// MinVersion and MaxVersion bound the microversions.
const (
	MinVersion = "2.1"
	MaxVersion = "2.96"
)

// Config of the API. Compute is required.
type Config struct {
	Compute *compute.Service
	Tokens  nacre.TokenValidator
	// AuthURI is announced on a 401.
	AuthURI string
	Observe func(method, route string, status int, took time.Duration)
	Log     *slog.Logger
}

type api struct{ s *compute.Service }

var projectPath = regexp.MustCompile(`^/v2\.1/([0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27})(/.+)$`)

// Operations is the table of what is built.
func Operations() []nacre.Operation { return service(Config{}).Operations() }

// New serves the API.
func New(c Config) http.Handler { return service(c).Handler() }

func service(c Config) *rest.Service {
	a := &api{s: c.Compute}
	var routes []rest.Route
	for _, rs := range [][]rest.Route{a.versionRoutes(), a.serverRoutes(), a.actionRoutes(), a.serverPartRoutes(), a.flavorRoutes(), a.keypairRoutes(), a.hostRoutes(), a.quotaRoutes(), a.serverGroupRoutes(), a.aggregateRoutes(), a.securityGroupRoutes(), a.externalEventRoutes(), a.migrationRoutes()} {
		routes = append(routes, rs...)
	}
	return &rest.Service{
		Name: "compute", StrictSlash: true, Dialect: rest.Nova(), Tokens: c.Tokens, AuthURI: c.AuthURI, Observe: c.Observe, Log: c.Log,
		Versions: &rest.Microversions{Type: "compute", Legacy: "X-OpenStack-Nova-API-Version", Min: rest.V(MinVersion), Max: rest.V(MaxVersion)},
		Routes:   routes,
		Rewrite: func(p string) string {
			if m := projectPath.FindStringSubmatch(p); m != nil {
				return "/v2.1" + m[2]
			}
			return p
		},
	}
}

type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// links are the self and bookmark links of a resource.
func links(r *rest.Request, path string) []link {
	return []link{{"self", r.Base() + "/v2.1/" + path}, bookmark(r, path)}
}

func bookmark(r *rest.Request, path string) link { return link{"bookmark", r.Base() + "/" + path} }

// next is the link to the page after the last item, when the page was full.
func next(r *rest.Request, n, limit int, last func() string) []link {
	if limit <= 0 || n < limit || n == 0 {
		return nil
	}
	return []link{{"next", r.PageURL(last(), 0)}}
}

func (a *api) versionRoutes() []rest.Route {
	type media struct {
		Base string `json:"base"`
		Type string `json:"type"`
	}
	type version struct {
		ID         string  `json:"id"`
		Status     string  `json:"status"`
		Version    string  `json:"version"`
		MinVersion string  `json:"min_version"`
		Updated    string  `json:"updated"`
		Links      []link  `json:"links"`
		Media      []media `json:"media-types,omitempty"`
	}
	doc := func(r *rest.Request) version {
		return version{"v2.1", "CURRENT", MaxVersion, MinVersion, "2013-07-23T11:33:21Z", []link{{"self", r.Base() + "/v2.1/"}}, nil}
	}
	one := rest.Do(func(r *rest.Request) (any, error) {
		v := doc(r)
		v.Media = []media{{"application/json", "application/vnd.openstack.compute+json;version=2.1"}}
		v.Links = append(v.Links, link{"describedby", "http://docs.openstack.org/"})
		return map[string]version{"version": v}, nil
	})
	all := rest.Do(func(r *rest.Request) (any, error) { return map[string][]version{"versions": {doc(r)}}, nil })
	return []rest.Route{
		{Method: "GET", Path: "/", Public: true, Op: all},
		{Method: "GET", Path: "/versions", Public: true, Op: all},
		{Method: "GET", Path: "/v2.1", Public: true, Op: one},
	}
}

var uuidRE = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)

// lastPart takes the id out of a reference, which may be a URL.
func lastPart(ref string) string { return ref[strings.LastIndex(ref, "/")+1:] }
