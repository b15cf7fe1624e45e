package memstore

import (
	"regexp"
	"strings"

	"github.com/nacre-cloud/nacre/store"
)

// tri is SQL's truth: a comparison with NULL is unknown, and so is its negation.
type tri uint8

const (
	no tri = iota
	yes
	unknown
)

func truth(b bool) tri {
	if b {
		return yes
	}
	return no
}

// cond is a condition made ready to test rows: columns found, sub-selects run,
// expressions compiled.
type cond struct {
	op   store.Op
	col  int // -1 is the revision
	val  any
	fold bool
	re   *regexp.Regexp
	// set are the operands of In; null tells that NULL was among them.
	set  map[any]struct{}
	null bool
	sub  []*cond
}

// prepare compiles w for a table as the view sees it. The Where was checked.
func (v *view) prepare(t *table, w store.Where) (*cond, error) {
	c := &cond{op: w.Op, fold: w.Fold, val: w.Value, col: -1}
	switch w.Op {
	case store.OpAll:
		return c, nil
	case store.OpAnd, store.OpOr, store.OpNot:
		for _, s := range w.Sub {
			p, err := v.prepare(t, s)
			if err != nil {
				return nil, err
			}
			c.sub = append(c.sub, p)
		}
		return c, nil
	}
	if w.Column != store.RevColumn {
		p, ok := t.pos[w.Column]
		if !ok {
			return nil, store.ErrSchema
		}
		c.col = p
	}
	if s, ok := c.val.(string); ok && c.fold && w.Op != store.OpMatch {
		c.val = lower(s)
	}
	switch w.Op {
	case store.OpIn:
		c.set = make(map[any]struct{}, len(w.Values))
		for _, x := range w.Values {
			if s, ok := x.(string); ok && c.fold {
				x = lower(s)
			}
			c.add(x)
		}
	case store.OpMatch:
		re, err := w.Regexp()
		if err != nil {
			return nil, err
		}
		c.re = re
	case store.OpInSelect:
		c.op, c.set = store.OpIn, map[any]struct{}{}
		of, _, err := v.table(w.Table)
		if err != nil {
			return nil, err
		}
		inner, err := v.prepare(of, w.Sub[0])
		if err != nil {
			return nil, err
		}
		pick := of.pos[w.Pick]
		v.matching(of, inner, func(r *row) bool { c.add(r.vals[pick]); return true })
	}
	return c, nil
}

func (c *cond) add(x any) {
	switch x := x.(type) {
	case nil:
		c.null = true
	case []byte:
		c.set[string(x)] = struct{}{}
	default:
		c.set[x] = struct{}{}
	}
}

// eval tests a row.
func (c *cond) eval(r *row) tri {
	switch c.op {
	case store.OpAll:
		return yes
	case store.OpAnd:
		t := yes
		for _, s := range c.sub {
			switch s.eval(r) {
			case no:
				return no
			case unknown:
				t = unknown
			}
		}
		return t
	case store.OpOr:
		t := no
		for _, s := range c.sub {
			switch s.eval(r) {
			case yes:
				return yes
			case unknown:
				t = unknown
			}
		}
		return t
	case store.OpNot:
		switch c.sub[0].eval(r) {
		case yes:
			return no
		case no:
			return yes
		}
		return unknown
	}
	var x any = r.rev
	if c.col >= 0 {
		x = r.vals[c.col]
	}
	return c.test(x)
}

// test tests one column's value.
func (c *cond) test(x any) tri {
	if c.op == store.OpIsNull {
		return truth(x == nil)
	}
	if c.op == store.OpIn {
		return c.in(x)
	}
	if x == nil || c.val == nil {
		return unknown
	}
	s, text := x.(string)
	if text && c.fold {
		s = lower(s)
	}
	if !text {
		return truth(holdsOrder(c.op, compare(x, c.val)))
	}
	operand, _ := c.val.(string)
	switch c.op {
	case store.OpEq:
		return truth(s == operand)
	case store.OpPrefix:
		return truth(strings.HasPrefix(s, operand))
	case store.OpSuffix:
		return truth(strings.HasSuffix(s, operand))
	case store.OpContains:
		return truth(strings.Contains(s, operand))
	case store.OpMatch:
		return truth(c.re.MatchString(x.(string)))
	}
	return truth(holdsOrder(c.op, strings.Compare(s, operand)))
}

