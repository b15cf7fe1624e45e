package memstore

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/nacre-cloud/nacre/store"
)

// read runs fn with what the context may see.
func (e *Engine) read(ctx context.Context, fn func(v *view) error) error {
	x, err := e.tx(ctx)
	if err != nil {
		return err
	}
	if x == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.gate.Enter(); err != nil {
			return err
		}
		defer e.gate.Leave()
		e.mu.RLock()
		defer e.mu.RUnlock()
		return fn(&view{e: e})
	}
	return x.Statement(ctx, func() error {
		e.mu.RLock()
		defer e.mu.RUnlock()
		return fn(&view{e: e, x: x})
	})
}

// Get implements store.Engine.
func (e *Engine) Get(ctx context.Context, def *store.TableDef, id string, forUpdate bool) (out store.Row, err error) {
	get := func(v *view) error {
		t, m, err := v.table(def)
		if err != nil {
			return err
		}
		r := v.get(t, id)
		if r == nil {
			return store.ErrNoRow
		}
		out = t.out(m, r)
		return nil
	}
	if !forUpdate {
		return out, e.read(ctx, get)
	}
	x, err := e.needTx(ctx)
	if err != nil {
		return out, err
	}
	err = x.Statement(ctx, func() error {
		if err := x.lock(ctx, rowLock(def.Name, id)); err != nil {
			return err
		}
		e.mu.RLock()
		defer e.mu.RUnlock()
		return get(&view{e: e, x: x})
	})
	return out, err
}

func (e *Engine) needTx(ctx context.Context) (*tx, error) {
	x, err := e.tx(ctx)
	if err == nil && x == nil {
		err = fmt.Errorf("%w: a row lock needs a transaction", store.ErrTx)
	}
	return x, err
}

// Select implements store.Engine.
func (e *Engine) Select(ctx context.Context, def *store.TableDef, q store.Select) ([]store.Row, error) {
	if q.ForUpdate {
		if _, err := e.needTx(ctx); err != nil {
			return nil, err
		}
	}
	var out []store.Row
	err := e.read(ctx, func(v *view) error {
		if err := def.CheckSelect(q); err != nil {
			return err
		}
		t, m, err := v.table(def)
		if err != nil {
			return err
		}
		c, err := v.prepare(t, q.Where)
		if err != nil {
			return err
		}
		limit := q.Limit
		skip := q.ForUpdate && e.opt.ReadCommitted
		if skip {
			q.Limit = 0
		}
		rows := v.ordered(t, c, q)
		out = make([]store.Row, 0, len(rows))
		for _, r := range rows {
			if skip && !e.locks.try(v.x, rowLock(t.name, r.id)) {
				continue
			}
			if out = append(out, t.out(m, r)); len(out) == limit {
				break
			}
		}
		return nil
	})
	return out, err
}

// Aggregate implements store.Engine. Groups come in order of their keys.
func (e *Engine) Aggregate(ctx context.Context, def *store.TableDef, q store.Aggregate) ([]store.Group, error) {
	var out []store.Group
	err := e.read(ctx, func(v *view) error {
		if err := def.CheckAggregate(q); err != nil {
			return err
		}
		t, _, err := v.table(def)
		if err != nil {
			return err
		}
		c, err := v.prepare(t, q.Where)
		if err != nil {
			return err
		}
		groups := map[string]*store.Group{}
		if len(q.By) == 0 {
			groups[""] = &store.Group{Sums: make([]int64, len(q.Sum))}
		}
		var key []byte
		v.matching(t, c, func(r *row) bool {
			key = key[:0]
			for _, name := range q.By {
				key = appendKey(key, r.vals[t.pos[name]])
			}
			g := groups[string(key)]
			if g == nil {
				g = &store.Group{Sums: make([]int64, len(q.Sum))}
				for _, name := range q.By {
					g.Key = append(g.Key, r.vals[t.pos[name]])
				}
				groups[string(key)] = g
			}
			g.Count++
			for i, name := range q.Sum {
				n, _ := r.vals[t.pos[name]].(int64)
				g.Sums[i] += n
			}
			if q.Max != "" {
				if x := r.vals[t.pos[q.Max]]; compare(x, g.Max) > 0 {
					g.Max = x
				}
			}
			return true
		})
		for _, k := range slices.Sorted(maps.Keys(groups)) {
			out = append(out, *groups[k])
		}
		return nil
	})
	return out, err
}

