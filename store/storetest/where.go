package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store"
)

func (s suite) where(t *testing.T) {
	tb, ctx := s.fresh(t)
	day := func(d int) time.Time { return time.Date(2026, 1, d, 0, 0, 0, 0, time.UTC) }
	require.NoError(t, tb.things.Insert(ctx,
		thing{ID: "1", Owner: "ann", Name: ptr("Web-1"), Kind: "x", Size: 10, Ratio: 0.5, On: true, Made: day(1), Hash: []byte{1}},
		thing{ID: "2", Owner: "ann", Name: ptr("web_2%"), Kind: "y", Size: 20, Ratio: 1.5, Made: day(2), Gone: day(9)},
		thing{ID: "3", Owner: "bob", Name: nil, Kind: "", Size: -5, Ratio: -1, Made: day(3)},
		thing{ID: "4", Owner: "Bob", Name: ptr("ÄB"), Kind: "x", Size: 20, On: true, Made: day(4), Count: ptr(0)},
		thing{ID: "5", Owner: "", Name: ptr("äb"), Kind: "", Size: 0, Made: time.Time{}, Count: ptr(3)},
	))
	require.NoError(t, tb.parts.Insert(ctx,
		part{ID: "p1", Thing: "1", Label: "a"}, part{ID: "p2", Thing: "2", Label: "b"},
		part{ID: "p3", Thing: "1", Label: "c"}, part{ID: "p4", Thing: "", Label: "d"},
	))
	and, or, not := store.And, store.Or, store.Not
	for i, c := range []struct {
		w    store.Where
		want string
	}{
		{store.All(), "12345"},
		{and(), "12345"},
		{or(), ""},
		{not(store.All()), ""},
		{not(or()), "12345"},
		{store.Eq("id", "3"), "3"},
		{store.Eq("owner", "bob"), "3"},
		{store.Fold(store.Eq("owner", "BOB")), "34"},
		{store.Eq("owner", ""), "5"},
		{store.Eq("active", true), "14"},
		{store.Eq("ratio", 1.5), "2"},
		{store.Eq("hash", []byte{1}), "1"},
		{store.Eq("made_at", day(2)), "2"},
		{store.Eq("made_at", time.Time{}), "5"},
		{store.Ne("kind", "x"), "235"},
		{store.Ne("kind", nil), "124"},
		{store.Eq("kind", nil), "35"},
		{store.In("id", []string{"1", "5", "5", "9"}), "15"},
		{store.In("size", []int{20, 0}), "245"},
		{store.In("id", []string{}), ""},
		{not(store.In("kind", []string{})), "12345"},
		{store.In("kind", []*string{ptr("y"), nil}), "2"},
		{not(store.In("kind", []*string{ptr("y"), nil})), ""},
		{store.Fold(store.In("owner", []string{"BOB", "x"})), "34"},
		{store.In("hash", [][]byte{{1}, {2}}), "1"},
		{store.Less("size", 10), "35"},
		{store.LessEq("size", 10), "135"},
		{store.Greater("size", 10), "24"},
		{store.GreaterEq("size", 10), "124"},
		{store.Greater("owner", "Bob"), "123"},
		{store.Less("owner", "a"), "45"},
		{store.Fold(store.Less("owner", "BOC")), "12345"},
		{store.Less("gone_at", day(10)), "2"},
		{not(store.Less("gone_at", day(1))), "2"},
		{store.Greater("active", false), "14"},
		{store.Prefix("name", "web"), "2"},
		{store.Fold(store.Prefix("name", "WEB")), "12"},
		{store.Prefix("name", "web_2%"), "2"},
		{store.Prefix("name", "web%"), ""},
		{store.Prefix("name", ""), "1245"},
		{store.Prefix("name", "Ä"), "4"},
		{store.Suffix("name", "b"), "5"},
		{store.Fold(store.Suffix("name", "b")), "45"},
		{store.Fold(store.Prefix("name", "ä")), "5"},
		{store.Suffix("name", "longer than any of the names"), ""},
		{store.Suffix("name", ""), "1245"},
		{store.Contains("name", "_"), "2"},
		{store.Contains("name", "eb"), "12"},
		{store.Fold(store.Contains("name", "EB-")), "1"},
		{store.Contains("name", ""), "1245"},
		{not(store.Contains("name", "eb")), "45"},
		{store.Match("name", "^[wW]eb"), "12"},
		{store.Fold(store.Match("name", "^web.[0-9]$")), "1"},
		{store.Match("name", `\d`), "12"},
		{not(store.Match("name", "^[wW]eb")), "45"},
		{not(store.Match("name", "never")), "1245"},
		{or(store.Match("name", "1$"), store.IsNull("name")), "13"},
		{and(store.Match("name", "^.{2}$"), store.Eq("active", true)), "4"},
		{store.IsNull("name"), "3"},
		{not(store.IsNull("name")), "1245"},
		{and(store.Eq("kind", "x"), store.Eq("size", 20)), "4"},
		{and(store.IsNull("kind"), store.Greater("size", -1)), "5"},
		{or(store.Eq("kind", "x"), store.Eq("size", 20)), "124"},
		{or(store.Eq("id", "1"), store.In("id", []string{"1", "2"})), "12"},
		{not(and(store.Eq("kind", "x"), store.Eq("size", 20))), "1235"},
		{not(store.Eq("kind", "x")), "2"},
		{not(not(store.Eq("kind", "x"))), "14"},
		{and(not(store.Eq("kind", "y")), not(store.Eq("owner", "ann"))), "4"},
		{store.Where{Op: store.OpEq, Column: "kind"}, ""},
		{not(store.Where{Op: store.OpEq, Column: "kind"}), ""},
		{store.InSelect("id", tb.parts, "thing_id", store.All()), "12"},
		{store.InSelect("id", tb.parts, "thing_id", store.Eq("label", "c")), "1"},
		{not(store.InSelect("id", tb.parts, "thing_id", store.Eq("label", "c"))), "2345"},
		{not(store.InSelect("id", tb.parts, "thing_id", store.All())), ""},
		{not(store.InSelect("kind", tb.parts, "label", store.Eq("label", "none"))), "12345"},
		{store.InSelect("id", tb.parts, "thing_id", store.InSelect("thing_id", tb.things, "id", store.Eq("size", 20))), "2"},
		{store.InSelect("id", tb.parts, "thing_id", store.Match("label", "[bc]")), "12"},
		{and(store.InSelect("id", tb.parts, "thing_id", store.All()), store.Eq("active", true)), "1"},
		{store.Eq("cnt", 0), "4"},
		{store.Eq(store.RevColumn, int64(1)), "12345"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			got, err := tb.things.Where(ctx, c.w)
			require.NoError(t, err, "%+v", c.w)
			all := ""
			for _, v := range got {
				all += v.ID
			}
			require.Equal(t, c.want, all, "%+v", c.w)
			n, err := tb.things.Count(ctx, c.w)
			require.NoError(t, err)
			require.EqualValues(t, len(c.want), n)
			for limit := 1; limit < 3; limit++ {
				got, err = tb.things.Select(ctx, store.Select{Where: c.w, Limit: limit})
				require.NoError(t, err)
				require.Len(t, got, min(limit, len(c.want)))
			}
		})
	}
	n, err := tb.things.UpdateWhere(ctx, store.InSelect("id", tb.parts, "thing_id", store.Match("label", "a|b")), store.Set{"size": int64(77)})
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	n, err = tb.parts.DeleteWhere(ctx, store.InSelect("thing_id", tb.things, "id", store.Eq("size", 77)))
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	n, err = tb.things.DeleteWhere(ctx, store.Match("name", "b$"))
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

