package identity_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// cloud is a bootstrapped identity service.
type cloud struct {
	*identity.Service
	t      testing.TB
	engine store.Engine
	keys   *fernet.Keys
	ids    identity.Bootstrapped
	// admin is a context with the administrator's project token.
	admin context.Context
	n     int
}

func newCloud(t testing.TB, e store.Engine) *cloud {
	t.Helper()
	require.NoError(t, e.Migrate(t.Context(), identity.Schema(), true))
	c := &cloud{t: t, engine: e, keys: fernet.Memory()}
	c.Service = c.another()
	var err error
	c.ids, err = c.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret", Services: []identity.BootstrapService{
		{Type: "identity", Name: "keystone", Public: "http://cloud/identity", Internal: "http://cloud/identity"},
		{Type: "object-store", Name: "swift", Public: "http://cloud/v1/AUTH_$(project_id)s"},
	}})
	require.NoError(t, err)
	c.admin = c.login(identity.AuthRequest{Methods: []string{"password"}, User: named("admin"), Password: "secret", Project: ref(named("admin"))})
	return c
}

// another is a second process on the same database and keys.
func (c *cloud) another() *identity.Service { return c.anotherWith(nil) }

// anotherWith is one that is configured otherwise.
func (c *cloud) anotherWith(f func(*identity.Config)) *identity.Service {
	c.t.Helper()
	cfg := identity.Config{Engine: c.engine, Keys: c.keys, CredentialKeys: c.keys, BcryptCost: 4, Log: slog.New(slog.DiscardHandler)}
	if f != nil {
		f(&cfg)
	}
	svc, err := identity.New(cfg)
	require.NoError(c.t, err)
	return svc
}

func ref[T any](v T) *T { return &v }

func named(name string) identity.NameRef {
	return identity.NameRef{Name: name, Domain: identity.DomainRef{Name: "Default"}}
}

// clean asks the audit.
func (c *cloud) clean() {
	c.t.Helper()
	found, err := c.Audit(c.t.Context())
	require.NoError(c.t, err)
	require.Empty(c.t, found)
}

func (c *cloud) login(req identity.AuthRequest) context.Context {
	c.t.Helper()
	token, _, err := c.Authenticate(c.t.Context(), req)
	require.NoError(c.t, err)
	return c.as(token)
}

// as is the context of a token's caller.
func (c *cloud) as(token string) context.Context {
	c.t.Helper()
	caller, err := c.ValidateToken(c.t.Context(), token)
	require.NoError(c.t, err)
	return nacre.WithCaller(c.t.Context(), caller)
}

func tokenOf(ctx context.Context) string { return nacre.CallerFrom(ctx).Token }

// user makes a user with a password, "pw".
func (c *cloud) user(domain string) identity.User {
	c.t.Helper()
	c.n++
	name := "user" + string(rune('a'+c.n))
	u, err := c.CreateUser(c.admin, identity.UserChange{Name: &name, DomainID: &domain, Password: ref("pw")})
	require.NoError(c.t, err)
	return u
}

func (c *cloud) project(domain string) identity.Project {
	c.t.Helper()
	c.n++
	name := "project" + string(rune('a'+c.n))
	p, err := c.CreateProject(c.admin, identity.ProjectChange{Name: &name, DomainID: &domain})
	require.NoError(c.t, err)
	return p
}

func (c *cloud) grant(g assignment.Grant, role string) {
	c.t.Helper()
	g.RoleID = c.ids.Roles[role]
	require.NoError(c.t, c.Assignments.CreateGrant(c.admin, g))
}

func byPassword(u identity.User) identity.AuthRequest {
	return identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{ID: u.ID}, Password: "pw"}
}

func on(req identity.AuthRequest, p identity.Project) identity.AuthRequest {
	if p.IsDomain {
		req.Domain = &identity.DomainRef{ID: p.ID}
	} else {
		req.Project = &identity.NameRef{ID: p.ID}
	}
	return req
}

func (c *cloud) good(token string) bool {
	c.t.Helper()
	_, err := c.ValidateToken(c.t.Context(), token)
	if err != nil {
		require.ErrorIs(c.t, err, nacre.Unauthenticated)
	}
	return err == nil
}

