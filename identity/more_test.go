package identity_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

func TestTrust(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		giver, taker, p := c.user("default"), c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: giver.ID, ProjectID: p.ID}, "manager")
		ctx := c.login(on(byPassword(giver), p))
		make := func(tr identity.Trust, roles ...string) (identity.Trust, error) {
			tr.TrustorUserID, tr.TrusteeUserID, tr.ProjectID = giver.ID, taker.ID, p.ID
			var refs []identity.NameRef
			for _, r := range roles {
				refs = append(refs, identity.NameRef{Name: r})
			}
			return c.CreateTrust(ctx, tr, refs)
		}
		_, err := make(identity.Trust{})
		require.ErrorIs(t, err, nacre.Forbidden, "no role")
		_, err = make(identity.Trust{}, "admin")
		require.ErrorIs(t, err, nacre.NotFound, "a role that the trustor lacks")
		_, err = make(identity.Trust{ExpiresAt: ref(time.Now().Add(-time.Second))}, "member")
		require.ErrorIs(t, err, nacre.Invalid)
		tr, err := make(identity.Trust{Impersonation: true, RemainingUses: ref(2), ExpiresAt: ref(time.Now().Add(10 * time.Minute))}, "member")
		require.NoError(t, err)

		login := byPassword(taker)
		login.TrustID = tr.ID
		trusted := c.login(login)
		got := nacre.CallerFrom(trusted)
		require.Equal(t, giver.ID, got.UserID, "it names the trustor")
		require.Equal(t, p.ID, got.ProjectID)
		require.Equal(t, []string{"member", "reader"}, got.Roles)
		require.WithinDuration(t, time.Now().Add(10*time.Minute), got.ExpiresAt, 2*time.Second, "it ends with the trust")
		for _, refuse := range []func() error{
			func() error { _, err := c.CreateTrust(trusted, tr, []identity.NameRef{{Name: "member"}}); return err },
			func() error {
				_, err := c.AppCredentials.Create(trusted, giver.ID, appcred.Wanted{Name: "x"})
				return err
			},
			func() error { _, err := c.Credentials.CreateEC2(trusted, giver.ID, p.ID); return err },
			func() error {
				_, _, err := c.Authenticate(t.Context(), identity.AuthRequest{Methods: []string{"token"}, Token: got.Token})
				return err
			},
		} {
			require.ErrorIs(t, refuse(), nacre.Forbidden, "what would outlive the trust")
		}
		thief := byPassword(c.user("default"))
		thief.TrustID = tr.ID
		_, _, err = c.Authenticate(t.Context(), thief)
		require.ErrorIs(t, err, nacre.Forbidden)

		c.login(login)
		_, _, err = c.Authenticate(t.Context(), login)
		require.ErrorIs(t, err, nacre.Unauthenticated, "it was used twice")
		require.True(t, c.good(got.Token))
		require.NoError(t, c.DeleteTrust(ctx, tr.ID))
		require.False(t, c.good(got.Token))

		tr, err = make(identity.Trust{}, "member")
		require.NoError(t, err)
		login.TrustID = tr.ID
		trusted = c.login(login)
		require.Equal(t, taker.ID, nacre.CallerFrom(trusted).UserID)
		_, err = c.UpdateUser(c.admin, giver.ID, identity.UserChange{Password: ref("new")})
		require.NoError(t, err)
		require.False(t, c.good(tokenOf(trusted)), "it ends with the trustor's tokens")
		trusted = c.login(login)
		require.NoError(t, c.Assignments.DeleteGrant(c.admin, assignment.Grant{UserID: giver.ID, ProjectID: p.ID, RoleID: c.ids.Roles["manager"]}))
		require.False(t, c.good(tokenOf(trusted)), "it gives no more than the trustor has")
	})
}

