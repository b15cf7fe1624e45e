package storetest

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// differential runs random operations on the engine and on memstore, which must
// agree on every answer.
func (s suite) differential(t *testing.T) {
	// A failure prints its seed; files would end up in the engine's package.
	require.NoError(t, flag.Set("rapid.nofailfile", "true"))
	tb, ctx := s.fresh(t)
	rapid.Check(t, func(r *rapid.T) {
		oracle := memstore.New(memstore.Options{})
		defer oracle.Close()
		require.NoError(r, oracle.Migrate(ctx, schema(), true))
		p := &pair{r: r, a: tb, b: on(oracle)}
		for _, def := range schema().Tables {
			_, err := tb.engine.Delete(ctx, def, store.All())
			require.NoError(r, err)
		}
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			if rapid.IntRange(0, 5).Draw(r, "tx") == 0 {
				p.transaction(ctx)
			} else {
				p.operation(ctx, ctx)
			}
		}
		p.compare(ctx, ctx, tb.things.Def(), store.Select{})
		p.compare(ctx, ctx, tb.parts.Def(), store.Select{})
	})
}

type pair struct {
	r    *rapid.T
	a, b tables
}

func (p *pair) transaction(ctx context.Context) {
	n := rapid.IntRange(0, 6).Draw(p.r, "inside")
	roll := rapid.Bool().Draw(p.r, "rollback")
	_ = p.a.engine.InTx(ctx, func(ca context.Context) error {
		return p.b.engine.InTx(ctx, func(cb context.Context) error {
			for range n {
				if p.operation(ca, cb) {
					return errBoom
				}
			}
			// What others see meanwhile.
			p.compare(ctx, ctx, p.a.parts.Def(), store.Select{})
			if roll {
				return errBoom
			}
			return nil
		})
	})
}

// operation does one thing on both, and tells that it failed on both.
func (p *pair) operation(ca, cb context.Context) bool {
	r := p.r
	def := p.a.things.Def()
	if rapid.Bool().Draw(r, "parts") {
		def = p.a.parts.Def()
	}
	switch rapid.IntRange(0, 9).Draw(r, "op") {
	case 0, 1, 2, 3:
		var rows []store.Row
		for range rapid.IntRange(1, 3).Draw(r, "rows") {
			rows = append(rows, p.row(def))
		}
		return p.same(p.a.engine.Insert(ca, def, rows), p.b.engine.Insert(cb, def, rows), "insert", def.Name, rows)
	case 4, 5:
		w, set := p.where(def, 2), p.set(def)
		na, ea := p.a.engine.Update(ca, def, w, set)
		nb, eb := p.b.engine.Update(cb, def, w, set)
		failed := p.same(ea, eb, "update", def.Name, w, set)
		require.Equal(r, nb, na, "update %s %+v %v", def.Name, w, set)
		return failed
	case 6:
		w := p.where(def, 2)
		na, ea := p.a.engine.Delete(ca, def, w)
		nb, eb := p.b.engine.Delete(cb, def, w)
		require.NoError(r, ea)
		require.NoError(r, eb)
		require.Equal(r, nb, na, "delete %s %+v", def.Name, w)
	case 7:
		q := store.Aggregate{Where: p.where(def, 2)}
		if def.Name == "things" {
			q.By = rapid.SampledFrom([][]string{nil, {"owner"}, {"kind", "active"}, {"gone_at"}}).Draw(r, "by")
			q.Sum = rapid.SampledFrom([][]string{nil, {"size"}, {"cnt", "size"}}).Draw(r, "sum")
			q.Max = rapid.SampledFrom([]string{"", "size", "name", "gone_at"}).Draw(r, "max")
		}
		ga, ea := p.a.engine.Aggregate(ca, def, q)
		gb, eb := p.b.engine.Aggregate(cb, def, q)
		require.NoError(r, ea)
		require.NoError(r, eb)
		require.Equal(r, gb, ga, "aggregate %s %+v", def.Name, q)
	default:
		q := store.Select{Where: p.where(def, 3), Limit: rapid.IntRange(0, 4).Draw(r, "limit")}
		for range rapid.IntRange(0, 2).Draw(r, "keys") {
			c := p.column(def)
			if c.Type != store.JSON && c.Type != store.Bytes {
				q.Order = append(q.Order, store.Order{Column: c.Name, Desc: rapid.Bool().Draw(r, "desc")})
			}
		}
		if rapid.Bool().Draw(r, "after") {
			for _, o := range q.Order {
				q.After = append(q.After, p.value(def.Columns[def.Pos(o.Column)]))
			}
			q.After = append(q.After, p.value(def.Columns[def.Pos(def.Key)]))
		}
		p.compare(ca, cb, def, q)
	}
	return false
}

func (p *pair) compare(ca, cb context.Context, def *store.TableDef, q store.Select) {
	ra, ea := p.a.engine.Select(ca, def, q)
	rb, eb := p.b.engine.Select(cb, def, q)
	require.NoError(p.r, ea, "%+v", q)
	require.NoError(p.r, eb, "%+v", q)
	require.Equal(p.r, rb, ra, "select %s %+v", def.Name, q)
}

