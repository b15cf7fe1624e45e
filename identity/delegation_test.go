package identity_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/awssign"
	"github.com/nacre-cloud/nacre/identity/credential"
)

// chain makes users who pass a trust of the first one's role on.
func TestRedelegation(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		giver, p := c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: giver.ID, ProjectID: p.ID}, "manager")
		var hops []identity.User
		for range 5 {
			hops = append(hops, c.user("default"))
		}
		give := func(ctx context.Context, to identity.User, f func(*identity.Trust), roles ...string) (identity.Trust, error) {
			tr := identity.Trust{TrustorUserID: nacre.CallerFrom(ctx).UserID, TrusteeUserID: to.ID, ProjectID: p.ID, Impersonation: true}
			if f != nil {
				f(&tr)
			}
			var refs []identity.NameRef
			for _, r := range roles {
				refs = append(refs, identity.NameRef{Name: r})
			}
			return c.CreateTrust(ctx, tr, refs)
		}
		take := func(u identity.User, tr identity.Trust) context.Context {
			req := byPassword(u)
			req.TrustID = tr.ID
			return c.login(req)
		}
		again := func(tr *identity.Trust) { tr.AllowRedelegation = true }
		end := time.Now().Add(30 * time.Minute).UTC().Truncate(time.Second)
		mine := c.login(on(byPassword(giver), p))
		closed, err := give(mine, hops[0], nil, "member")
		require.NoError(t, err)
		require.Zero(t, closed.RedelegationCount)
		_, err = give(take(hops[0], closed), hops[1], nil, "member")
		require.ErrorIs(t, err, nacre.Forbidden, "it was not allowed")
		_, err = give(mine, hops[0], func(tr *identity.Trust) { tr.AllowRedelegation, tr.Depth = true, ref(4) }, "member")
		require.ErrorIs(t, err, nacre.Forbidden)
		_, err = give(mine, hops[0], func(tr *identity.Trust) { tr.AllowRedelegation, tr.RemainingUses = true, ref(4) }, "member")
		require.ErrorIs(t, err, nacre.Invalid)

		first, err := give(mine, hops[0], func(tr *identity.Trust) { tr.AllowRedelegation, tr.ExpiresAt = true, &end }, "member", "reader")
		require.NoError(t, err)
		require.Equal(t, 3, first.RedelegationCount)
		first0 := take(hops[0], first)
		for name, refused := range map[string]func() (identity.Trust, error){
			"more roles": func() (identity.Trust, error) { return give(first0, hops[1], again, "manager") },
			"a longer life": func() (identity.Trust, error) {
				return give(first0, hops[1], func(tr *identity.Trust) { tr.ExpiresAt = ref(end.Add(time.Hour)) }, "member")
			},
			"its own depth": func() (identity.Trust, error) {
				return give(first0, hops[1], func(tr *identity.Trust) { tr.AllowRedelegation, tr.Depth = true, ref(1) }, "member")
			},
			"uses": func() (identity.Trust, error) {
				return give(first0, hops[1], func(tr *identity.Trust) { tr.RemainingUses = ref(1) }, "member")
			},
			"another trustor": func() (identity.Trust, error) {
				return give(first0, hops[1], func(tr *identity.Trust) { tr.TrustorUserID = hops[0].ID }, "member")
			},
		} {
			_, err := refused()
			require.ErrorIs(t, err, nacre.Forbidden, name)
		}
		second, err := give(first0, hops[1], again, "reader")
		require.NoError(t, err)
		require.Equal(t, 2, second.RedelegationCount)
		require.Equal(t, end, *second.ExpiresAt, "it ends with what it comes from")
		require.Equal(t, identity.Ref(first.ID), second.RedelegatedTrustID)
		third, err := give(take(hops[1], second), hops[2], again, "reader")
		require.NoError(t, err)
		fourth, err := give(take(hops[2], third), hops[3], again, "reader")
		require.NoError(t, err)
		require.Zero(t, fourth.RedelegationCount)
		last := take(hops[3], fourth)
		require.Equal(t, giver.ID, nacre.CallerFrom(last).UserID)
		require.Equal(t, []string{"reader"}, nacre.CallerFrom(last).Roles)
		_, err = give(last, hops[4], nil, "reader")
		require.ErrorIs(t, err, nacre.Forbidden, "that was the last")

		_, err = c.UpdateUser(c.admin, hops[1].ID, identity.UserChange{Enabled: ref(false)})
		require.NoError(t, err)
		require.False(t, c.good(tokenOf(last)), "one in between is disabled")
		_, err = c.UpdateUser(c.admin, hops[1].ID, identity.UserChange{Enabled: ref(true)})
		require.NoError(t, err)
		last = take(hops[3], fourth)
		require.NoError(t, c.DeleteTrust(mine, second.ID))
		require.False(t, c.good(tokenOf(last)))
		ts, err := c.ListTrusts(c.admin, nacre.Query{})
		require.NoError(t, err)
		require.Len(t, ts, 2, "what a trust was passed on as goes with it")
		_, err = c.GetTrust(c.admin, fourth.ID)
		require.ErrorIs(t, err, nacre.NotFound)
	})
}

