package storetest

import (
	"context"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

var full = thing{
	ID: "a", Owner: "o", Name: ptr("näme 'quoted' \\ \" ? $1 -- 日本 😀"), Kind: "k", Size: math.MinInt64, Count: ptr(-7), Ratio: -1.5e-300, On: true,
	Blob: []byte{0, 1, 0xff, '\'', 0}, Hash: []byte{0}, Meta: meta{Color: "it's \"red\"\n", Tags: []string{"x"}},
	Raw: json.RawMessage(`{"b":1, "a":  [true]}`), Made: time.Date(2026, 2, 3, 4, 5, 6, 789123000, time.UTC),
	Gone: time.Date(1969, 1, 1, 0, 0, 0, 1000, time.UTC),
}

func (s suite) rows(t *testing.T) {
	t.Run("every type comes back as it went in", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		empty := thing{ID: "b", Blob: []byte{}}
		big := thing{ID: "c", Owner: "c", Size: math.MaxInt64, Ratio: math.MaxFloat64, Blob: []byte{}, Name: ptr("")}
		require.NoError(t, tb.things.Insert(ctx, full, empty, big))
		for _, want := range []thing{full, empty, big} {
			got, err := tb.things.Get(ctx, want.ID)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		all, err := tb.things.Where(ctx)
		require.NoError(t, err)
		require.Equal(t, []thing{full, empty, big}, all)
	})

	t.Run("times are microseconds in UTC", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		zone := time.FixedZone("east", 5*3600)
		v := thing{ID: "a", Made: time.Date(2026, 1, 1, 3, 0, 0, 1999, zone)}
		require.NoError(t, tb.things.Insert(ctx, v))
		got, err := tb.things.Get(ctx, "a")
		require.NoError(t, err)
		require.Equal(t, time.Date(2025, 12, 31, 22, 0, 0, 1000, time.UTC), got.Made)
		n, err := tb.things.Count(ctx, store.Eq("made_at", got.Made))
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
	})

	t.Run("memory is not shared", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		def := tb.things.Def()
		require.NoError(t, tb.things.Insert(ctx, full))
		row, err := tb.engine.Get(ctx, def, "a", false)
		require.NoError(t, err)
		require.NoError(t, tb.things.Delete(ctx, "a"))
		at := def.Pos("blob_data")
		given := []byte("before")
		row.Values[at] = given
		require.NoError(t, tb.engine.Insert(ctx, def, []store.Row{row}))
		given[0] = 'X'
		row.Values[def.Pos("owner")] = "X"
		row, err = tb.engine.Get(ctx, def, "a", false)
		require.NoError(t, err)
		require.Equal(t, "before", string(row.Values[at].([]byte)))
		row.Values[at].([]byte)[0] = 'X'
		row.Values[def.Pos("owner")] = "changed"
		rows, err := tb.engine.Select(ctx, def, store.Select{})
		require.NoError(t, err)
		require.Equal(t, "before", string(rows[0].Values[at].([]byte)))
		require.Equal(t, "o", rows[0].Values[def.Pos("owner")])
		blob := []byte("set")
		_, err = tb.engine.Update(ctx, def, store.All(), store.Set{"blob_data": blob})
		require.NoError(t, err)
		blob[0] = 'X'
		got, err := tb.things.Get(ctx, "a")
		require.NoError(t, err)
		require.Equal(t, "set", string(got.Blob))
	})

	t.Run("a row that is not there", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		_, err := tb.things.Get(ctx, "none")
		require.ErrorIs(t, err, store.ErrNoRow)
		require.ErrorIs(t, err, nacre.NotFound)
		_, err = tb.things.Get(ctx, "bad\x00id\xff")
		require.ErrorIs(t, err, store.ErrNoRow)
		_, err = tb.things.Update(ctx, "none", func(*thing) error { return nil })
		require.ErrorIs(t, err, store.ErrNoRow)
		require.ErrorIs(t, tb.things.Delete(ctx, "none"), store.ErrNoRow)
		_, err = tb.things.One(ctx, store.Eq("owner", "none"))
		require.ErrorIs(t, err, store.ErrNoRow)
	})

	t.Run("duplicates name their index", s.duplicates)
	t.Run("update", s.update)
	t.Run("delete", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		require.NoError(t, tb.counters.Insert(ctx, counter{"a", 1}, counter{"b", 2}, counter{"c", 2}))
		n, err := tb.counters.DeleteWhere(ctx, store.Eq("n", 2))
		require.NoError(t, err)
		require.EqualValues(t, 2, n)
		require.NoError(t, tb.counters.Delete(ctx, "a"))
		n, err = tb.counters.Count(ctx)
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, tb.counters.Insert(ctx, counter{"a", 3}))
	})
	t.Run("bad input is refused alike", s.badInput)
	t.Run("many rows", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		var vs []part
		var want []string
		for i := range 3000 {
			id := string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
			vs = append(vs, part{ID: id, Thing: "t", Label: id})
			want = append(want, id)
		}
		require.NoError(t, tb.parts.Insert(ctx, vs...))
		got, err := tb.parts.Where(ctx, store.In("label", want))
		require.NoError(t, err)
		require.Len(t, got, 3000)
		n, err := tb.parts.DeleteWhere(ctx, store.In("id", want[:2999]))
		require.NoError(t, err)
		require.EqualValues(t, 2999, n)
	})
	t.Run("statements are counted", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		ctx, n := store.CountStatements(ctx)
		require.NoError(t, tb.counters.Insert(ctx, counter{"a", 1}, counter{"b", 2}))
		require.EqualValues(t, 1, n.Load())
		_, err := tb.counters.Update(ctx, "a", func(c *counter) error { c.N++; return nil })
		require.NoError(t, err)
		require.EqualValues(t, 3, n.Load())
		_, err = tb.counters.Page(ctx, store.Select{Limit: 1}, "a")
		require.NoError(t, err)
		require.EqualValues(t, 5, n.Load())
	})
}