func TestBootstrapAgainChangesNothing(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		again, err := c.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret"})
		require.NoError(t, err)
		require.Equal(t, c.ids, again)
		require.True(t, c.good(tokenOf(c.admin)), "the same password ends no token")
		_, err = c.Bootstrap(t.Context(), identity.Bootstrap{Password: "another"})
		require.NoError(t, err)
		require.False(t, c.good(tokenOf(c.admin)))
	})
}

func TestCaller(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		got := nacre.CallerFrom(c.admin)
		require.Equal(t, c.ids.UserID, got.UserID)
		require.Len(t, got.UserID, 32)
		require.Equal(t, "admin", got.UserName)
		require.Equal(t, "Default", got.UserDomainName)
		require.Equal(t, c.ids.ProjectID, got.ProjectID)
		require.Equal(t, "default", got.ProjectDomainID)
		require.Equal(t, []string{"admin", "manager", "member", "reader"}, got.Roles)
		require.WithinDuration(t, time.Now().Add(time.Hour), got.ExpiresAt, 5*time.Second)
	})
}

func TestScopes(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p := c.user("default"), c.project("default")
		unscoped := nacre.CallerFrom(c.login(byPassword(u)))
		require.Empty(t, unscoped.ProjectID+unscoped.DomainID+unscoped.System)
		require.Empty(t, unscoped.Roles)

		fails := func(req identity.AuthRequest) {
			t.Helper()
			_, _, err := c.Authenticate(t.Context(), req)
			require.ErrorIs(t, err, nacre.Unauthenticated)
			var ne *nacre.Error
			require.ErrorAs(t, err, &ne)
			require.Equal(t, "The request you have made requires authentication.", ne.Message)
		}
		fails(on(byPassword(u), p))
		system := byPassword(u)
		system.System = true
		fails(system)
		fails(on(byPassword(u), identity.Project{ID: "default", IsDomain: true}))
		wrong := byPassword(u)
		wrong.Password = "no"
		fails(wrong)
		nobody := byPassword(u)
		nobody.User.ID = "nobody"
		fails(nobody)
		nowhere := byPassword(u)
		nowhere.Project = ref(named("nowhere"))
		fails(nowhere)

		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		c.grant(assignment.Grant{UserID: u.ID, DomainID: "default"}, "reader")
		c.grant(assignment.Grant{UserID: u.ID, System: true}, "reader")
		got := nacre.CallerFrom(c.login(on(byPassword(u), p)))
		require.Equal(t, []string{"member", "reader"}, got.Roles)
		require.Equal(t, p.ID, got.ProjectID)
		require.Equal(t, "default", nacre.CallerFrom(c.login(on(byPassword(u), identity.Project{ID: "default", IsDomain: true}))).DomainID)
		require.Equal(t, "all", nacre.CallerFrom(c.login(system)).System)

		_, err := c.UpdateUser(c.admin, u.ID, identity.UserChange{DefaultProjectID: &p.ID})
		require.NoError(t, err)
		require.Equal(t, p.ID, nacre.CallerFrom(c.login(byPassword(u))).ProjectID, "the default project")
		plain := byPassword(u)
		plain.Unscoped = true
		require.Empty(t, nacre.CallerFrom(c.login(plain)).ProjectID)
	})
}

func TestInheritance(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, top := c.user("default"), c.project("default")
		name := "below"
		below, err := c.CreateProject(c.admin, identity.ProjectChange{Name: &name, ParentID: &top.ID})
		require.NoError(t, err)
		require.Equal(t, top.DomainID, below.DomainID)
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: top.ID, Inherited: true}, "member")
		c.login(on(byPassword(u), below))
		_, _, err = c.Authenticate(t.Context(), on(byPassword(u), top))
		require.ErrorIs(t, err, nacre.Unauthenticated, "an inherited role does not hold on its target")
		c.grant(assignment.Grant{UserID: u.ID, DomainID: "default", Inherited: true}, "reader")
		require.Equal(t, []string{"reader"}, nacre.CallerFrom(c.login(on(byPassword(u), top))).Roles)

		ps, err := c.AuthProjects(c.login(byPassword(u)), nacre.Query{})
		require.NoError(t, err)
		require.Len(t, ps, 3, "admin's project is in the domain too")
		views, err := c.Assignments.List(c.admin, assignment.Query{UserID: u.ID, Effective: true, ProjectID: below.ID})
		require.NoError(t, err)
		var roles []string
		for _, v := range views {
			roles = append(roles, v.RoleID)
			require.Equal(t, below.ID, v.ProjectID)
		}
		require.Subset(t, roles, []string{c.ids.Roles["member"], c.ids.Roles["reader"]})
	})
}