func TestTrustsAndOtherDelegation(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		giver, taker, p := c.user("default"), c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: giver.ID, ProjectID: p.ID}, "member")
		mine := c.login(on(byPassword(giver), p))
		tr, err := c.CreateTrust(mine, identity.Trust{TrustorUserID: giver.ID, TrusteeUserID: taker.ID, ProjectID: p.ID}, []identity.NameRef{{Name: "member"}})
		require.NoError(t, err)
		a, err := c.AppCredentials.Create(mine, giver.ID, appcred.Wanted{Name: "root", Unrestricted: true})
		require.NoError(t, err)
		robot := c.login(identity.AuthRequest{Methods: []string{"application_credential"}, AppCredID: a.ID, AppCredSecret: a.Secret})
		for name, refused := range map[string]func() error{
			"get":    func() error { _, err := c.GetTrust(robot, tr.ID); return err },
			"roles":  func() error { _, err := c.TrustRoles(robot, tr.ID); return err },
			"delete": func() error { return c.DeleteTrust(robot, tr.ID) },
			"list": func() error {
				_, err := c.ListTrusts(robot, nacre.Query{Filters: []nacre.Filter{{Name: "trustor_user_id", Value: giver.ID}}})
				return err
			},
			"create": func() error { _, err := c.CreateTrust(robot, tr, []identity.NameRef{{Name: "member"}}); return err },
		} {
			require.ErrorIs(t, refused(), nacre.Forbidden, "%s by an application credential, however unrestricted", name)
		}
		_, err = c.GetTrust(c.login(byPassword(c.user("default"))), "missing")
		require.ErrorIs(t, err, nacre.NotFound, "before anything else")

		none, err := c.CreateTrust(mine, identity.Trust{TrustorUserID: giver.ID, TrusteeUserID: taker.ID, Impersonation: true}, nil)
		require.NoError(t, err, "a trust without a project")
		req := byPassword(taker)
		req.TrustID = none.ID
		_, i, err := c.Authenticate(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, giver.ID, i.User.ID)
		require.Empty(t, i.Roles)
		require.Nil(t, i.Project)

		req.TrustID = tr.ID
		_, err = c.UpdateUser(c.admin, giver.ID, identity.UserChange{Enabled: ref(false)})
		require.NoError(t, err)
		require.ErrorIs(t, c.try(req), nacre.Unauthenticated)
		require.NoError(t, c.DeleteUser(c.admin, giver.ID))
		require.ErrorIs(t, c.try(req), nacre.Unauthenticated)
	})
}

func TestRescoping(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, p, q := c.user("default"), c.project("default"), c.project("default")
		for _, x := range []identity.Project{p, q} {
			c.grant(assignment.Grant{UserID: u.ID, ProjectID: x.ID}, "member")
		}
		c.grant(assignment.Grant{UserID: u.ID, System: true}, "reader")
		scoped := tokenOf(c.login(on(byPassword(u), p)))
		again := on(identity.AuthRequest{Methods: []string{"token"}, Token: scoped}, q)
		require.NoError(t, c.try(again))
		sys := byPassword(u)
		sys.System = true
		require.ErrorIs(t, c.try(on(identity.AuthRequest{Methods: []string{"token"}, Token: tokenOf(c.login(sys))}, p)), nacre.Forbidden)
		c.Service = c.anotherWith(func(cfg *identity.Config) { cfg.NoRescope = true })
		require.ErrorIs(t, c.try(again), nacre.Forbidden)
		unscoped := tokenOf(c.login(byPassword(u)))
		require.NoError(t, c.try(on(identity.AuthRequest{Methods: []string{"token"}, Token: unscoped}, q)))
	})
}

// signEC2 is version 2 of Amazon's signatures, by another hand.
func signEC2(pair credential.EC2, at time.Time) identity.EC2Request {
	params := map[string]string{"AWSAccessKeyId": pair.Access, "Action": "DescribeInstances", "SignatureMethod": "HmacSHA256", "SignatureVersion": "2", "Timestamp": at.UTC().Format("2006-01-02T15:04:05Z")}
	v := url.Values{}
	for k, x := range params {
		v.Set(k, x)
	}
	m := hmac.New(sha256.New, []byte(pair.Secret))
	m.Write([]byte("GET\nec2.cloud\n/services/Cloud\n" + strings.ReplaceAll(v.Encode(), "+", "%20")))
	return identity.EC2Request{Access: pair.Access, Request: awssign.Request{Host: "ec2.cloud", Verb: "GET", Path: "/services/Cloud", Params: params, Signature: base64.StdEncoding.EncodeToString(m.Sum(nil))}}
}

