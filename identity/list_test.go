package identity_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/store/memstore"
)

func TestListsFilterAndPage(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		for range 5 {
			c.user("default")
		}
		count := func(fs ...nacre.Filter) int {
			t.Helper()
			us, err := c.ListUsers(c.admin, nacre.Query{Filters: fs})
			require.NoError(t, err)
			return len(us)
		}
		require.Equal(t, 6, count())
		require.Equal(t, 5, count(nacre.Filter{Name: "name__contains", Value: "ser"}))
		require.Equal(t, 5, count(nacre.Filter{Name: "name__istartswith", Value: "USER"}))
		require.Equal(t, 0, count(nacre.Filter{Name: "name__startswith", Value: "USER"}))
		require.Equal(t, 1, count(nacre.Filter{Name: "name", Value: "admin"}))
		require.Equal(t, 0, count(nacre.Filter{Name: "enabled", Value: "False"}))
		require.Equal(t, 6, count(nacre.Filter{Name: "password", Value: "x"}), "what can't be filtered by has no effect")
		var seen []string
		marker := ""
		for {
			us, err := c.ListUsers(c.admin, nacre.Query{Limit: 2, Marker: marker, Sort: []nacre.SortKey{{Field: "name", Desc: true}}})
			require.NoError(t, err)
			if len(us) == 0 {
				break
			}
			for _, u := range us {
				seen = append(seen, u.Name)
			}
			marker = us[len(us)-1].ID
		}
		require.Equal(t, []string{"userf", "usere", "userd", "userc", "userb", "admin"}, seen)
		_, err := c.ListUsers(c.admin, nacre.Query{Marker: "not-there"})
		require.ErrorIs(t, err, nacre.NotFound)
	})
}

func TestRulesCompile(t *testing.T) {
	names := map[string]bool{}
	for _, r := range identity.Rules() {
		require.False(t, names[r.Name], r.Name)
		names[r.Name] = true
		require.NotEmpty(t, r.Description, r.Name)
	}
	require.True(t, names["identity:create_user"])
	_, err := identity.New(identity.Config{})
	require.ErrorContains(t, err, "Engine")
}

func BenchmarkValidateToken(b *testing.B) {
	e := memstore.New(memstore.Options{})
	defer e.Close()
	c := newCloud(b, e)
	token := tokenOf(c.admin)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.ValidateToken(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
