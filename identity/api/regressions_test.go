package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// What TestAdvisories tries over HTTP; the number stands beside what had one.

// person makes a user with a role on a project, and logs it in.
func (c *cloud) person(name, role, project string) (id, token string) {
	c.t.Helper()
	root := nacre.AsService(c.t.Context(), "test")
	pw := "pw-" + name
	u, err := c.svc.CreateUser(root, identity.UserChange{Name: &name, Password: &pw})
	require.NoError(c.t, err)
	require.NoError(c.t, c.svc.Assignments.CreateGrant(root, assignment.Grant{UserID: u.ID, ProjectID: project, RoleID: c.ids.Roles[role]}))
	return u.ID, c.enter(name, pw, project)
}

func (c *cloud) enter(name, pw, project string) string {
	c.t.Helper()
	code, h, m := c.do("POST", "/v3/auth/tokens", "", auth(name, pw, `{"project":{"id":"`+project+`"}}`))
	require.Equal(c.t, 201, code, m)
	return h.Get("X-Subject-Token")
}

func (c *cloud) root() string { return c.enter("admin", "secret", c.ids.ProjectID) }

func (c *cloud) project(name string) string {
	c.t.Helper()
	p, err := c.svc.CreateProject(nacre.AsService(c.t.Context(), "test"), identity.ProjectChange{Name: &name})
	require.NoError(c.t, err)
	return p.ID
}

func inner(m map[string]any, path ...string) any {
	var v any = m
	for _, k := range path {
		v = v.(map[string]any)[k]
	}
	return v
}

// OSSA-2020-003, -004, -005: an EC2 credential is bound to what made it, and
// can't be moved to another owner or project.
func ec2CredentialsStayInBounds(t *testing.T) {
	c := newCloud(t)
	p, q := c.project("p"), c.project("q")
	alice, token := c.person("alice", "manager", p)
	require.NoError(t, c.svc.Assignments.CreateGrant(nacre.AsService(t.Context(), "test"), assignment.Grant{UserID: alice, ProjectID: q, RoleID: c.ids.Roles["member"]}))
	bob, _ := c.person("bob", "member", p)
	code, _, m := c.do("POST", "/v3/users/"+alice+"/application_credentials", token, `{"application_credential":{"name":"a","unrestricted":true,"roles":[{"name":"member"}]}}`)
	require.Equal(t, 201, code, m)
	app := inner(m, "application_credential").(map[string]any)
	_, h, _ := c.do("POST", "/v3/auth/tokens", "", fmt.Sprintf(`{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":%q,"secret":%q}}}}`, app["id"], app["secret"]))
	robot := h.Get("X-Subject-Token")
	code, _, _ = c.do("POST", "/v3/users/"+alice+"/credentials/OS-EC2", robot, `{"tenant_id":"`+q+`"}`)
	require.Equal(t, 403, code, "another project's")
	code, _, m = c.do("POST", "/v3/users/"+alice+"/credentials/OS-EC2", robot, `{"tenant_id":"`+p+`"}`)
	require.Equal(t, 201, code, m)
	access := inner(m, "credential", "access").(string)
	_, _, m = c.do("GET", "/v3/credentials?type=ec2", token, "")
	var id string
	for _, v := range m["credentials"].([]any) {
		if strings.Contains(v.(map[string]any)["blob"].(string), access) {
			id = v.(map[string]any)["id"].(string)
		}
	}
	require.NotEmpty(t, id)
	for _, change := range []string{`{"user_id":"` + bob + `"}`, `{"blob":"{\"access\":\"` + access + `\",\"secret\":\"s\"}"}`, `{"blob":"{\"access\":\"` + access + `\",\"secret\":\"s\",\"app_cred_id\":\"other\"}"}`} {
		code, _, m = c.do("PATCH", "/v3/credentials/"+id, token, `{"credential":`+change+`}`)
		require.Contains(t, []int{400, 403}, code, "%s: %v", change, m)
	}
}

// OSSA-2019-006: who lists credentials sees their own.
func credentialListIsOnesOwn(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	alice, hers := c.person("alice", "member", p)
	_, his := c.person("bob", "member", p)
	code, _, _ := c.do("POST", "/v3/credentials", hers, `{"credential":{"type":"cert","blob":"hers","user_id":"`+alice+`"}}`)
	require.Equal(t, 201, code)
	for _, path := range []string{"/v3/credentials", "/v3/credentials?user_id=" + alice, "/v3/credentials?type=cert"} {
		_, _, m := c.do("GET", path, his, "")
		require.Empty(t, m["credentials"], path)
	}
	_, _, m := c.do("GET", "/v3/credentials", hers, "")
	require.Len(t, m["credentials"], 1)
}

// OSSA-2021-003: a locked user, an unknown one and a wrong password get one answer.
func lockoutIsNotTold(t *testing.T) {
	c := lockingCloud(t)
	p := c.project("p")
	c.person("alice", "member", p)
	_, _, unknown := c.do("POST", "/v3/auth/tokens", "", auth("nobody", "guess", ""))
	for i := range 6 {
		pw := "guess"
		if i > 3 {
			pw = "pw-alice"
		}
		code, _, m := c.do("POST", "/v3/auth/tokens", "", auth("alice", pw, ""))
		require.Equal(t, 401, code)
		require.Equal(t, unknown, m, "try %d", i)
	}
}

