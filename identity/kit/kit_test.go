package kit_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

func TestJoinedTellsListsApart(t *testing.T) {
	seen := map[string]bool{}
	for _, ids := range [][]string{{"a/b"}, {"a", "b"}, {"a%2Fb"}, {"a", "", "b"}, {"", "a", "b"}} {
		text := kit.Joined(ids...)
		require.False(t, seen[text], text)
		seen[text] = true
	}
}

func TestRefIsNullWhereItIsMissing(t *testing.T) {
	b, err := json.Marshal(map[string]kit.Ref{"a": "", "b": "x"})
	require.NoError(t, err)
	require.JSONEq(t, `{"a":null,"b":"x"}`, string(b))
}

func TestOptions(t *testing.T) {
	require.NoError(t, kit.CheckOptions(kit.Options{"immutable": true}, "immutable"))
	require.NoError(t, kit.CheckOptions(kit.Options{"immutable": nil}, "immutable"), "a null takes it away")
	require.ErrorIs(t, kit.CheckOptions(kit.Options{"immutable": "yes"}, "immutable"), nacre.Invalid)
	require.ErrorIs(t, kit.CheckOptions(kit.Options{"other": true}, "immutable"), nacre.Invalid)
	require.Equal(t, kit.Options{"b": false}, kit.MergeOptions(kit.Options{"a": true}, kit.Options{"a": nil, "b": false}))
	require.Equal(t, map[string]any{"a": nil, "b": 1}, kit.Merge(map[string]any{"a": 1}, map[string]any{"a": nil, "b": 1}), "of further attributes a null stays")
}

func TestWords(t *testing.T) {
	require.NoError(t, kit.OrNotFound(nil, "user", "u"))
	require.EqualError(t, kit.OrNotFound(store.ErrNoRow, "user", "u"), "Could not find user: u.")
	require.ErrorIs(t, kit.Gone(store.ErrNoRow, "gone"), nacre.Unauthenticated)
	e := (*nacre.Error)(nil)
	require.ErrorAs(t, kit.Gone(store.ErrNoRow, "the project is gone"), &e)
	require.NotContains(t, e.Message, "project", "why is for the log")
}

// thing is a row of a list.
type thing struct {
	ID      string `store:"id,pk"`
	Owner   string `store:"owner"`
	Name    string `store:"name"`
	Enabled bool   `store:"enabled"`
}

// TestMarkerThatLeft pages on from a row that the filters show no more, and never
// from one that the caller may not see.
func TestMarkerThatLeft(t *testing.T) {
	e := memstore.New(memstore.Options{})
	defer func() { require.NoError(t, e.Close()) }()
	things := store.NewTable[thing](e, "thing")
	require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "kit", Tables: []*store.TableDef{things.Def()}}, true))
	for _, id := range []string{"a", "b", "c", "d"} {
		require.NoError(t, things.Insert(t.Context(), thing{ID: id, Owner: "me", Name: "n" + id, Enabled: true}))
	}
	require.NoError(t, things.Insert(t.Context(), thing{ID: "x", Owner: "you", Name: "nx", Enabled: true}))
	cols := kit.Columns{"id", "name", "enabled"}
	page := func(marker string, filters []store.Where, query ...nacre.Filter) []string {
		t.Helper()
		q := nacre.Query{Limit: 2, Marker: marker, Filters: query, Sort: []nacre.SortKey{{Field: "name"}}}
		got, err := kit.ListFiltered(t.Context(), things, q, cols, filters, store.Eq("owner", "me"))
		require.NoError(t, err)
		var ids []string
		for _, v := range got {
			ids = append(ids, v.ID)
		}
		return ids
	}
	enabled, named := nacre.Filter{Name: "enabled", Value: "true"}, nacre.Filter{Name: "name__startswith", Value: "n"}
	special := []store.Where{store.Prefix("name", "n")}
	require.Equal(t, []string{"a", "b"}, page("", special, enabled))
	_, err := things.Update(t.Context(), "b", func(v *thing) error { v.Enabled = false; return nil })
	require.NoError(t, err)
	require.Equal(t, []string{"c", "d"}, page("b", special, enabled), "a query's filter")
	require.Equal(t, []string{"c", "d"}, page("b", special, enabled, named))
	_, err = things.Update(t.Context(), "b", func(v *thing) error { v.Name = "b"; return nil })
	require.NoError(t, err)
	require.Equal(t, []string{"a", "c"}, page("b", special), "an area's own filter")

	for _, marker := range []string{"x", "nowhere"} {
		_, err = kit.List(t.Context(), things, nacre.Query{Marker: marker}, cols, store.Eq("owner", "me"))
		require.ErrorIs(t, err, nacre.NotFound)
	}
}
