package api

import (
	"net/url"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// badQuery words a wrong query parameter.
func badQuery(name, value, why string) *nacre.Error {
	switch {
	case name == "limit" && strings.HasPrefix(value, "-"):
		return nacre.Errorf(nacre.Invalid, "", "limit param must be positive")
	case name == "limit":
		return nacre.Errorf(nacre.Invalid, "", "limit param must be an integer")
	case name == "sort_dir" && !strings.Contains(value, ","):
		return nacre.Errorf(nacre.Invalid, "", "Invalid sort direction: %s", value)
	case name == "sort_dir":
		return nacre.Errorf(nacre.Invalid, "", "Number of sort dirs does not match the number of sort keys")
	}
	return nacre.Errorf(nacre.Invalid, "", "Invalid value for %s: %s: %s", name, value, why)
}

func (a *api) list(r *rest.Request) (any, error) {
	q, err := r.Query(rest.QueryRules{ColonSort: true, Operators: []string{"id", "name", "status", "disk_format", "container_format", "created_at", "updated_at"},
		Invalid: badQuery})
	if err != nil {
		return nil, err
	}
	size, most := a.s.Pages()
	asked := q.Limit
	if q.Limit == 0 && !r.URL.Query().Has("limit") {
		q.Limit, asked = size, 0
	}
	zero := r.URL.Query().Get("limit") == "0"
	if has := r.URL.Query(); has.Has("sort") && (has.Has("sort_key") || has.Has("sort_dir")) {
		return nil, nacre.Errorf(nacre.Invalid, "", "Old and new sorting syntax cannot be combined")
	}
	q.Limit = min(q.Limit, most)
	defaultSort(&q, r.URL.Query())
	var ims []image.Image
	if !zero {
		if ims, err = a.s.List(r.Context(), q); err != nil {
			return nil, err
		}
	}
	vals := r.URL.Query()
	vals.Del("marker")
	if vals.Get("limit") == "" && asked == 0 {
		vals.Del("limit")
	}
	out := struct {
		Images []view `json:"images"`
		First  string `json:"first"`
		Next   string `json:"next,omitempty"`
		Schema string `json:"schema"`
	}{Images: make([]view, len(ims)), First: "/v2/images" + withQuery(vals), Schema: "/v2/schemas/images"}
	for i, im := range ims {
		out.Images[i] = a.view(r, im)
	}
	if len(ims) > 0 && len(ims) == q.Limit {
		vals.Set("marker", ims[len(ims)-1].ID)
		out.Next = "/v2/images" + withQuery(vals)
	}
	return out, nil
}

// defaultSort gives keys without a direction glance's own, which is descending,
// and a direction without a key to created_at.
func defaultSort(q *nacre.Query, vals url.Values) {
	if dirs := vals["sort_dir"]; len(dirs) > 0 {
		if len(q.Sort) == 0 {
			q.Sort = []nacre.SortKey{{Field: "created_at", Desc: dirs[0] == "desc"}}
		}
		return
	}
	given := map[string]bool{}
	for _, v := range vals["sort"] {
		for part := range strings.SplitSeq(v, ",") {
			if key, dir, _ := strings.Cut(part, ":"); dir != "" {
				given[key] = true
			}
		}
	}
	for i, k := range q.Sort {
		if !given[k.Field] {
			q.Sort[i].Desc = true
		}
	}
}

func withQuery(v url.Values) string {
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}
