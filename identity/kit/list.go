package kit

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Columns are the names that a user's filters and sort keys can reach.
type Columns []string

// boolColumns are compared as truth values.
var boolColumns = []string{"enabled", "is_domain"}

// wheres turns a query's filters into conditions. Other names have no effect, as
// in Keystone. A name may end in __contains, __startswith or __endswith, with an
// i before the word to ignore case, and in __iequals.
func wheres(q nacre.Query, cols Columns) []store.Where {
	var ws []store.Where
	for _, f := range q.Filters {
		name, op, _ := strings.Cut(f.Name, "__")
		if !slices.Contains(cols, name) {
			continue
		}
		if slices.Contains(boolColumns, name) {
			if op == "" {
				ws = append(ws, store.Eq(name, truth(f.Value)))
			}
			continue
		}
		fold := strings.HasPrefix(op, "i")
		var w store.Where
		switch strings.TrimPrefix(op, "i") {
		case "", "equals":
			w = store.Eq(name, f.Value)
		case "contains":
			w = store.Contains(name, f.Value)
		case "startswith":
			w = store.Prefix(name, f.Value)
		case "endswith":
			w = store.Suffix(name, f.Value)
		default:
			continue
		}
		if fold {
			w = store.Fold(w)
		}
		ws = append(ws, w)
	}
	return ws
}

// truth reads a query's truth value as Keystone does: all but a plain no is yes.
func truth(v string) bool {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "0", "false", "f", "no", "n", "off":
		return false
	}
	return true
}

// List reads a page of what the caller may see, which ws say.
func List[T any](ctx context.Context, t *store.Table[T], q nacre.Query, cols Columns, ws ...store.Where) ([]T, error) {
	return ListFiltered(ctx, t, q, cols, nil, ws...)
}

// ListFiltered is List with filters that columns don't have. A marker may have ceased
// to match those and the query's since the page that ended with it, but not ws.
func ListFiltered[T any](ctx context.Context, t *store.Table[T], q nacre.Query, cols Columns, filters []store.Where, ws ...store.Where) ([]T, error) {
	sel := store.Select{Where: store.And(slices.Concat(wheres(q, cols), filters, ws)...), Limit: q.Limit}
	for _, k := range q.Sort {
		if k.Field == t.Def().Key {
			continue
		}
		if !slices.Contains(cols, k.Field) {
			return nil, Invalid("Invalid input for field 'sort_key': '%s' can't be sorted by.", k.Field)
		}
		sel.Order = append(sel.Order, store.Order{Column: k.Field, Desc: k.Desc})
	}
	vs, err := t.Page(ctx, sel, q.Marker, store.And(ws...))
	if errors.Is(err, store.ErrNoRow) {
		return nil, nacre.Errorf(nacre.NotFound, "MarkerNotFound", "Marker %s could not be found.", q.Marker)
	}
	return vs, err
}

// Merge puts the changes into extra attributes; a null stays as one.
func Merge(old, changes map[string]any) map[string]any {
	if len(changes) == 0 {
		return old
	}
	out := make(map[string]any, len(old)+len(changes))
	for k, v := range old {
		out[k] = v
	}
	for k, v := range changes {
		out[k] = v
	}
	return out
}

// MergeOptions is merge, where a null takes an option away.
func MergeOptions(old, changes Options) Options {
	out := Options{}
	for k, v := range old {
		out[k] = v
	}
	for k, v := range changes {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

// CheckName refuses names that Keystone's schemas refuse.
func CheckName(field, name string, max int) error {
	switch {
	case strings.TrimSpace(name) == "":
		return Invalid("Invalid input for field '%s': '%s' does not match '[\\\\S]+'", field, name)
	case len([]rune(name)) > max:
		return Invalid("Invalid input for field '%s': '%s' is too long", field, name)
	}
	return nil
}

// SetIf copies what a change sets.
func SetIf[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}

// CheckOptions refuses options that a resource does not have, or that are no truth
// values. A null takes an option away.
func CheckOptions(o Options, known ...string) error {
	for name, v := range o {
		if !slices.Contains(known, name) {
			return Invalid("Invalid input for field 'options': Additional properties are not allowed ('%s' was unexpected)", name)
		}
		if _, ok := v.(bool); !ok && v != nil {
			return Invalid("Invalid input for field 'options/%s': %v is not of type 'boolean', 'null'", name, v)
		}
	}
	return nil
}
