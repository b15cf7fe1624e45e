package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/domains"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

const base = "http://cloud/identity"

// cloud is the API below /identity, without a socket.
type cloud struct {
	t   testing.TB
	svc *identity.Service
	h   http.Handler
	ids identity.Bootstrapped
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), identity.Schema(), true))
	svc, err := identity.New(identity.Config{Engine: e, BcryptCost: 4})
	require.NoError(t, err)
	services := []identity.BootstrapService{{Type: "identity", Name: "keystone", Public: base, Internal: base, Admin: base}}
	for _, typ := range []string{"image", "compute", "placement", "network"} {
		u := "http://cloud/" + typ
		services = append(services, identity.BootstrapService{Type: typ, Name: typ, Public: u, Internal: u, Admin: u})
	}
	ids, err := svc.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret", Services: services})
	require.NoError(t, err)
	return &cloud{t, svc, rest.Mount("/identity", api.New(svc, api.Config{})), ids}
}

// client logs in with gophercloud.
func (c *cloud) client(o gophercloud.AuthOptions) (*gophercloud.ServiceClient, error) {
	c.t.Helper()
	o.IdentityEndpoint = base + "/v3"
	p, err := openstack.NewClient(o.IdentityEndpoint)
	require.NoError(c.t, err)
	p.HTTPClient = http.Client{Transport: rest.Transport(c.h)}
	if err := openstack.Authenticate(c.t.Context(), p, o); err != nil {
		return nil, err
	}
	if p.TokenID != "" && o.TenantName+o.TenantID == "" {
		// An unscoped token has no catalog to find the endpoint in.
		return &gophercloud.ServiceClient{ProviderClient: p, Endpoint: o.IdentityEndpoint + "/"}, nil
	}
	return openstack.NewIdentityV3(p, gophercloud.EndpointOpts{Region: "RegionOne"})
}

func (c *cloud) admin() *gophercloud.ServiceClient {
	c.t.Helper()
	cl, err := c.client(gophercloud.AuthOptions{Username: "admin", Password: "secret", DomainName: "Default", TenantName: "admin"})
	require.NoError(c.t, err)
	return cl
}

// do sends a request and returns status, headers and decoded body.
func (c *cloud) do(method, path, token, body string, headers ...string) (int, http.Header, map[string]any) {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.t.Context(), method, base+path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	var m map[string]any
	if w.Body.Len() > 0 {
		require.NoError(c.t, json.Unmarshal(w.Body.Bytes(), &m), w.Body.String())
	}
	return w.Code, w.Header(), m
}

func (c *cloud) fails(code int, message, method, path, token, body string, headers ...string) {
	c.t.Helper()
	got, _, m := c.do(method, path, token, body, headers...)
	require.Equal(c.t, code, got, m)
	e, ok := m["error"].(map[string]any)
	require.True(c.t, ok, m)
	require.Equal(c.t, float64(code), e["code"])
	require.Equal(c.t, http.StatusText(code), e["title"])
	require.Contains(c.t, e["message"], message)
}

func TestVersions(t *testing.T) {
	c := newCloud(t)
	code, h, m := c.do("GET", "/", "", "")
	require.Equal(t, 300, code)
	require.Equal(t, base+"/v3/", h.Get("Location"))
	v := m["versions"].(map[string]any)["values"].([]any)[0].(map[string]any)
	require.Equal(t, "v3.14", v["id"])
	require.Equal(t, base+"/v3/", v["links"].([]any)[0].(map[string]any)["href"])
	for _, path := range []string{"/v3", "/v3/"} {
		code, _, m = c.do("GET", path, "", "")
		require.Equal(t, 200, code)
		require.Equal(t, "stable", m["version"].(map[string]any)["status"])
	}
}

func auth(user, password, scope string) string {
	if scope != "" {
		scope = `,"scope":` + scope
	}
	return `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"` + user + `","domain":{"id":"default"},"password":"` + password + `"}}}` + scope + `}}`
}

const onAdmin = `{"project":{"name":"admin","domain":{"id":"default"}}}`