// same holds both errors to one meaning. Which of several broken indexes is
// named is the engine's choice.
func (p *pair) same(a, b error, what ...any) bool {
	require.Equal(p.r, b == nil, a == nil, "%v: %v but the oracle says %v", what, a, b)
	require.Equal(p.r, store.IsDuplicate(b), store.IsDuplicate(a), "%v: %v but the oracle says %v", what, a, b)
	return a != nil
}

func (p *pair) column(def *store.TableDef) store.Column {
	return rapid.SampledFrom(def.Columns).Draw(p.r, "column")
}

var someTexts = []string{"", "a", "A", "b", "ab", "aB%", "a_b", "ä", "Äa", "'", `\`, "?", "日本", "😀", "a'b\"c", "--", "1", "\n"}

// value draws from few values, so that they meet.
func (p *pair) value(c store.Column) any {
	r := p.r
	if c.Null && rapid.IntRange(0, 2).Draw(r, "null") == 0 {
		return nil
	}
	switch c.Type {
	case store.Int:
		return rapid.SampledFrom([]int64{-1 << 40, -1, 0, 1, 2, 1 << 53, 1<<53 + 1}).Draw(r, c.Name)
	case store.Bool:
		return rapid.Bool().Draw(r, c.Name)
	case store.Float:
		return rapid.SampledFrom([]float64{-2.5, 0, 0.1, 1, 1e300}).Draw(r, c.Name)
	case store.Bytes:
		return []byte(rapid.SampledFrom([]string{"", "\x00", "\x00\x01", "a", "\xff"}).Draw(r, c.Name))
	case store.Time:
		return rapid.SampledFrom([]int64{-1 << 63, -1, 0, time.Now().Unix() * 1e6}).Draw(r, c.Name)
	case store.JSON:
		return []byte(rapid.SampledFrom([]string{"{}", `{"a": "'"}`, "null", `"ä"`}).Draw(r, c.Name))
	}
	if c.Name == "id" {
		return fmt.Sprint(rapid.IntRange(0, 9).Draw(r, "id"))
	}
	return rapid.SampledFrom(someTexts).Draw(r, c.Name)
}

func (p *pair) row(def *store.TableDef) store.Row {
	var row store.Row
	for _, c := range def.Columns {
		row.Values = append(row.Values, p.value(c))
	}
	return row
}

func (p *pair) set(def *store.TableDef) store.Set {
	set := store.Set{}
	for range rapid.IntRange(1, 3).Draw(p.r, "columns") {
		c := p.column(def)
		switch {
		case c.Name == def.Key:
		case c.Type == store.Int && rapid.Bool().Draw(p.r, "increment"):
			set[c.Name] = store.Increment(rapid.Int64Range(-3, 3).Draw(p.r, "by"))
		default:
			set[c.Name] = p.value(c)
		}
	}
	if len(set) == 0 {
		c := def.Columns[1]
		set[c.Name] = p.value(c)
	}
	return set
}

func (p *pair) where(def *store.TableDef, depth int) store.Where {
	r := p.r
	kind := rapid.IntRange(0, 12).Draw(r, "where")
	if depth > 0 && kind < 4 {
		var sub []store.Where
		for range rapid.IntRange(0, 3).Draw(r, "subs") {
			sub = append(sub, p.where(def, depth-1))
		}
		switch kind {
		case 0, 1:
			return store.And(sub...)
		case 2:
			return store.Or(sub...)
		default:
			return store.Not(p.where(def, depth-1))
		}
	}
	if depth > 0 && kind == 4 {
		if def.Name == "things" {
			return store.InSelect(rapid.SampledFrom([]string{"id", "kind"}).Draw(r, "col"), p.a.parts, "thing_id", p.where(p.a.parts.Def(), depth-1))
		}
		return store.InSelect(rapid.SampledFrom([]string{"thing_id", "label"}).Draw(r, "col"), p.a.things,
			rapid.SampledFrom([]string{"id", "kind"}).Draw(r, "pick"), p.where(p.a.things.Def(), depth-1))
	}
	c := p.column(def)
	fold := func(w store.Where) store.Where {
		if c.Type == store.Text && rapid.Bool().Draw(r, "fold") {
			return store.Fold(w)
		}
		return w
	}
	if c.Type == store.JSON || kind == 5 {
		return store.IsNull(c.Name)
	}
	if kind == 6 || kind == 7 {
		var vs []any
		for range rapid.IntRange(0, 3).Draw(r, "values") {
			vs = append(vs, p.value(c))
		}
		return fold(store.In(c.Name, vs))
	}
	if c.Type == store.Text && kind >= 10 {
		text := rapid.SampledFrom(someTexts).Draw(r, "text")
		switch rapid.IntRange(0, 3).Draw(r, "text op") {
		case 0:
			return fold(store.Prefix(c.Name, text))
		case 1:
			return fold(store.Suffix(c.Name, text))
		case 2:
			return fold(store.Contains(c.Name, text))
		}
		return store.Match(c.Name, rapid.SampledFrom([]string{"", "a", "^a", "[ab]$", `\d`, "^$", "ä|日", "(?i)B"}).Draw(r, "expr"))
	}
	return fold(store.Where{
		Op:     rapid.SampledFrom([]store.Op{store.OpEq, store.OpEq, store.OpLess, store.OpLessEq, store.OpGreater, store.OpGreaterEq}).Draw(r, "cmp"),
		Column: c.Name, Value: p.value(c),
	})
}
