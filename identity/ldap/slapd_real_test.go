//go:build realtest

package ldap

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/store/memstore"
)

const suffix, rootPW = "dc=example,dc=com", "root secret"

func add(t *testing.T, c *goldap.Conn, dn string, attrs map[string][]string) {
	req := goldap.NewAddRequest(dn, nil)
	for k, v := range attrs {
		req.Attribute(k, v)
	}
	require.NoError(t, c.Add(req), dn)
}

// fill makes alice (enabled), bob (not), 25 others, and groups dev and ops.
func fill(t *testing.T, c *goldap.Conn) {
	add(t, c, suffix, map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"example"}, "o": {"Example"}})
	for _, ou := range []string{"Users", "UserGroups"} {
		add(t, c, "ou="+ou+","+suffix, map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {ou}})
	}
	person := func(cn, name, enabled string) {
		add(t, c, "cn="+cn+",ou=Users,"+suffix, map[string][]string{"objectClass": {"inetOrgPerson", "nacreUser"}, "cn": {cn}, "sn": {name}, "mail": {name + "@example.com"},
			"userPassword": {"pw of " + name}, "enabled": {enabled}, "title": {"the " + name}})
	}
	person("a1", "alice", "TRUE")
	person("b1", "bob", "FALSE")
	for i := range 25 {
		person(fmt.Sprintf("u%02d", i), fmt.Sprintf("user%02d", i), "TRUE")
	}
	group := func(cn, name string, members ...string) {
		var dns []string
		for _, m := range members {
			dns = append(dns, "cn="+m+",ou=Users,"+suffix)
		}
		add(t, c, "cn="+cn+",ou=UserGroups,"+suffix, map[string][]string{"objectClass": {"groupOfNames"}, "cn": {cn}, "ou": {name}, "member": dns, "businessCategory": {"teams"}})
	}
	group("g1", "dev", "a1", "u00")
	group("g2", "ops", "b1")
	add(t, c, "cn=enabled_users,ou=Users,"+suffix, map[string][]string{"objectClass": {"groupOfNames"}, "cn": {"enabled_users"}, "member": {"cn=b1,ou=Users," + suffix}})
	add(t, c, "cn=alias,ou=UserGroups,"+suffix, map[string][]string{"objectClass": {"alias", "extensibleObject"}, "cn": {"alias"}, "aliasedObjectName": {"cn=g1,ou=UserGroups," + suffix}})
}

func TestSlapd(t *testing.T) {
	s := realserver.OpenLDAP(t)
	fill(t, s.Root(t))
	for name, cfg := range map[string]Config{
		"plain":    {URL: s.URL, PageSize: 5},
		"ldaps":    {URL: s.LDAPS, PageSize: 100, TLS: &tls.Config{RootCAs: s.Pool, MinVersion: tls.VersionTLS12}},
		"starttls": {URL: s.URL, StartTLS: true, PageSize: 7, TLS: &tls.Config{RootCAs: s.Pool, MinVersion: tls.VersionTLS12}},
		"second":   {URL: "ldap://127.0.0.1:1," + s.URL, PageSize: 5, Scope: "sub"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Suffix, cfg.User, cfg.Password = suffix, "cn=root,"+suffix, rootPW
			d, err := New(cfg)
			require.NoError(t, err)
			defer d.Close() //nolint:errcheck // of nothing
			check(t, d)
		})
	}
	t.Run("options", func(t *testing.T) { checkOptions(t, s) })
	t.Run("a certificate that nobody trusts", func(t *testing.T) {
		d, err := New(Config{URL: s.LDAPS, Suffix: suffix})
		require.NoError(t, err)
		_, err = d.Users(t.Context())
		require.ErrorIs(t, err, nacre.Unavailable)
	})
	t.Run("a wrong password of ours", func(t *testing.T) {
		d, err := New(Config{URL: s.URL, Suffix: suffix, User: "cn=root," + suffix, Password: "wrong"})
		require.NoError(t, err)
		_, err = d.Users(t.Context())
		require.ErrorIs(t, err, nacre.Unavailable)
	})
	t.Run("through identity", func(t *testing.T) { throughIdentity(t, s) })
}

func check(t *testing.T, d *Driver) {
	ctx := t.Context()
	us, err := d.Users(ctx)
	require.NoError(t, err)
	require.Len(t, us, 27)
	alice, err := d.UserByName(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, identity.DirectoryUser{ID: "a1", Name: "alice", Email: "alice@example.com", Enabled: true}, alice)
	bob, err := d.User(ctx, "b1")
	require.NoError(t, err)
	require.False(t, bob.Enabled)
	for _, name := range []string{"eve", "*", "alice)(sn=*", "\x00", ""} {
		_, err = d.UserByName(ctx, name)
		require.ErrorIs(t, err, nacre.NotFound, name)
	}
	for _, tc := range []struct {
		id, pw string
		want   bool
	}{{"a1", "pw of alice", true}, {"a1", "no", false}, {"a1", "", false}, {"nobody", "pw of alice", false}, {"*", "pw of alice", false}} {
		ok, err := d.Authenticate(ctx, tc.id, tc.pw)
		require.NoError(t, err)
		require.Equal(t, tc.want, ok, tc)
	}
	gs, err := d.Groups(ctx)
	require.NoError(t, err)
	require.Len(t, gs, 2)
	gs, err = d.GroupsOf(ctx, "a1")
	require.NoError(t, err)
	require.Equal(t, []identity.DirectoryGroup{{ID: "g1", Name: "dev"}}, gs)
	g, err := d.Group(ctx, "g2")
	require.NoError(t, err)
	require.Equal(t, "ops", g.Name)
	_, err = d.Group(ctx, "g3")
	require.ErrorIs(t, err, nacre.NotFound)
	ms, err := d.Members(ctx, "g1")
	require.NoError(t, err)
	require.Len(t, ms, 2)
}

