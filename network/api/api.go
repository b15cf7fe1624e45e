// Package api is network's HTTP face: Neutron's API v2.0.
//
//	h := api.New(api.Config{Network: svc, Tokens: identity})
//
// Collections take one resource ("network") or several at once ("networks"),
// filter by every attribute shown, and page with limit and marker. An extension
// is listed only where its fields and filters work.
package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/network"
)

// Config of the API. Network is required.
type Config struct {
	Network *network.Service
	Tokens  nacre.TokenValidator
	AuthURI string
	Observe func(method, route string, status int, took time.Duration)
	Log     *slog.Logger
}

type api struct{ s *network.Service }

// Operations is the table of what is built.
func Operations() []nacre.Operation { return service(Config{}).Operations() }

// New serves the API.
func New(c Config) http.Handler { return service(c).Handler() }

func service(c Config) *rest.Service {
	a := &api{s: c.Network}
	return &rest.Service{
		Name: "network", Dialect: rest.Neutron(), Tokens: c.Tokens, AuthURI: c.AuthURI, Observe: c.Observe, Log: c.Log,
		Rewrite: func(p string) string { return strings.TrimSuffix(p, ".json") },
		Routes: slices.Concat(a.versionRoutes(), a.networkRoutes(), a.subnetRoutes(), a.poolRoutes(), a.portRoutes(), a.bindingRoutes(), a.routerRoutes(), a.floatingIPRoutes(), a.groupRoutes(), a.addressGroupRoutes(),
			a.quotaRoutes(), a.agentRoutes(), a.scheduleRoutes(), a.tagRoutes(), a.extensionRoutes()),
	}
}

func (a *api) versionRoutes() []rest.Route {
	type link struct {
		Rel  string `json:"rel"`
		Href string `json:"href"`
	}
	return []rest.Route{
		{Method: "GET", Path: "/", Public: true, Op: rest.Do(func(r *rest.Request) (any, error) {
			return map[string]any{"versions": []any{map[string]any{"id": "v2.0", "status": "CURRENT", "links": []link{{"self", r.Base() + "/v2.0/"}}}}}, nil
		})},
		{Method: "GET", Path: "/v2.0", Public: true, Op: rest.Do(func(r *rest.Request) (any, error) {
			var out []any
			for _, c := range []string{"networks", "subnets", "ports", "routers", "floatingips", "security-groups", "security-group-rules", "quotas", "agents", "extensions"} {
				out = append(out, map[string]any{"name": strings.ReplaceAll(strings.TrimSuffix(c, "s"), "-", "_"), "collection": c, "links": []link{{"self", r.Base() + "/v2.0/" + c}}})
			}
			return map[string]any{"resources": out}, nil
		})},
	}
}

// std is the part that every resource's view begins with.
type std struct {
	ID          string       `json:"id"`
	Name        string       `json:"name"`
	ProjectID   string       `json:"project_id"`
	TenantID    string       `json:"tenant_id"`
	Description string       `json:"description"`
	Tags        []string     `json:"tags"`
	Revision    int          `json:"revision_number"`
	Created     rest.Seconds `json:"created_at"`
	Updated     rest.Seconds `json:"updated_at"`
}

func stdOf(o network.Std) std {
	return std{o.ID, o.Name, o.ProjectID, o.ProjectID, o.Description, o.Tags, o.Revision, rest.Seconds(o.Created), rest.Seconds(o.Updated)}
}

// owner is the project of a request body, under either of its names.
type owner struct {
	ProjectID string `json:"project_id" valid:"null,max=255"`
	TenantID  string `json:"tenant_id" valid:"null,max=255"`
}

func (o owner) project(r *rest.Request) (string, error) {
	p := o.ProjectID
	if p == "" {
		p = o.TenantID
	}
	if c := r.Caller(); p != "" && p != c.ProjectID && !c.HasRole("admin") && !c.HasRole("service") {
		return "", nacre.Errorf(nacre.Forbidden, "PolicyNotAuthorized", "(rule:create for another project) is disallowed by policy")
	}
	return p, nil
}