func TestAuthentication(t *testing.T) {
	c := newCloud(t)
	code, h, m := c.do("POST", "/v3/auth/tokens", "", auth("admin", "secret", onAdmin))
	require.Equal(t, 201, code)
	require.Equal(t, "X-Auth-Token", h.Get("Vary"))
	token := h.Get("X-Subject-Token")
	body := m["token"].(map[string]any)
	require.Equal(t, []any{"password"}, body["methods"])
	require.Equal(t, map[string]any{"id": c.ids.UserID, "name": "admin", "domain": map[string]any{"id": "default", "name": "Default"}, "password_expires_at": nil}, body["user"])
	require.Equal(t, false, body["is_domain"])
	require.Len(t, body["catalog"], 5)
	require.Len(t, body["roles"], 4)
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000000Z$`, body["expires_at"])

	code, _, shown := c.do("GET", "/v3/auth/tokens", token, "", "X-Subject-Token", token)
	require.Equal(t, 200, code)
	require.Equal(t, m, shown, "a token is shown as it was given")
	_, _, again := c.do("GET", "/v3/auth/tokens", token, "", "X-Subject-Token", token)
	require.Equal(t, m, again)
	_, _, bare := c.do("GET", "/v3/auth/tokens?nocatalog", token, "", "X-Subject-Token", token)
	require.NotContains(t, bare["token"], "catalog")
	code, _, m = c.do("HEAD", "/v3/auth/tokens", token, "", "X-Subject-Token", token)
	require.Equal(t, 200, code)
	require.Nil(t, m)

	const need = "The request you have made requires authentication."
	c.fails(401, need, "POST", "/v3/auth/tokens", "", auth("admin", "wrong", onAdmin))
	c.fails(401, need, "POST", "/v3/auth/tokens", "", auth("nobody", "secret", onAdmin))
	c.fails(401, need, "POST", "/v3/auth/tokens", "", auth("admin", "secret", `{"project":{"id":"none"}}`))
	c.fails(401, need, "GET", "/v3/auth/tokens", "", "", "X-Subject-Token", token)
	c.fails(401, need, "GET", "/v3/auth/tokens", "bad", "", "X-Subject-Token", token)
	c.fails(401, need, "GET", "/v3/users", "bad", "")
	c.fails(404, "", "GET", "/v3/auth/tokens", token, "", "X-Subject-Token", "bad")
	c.fails(404, "", "GET", "/v3/auth/tokens", token, "")
	c.fails(401, "unsupported method", "POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["magic"],"magic":{}}}}`)
	for _, wrong := range []string{``, `{}`, `{"auth":{}}`, `{"auth":{"identity":{}}}`, `{"auth":{"identity":{"methods":[]}}}`, `[]`, `{"auth":`,
		`{"auth":{"identity":{"methods":["password"]}}}`, `{"auth":{"identity":{"methods":"password"}}}`,
		`{"auth":{"identity":{"methods":["password"],"password":{"user":{"password":"x"}}}}}`,
		`{"auth":{"identity":{"methods":["token"],"token":{}}}}`, auth("admin", "secret", `{"project":{}}`), auth("admin", "secret", `17`),
		auth("admin", "secret", `{"project":{"name":"admin"}}`), auth("admin", "secret", `{"domain":{"id":"default"},"system":{"all":true}}`)} {
		c.fails(400, "", "POST", "/v3/auth/tokens", "", wrong)
	}
	c.fails(413, "", "POST", "/v3/auth/tokens", "", `{"x":"`+strings.Repeat("x", 200<<10)+`"}`)

	code, _, m = c.do("POST", "/v3/auth/tokens", "", auth("admin", "secret", `"unscoped"`))
	require.Equal(t, 201, code)
	require.NotContains(t, m["token"], "catalog")
	require.NotContains(t, m["token"], "roles")
	code, _, m = c.do("POST", "/v3/auth/tokens", "", auth("admin", "secret", `{"system":{"all":true}}`))
	require.Equal(t, 201, code)
	require.Equal(t, map[string]any{"all": true}, m["token"].(map[string]any)["system"])

	code, _, _ = c.do("DELETE", "/v3/auth/tokens", token, "", "X-Subject-Token", token)
	require.Equal(t, 204, code)
	c.fails(401, need, "GET", "/v3/users", token, "")
}