func (c *cond) in(x any) tri {
	if len(c.set) == 0 && !c.null {
		return no
	}
	switch y := x.(type) {
	case nil:
		return unknown
	case []byte:
		x = string(y)
	case string:
		if c.fold {
			x = lower(y)
		}
	}
	if _, ok := c.set[x]; ok {
		return yes
	}
	if c.null {
		return unknown
	}
	return no
}

func holdsOrder(op store.Op, cmp int) bool {
	switch op {
	case store.OpEq:
		return cmp == 0
	case store.OpLess:
		return cmp < 0
	case store.OpLessEq:
		return cmp <= 0
	case store.OpGreater:
		return cmp > 0
	case store.OpGreaterEq:
		return cmp >= 0
	}
	return false
}

// lower folds ASCII letters only.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// access is one place to find rows: those of list n whose key begins with key,
// or for byID the row with that id.
type access struct {
	n   int
	key string
}

// maxAccess is how many places a condition may name before a walk is better.
const maxAccess = 4096

// plan finds places that together hold every row that matches; false when
// nothing but the whole table does.
func (t *table) plan(c *cond) ([]access, bool) {
	switch c.op {
	case store.OpOr:
		var all []access
		for _, s := range c.sub {
			a, ok := t.plan(s)
			if !ok || len(all)+len(a) > maxAccess {
				return nil, false
			}
			all = append(all, a...)
		}
		return all, true
	case store.OpAnd:
		if a, ok := t.keyed(c.sub); ok {
			return a, true
		}
		for _, s := range c.sub {
			if s.op == store.OpOr {
				if a, ok := t.plan(s); ok {
					return a, true
				}
			}
		}
		return nil, false
	}
	return t.keyed([]*cond{c})
}

// fixed are the values to which a condition holds its column; false when it
// doesn't, or not usefully.
func (c *cond) fixed() ([]any, bool) {
	if c.col < 0 || c.fold {
		return nil, false
	}
	switch c.op {
	case store.OpIsNull:
		return []any{nil}, true
	case store.OpEq:
		if c.val == nil {
			return nil, true
		}
		return []any{c.val}, true
	case store.OpIn:
		if len(c.set) > maxAccess {
			return nil, false
		}
		vs := make([]any, 0, len(c.set))
		for v := range c.set {
			vs = append(vs, v)
		}
		return vs, true
	}
	return nil, false
}

// keyed looks for the best list for conditions that all must hold.
func (t *table) keyed(cs []*cond) ([]access, bool) {
	fixed := func(col int) ([]any, bool) {
		for _, c := range cs {
			if c.col == col {
				if vs, ok := c.fixed(); ok && (t.cols[col].Type != store.Bytes || c.op != store.OpIn) {
					return vs, true
				}
			}
		}
		return nil, false
	}
	if vs, ok := fixed(t.key); ok {
		places := make([]access, 0, len(vs))
		for _, v := range vs {
			if s, ok := v.(string); ok {
				places = append(places, access{n: byID, key: s})
			}
		}
		return places, true
	}
	best, depth := -1, 0
	for n := range t.indexes {
		d := 0
		for _, col := range t.indexes[n].cols {
			if _, ok := fixed(col); !ok {
				break
			}
			d++
		}
		if d > depth {
			best, depth = n, d
		}
	}
	if best < 0 {
		return nil, false
	}
	keys := []string{""}
	for i, col := range t.indexes[best].cols[:depth] {
		vs, _ := fixed(col)
		if i > 0 && len(keys)*len(vs) > maxAccess {
			break
		}
		next := make([]string, 0, len(keys)*len(vs))
		for _, k := range keys {
			for _, v := range vs {
				next = append(next, string(appendKey([]byte(k), v)))
			}
		}
		keys = next
	}
	places := make([]access, len(keys))
	for i, k := range keys {
		places[i] = access{n: best, key: k}
	}
	return places, true
}