func TestCredentials(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, other, p := c.user("default"), c.user("default"), c.project("default")
		for _, x := range []identity.User{u, other} {
			c.grant(assignment.Grant{UserID: x.ID, ProjectID: p.ID}, "member")
		}
		mine, theirs := c.login(on(byPassword(u), p)), c.login(on(byPassword(other), p))
		pair, err := c.Credentials.CreateEC2(mine, u.ID, p.ID)
		require.NoError(t, err)
		got, err := c.Credentials.GetEC2(mine, u.ID, pair.Access)
		require.NoError(t, err)
		require.Equal(t, pair, got)
		_, err = c.Credentials.GetEC2(theirs, u.ID, pair.Access)
		require.ErrorIs(t, err, nacre.Forbidden)
		_, err = c.Credentials.GetEC2(theirs, other.ID, pair.Access)
		require.ErrorIs(t, err, nacre.Forbidden, "naming oneself in the path does not help")
		_, err = c.Credentials.Create(c.admin, credential.Change{UserID: ref(""), Type: ref("ec2"), ProjectID: &p.ID, Blob: ref(`{"access":"nobodys","secret":"b"}`)})
		require.NoError(t, err)
		_, err = c.Credentials.GetEC2(theirs, other.ID, "nobodys")
		require.ErrorIs(t, err, nacre.Forbidden, "what is nobody's is no stranger's")
		require.ErrorIs(t, c.Credentials.DeleteEC2(theirs, other.ID, "nobodys"), nacre.Forbidden)
		require.NoError(t, c.Credentials.DeleteEC2(c.admin, other.ID, "nobodys"))
		_, err = c.Credentials.Create(c.admin, credential.Change{UserID: ref("unknown"), ProjectID: ref("unknown"), Type: ref("cert"), Blob: ref("x")})
		require.NoError(t, err, "as in Keystone, of anybody")
		all, err := c.Credentials.List(theirs, nacre.Query{})
		require.NoError(t, err)
		require.Empty(t, all)
		all, err = c.Credentials.List(mine, nacre.Query{})
		require.NoError(t, err)
		require.Len(t, all, 1)
		_, err = c.Credentials.Update(mine, all[0].ID, credential.Change{UserID: &other.ID})
		require.ErrorIs(t, err, nacre.Forbidden, "it can't be given to another")
		_, err = c.Credentials.Update(mine, all[0].ID, credential.Change{Blob: ref(`{"access":"` + pair.Access + `","secret":"x","app_cred_id":"y"}`)})
		require.ErrorIs(t, err, nacre.Invalid)
		_, err = c.Credentials.Create(mine, credential.Change{Type: ref("ec2"), ProjectID: &p.ID, Blob: ref(`{"access":"a","secret":"b","trust_id":"t"}`)})
		require.ErrorIs(t, err, nacre.Invalid, "what binds it can't be given")
		rows, err := store.NewTable[credential.Credential](c.engine, "credential").Where(t.Context())
		require.NoError(t, err)
		require.NotContains(t, rows[0].Sealed, pair.Secret)
		require.Empty(t, rows[0].Blob, "the secret is not in the database")
		signed := []byte("GET\n\n\n" + time.Now().UTC().Format(time.RFC1123) + "\n/bucket")
		mac := hmac.New(sha1.New, []byte(pair.Secret))
		mac.Write(signed)
		signature := base64.StdEncoding.EncodeToString(mac.Sum(nil))
		i, err := c.ValidateS3(c.admin, pair.Access, signature, signed)
		require.NoError(t, err)
		require.Equal(t, p.ID, i.Caller().ProjectID)
		_, err = c.ValidateS3(c.admin, pair.Access, signature, append(signed, 'x'))
		require.ErrorIs(t, err, nacre.Unauthenticated)
		_, err = c.ValidateS3(mine, pair.Access, signature, signed)
		require.ErrorIs(t, err, nacre.Forbidden, "it is for services")
		require.NoError(t, c.Credentials.DeleteEC2(mine, u.ID, pair.Access))
		_, err = c.Credentials.GetEC2(c.admin, u.ID, pair.Access)
		require.ErrorIs(t, err, nacre.NotFound)

		keyless, err := identity.New(identity.Config{Engine: c.engine, Keys: c.keys, BcryptCost: 4})
		require.NoError(t, err)
		_, err = keyless.Credentials.CreateEC2(mine, u.ID, p.ID)
		require.ErrorIs(t, err, nacre.NotImplemented)
	})
}

