package identity_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/store"
)

// directory is one in memory.
type directory struct {
	users     map[string]identity.DirectoryUser
	passwords map[string]string
	groups    map[string]identity.DirectoryGroup
	members   map[string][]string
	down      bool
}

func (d *directory) err(ctx context.Context) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	if d.down {
		return nacre.Errorf(nacre.Unavailable, "down", "The directory is down.")
	}
	return nil
}

func (d *directory) User(ctx context.Context, id string) (identity.DirectoryUser, error) {
	u, ok := d.users[id]
	if !ok {
		return u, nacre.NotFound
	}
	return u, d.err(ctx)
}

func (d *directory) UserByName(ctx context.Context, name string) (identity.DirectoryUser, error) {
	for _, u := range d.users {
		if u.Name == name {
			return u, d.err(ctx)
		}
	}
	return identity.DirectoryUser{}, nacre.NotFound
}

func (d *directory) Users(ctx context.Context) ([]identity.DirectoryUser, error) {
	var out []identity.DirectoryUser
	for _, u := range d.users {
		out = append(out, u)
	}
	return out, d.err(ctx)
}

func (d *directory) Authenticate(ctx context.Context, id, password string) (bool, error) {
	return d.passwords[id] == password, d.err(ctx)
}

func (d *directory) Group(ctx context.Context, id string) (identity.DirectoryGroup, error) {
	g, ok := d.groups[id]
	if !ok {
		return g, nacre.NotFound
	}
	return g, d.err(ctx)
}

func (d *directory) Groups(ctx context.Context) ([]identity.DirectoryGroup, error) {
	var out []identity.DirectoryGroup
	for _, g := range d.groups {
		out = append(out, g)
	}
	return out, d.err(ctx)
}

func (d *directory) GroupsOf(ctx context.Context, user string) ([]identity.DirectoryGroup, error) {
	var out []identity.DirectoryGroup
	for id, ms := range d.members {
		for _, m := range ms {
			if m == user {
				out = append(out, d.groups[id])
			}
		}
	}
	return out, d.err(ctx)
}

func (d *directory) Members(ctx context.Context, id string) ([]identity.DirectoryUser, error) {
	var out []identity.DirectoryUser
	for _, m := range d.members[id] {
		out = append(out, d.users[m])
	}
	return out, d.err(ctx)
}

func newDirectory() *directory {
	return &directory{
		users:     map[string]identity.DirectoryUser{"a": {ID: "a", Name: "alice", Email: "alice@example.com", Enabled: true}, "b": {ID: "b", Name: "bob", Enabled: false}},
		passwords: map[string]string{"a": "pw", "b": "pw"},
		groups:    map[string]identity.DirectoryGroup{"g": {ID: "g", Name: "dev"}, "h": {ID: "h", Name: "ops"}},
		members:   map[string][]string{"g": {"a", "b"}},
	}
}

func query(name, value string) nacre.Query {
	return nacre.Query{Filters: []nacre.Filter{{Name: name, Value: value}}}
}