func (s suite) duplicates(t *testing.T) {
	tb, ctx := s.fresh(t)
	require.NoError(t, tb.things.Insert(ctx,
		thing{ID: "a", Owner: "o", Name: ptr("n"), Hash: []byte{0, 1}}, thing{ID: "b", Owner: "o", Name: ptr("m")}))
	for _, c := range []struct {
		v     thing
		index string
	}{
		{thing{ID: "a", Owner: "x", Name: ptr("x")}, "PRIMARY"},
		{thing{ID: "x", Owner: "o", Name: ptr("n")}, "thing_name"},
		{thing{ID: "x", Owner: "x", Hash: []byte{0, 1}}, "thing_hash"},
	} {
		err := tb.things.Insert(ctx, c.v)
		require.True(t, store.IsDuplicate(err, c.index), "%s: %v", c.index, err)
		require.ErrorIs(t, err, nacre.Conflict)
		require.False(t, store.IsDuplicate(err, "other"))
	}
	err := tb.parts.Insert(ctx, part{ID: "p", Label: "l"}, part{ID: "q", Label: "l"})
	require.True(t, store.IsDuplicate(err, "parts_label"), "%v", err)
	n, err := tb.parts.Count(ctx)
	require.NoError(t, err)
	require.Zero(t, n, "of several rows all are inserted or none")

	// NULLs are distinct, empty text is not.
	require.NoError(t, tb.things.Insert(ctx, thing{ID: "n1", Owner: "n"}, thing{ID: "n2", Owner: "n"}))
	require.NoError(t, tb.things.Insert(ctx, thing{ID: "e1", Owner: "e", Name: ptr("")}))
	require.True(t, store.IsDuplicate(tb.things.Insert(ctx, thing{ID: "e2", Owner: "e", Name: ptr("")}), "thing_name"))

	_, err = tb.things.Update(ctx, "b", func(v *thing) error { v.Name = ptr("n"); return nil })
	require.True(t, store.IsDuplicate(err, "thing_name"), "%v", err)
	_, err = tb.things.UpdateWhere(ctx, store.Eq("owner", "n"), store.Set{"name": ptr("same")})
	require.True(t, store.IsDuplicate(err, "thing_name"), "%v", err)
	n, err = tb.things.Count(ctx, store.Eq("name", "same"))
	require.NoError(t, err)
	require.Zero(t, n, "of several rows all are updated or none")
	// Text is compared by bytes, also when unique.
	require.NoError(t, tb.things.Insert(ctx, thing{ID: "up", Owner: "o", Name: ptr("N")}, thing{ID: "sp", Owner: "o", Name: ptr("n ")}))
}