// change is one row's change; old is nil for a new row, new for a removed one.
type change struct{ old, new *row }

// writer is one writing statement: alone (x nil, it holds mu for all its time)
// or in a transaction (it takes mu for each look).
type writer struct {
	view
	t *table
	m []int
}

// write runs fn as a writing statement.
func (e *Engine) write(ctx context.Context, def *store.TableDef, fn func(ctx context.Context, w *writer) error) error {
	x, err := e.tx(ctx)
	if err != nil {
		return err
	}
	if x == nil && e.opt.ReadCommitted {
		return store.InTx(ctx, e, func(ctx context.Context) error { return e.write(ctx, def, fn) })
	}
	w := &writer{view: view{e: e, x: x}}
	run := func() (err error) {
		if w.t, w.m, err = w.table(def); err != nil {
			return err
		}
		return fn(ctx, w)
	}
	if x != nil {
		return x.Statement(ctx, run)
	}
	if err := e.begin(ctx, nil); err != nil {
		return err
	}
	defer e.gate.Leave()
	defer e.giveWriter()
	e.mu.Lock()
	defer e.mu.Unlock()
	return run()
}

// look runs fn while the committed rows stand still.
func (w *writer) look(fn func() error) error {
	if w.x != nil {
		w.e.mu.RLock()
		defer w.e.mu.RUnlock()
	}
	return fn()
}

