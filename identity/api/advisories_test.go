package api_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // of old S3 clients' signatures
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/authn"
	"github.com/nacre-cloud/nacre/identity/awssign"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
)

// TestAdvisories tries what was a hole in Keystone or its middleware once, by each
// way in: over HTTP, and by the Service's methods in one process.
func TestAdvisories(t *testing.T) {
	for _, a := range []struct {
		name string
		// ways are what is tried; one that names both does so by itself.
		ways map[string]func(*testing.T)
	}{
		{"headers that say who asks are forged", map[string]func(*testing.T){"HTTP": forgedCallers, "HTTP, federation": forgedAssertions, "in process": forgedProofs}},
		{"what was delegated makes what lasts", map[string]func(*testing.T){"HTTP and in process": delegatedTokensMakeNothingLasting}},
		{"signatures are shown by anybody", map[string]func(*testing.T){"HTTP": signaturesAreForServices, "in process": signaturesAreForServicesInProcess}},
		{"signatures are shown again", map[string]func(*testing.T){"HTTP and in process": replayedSignatures}},
		{"a credential changes its owner", map[string]func(*testing.T){"HTTP": ec2CredentialsStayInBounds, "HTTP and in process": credentialsKeepTheirOwner}},
		{"lists show others' credentials", map[string]func(*testing.T){"HTTP": credentialListIsOnesOwn, "in process": credentialListIsOnesOwnInProcess}},
		{"OAuth widens roles", map[string]func(*testing.T){"HTTP": oauthDoesNotWiden, "in process": oauthDoesNotWidenInProcess}},
		{"a lock-out is told", map[string]func(*testing.T){"HTTP": lockoutIsNotTold, "in process": lockoutIsNotToldInProcess}},
		{"others' projects are listed", map[string]func(*testing.T){"HTTP": projectsOfOthersAreNotListed, "in process": projectsOfOthersAreNotListedInProcess}},
		{"a federated user gets the roles of a namesake", map[string]func(*testing.T){"HTTP and in process": federatedRolesAreNotMixedUp}},
		{"a revoked token lives on in what was made of it", map[string]func(*testing.T){"HTTP": revokedTokensMakeNoOthers, "in process": revokedTokensMakeNoOthersInProcess}},
		{"a trust's chain widens", map[string]func(*testing.T){"HTTP and in process": trustChainsDoNotWiden}},
		{"an endpoint's URL tells secrets", map[string]func(*testing.T){"HTTP": endpointURLTellsNothing, "in process": endpointURLTellsNothingInProcess}},
		{"a method that is repeated is tried again", map[string]func(*testing.T){"HTTP": repeatedMethodsAreTriedOnce, "in process": repeatedMethodsAreTriedOnceInProcess}},
		// How the directory's attribute is read: TestEnabled and TestSlapd of package ldap.
		{"whom a directory disables comes in", map[string]func(*testing.T){"HTTP and in process": disabledInTheDirectory}},
		{"ids collide", map[string]func(*testing.T){"HTTP": idsAreNotChosen, "in process": idsOfDirectoriesAreApart}},
		{"secrets are logged", map[string]func(*testing.T){"HTTP and in process": nothingSecretIsLogged}},
	} {
		t.Run(a.name, func(t *testing.T) {
			ways := slices.Sorted(maps.Keys(a.ways))
			require.Contains(t, strings.Join(ways, " "), "HTTP")
			require.Contains(t, strings.Join(ways, " "), "in process")
			for _, way := range ways {
				t.Run(way, a.ways[way])
			}
		})
	}
}

// as is the context of a token's caller.
func (c *cloud) as(token string) context.Context {
	c.t.Helper()
	caller, err := c.svc.ValidateToken(c.t.Context(), token)
	require.NoError(c.t, err)
	return nacre.WithCaller(c.t.Context(), caller)
}

func (c *cloud) try(req identity.AuthRequest) (string, *identity.TokenInfo, error) {
	return c.svc.Authenticate(c.t.Context(), req)
}

func byPassword(id, pw string) identity.AuthRequest {
	return identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{ID: id}, Password: pw}
}

func byToken(token, project string) identity.AuthRequest {
	req := identity.AuthRequest{Methods: []string{"token"}, Token: token}
	if project != "" {
		req.Project = &identity.NameRef{ID: project}
	}
	return req
}

