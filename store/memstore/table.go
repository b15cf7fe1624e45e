package memstore

import (
	"fmt"
	"slices"
	"sync"

	"github.com/nacre-cloud/nacre/store"
)

// index is an index by column positions.
type index struct {
	name   string
	cols   []int
	unique bool
}

// data is a set of rows with its lists; a table's committed rows, or what one
// transaction wrote.
type data struct {
	rows map[string]*row
	ids  list
	idx  []list
}

func newData(indexes int) data {
	d := data{rows: map[string]*row{}, ids: list{n: byID}, idx: make([]list, indexes)}
	for i := range d.idx {
		d.idx[i].n = i
	}
	return d
}

// put replaces a by b; either may be nil.
func (d *data) put(a, b *row) {
	switch {
	case a == nil && b == nil:
	case a == nil:
		d.rows[b.id] = b
		d.ids.insert(b)
		for i := range d.idx {
			d.idx[i].insert(b)
		}
	case b == nil:
		delete(d.rows, a.id)
		d.ids.remove(a)
		for i := range d.idx {
			d.idx[i].remove(a)
		}
	default:
		d.rows[b.id] = b
		d.ids.replace(a, b)
		for i := range d.idx {
			if a.keys[i] == b.keys[i] {
				d.idx[i].replace(a, b)
			} else {
				d.idx[i].remove(a)
				d.idx[i].insert(b)
			}
		}
	}
}

// table is a table as the engine keeps it: with every column that any program
// has asked for, whereas a TableDef may know fewer of them, in another order.
type table struct {
	data
	name    string
	cols    []store.Column
	pos     map[string]int
	key     int
	indexes []index
	// def is the definition whose columns are cols, position by position.
	def *store.TableDef
	// maps are the column positions of other definitions: *store.TableDef → []int.
	maps sync.Map
}

// overlay is what a transaction wrote to one table.
type overlay struct {
	data
	t *table
	// touched are the ids of rows that the transaction wrote or removed.
	touched map[string]struct{}
}

// columns maps a definition's columns to the table's; nil means one to one.
func (t *table) columns(def *store.TableDef) ([]int, error) {
	if def == t.def {
		return nil, nil
	}
	if m, ok := t.maps.Load(def); ok {
		return m.([]int), nil
	}
	m := make([]int, len(def.Columns))
	for i, c := range def.Columns {
		p, ok := t.pos[c.Name]
		if !ok {
			return nil, fmt.Errorf("%w: %s has no column %s", store.ErrSchema, t.name, c.Name)
		}
		m[i] = p
	}
	t.maps.Store(def, m)
	return m, nil
}

// in makes a row of a caller's values.
func (t *table) in(m []int, vals []any) *row {
	own := make([]any, len(t.cols))
	if m == nil {
		copy(own, vals)
	} else {
		for i, c := range t.cols {
			own[i] = zero(c)
		}
		for i, p := range m {
			own[p] = vals[i]
		}
	}
	for i, v := range own {
		if b, ok := v.([]byte); ok {
			own[i] = slices.Clone(b)
		}
	}
	return t.seal(own, 1)
}

// seal makes a row of values that are the engine's own.
func (t *table) seal(vals []any, rev int64) *row {
	r := &row{id: vals[t.key].(string), vals: vals, rev: rev}
	if len(t.indexes) == 0 {
		return r
	}
	var room [256]byte
	buf := room[:0]
	var ends [16]int
	if len(t.indexes) > len(ends) {
		r.keys = make([]string, len(t.indexes))
		for i := range t.indexes {
			r.keys[i] = string(t.appendKeys(nil, i, vals))
		}
		return r
	}
	for i := range t.indexes {
		buf = t.appendKeys(buf, i, vals)
		ends[i] = len(buf)
	}
	all, from := string(buf), 0
	r.keys = make([]string, len(t.indexes))
	for i := range t.indexes {
		r.keys[i], from = all[from:ends[i]], ends[i]
	}
	return r
}

