package identity_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/store"
)

// A token for another of the same scope rests on what is known of that one: it
// costs one statement, ends with the role, and a chain of them is not believed for
// longer than the first.
func TestTokenForToken(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p := c.user("default"), c.project("default")
		g := assignment.Grant{UserID: u.ID, ProjectID: p.ID}
		c.grant(g, "member")
		again := func(token string) (string, error) {
			text, i, err := c.Authenticate(t.Context(), identity.AuthRequest{Methods: []string{"token"}, Token: token, Project: &identity.NameRef{ID: p.ID}})
			if err == nil {
				require.Equal(t, p.ID, i.Project.ID)
				require.Len(t, i.Roles, 2)
				require.Equal(t, "default", i.Domain.ID)
			}
			return text, err
		}
		first := tokenOf(c.login(on(byPassword(u), p)))
		ctx, n := store.CountStatements(t.Context())
		second, i, err := c.Authenticate(ctx, identity.AuthRequest{Methods: []string{"token"}, Token: first, Project: &identity.NameRef{ID: p.ID}})
		require.NoError(t, err)
		require.LessOrEqual(t, n.Load(), int64(1))
		require.Len(t, i.AuditIDs, 2)
		require.NotEqual(t, first, second)
		require.True(t, c.good(second))

		g.RoleID = c.ids.Roles["member"]
		require.NoError(t, c.Assignments.DeleteGrant(c.admin, g))
		_, err = again(second)
		require.Error(t, err, "the role is gone")

		// Gone behind everybody's back, so that no revocation tells.
		c.grant(g, "member")
		token, err := again(tokenOf(c.login(on(byPassword(u), p))))
		require.NoError(t, err)
		rows := store.NewTable[assignment.Assignment](c.engine, "assignment")
		_, err = rows.DeleteWhere(t.Context(), store.Eq("user_id", u.ID))
		require.NoError(t, err)
		minutes := 0
		for ; err == nil && minutes < 10; minutes++ {
			time.Sleep(time.Minute)
			var next string
			if next, err = again(token); err == nil {
				token = next
			}
		}
		require.Error(t, err)
		require.LessOrEqual(t, minutes, 6)
	})
}

// A token is believed what its project is called, until another process has given the
// name away.
func TestTokenForTokenByName(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p := c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		token := tokenOf(c.login(on(byPassword(u), p)))
		asked := func(ref identity.NameRef) (*identity.TokenInfo, int64, error) {
			ctx, n := store.CountStatements(t.Context())
			_, i, err := c.Authenticate(ctx, identity.AuthRequest{Methods: []string{"token"}, Token: token, Project: &ref})
			return i, n.Load(), err
		}
		for _, domain := range []identity.DomainRef{{ID: "default"}, {Name: "Default"}} {
			i, n, err := asked(identity.NameRef{Name: p.Name, Domain: domain})
			require.NoError(t, err)
			require.Equal(t, p.ID, i.Project.ID)
			require.LessOrEqual(t, n, int64(1))
		}
		for _, ref := range []identity.NameRef{{Name: p.Name, Domain: identity.DomainRef{ID: "other"}}, {Name: p.Name, Domain: identity.DomainRef{Name: "other"}}, named("other")} {
			_, _, err := asked(ref)
			require.ErrorIs(t, err, nacre.Unauthenticated)
		}
		_, _, err := asked(named(p.Name))
		require.NoError(t, err)
		other := c.another()
		_, err = other.UpdateProject(c.admin, p.ID, identity.ProjectChange{Name: ref("renamed")})
		require.NoError(t, err)
		_, _, err = asked(named(p.Name))
		require.ErrorIs(t, err, nacre.Unauthenticated)
		i, _, err := asked(named("renamed"))
		require.NoError(t, err)
		require.Equal(t, "renamed", i.Project.Name)
	})
}