// identityHeaders are those by which middleware tells a service who asks.
var identityHeaders = []string{"X-Identity-Status", "Confirmed", "X-User-Id", "root", "X-User-Name", "root", "X-Project-Id", "p", "X-Roles", "admin", "X-Role", "admin", "X_Roles", "admin",
	"X-Is-Admin-Project", "True", "Openstack-System-Scope", "all", "X-Service-Roles", "service", "X-Service-Identity-Status", "Confirmed", "Remote-User", "admin", "X-Remote-User", "admin"}

func forgedCallers(t *testing.T) {
	c := newCloud(t)
	_, token := c.person("alice", "reader", c.project("p"))
	code, _, _ := c.do("GET", "/v3/users", "", "", identityHeaders...)
	require.Equal(t, 401, code, "without a token")
	code, _, _ = c.do("GET", "/v3/users", token, "", identityHeaders...)
	require.Equal(t, 403, code, "with a token that may not")
	code, _, _ = c.do("POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["external"],"external":{}}}}`, identityHeaders...)
	require.Equal(t, 401, code)

	// What the middleware gives to a service behind it.
	for _, tell := range []bool{false, true} {
		var seen http.Header
		h := authn.Middleware(c.svc, authn.Options{Headers: tell, Public: []string{"/public"}})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header }))
		ask := func(path, token string) int {
			seen = http.Header{}
			r := httptest.NewRequestWithContext(t.Context(), "GET", "http://cloud"+path, http.NoBody)
			for i := 0; i < len(identityHeaders); i += 2 {
				r.Header[identityHeaders[i]] = []string{identityHeaders[i+1]}
			}
			r.Header.Set("X-Auth-Token", token)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		require.Equal(t, 401, ask("/private", "forged"))
		for _, path := range []string{"/public", "/private"} {
			require.Equal(t, 200, ask(path, token))
			for name, v := range seen {
				if strings.Contains(name, "emote") {
					continue // a front server's, that nobody here reads
				}
				require.NotContains(t, []string{"root", "admin", "service", "all"}, v[0], "%s at %s", name, path)
			}
		}
		require.Equal(t, 200, ask("/public", ""))
		require.NotContains(t, seen, "X-Roles")
		require.NotContains(t, seen, "X_Roles")
		require.NotEqual(t, "Confirmed", seen.Get("X-Identity-Status"))
	}
}

// forgedProofs holds that nobody is let in for saying that somebody else did.
func forgedProofs(t *testing.T) {
	c := newCloud(t)
	raw := func(v any) json.RawMessage {
		b, err := json.Marshal(v)
		require.NoError(t, err)
		return b
	}
	for _, method := range []string{"external", "mapped", "saml2", "openid", "kerberos", "ec2credential", "oauth1", ""} {
		for _, shown := range []any{map[string]any{}, map[string]any{"id": "x"}, map[string]any{"user": map[string]any{"id": c.ids.UserID}}, map[string]any{"user_id": c.ids.UserID, "protocol": "openid"}, "admin", nil} {
			_, _, err := c.try(identity.AuthRequest{Methods: []string{method}, User: identity.NameRef{ID: c.ids.UserID}, Extra: map[string]json.RawMessage{method: raw(shown)}})
			require.Error(t, err, "%s with %v", method, shown)
			require.NotErrorIs(t, err, nacre.Forbidden, "who may not is not known")
		}
	}
	_, _, err := c.try(identity.AuthRequest{})
	require.Error(t, err, "no method at all")
}

// sigEC2 is version 2 of Amazon's signatures.
func sigEC2(access, secret string, at time.Time) identity.EC2Request {
	params := map[string]string{"AWSAccessKeyId": access, "Action": "DescribeInstances", "SignatureMethod": "HmacSHA256", "SignatureVersion": "2", "Timestamp": at.UTC().Format("2006-01-02T15:04:05Z")}
	v := url.Values{}
	for k, x := range params {
		v.Set(k, x)
	}
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("GET\nec2.cloud\n/services/Cloud\n" + strings.ReplaceAll(v.Encode(), "+", "%20")))
	return identity.EC2Request{Access: access, Request: awssign.Request{Host: "ec2.cloud", Verb: "GET", Path: "/services/Cloud", Params: params, Signature: base64.StdEncoding.EncodeToString(m.Sum(nil))}}
}