func (t *table) appendKeys(b []byte, n int, vals []any) []byte {
	for _, c := range t.indexes[n].cols {
		b = appendKey(b, vals[c])
	}
	return b
}

// out makes the caller's own copy.
func (t *table) out(m []int, r *row) store.Row {
	var vals []any
	if m == nil {
		vals = slices.Clone(r.vals)
	} else {
		vals = make([]any, len(m))
		for i, p := range m {
			vals[i] = r.vals[p]
		}
	}
	for i, v := range vals {
		if b, ok := v.([]byte); ok {
			vals[i] = slices.Clone(b)
		}
	}
	return store.Row{Values: vals, Rev: r.rev}
}

// distinct reports whether the index forbids another row with r's key: NULLs
// are distinct from each other.
func (t *table) distinct(n int, r *row) bool {
	if !t.indexes[n].unique {
		return false
	}
	for _, c := range t.indexes[n].cols {
		if r.vals[c] == nil {
			return false
		}
	}
	return true
}

// rebuild makes a table with def's columns and indexes besides the old ones, and
// the old rows in it.
func rebuild(old *table, def *store.TableDef, drop []string) (*table, error) {
	t := &table{name: def.Name, pos: map[string]int{}, key: def.Pos(def.Key), def: def}
	t.cols = slices.Clone(def.Columns)
	if old != nil {
		for _, c := range old.cols {
			if def.Pos(c.Name) < 0 {
				t.cols, t.def = append(t.cols, c), nil
			}
		}
	}
	for i, c := range t.cols {
		t.pos[c.Name] = i
	}
	for _, d := range def.Indexes {
		ix := index{name: d.Name, unique: d.Unique}
		for _, c := range d.Columns {
			ix.cols = append(ix.cols, t.pos[c])
		}
		t.indexes = append(t.indexes, ix)
	}
	if old != nil {
		for _, ix := range old.indexes {
			if slices.ContainsFunc(t.indexes, func(k index) bool { return k.name == ix.name }) || slices.Contains(drop, def.Name+"."+ix.name) {
				continue
			}
			cols := make([]int, len(ix.cols))
			for i, c := range ix.cols {
				cols[i] = t.pos[old.cols[c].Name]
			}
			t.indexes = append(t.indexes, index{name: ix.name, cols: cols, unique: ix.unique})
		}
	}
	t.data = newData(len(t.indexes))
	if old == nil {
		return t, nil
	}
	for _, r := range old.rows {
		vals := make([]any, len(t.cols))
		for i, c := range t.cols {
			if p, ok := old.pos[c.Name]; ok {
				vals[i] = r.vals[p]
			} else {
				vals[i] = zero(c)
			}
		}
		n := t.seal(vals, r.rev)
		for i := range t.indexes {
			if t.distinct(i, n) && t.data.holds(i, n) {
				return nil, store.Duplicate(t.name, t.indexes[i].name)
			}
		}
		t.put(nil, n)
	}
	return t, nil
}

// holds reports whether another row has r's key in an index.
func (d *data) holds(n int, r *row) bool {
	found := false
	d.idx[n].walk(r.keys[n], "", func(o *row) bool {
		if o.keys[n] != r.keys[n] {
			return false
		}
		found = o.id != r.id
		return !found
	})
	return found
}

// drops says that a table has an index that is to go.
func (t *table) drops(drop []string) bool {
	return slices.ContainsFunc(t.indexes, func(ix index) bool { return slices.Contains(drop, t.name+"."+ix.name) })
}

// lacks says what of def the table does not have, or "".
func (t *table) lacks(def *store.TableDef) string {
	for _, c := range def.Columns {
		if _, ok := t.pos[c.Name]; !ok {
			return "column " + def.Name + "." + c.Name
		}
	}
	for _, d := range def.Indexes {
		if !slices.ContainsFunc(t.indexes, func(k index) bool { return k.name == d.Name }) {
			return "index " + d.Name
		}
	}
	return ""
}