// OSSA-2025-002: signatures are checked for services alone.
func signaturesAreForServices(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	alice, token := c.person("alice", "member", p)
	_, _, m := c.do("POST", "/v3/users/"+alice+"/credentials/OS-EC2", token, `{"tenant_id":"`+p+`"}`)
	access := inner(m, "credential", "access").(string)
	for _, path := range []string{"/v3/ec2tokens", "/v3/s3tokens"} {
		body := `{"credentials":{"access":"` + access + `","signature":"x","token":"dA==","params":{},"headers":{}}}`
		code, _, _ := c.do("POST", path, "", body)
		require.Equal(t, 401, code, "%s without a token", path)
		code, _, _ = c.do("POST", path, token, body)
		require.Equal(t, 403, code, "%s by a user", path)
		code, _, _ = c.do("POST", path, c.root(), body)
		require.Equal(t, 401, code, "%s with a wrong signature", path)
	}
}

// OSSA-2014-031 and CVE-2014-3621: an endpoint's URL is filled in from the names
// that are for that, and from nothing else.
func endpointURLTellsNothing(t *testing.T) {
	c := newCloud(t)
	root := c.root()
	_, _, m := c.do("GET", "/v3/services", root, "")
	service := m["services"].([]any)[0].(map[string]any)["id"].(string)
	for _, u := range []string{"http://x/$(admin_token)s", "http://x/%(database.connection)s", "http://x/$(password)s", "http://x/%(user_id.__class__)s", "not a url", "", "/relative"} {
		code, _, m := c.do("POST", "/v3/endpoints", root, fmt.Sprintf(`{"endpoint":{"service_id":%q,"interface":"admin","url":%q}}`, service, u))
		require.Equal(t, 400, code, "%s: %v", u, m)
	}
}

// CVE-2014-2828: a method that is named a thousand times is tried once.
func repeatedMethodsAreTriedOnce(t *testing.T) {
	c := newCloud(t)
	many := strings.Repeat(`"password",`, 5000) + `"password"`
	code, _, m := c.do("POST", "/v3/auth/tokens", "", strings.Replace(auth("admin", "secret", ""), `"password"`, many, 1))
	require.Equal(t, 201, code)
	require.Equal(t, []any{"password"}, inner(m, "token", "methods"))
	code, _, _ = c.do("POST", "/v3/auth/tokens", "", strings.Replace(auth("admin", "wrong", ""), `"password"`, many, 1))
	require.Equal(t, 401, code)
}

// CVE-2013-2014: what is too large is refused before it is read.
func TestLargeRequestsAreRefused(t *testing.T) {
	c := newCloud(t)
	code, _, _ := c.do("POST", "/v3/auth/tokens", "", auth("admin", strings.Repeat("x", 200_000), ""))
	require.Equal(t, 413, code)
	code, _, _ = c.do("GET", "/v3/users", strings.Repeat("x", 100_000), "")
	require.Equal(t, 401, code)
}

// CVE-2012-3426 and CVE-2015-7546: a token that ended makes no other, however it
// is spelled, and what was made from it before goes with its user.
func revokedTokensMakeNoOthers(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	alice, first := c.person("alice", "member", p)
	byToken := func(token string) (int, string) {
		code, h, _ := c.do("POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+token+`"}},"scope":{"project":{"id":"`+p+`"}}}}`)
		return code, h.Get("X-Subject-Token")
	}
	code, second := byToken(first)
	require.Equal(t, 201, code)
	code, third := byToken(second)
	require.Equal(t, 201, code)
	code, _, _ = c.do("DELETE", "/v3/auth/tokens", second, "", "X-Subject-Token", second)
	require.Equal(t, 204, code)
	for _, spelled := range []string{second, second + "=", second + "==", " " + second} {
		code, _ = byToken(spelled)
		require.Equal(t, 404, code)
		code, _, _ = c.do("GET", "/v3/auth/tokens", c.root(), "", "X-Subject-Token", spelled)
		require.Equal(t, 404, code)
	}
	code, _, _ = c.do("GET", "/v3/auth/projects", third, "")
	require.Equal(t, 200, code)
	code, _, m := c.do("POST", "/v3/users/"+alice+"/password", "", `{"user":{"original_password":"pw-alice","password":"new"}}`)
	require.Equal(t, 204, code, m)
	for _, token := range []string{first, third} {
		code, _, _ = c.do("GET", "/v3/auth/projects", token, "")
		require.Equal(t, 401, code, "the chain ends with the password")
	}
}

// CVE-2018-14432: who asks for projects gets those where they have a role.
func projectsOfOthersAreNotListed(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	c.project("secret")
	_, token := c.person("alice", "member", p)
	for _, path := range []string{"/v3/auth/projects", "/v3/OS-FEDERATION/projects"} {
		code, _, m := c.do("GET", path, token, "")
		require.Equal(t, 200, code)
		require.Len(t, m["projects"], 1, path)
	}
}

// Ids are not the client's to choose: nobody becomes somebody else by a name that
// looks like an id, or by an id in a body.
func idsAreNotChosen(t *testing.T) {
	c := newCloud(t)
	root := c.root()
	code, _, m := c.do("POST", "/v3/users", root, `{"user":{"name":"`+c.ids.UserID+`","domain_id":"default","id":"`+c.ids.UserID+`","password":"x"}}`)
	require.Equal(t, 201, code, m)
	require.NotEqual(t, c.ids.UserID, inner(m, "user", "id"))
	code, _, _ = c.do("POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"id":"`+c.ids.UserID+`","password":"x"}}}}}`)
	require.Equal(t, 401, code)
}

