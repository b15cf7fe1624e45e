package rest

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// QueryRules say how a list route reads its query string.
type QueryRules struct {
	// MaxLimit caps limit and is the default page; 0 means no cap and no default.
	MaxLimit int
	// Operators reads "name=op:value" for these names (glance, neutron's none).
	Operators []string
	// ColonSort reads "sort=key:dir,key:dir" too.
	ColonSort bool
	// Names, if set, are the filters that exist; others are refused when Strict,
	// else dropped.
	Names  []string
	Strict bool
	// Invalid words a wrong parameter; nil takes a plain sentence.
	Invalid func(name, value, why string) *nacre.Error
}

// Query reads limit, marker, sort, fields and filters.
func (r *Request) Query(rules QueryRules) (nacre.Query, error) {
	var q nacre.Query
	bad := func(name, value, why string) error {
		if rules.Invalid != nil {
			return rules.Invalid(name, value, why)
		}
		return nacre.Errorf(nacre.Invalid, "query", "Invalid input for query parameters %s. Value: %s. %s", name, value, why)
	}
	vals, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, bad("query", r.URL.RawQuery, "it is malformed")
	}
	var keys, dirs []string
	for _, name := range orderedNames(r.URL.RawQuery) {
		for _, v := range vals[name] {
			switch name {
			case "limit":
				n, err := strconv.Atoi(v)
				if err != nil || n < 0 {
					return q, bad(name, v, PyRepr(v)+" is not a non-negative integer")
				}
				q.Limit = n
			case "marker":
				q.Marker = v
			case "page_reverse":
				q.Reverse, _ = laxBool(v)
			case "sort_key":
				keys = append(keys, v)
			case "sort_dir":
				if v != "asc" && v != "desc" {
					return q, bad(name, v, PyRepr(v)+" is not one of ['asc', 'desc']")
				}
				dirs = append(dirs, v)
			case "fields":
				for f := range strings.SplitSeq(v, ",") {
					q.Fields = append(q.Fields, strings.TrimSpace(f))
				}
			case "sort":
				if !rules.ColonSort {
					q.Filters = append(q.Filters, nacre.Filter{Name: name, Value: v})
					continue
				}
				for part := range strings.SplitSeq(v, ",") {
					k, dir, _ := strings.Cut(part, ":")
					if dir != "" && dir != "asc" && dir != "desc" {
						return q, bad(name, v, PyRepr(dir)+" is not one of ['asc', 'desc']")
					}
					q.Sort = append(q.Sort, nacre.SortKey{Field: k, Desc: dir == "desc"})
				}
			default:
				if rules.Names != nil && !slices.Contains(rules.Names, name) {
					if rules.Strict {
						return q, bad(name, v, "Additional properties are not allowed ('"+name+"' was unexpected)")
					}
					continue
				}
				f := nacre.Filter{Name: name, Value: v}
				if op, rest, ok := strings.Cut(v, ":"); ok && slices.Contains(rules.Operators, name) && slices.Contains([]string{"in", "eq", "neq", "gt", "gte", "lt", "lte"}, op) {
					f.Op, f.Value = op, rest
				}
				q.Filters = append(q.Filters, f)
			}
		}
	}
	if len(dirs) > 1 && len(dirs) != len(keys) {
		return q, bad("sort_dir", strings.Join(dirs, ","), "The number of sort_keys and sort_dirs must be same")
	}
	for i, k := range keys {
		s := nacre.SortKey{Field: k}
		switch {
		case i < len(dirs):
			s.Desc = dirs[i] == "desc"
		case len(dirs) == 1:
			s.Desc = dirs[0] == "desc"
		}
		q.Sort = append(q.Sort, s)
	}
	if rules.MaxLimit > 0 && (q.Limit == 0 || q.Limit > rules.MaxLimit) && !(q.Limit == 0 && vals.Has("limit")) {
		q.Limit = rules.MaxLimit
	}
	return q, nil
}

// orderedNames are the parameter names in the order of the query string, each once.
func orderedNames(raw string) []string {
	var names []string
	for part := range strings.SplitSeq(raw, "&") {
		k, _, _ := strings.Cut(part, "=")
		if k, err := url.QueryUnescape(k); err == nil && k != "" && !slices.Contains(names, k) {
			names = append(names, k)
		}
	}
	return names
}

// PageURL is the request's own URL with marker replaced, absolute, for a "next"
// link. With relative true it is the path from base on (glance).
func (r *Request) PageURL(marker string, limit int) string {
	q := r.URL.Query()
	q.Set("marker", marker)
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return r.Base() + r.URL.Path + "?" + q.Encode()
}