func TestUsersThroughGophercloud(t *testing.T) {
	c, ctx := newCloud(t), t.Context()
	cl := c.admin()
	u, err := users.Create(ctx, cl, users.CreateOpts{Name: "alice", Password: "pw", Description: "first", Extra: map[string]any{"email": "a@x"}}).Extract()
	require.NoError(t, err)
	require.Len(t, u.ID, 32)
	require.True(t, u.Enabled)
	require.Equal(t, "default", u.DomainID)
	require.Equal(t, "first", u.Description)
	require.Equal(t, "a@x", u.Extra["email"])
	require.Equal(t, base+"/v3/users/"+u.ID, u.Links["self"])
	u, err = users.Update(ctx, cl, u.ID, users.UpdateOpts{Name: "alicia", Extra: map[string]any{"shoe": "38"}}).Extract()
	require.NoError(t, err)
	require.Equal(t, "alicia", u.Name)
	require.Equal(t, "a@x", u.Extra["email"], "what a change does not name stays")
	require.Equal(t, "38", u.Extra["shoe"])
	pages, err := users.List(cl, users.ListOpts{Filters: map[string]string{"name__contains": "lici"}}).AllPages(ctx)
	require.NoError(t, err)
	list, err := users.ExtractUsers(pages)
	require.NoError(t, err)
	require.Len(t, list, 1)

	_, err = c.client(gophercloud.AuthOptions{UserID: u.ID, Password: "pw"})
	require.NoError(t, err)
	require.NoError(t, users.ChangePassword(ctx, cl, u.ID, users.ChangePasswordOpts{OriginalPassword: "pw", Password: "pw2"}).ExtractErr())
	_, err = c.client(gophercloud.AuthOptions{UserID: u.ID, Password: "pw"})
	require.True(t, gophercloud.ResponseCodeIs(err, 401), err)
	_, err = c.client(gophercloud.AuthOptions{UserID: u.ID, Password: "pw2"})
	require.NoError(t, err)

	g, err := groups.Create(ctx, cl, groups.CreateOpts{Name: "g"}).Extract()
	require.NoError(t, err)
	require.NoError(t, users.AddToGroup(ctx, cl, g.ID, u.ID).ExtractErr())
	in, err := users.IsMemberOfGroup(ctx, cl, g.ID, u.ID).Extract()
	require.NoError(t, err)
	require.True(t, in)
	require.NoError(t, users.RemoveFromGroup(ctx, cl, g.ID, u.ID).ExtractErr())
	in, err = users.IsMemberOfGroup(ctx, cl, g.ID, u.ID).Extract()
	require.NoError(t, err)
	require.False(t, in)
	require.NoError(t, users.Delete(ctx, cl, u.ID).ExtractErr())
	require.True(t, gophercloud.ResponseCodeIs(users.Get(ctx, cl, u.ID).Err, 404))
}