// sigS3 is how old S3 clients sign.
func sigS3(secret, text string) string {
	m := hmac.New(sha1.New, []byte(secret))
	m.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

func signaturesAreForServicesInProcess(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	alice, token := c.person("alice", "member", p)
	_, manager := c.person("carol", "manager", p)
	_, service := c.person("robot", "service", p)
	pair, err := c.svc.Credentials.CreateEC2(c.as(token), alice, p)
	require.NoError(t, err)
	text := "GET\n\n\n" + time.Now().UTC().Format(time.RFC1123) + "\n/bucket"
	for who, caller := range map[string]struct {
		ctx context.Context
		may bool
	}{"nobody": {t.Context(), false}, "the owner": {c.as(token), false}, "a manager": {c.as(manager), false}, "a service": {c.as(service), true}, "an administrator": {c.as(c.root()), true}} {
		_, _, err := c.svc.AuthenticateEC2(caller.ctx, sigEC2(pair.Access, pair.Secret, time.Now()))
		_, err2 := c.svc.ValidateS3(caller.ctx, pair.Access, sigS3(pair.Secret, text), []byte(text))
		for _, err := range []error{err, err2} {
			if caller.may {
				require.NoError(t, err, who)
			} else {
				require.Error(t, err, who)
				require.Contains(t, []nacre.Kind{nacre.Forbidden, nacre.Unauthenticated}, kindOf(t, err), who)
			}
		}
	}
}

func kindOf(t *testing.T, err error) nacre.Kind {
	t.Helper()
	var e *nacre.Error
	require.ErrorAs(t, err, &e)
	return e.Kind
}

// replayedSignatures holds that a signature is worth nothing when its time is over,
// and that the time is the one that was signed.
func replayedSignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		p := c.project("p")
		alice, token := c.person("alice", "member", p)
		_, _ = c.person("robot", "service", p)
		pair, err := c.svc.Credentials.CreateEC2(c.as(token), alice, p)
		require.NoError(t, err)
		ec2 := sigEC2(pair.Access, pair.Secret, time.Now())
		later := ec2
		later.Params = maps.Clone(ec2.Params)
		later.Params["Timestamp"] = time.Now().Add(20 * time.Minute).UTC().Format("2006-01-02T15:04:05Z")
		later.Headers = map[string]string{"X-Amz-Date": later.Params["Timestamp"]}
		stamp := time.Now().UTC().Format("20060102T150405Z")
		texts := map[string]string{
			"version 2":              "GET\n\n\n" + time.Now().UTC().Format(http.TimeFormat) + "\n/bucket",
			"version 2, amz-date":    "GET\n\n\n\nx-amz-date:" + time.Now().UTC().Format(http.TimeFormat) + "\n/bucket",
			"version 2, a URL":       fmt.Sprintf("GET\n\n\n%d\n/bucket", time.Now().Add(10*time.Minute).Unix()),
			"version 4, a week's":    "AWS4-HMAC-SHA256\n" + stamp + "\n" + stamp[:8] + "/r/s3/aws4_request\nhash",
			"version 2, not a date":  "GET\n\n\nsome day\n/bucket",
			"version 2, to come":     "GET\n\n\n" + time.Now().Add(time.Hour).UTC().Format(http.TimeFormat) + "\n/bucket",
			"version 2, without one": "GET\n\n\n\n/bucket",
		}
		never := []string{"version 2, not a date", "version 2, to come", "version 2, without one"}
		sign := func(text string) string {
			if strings.HasPrefix(text, "AWS4") {
				return s3Signature(pair.Secret, text)
			}
			return sigS3(pair.Secret, text)
		}
		all := func(ec2Good bool, s3Good func(name string) bool) {
			t.Helper()
			service := c.enter("robot", "pw-robot", p)
			ask := func(path string, body any) int {
				b, err := json.Marshal(map[string]any{"credentials": body})
				require.NoError(t, err)
				code, _, _ := c.do("POST", path, service, string(b))
				return code
			}
			for name, req := range map[string]identity.EC2Request{"as it was": ec2, "with another time": later} {
				want := ec2Good && name == "as it was"
				_, _, err := c.svc.AuthenticateEC2(c.as(service), req)
				require.Equal(t, want, err == nil, "%s: %v", name, err)
				code := ask("/v3/ec2tokens", map[string]any{"access": req.Access, "signature": req.Signature, "host": req.Host, "verb": req.Verb, "path": req.Path, "params": req.Params, "headers": maps.Collect(maps.All(req.Headers))})
				require.Equal(t, map[bool]int{true: 200, false: 401}[want], code, name)
			}
			for name, text := range texts {
				_, err := c.svc.ValidateS3(c.as(service), pair.Access, sign(text), []byte(text))
				require.Equal(t, s3Good(name), err == nil, "%s: %v", name, err)
				code := ask("/v3/s3tokens", map[string]any{"access": pair.Access, "signature": sign(text), "token": base64.URLEncoding.EncodeToString([]byte(text))})
				require.Equal(t, map[bool]int{true: 200, false: 401}[s3Good(name)], code, name)
			}
		}
		all(true, func(name string) bool { return !slices.Contains(never, name) })
		time.Sleep(20 * time.Minute)
		all(false, func(name string) bool { return name == "version 4, a week's" })
		time.Sleep(8 * 24 * time.Hour)
		all(false, func(string) bool { return false })
	})
}

