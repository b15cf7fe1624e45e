package api_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// must sends a request that succeeds with a status.
func (c *cloud) must(code int, method, path, token, body string) map[string]any {
	c.t.Helper()
	got, _, m := c.do(method, path, token, body)
	require.Equal(c.t, code, got, "%s %s: %v", method, path, m)
	return m
}

// endpoints makes a service with an endpoint of each interface.
func (c *cloud) endpoints(root, typ, region string) (service string, byInterface map[string]string) {
	c.t.Helper()
	service = inner(c.must(201, "POST", "/v3/services", root, `{"service":{"type":"`+typ+`"}}`), "service", "id").(string)
	byInterface = map[string]string{}
	for _, i := range []string{"public", "internal", "admin"} {
		m := c.must(201, "POST", "/v3/endpoints", root, `{"endpoint":{"service_id":"`+service+`","interface":"`+i+`","url":"http://`+typ+`.cloud/`+i+`","region":"`+region+`"}}`)
		byInterface[i] = inner(m, "endpoint", "id").(string)
	}
	return service, byInterface
}

func TestEndpointGroups(t *testing.T) {
	c := newCloud(t)
	root, p := c.root(), c.project("p")
	service, ends := c.endpoints(root, "volume", "Far")
	_, alice := c.person("alice", "member", p)
	catalog := func() (urls []string) {
		for _, entry := range c.must(200, "GET", "/v3/auth/catalog", alice, "")["catalog"].([]any) {
			for _, e := range entry.(map[string]any)["endpoints"].([]any) {
				urls = append(urls, e.(map[string]any)["url"].(string))
			}
		}
		return urls
	}
	all := catalog()
	require.Greater(t, len(all), 3)
	const groups = "/v3/OS-EP-FILTER/endpoint_groups"
	for _, bad := range []string{`{"name":"g"}`, `{"name":"g","filters":{}}`, `{"name":"g","filters":{"color":"red"}}`, `{"name":"g","filters":{"interface":"sideways"}}`, `{"filters":{"interface":"admin"}}`} {
		c.must(400, "POST", groups, root, `{"endpoint_group":`+bad+`}`)
	}
	m := c.must(201, "POST", groups, root, `{"endpoint_group":{"name":"g","description":"d","filters":{"interface":"admin","service_id":"`+service+`"}}}`)
	g := inner(m, "endpoint_group", "id").(string)
	at := groups + "/" + g
	require.Equal(t, base+at, inner(m, "endpoint_group", "links", "self"))
	require.Equal(t, m, c.must(200, "GET", at, root, ""))
	require.Len(t, c.must(200, "GET", groups+"?name=g", root, "")["endpoint_groups"], 1)
	require.Len(t, c.must(200, "GET", groups+"?name=other", root, "")["endpoint_groups"], 0)
	require.Len(t, c.must(200, "GET", at+"/endpoints", root, "")["endpoints"], 1)
	require.Empty(t, c.must(200, "GET", at+"/projects", root, "")["projects"])
	c.must(404, "GET", at+"/projects/"+p, root, "")
	c.must(204, "PUT", at+"/projects/"+p, root, "")
	c.must(409, "PUT", at+"/projects/"+p, root, "")
	require.Equal(t, g, inner(c.must(200, "GET", at+"/projects/"+p, root, ""), "project_endpoint_group", "endpoint_group_id"))
	require.Len(t, c.must(200, "GET", at+"/projects", root, "")["projects"], 1)
	require.Len(t, c.must(200, "GET", "/v3/OS-EP-FILTER/projects/"+p+"/endpoint_groups", root, "")["endpoint_groups"], 1)
	require.Equal(t, []string{"http://volume.cloud/admin"}, catalog(), "the project sees the group's endpoints alone")
	c.must(204, "PUT", "/v3/OS-EP-FILTER/projects/"+p+"/endpoints/"+ends["public"], root, "")
	c.must(409, "PUT", "/v3/OS-EP-FILTER/projects/"+p+"/endpoints/"+ends["public"], root, "")
	require.ElementsMatch(t, []string{"http://volume.cloud/admin", "http://volume.cloud/public"}, catalog())
	require.Len(t, c.must(200, "GET", "/v3/OS-EP-FILTER/projects/"+p+"/endpoints", root, "")["endpoints"], 2)
	m = c.must(200, "PATCH", at, root, `{"endpoint_group":{"filters":{"region_id":"Far"}}}`)
	require.Equal(t, map[string]any{"region_id": "Far"}, inner(m, "endpoint_group", "filters"), "filters are replaced")
	require.Len(t, catalog(), 3)
	c.must(204, "DELETE", at+"/projects/"+p, root, "")
	c.must(404, "DELETE", at+"/projects/"+p, root, "")
	c.must(204, "DELETE", "/v3/OS-EP-FILTER/projects/"+p+"/endpoints/"+ends["public"], root, "")
	require.Equal(t, all, catalog())
	c.must(204, "PUT", at+"/projects/"+p, root, "")
	c.must(204, "DELETE", at, root, "")
	c.must(404, "GET", at, root, "")
	require.Equal(t, all, catalog())
}

