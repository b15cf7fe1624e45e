package memstore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre/store"
)

// view is what one statement sees: the committed rows and, in a transaction,
// what that wrote. Whoever uses one holds the engine's mu.
type view struct {
	e *Engine
	x *tx // nil outside a transaction
}

func (v *view) table(def *store.TableDef) (*table, []int, error) {
	t := v.e.tables[def.Name]
	if t == nil {
		return nil, nil, fmt.Errorf("%w: there is no table %s", store.ErrSchema, def.Name)
	}
	m, err := t.columns(def)
	return t, m, err
}

func (v *view) overlay(t *table) *overlay {
	if v.x == nil {
		return nil
	}
	return v.x.overlays[t.name]
}

// get is the row as the view sees it, or nil.
func (v *view) get(t *table, id string) *row {
	if o := v.overlay(t); o != nil {
		if _, ok := o.touched[id]; ok {
			return o.rows[id]
		}
	}
	return t.rows[id]
}

// each visits the rows of one access.
func (a access) each(d *data, fn func(*row) bool) {
	if a.n == byID {
		if r := d.rows[a.key]; r != nil {
			fn(r)
		}
		return
	}
	d.idx[a.n].walk(a.key, "", func(r *row) bool {
		return strings.HasPrefix(r.keys[a.n], a.key) && fn(r)
	})
}

// matching visits each row that matches once, in no particular order.
func (v *view) matching(t *table, c *cond, fn func(*row) bool) {
	o := v.overlay(t)
	places, ok := t.plan(c)
	more := true
	if !ok {
		t.ids.walk("", "", func(r *row) bool { return v.visit(o, c, r, &more, fn) })
		if o != nil && more {
			o.ids.walk("", "", func(r *row) bool { return v.visit(nil, c, r, &more, fn) })
		}
		return
	}
	// The branches of an Or may find one row twice.
	if len(places) > 1 {
		seen, inner := map[string]struct{}{}, fn
		fn = func(r *row) bool {
			if _, ok := seen[r.id]; ok {
				return true
			}
			seen[r.id] = struct{}{}
			return inner(r)
		}
	}
	for _, a := range places {
		a.each(&t.data, func(r *row) bool { return v.visit(o, c, r, &more, fn) })
		if o != nil && more {
			a.each(&o.data, func(r *row) bool { return v.visit(nil, c, r, &more, fn) })
		}
		if !more {
			return
		}
	}
}

// visit hands a row on unless the overlay hides it or it does not match.
func (v *view) visit(hiding *overlay, c *cond, r *row, more *bool, fn func(*row) bool) bool {
	if hiding != nil {
		if _, hidden := hiding.touched[r.id]; hidden {
			return true
		}
	}
	if c.eval(r) == yes {
		*more = fn(r)
	}
	return *more
}

// sortKey is a sort key by position.
type sortKey struct {
	col  int
	desc bool
}

// ordered is the rows that match after the position, in order.
func (v *view) ordered(t *table, c *cond, q store.Select) []*row {
	limit := q.Limit
	keys := make([]sortKey, len(q.Order))
	for i, o := range q.Order {
		keys[i] = sortKey{t.pos[o.Column], o.Desc}
	}
	var rows []*row
	if len(keys) == 0 && v.overlay(t) == nil {
		if _, ok := t.plan(c); !ok {
			from := ""
			if q.After != nil {
				from, _ = q.After[0].(string)
				from += "\x00" // the least text after the marker
			}
			t.ids.walk("", from, func(r *row) bool {
				if c.eval(r) == yes {
					rows = append(rows, r)
				}
				return limit == 0 || len(rows) < limit
			})
			return rows
		}
	}
	v.matching(t, c, func(r *row) bool {
		if q.After == nil || comparePosition(r, keys, q.After) > 0 {
			rows = append(rows, r)
		}
		return true
	})
	slices.SortFunc(rows, func(a, b *row) int { return compareRows(a, b, keys) })
	if limit > 0 && len(rows) > limit {
		rows = rows[:limit]
	}
	return rows
}

func compareRows(a, b *row, keys []sortKey) int {
	for _, k := range keys {
		if c := compare(a.vals[k.col], b.vals[k.col]); c != 0 {
			if k.desc {
				return -c
			}
			return c
		}
	}
	return strings.Compare(a.id, b.id)
}

func comparePosition(r *row, keys []sortKey, after []any) int {
	for i, k := range keys {
		if c := compare(r.vals[k.col], after[i]); c != 0 {
			if k.desc {
				return -c
			}
			return c
		}
	}
	return compare(r.id, after[len(keys)])
}

// taken reports whether the view holds another row with r's key in index n.
func (v *view) taken(t *table, n int, r *row) bool {
	o := v.overlay(t)
	if o == nil {
		return t.holds(n, r)
	}
	if o.holds(n, r) {
		return true
	}
	found := false
	t.idx[n].walk(r.keys[n], "", func(k *row) bool {
		if k.keys[n] != r.keys[n] {
			return false
		}
		if _, hidden := o.touched[k.id]; !hidden && k.id != r.id {
			found = true
		}
		return !found
	})
	return found
}