func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// fields leaves of a view only what ?fields= asks for.
func fields(r *rest.Request, v any) (any, error) {
	want := r.URL.Query()["fields"]
	if len(want) == 0 {
		return v, nil
	}
	b, err := rest.JSON(v, 0)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{}
	for _, w := range want {
		for f := range strings.SplitSeq(w, ",") {
			if x, ok := all[strings.TrimSpace(f)]; ok {
				out[strings.TrimSpace(f)] = x
			}
		}
	}
	if len(out) == 0 && len(want) == 1 && want[0] == "" {
		return v, nil
	}
	return out, nil
}

// page is the answer of a list: the views under the collection's name, and links
// where a page was asked for.
func page[T any](r *rest.Request, q nacre.Query, name string, items []T, id func(T) string, view func(T) any) (any, error) {
	views := make([]any, len(items))
	for i, it := range items {
		v, err := fields(r, view(it))
		if err != nil {
			return nil, err
		}
		views[i] = v
	}
	out := map[string]any{name: views}
	if q.Limit > 0 {
		var links []map[string]string
		if len(items) == q.Limit || q.Reverse && len(items) > 0 {
			links = append(links, map[string]string{"rel": "next", "href": pageURL(r, id(items[len(items)-1]), false)})
		}
		if q.Marker != "" && len(items) > 0 {
			links = append(links, map[string]string{"rel": "previous", "href": pageURL(r, id(items[0]), true)})
		}
		if links != nil {
			out[name+"_links"] = links
		}
	}
	return out, nil
}

func pageURL(r *rest.Request, marker string, reverse bool) string {
	v := r.URL.Query()
	v.Set("marker", marker)
	v.Del("page_reverse")
	if reverse {
		v.Set("page_reverse", "True")
	}
	return r.Base() + r.URL.Path + "?" + v.Encode()
}

func query(r *rest.Request) (nacre.Query, error) {
	q, err := r.Query(rest.QueryRules{Invalid: func(name, value, why string) *nacre.Error {
		return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid value for %s: %s: %s", name, value, why)
	}})
	if len(q.Sort) > 0 && !slices.ContainsFunc(q.Sort, func(k nacre.SortKey) bool { return k.Field == "id" }) {
		q.Sort = append(q.Sort, nacre.SortKey{Field: "id"})
	}
	return q, err
}

