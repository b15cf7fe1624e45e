package conformance

import (
	"context"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/catalog"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/stretchr/testify/require"
)

func identity(t *testing.T, s *suite) {
	t.Run("Catalog", s.catalog)
	t.Run("Tokens", s.tokens)
	t.Run("ProjectsUsersRoles", s.projectsUsersRoles)
	t.Run("Groups", s.groups)
	t.Run("Errors", s.identityErrors)
}

func (s *suite) catalog(t *testing.T) {
	pages, err := catalog.List(s.user.identity).AllPages(t.Context())
	require.NoError(t, err)
	entries, err := catalog.ExtractServiceCatalog(pages)
	require.NoError(t, err)
	types := map[string][]string{}
	for _, e := range entries {
		for _, ep := range e.Endpoints {
			types[e.Type] = append(types[e.Type], ep.Interface)
		}
	}
	for _, typ := range []string{"identity", "image", "compute", "network"} {
		require.Contains(t, types[typ], "public", "the catalog lacks %s", typ)
	}
}

// login authenticates with other options over the same transport.
func (s *suite) login(ctx context.Context, auth gophercloud.AuthOptions) (*gophercloud.ProviderClient, error) {
	p, err := openstack.NewClient(s.UserAuth.IdentityEndpoint)
	if err != nil {
		return nil, err
	}
	p.HTTPClient = s.User.HTTPClient
	auth.IdentityEndpoint = s.UserAuth.IdentityEndpoint
	return p, openstack.Authenticate(ctx, p, auth)
}

func (s *suite) tokens(t *testing.T) {
	ctx := t.Context()
	mine := s.User.Token()
	info := tokens.Get(ctx, s.user.identity, mine)
	require.NoError(t, info.Err)
	project, err := info.ExtractProject()
	require.NoError(t, err)
	require.Equal(t, s.user.project, project.ID)
	rs, err := info.ExtractRoles()
	require.NoError(t, err)
	require.NotEmpty(t, rs)
	ok, err := tokens.Validate(ctx, s.admin.identity, mine)
	require.NoError(t, err)
	require.True(t, ok)

	p, err := s.login(ctx, s.UserAuth)
	require.NoError(t, err)
	other := p.Token()
	require.NoError(t, tokens.Revoke(ctx, s.admin.identity, other).Err)
	s.eventually(t, "a revoked token is refused", func() (bool, string) {
		ok, err := tokens.Validate(ctx, s.admin.identity, other)
		return err == nil && !ok, "still valid"
	})
	bad := tokens.Get(ctx, s.admin.identity, "no-token-at-all")
	status(t, 404, bad.Err, "a bad subject token")

	wrong := s.UserAuth
	wrong.Password += "x"
	_, err = s.login(ctx, wrong)
	status(t, 401, err, "a wrong password")
	nobody := s.UserAuth
	nobody.Username = name("nobody")
	_, err = s.login(ctx, nobody)
	status(t, 401, err, "an unknown user")
	elsewhere := s.UserAuth
	elsewhere.TenantName = name("nowhere")
	_, err = s.login(ctx, elsewhere)
	status(t, 401, err, "an unknown project")
}

