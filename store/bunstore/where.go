package bunstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre/store"
)

// maxPlaceholders is how many operands of In become placeholders; more are
// written into the text.
const maxPlaceholders = 8

// builder writes one statement.
type builder struct {
	d    dialect
	b    []byte
	args []any
	once bool
}

func (w *builder) str(s string) *builder { w.b = append(w.b, s...); return w }

func (w *builder) ident(name string) *builder { w.b = w.d.gen().AppendIdent(w.b, name); return w }

func (w *builder) quote(name string) string { return string(w.d.gen().AppendIdent(nil, name)) }

// arg adds an argument and gives its placeholder.
func (w *builder) arg(v any) string {
	if b, ok := v.([]byte); ok {
		v = bytesOf(b)
	}
	w.args = append(w.args, v)
	return w.d.placeholder(len(w.args))
}

// literal writes a value into the text. A number with a point would be a decimal,
// of bounded length, to MariaDB.
func (w *builder) literal(v any) {
	if f, ok := v.(float64); ok {
		w.b = strconv.AppendFloat(w.b, f, 'e', -1, 64)
		return
	}
	w.b = w.d.gen().Append(w.b, v)
}

func (w *builder) query() query { return query{text: string(w.b), args: w.args, once: w.once} }

// where adds " WHERE …" unless the condition is on every row.
func (w *builder) where(t *store.TableDef, c store.Where) *builder {
	if c.Op != store.OpAll {
		w.str(" WHERE ")
		w.cond(t, c)
	}
	return w
}

// cond adds a condition, which was checked. Every condition is either enclosed
// in parentheses or binds tighter than AND.
func (w *builder) cond(t *store.TableDef, c store.Where) {
	switch c.Op {
	case store.OpAll:
		w.str("(1 = 1)")
		return
	case store.OpAnd, store.OpOr:
		if len(c.Sub) == 0 {
			w.str(map[bool]string{true: "(1 = 1)", false: "(1 = 0)"}[c.Op == store.OpAnd])
			return
		}
		sep := "("
		for i := range c.Sub {
			w.str(sep)
			w.cond(t, c.Sub[i])
			sep = map[bool]string{true: " AND ", false: " OR "}[c.Op == store.OpAnd]
		}
		w.str(")")
		return
	case store.OpNot:
		w.str("(NOT ")
		w.cond(t, c.Sub[0])
		w.str(")")
		return
	}
	col := w.quote(c.Column)
	switch c.Op {
	case store.OpIsNull:
		w.str("(" + col + " IS NULL)")
	case store.OpIn:
		w.in(t, col, c)
	case store.OpInSelect:
		w.str("(" + col + " IN (SELECT ").ident(c.Pick).str(" FROM ").ident(c.Table.Name)
		w.where(c.Table, c.Sub[0]).str("))")
	case store.OpPrefix, store.OpSuffix, store.OpContains:
		w.text(col, c)
	case store.OpMatch:
		expr := c.Value.(string)
		if c.Fold {
			expr = "(?i:" + expr + ")"
		}
		w.str(w.d.match(col, w.arg(expr)))
	default:
		if c.Value == nil {
			w.str("(NULL)")
			return
		}
		v := c.Value
		if s, ok := v.(string); ok && c.Fold {
			col, v = w.d.lower(col), lower(s)
		}
		w.str("(" + col + map[store.Op]string{
			store.OpEq: " = ", store.OpLess: " < ", store.OpLessEq: " <= ", store.OpGreater: " > ", store.OpGreaterEq: " >= ",
		}[c.Op] + w.arg(v) + ")")
	}
}

func (w *builder) in(_ *store.TableDef, col string, c store.Where) {
	if len(c.Values) == 0 {
		w.str("(1 = 0)")
		return
	}
	if c.Fold {
		col = w.d.lower(col)
	}
	w.str("(" + col + " IN (")
	for i, v := range c.Values {
		if i > 0 {
			w.str(", ")
		}
		if s, ok := v.(string); ok && c.Fold {
			v = lower(s)
		}
		switch {
		case v == nil:
			w.str("NULL")
		case len(c.Values) <= maxPlaceholders:
			w.str(w.arg(v))
		default:
			w.once = true
			w.literal(v)
		}
	}
	w.str("))")
}

func (w *builder) text(col string, c store.Where) {
	s := c.Value.(string)
	if s == "" {
		w.str("(" + col + " = " + col + ")") // true but for NULL
		return
	}
	if c.Op == store.OpPrefix && !c.Fold {
		w.str("(" + col + " >= " + w.arg(s))
		if end, ok := upTo(s); ok {
			w.str(" AND " + col + " < " + w.arg(end))
		}
		w.str(")")
		return
	}
	if c.Fold {
		col, s = w.d.lower(col), lower(s)
	}
	w.str("(")
	switch c.Op {
	case store.OpPrefix:
		w.str(w.d.head(col, w.arg(s), s))
	case store.OpSuffix:
		w.str(w.d.tail(col, w.arg(s), s))
	default:
		w.str(w.d.contains(col, w.arg(s)))
	}
	w.str(")")
}

// key is a sort key.
type key struct {
	col  string // quoted
	null bool
	desc bool
}

