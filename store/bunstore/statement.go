package bunstore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"

	"github.com/nacre-cloud/nacre/store"
)

// texts are the pieces of SQL that each statement on a table begins with.
type texts struct {
	from   string // SELECT columns FROM table
	get    string // from, by key
	insert string // INSERT INTO table (columns) VALUES
}

// texts are written once per definition.
func (e *Engine) texts(def *store.TableDef) *texts {
	if t, ok := e.written.Load(def); ok {
		return t.(*texts)
	}
	w := &builder{d: e.dialect}
	for i := range def.Columns {
		w.ident(def.Columns[i].Name).str(", ")
	}
	columns, table, t := string(w.ident(store.RevColumn).b), w.quote(def.Name), new(texts)
	t.from = "SELECT " + columns + " FROM " + table
	t.get = t.from + " WHERE " + w.quote(def.Key) + " = " + e.dialect.placeholder(1)
	t.insert = "INSERT INTO " + table + " (" + columns + ") VALUES "
	e.written.Store(def, t)
	return t
}

// scanner reads rows of a definition's columns and the revision.
type scanner struct {
	def  *store.TableDef
	vals []any
	into []any
	rev  int64
	// free is room for the values of rows to come; what is made next is for room rows.
	free []any
	room int
}

func newScanner(def *store.TableDef) *scanner {
	n := len(def.Columns)
	s := &scanner{def: def, vals: make([]any, n), into: make([]any, n+1)}
	for i := range s.vals {
		s.into[i] = &s.vals[i]
	}
	s.into[n] = &s.rev
	return s
}

func (s *scanner) row(rows *sql.Rows) (store.Row, error) {
	if err := rows.Scan(s.into...); err != nil {
		return store.Row{}, err
	}
	n := len(s.vals)
	if len(s.free) < n {
		s.free = make([]any, n*max(s.room, 1))
		s.room = min(2*max(s.room, 1), 64)
	}
	out := store.Row{Values: s.free[:n:n], Rev: s.rev}
	s.free = s.free[n:]
	for i := range s.vals {
		v, err := scanned(&s.def.Columns[i], s.vals[i])
		if err != nil {
			return store.Row{}, fmt.Errorf("%s: %w", s.def.Name, err)
		}
		out.Values[i] = v
	}
	return out, nil
}

// Get implements store.Engine.
func (e *Engine) Get(ctx context.Context, def *store.TableDef, id string, forUpdate bool) (store.Row, error) {
	if forUpdate {
		if err := e.needTx(ctx); err != nil {
			return store.Row{}, err
		}
	}
	var out store.Row
	err := e.reading(ctx, def, func(s *session) error {
		if store.CheckText(id) != nil {
			return store.ErrNoRow
		}
		q := query{text: e.texts(def).get, args: []any{id}}
		if forUpdate {
			q.text += e.dialect.forUpdate(false)
		}
		found := false
		sc := newScanner(def)
		err := s.query(ctx, q, func(rows *sql.Rows) (err error) {
			found = true
			out, err = sc.row(rows)
			return err
		})
		if err == nil && !found {
			err = store.ErrNoRow
		}
		return err
	})
	return out, err
}

func (e *Engine) needTx(ctx context.Context) error {
	x, err := e.tx(ctx)
	if err == nil && x == nil {
		err = fmt.Errorf("%w: a row lock needs a transaction", store.ErrTx)
	}
	return err
}