func TestEndpointPolicy(t *testing.T) {
	c := newCloud(t)
	root := c.root()
	c.must(201, "POST", "/v3/regions", root, `{"region":{"id":"Earth"}}`)
	c.must(201, "POST", "/v3/regions", root, `{"region":{"id":"Europe","parent_region_id":"Earth"}}`)
	service, ends := c.endpoints(root, "volume", "Europe")
	doc := func(blob string) string {
		return inner(c.must(201, "POST", "/v3/policies", root, `{"policy":{"type":"application/json","blob":"`+blob+`"}}`), "policy", "id").(string)
	}
	of := func() string {
		code, _, m := c.do("GET", "/v3/endpoints/"+ends["public"]+"/OS-ENDPOINT-POLICY/policy", root, "")
		if code == 404 {
			return ""
		}
		return inner(m, "policy", "blob").(string)
	}
	require.Empty(t, of())
	general, regional, special := doc("general"), doc("regional"), doc("special")
	path := func(doc, target string) string { return "/v3/policies/" + doc + "/OS-ENDPOINT-POLICY" + target }
	onService, onRegion, onEndpoint := "/services/"+service, "/services/"+service+"/regions/Earth", "/endpoints/"+ends["public"]
	for _, x := range []struct{ doc, target, want string }{{general, onService, "general"}, {regional, onRegion, "regional"}, {special, onEndpoint, "special"}} {
		c.must(404, "GET", path(x.doc, x.target), root, "")
		c.must(204, "PUT", path(x.doc, x.target), root, "")
		c.must(204, "GET", path(x.doc, x.target), root, "")
		require.Equal(t, x.want, of(), "the nearest counts")
	}
	require.Len(t, c.must(200, "GET", path(regional, "/endpoints"), root, "")["endpoints"], 3, "the region below is in it")
	require.Len(t, c.must(200, "GET", path(special, "/endpoints"), root, "")["endpoints"], 1)
	c.must(204, "PUT", path(general, onEndpoint), root, "")
	c.must(404, "GET", path(special, onEndpoint), root, "")
	require.Equal(t, "general", of(), "a target has one policy")
	c.must(204, "DELETE", path(general, onEndpoint), root, "")
	c.must(204, "DELETE", path(general, onEndpoint), root, "")
	require.Equal(t, "regional", of())
	c.must(204, "DELETE", "/v3/policies/"+regional, root, "")
	require.Equal(t, "general", of())
	c.must(404, "PUT", path("none", onService), root, "")
	c.must(404, "PUT", path(general, "/services/none"), root, "")
}

func TestRevocationEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		root, p := c.root(), c.project("p")
		alice, token := c.person("alice", "member", p)
		c.must(403, "GET", "/v3/OS-REVOKE/events", token, "")
		before := len(c.must(200, "GET", "/v3/OS-REVOKE/events", root, "")["events"].([]any))
		audit := inner(c.must2("GET", "/v3/auth/tokens", root, token), "token", "audit_ids").([]any)[0]
		c.must2("DELETE", "/v3/auth/tokens", root, token)
		time.Sleep(time.Second)
		mark := time.Now().UTC().Format(time.RFC3339)
		time.Sleep(time.Second)
		c.must(200, "PATCH", "/v3/users/"+alice, root, `{"user":{"enabled":false}}`)
		events := c.must(200, "GET", "/v3/OS-REVOKE/events", root, "")["events"].([]any)
		require.Len(t, events, before+2)
		require.Equal(t, audit, events[before].(map[string]any)["audit_id"])
		events = c.must(200, "GET", "/v3/OS-REVOKE/events?since="+mark, root, "")["events"].([]any)
		require.Len(t, events, 1)
		require.Equal(t, alice, events[0].(map[string]any)["user_id"])
		require.Regexp(t, `\.\d{6}Z$`, events[0].(map[string]any)["issued_before"])
		c.must(400, "GET", "/v3/OS-REVOKE/events?since=yesterday", root, "")
		for _, path := range []string{"/v3/OS-SIMPLE-CERT/ca", "/v3/OS-SIMPLE-CERT/certificates", "/v3/auth/tokens/OS-PKI/revoked"} {
			c.must(410, "GET", path, "", "")
		}
	})
}