// keys are what rows are sorted by: the primary key is the last one, unless no two
// rows that the condition leaves can agree in the others. (MariaDB would then not
// see that a unique index has the order already.)
//
// A position is compared by all of them, all the same: its row may be gone, and another
// one have what was unique of it.
func (w *builder) keys(t *store.TableDef, order []store.Order, c store.Where) (all, sorted []key) {
	ks := make([]key, 0, len(order)+1)
	for _, o := range order {
		ks = append(ks, key{w.quote(o.Column), t.Columns[t.Pos(o.Column)].Null, o.Desc})
	}
	all = append(ks, key{col: w.quote(t.Key)})
	if distinct(t, order, c) {
		return all, ks
	}
	return all, all
}

// distinct says that sort keys and what the condition holds fast cover a unique index.
func distinct(t *store.TableDef, order []store.Order, c store.Where) bool {
	if len(order) == 0 {
		return false
	}
	fast := map[string]bool{}
	for _, o := range order {
		fast[o.Column] = true
	}
	hold(c, fast)
	for _, ix := range t.Indexes {
		if ix.Unique && !slices.ContainsFunc(ix.Columns, func(name string) bool { return !fast[name] || t.Columns[t.Pos(name)].Null }) {
			return true
		}
	}
	return false
}

// hold adds the columns that have one value in all rows of a condition.
func hold(c store.Where, fast map[string]bool) {
	switch {
	case c.Op == store.OpEq && !c.Fold:
		fast[c.Column] = true
	case c.Op == store.OpAnd:
		for i := range c.Sub {
			hold(c.Sub[i], fast)
		}
	}
}

func (w *builder) orderBy(ks []key) {
	w.str(" ORDER BY ")
	for i, k := range ks {
		if i > 0 {
			w.str(", ")
		}
		w.str(k.col)
		if k.desc {
			w.str(" DESC")
		}
		if k.null {
			w.str(w.d.nullsLowest(k.desc))
		}
	}
}

// after adds the condition of rows that sort strictly after a position:
// k1 > a1 OR (k1 = a1 AND (k2 > a2 OR …)).
func (w *builder) after(ks []key, pos []any) {
	k, a := ks[0], pos[0]
	beyond := ""
	switch {
	case a == nil && k.desc:
		beyond = "(1 = 0)"
	case a == nil:
		beyond = "(" + k.col + " IS NOT NULL)"
	case k.desc && k.null:
		beyond = "(" + k.col + " < " + w.arg(a) + " OR " + k.col + " IS NULL)"
	case k.desc:
		beyond = "(" + k.col + " < " + w.arg(a) + ")"
	default:
		beyond = "(" + k.col + " > " + w.arg(a) + ")"
	}
	if len(ks) == 1 {
		w.str(beyond)
		return
	}
	w.str("(" + beyond + " OR (" + k.col)
	if a == nil {
		w.str(" IS NULL")
	} else {
		w.str(" = " + w.arg(a))
	}
	w.str(" AND ")
	w.after(ks[1:], pos[1:])
	w.str("))")
}

// resolve replaces Match, where the database has no such expressions, by the
// values that match: it reads the column's distinct values under the conditions
// that stand beside it and filters them here. So limits and counts stay right.
func (e *Engine) resolve(ctx context.Context, s *session, t *store.TableDef, c store.Where) (store.Where, error) {
	if e.dialect.match("", "") != "" || !hasMatch(c) {
		return c, nil
	}
	return e.resolveIn(ctx, s, t, c, narrowing(c))
}

func hasMatch(c store.Where) bool {
	if c.Op == store.OpMatch {
		return true
	}
	for i := range c.Sub {
		if hasMatch(c.Sub[i]) {
			return true
		}
	}
	return false
}

// narrowing is what must hold besides the expressions.
func narrowing(c store.Where) store.Where {
	if c.Op != store.OpAnd {
		return store.All()
	}
	var keep []store.Where
	for _, s := range c.Sub {
		if !hasMatch(s) {
			keep = append(keep, s)
		}
	}
	return store.And(keep...)
}

func (e *Engine) resolveIn(ctx context.Context, s *session, t *store.TableDef, c, narrow store.Where) (store.Where, error) {
	switch c.Op {
	case store.OpMatch:
		return e.resolveMatch(ctx, s, t, c, narrow)
	case store.OpInSelect:
		sub, err := e.resolve(ctx, s, c.Table, c.Sub[0])
		c.Sub = []store.Where{sub}
		return c, err
	}
	subs := make([]store.Where, len(c.Sub))
	for i := range c.Sub {
		var err error
		if subs[i], err = e.resolveIn(ctx, s, t, c.Sub[i], narrow); err != nil {
			return c, err
		}
	}
	c.Sub = subs
	return c, nil
}

func (e *Engine) resolveMatch(ctx context.Context, s *session, t *store.TableDef, c, narrow store.Where) (store.Where, error) {
	re, err := c.Regexp()
	if err != nil {
		return c, err
	}
	w := &builder{d: e.dialect}
	w.str("SELECT DISTINCT ").ident(c.Column).str(" FROM ").ident(t.Name)
	w.where(t, store.And(store.Not(store.IsNull(c.Column)), narrow))
	// Nothing is less than the empty text, and NULL is not known to be.
	matched := store.Where{Op: store.OpLess, Column: c.Column, Value: ""}
	var text string
	err = s.query(ctx, w.query(), func(rows *sql.Rows) error {
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("store: %s.%s: %w", t.Name, c.Column, err)
		}
		if re.MatchString(text) {
			matched.Op = store.OpIn
			matched.Values = append(matched.Values, strings.Clone(text))
		}
		return nil
	})
	return matched, err
}