func TestDirectory(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		domain, err := c.CreateDomain(c.admin, identity.ProjectChange{Name: ref("corp")})
		require.NoError(t, err)
		dir := newDirectory()
		c.Service = c.anotherWith(func(cfg *identity.Config) { cfg.Directories = map[string]identity.Directory{domain.ID: dir} })

		us, err := c.ListUsers(c.admin, query("domain_id", domain.ID))
		require.NoError(t, err)
		require.Len(t, us, 2)
		us, err = c.ListUsers(c.admin, nacre.Query{Filters: []nacre.Filter{{Name: "domain_id", Value: domain.ID}, {Name: "name", Value: "alice"}}})
		require.NoError(t, err)
		require.Len(t, us, 1)
		alice := us[0]
		require.Equal(t, "alice@example.com", alice.Extra["email"])
		require.Len(t, alice.ID, 64, "sha256, as Keystone's")
		gs, err := c.ListGroups(c.admin, query("domain_id", domain.ID))
		require.NoError(t, err)
		require.Len(t, gs, 2)
		dev := gs[0]
		if dev.Name != "dev" {
			dev = gs[1]
		}
		ms, err := c.ListMembers(c.admin, dev.ID, nacre.Query{})
		require.NoError(t, err)
		require.Len(t, ms, 2)
		require.NoError(t, c.InGroup(c.admin, alice.ID, dev.ID))

		project, err := c.CreateProject(c.admin, identity.ProjectChange{Name: ref("p"), DomainID: ref(domain.ID)})
		require.NoError(t, err)
		require.NoError(t, c.Assignments.CreateGrant(c.admin, assignment.Grant{GroupID: dev.ID, ProjectID: project.ID, RoleID: c.ids.Roles["member"]}))
		who := func(name, pw string) identity.AuthRequest {
			return identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{Name: name, Domain: identity.DomainRef{ID: domain.ID}}, Password: pw,
				Project: &identity.NameRef{ID: project.ID}}
		}
		token, info, err := c.Authenticate(t.Context(), who("alice", "pw"))
		require.NoError(t, err)
		require.Equal(t, alice.ID, info.User.ID)
		byID := who("", "pw")
		byID.User = identity.NameRef{ID: alice.ID}
		_, _, err = c.Authenticate(t.Context(), byID)
		require.NoError(t, err)
		for name, req := range map[string]identity.AuthRequest{"wrong": who("alice", "no"), "empty": who("alice", ""), "disabled": who("bob", "pw"), "unknown": who("eve", "pw")} {
			_, _, err = c.Authenticate(t.Context(), req)
			require.ErrorIs(t, err, nacre.Unauthenticated, name)
		}

		// What a directory keeps is not changed here.
		for _, err := range []error{
			func() error {
				_, err := c.UpdateUser(c.admin, alice.ID, identity.UserChange{Name: ref("x")})
				return err
			}(),
			c.DeleteUser(c.admin, alice.ID), c.DeleteGroup(c.admin, dev.ID), c.AddToGroup(c.admin, alice.ID, dev.ID), c.RemoveFromGroup(c.admin, alice.ID, dev.ID),
			c.ChangePassword(t.Context(), alice.ID, "pw", "new"),
			func() error {
				_, err := c.CreateUser(c.admin, identity.UserChange{Name: ref("x"), DomainID: ref(domain.ID)})
				return err
			}(),
			func() error {
				_, err := c.CreateGroup(c.admin, identity.GroupChange{Name: ref("x"), DomainID: ref(domain.ID)})
				return err
			}(),
		} {
			require.ErrorIs(t, err, nacre.Forbidden)
		}

		// A token lives as long as what it rests on.
		dir.members["g"] = []string{"b"}
		_, _, err = c.Authenticate(t.Context(), who("alice", "pw"))
		require.ErrorIs(t, err, nacre.Unauthenticated)
		_, err = c.ValidateToken(t.Context(), token)
		require.ErrorIs(t, err, nacre.Unauthenticated)
		dir.members["g"] = []string{"a"}
		token, _, err = c.Authenticate(t.Context(), who("alice", "pw"))
		require.NoError(t, err)
		delete(dir.users, "a")
		time.Sleep(6 * time.Minute)
		_, err = c.ValidateToken(t.Context(), token)
		require.ErrorIs(t, err, nacre.Unauthenticated)
		c.admin = c.login(identity.AuthRequest{Methods: []string{"password"}, User: named("admin"), Password: "secret", Project: ref(named("admin"))})
		_, err = c.GetUser(c.admin, alice.ID)
		require.ErrorIs(t, err, nacre.NotFound)
		us, err = c.ListUsers(c.admin, query("domain_id", domain.ID))
		require.NoError(t, err)
		require.Len(t, us, 1)

		// Names change places.
		dir.groups["g"], dir.groups["h"] = identity.DirectoryGroup{ID: "g", Name: "ops"}, identity.DirectoryGroup{ID: "h", Name: "dev"}
		gs, err = c.ListGroups(c.admin, query("domain_id", domain.ID))
		require.NoError(t, err)
		require.Len(t, gs, 2)
		for _, g := range gs {
			if g.ID == dev.ID {
				require.Equal(t, "ops", g.Name)
			}
		}

		dir.down = true
		_, err = c.ListUsers(c.admin, query("domain_id", domain.ID))
		require.ErrorIs(t, err, nacre.Unavailable)
		_, _, err = c.Authenticate(t.Context(), who("bob", "pw"))
		require.ErrorIs(t, err, nacre.Unavailable)
		_, _, err = c.Authenticate(t.Context(), identity.AuthRequest{Methods: []string{"password"}, User: named("admin"), Password: "secret"})
		require.NoError(t, err, "others go on")
	})
}