// must2 is about a token.
func (c *cloud) must2(method, path, token, subject string) map[string]any {
	c.t.Helper()
	code, _, m := c.do(method, path, token, "", "X-Subject-Token", subject)
	require.Less(c.t, code, 300, m)
	return m
}

func TestStrictLimits(t *testing.T) {
	e := memstore.New(memstore.Options{})
	defer func() { require.NoError(t, e.Close()) }()
	require.NoError(t, e.Migrate(t.Context(), identity.Schema(), true))
	_, err := identity.New(identity.Config{Engine: e, LimitModel: "loose"})
	require.ErrorContains(t, err, "LimitModel")
	svc, err := identity.New(identity.Config{Engine: e, BcryptCost: 4, LimitModel: limit.Strict})
	require.NoError(t, err)
	ids, err := svc.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret", Services: []identity.BootstrapService{{Type: "compute", Name: "nova"}}})
	require.NoError(t, err)
	c := &cloud{t, svc, rest.Mount("/identity", api.New(svc, api.Config{})), ids}
	root, p := c.root(), c.project("p")
	require.Equal(t, "strict_two_level", inner(c.must(200, "GET", "/v3/limits/model", root, ""), "model", "name"))
	c.must(403, "POST", "/v3/projects", root, `{"project":{"name":"deep","parent_id":"`+p+`"}}`)
	_, _, m := c.do("GET", "/v3/services", root, "")
	service := m["services"].([]any)[0].(map[string]any)["id"].(string)
	limit := func(who, id, n string) string {
		return `{"service_id":"` + service + `","resource_name":"cores","` + who + `":"` + id + `","resource_limit":` + n + `}`
	}
	c.must(201, "POST", "/v3/registered_limits", root, `{"registered_limits":[{"service_id":"`+service+`","resource_name":"cores","default_limit":10}]}`)
	c.must(403, "POST", "/v3/limits", root, `{"limits":[`+limit("project_id", p, "11")+`]}`)
	c.must(403, "POST", "/v3/limits", root, `{"limits":[`+limit("project_id", p, "-1")+`]}`)
	m = c.must(201, "POST", "/v3/limits", root, `{"limits":[`+limit("project_id", p, "30")+`,`+limit("domain_id", "default", "30")+`]}`)
	var mine, domains string
	for _, l := range m["limits"].([]any) {
		if v := l.(map[string]any); v["project_id"] == p {
			mine = v["id"].(string)
		} else {
			domains = v["id"].(string)
		}
	}
	set := func(code int, id, n string) {
		t.Helper()
		c.must(code, "PATCH", "/v3/limits/"+id, root, `{"limit":{"resource_limit":`+n+`}}`)
	}
	set(403, mine, "31")
	set(403, domains, "29")
	set(200, domains, "40")
	set(200, mine, "31")
	set(200, domains, "-1")
	set(200, mine, "1000")
	require.Equal(t, 1000.0, inner(c.must(200, "GET", "/v3/limits/"+mine, root, ""), "limit", "resource_limit"), "what was refused had no effect")
}