// OSSA-2020-003: whose a credential is stays as it was.
func credentialsKeepTheirOwner(t *testing.T) {
	c := newCloud(t)
	p, q := c.project("p"), c.project("q")
	alice, token := c.person("alice", "member", p)
	bob, his := c.person("bob", "member", p)
	pair, err := c.svc.Credentials.CreateEC2(c.as(token), alice, p)
	require.NoError(t, err)
	list, err := c.svc.Credentials.List(c.as(token), nacre.Query{})
	require.NoError(t, err)
	for what, change := range map[string]struct {
		ch   credential.Change
		body string
	}{
		"owner": {credential.Change{UserID: &bob}, `{"user_id":"` + bob + `"}`},
		"admin": {credential.Change{UserID: &c.ids.UserID}, `{"user_id":"` + c.ids.UserID + `"}`},
		"both":  {credential.Change{UserID: &c.ids.UserID, ProjectID: &c.ids.ProjectID}, `{"user_id":"` + c.ids.UserID + `","project_id":"` + c.ids.ProjectID + `"}`},
	} {
		_, err := c.svc.Credentials.Update(c.as(token), list[0].ID, change.ch)
		require.ErrorIs(t, err, nacre.Forbidden, what)
		code, _, m := c.do("PATCH", "/v3/credentials/"+list[0].ID, token, `{"credential":`+change.body+`}`)
		require.Equal(t, 403, code, "%s: %v", what, m)
	}
	typ, blob := "cert", "b"
	_, err = c.svc.Credentials.Create(c.as(his), credential.Change{Type: &typ, Blob: &blob, UserID: &alice})
	require.ErrorIs(t, err, nacre.Forbidden, "for somebody else")
	code, _, _ := c.do("POST", "/v3/credentials", his, `{"credential":{"type":"cert","blob":"b","user_id":"`+alice+`"}}`)
	require.Equal(t, 403, code)
	got, err := c.svc.Credentials.GetEC2(c.as(token), alice, pair.Access)
	require.NoError(t, err)
	require.Equal(t, pair, got)
	// For another project it is good when its user is, and no sooner.
	_, err = c.svc.Credentials.Update(c.as(token), list[0].ID, credential.Change{ProjectID: &q})
	require.NoError(t, err)
	_, _, err = c.svc.AuthenticateEC2(c.as(c.root()), sigEC2(pair.Access, pair.Secret, time.Now()))
	require.ErrorIs(t, err, nacre.Unauthenticated)
}