func (s *suite) projectsUsersRoles(t *testing.T) {
	ctx, c := t.Context(), s.admin.identity
	p, err := projects.Create(ctx, c, projects.CreateOpts{Name: name("project"), DomainID: "default", Description: "one", Tags: []string{"a", "b"}}).Extract()
	require.NoError(t, err)
	after(t, "project", func(ctx context.Context) error { return projects.Delete(ctx, c, p.ID).ExtractErr() })
	require.Len(t, p.ID, 32)
	require.True(t, p.Enabled)
	p2, err := projects.Update(ctx, c, p.ID, projects.UpdateOpts{Description: ptr("two")}).Extract()
	require.NoError(t, err)
	require.Equal(t, "two", p2.Description)
	pages, err := projects.List(c, projects.ListOpts{Name: p.Name}).AllPages(ctx)
	require.NoError(t, err)
	ps, err := projects.ExtractProjects(pages)
	require.NoError(t, err)
	require.Len(t, ps, 1)
	_, err = projects.Create(ctx, c, projects.CreateOpts{Name: p.Name, DomainID: "default"}).Extract()
	status(t, 409, err, "a project name twice")

	u, err := users.Create(ctx, c, users.CreateOpts{Name: name("user"), DomainID: "default", Password: "first-password", DefaultProjectID: p.ID, Extra: map[string]any{"email": "x@example.org"}}).Extract()
	require.NoError(t, err)
	after(t, "user", func(ctx context.Context) error { return users.Delete(ctx, c, u.ID).ExtractErr() })
	require.Equal(t, "x@example.org", u.Extra["email"])
	auth := gophercloud.AuthOptions{UserID: u.ID, Password: "first-password", TenantID: p.ID}
	_, err = s.login(ctx, auth)
	status(t, 401, err, "a project without a role")

	rpages, err := roles.List(c, roles.ListOpts{Name: "member"}).AllPages(ctx)
	require.NoError(t, err)
	rs, err := roles.ExtractRoles(rpages)
	require.NoError(t, err)
	require.Len(t, rs, 1)
	require.NoError(t, roles.Assign(ctx, c, rs[0].ID, roles.AssignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr())
	client, err := s.login(ctx, auth)
	require.NoError(t, err)
	require.NotEmpty(t, client.Token())
	apages, err := roles.ListAssignments(c, roles.ListAssignmentsOpts{UserID: u.ID, ScopeProjectID: p.ID}).AllPages(ctx)
	require.NoError(t, err)
	as, err := roles.ExtractRoleAssignments(apages)
	require.NoError(t, err)
	require.Len(t, as, 1)

	require.NoError(t, roles.Unassign(ctx, c, rs[0].ID, roles.UnassignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr())
	_, err = s.login(ctx, auth)
	status(t, 401, err, "a role taken away")
	s.eventually(t, "tokens of a role taken away end", func() (bool, string) {
		ok, err := tokens.Validate(ctx, c, client.Token())
		return err == nil && !ok, "still valid"
	})
	_, err = users.Update(ctx, c, u.ID, users.UpdateOpts{Enabled: ptr(false)}).Extract()
	require.NoError(t, err)
	_, err = s.login(ctx, gophercloud.AuthOptions{UserID: u.ID, Password: "first-password"})
	status(t, 401, err, "a disabled user")
}

func (s *suite) groups(t *testing.T) {
	ctx, c := t.Context(), s.admin.identity
	g, err := groups.Create(ctx, c, groups.CreateOpts{Name: name("group"), DomainID: "default"}).Extract()
	require.NoError(t, err)
	after(t, "group", func(ctx context.Context) error { return groups.Delete(ctx, c, g.ID).ExtractErr() })
	require.NoError(t, users.AddToGroup(ctx, c, g.ID, s.user.id).ExtractErr())
	in, err := users.IsMemberOfGroup(ctx, c, g.ID, s.user.id).Extract()
	require.NoError(t, err)
	require.True(t, in)
	require.NoError(t, users.RemoveFromGroup(ctx, c, g.ID, s.user.id).ExtractErr())
	in, err = users.IsMemberOfGroup(ctx, c, g.ID, s.user.id).Extract()
	require.NoError(t, err)
	require.False(t, in)
}

func (s *suite) identityErrors(t *testing.T) {
	ctx := t.Context()
	_, err := users.Get(ctx, s.admin.identity, "0123456789abcdef0123456789abcdef").Extract()
	status(t, 404, err, "a user that is not there")
	_, err = projects.Create(ctx, s.user.identity, projects.CreateOpts{Name: name("project")}).Extract()
	status(t, 403, err, "a project made by a member")
	_, err = projects.Get(ctx, s.user.identity, s.admin.project).Extract()
	status(t, 403, err, "another project")
}