func TestOAuth2Token(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	alice, token := c.person("alice", "member", p)
	app := inner(c.must(201, "POST", "/v3/users/"+alice+"/application_credentials", token, `{"application_credential":{"name":"client"}}`), "application_credential").(map[string]any)
	ask := func(form, user, pw string) (int, map[string]any) {
		r := httptest.NewRequest("POST", base+"/v3/OS-OAUTH2/token", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if user != "" {
			r.SetBasicAuth(user, pw)
		}
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		var m map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &m))
		return w.Code, m
	}
	id, secret := app["id"].(string), app["secret"].(string)
	code, m := ask("grant_type=client_credentials", id, secret)
	require.Equal(t, 200, code, m)
	require.Equal(t, "Bearer", m["token_type"])
	require.InDelta(t, 3600, m["expires_in"], 5)
	caller, err := c.svc.ValidateToken(t.Context(), m["access_token"].(string))
	require.NoError(t, err)
	require.Equal(t, alice, caller.UserID)
	code, _ = ask("grant_type=client_credentials&client_id="+id+"&client_secret="+secret, "", "")
	require.Equal(t, 200, code)
	for _, x := range []struct {
		form, user, pw string
		code           int
		err            string
	}{
		{"", id, secret, 400, "invalid_request"}, {"grant_type=password", id, secret, 400, "unsupported_grant_type"},
		{"grant_type=client_credentials", id, "wrong", 401, "invalid_client"}, {"grant_type=client_credentials", "", "", 401, "invalid_client"}, {"grant_type=client_credentials", "unknown", secret, 401, "invalid_client"},
	} {
		code, m := ask(x.form, x.user, x.pw)
		require.Equal(t, x.code, code, m)
		require.Equal(t, x.err, m["error"])
	}
}

func TestReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		p := c.project("p")
		alice, token := c.person("alice", "member", p)
		c.must(201, "POST", "/v3/credentials", token, `{"credential":{"type":"totp","blob":"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ","user_id":"`+alice+`"}}`)
		c.must(200, "PATCH", "/v3/users/"+alice, c.root(), `{"user":{"options":{"multi_factor_auth_rules":[["password","totp"]]}}}`)
		code, h, m := c.do("POST", "/v3/auth/tokens", "", auth("alice", "pw-alice", ""))
		require.Equal(t, 401, code)
		require.Equal(t, []any{[]any{"password", "totp"}}, m["required_auth_methods"])
		require.Equal(t, []any{"password"}, inner(m, "receipt", "methods"))
		require.Equal(t, alice, inner(m, "receipt", "user", "id"))
		require.Equal(t, "Default", inner(m, "receipt", "user", "domain", "name"))
		require.Empty(t, h.Get("X-Subject-Token"))
		receipt := h.Get("Openstack-Auth-Receipt")
		require.NotEmpty(t, receipt)
		totp := `{"auth":{"identity":{"methods":["totp"],"totp":{"user":{"id":"` + alice + `","passcode":"` + codeNow() + `"}}}}}`
		code, _, _ = c.do("POST", "/v3/auth/tokens", "", totp, "Openstack-Auth-Receipt", "forged")
		require.Equal(t, 401, code)
		time.Sleep(time.Minute)
		totp = `{"auth":{"identity":{"methods":["totp"],"totp":{"user":{"name":"alice","domain":{"id":"default"},"passcode":"` + codeNow() + `"}}}}}`
		code, h, m = c.do("POST", "/v3/auth/tokens", "", totp, "Openstack-Auth-Receipt", receipt)
		require.Equal(t, 201, code, m)
		require.NotEmpty(t, h.Get("X-Subject-Token"))
		require.ElementsMatch(t, []any{"password", "totp"}, inner(m, "token", "methods"))
		for _, bad := range []string{`{}`, `{"user":{}}`, `{"user":{"name":"alice","passcode":"1"}}`, `7`} {
			c.must(400, "POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["totp"],"totp":`+bad+`}}}`)
		}
	})
}

func TestRedelegatedTrustIsShown(t *testing.T) {
	c := newCloud(t)
	p := c.project("p")
	alice, hers := c.person("alice", "member", p)
	bob, _ := c.person("bob", "member", p)
	carol, _ := c.person("carol", "member", p)
	body := func(trustor, trustee, more string) string {
		return `{"trust":{"trustor_user_id":"` + trustor + `","trustee_user_id":"` + trustee + `","impersonation":true,"project_id":"` + p + `","roles":[{"name":"member"}]` + more + `}}`
	}
	m := c.must(201, "POST", "/v3/OS-TRUST/trusts", hers, body(alice, bob, `,"allow_redelegation":true,"redelegation_count":2`))
	first := inner(m, "trust", "id").(string)
	require.Equal(t, 2.0, inner(m, "trust", "redelegation_count"))
	require.NotContains(t, m["trust"], "redelegated_trust_id")
	code, h, m := c.do("POST", "/v3/auth/tokens", "", auth("bob", "pw-bob", `{"OS-TRUST:trust":{"id":"`+first+`"}}`))
	require.Equal(t, 201, code, m)
	m = c.must(201, "POST", "/v3/OS-TRUST/trusts", h.Get("X-Subject-Token"), body(alice, carol, `,"allow_redelegation":true`))
	require.Equal(t, first, inner(m, "trust", "redelegated_trust_id"))
	require.Equal(t, 1.0, inner(m, "trust", "redelegation_count"))
	second := inner(m, "trust", "id").(string)
	c.must(400, "POST", "/v3/OS-TRUST/trusts", hers, body(alice, bob, `,"redelegation_count":-1`))
	c.must(204, "DELETE", "/v3/OS-TRUST/trusts/"+first, hers, "")
	c.must(404, "GET", "/v3/OS-TRUST/trusts/"+second, hers, "")
}