func (s suite) update(t *testing.T) {
	tb, ctx := s.fresh(t)
	require.NoError(t, tb.things.Insert(ctx, full))
	got, err := tb.things.Update(ctx, "a", func(v *thing) error {
		v.Size, v.Name, v.On, v.Gone, v.Hash = 5, nil, false, time.Time{}, nil
		return nil
	})
	require.NoError(t, err)
	again, err := tb.things.Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, got, again)
	require.EqualValues(t, 5, again.Size)
	require.Nil(t, again.Name)

	def := tb.things.Def()
	before, err := tb.engine.Get(ctx, def, "a", false)
	require.NoError(t, err)
	n, err := tb.engine.Update(ctx, def, store.And(store.Eq("id", "a"), store.Eq(store.RevColumn, before.Rev)), store.Set{"owner": "p"})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	n, err = tb.engine.Update(ctx, def, store.And(store.Eq("id", "a"), store.Eq(store.RevColumn, before.Rev)), store.Set{"owner": "q"})
	require.NoError(t, err)
	require.Zero(t, n, "the revision has moved on")
	after, err := tb.engine.Get(ctx, def, "a", false)
	require.NoError(t, err)
	require.Equal(t, before.Rev+1, after.Rev)

	// Increment adds in the database; NULL stays NULL.
	require.NoError(t, tb.things.Insert(ctx, thing{ID: "b", Owner: "b"}))
	n, err = tb.things.UpdateWhere(ctx, store.All(), store.Set{"size": store.Increment(-2), "cnt": store.Increment(1), "ratio": 2.5})
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	v, err := tb.things.Get(ctx, "a")
	require.NoError(t, err)
	require.EqualValues(t, 3, v.Size)
	require.Equal(t, ptr(-6), v.Count)
	require.Equal(t, 2.5, v.Ratio)
	v, err = tb.things.Get(ctx, "b")
	require.NoError(t, err)
	require.EqualValues(t, -2, v.Size)
	require.Nil(t, v.Count)
	_, err = tb.things.UpdateWhere(ctx, store.Eq("id", "a"), store.Set{"size": store.Increment(math.MaxInt64)})
	require.Error(t, err, "an integer does not overflow into something else")

	// Keys of a JSON object that this program does not know are kept.
	raw := []byte(`{"color":"red","newer":{"x":1},"tags":["t"]}`)
	_, err = tb.engine.Update(ctx, def, store.Eq("id", "a"), store.Set{"meta": raw})
	require.NoError(t, err)
	v, err = tb.things.Update(ctx, "a", func(v *thing) error { v.Meta = meta{Color: "blue"}; return nil })
	require.NoError(t, err)
	require.Equal(t, meta{Color: "blue"}, v.Meta)
	row, err := tb.engine.Get(ctx, def, "a", false)
	require.NoError(t, err)
	require.JSONEq(t, `{"color":"blue","newer":{"x":1}}`, string(row.Values[def.Pos("meta")].([]byte)))

	s.replace(t, tb, ctx)

	_, err = tb.things.Update(ctx, "a", func(v *thing) error { v.ID = "z"; return nil })
	require.Error(t, err)
	boom := nacre.Errorf(nacre.Conflict, "x", "no")
	_, err = tb.things.Update(ctx, "a", func(v *thing) error { v.Size = 99; return boom })
	require.ErrorIs(t, err, boom)
	v, err = tb.things.Get(ctx, "a")
	require.NoError(t, err)
	require.EqualValues(t, 3, v.Size)
}