func TestTokenMethod(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p := c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		first := nacre.CallerFrom(c.login(byPassword(u)))
		again := on(identity.AuthRequest{Methods: []string{"token"}, Token: first.Token}, p)
		second := nacre.CallerFrom(c.login(again))
		require.Equal(t, p.ID, second.ProjectID)
		require.Equal(t, first.ExpiresAt, second.ExpiresAt, "a token from a token lives no longer")
		require.ElementsMatch(t, []string{"token", "password"}, second.Methods)
		require.Len(t, second.AuditIDs, 2)
		require.Equal(t, first.AuditIDs[0], second.AuditIDs[1])

		require.NoError(t, c.RevokeToken(c.as(first.Token), first.Token))
		require.False(t, c.good(first.Token))
		require.True(t, c.good(second.Token))
		_, _, err := c.Authenticate(t.Context(), again)
		require.ErrorIs(t, err, nacre.Unauthenticated)
	})
}

// TestRevocation does each thing that ends tokens, and looks in the process that
// did it and in another.
func TestRevocation(t *testing.T) {
	for _, r := range []struct {
		name string
		do   func(c *cloud, u identity.User, p identity.Project, token string) error
		// back undoes it: tokens stay ended.
		back func(c *cloud, u identity.User, p identity.Project) error
	}{
		{"delete token", func(c *cloud, _ identity.User, _ identity.Project, token string) error {
			return c.RevokeToken(c.admin, token)
		}, nil},
		{"change password", func(c *cloud, u identity.User, _ identity.Project, _ string) error {
			return c.ChangePassword(c.t.Context(), u.ID, "pw", "pw2")
		}, nil},
		{"reset password", func(c *cloud, u identity.User, _ identity.Project, _ string) error {
			_, err := c.UpdateUser(c.admin, u.ID, identity.UserChange{Password: ref("pw2")})
			return err
		}, nil},
		{"disable user", func(c *cloud, u identity.User, _ identity.Project, _ string) error {
			_, err := c.UpdateUser(c.admin, u.ID, identity.UserChange{Enabled: ref(false)})
			return err
		}, func(c *cloud, u identity.User, _ identity.Project) error {
			_, err := c.UpdateUser(c.admin, u.ID, identity.UserChange{Enabled: ref(true)})
			return err
		}},
		{"delete user", func(c *cloud, u identity.User, _ identity.Project, _ string) error {
			return c.DeleteUser(c.admin, u.ID)
		}, nil},
		{"disable project", func(c *cloud, _ identity.User, p identity.Project, _ string) error {
			_, err := c.UpdateProject(c.admin, p.ID, identity.ProjectChange{Enabled: ref(false)})
			return err
		}, func(c *cloud, _ identity.User, p identity.Project) error {
			_, err := c.UpdateProject(c.admin, p.ID, identity.ProjectChange{Enabled: ref(true)})
			return err
		}},
		{"delete project", func(c *cloud, _ identity.User, p identity.Project, _ string) error {
			return c.DeleteProject(c.admin, p.ID)
		}, nil},
		{"disable domain", func(c *cloud, u identity.User, _ identity.Project, _ string) error {
			_, err := c.UpdateDomain(c.admin, u.DomainID, identity.ProjectChange{Enabled: ref(false)})
			return err
		}, func(c *cloud, u identity.User, _ identity.Project) error {
			_, err := c.UpdateDomain(c.admin, u.DomainID, identity.ProjectChange{Enabled: ref(true)})
			return err
		}},
		{"take the role away", func(c *cloud, u identity.User, p identity.Project, _ string) error {
			return c.Assignments.DeleteGrant(c.admin, assignment.Grant{UserID: u.ID, ProjectID: p.ID, RoleID: c.ids.Roles["member"]})
		}, nil},
	} {
		t.Run(r.name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, c *cloud) {
				d, err := c.CreateDomain(c.admin, identity.ProjectChange{Name: ref("d")})
				require.NoError(t, err)
				u, p := c.user(d.ID), c.project(d.ID)
				c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
				token := tokenOf(c.login(on(byPassword(u), p)))
				other := c.another()
				_, err = other.ValidateToken(t.Context(), token)
				require.NoError(t, err)

				require.NoError(t, r.do(c, u, p, token))
				require.False(t, c.good(token))
				time.Sleep(2 * time.Second)
				_, err = other.ValidateToken(t.Context(), token)
				require.ErrorIs(t, err, nacre.Unauthenticated)
				if r.back != nil {
					require.NoError(t, r.back(c, u, p))
					require.False(t, c.good(token), "what ended stays so")
					require.True(t, c.good(tokenOf(c.login(on(byPassword(u), p)))), "a new one is good, in the same second too")
				}
			})
		})
	}
}