func TestS3Presigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t)
		p := c.project("p")
		alice, token := c.person("alice", "member", p)
		m := c.must(201, "POST", "/v3/users/"+alice+"/credentials/OS-EC2", token, `{"tenant_id":"`+p+`"}`)
		access, secret := inner(m, "credential", "access").(string), inner(m, "credential", "secret").(string)
		sign := func(at time.Time) string {
			text := "AWS4-HMAC-SHA256\n" + at.UTC().Format("20060102T150405Z") + "\n" + at.UTC().Format("20060102") + "/r/s3/aws4_request\nhash"
			return `{"credentials":{"access":"` + access + `","signature":"` + s3Signature(secret, text) + `","token":"` + base64.URLEncoding.EncodeToString([]byte(text)) + `"}}`
		}
		m = c.must(200, "POST", "/v3/s3tokens", c.root(), sign(time.Now()))
		require.Equal(t, alice, inner(m, "token", "user", "id"))
		c.must(200, "POST", "/v3/s3tokens", c.root(), sign(time.Now().Add(-6*24*time.Hour)))
		c.must(401, "POST", "/v3/s3tokens", c.root(), sign(time.Now().Add(-8*24*time.Hour)))
		c.must(401, "POST", "/v3/s3tokens", c.root(), sign(time.Now().Add(time.Hour)))
		require.NoError(t, c.svc.DeleteUser(nacre.AsService(t.Context(), "test"), alice))
		c.must(404, "POST", "/v3/s3tokens", c.root(), sign(time.Now()))
	})
}

// codeNow is the passcode of the secret "12345678901234567890".
func codeNow() string {
	m := hmac.New(sha1.New, []byte("12345678901234567890"))
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(time.Now().Unix()/30))
	m.Write(b[:])
	sum := m.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1_000_000)
}

// s3Signature is version 4 of Amazon's signatures for s3 in the region r.
func s3Signature(secret, text string) string {
	sign := func(key []byte, s string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(s))
		return m.Sum(nil)
	}
	key := []byte("AWS4" + secret)
	for _, part := range strings.Split(strings.Split(text, "\n")[2], "/") {
		key = sign(key, part)
	}
	return hex.EncodeToString(sign(key, text))
}

func TestJSONHome(t *testing.T) {
	c := newCloud(t)
	code, h, m := c.do("GET", "/v3", "", "", "Accept", "application/json-home")
	require.Equal(t, 200, code)
	require.Equal(t, "application/json-home", h.Get("Content-Type"))
	have := map[string]bool{}
	for _, op := range api.Operations() {
		have[variable.ReplaceAllString(op.Path, "{}")] = true
	}
	resources := m["resources"].(map[string]any)
	require.Len(t, resources, 120)
	for name, v := range resources {
		about := v.(map[string]any)
		path, _ := about["href"].(string)
		if path == "" {
			path = about["href-template"].(string)
			require.Len(t, about["href-vars"], strings.Count(path, "{"), name)
		}
		require.True(t, have["/v3"+variable.ReplaceAllString(path, "{}")] || strings.HasPrefix(path, "/domains/config/"), "%s is no route: %s", name, path)
	}
	const user = "https://docs.openstack.org/api/openstack-identity/3/rel/user"
	require.Equal(t, map[string]any{"href-template": "/users/{user_id}", "href-vars": map[string]any{"user_id": "https://docs.openstack.org/api/openstack-identity/3/param/user_id"}}, resources[user])
	code, _, m = c.do("GET", "/", "", "", "Accept", "application/json-home")
	require.Equal(t, 200, code)
	require.Equal(t, "/v3/users/{user_id}", inner(m, "resources", user, "href-template"))
	for _, accept := range []string{"application/json", "*/*", "application/json-home, application/json"} {
		_, h, m = c.do("GET", "/v3", "", "", "Accept", accept)
		require.Equal(t, "application/json", h.Get("Content-Type"))
		require.Contains(t, m, "version")
	}
}

