package identity_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
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

// TestMarkerThatLeftTheFilters changes the last row of each page so that the filters
// show it no more.
func TestMarkerThatLeftTheFilters(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		var users, projects []string
		for range 5 {
			users, projects = append(users, c.user("default").ID), append(projects, c.project("default").ID)
			require.NoError(t, c.AddProjectTag(c.admin, projects[len(projects)-1], "t"))
		}
		seen := func(filter nacre.Filter, list func(nacre.Query) []string, leave func(id string)) (all []string) {
			t.Helper()
			for marker := ""; ; {
				page := list(nacre.Query{Limit: 2, Marker: marker, Filters: []nacre.Filter{filter, {Name: "name__contains", Value: "e"}}})
				if len(page) == 0 {
					return all
				}
				all, marker = append(all, page...), page[len(page)-1]
				leave(marker)
			}
		}
		require.ElementsMatch(t, users, seen(nacre.Filter{Name: "enabled", Value: "true"}, func(q nacre.Query) (ids []string) {
			us, err := c.ListUsers(c.admin, q)
			require.NoError(t, err)
			for _, u := range us {
				ids = append(ids, u.ID)
			}
			return ids
		}, func(id string) {
			_, err := c.UpdateUser(c.admin, id, identity.UserChange{Enabled: ref(false)})
			require.NoError(t, err)
		}))
		require.ElementsMatch(t, projects, seen(nacre.Filter{Name: "tags", Value: "t"}, func(q nacre.Query) (ids []string) {
			ps, err := c.ListProjects(c.admin, q)
			require.NoError(t, err)
			for _, p := range ps {
				ids = append(ids, p.ID)
			}
			return ids
		}, func(id string) { require.NoError(t, c.DeleteProjectTag(c.admin, id, "t")) }))

		// A user whom the caller may not list is no marker for it.
		d, err := c.CreateDomain(c.admin, identity.ProjectChange{Name: ref("d")})
		require.NoError(t, err)
		manager := c.user(d.ID)
		c.grant(assignment.Grant{UserID: manager.ID, DomainID: d.ID}, "manager")
		own := c.login(on(byPassword(manager), identity.Project{ID: d.ID, IsDomain: true}))
		_, err = c.ListUsers(own, nacre.Query{Marker: manager.ID})
		require.NoError(t, err)
		_, err = c.ListUsers(own, nacre.Query{Marker: users[0]})
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