func TestRolesFollowGroups(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p := c.user("default"), c.project("default")
		g, err := c.CreateGroup(c.admin, identity.GroupChange{Name: ref("g")})
		require.NoError(t, err)
		c.grant(assignment.Grant{GroupID: g.ID, ProjectID: p.ID}, "reader")
		require.NoError(t, c.AddToGroup(c.admin, u.ID, g.ID))
		require.NoError(t, c.AddToGroup(c.admin, u.ID, g.ID), "twice is as once")
		token := tokenOf(c.login(on(byPassword(u), p)))
		c.grant(assignment.Grant{GroupID: g.ID, ProjectID: p.ID}, "member")
		require.Equal(t, []string{"member", "reader"}, nacre.CallerFrom(c.as(token)).Roles)
		require.NoError(t, c.RemoveFromGroup(c.admin, u.ID, g.ID))
		require.False(t, c.good(token))
		require.ErrorIs(t, c.InGroup(c.admin, u.ID, g.ID), nacre.NotFound)
	})
}

func TestWarmValidationCostsNoStatement(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		token := tokenOf(c.admin)
		require.True(t, c.good(token))
		ctx, n := store.CountStatements(t.Context())
		for range 100 {
			_, err := c.ValidateToken(ctx, token)
			require.NoError(t, err)
		}
		require.LessOrEqual(t, n.Load(), int64(1), "the revocations may have been read once")
	})
}

// flaky is an engine that fails when told to.
type flaky struct {
	store.Engine
	down atomic.Bool
}

func (f *flaky) Unwrap() store.Engine { return f.Engine }

func (f *flaky) Select(ctx context.Context, t *store.TableDef, q store.Select) ([]store.Row, error) {
	if f.down.Load() {
		return nil, errors.New("the database is gone")
	}
	return f.Engine.Select(ctx, t, q)
}

func TestBlindFailsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &flaky{Engine: memstore.New(memstore.Options{})}
		defer e.Close()
		c := newCloud(t, e)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		token := tokenOf(c.admin)
		time.Sleep(30 * time.Second)
		require.True(t, c.good(token))
		e.down.Store(true)
		time.Sleep(5 * time.Second)
		require.True(t, c.good(token), "a short outage is not felt")
		time.Sleep(7 * time.Second)
		_, err := c.ValidateToken(t.Context(), token)
		require.ErrorIs(t, err, nacre.Unavailable)
		e.down.Store(false)
		time.Sleep(2 * time.Second)
		require.True(t, c.good(token))
		time.Sleep(time.Hour)
		require.False(t, c.good(token), "it expired")
		cancel()
		require.NoError(t, <-done)
	})
}

