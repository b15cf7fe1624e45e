package assignment

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClosure(t *testing.T) {
	pairs := []impliedRole{{PriorID: "admin", ImpliedID: "manager"}, {PriorID: "manager", ImpliedID: "member"}, {PriorID: "member", ImpliedID: "reader"}, {PriorID: "auditor", ImpliedID: "reader"}}
	require.Equal(t, []string{"manager", "member", "reader"}, closure(pairs, []string{"manager"}))
	require.Equal(t, []string{"auditor", "member", "reader"}, closure(pairs, []string{"auditor", "member", "auditor"}), "each once, given ones first")
	require.Empty(t, closure(pairs, nil))
	circle := append(pairs, impliedRole{PriorID: "reader", ImpliedID: "admin"})
	require.Len(t, closure(circle, []string{"reader"}), 4, "a circle ends")
}

func TestGrantsAreApart(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range []Grant{
		{UserID: "a", ProjectID: "p", RoleID: "r"}, {GroupID: "a", ProjectID: "p", RoleID: "r"}, {UserID: "a", DomainID: "p", RoleID: "r"},
		{UserID: "a", System: true, RoleID: "r"}, {UserID: "a", ProjectID: "p", RoleID: "r", Inherited: true},
	} {
		id := g.row().ID
		require.False(t, seen[id], id)
		seen[id] = true
	}
}