func TestProjectsThroughGophercloud(t *testing.T) {
	c, ctx := newCloud(t), t.Context()
	cl := c.admin()
	d, err := domains.Create(ctx, cl, domains.CreateOpts{Name: "d"}).Extract()
	require.NoError(t, err)
	p, err := projects.Create(ctx, cl, projects.CreateOpts{Name: "p", DomainID: d.ID, Tags: []string{"red"}}).Extract()
	require.NoError(t, err)
	require.Equal(t, d.ID, p.ParentID)
	child, err := projects.Create(ctx, cl, projects.CreateOpts{Name: "c", ParentID: p.ID}).Extract()
	require.NoError(t, err)
	require.Equal(t, d.ID, child.DomainID)
	require.True(t, gophercloud.ResponseCodeIs(projects.Delete(ctx, cl, p.ID).Err, 403))
	require.True(t, gophercloud.ResponseCodeIs(domains.Delete(ctx, cl, d.ID).Err, 403))
	_, _, m := c.do("GET", "/v3/projects/"+child.ID+"?parents_as_ids", cl.Token(), "")
	require.Equal(t, map[string]any{p.ID: map[string]any{d.ID: nil}}, m["project"].(map[string]any)["parents"])
	_, _, m = c.do("GET", "/v3/projects/"+p.ID+"?subtree_as_ids", cl.Token(), "")
	require.Equal(t, map[string]any{child.ID: nil}, m["project"].(map[string]any)["subtree"])
	off := false
	_, err = domains.Update(ctx, cl, d.ID, domains.UpdateOpts{Enabled: &off}).Extract()
	require.NoError(t, err)
	require.NoError(t, domains.Delete(ctx, cl, d.ID).ExtractErr())
	require.True(t, gophercloud.ResponseCodeIs(projects.Get(ctx, cl, child.ID).Err, 404))
}

func TestMemberSeesItsOwn(t *testing.T) {
	c, ctx := newCloud(t), t.Context()
	cl := c.admin()
	p, err := projects.Create(ctx, cl, projects.CreateOpts{Name: "demo"}).Extract()
	require.NoError(t, err)
	u, err := users.Create(ctx, cl, users.CreateOpts{Name: "demo", Password: "pw"}).Extract()
	require.NoError(t, err)
	require.NoError(t, roles.Assign(ctx, cl, c.ids.Roles["member"], roles.AssignOpts{UserID: u.ID, ProjectID: p.ID}).ExtractErr())
	me, err := c.client(gophercloud.AuthOptions{Username: "demo", Password: "pw", DomainID: "default", TenantID: p.ID})
	require.NoError(t, err)
	require.NoError(t, projects.Get(ctx, me, p.ID).Err)
	require.True(t, gophercloud.ResponseCodeIs(projects.Get(ctx, me, c.ids.ProjectID).Err, 403))
	_, err = users.List(me, nil).AllPages(ctx)
	require.True(t, gophercloud.ResponseCodeIs(err, 403), err)
	got, err := tokens.Get(ctx, me, me.Token()).ExtractProject()
	require.NoError(t, err)
	require.Equal(t, "demo", got.Name)
	c.fails(403, "identity:validate_token", "GET", "/v3/auth/tokens", me.Token(), "", "X-Subject-Token", cl.Token())

	app, err := applicationcredentials.Create(ctx, me, u.ID, applicationcredentials.CreateOpts{Name: "robot"}).Extract()
	require.NoError(t, err)
	robot, err := c.client(gophercloud.AuthOptions{ApplicationCredentialID: app.ID, ApplicationCredentialSecret: app.Secret})
	require.NoError(t, err)
	require.NoError(t, projects.Get(ctx, robot, p.ID).Err)
	_, _, m := c.do("GET", "/v3/auth/tokens", robot.Token(), "", "X-Subject-Token", robot.Token())
	require.Equal(t, map[string]any{"id": app.ID, "name": "robot", "restricted": true}, m["token"].(map[string]any)["application_credential"])
}

func TestAssignmentsWithNames(t *testing.T) {
	c := newCloud(t)
	token := c.admin().Token()
	_, _, m := c.do("GET", "/v3/role_assignments?include_names&user.id="+c.ids.UserID+"&scope.project.id="+c.ids.ProjectID, token, "")
	list := m["role_assignments"].([]any)
	require.Len(t, list, 1)
	require.Equal(t, map[string]any{
		"role":  map[string]any{"id": c.ids.Roles["admin"], "name": "admin"},
		"user":  map[string]any{"id": c.ids.UserID, "name": "admin", "domain": map[string]any{"id": "default", "name": "Default"}},
		"scope": map[string]any{"project": map[string]any{"id": c.ids.ProjectID, "name": "admin", "domain": map[string]any{"id": "default", "name": "Default"}}},
		"links": map[string]any{"assignment": base + "/v3/projects/" + c.ids.ProjectID + "/users/" + c.ids.UserID + "/roles/" + c.ids.Roles["admin"]},
	}, list[0])
	_, _, m = c.do("GET", "/v3/role_assignments?effective=true&scope.system=all", token, "")
	require.Len(t, m["role_assignments"], 4, "admin with all that it implies")
	_, _, m = c.do("GET", "/v3/role_inferences", token, "")
	require.Len(t, m["role_inferences"], 3)
}