// checkOptions opens domains' configurations whose options have an effect.
func checkOptions(t *testing.T, s *realserver.Slapd) {
	ctx := t.Context()
	certs := t.TempDir()
	pem, err := os.ReadFile(s.CertFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(certs, "slapd.pem"), pem, 0o600))
	open := func(more map[string]any) *Driver {
		c := map[string]any{"url": s.LDAPS, "tls_cacertdir": certs, "suffix": suffix, "user": s.RootDN, "password": rootPW, "page_size": 100}
		for k, v := range more {
			c[k] = v
		}
		dir, err := Open(ctx, domainconfig.Options{"ldap": c})
		require.NoError(t, err)
		d := dir.(*Driver)
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	d := open(map[string]any{"user_additional_attribute_mapping": []any{"title:rank"}, "group_additional_attribute_mapping": "businessCategory:kind", "use_pool": false, "use_auth_pool": false})
	alice, err := d.User(ctx, "a1")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"rank": "the alice"}, alice.Extra)
	g, err := d.Group(ctx, "g1")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"kind": "teams"}, g.Extra)
	ok, err := d.Authenticate(ctx, "a1", "pw of alice")
	require.NoError(t, err)
	require.True(t, ok)
	require.Empty(t, d.search.idle, "no pool")
	require.Empty(t, d.auth.idle, "no pool")

	d = open(map[string]any{"user_enabled_emulation": true})
	for id, want := range map[string]bool{"a1": false, "b1": true} {
		u, err := d.User(ctx, id)
		require.NoError(t, err)
		require.Equal(t, want, u.Enabled, id)
	}
	d = open(map[string]any{"user_enabled_emulation": true, "user_enabled_emulation_use_group_config": true, "group_member_attribute": "owner"})
	b, err := d.User(ctx, "b1")
	require.NoError(t, err)
	require.False(t, b.Enabled, "that group has no owners")

	for how, want := range map[string]int{"never": 0, "searching": 1, "always": 1} {
		d = open(map[string]any{"alias_dereferencing": how})
		es, err := d.find(ctx, "ou=UserGroups,"+suffix, goldap.ScopeSingleLevel, "(cn=g1)", []string{"cn"})
		require.NoError(t, err)
		require.Len(t, es, 1, how)
		es, err = d.find(ctx, "cn=alias,ou=UserGroups,"+suffix, goldap.ScopeBaseObject, "(businessCategory=teams)", []string{"cn"})
		require.NoError(t, err)
		if how == "always" {
			require.Len(t, es, want, how)
		} else {
			require.Empty(t, es, how)
		}
	}

	d = open(map[string]any{"pool_connection_lifetime": 1, "auth_pool_size": 1})
	for _, pw := range []string{"pw of alice", "wrong", "pw of alice"} {
		ok, err := d.Authenticate(ctx, "a1", pw)
		require.NoError(t, err)
		require.Equal(t, pw != "wrong", ok)
	}
	require.Len(t, d.auth.idle, 1, "used again")
	first := (<-d.search.idle).Conn
	d.search.idle <- pooled{first, time.Now().Add(-time.Second)}
	_, err = d.User(ctx, "a1")
	require.NoError(t, err)
	require.True(t, first.IsClosing(), "too old")
}

// throughIdentity logs in by a domain's configuration, and again once the server
// is gone.
func throughIdentity(t *testing.T, s *realserver.Slapd) {
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), identity.Schema(), true))
	svc, err := identity.New(identity.Config{Engine: e, BcryptCost: 4, OpenDirectory: Open})
	require.NoError(t, err)
	ids, err := svc.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret"})
	require.NoError(t, err)
	ctx := nacre.WithCaller(t.Context(), &nacre.Caller{UserID: ids.UserID, Roles: []string{"admin"}, System: "all"})
	name := "corp"
	domain, err := svc.CreateDomain(ctx, identity.ProjectChange{Name: &name})
	require.NoError(t, err)
	_, _, err = svc.DomainConfigs.Put(ctx, domain.ID, domainconfig.Options{"identity": {"driver": "ldap"},
		"ldap": {"url": s.URL, "suffix": suffix, "user": "cn=root," + suffix, "password": rootPW, "page_size": 5}})
	require.NoError(t, err)
	login := func(ctx context.Context, user, pw string) error {
		_, info, err := svc.Authenticate(ctx, identity.AuthRequest{Methods: []string{"password"}, Password: pw,
			User: identity.NameRef{Name: user, Domain: identity.DomainRef{Name: "corp"}}})
		if err == nil {
			require.Equal(t, user, info.User.Name)
		}
		return err
	}
	require.NoError(t, login(t.Context(), "alice", "pw of alice"))
	require.ErrorIs(t, login(t.Context(), "alice", "wrong"), nacre.Unauthenticated)
	require.ErrorIs(t, login(t.Context(), "bob", "pw of bob"), nacre.Unauthenticated, "his enabled is FALSE")
	us, err := svc.ListUsers(ctx, nacre.Query{Filters: []nacre.Filter{{Name: "domain_id", Value: domain.ID}}})
	require.NoError(t, err)
	require.Len(t, us, 27)
	s.Stop()
	require.ErrorIs(t, login(t.Context(), "alice", "pw of alice"), nacre.Unavailable)
}