// replace writes what differs from a row that was read, in the transaction only.
func (s suite) replace(t *testing.T, tb tables, ctx context.Context) {
	old, err := tb.things.Get(ctx, "b")
	require.NoError(t, err)
	v := old
	v.Owner, v.Count, v.Hash = "c", ptr(4), []byte{1}
	require.ErrorIs(t, tb.things.Replace(ctx, &old, &v), store.ErrTx, "not without a transaction")
	in := func(old, v thing) error {
		return store.InTx(ctx, tb.engine, func(ctx context.Context) error { return tb.things.Replace(ctx, &old, &v) })
	}
	require.NoError(t, in(old, v))
	got, err := tb.things.Get(ctx, "b")
	require.NoError(t, err)
	require.Equal(t, v, got)
	row, err := tb.engine.Get(ctx, tb.things.Def(), "b", false)
	require.NoError(t, err)
	require.NoError(t, in(v, v))
	same, err := tb.engine.Get(ctx, tb.things.Def(), "b", false)
	require.NoError(t, err)
	require.Equal(t, row.Rev, same.Rev, "nothing to write")
	moved := v
	moved.ID = "moved"
	require.Error(t, in(v, moved))
	gone, other := v, v
	gone.ID, other.ID, other.Size = "gone", "gone", 9
	err = in(gone, other)
	require.ErrorIs(t, err, nacre.Unavailable, "a row that is gone is a lost race, each time")
	require.ErrorIs(t, err, store.ErrRaced)
}

func (s suite) badInput(t *testing.T) {
	tb, ctx := s.fresh(t)
	for _, text := range []string{"nul\x00", "bad\xff"} {
		require.ErrorIs(t, tb.things.Insert(ctx, thing{ID: "a", Owner: text}), nacre.Invalid)
		_, err := tb.things.Where(ctx, store.Eq("owner", text))
		require.ErrorIs(t, err, nacre.Invalid)
		_, err = tb.things.Where(ctx, store.Contains("owner", text))
		require.ErrorIs(t, err, nacre.Invalid)
		_, err = tb.things.UpdateWhere(ctx, store.All(), store.Set{"owner": text})
		require.ErrorIs(t, err, nacre.Invalid)
	}
	_, err := tb.things.Where(ctx, store.Match("owner", "(["))
	require.ErrorIs(t, err, nacre.Invalid)
	for _, w := range []store.Where{
		store.Eq("nope", 1), store.Eq("size", "text"), store.Eq("owner", 1), store.Prefix("size", "1"),
		store.Eq("meta", "x"), store.Fold(store.Eq("size", 1)), {Op: store.OpNot}, {Op: 200, Column: "id"},
		store.InSelect("size", tb.parts, "id", store.All()), store.InSelect("id", tb.parts, "nope", store.All()),
	} {
		_, err := tb.things.Where(ctx, w)
		require.Error(t, err, "%+v", w)
		_, err = tb.things.DeleteWhere(ctx, w)
		require.Error(t, err, "%+v", w)
	}
	def := tb.things.Def()
	for _, set := range []store.Set{{}, {"id": "x"}, {"nope": "x"}, {"owner": nil}, {"owner": int64(1)}, {"owner": store.Increment(1)}, {store.RevColumn: int64(1)}} {
		_, err := tb.engine.Update(ctx, def, store.All(), set)
		require.Error(t, err, "%v", set)
	}
	require.Error(t, tb.engine.Insert(ctx, def, []store.Row{{Values: []any{"a"}}}))
	_, err = tb.things.Select(ctx, store.Select{After: []any{"a", "b"}})
	require.Error(t, err)
	_, err = tb.things.Select(ctx, store.Select{Order: []store.Order{{Column: "meta"}}})
	require.Error(t, err)
	_, err = tb.things.Aggregate(ctx, store.Aggregate{Sum: []string{"owner"}})
	require.Error(t, err)

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = tb.things.Get(canceled, "a")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, tb.things.Insert(canceled, thing{ID: "a"}), context.Canceled)
	require.ErrorIs(t, store.InTx(canceled, tb.engine, func(context.Context) error { return nil }), context.Canceled)

	n, err := tb.things.Count(ctx)
	require.NoError(t, err)
	require.Zero(t, n)
}