// TestDirectoryFromDomainConfig opens a domain's directory by its own
// configuration, and follows its changes.
func TestDirectoryFromDomainConfig(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		domain, err := c.CreateDomain(c.admin, identity.ProjectChange{Name: ref("corp")})
		require.NoError(t, err)
		dir := newDirectory()
		var opened []domainconfig.Options
		c.Service = c.anotherWith(func(cfg *identity.Config) {
			cfg.OpenDirectory = func(_ context.Context, d domainconfig.Options) (identity.Directory, error) {
				if d["ldap"]["url"] == "ldap://bad" {
					return nil, errors.New("url: that one is bad")
				}
				opened = append(opened, d)
				return dir, nil
			}
		})
		_, err = c.CreateUser(c.admin, identity.UserChange{Name: ref("local"), DomainID: ref(domain.ID)})
		require.NoError(t, err)
		_, _, err = c.DomainConfigs.Put(c.admin, domain.ID, domainconfig.Options{"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://x", "user": "cn=x,%(password)s", "password": "secret"}})
		require.NoError(t, err)
		time.Sleep(6 * time.Second)
		for range 3 {
			us, err := c.ListUsers(c.admin, query("domain_id", domain.ID))
			require.NoError(t, err)
			require.Len(t, us, 2)
		}
		require.Len(t, opened, 2, "when it was set, and when it was used")
		require.Equal(t, "cn=x,secret", opened[1]["ldap"]["user"])
		_, err = c.DomainConfigs.Update(c.admin, domain.ID, "ldap", "url", domainconfig.Options{"ldap": {"url": "ldap://bad"}})
		require.ErrorIs(t, err, nacre.Forbidden)
		require.ErrorContains(t, err, "that one is bad")
		kept, err := c.DomainConfigs.Get(c.admin, domain.ID, "ldap", "url")
		require.NoError(t, err)
		require.Equal(t, "ldap://x", kept["ldap"]["url"])
		require.NoError(t, c.DomainConfigs.Delete(c.admin, domain.ID, "", ""))
		time.Sleep(6 * time.Second)
		us, err := c.ListUsers(c.admin, nacre.Query{Filters: []nacre.Filter{{Name: "domain_id", Value: domain.ID}, {Name: "name", Value: "local"}}})
		require.NoError(t, err)
		require.Len(t, us, 1)
	})
}

// TestDirectoryFromFile has a file's configuration go before what the API sets, for
// a domain that is made later.
func TestDirectoryFromFile(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		dir := newDirectory()
		open := func(_ context.Context, d domainconfig.Options) (identity.Directory, error) {
			if d["ldap"]["url"] != "ldap://file" {
				return nil, errors.New("url: another")
			}
			return dir, nil
		}
		c.Service = c.anotherWith(func(cfg *identity.Config) {
			cfg.OpenDirectory, cfg.DomainConfigs = open, map[string]domainconfig.Options{"corp": {"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://file"}}}
		})
		for name, want := range map[string]int{"corp": 2, "other": 0} {
			domain, err := c.CreateDomain(c.admin, identity.ProjectChange{Name: ref(name)})
			require.NoError(t, err)
			_, _, err = c.DomainConfigs.Put(c.admin, domain.ID, domainconfig.Options{"identity": {"driver": "sql"}})
			require.NoError(t, err)
			us, err := c.ListUsers(c.admin, query("domain_id", domain.ID))
			require.NoError(t, err)
			require.Len(t, us, want)
		}
		_, err := identity.New(identity.Config{Engine: c.engine, OpenDirectory: open, DomainConfigs: map[string]domainconfig.Options{"corp": {"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://x"}}}})
		require.ErrorContains(t, err, "corp: url: another")
	})
}
