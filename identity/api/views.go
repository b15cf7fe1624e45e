package api

import (
	"net/url"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// object is a JSON object put together on the spot.
type object map[string]any

// links of a resource.
type links struct {
	Self string `json:"self"`
}

// self is a resource's link.
func self(r *rest.Request, parts ...string) links {
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return links{Self: r.Base() + "/v3/" + strings.Join(parts, "/")}
}

// query reads a list's query string: limit, marker, sort keys and filters.
func query(r *rest.Request) (nacre.Query, error) { return r.Query(rest.QueryRules{}) }

// collection renders a list with its links; next is there when the page is full.
func collection[T, V any](r *rest.Request, name string, q nacre.Query, items []T, view func(*rest.Request, *T) V, id func(*T) string) object {
	views := make([]V, len(items))
	for i := range items {
		views[i] = view(r, &items[i])
	}
	l := object{"self": here(r), "previous": nil, "next": nil}
	if q.Limit > 0 && len(items) == q.Limit {
		l["next"] = r.PageURL(id(&items[len(items)-1]), q.Limit)
	}
	return object{name: views, "links": l}
}

// here is the request's own URL.
func here(r *rest.Request) string {
	u := r.Base() + r.URL.Path
	if r.URL.RawQuery != "" {
		u += "?" + r.URL.RawQuery
	}
	return u
}

// unknown drops from kept attributes those that only answers have.
func unknown(extra map[string]any) map[string]any {
	delete(extra, "links")
	delete(extra, "id")
	return extra
}

// matching refuses a body that names another resource than the path.
func matching(r *rest.Request, extra map[string]any, what string) error {
	if v, ok := extra["id"]; ok && v != r.Var("id") {
		return nacre.Errorf(nacre.Invalid, "ValidationError", "Cannot change %s ID", what)
	}
	return nil
}

// required is Keystone's answer to a missing property.
func required(field, in string, set bool) error {
	if set {
		return nil
	}
	return nacre.Errorf(nacre.Invalid, "SchemaValidationError", "Invalid input for field '%s': '%s' is a required property", in, field)
}

func ptr[T any](o rest.Opt[T]) *T { return o.Ptr() }