// create decodes {"network": {…}} or {"networks": [{…}, …]} into Ts and answers
// in the same form. Of several either all are made or none.
func create[T any](s *network.Service, one, many string, build func(r *rest.Request, in *T) (any, error)) rest.Op {
	return rest.In(func(r *rest.Request, b *map[string]json.RawMessage) (any, error) {
		raw, single := (*b)[one]
		if len(*b) != 1 || !single && (*b)[many] == nil {
			return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Unable to find '%s' in request body", one)
		}
		if single {
			var in T
			if err := rest.DecodeInto(r, raw, []string{one}, &in); err != nil {
				return nil, err
			}
			v, err := build(r, &in)
			return map[string]any{one: v}, err
		}
		var raws []json.RawMessage
		if err := json.Unmarshal((*b)[many], &raws); err != nil || len(raws) == 0 {
			return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Resources required")
		}
		views := make([]any, len(raws))
		outer := r.Request
		defer func() { r.Request = outer }()
		err := s.Together(r.Context(), func(ctx context.Context) error {
			r.Request = outer.WithContext(ctx)
			for i := range raws {
				var in T
				err := rest.DecodeInto(r, raws[i], []string{one}, &in)
				if err == nil {
					views[i], err = build(r, &in)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		return map[string]any{many: views}, err
	})
}

// do wraps a view under the resource's name, with ?fields=.
func do(name string, f func(r *rest.Request) (any, error)) rest.Op {
	return rest.Do(func(r *rest.Request) (any, error) {
		v, err := f(r)
		if err != nil {
			return nil, err
		}
		v, err = fields(r, v)
		return map[string]any{name: v}, err
	})
}

// change decodes {"network": {…}} into a T.
func change[T any](name string, f func(r *rest.Request, in *T) (any, error)) rest.Op {
	return rest.In(func(r *rest.Request, b *map[string]json.RawMessage) (any, error) {
		raw, ok := (*b)[name]
		if !ok || len(*b) != 1 {
			return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Unable to find '%s' in request body", name)
		}
		var in T
		if err := rest.DecodeInto(r, raw, []string{name}, &in); err != nil {
			return nil, err
		}
		if err := ifMatch(r); err != nil {
			return nil, err
		}
		v, err := f(r, &in)
		return map[string]any{name: v}, err
	})
}

// ifMatch reads "If-Match: revision_number=3" into the request's context.
func ifMatch(r *rest.Request) error {
	h := r.Header.Get("If-Match")
	if h == "" {
		return nil
	}
	v, ok := strings.CutPrefix(h, "revision_number=")
	n, err := strconv.Atoi(v)
	if !ok || err != nil {
		return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Requests with If-Match must be in the form: revision_number=NUMBER")
	}
	r.Request = r.WithContext(network.IfRevision(r.Context(), n))
	return nil
}

func (a *api) tagRoutes() []rest.Route {
	var routes []rest.Route
	add := func(method, path string, status int, op rest.Op) {
		routes = append(routes, rest.Route{Method: method, Path: path, Status: status, Op: op})
	}
	type body struct {
		Tags []string `json:"tags" valid:"required"`
	}
	for _, c := range []string{"networks", "subnets", "subnetpools", "ports", "routers", "floatingips", "security-groups", "security_groups"} {
		base := "/v2.0/" + c + "/{id}/tags"
		add("GET", base, 200, rest.Do(func(r *rest.Request) (any, error) {
			tags, err := a.s.Tags(r.Context(), c, r.Var("id"))
			return body{tags}, err
		}))
		add("PUT", base, 200, rest.In(func(r *rest.Request, b *body) (any, error) {
			tags, err := a.s.UpdateTags(r.Context(), c, r.Var("id"), func([]string) ([]string, error) { return b.Tags, nil })
			return body{tags}, err
		}))
		add("POST", base, 200, rest.In(func(r *rest.Request, b *body) (any, error) {
			tags, err := a.s.UpdateTags(r.Context(), c, r.Var("id"), func(old []string) ([]string, error) { return append(old, b.Tags...), nil })
			return body{tags}, err
		}))
		add("DELETE", base, http.StatusNoContent, rest.Do(func(r *rest.Request) (any, error) {
			_, err := a.s.UpdateTags(r.Context(), c, r.Var("id"), func([]string) ([]string, error) { return nil, nil })
			return nil, err
		}))
		add("GET", base+"/{tag}", http.StatusNoContent, rest.Do(func(r *rest.Request) (any, error) {
			tags, err := a.s.Tags(r.Context(), c, r.Var("id"))
			if err == nil && !slices.Contains(tags, r.Var("tag")) {
				err = tagNotFound(r.Var("tag"))
			}
			return nil, err
		}))
		add("PUT", base+"/{tag}", http.StatusCreated, rest.Do(func(r *rest.Request) (any, error) {
			_, err := a.s.UpdateTags(r.Context(), c, r.Var("id"), func(old []string) ([]string, error) { return append(old, r.Var("tag")), nil })
			return nil, err
		}))
		add("DELETE", base+"/{tag}", http.StatusNoContent, rest.Do(func(r *rest.Request) (any, error) {
			_, err := a.s.UpdateTags(r.Context(), c, r.Var("id"), func(old []string) ([]string, error) {
				i := slices.Index(old, r.Var("tag"))
				if i < 0 {
					return nil, tagNotFound(r.Var("tag"))
				}
				return slices.Delete(old, i, i+1), nil
			})
			return nil, err
		}))
	}
	return routes
}

func tagNotFound(tag string) error {
	return nacre.Errorf(nacre.NotFound, "TagNotFound", "Tag %s could not be found.", tag)
}