func TestProjectTree(t *testing.T) {
	c := newCloud(t)
	root := c.root()
	sub := func(name, parent string) string {
		return inner(c.must(201, "POST", "/v3/projects", root, `{"project":{"name":"`+name+`","parent_id":"`+parent+`"}}`), "project", "id").(string)
	}
	top := c.project("top")
	middle := sub("middle", top)
	leaf := sub("leaf", middle)
	alice, _ := c.person("alice", "member", middle)
	c.must(204, "PUT", "/v3/projects/"+top+"/users/"+alice+"/roles/"+c.ids.Roles["reader"], root, "")
	hers := c.enter("alice", "pw-alice", middle)
	show := func(token, id, query string) map[string]any {
		return inner(c.must(200, "GET", "/v3/projects/"+id+"?"+query, token, ""), "project").(map[string]any)
	}
	require.Equal(t, map[string]any{middle: map[string]any{top: map[string]any{"default": nil}}}, show(root, leaf, "parents_as_ids")["parents"])
	require.Equal(t, map[string]any{middle: map[string]any{leaf: nil}}, show(root, top, "subtree_as_ids")["subtree"])
	v := show(root, leaf, "subtree_as_ids")
	require.Contains(t, v, "subtree")
	require.Nil(t, v["subtree"])
	require.Empty(t, show(root, leaf, "parents_as_list")["parents"], "a list has what the caller has a role on")
	parents := show(hers, middle, "parents_as_list&subtree_as_list")["parents"].([]any)
	require.Len(t, parents, 1)
	require.Equal(t, top, inner(parents[0].(map[string]any), "project", "id"))
	require.Empty(t, show(hers, middle, "subtree_as_list")["subtree"])
	c.must(400, "GET", "/v3/projects/"+leaf+"?parents_as_list&parents_as_ids", root, "")
	_, _, m := c.do("GET", "/v3/services", root, "")
	service := m["services"].([]any)[0].(map[string]any)["id"].(string)
	c.must(201, "POST", "/v3/registered_limits", root, `{"registered_limits":[{"service_id":"`+service+`","resource_name":"cores","default_limit":10}]}`)
	c.must(201, "POST", "/v3/limits", root, `{"limits":[{"service_id":"`+service+`","resource_name":"cores","project_id":"`+top+`","resource_limit":5}]}`)
	parents = show(hers, middle, "parents_as_list&include_limits")["parents"].([]any)
	require.Len(t, inner(parents[0].(map[string]any), "project", "limits"), 1)

	all := c.must(200, "GET", "/v3/role_assignments?scope.project.id="+top+"&include_subtree&include_names", root, "")["role_assignments"].([]any)
	require.Len(t, all, 2)
	require.Equal(t, "alice", inner(all[0].(map[string]any), "user", "name"))
	c.must(400, "GET", "/v3/role_assignments?include_subtree", root, "")
	c.must(403, "DELETE", "/v3/projects/"+top, root, "")
	c.must(403, "PATCH", "/v3/projects/"+top, root, `{"project":{"enabled":false}}`)
	deep := sub("deep", leaf)
	c.must(403, "POST", "/v3/projects", root, `{"project":{"name":"deeper","parent_id":"`+deep+`"}}`)

	acting := inner(c.must(201, "POST", "/v3/projects", root, `{"project":{"name":"acting","is_domain":true}}`), "project").(map[string]any)
	require.Equal(t, true, acting["is_domain"])
	require.Nil(t, acting["domain_id"])
	c.must(200, "GET", "/v3/domains/"+acting["id"].(string), root, "")
	c.must(400, "POST", "/v3/projects", root, `{"project":{"name":"x","is_domain":true,"parent_id":"`+top+`"}}`)
	c.must(400, "PATCH", "/v3/projects/"+leaf, root, `{"project":{"is_domain":true}}`)
}