func (s suite) order(t *testing.T) {
	tb, ctx := s.fresh(t)
	texts := []string{"", "A", "a", "aa", "b", "ä", "日", "😀", "\uffff", "Z", "~", "_", "a b", "ab"}
	var vs []thing
	for i := range 60 {
		v := thing{ID: fmt.Sprintf("%02d", (i*37)%60), Owner: "o" + texts[i%len(texts)], Name: ptr(fmt.Sprint(i))}
		if i%4 != 0 {
			v.Kind = texts[i%len(texts)]
			v.Count = ptr(i % 3)
		}
		v.Size, v.On, v.Ratio = int64(i%5)-2, i%2 == 0, float64(i%7)/2-1
		if i%3 == 0 {
			v.Gone = time.Unix(int64(i%6)-3, 0)
		}
		vs = append(vs, v)
	}
	require.NoError(t, tb.things.Insert(ctx, vs...))

	got, err := tb.things.Select(ctx, store.Select{Order: []store.Order{{Column: "owner"}}})
	require.NoError(t, err)
	for i := 1; i < len(got); i++ {
		require.LessOrEqual(t, got[i-1].Owner, got[i].Owner, "text sorts by bytes")
		if got[i-1].Owner == got[i].Owner {
			require.Less(t, got[i-1].ID, got[i].ID, "the id is the last sort key")
		}
	}
	got, err = tb.things.Select(ctx, store.Select{Order: []store.Order{{Column: "cnt", Desc: true}}})
	require.NoError(t, err)
	require.Equal(t, ptr(2), got[0].Count)
	require.Nil(t, got[59].Count, "NULL sorts lowest")
	require.Less(t, got[0].ID, got[1].ID, "the id ascends whatever the direction")
	got, err = tb.things.Select(ctx, store.Select{Order: []store.Order{{Column: "cnt"}}, Limit: 1})
	require.NoError(t, err)
	require.Nil(t, got[0].Count)

	for _, order := range [][]store.Order{
		nil,
		{{Column: "id", Desc: true}},
		{{Column: "kind"}},
		{{Column: "kind", Desc: true}},
		{{Column: "cnt"}, {Column: "owner", Desc: true}},
		{{Column: "cnt", Desc: true}, {Column: "kind"}, {Column: "size", Desc: true}},
		{{Column: "active", Desc: true}, {Column: "ratio"}},
		{{Column: "gone_at", Desc: true}},
		{{Column: "gone_at"}, {Column: "id", Desc: true}},
	} {
		for _, w := range []store.Where{store.All(), store.Eq("active", true), store.Ne("kind", "a"), store.In("size", []int{-2, 1})} {
			whole, err := tb.things.Select(ctx, store.Select{Where: w, Order: order})
			require.NoError(t, err)
			var paged []thing
			marker := ""
			for {
				page, err := tb.things.Page(ctx, store.Select{Where: w, Order: order, Limit: 7}, marker)
				require.NoError(t, err)
				if len(page) == 0 {
					break
				}
				paged = append(paged, page...)
				marker = page[len(page)-1].ID
				require.LessOrEqual(t, len(paged), len(whole), "%v", order)
			}
			require.Equal(t, thingIDs(whole), thingIDs(paged), "%v", order)
		}
	}
	_, err = tb.things.Page(ctx, store.Select{Where: store.Eq("size", 1)}, "none")
	require.ErrorIs(t, err, store.ErrNoRow)

	// A marker that matches the filter no more, but may be seen.
	active, other := store.Eq("active", true), store.Eq("active", false)
	gone, err := tb.things.Select(ctx, store.Select{Where: other, Limit: 1})
	require.NoError(t, err)
	q := store.Select{Where: active, Limit: 100}
	_, err = tb.things.Page(ctx, q, gone[0].ID)
	require.ErrorIs(t, err, store.ErrNoRow)
	_, err = tb.things.Page(ctx, q, gone[0].ID, active)
	require.ErrorIs(t, err, store.ErrNoRow)
	page, err := tb.things.Page(ctx, q, gone[0].ID, store.All())
	require.NoError(t, err)
	want, err := tb.things.Select(ctx, store.Select{Where: store.And(active, store.Greater("id", gone[0].ID))})
	require.NoError(t, err)
	require.Equal(t, thingIDs(want), thingIDs(page))
}