func TestEC2Tokens(t *testing.T) {
	eachEngine(t, func(t *testing.T, c *cloud) {
		u, taker, p := c.user("default"), c.user("default"), c.project("default")
		c.grant(assignment.Grant{UserID: u.ID, ProjectID: p.ID}, "member")
		robot := c.user("default")
		c.grant(assignment.Grant{UserID: robot.ID, ProjectID: p.ID}, "service")
		mine, service := c.login(on(byPassword(u), p)), c.login(on(byPassword(robot), p))
		pair, err := c.Credentials.CreateEC2(mine, u.ID, p.ID)
		require.NoError(t, err)
		good := signEC2(pair, time.Now())
		for _, ctx := range []context.Context{mine, c.login(byPassword(u))} {
			_, _, err := c.AuthenticateEC2(ctx, good)
			require.ErrorIs(t, err, nacre.Forbidden, "it is for services")
		}
		_, _, err = c.AuthenticateEC2(t.Context(), good)
		require.Error(t, err)
		for _, ctx := range []context.Context{service, c.admin} {
			token, i, err := c.AuthenticateEC2(ctx, good)
			require.NoError(t, err)
			require.Equal(t, []string{"ec2credential"}, i.Methods)
			got := nacre.CallerFrom(c.as(token))
			require.Equal(t, u.ID, got.UserID)
			require.Equal(t, p.ID, got.ProjectID)
			require.Equal(t, []string{"member", "reader"}, got.Roles)
		}
		bad := good
		bad.Signature = "x" + bad.Signature
		none := good
		none.Signature = ""
		for _, req := range []identity.EC2Request{bad, none, signEC2(pair, time.Now().Add(-16*time.Minute)), signEC2(pair, time.Now().Add(time.Hour)), {}} {
			_, _, err := c.AuthenticateEC2(service, req)
			require.ErrorIs(t, err, nacre.Unauthenticated)
		}
		time.Sleep(20 * time.Minute)
		_, _, err = c.AuthenticateEC2(service, good)
		require.ErrorIs(t, err, nacre.Unauthenticated, "what was recorded can't be used later")
		_, _, err = c.AuthenticateEC2(service, identity.EC2Request{Access: "unknown", Request: awssign.Request{Signature: "x"}})
		require.ErrorIs(t, err, nacre.NotFound)

		mine, service = c.login(on(byPassword(u), p)), c.login(on(byPassword(robot), p))
		tr, err := c.CreateTrust(mine, identity.Trust{TrustorUserID: u.ID, TrusteeUserID: taker.ID, ProjectID: p.ID, RemainingUses: ref(2)}, []identity.NameRef{{Name: "reader"}})
		require.NoError(t, err)
		_, err = c.Credentials.Create(mine, credential.Change{Type: ref("ec2"), ProjectID: &p.ID, Blob: ref(`{"access":"a","secret":"s","trust_id":"` + tr.ID + `"}`)})
		require.ErrorIs(t, err, nacre.Invalid, "what a credential is bound to is not for the client to say")
		a, err := c.AppCredentials.Create(mine, u.ID, appcred.Wanted{Name: "narrow", Roles: []appcred.Role{{Name: "reader"}}, Unrestricted: true})
		require.NoError(t, err)
		byApp := c.login(identity.AuthRequest{Methods: []string{"application_credential"}, AppCredID: a.ID, AppCredSecret: a.Secret})
		bound, err := c.Credentials.Create(byApp, credential.Change{Type: ref("ec2"), ProjectID: &p.ID, Blob: ref(`{"access":"narrow","secret":"s"}`)})
		require.NoError(t, err)
		_, i, err := c.AuthenticateEC2(service, signEC2(credential.EC2{Access: "narrow", Secret: "s"}, time.Now()))
		require.NoError(t, err)
		require.Equal(t, []string{"reader"}, i.Caller().Roles, "it gives no more than what it was made with")
		require.Equal(t, a.ID, i.AppCredID)
		_, err = c.Credentials.Update(mine, bound.ID, credential.Change{Blob: ref(`{"access":"narrow","secret":"s"}`)})
		require.ErrorIs(t, err, nacre.Invalid, "the bond can't be cut")
		_, err = c.Credentials.Update(mine, bound.ID, credential.Change{UserID: &taker.ID})
		require.ErrorIs(t, err, nacre.Forbidden, "it can't be given to somebody else")
		require.NoError(t, c.AppCredentials.Delete(mine, u.ID, a.ID))
		_, _, err = c.AuthenticateEC2(service, signEC2(credential.EC2{Access: "narrow", Secret: "s"}, time.Now()))
		require.Error(t, err)
	})
}
