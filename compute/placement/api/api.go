// Package api is placement's HTTP face: the Placement API, microversions 1.0 to
// 1.39.
//
//	h := api.New(api.Config{Placement: svc, Tokens: identity})
//
// The root answers the version document without a token. Paths in links carry the
// mount prefix but no host, as the real service's do; Location is absolute.
package api

import (
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// MinVersion and MaxVersion bound the microversions.
const (
	MinVersion = "1.0"
	MaxVersion = "1.39"
)

// Config of the API. Placement is required.
type Config struct {
	Placement *placement.Service
	Tokens    nacre.TokenValidator
	// AuthURI is announced on a 401.
	AuthURI string
	Observe func(method, route string, status int, took time.Duration)
	Log     *slog.Logger
}

type api struct{ s *placement.Service }

// Operations is the table of what is built.
func Operations() []nacre.Operation { return service(Config{}).Operations() }

// New serves the API.
func New(c Config) http.Handler { return service(c).Handler() }

func service(c Config) *rest.Service {
	a := &api{s: c.Placement}
	var routes []rest.Route
	for _, rs := range [][]rest.Route{a.rootRoutes(), a.providerRoutes(), a.inventoryRoutes(), a.allocationRoutes(), a.classRoutes(), a.candidateRoutes()} {
		routes = append(routes, rs...)
	}
	return &rest.Service{
		Name: "placement", Dialect: rest.Placement(), Tokens: c.Tokens, AuthURI: c.AuthURI, Observe: c.Observe, Log: c.Log,
		Versions: &rest.Microversions{Type: "placement", Min: rest.V(MinVersion), Max: rest.V(MaxVersion)},
		Routes:   routes,
	}
}

type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

type versionView struct {
	ID     string `json:"id"`
	Max    string `json:"max_version"`
	Min    string `json:"min_version"`
	Status string `json:"status"`
	Links  []link `json:"links"`
}

func (a *api) rootRoutes() []rest.Route {
	op := rest.Do(func(r *rest.Request) (any, error) {
		fresh(r, time.Time{})
		return struct {
			Versions []versionView `json:"versions"`
		}{[]versionView{{"v" + MinVersion, MaxVersion, MinVersion, "CURRENT", []link{{"self", ""}}}}}, nil
	})
	return []rest.Route{{Method: "GET", Path: "/", Public: true, View: versionView{}, Op: op}}
}

var since115 = rest.V("1.15")

// fresh sets the headers that came with 1.15; a zero time means now.
func fresh(r *rest.Request, modified time.Time) {
	if r.Version < since115 {
		return
	}
	if modified.IsZero() {
		modified = time.Now()
	}
	r.Set("Last-Modified", modified.UTC().Format(http.TimeFormat))
	r.Set("Cache-Control", "no-cache")
}

// in is rest.In for bodies that must be declared as JSON.
func in[B any](f func(r *rest.Request, b *B) (any, error)) rest.Op {
	return rest.In(func(r *rest.Request, b *B) (any, error) {
		ct, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if ct != "application/json" {
			if ct == "" {
				ct = "None"
			}
			return nil, nacre.Errorf(nacre.UnsupportedMedia, placement.CodeUndefined, "The media type %s is not supported, use application/json", ct)
		}
		return f(r, b)
	})
}

func invalid(format string, args ...any) error {
	return nacre.Errorf(nacre.Invalid, placement.CodeUndefined, format, args...)
}

func badValue(format string, args ...any) error {
	return nacre.Errorf(nacre.Invalid, placement.CodeBadValue, format, args...)
}

// path is a link within this API.
func path(r *rest.Request, p string) string {
	u, err := url.Parse(r.Base())
	if err != nil {
		return p
	}
	return u.Path + p
}

func location(r *rest.Request, p string) { r.Set("Location", r.Base()+p) }

// dashed is a UUID in its usual form, or "".
func dashed(s string) string {
	u, err := uuid.Parse(s)
	if err != nil || strings.ContainsAny(s, "{}:") {
		return ""
	}
	return u.String()
}

// parameters refuses query parameters that the microversion does not have: names
// maps those that it has to the versions they came with.
func parameters(r *rest.Request, names map[string]string) (url.Values, error) {
	return parametersLike(r, names, nil)
}

func parametersLike(r *rest.Request, names map[string]string, more func(name string) bool) (url.Values, error) {
	vals, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("Invalid query string parameters: %s", err)
	}
	for name := range vals {
		since, ok := names[name]
		if (!ok || r.Version < rest.V(since)) && (more == nil || !more(name)) {
			return nil, invalid("Invalid query string parameters: Additional properties are not allowed ('%s' was unexpected)", name)
		}
	}
	return vals, nil
}

func last(vals url.Values, name string) string {
	if v := vals[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

var namePattern = regexp.MustCompile(`^[A-Z0-9_]+$`)

func noSuchVersion(r *rest.Request) (any, error) {
	r.SetStatus(http.StatusMethodNotAllowed)
	return nil, invalid("The method specified is not allowed for this resource.")
}