func credentialListIsOnesOwnInProcess(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	alice, hers := c.person("alice", "member", p)
	_, his := c.person("bob", "manager", p)
	typ, blob := "cert", "hers"
	made, err := c.svc.Credentials.Create(c.as(hers), credential.Change{Type: &typ, Blob: &blob})
	require.NoError(t, err)
	for _, q := range []nacre.Query{{}, {Filters: []nacre.Filter{{Name: "user_id", Value: alice}}}, {Filters: []nacre.Filter{{Name: "type", Value: "cert"}}}} {
		list, err := c.svc.Credentials.List(c.as(his), q)
		require.NoError(t, err)
		require.Empty(t, list)
	}
	_, err = c.svc.Credentials.Get(c.as(his), made.ID)
	require.ErrorIs(t, err, nacre.Forbidden)
	require.ErrorIs(t, c.svc.Credentials.Delete(c.as(his), made.ID), nacre.Forbidden)
	_, err = c.svc.Credentials.ListEC2(c.as(his), alice)
	require.ErrorIs(t, err, nacre.Forbidden)
}

func lockoutIsNotToldInProcess(t *testing.T) {
	c := lockingCloud(t)
	alice, _ := c.person("alice", "member", c.project("p"))
	_, _, unknown := c.try(byPassword("nobody", "guess"))
	told := func(err error) string {
		var e *nacre.Error
		require.ErrorAs(t, err, &e)
		return fmt.Sprint(e.Kind, e.Code, e.Message)
	}
	for i := range 6 {
		pw := "guess"
		if i > 3 {
			pw = "pw-alice"
		}
		_, _, err := c.try(byPassword(alice, pw))
		require.Equal(t, told(unknown), told(err), "try %d", i)
		require.Equal(t, told(c.svc.ChangePassword(t.Context(), "nobody", pw, "new")), told(c.svc.ChangePassword(t.Context(), alice, pw, "new")), "try %d", i)
	}
}

func projectsOfOthersAreNotListedInProcess(t *testing.T) {
	c := newCloud(t)
	p, secret := c.project("p"), c.project("secret")
	alice, token := c.person("alice", "member", p)
	ctx := c.as(token)
	mine, err := c.svc.AuthProjects(ctx, nacre.Query{})
	require.NoError(t, err)
	require.Len(t, mine, 1)
	mine, err = c.svc.AuthProjects(ctx, nacre.Query{Filters: []nacre.Filter{{Name: "name", Value: "secret"}}})
	require.NoError(t, err)
	require.Empty(t, mine)
	domains, err := c.svc.AuthDomains(ctx, nacre.Query{})
	require.NoError(t, err)
	require.Empty(t, domains)
	_, err = c.svc.ListProjects(ctx, nacre.Query{})
	require.ErrorIs(t, err, nacre.Forbidden)
	_, err = c.svc.GetProject(ctx, secret)
	require.ErrorIs(t, err, nacre.Forbidden)
	mine, err = c.svc.ListUserProjects(ctx, alice, nacre.Query{})
	require.NoError(t, err)
	require.Len(t, mine, 1)
	_, err = c.svc.ListUserProjects(ctx, c.ids.UserID, nacre.Query{})
	require.ErrorIs(t, err, nacre.Forbidden)
}

func revokedTokensMakeNoOthersInProcess(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	alice, first := c.person("alice", "member", p)
	chain := []string{first}
	for i := range 3 {
		next, _, err := c.try(byToken(chain[i], p))
		require.NoError(t, err)
		chain = append(chain, next)
	}
	require.NoError(t, c.svc.RevokeToken(c.as(chain[1]), chain[1]))
	_, err := c.svc.ValidateToken(t.Context(), chain[1])
	require.ErrorIs(t, err, nacre.Unauthenticated)
	for _, spelled := range []string{chain[1], chain[1] + "=", chain[1] + "\n", strings.TrimRight(chain[1], "=")} {
		_, _, err := c.try(byToken(spelled, p))
		require.Error(t, err, "%q", spelled)
	}
	_, err = c.svc.ValidateToken(t.Context(), chain[3])
	require.NoError(t, err)
	require.NoError(t, c.svc.ChangePassword(t.Context(), alice, "pw-alice", "new"))
	for i, token := range chain {
		_, err := c.svc.ValidateToken(t.Context(), token)
		require.ErrorIs(t, err, nacre.Unauthenticated, "the %d. of the chain ends with the password", i)
	}
}