func TestLimits(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		p := c.project("default")
		svcs, err := c.Catalog.ListServices(c.admin, nacre.Query{})
		require.NoError(t, err)
		one := limit.Limit{ProjectID: identity.Ref(p.ID), ServiceID: svcs[0].ID, ResourceName: "cores", ResourceLimit: 5}
		_, err = c.Limits.CreateLimits(c.admin, []limit.Limit{one})
		require.ErrorIs(t, err, nacre.Forbidden, "nothing is registered")
		reg, err := c.Limits.CreateRegisteredLimits(c.admin, []limit.RegisteredLimit{{ServiceID: svcs[0].ID, ResourceName: "cores", DefaultLimit: 10}})
		require.NoError(t, err)
		_, err = c.Limits.CreateRegisteredLimits(c.admin, []limit.RegisteredLimit{{ServiceID: svcs[0].ID, ResourceName: "ram"}, {ServiceID: svcs[0].ID, ResourceName: "cores"}})
		require.ErrorIs(t, err, nacre.Conflict)
		regs, err := c.Limits.ListRegisteredLimits(c.admin, nacre.Query{})
		require.NoError(t, err)
		require.Len(t, regs, 1, "all or none")
		ls, err := c.Limits.CreateLimits(c.admin, []limit.Limit{one})
		require.NoError(t, err)
		require.ErrorIs(t, c.Limits.DeleteRegisteredLimit(c.admin, reg[0].ID), nacre.Forbidden)
		u, foreign := c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "reader")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: foreign.ID}, "reader")
		_, err = c.Limits.GetLimit(c.login(on(byPassword(u), p)), ls[0].ID)
		require.NoError(t, err)
		_, err = c.Limits.GetLimit(c.login(on(byPassword(u), foreign)), ls[0].ID)
		require.ErrorIs(t, err, nacre.Forbidden)
		seen, err := c.Limits.ListLimits(c.login(on(byPassword(u), foreign)), nacre.Query{})
		require.NoError(t, err)
		require.Empty(t, seen)
		require.NoError(t, c.DeleteProject(c.admin, p.ID))
		require.NoError(t, c.Limits.DeleteRegisteredLimit(c.admin, reg[0].ID), "the project's limit went with it")
	})
}

func TestAccessRulesAreNotIgnored(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p := c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		mine := c.login(on(byPassword(u), p))
		a, err := c.AppCredentials.Create(mine, u.ID, appcred.Wanted{Name: "narrow", AccessRules: []appcred.AccessRule{{Service: "compute", Method: "GET", Path: "/v2.1/servers"}}})
		require.NoError(t, err)
		token, _, err := c.Authenticate(t.Context(), identity.AuthRequest{Methods: []string{"application_credential"}, AppCredID: a.ID, AppCredSecret: a.Secret})
		require.NoError(t, err)
		require.False(t, c.good(token), "who asks so does not enforce rules")
		_, rules, err := c.InspectToken(t.Context(), token, false)
		require.NoError(t, err)
		require.Equal(t, []nacre.AccessRule{{Service: "compute", Method: "GET", Path: "/v2.1/servers"}}, rules)
		for _, bad := range []appcred.AccessRule{{Service: "compute", Method: "TRACE", Path: "/"}, {Service: "a b", Method: "GET", Path: "/"}, {Service: "compute", Method: "GET", Path: "x"}, {Service: "compute", Method: "GET", Path: "/" + strings.Repeat("x", 225)}} {
			_, err := c.AppCredentials.Create(mine, u.ID, appcred.Wanted{Name: "bad", AccessRules: []appcred.AccessRule{bad}})
			require.ErrorIs(t, err, nacre.Invalid, "%v", bad)
		}
		_, err = c.ShowToken(c.admin, token, identity.ShowOptions{})
		require.ErrorIs(t, err, nacre.NotFound)
		i, err := c.ShowToken(c.admin, token, identity.ShowOptions{AccessRules: true})
		require.NoError(t, err)
		require.Equal(t, "/v2.1/servers", i.AppCred.AccessRules[0].Path)
		require.ErrorIs(t, c.AppCredentials.DeleteAccessRule(mine, u.ID, a.AccessRules[0].ID), nacre.Forbidden, "it is in use")
		require.NoError(t, c.AppCredentials.Delete(mine, u.ID, a.ID))
		require.NoError(t, c.AppCredentials.DeleteAccessRule(mine, u.ID, a.AccessRules[0].ID))
	})
}

// Writers side by side, at READ COMMITTED: of several with one name one wins, and
// a trust is not used more often than it may be.
func TestConcurrentWriters(t *testing.T) {
	e := memstore.New(memstore.Options{ReadCommitted: true})
	defer func() { require.NoError(t, e.Close()) }()
	concurrentWriters(t, e)
}