// Select implements store.Engine.
func (e *Engine) Select(ctx context.Context, def *store.TableDef, q store.Select) ([]store.Row, error) {
	if q.ForUpdate {
		if err := e.needTx(ctx); err != nil {
			return nil, err
		}
	}
	var out []store.Row
	err := e.reading(ctx, def, func(s *session) error {
		if err := def.CheckSelect(q); err != nil {
			return err
		}
		where, err := e.resolve(ctx, s, def, q.Where)
		if err != nil {
			return err
		}
		w := &builder{d: e.dialect}
		w.str(e.texts(def).from)
		keys, sorted := w.keys(def, q.Order, where)
		switch {
		case q.After == nil:
			w.where(def, where)
		default:
			w.str(" WHERE ")
			if where.Op != store.OpAll {
				w.cond(def, where)
				w.str(" AND ")
			}
			w.after(keys, q.After)
		}
		w.orderBy(sorted)
		if q.Limit > 0 {
			w.str(e.dialect.limit(w.arg(int64(q.Limit))))
		}
		if q.ForUpdate {
			w.str(e.dialect.forUpdate(true))
		}
		sc := newScanner(def)
		out = make([]store.Row, 0, min(q.Limit, 1000))
		return s.query(ctx, w.query(), func(rows *sql.Rows) error {
			r, err := sc.row(rows)
			out = append(out, r)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Aggregate implements store.Engine. Groups come in order of their keys.
func (e *Engine) Aggregate(ctx context.Context, def *store.TableDef, q store.Aggregate) ([]store.Group, error) {
	var out []store.Group
	err := e.reading(ctx, def, func(s *session) error {
		if err := def.CheckAggregate(q); err != nil {
			return err
		}
		where, err := e.resolve(ctx, s, def, q.Where)
		if err != nil {
			return err
		}
		w := &builder{d: e.dialect}
		w.aggregate(def, q, where)
		return s.query(ctx, w.query(), func(rows *sql.Rows) error {
			g, err := scanGroup(rows, def, q)
			out = append(out, g)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (w *builder) aggregate(def *store.TableDef, q store.Aggregate, where store.Where) {
	w.str("SELECT ")
	for _, name := range q.By {
		w.ident(name).str(", ")
	}
	w.str("count(*)")
	for _, name := range q.Sum {
		w.str(", " + w.d.sum(w.quote(name)))
	}
	if q.Max != "" {
		w.str(", max(").ident(q.Max).str(")")
	}
	w.str(" FROM ").ident(def.Name).where(def, where)
	for i, name := range q.By {
		w.str(map[bool]string{true: " GROUP BY ", false: ", "}[i == 0]).ident(name)
	}
	for i, name := range q.By {
		w.str(map[bool]string{true: " ORDER BY ", false: ", "}[i == 0]).ident(name)
		if def.Columns[def.Pos(name)].Null {
			w.str(w.d.nullsLowest(false))
		}
	}
}

func scanGroup(rows *sql.Rows, def *store.TableDef, q store.Aggregate) (store.Group, error) {
	g := store.Group{Sums: make([]int64, len(q.Sum))}
	keys := make([]any, len(q.By))
	var into []any
	for i := range keys {
		into = append(into, &keys[i])
	}
	into = append(into, &g.Count)
	for i := range g.Sums {
		into = append(into, &g.Sums[i])
	}
	if q.Max != "" {
		into = append(into, &g.Max)
	}
	err := rows.Scan(into...)
	if err != nil {
		return g, err
	}
	for i, name := range q.By {
		if keys[i], err = scanned(&def.Columns[def.Pos(name)], keys[i]); err != nil {
			return g, err
		}
		g.Key = keys
	}
	if q.Max != "" {
		g.Max, err = scanned(&def.Columns[def.Pos(q.Max)], g.Max)
	}
	return g, err
}

// Insert implements store.Engine.
func (e *Engine) Insert(ctx context.Context, def *store.TableDef, rows []store.Row) error {
	parts := slices.Collect(chunks(rows, e.dialect.insertRows()))
	if len(parts) > 1 && !store.Inside(ctx, e) {
		if _, err := e.tx(ctx); err != nil {
			return err
		}
		return store.InTx(ctx, e, func(ctx context.Context) error { return e.Insert(ctx, def, rows) })
	}
	return e.writing(ctx, def, func(s *session) error {
		if err := def.CheckRows(rows); err != nil {
			return err
		}
		for _, part := range parts {
			w := &builder{d: e.dialect}
			w.str(e.texts(def).insert)
			w.rows(def, part)
			if _, err := s.exec(ctx, w.query()); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxInsert is about how many bytes one INSERT takes, below what any server's
// packets are bounded to.
const maxInsert = 4 << 20

// chunks cuts rows into statements of at most n rows and about maxInsert bytes.
func chunks(rows []store.Row, n int) iter.Seq[[]store.Row] {
	return func(yield func([]store.Row) bool) {
		from, size := 0, 0
		for i := range rows {
			own := 0
			for _, v := range rows[i].Values {
				switch x := v.(type) {
				case string:
					own += len(x)
				case []byte:
					own += 2 * len(x) // in hexadecimal
				}
			}
			if i > from && (i-from >= n || size+own > maxInsert) {
				if !yield(rows[from:i]) {
					return
				}
				from, size = i, 0
			}
			size += own
		}
		if from < len(rows) {
			yield(rows[from:])
		}
	}
}

// rows adds the values of rows, each of revision 1.
func (w *builder) rows(def *store.TableDef, rows []store.Row) {
	w.once = len(rows) > 1
	for i, r := range rows {
		w.str(map[bool]string{true: "(", false: ", ("}[i == 0])
		for j := range def.Columns {
			v := value(&def.Columns[j], r.Values[j])
			switch {
			case w.once:
				w.literal(v)
			default:
				w.str(w.arg(v))
			}
			w.str(", ")
		}
		w.str("1)")
	}
}

// Update implements store.Engine.
func (e *Engine) Update(ctx context.Context, def *store.TableDef, where store.Where, set store.Set) (int64, error) {
	var n int64
	err := e.writing(ctx, def, func(s *session) (err error) {
		if err = def.CheckSet(set); err != nil {
			return err
		}
		if err = def.CheckWhere(where); err != nil {
			return err
		}
		c, err := e.resolve(ctx, s, def, where)
		if err != nil {
			return err
		}
		w := &builder{d: e.dialect}
		w.str("UPDATE ").ident(def.Name).str(" SET ")
		for _, name := range slices.Sorted(maps.Keys(set)) {
			col := w.quote(name)
			if inc, ok := set[name].(store.Increment); ok {
				w.str(col + " = " + col + " + " + w.arg(int64(inc)) + ", ")
				continue
			}
			w.str(col + " = " + w.arg(value(&def.Columns[def.Pos(name)], set[name])) + ", ")
		}
		rev := w.quote(store.RevColumn)
		w.str(rev+" = "+rev+" + "+strconv.Itoa(1)).where(def, c)
		n, err = s.exec(ctx, w.query())
		return err
	})
	if err != nil {
		n = 0
	}
	return n, err
}

// Delete implements store.Engine.
func (e *Engine) Delete(ctx context.Context, def *store.TableDef, where store.Where) (int64, error) {
	var n int64
	err := e.writing(ctx, def, func(s *session) (err error) {
		if err = def.CheckWhere(where); err != nil {
			return err
		}
		c, err := e.resolve(ctx, s, def, where)
		if err != nil {
			return err
		}
		w := &builder{d: e.dialect}
		w.str("DELETE FROM ").ident(def.Name).where(def, c)
		n, err = s.exec(ctx, w.query())
		return err
	})
	if err != nil {
		n = 0
	}
	return n, err
}