func TestPolicy(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		d, err := c.CreateDomain(c.admin, identity.ProjectChange{Name: ref("d")})
		require.NoError(t, err)
		u, p, foreign := c.user(d.ID), c.project(d.ID), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		member := c.login(on(byPassword(u), p))
		_, err = c.GetProject(member, p.ID)
		require.NoError(t, err)
		for _, other := range []string{foreign.ID, "not-there"} {
			_, err = c.GetProject(member, other)
			require.ErrorIs(t, err, nacre.Forbidden, "what is there can't be told from what is not")
			require.EqualError(t, err, "You are not authorized to perform the requested action: identity:get_project.")
		}
		_, err = c.GetUser(member, u.ID)
		require.NoError(t, err)
		_, err = c.ListUsers(member, nacre.Query{})
		require.ErrorIs(t, err, nacre.Forbidden)
		_, err = c.ListUsers(t.Context(), nacre.Query{})
		require.ErrorIs(t, err, nacre.Unauthenticated)
		_, err = c.ListUsers(nacre.AsService(t.Context(), "compute"), nacre.Query{})
		require.NoError(t, err)

		// A domain's manager manages that domain alone, and can't make admins.
		c.grant(assignment.Grant{UserID: u.ID, DomainID: d.ID}, "manager")
		manager := c.login(on(byPassword(u), d))
		mine, err := c.CreateUser(manager, identity.UserChange{Name: ref("mine")})
		require.NoError(t, err)
		require.Equal(t, d.ID, mine.DomainID)
		_, err = c.CreateUser(manager, identity.UserChange{Name: ref("theirs"), DomainID: ref("default")})
		require.ErrorIs(t, err, nacre.Forbidden)
		require.NoError(t, c.Assignments.CreateGrant(manager, assignment.Grant{UserID: mine.ID, ProjectID: p.ID, RoleID: c.ids.Roles["member"]}))
		require.ErrorIs(t, c.Assignments.CreateGrant(manager, assignment.Grant{UserID: mine.ID, ProjectID: p.ID, RoleID: c.ids.Roles["admin"]}), nacre.Forbidden)
		require.ErrorIs(t, c.Assignments.CreateGrant(manager, assignment.Grant{UserID: mine.ID, ProjectID: foreign.ID, RoleID: c.ids.Roles["member"]}), nacre.Forbidden)
		us, err := c.ListUsers(manager, nacre.Query{})
		require.NoError(t, err)
		require.Len(t, us, 2, "a domain's caller sees its users only")
	})
}

func TestConflictsAndLimits(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p := c.user("default"), c.project("default")
		_, err := c.CreateUser(c.admin, identity.UserChange{Name: &u.Name})
		require.EqualError(t, err, "Conflict occurred attempting to store user - Duplicate entry found with name "+u.Name+" at domain ID default.")
		_, err = c.CreateProject(c.admin, identity.ProjectChange{Name: &p.Name})
		require.ErrorIs(t, err, nacre.Conflict)
		_, err = c.Assignments.CreateRole(c.admin, assignment.RoleChange{Name: ref("admin")})
		require.EqualError(t, err, "Conflict occurred attempting to store role - Duplicate entry found with name admin.")
		require.ErrorIs(t, c.Assignments.DeleteRole(c.admin, c.ids.Roles["admin"]), nacre.Forbidden, "it is immutable")
		for _, name := range []string{"", " ", strings.Repeat("x", 256)} {
			_, err = c.CreateUser(c.admin, identity.UserChange{Name: &name})
			require.ErrorIs(t, err, nacre.Invalid)
		}
		parent := p.ID
		for i := range 5 {
			name := "deep" + string(rune('0'+i))
			child, err := c.CreateProject(c.admin, identity.ProjectChange{Name: &name, ParentID: &parent})
			if i == 3 {
				require.ErrorIs(t, err, nacre.Forbidden, "the tree is as deep as it may be")
				break
			}
			require.NoError(t, err)
			parent = child.ID
		}
		require.ErrorIs(t, c.DeleteProject(c.admin, p.ID), nacre.Forbidden, "it has children")
		require.ErrorIs(t, c.DeleteDomain(c.admin, "default"), nacre.Forbidden, "it is enabled")
	})
}

func TestDeletedDomainLeavesNothing(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		d, err := c.CreateDomain(c.admin, identity.ProjectChange{Name: ref("d")})
		require.NoError(t, err)
		u, p := c.user(d.ID), c.project(d.ID)
		g, err := c.CreateGroup(c.admin, identity.GroupChange{Name: ref("g"), DomainID: &d.ID})
		require.NoError(t, err)
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		c.grant(assignment.Grant{GroupID: g.ID, DomainID: d.ID}, "member")
		c.grant(assignment.Grant{UserID: c.ids.UserID, ProjectID: p.ID}, "member")
		_, err = c.UpdateDomain(c.admin, d.ID, identity.ProjectChange{Enabled: ref(false)})
		require.NoError(t, err)
		require.NoError(t, c.DeleteDomain(c.admin, d.ID))
		all, err := c.Assignments.List(c.admin, assignment.Query{})
		require.NoError(t, err)
		require.Len(t, all, 2, "the administrator's own")
		_, err = c.GetUser(c.admin, u.ID)
		require.ErrorIs(t, err, nacre.NotFound)
		_, err = c.GetProject(c.admin, p.ID)
		require.ErrorIs(t, err, nacre.NotFound)
	})
}