func concurrentWriters(t *testing.T, e store.Engine) {
	c := newCloud(t, e)
	giver, taker, p := c.user("default"), c.user("default"), c.project("default")
	c.grant(assignment.Grant{UserID: giver.ID, ProjectID: p.ID}, "member")
	tr, err := c.CreateTrust(c.login(on(byPassword(giver), p)), identity.Trust{TrustorUserID: giver.ID, TrusteeUserID: taker.ID, ProjectID: p.ID, RemainingUses: ref(3)}, []identity.NameRef{{Name: "member"}})
	require.NoError(t, err)
	login := byPassword(taker)
	login.TrustID = tr.ID
	var mu sync.Mutex
	made, used := 0, 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := c.CreateUser(c.admin, identity.UserChange{Name: ref("same")})
			_, _, err2 := c.Authenticate(t.Context(), login)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if nacre.KindOf(err) != nacre.Conflict {
				t.Error(err)
			}
			if err2 == nil {
				used++
			} else if k := nacre.KindOf(err2); k != nacre.Unauthenticated && k != nacre.Unavailable {
				t.Error(err2)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, made)
	require.LessOrEqual(t, used, 3)
	require.Positive(t, used)
}

// A real Keystone's keys and tokens are ours: one that it made is valid here.
func TestForeignTokenWithOurKeys(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		text, err := c.keys.Pack(fernet.Token{UserID: c.ids.UserID, Methods: []string{"password"}, ProjectID: c.ids.ProjectID,
			IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour), AuditIDs: []string{fernet.NewAuditID()}})
		require.NoError(t, err)
		require.True(t, c.good(text))
		require.Equal(t, "admin", nacre.CallerFrom(c.as(text)).UserName)
	})
}

func TestAuditFindsDamage(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p := c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		require.NoError(t, c.AddProjectTag(c.admin, p.ID, "red"))
		c.clean()
		users, projects := store.NewTable[identity.User](c.engine, "user"), store.NewTable[identity.Project](c.engine, "project")
		require.NoError(t, users.Delete(t.Context(), u.ID))
		_, err := projects.Update(t.Context(), p.ID, func(p *identity.Project) error { p.Tags = nil; p.ParentID = "gone"; return nil })
		require.NoError(t, err)
		found, err := c.Audit(t.Context())
		require.NoError(t, err)
		var kinds []string
		for _, f := range found {
			require.Equal(t, "identity", f.Area)
			kinds = append(kinds, f.Kind)
		}
		require.ElementsMatch(t, []string{"project", "project", "password", "role_assignment"}, kinds)
		// Mended, so that the audit at the end is content.
		require.NoError(t, users.Insert(t.Context(), u))
		_, err = projects.Update(t.Context(), p.ID, func(p *identity.Project) error {
			p.Tags, p.ParentID = []string{"red"}, p.DomainID
			return nil
		})
		require.NoError(t, err)
	})
}

func TestEventsComeWithTheirChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memstore.New(memstore.Options{})
		defer func() { require.NoError(t, e.Close()) }()
		c := newCloud(t, e)
		var mu sync.Mutex
		var got []nacre.Event
		svc, err := identity.New(identity.Config{Engine: e, Keys: c.keys, BcryptCost: 4, Publish: func(_ context.Context, ev nacre.Event) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, ev)
			return nil
		}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- svc.Run(ctx) }()
		time.Sleep(5 * time.Second)
		mu.Lock()
		got = nil
		mu.Unlock()
		u, err := svc.CreateUser(c.admin, identity.UserChange{Name: ref("a")})
		require.NoError(t, err)
		_, err = svc.CreateUser(c.admin, identity.UserChange{Name: ref("a")})
		require.Error(t, err)
		require.NoError(t, svc.DeleteUser(c.admin, u.ID))
		time.Sleep(5 * time.Second)
		cancel()
		require.NoError(t, <-done)
		require.Len(t, got, 2, "a change that failed tells nothing")
		require.Equal(t, "identity.user.created", got[0].Type)
		require.Equal(t, u.ID, got[0].Resource)
		require.Equal(t, c.ids.UserID, got[0].UserID)
		require.JSONEq(t, `{"resource_info":"`+u.ID+`"}`, string(got[0].Payload))
		require.Equal(t, "identity.user.deleted", got[1].Type)
	})
}