// trustChainsDoNotWiden holds that who was trusted passes on no more than it got,
// for no longer, and to nobody once the trust has ended.
func trustChainsDoNotWiden(t *testing.T) {
	c := newCloud(t)
	p, q := c.project("p"), c.project("q")
	alice, hers := c.person("alice", "manager", p)
	bob, _ := c.person("bob", "reader", q)
	carol, _ := c.person("carol", "reader", q)
	end := time.Now().Add(30 * time.Minute).UTC().Truncate(time.Second)
	first, err := c.svc.CreateTrust(c.as(hers), identity.Trust{TrustorUserID: alice, TrusteeUserID: bob, ProjectID: p, Impersonation: true, AllowRedelegation: true, ExpiresAt: &end}, []identity.NameRef{{Name: "member"}})
	require.NoError(t, err)
	take := byPassword(bob, "pw-bob")
	take.TrustID = first.ID
	token, info, err := c.try(take)
	require.NoError(t, err)
	require.Equal(t, alice, info.User.ID)
	widen := func(change func(*identity.Trust), role string) (identity.Trust, []identity.NameRef, string) {
		tr := identity.Trust{TrustorUserID: alice, TrusteeUserID: carol, ProjectID: p, Impersonation: true}
		change(&tr)
		body := map[string]any{"trustor_user_id": tr.TrustorUserID, "trustee_user_id": tr.TrusteeUserID, "project_id": tr.ProjectID, "impersonation": true, "roles": []any{map[string]any{"name": role}}}
		if tr.ExpiresAt != nil {
			body["expires_at"] = tr.ExpiresAt.Format(time.RFC3339)
		}
		b, err := json.Marshal(map[string]any{"trust": body})
		require.NoError(t, err)
		return tr, []identity.NameRef{{Name: role}}, string(b)
	}
	late := end.Add(time.Hour)
	for name, wider := range map[string]struct {
		change func(*identity.Trust)
		role   string
	}{
		"another role":    {func(*identity.Trust) {}, "manager"},
		"a longer life":   {func(tr *identity.Trust) { tr.ExpiresAt = &late }, "member"},
		"another project": {func(tr *identity.Trust) { tr.ProjectID = q }, "member"},
		"in one's name":   {func(tr *identity.Trust) { tr.TrustorUserID = bob }, "member"},
	} {
		tr, roles, body := widen(wider.change, wider.role)
		_, err := c.svc.CreateTrust(c.as(token), tr, roles)
		require.ErrorIs(t, err, nacre.Forbidden, name)
		code, _, m := c.do("POST", "/v3/OS-TRUST/trusts", token, body)
		require.Equal(t, 403, code, "%s: %v", name, m)
	}
	tr, roles, body := widen(func(*identity.Trust) {}, "member")
	second, err := c.svc.CreateTrust(c.as(token), tr, roles)
	require.NoError(t, err)
	require.Equal(t, end, *second.ExpiresAt)
	_, _, m := c.do("POST", "/v3/OS-TRUST/trusts", token, body)
	require.Equal(t, first.ID, dig(m, "trust", "redelegated_trust_id"))
	require.NoError(t, c.svc.DeleteTrust(c.as(hers), first.ID))
	use := byPassword(carol, "pw-carol")
	use.TrustID = second.ID
	_, _, err = c.try(use)
	require.Error(t, err, "it ended with the one it came of")
	code, _, _ := c.do("POST", "/v3/auth/tokens", "", auth("carol", "pw-carol", `{"OS-TRUST:trust":{"id":"`+dig(m, "trust", "id").(string)+`"}}`))
	require.Contains(t, []int{401, 403, 404}, code)
}

// CVE-2014-2828, by what is counted: the tries of one request are one.
func repeatedMethodsAreTriedOnceInProcess(t *testing.T) {
	c := lockingCloud(t)
	alice, _ := c.person("alice", "member", c.project("p"))
	req := byPassword(alice, "guess")
	for range 5000 {
		req.Methods = append(req.Methods, "password")
	}
	_, _, err := c.try(req)
	require.ErrorIs(t, err, nacre.Unauthenticated)
	req.Password = "pw-alice"
	_, info, err := c.try(req)
	require.NoError(t, err, "a second wrong try would have locked her out")
	require.Equal(t, []string{"password"}, info.Methods)
}

// staff is a directory with one user.
type staff struct {
	identity.Directory
	user identity.DirectoryUser
}

func (s *staff) User(_ context.Context, id string) (identity.DirectoryUser, error) {
	if id != s.user.ID {
		return identity.DirectoryUser{}, nacre.NotFound
	}
	return s.user, nil
}