func TestPaging(t *testing.T) {
	c := newCloud(t)
	token := c.admin().Token()
	path, seen := "/v3/roles?limit=2&sort_key=name", 0
	for path != "" {
		_, _, m := c.do("GET", path, token, "")
		seen += len(m["roles"].([]any))
		next, _ := m["links"].(map[string]any)["next"].(string)
		path = strings.TrimPrefix(next, base)
	}
	require.Equal(t, 5, seen)
	c.fails(404, "Marker x could not be found.", "GET", "/v3/roles?marker=x", token, "")
	c.fails(400, "", "GET", "/v3/roles?limit=x", token, "")
}

func TestBadInput(t *testing.T) {
	c := newCloud(t)
	token := c.admin().Token()
	c.fails(400, "'name' is a required property", "POST", "/v3/users", token, `{"user":{}}`)
	c.fails(400, "17 is not of type 'string'", "POST", "/v3/users", token, `{"user":{"name":17}}`)
	c.fails(400, "'user' is a required property", "POST", "/v3/users", token, `{"users":{}}`)
	c.fails(400, "Expecting to find valid JSON in request body", "POST", "/v3/users", token, `{`)
	c.fails(400, "Cannot change user ID", "PATCH", "/v3/users/"+c.ids.UserID, token, `{"user":{"id":"x"}}`)
	c.fails(404, "Could not find user: x.", "GET", "/v3/users/x", token, "")
	c.fails(404, "Could not find domain: x.", "POST", "/v3/users", token, `{"user":{"name":"a","domain_id":"x"}}`)
	c.fails(409, "Duplicate entry found with name admin at domain ID default.", "POST", "/v3/users", token, `{"user":{"name":"admin"}}`)
	c.fails(404, "", "GET", "/v3/OS-NOTHING/things", token, "")
	c.fails(403, "Unable to delete immutable role resource", "DELETE", "/v3/roles/"+c.ids.Roles["admin"], token, "")
}

// Every list stays within the statements that its route declares.
func TestStatements(t *testing.T) {
	c := newCloud(t)
	cl := c.admin()
	for i := range 20 {
		_, err := users.Create(t.Context(), cl, users.CreateOpts{Name: "u" + string(rune('a'+i))}).Extract()
		require.NoError(t, err)
	}
	for _, path := range []string{"/v3/users", "/v3/projects?tags=a,b", "/v3/domains", "/v3/groups", "/v3/roles", "/v3/services", "/v3/endpoints", "/v3/regions", "/v3/users/" + c.ids.UserID + "/groups"} {
		ctx, n := store.CountStatements(context.Background())
		r := httptest.NewRequestWithContext(ctx, "GET", base+path, nil)
		r.Header.Set("X-Auth-Token", cl.Token())
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code)
		require.LessOrEqual(t, n.Load(), int64(3), path)
	}
}

func TestOperations(t *testing.T) {
	rules := map[string]bool{}
	for _, r := range identity.Rules() {
		rules[r.Name] = true
	}
	for _, o := range api.Operations() {
		for _, p := range o.Policies {
			require.True(t, rules[p], "%s %s names %s", o.Method, o.Path, p)
		}
	}
	require.Greater(t, len(api.Operations()), 100)
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func BenchmarkValidateOverHandler(b *testing.B) {
	c := newCloud(b)
	token := c.admin().Token()
	r := httptest.NewRequest("GET", base+"/v3/auth/tokens", nil)
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("X-Subject-Token", token)
	b.ReportAllocs()
	for b.Loop() {
		c.h.ServeHTTP(discard{http.Header{}}, r)
	}
}