func (s suite) aggregate(t *testing.T) {
	tb, ctx := s.fresh(t)
	gs, err := tb.things.Aggregate(ctx, store.Aggregate{Sum: []string{"size"}, Max: "size"})
	require.NoError(t, err)
	require.Equal(t, []store.Group{{Count: 0, Sums: []int64{0}}}, gs, "one group without By, even of nothing")
	gs, err = tb.things.Aggregate(ctx, store.Aggregate{By: []string{"owner"}})
	require.NoError(t, err)
	require.Empty(t, gs)

	require.NoError(t, tb.things.Insert(ctx,
		thing{ID: "1", Owner: "b", Name: ptr("1"), Kind: "x", Size: 1, Count: ptr(5), On: true},
		thing{ID: "2", Owner: "b", Name: ptr("2"), Kind: "", Size: 2},
		thing{ID: "3", Owner: "a", Name: ptr("3"), Kind: "x", Size: -3, Count: ptr(1), Gone: time.Unix(9, 0)},
		thing{ID: "4", Owner: "a", Name: nil, Kind: "", Size: 40},
	))
	gs, err = tb.things.Aggregate(ctx, store.Aggregate{By: []string{"owner"}, Sum: []string{"size", "cnt"}, Max: "name"})
	require.NoError(t, err)
	require.Equal(t, []store.Group{
		{Key: []any{"a"}, Count: 2, Sums: []int64{37, 1}, Max: "3"},
		{Key: []any{"b"}, Count: 2, Sums: []int64{3, 5}, Max: "2"},
	}, gs)
	gs, err = tb.things.Aggregate(ctx, store.Aggregate{By: []string{"kind", "active"}, Max: "gone_at", Where: store.Less("size", 10)})
	require.NoError(t, err)
	require.Equal(t, []store.Group{
		{Key: []any{nil, false}, Count: 1, Sums: []int64{}},
		{Key: []any{"x", false}, Count: 1, Sums: []int64{}, Max: int64(9_000_000)},
		{Key: []any{"x", true}, Count: 1, Sums: []int64{}},
	}, gs)
	gs, err = tb.things.Aggregate(ctx, store.Aggregate{Sum: []string{"size"}, Max: "ratio", Where: store.Match("name", "[12]")})
	require.NoError(t, err)
	require.Equal(t, []store.Group{{Count: 2, Sums: []int64{3}, Max: float64(0)}}, gs)
}
