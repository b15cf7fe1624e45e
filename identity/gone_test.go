package identity_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// rows counts what a table of the cloud's holds.
func (c *cloud) rows(table string) int64 {
	c.t.Helper()
	for _, def := range identity.Schema().Tables {
		if def.Name == table {
			gs, err := c.engine.Aggregate(c.t.Context(), def, store.Aggregate{})
			require.NoError(c.t, err)
			return gs[0].Count
		}
	}
	require.Fail(c.t, "there is no table "+table)
	return 0
}

// drop disables a domain and deletes it.
func (c *cloud) drop(domain string) {
	c.t.Helper()
	_, err := c.UpdateDomain(c.admin, domain, identity.ProjectChange{Enabled: ref(false)})
	require.NoError(c.t, err)
	require.NoError(c.t, c.DeleteDomain(c.admin, domain))
}

// signed is a request that is signed with these secrets.
func signed(n int, key, secret, token, tokenSecret, verifier string) *oauth1.Request {
	header := fmt.Sprintf(`OAuth oauth_consumer_key="%s", oauth_signature_method="PLAINTEXT", oauth_signature="%s%%26%s", oauth_timestamp="%d", oauth_nonce="n%d"`,
		key, secret, tokenSecret, time.Now().Unix(), n)
	if token != "" {
		header += fmt.Sprintf(`, oauth_token="%s"`, token)
	}
	if verifier != "" {
		header += fmt.Sprintf(`, oauth_verifier="%s"`, verifier)
	}
	return &oauth1.Request{Method: "POST", URL: "http://cloud/v3/OS-OAUTH1/x", Authorization: header}
}

// wanted is a consumer's request token on a project.
func (c *cloud) wanted(project string) (oauth1.Consumer, oauth1.RequestToken) {
	c.t.Helper()
	consumer, err := c.OAuth.CreateConsumer(c.admin, oauth1.ConsumerChange{})
	require.NoError(c.t, err)
	c.n++
	req, err := c.OAuth.NewRequestToken(c.t.Context(), signed(c.n, consumer.ID, consumer.Secret, "", "", ""), project)
	require.NoError(c.t, err)
	return consumer, req
}

// authorized is a request token by which a consumer may become a member.
func (c *cloud) authorized(ctx context.Context, project string) *oauth1.Request {
	c.t.Helper()
	consumer, req := c.wanted(project)
	verifier, err := c.OAuth.Authorize(ctx, req.ID, []oauth1.Role{{Name: "member"}})
	require.NoError(c.t, err)
	c.n++
	return signed(c.n, consumer.ID, consumer.Secret, req.ID, req.Secret, verifier)
}

// beforeNext is an engine that does something once, before the next transaction begins.
func beforeNext(then *func()) store.Engine {
	return storetest.Faulty(memstore.New(memstore.Options{}), func(op, _ string) error {
		if f := *then; op == "begin" && f != nil {
			*then = nil
			f()
		}
		return nil
	})
}

