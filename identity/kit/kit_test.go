package kit_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
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