// lines is a log that is looked at afterwards.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

// CVE-2015-3646 and its like: no password, token or secret reaches the log, at any
// level, in success or failure.
func nothingSecretIsLogged(t *testing.T) {
	var out lines
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug - 10}))
	e := memstore.New(memstore.Options{})
	defer func() { require.NoError(t, e.Close()) }()
	require.NoError(t, e.Migrate(t.Context(), identity.Schema(), true))
	keys := fernet.Memory()
	rules, err := policy.New(policy.Config{Area: "identity", Rules: identity.Rules(), EnforceScope: true, EnforceNewDefaults: true})
	require.NoError(t, err)
	svc, err := identity.New(identity.Config{Engine: e, Keys: keys, CredentialKeys: keys, BcryptCost: 4, Log: log, Policy: broken{rules}})
	require.NoError(t, err)
	ids, err := svc.Bootstrap(t.Context(), identity.Bootstrap{Password: "bootSECRET"})
	require.NoError(t, err)
	c := &cloud{t, svc, rest.Mount("/identity", api.New(svc, api.Config{Log: log})), ids}
	token := c.enter("admin", "bootSECRET", ids.ProjectID)
	secrets := []string{"bootSECRET", token}
	for _, try := range [][3]string{
		{"POST", "/v3/auth/tokens", auth("admin", "wrongSECRET", "")}, {"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["token"],"token":{"id":"tokSECRET"}}}}`},
		{"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":"x","secret":"appSECRET"}}}}`},
		{"POST", "/v3/auth/tokens", `{"auth":{"identity":{"methods":["totp"],"totp":{"user":{"id":"x","passcode":"codeSECRET"}}}}}`},
		{"POST", "/v3/auth/tokens", `{"auth": brokenSECRET`}, {"POST", "/v3/users", `{"user":{"name":"n","password":"newSECRET"}}`}, {"POST", "/v3/users", `{"user":{"name":7,"password":"newSECRET"}}`},
		{"POST", "/v3/users/" + ids.UserID + "/password", `{"user":{"original_password":"oldSECRET","password":"newSECRET"}}`},
		{"POST", "/v3/credentials", `{"credential":{"type":"cert","blob":"blobSECRET"}}`}, {"POST", "/v3/credentials", `{"credential":{"type":"ec2","blob":"blobSECRET"}}`},
		{"POST", "/v3/s3tokens", `{"credentials":{"access":"a","signature":"sigSECRET","token":"dA=="}}`},
		{"PATCH", "/v3/users/" + ids.UserID, `{"user":{"password":"newSECRET"}}`},
	} {
		c.do(try[0], try[1], token, try[2], "X-Subject-Token", token)
	}
	ctx, secret, typ, blob := c.as(token), "newSECRET", "cert", "blobSECRET"
	for _, err := range []error{
		second(c.svc.Authenticate(t.Context(), byPassword(ids.UserID, "wrongSECRET"))), second(c.svc.Authenticate(t.Context(), byToken("tokSECRET", ""))),
		c.svc.ChangePassword(t.Context(), ids.UserID, "oldSECRET", secret), last(c.svc.UpdateUser(ctx, ids.UserID, identity.UserChange{Password: &secret})), last(c.svc.ValidateToken(t.Context(), "tokSECRET")),
		last(c.svc.Credentials.Create(ctx, credential.Change{Type: &typ, Blob: &blob})), last(c.svc.ValidateS3(ctx, "a", "sigSECRET", []byte("textSECRET"))), c.svc.RevokeToken(ctx, "tokSECRET"),
	} {
		if err != nil {
			require.NotContains(t, err.Error(), "SECRET", "nor is it in what a caller may log")
		}
	}
	require.NotEmpty(t, out.String(), "a failure is logged")
	require.NotContains(t, out.String(), "SECRET")
	for _, s := range secrets {
		require.NotContains(t, out.String(), s)
	}
}

func last[A any](_ A, err error) error { return err }

func second[A, B any](_ A, _ B, err error) error { return err }

// broken can't decide about changes of users.
type broken struct{ nacre.Enforcer }

func (b broken) Enforce(ctx context.Context, rule string, target nacre.Target) error {
	if rule == "identity:update_user" {
		return errors.New("the policy is broken")
	}
	return b.Enforcer.Enforce(ctx, rule, target)
}