// TestDeletedBetweenLookAndWrite deletes what a new row is to refer to, after it was
// looked at and before the row's transaction.
func TestDeletedBetweenLookAndWrite(t *testing.T) {
	config := domainconfig.Options{"ldap": {"url": "ldap://x", "password": "secret"}}
	// Each prepares what it needs, and says what is deleted and what is tried then.
	for name, prepare := range map[string]func(c *cloud, d string, u identity.User, p identity.Project, own context.Context) (table string, gone func(), do func() error){
		"a domain's configuration": func(c *cloud, d string, _ identity.User, _ identity.Project, _ context.Context) (string, func(), func() error) {
			return "domain_config", func() { c.drop(d) }, func() error { _, _, err := c.DomainConfigs.Put(c.admin, d, config); return err }
		},
		"a change of one": func(c *cloud, d string, _ identity.User, _ identity.Project, _ context.Context) (string, func(), func() error) {
			_, _, err := c.DomainConfigs.Put(c.admin, d, config)
			require.NoError(c.t, err)
			return "domain_config", func() { c.drop(d) }, func() error { _, err := c.DomainConfigs.Update(c.admin, d, "", "", config); return err }
		},
		"an EC2 key of a user": func(c *cloud, _ string, u identity.User, p identity.Project, own context.Context) (string, func(), func() error) {
			return "credential", func() { require.NoError(c.t, c.DeleteUser(c.admin, u.ID)) }, func() error { _, err := c.Credentials.CreateEC2(own, u.ID, p.ID); return err }
		},
		"an EC2 key for a project": func(c *cloud, _ string, u identity.User, p identity.Project, own context.Context) (string, func(), func() error) {
			return "credential", func() { require.NoError(c.t, c.DeleteProject(c.admin, p.ID)) }, func() error { _, err := c.Credentials.CreateEC2(own, u.ID, p.ID); return err }
		},
		"a request token": func(c *cloud, _ string, _ identity.User, p identity.Project, _ context.Context) (string, func(), func() error) {
			consumer, err := c.OAuth.CreateConsumer(c.admin, oauth1.ConsumerChange{})
			require.NoError(c.t, err)
			return "request_token", func() { require.NoError(c.t, c.DeleteProject(c.admin, p.ID)) }, func() error {
				_, err := c.OAuth.NewRequestToken(c.t.Context(), signed(1, consumer.ID, consumer.Secret, "", "", ""), p.ID)
				return err
			}
		},
		"a request token of a consumer": func(c *cloud, _ string, _ identity.User, p identity.Project, _ context.Context) (string, func(), func() error) {
			consumer, err := c.OAuth.CreateConsumer(c.admin, oauth1.ConsumerChange{})
			require.NoError(c.t, err)
			return "request_token", func() { require.NoError(c.t, c.OAuth.DeleteConsumer(c.admin, consumer.ID)) }, func() error {
				_, err := c.OAuth.NewRequestToken(c.t.Context(), signed(1, consumer.ID, consumer.Secret, "", "", ""), p.ID)
				return err
			}
		},
		"an access token of a user": func(c *cloud, _ string, u identity.User, p identity.Project, own context.Context) (string, func(), func() error) {
			r := c.authorized(own, p.ID)
			return "access_token", func() { require.NoError(c.t, c.DeleteUser(c.admin, u.ID)) }, func() error { _, err := c.OAuth.NewAccessToken(c.t.Context(), r); return err }
		},
		"an access token for a project": func(c *cloud, _ string, _ identity.User, p identity.Project, own context.Context) (string, func(), func() error) {
			r := c.authorized(own, p.ID)
			return "access_token", func() { require.NoError(c.t, c.DeleteProject(c.admin, p.ID)) }, func() error { _, err := c.OAuth.NewAccessToken(c.t.Context(), r); return err }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var then func()
				e := beforeNext(&then)
				defer func() { require.NoError(t, e.Close()) }()
				c := newCloud(t, e)
				d, err := c.CreateDomain(c.admin, identity.ProjectChange{Name: ref("d")})
				require.NoError(t, err)
				u, p := c.user(d.ID), c.project(d.ID)
				c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "admin")
				table, gone, do := prepare(c, d.ID, u, p, c.login(on(byPassword(u), p)))
				then = gone
				require.ErrorIs(t, do(), nacre.NotFound)
				require.Nil(t, then)
				require.Zero(t, c.rows(table))
				c.clean()
			})
		})
	}
}

// TestRequestTokenOfUserWhoGoes authorizes a request token for a user who is deleted
// meanwhile.
func TestRequestTokenOfUserWhoGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var then func()
		e := beforeNext(&then)
		defer func() { require.NoError(t, e.Close()) }()
		c := newCloud(t, e)
		u, p := c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "admin")
		own := c.login(on(byPassword(u), p))
		_, req := c.wanted(p.ID)
		then = func() { require.NoError(t, c.DeleteUser(c.admin, u.ID)) }
		_, err := c.OAuth.Authorize(own, req.ID, nil)
		require.ErrorIs(t, err, nacre.NotFound)
		c.clean()
	})
}