func TestCatalogFollowsItsTables(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		cat, err := c.Catalog.Own(c.admin)
		require.NoError(t, err)
		require.Len(t, cat, 2)
		urls := map[string]string{}
		for _, s := range cat {
			for _, e := range s.Endpoints {
				urls[s.Type+" "+e.Interface] = e.URL
			}
		}
		require.Equal(t, map[string]string{"identity public": "http://cloud/identity", "identity internal": "http://cloud/identity",
			"object-store public": "http://cloud/v1/AUTH_" + c.ids.ProjectID}, urls)
		_, err = c.Catalog.UpdateService(c.admin, cat[0].ID, catalog.ServiceChange{Enabled: ref(false)})
		require.NoError(t, err)
		cat, err = c.Catalog.Own(c.admin)
		require.NoError(t, err)
		require.Len(t, cat, 1)
		_, err = c.Catalog.CreateEndpoint(c.admin, catalog.EndpointChange{ServiceID: &cat[0].ID, Interface: ref("public"), URL: ref("no url")})
		require.ErrorIs(t, err, nacre.Invalid)
		require.ErrorIs(t, c.Catalog.DeleteRegion(c.admin, "RegionOne"), nacre.Forbidden, "it has endpoints")
	})
}

func TestAppCredential(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p := c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		ctx := c.login(on(byPassword(u), p))
		a, err := c.AppCredentials.Create(ctx, u.ID, appcred.Wanted{Name: "robot", Roles: []appcred.Role{{Name: "reader"}}})
		require.NoError(t, err)
		login := identity.AuthRequest{Methods: []string{"application_credential"}, AppCredID: a.ID, AppCredSecret: a.Secret}
		robot := c.login(login)
		require.Equal(t, []string{"reader"}, nacre.CallerFrom(robot).Roles)
		require.Equal(t, p.ID, nacre.CallerFrom(robot).ProjectID)
		_, err = c.AppCredentials.Create(robot, u.ID, appcred.Wanted{Name: "another"})
		require.ErrorIs(t, err, nacre.Forbidden, "it is restricted")
		_, _, err = c.Authenticate(t.Context(), on(identity.AuthRequest{Methods: []string{"token"}, Token: tokenOf(robot)}, p))
		require.ErrorIs(t, err, nacre.Forbidden, "it can't be rescoped")
		_, again, err := c.Authenticate(t.Context(), identity.AuthRequest{Methods: []string{"token"}, Token: tokenOf(robot)})
		require.NoError(t, err)
		require.NotNil(t, again.AppCred, "a token from its token is within its bounds")
		require.Equal(t, a.ID, again.AppCredID)
		require.Equal(t, []string{"reader"}, again.Caller().Roles)
		require.Equal(t, nacre.CallerFrom(robot).ExpiresAt, again.ExpiresAt)
		wrong := login
		wrong.AppCredSecret = "no"
		_, _, err = c.Authenticate(t.Context(), wrong)
		require.ErrorIs(t, err, nacre.Unauthenticated)
		_, err = c.AppCredentials.Create(ctx, u.ID, appcred.Wanted{Name: "root", Roles: []appcred.Role{{Name: "admin"}}})
		require.ErrorIs(t, err, nacre.Invalid)
		_, err = c.AppCredentials.Create(ctx, c.ids.UserID, appcred.Wanted{Name: "theirs"})
		require.ErrorIs(t, err, nacre.Forbidden)
		other := c.user("default")
		c.grant(assignment.Grant{UserID: other.ID, ProjectID: p.ID}, "member")
		_, err = c.AppCredentials.Get(c.login(on(byPassword(other), p)), other.ID, a.ID)
		require.ErrorIs(t, err, nacre.Forbidden, "whose it is decides, not the path")
		require.NoError(t, c.AppCredentials.Delete(ctx, u.ID, a.ID))
		require.False(t, c.good(tokenOf(robot)))
	})
}