// lockKeys takes the locks that a change needs in READ COMMITTED mode: the row
// and the unique keys that it had and will have.
func (w *writer) lockKeys(ctx context.Context, cs []change) error {
	if !w.e.opt.ReadCommitted {
		return nil
	}
	var names []string
	for _, c := range cs {
		for _, r := range []*row{c.old, c.new} {
			if r == nil {
				continue
			}
			names = append(names, rowLock(w.t.name, r.id))
			for i := range w.t.indexes {
				if w.t.distinct(i, r) {
					names = append(names, "unique\x00"+w.t.name+"\x00"+w.t.indexes[i].name+"\x00"+r.keys[i])
				}
			}
		}
	}
	for _, name := range names {
		if err := w.x.lock(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func rowLock(table, id string) string { return "row\x00" + table + "\x00" + id }

// apply writes the changes, all or none.
func (w *writer) apply(cs []change) error {
	for i, c := range cs {
		if err := w.allowed(c); err != nil {
			if w.x == nil {
				for _, done := range slices.Backward(cs[:i]) {
					w.t.put(done.new, done.old)
				}
			}
			return err
		}
		if w.x == nil {
			w.t.put(c.old, c.new)
			continue
		}
		o := w.x.overlays[w.t.name]
		if o == nil {
			if w.x.overlays == nil {
				w.x.overlays = map[string]*overlay{}
			}
			o = &overlay{data: newData(len(w.t.indexes)), t: w.t, touched: map[string]struct{}{}}
			w.x.overlays[w.t.name] = o
		}
		id := ""
		if c.new != nil {
			id = c.new.id
		} else {
			id = c.old.id
		}
		o.put(o.rows[id], c.new)
		o.touched[id] = struct{}{}
	}
	return nil
}

// allowed checks the key and the unique indexes.
func (w *writer) allowed(c change) error {
	if c.new == nil {
		return nil
	}
	if c.old == nil && w.get(w.t, c.new.id) != nil {
		return store.Duplicate(w.t.name, "PRIMARY")
	}
	for i := range w.t.indexes {
		if c.old != nil && c.old.keys[i] == c.new.keys[i] {
			continue
		}
		if w.t.distinct(i, c.new) && w.taken(w.t, i, c.new) {
			return store.Duplicate(w.t.name, w.t.indexes[i].name)
		}
	}
	return nil
}

// Insert implements store.Engine.
func (e *Engine) Insert(ctx context.Context, def *store.TableDef, rows []store.Row) error {
	return e.write(ctx, def, func(ctx context.Context, w *writer) error {
		if err := def.CheckRows(rows); err != nil {
			return err
		}
		cs := make([]change, len(rows))
		for i := range rows {
			cs[i].new = w.t.in(w.m, rows[i].Values)
		}
		if err := w.lockKeys(ctx, cs); err != nil {
			return err
		}
		return w.look(func() error { return w.apply(cs) })
	})
}

// Update implements store.Engine.
func (e *Engine) Update(ctx context.Context, def *store.TableDef, where store.Where, set store.Set) (n int64, err error) {
	err = e.write(ctx, def, func(ctx context.Context, w *writer) error {
		if err := def.CheckSet(set); err != nil {
			return err
		}
		cs, err := w.changes(ctx, def, where, func(r *row) (*row, error) {
			vals := slices.Clone(r.vals)
			for name, v := range set {
				p := w.t.pos[name]
				switch x := v.(type) {
				case store.Increment:
					old, ok := vals[p].(int64)
					if !ok { // NULL stays NULL
						continue
					}
					sum := old + int64(x)
					if (sum > old) != (x > 0) && x != 0 {
						return nil, fmt.Errorf("store: %s.%s: integer overflow", w.t.name, name)
					}
					vals[p] = sum
				case []byte:
					vals[p] = slices.Clone(x)
				default:
					vals[p] = v
				}
			}
			return w.t.seal(vals, r.rev+1), nil
		})
		if err != nil {
			return err
		}
		n = int64(len(cs))
		return w.look(func() error { return w.apply(cs) })
	})
	if err != nil {
		n = 0
	}
	return n, err
}

// Delete implements store.Engine.
func (e *Engine) Delete(ctx context.Context, def *store.TableDef, where store.Where) (n int64, err error) {
	err = e.write(ctx, def, func(ctx context.Context, w *writer) error {
		cs, err := w.changes(ctx, def, where, func(*row) (*row, error) { return nil, nil })
		if err != nil {
			return err
		}
		n = int64(len(cs))
		return w.look(func() error { return w.apply(cs) })
	})
	if err != nil {
		n = 0
	}
	return n, err
}

// changes finds the rows that match and what becomes of them, in order of id. In
// READ COMMITTED it locks them, and looks again at what others did meanwhile.
func (w *writer) changes(ctx context.Context, def *store.TableDef, where store.Where, to func(*row) (*row, error)) ([]change, error) {
	if err := def.CheckWhere(where); err != nil {
		return nil, err
	}
	var c *cond
	var cs []change
	err := w.look(func() (err error) {
		if c, err = w.prepare(w.t, where); err != nil {
			return err
		}
		for _, r := range w.ordered(w.t, c, store.Select{}) {
			cs = append(cs, change{old: r})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if w.e.opt.ReadCommitted {
		for i := range cs {
			if err := w.x.lock(ctx, rowLock(w.t.name, cs[i].old.id)); err != nil {
				return nil, err
			}
		}
		err := w.look(func() error {
			cs = slices.DeleteFunc(cs, func(k change) bool {
				now := w.get(w.t, k.old.id)
				return now == nil || now != k.old && c.eval(now) != yes
			})
			for i := range cs {
				cs[i].old = w.get(w.t, cs[i].old.id)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for i := range cs {
		if cs[i].new, err = to(cs[i].old); err != nil {
			return nil, err
		}
	}
	return cs, w.lockKeys(ctx, cs)
}