// TestWhatHangsOnProjects deletes a project for which OAuth tokens were made.
func TestWhatHangsOnProjects(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p, other := c.user("default"), c.project("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "admin")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: other.ID}, "admin")
		own := c.login(on(byPassword(u), p))
		for _, on := range []identity.Project{p, other} {
			_, err := c.OAuth.NewAccessToken(t.Context(), c.authorized(own, on.ID))
			require.NoError(t, err)
			c.wanted(on.ID)
		}
		list := func() []oauth1.AccessToken {
			ts, err := c.OAuth.ListAccessTokens(c.admin, u.ID)
			require.NoError(t, err)
			return ts
		}
		require.Len(t, list(), 2)
		require.NoError(t, c.DeleteProject(c.admin, p.ID))
		require.Len(t, list(), 1)
		require.Equal(t, other.ID, list()[0].ProjectID)
		require.EqualValues(t, 1, c.rows("request_token"))

		// What has ended goes when there is a new one, a while later: who shows it
		// meanwhile hears that it has ended.
		old := list()[0].ID
		time.Sleep(49 * time.Hour)
		own = c.login(on(byPassword(u), other))
		c.admin = c.login(identity.AuthRequest{Methods: []string{"password"}, User: named("admin"), Password: "secret", Project: ref(named("admin"))})
		require.Len(t, list(), 1)
		_, err := c.OAuth.NewAccessToken(t.Context(), c.authorized(own, other.ID))
		require.NoError(t, err)
		require.Len(t, list(), 1)
		require.NotEqual(t, old, list()[0].ID)
	})
}

// TestDirectoryIDsGoWithTheirDomain deletes a domain that a directory keeps, also
// while the directory is read.
func TestDirectoryIDsGoWithTheirDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var then func()
		e := beforeNext(&then)
		defer func() { require.NoError(t, e.Close()) }()
		c := newCloud(t, e)
		dirs := map[string]identity.Directory{}
		for _, name := range []string{"one", "two", "three"} {
			d, err := c.CreateDomain(c.admin, identity.ProjectChange{Name: &name})
			require.NoError(t, err)
			dirs[d.ID] = newDirectory()
		}
		c.Service = c.anotherWith(func(cfg *identity.Config) { cfg.Directories = dirs })
		lists := []func(domain string) error{
			func(d string) error { _, err := c.ListUsers(c.admin, query("domain_id", d)); return err },
			func(d string) error { _, err := c.ListGroups(c.admin, query("domain_id", d)); return err },
		}
		kept := int64(0)
		for d := range dirs {
			if kept++; kept == 3 {
				continue
			}
			list := lists[kept-1]
			require.NoError(t, list(d))
			require.NotZero(t, c.rows("id_mapping"))
			c.drop(d)
			require.Zero(t, c.rows("id_mapping"))
			c.clean()
		}
		for d := range dirs {
			if _, err := c.GetDomain(c.admin, d); err == nil {
				then = func() { c.drop(d) }
				require.ErrorIs(t, lists[0](d), nacre.NotFound)
			}
		}
		require.Nil(t, then)
		require.Zero(t, c.rows("id_mapping"))
		c.clean()
	})
}

// TestKeepOnly holds that what rests on a role goes when a mapping takes it away, as
// when an administrator does.
func TestKeepOnly(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p, kept := c.user("default"), c.project("default"), c.project("default")
		keep := assignment.Grant{UserID: u.ID, ProjectID: kept.ID, RoleID: c.ids.Roles["member"]}
		for _, role := range []string{"member", "reader"} {
			c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, role)
		}
		c.grant(keep, "member")
		c.grant(assignment.Grant{UserID: u.ID, DomainID: "default"}, "reader")
		for _, on1 := range []identity.Project{p, kept} {
			_, err := c.AppCredentials.Create(c.login(on(byPassword(u), on1)), u.ID, appcred.Wanted{Name: on1.ID})
			require.NoError(t, err)
		}
		tokens := map[string]string{p.ID: tokenOf(c.login(on(byPassword(u), p))), kept.ID: tokenOf(c.login(on(byPassword(u), kept)))}
		before := c.rows("revocation")
		require.NoError(t, store.InTx(t.Context(), c.engine, func(ctx context.Context) error {
			return c.Assignments.KeepOnly(ctx, u.ID, []assignment.Grant{keep})
		}))
		require.Equal(t, before+1, c.rows("revocation"), "one row ends what was read of the user")
		left, err := c.AppCredentials.List(c.login(byPassword(u)), u.ID, nacre.Query{})
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.Equal(t, kept.ID, left[0].ProjectID)
		require.False(t, c.good(tokens[p.ID]))
		require.True(t, c.good(tokens[kept.ID]))
		c.login(on(byPassword(u), identity.Project{ID: "default", IsDomain: true}))

		before = c.rows("revocation")
		require.NoError(t, store.InTx(t.Context(), c.engine, func(ctx context.Context) error {
			return c.Assignments.KeepOnly(ctx, u.ID, []assignment.Grant{keep})
		}))
		require.Equal(t, before, c.rows("revocation"), "nothing was lost")
	})
}