func (s *staff) UserByName(_ context.Context, name string) (identity.DirectoryUser, error) {
	if name != s.user.Name {
		return identity.DirectoryUser{}, nacre.NotFound
	}
	return s.user, nil
}

func (s *staff) Users(context.Context) ([]identity.DirectoryUser, error) {
	return []identity.DirectoryUser{s.user}, nil
}

func (s *staff) Authenticate(_ context.Context, id, pw string) (bool, error) {
	return id == s.user.ID && pw == "pw", nil
}

func (s *staff) GroupsOf(context.Context, string) ([]identity.DirectoryGroup, error) { return nil, nil }

// corporate is a cloud whose domains "corp" and "other" have directories.
func corporate(t *testing.T, corp, other *staff) (c *cloud, corpID, otherID string) {
	dirs := map[string]*staff{"corp": corp, "other": other}
	configs := map[string]domainconfig.Options{}
	for name := range dirs {
		configs[name] = domainconfig.Options{"identity": {"driver": "ldap"}, "ldap": {"url": name}}
	}
	c = federatedCloud(t, nil, api.FederationConfig{}, func(cfg *identity.Config) {
		cfg.DomainConfigs = configs
		cfg.OpenDirectory = func(_ context.Context, o domainconfig.Options) (identity.Directory, error) {
			return dirs[o["ldap"]["url"].(string)], nil
		}
	})
	domain := func(name string) string {
		d, err := c.svc.CreateDomain(nacre.AsService(t.Context(), "test"), identity.ProjectChange{Name: &name})
		require.NoError(t, err)
		return d.ID
	}
	return c, domain("corp"), domain("other")
}

// disabledInTheDirectory holds that who is disabled where users are kept has no way in, and
// what he had ends.
func disabledInTheDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alice := &staff{user: identity.DirectoryUser{ID: "a", Name: "alice", Enabled: true}}
		c, corp, _ := corporate(t, alice, &staff{user: identity.DirectoryUser{ID: "z", Name: "zoe"}})
		body := `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"alice","domain":{"id":"` + corp + `"},"password":"pw"}}}}}`
		req := identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{Name: "alice", Domain: identity.DomainRef{ID: corp}}, Password: "pw"}
		code, h, m := c.do("POST", "/v3/auth/tokens", "", body)
		require.Equal(t, 201, code, m)
		token, _, err := c.try(req)
		require.NoError(t, err)
		alice.user.Enabled = false
		code, _, _ = c.do("POST", "/v3/auth/tokens", "", body)
		require.Equal(t, 401, code)
		_, _, err = c.try(req)
		require.ErrorIs(t, err, nacre.Unauthenticated)
		time.Sleep(6 * time.Minute)
		_, err = c.svc.ValidateToken(t.Context(), token)
		require.ErrorIs(t, err, nacre.Unauthenticated)
		code, _, _ = c.do("GET", "/v3/auth/projects", h.Get("X-Subject-Token"), "")
		require.Equal(t, 401, code)
	})
}

// idsOfDirectoriesAreApart holds that users who have the same id in two directories, or
// one of somebody here, are others.
func idsOfDirectoriesAreApart(t *testing.T) {
	alice, zoe := &staff{user: identity.DirectoryUser{ID: "a", Name: "alice", Enabled: true}}, &staff{user: identity.DirectoryUser{ID: "a", Name: "alice", Enabled: true}}
	c, corp, other := corporate(t, alice, zoe)
	ids := map[string]bool{}
	who := func(domain string) string {
		_, info, err := c.try(identity.AuthRequest{Methods: []string{"password"}, User: identity.NameRef{Name: "alice", Domain: identity.DomainRef{ID: domain}}, Password: "pw"})
		require.NoError(t, err)
		ids[info.User.ID] = true
		return info.User.ID
	}
	who(corp)
	who(other)
	require.Len(t, ids, 2)
	alice.user.ID = c.ids.UserID
	require.NotEqual(t, c.ids.UserID, who(corp))
	require.Len(t, ids, 3)
	_, _, err := c.try(byPassword(c.ids.UserID, "pw"))
	require.ErrorIs(t, err, nacre.Unauthenticated)
}
