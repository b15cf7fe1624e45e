package api_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/federation/oidc"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// federatedCloud is a cloud that believes an issuer, by identity provider "idp".
func federatedCloud(t testing.TB, i *issuer, fed api.FederationConfig, edit func(*identity.Config)) *cloud {
	t.Helper()
	e := memstore.New(memstore.Options{})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), identity.Schema(), true))
	cfg := identity.Config{Engine: e, BcryptCost: 4, Federation: identity.FederationConfig{RemoteIDAttribute: "HTTP_OIDC_ISS"}}
	if edit != nil {
		edit(&cfg)
	}
	svc, err := identity.New(cfg)
	require.NoError(t, err)
	ids, err := svc.Bootstrap(t.Context(), identity.Bootstrap{Password: "secret", Services: []identity.BootstrapService{{Type: "identity", Name: "keystone", Public: base}}})
	require.NoError(t, err)
	if i != nil {
		p, err := oidc.New(oidc.Config{Issuer: i.URL, ClientID: "keystone", ClientSecret: "client secret"})
		require.NoError(t, err)
		at := api.FederatedProtocol{IdP: "idp", Protocol: "openid"}
		fed.Verifiers = map[api.FederatedProtocol]federation.Verifier{at: p}
		fed.Logins = map[api.FederatedProtocol]federation.Login{at: p}
	}
	c := &cloud{t: t, svc: svc, ids: ids}
	c.h = c.mounted(fed)
	return c
}

// mounted is the API with another way of believing assertions.
func (c *cloud) mounted(fed api.FederationConfig) http.Handler {
	return rest.Mount("/identity", api.New(c.svc, api.Config{Federation: fed}))
}

func (c *cloud) token(user, password, scope string) string {
	c.t.Helper()
	code, h, m := c.do("POST", "/v3/auth/tokens", "", auth(user, password, scope))
	require.Equal(c.t, 201, code, m)
	return h.Get("X-Subject-Token")
}

// put makes or changes something as administrator.
func (c *cloud) put(method, path, body string) map[string]any {
	c.t.Helper()
	code, _, m := c.do(method, path, c.token("admin", "secret", onAdmin), body)
	require.Less(c.t, code, 300, m)
	return m
}

const fedPath = "/v3/OS-FEDERATION/identity_providers/idp"

// idp registers the identity provider with a mapping.
func (c *cloud) idp(remote, rules string) {
	c.t.Helper()
	b, _ := json.Marshal(remote)
	c.put("PUT", fedPath, `{"identity_provider":{"enabled":true,"remote_ids":[`+string(b)+`]}}`)
	c.put("PUT", "/v3/OS-FEDERATION/mappings/m", `{"mapping":{"rules":`+rules+`}}`)
	c.put("PUT", fedPath+"/protocols/openid", `{"protocol":{"mapping_id":"m"}}`)
}

const plainRules = `[{"local":[{"user":{"name":"{0}","id":"{1}","email":"{2}"}},{"groups":"{3}","domain":{"id":"default"}}],
	"remote":[{"type":"HTTP_OIDC_PREFERRED_USERNAME"},{"type":"OIDC-sub"},{"type":"OIDC-email"},{"type":"OIDC-groups"}]}]`

func dig(m any, keys ...string) any {
	for _, k := range keys {
		o, _ := m.(map[string]any)
		m = o[k]
	}
	return m
}

func TestFederationResources(t *testing.T) {
	c := newCloud(t)
	admin := c.token("admin", "secret", onAdmin)
	idp := c.put("PUT", fedPath, `{"identity_provider":{"description":"d","remote_ids":["b","a"]}}`)["identity_provider"].(map[string]any)
	require.Equal(t, false, idp["enabled"])
	require.Equal(t, []any{"a", "b"}, idp["remote_ids"])
	require.Nil(t, idp["authorization_ttl"])
	require.Equal(t, base+fedPath+"/protocols", dig(idp, "links", "protocols"))
	d := c.put("GET", "/v3/domains/"+idp["domain_id"].(string), "")
	require.Contains(t, dig(d, "domain", "description"), "Auto generated federated domain for Identity Provider: idp")

	c.fails(409, "Duplicate entry", "PUT", fedPath, admin, `{"identity_provider":{}}`)
	c.fails(409, "Duplicate remote ID: a", "PUT", fedPath+"2", admin, `{"identity_provider":{"remote_ids":["a"]}}`)
	c.fails(404, "", "GET", fedPath+"2", admin, "")
	c.fails(400, "non-unique", "PUT", fedPath+"2", admin, `{"identity_provider":{"remote_ids":["x","x"]}}`)
	c.fails(400, "was unexpected", "PUT", fedPath+"2", admin, `{"identity_provider":{"surprise":1}}`)
	c.fails(400, "", "PATCH", fedPath, admin, `{"identity_provider":{"domain_id":"default"}}`)
	c.fails(404, "Could not find domain: nix", "PUT", fedPath+"2", admin, `{"identity_provider":{"domain_id":"nix"}}`)
	c.fails(404, "Could not find Identity Provider: nix.", "PATCH", "/v3/OS-FEDERATION/identity_providers/nix", admin, `{"identity_provider":{"enabled":true}}`)
	require.Equal(t, float64(5), dig(c.put("PATCH", fedPath, `{"identity_provider":{"authorization_ttl":5,"description":null}}`), "identity_provider", "authorization_ttl"))
	require.Len(t, c.put("GET", "/v3/OS-FEDERATION/identity_providers?enabled=false", "")["identity_providers"], 1)
	require.Empty(t, c.put("GET", "/v3/OS-FEDERATION/identity_providers?enabled=true", "")["identity_providers"])

	c.fails(400, "Invalid mapping id: m", "PUT", fedPath+"/protocols/openid", admin, `{"protocol":{"mapping_id":"m"}}`)
	c.fails(400, "'remote' is a required property", "PUT", "/v3/OS-FEDERATION/mappings/m", admin, `{"mapping":{"rules":[{"local":[]}]}}`)
	m := c.put("PUT", "/v3/OS-FEDERATION/mappings/m", `{"mapping":{"rules":`+plainRules+`}}`)["mapping"].(map[string]any)
	require.Equal(t, "1.0", m["schema_version"])
	c.fails(409, "Conflict occurred attempting to store mapping", "PUT", "/v3/OS-FEDERATION/mappings/m", admin, `{"mapping":{"rules":`+plainRules+`}}`)
	p := c.put("PUT", fedPath+"/protocols/openid", `{"protocol":{"mapping_id":"m","remote_id_attribute":"X"}}`)["protocol"].(map[string]any)
	require.Equal(t, "openid", p["id"])
	require.NotContains(t, p, "remote_id_attribute")
	l := c.put("GET", fedPath+"/protocols", "")["protocols"].([]any)[0].(map[string]any)
	require.Equal(t, "X", l["remote_id_attribute"])
	c.fails(404, "Could not find federated protocol nix for Identity Provider: idp.", "GET", fedPath+"/protocols/nix", admin, "")
	c.put("DELETE", fedPath+"/protocols/openid", "")
	c.put("DELETE", "/v3/OS-FEDERATION/mappings/m", "")
	c.fails(404, "Could not find mapping: m.", "GET", "/v3/OS-FEDERATION/mappings/m", admin, "")

	sp := "/v3/OS-FEDERATION/service_providers/sp"
	c.fails(400, "'sp_url' is a required property", "PUT", sp, admin, `{"service_provider":{"auth_url":"http://x/a"}}`)
	require.Equal(t, "ss:mem:", dig(c.put("PUT", sp, `{"service_provider":{"auth_url":"http://x/a","sp_url":"http://x/s","enabled":true}}`), "service_provider", "relay_state_prefix"))
	code, _, tok := c.do("POST", "/v3/auth/tokens", "", auth("admin", "secret", onAdmin))
	require.Equal(t, 201, code)
	require.Equal(t, []any{map[string]any{"id": "sp", "auth_url": "http://x/a", "sp_url": "http://x/s"}}, dig(tok, "token", "service_providers"))
	c.put("DELETE", sp, "")
	c.fails(404, "Could not find Service Provider: sp.", "GET", sp, admin, "")
	c.put("DELETE", fedPath, "")
	c.fails(401, "", "GET", "/v3/OS-FEDERATION/identity_providers", "", "")
}

// login shows a bearer token and returns the unscoped token made of it.
func (c *cloud) login(bearer string) (string, map[string]any) {
	c.t.Helper()
	code, h, m := c.do("POST", fedPath+"/protocols/openid/auth", "", "", "Authorization", "Bearer "+bearer)
	require.Equal(c.t, 201, code, m)
	return h.Get("X-Subject-Token"), m["token"].(map[string]any)
}

func TestBearerLogin(t *testing.T) {
	i := newIssuer(t)
	c := federatedCloud(t, i, api.FederationConfig{}, nil)
	c.idp(i.URL, plainRules)
	group := dig(c.put("POST", "/v3/groups", `{"group":{"name":"dev","domain_id":"default"}}`), "group", "id").(string)
	c.put("POST", "/v3/groups", `{"group":{"name":"admins","domain_id":"default"}}`)
	project := dig(c.put("POST", "/v3/projects", `{"project":{"name":"p","domain_id":"default"}}`), "project", "id").(string)
	c.put("POST", "/v3/projects", `{"project":{"name":"other","domain_id":"default"}}`)
	c.put("PUT", "/v3/projects/"+project+"/groups/"+group+"/roles/"+c.ids.Roles["member"], "")

	token, m := c.login(i.sign(i.claims("alice")))
	require.Equal(t, []any{"openid"}, m["methods"])
	require.Equal(t, "alice", dig(m, "user", "name"))
	require.Equal(t, map[string]any{"groups": []any{map[string]any{"id": group}}, "identity_provider": map[string]any{"id": "idp"}, "protocol": map[string]any{"id": "openid"}}, dig(m, "user", "OS-FEDERATION"))
	require.NotContains(t, m["user"], "password_expires_at")
	require.NotContains(t, m, "project")
	user := dig(m, "user", "id").(string)

	// The projects of its groups, and no others.
	for _, path := range []string{"/v3/auth/projects", "/v3/OS-FEDERATION/projects"} {
		_, _, list := c.do("GET", path, token, "")
		require.Len(t, list["projects"], 1, path)
		require.Equal(t, project, dig(list["projects"].([]any)[0], "id"))
	}
	for _, method := range []string{"token", "mapped", "saml2", "openid"} {
		code, _, scoped := c.do("POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["`+method+`"],"`+method+`":{"id":"`+token+`"}},"scope":{"project":{"id":"`+project+`"}}}}`)
		require.Equal(t, 201, code, scoped)
		require.Equal(t, "member", dig(scoped["token"].(map[string]any)["roles"].([]any)[0], "name"))
		require.Equal(t, "idp", dig(scoped, "token", "user", "OS-FEDERATION", "identity_provider", "id"))
		require.Equal(t, m["expires_at"], dig(scoped, "token", "expires_at"), "a rescoped token lives no longer")
	}
	c.fails(401, "", "POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+token+`"}},"scope":{"project":{"id":"`+c.ids.ProjectID+`"}}}}`)

	shown := c.put("GET", "/v3/users/"+user, "")["user"].(map[string]any)
	require.Equal(t, "alice@example.com", shown["email"])
	require.Equal(t, []any{map[string]any{"idp_id": "idp", "protocols": []any{map[string]any{"protocol_id": "openid", "unique_id": "id-alice"}}}}, shown["federated"])
	require.Len(t, c.put("GET", "/v3/users?idp_id=idp&unique_id=id-alice", "")["users"], 1)
	require.Empty(t, c.put("GET", "/v3/users?idp_id=idp&unique_id=id-bob", "")["users"])

	// The same user again, with another name.
	claims := i.claims("alice")
	claims["preferred_username"] = "alice2"
	_, again := c.login(i.sign(claims))
	require.Equal(t, user, dig(again, "user", "id"))
	require.Equal(t, "alice2", dig(again, "user", "name"))
	_, opaque := c.login("opaque")
	require.Equal(t, "opal", dig(opaque, "user", "name"))

	// A local user of that name is another.
	domain := dig(m, "user", "domain", "id").(string)
	c.put("POST", "/v3/users", `{"user":{"name":"alice2","domain_id":"`+domain+`","password":"pw"}}`)

	// Disabled: nobody comes in, and nobody rescopes.
	c.put("PATCH", fedPath, `{"identity_provider":{"enabled":false}}`)
	c.fails(403, "Identity Provider idp is disabled", "POST", fedPath+"/protocols/openid/auth", "", "", "Authorization", "Bearer "+i.sign(i.claims("alice")))
	c.fails(403, "disabled", "POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+token+`"}},"scope":{"project":{"id":"`+project+`"}}}}`)
	c.put("PATCH", fedPath, `{"identity_provider":{"enabled":true}}`)

	// Gone with its protocol.
	c.put("DELETE", fedPath+"/protocols/openid", "")
	c.fails(401, "", "GET", "/v3/auth/projects", token, "")
	code, _, _ := c.do("GET", "/v3/users/"+user, c.token("admin", "secret", onAdmin), "")
	require.Equal(t, 404, code)
}

func TestBadBearer(t *testing.T) {
	i := newIssuer(t)
	c := federatedCloud(t, i, api.FederationConfig{}, nil)
	c.idp(i.URL, plainRules)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	with := func(k string, v any) map[string]any {
		m := i.claims("alice")
		m[k] = v
		return m
	}
	for name, token := range map[string]string{
		"another key":      signWith(t, other, i.claims("alice")),
		"another audience": i.sign(with("aud", "horizon")),
		"no audience":      i.sign(with("aud", nil)),
		"another issuer":   i.sign(with("iss", "https://evil.example.com")),
		"expired":          i.sign(with("exp", time.Now().Add(-time.Minute).Unix())),
		"not yet":          i.sign(with("nbf", time.Now().Add(time.Hour).Unix())),
		"unsigned":         "eyJhbGciOiJub25lIn0." + strings.Split(i.sign(i.claims("alice")), ".")[1] + ".",
		"unknown":          "nonsense",
		"empty":            "",
	} {
		t.Run(name, func(t *testing.T) {
			c := *c
			c.t = t
			c.fails(401, "", "POST", fedPath+"/protocols/openid/auth", "", "", "Authorization", "Bearer "+token)
		})
	}
	c.fails(401, "", "GET", fedPath+"/protocols/openid/auth", "", "")
	c.fails(401, "", "GET", fedPath+"/protocols/nix/auth", "", "", "Authorization", "Bearer "+i.sign(i.claims("alice")))
	c.put("PATCH", fedPath, `{"identity_provider":{"remote_ids":["https://other"]}}`)
	c.fails(403, "not included among the accepted identifiers", "POST", fedPath+"/protocols/openid/auth", "", "", "Authorization", "Bearer "+i.sign(i.claims("alice")))
}

// TestMembershipsOutliveTokens holds that asserted memberships hold for the
// authorization's time, and go when they are no longer asserted.
func TestMembershipsOutliveTokens(t *testing.T) {
	i := newIssuer(t)
	c := federatedCloud(t, i, api.FederationConfig{}, nil)
	c.idp(i.URL, plainRules)
	c.put("PATCH", fedPath, `{"identity_provider":{"authorization_ttl":10}}`)
	group := dig(c.put("POST", "/v3/groups", `{"group":{"name":"dev","domain_id":"default"}}`), "group", "id").(string)
	_, m := c.login(i.sign(i.claims("alice")))
	user := dig(m, "user", "id").(string)
	member := func() int {
		code, _, _ := c.do("GET", "/v3/groups/"+group+"/users/"+user, c.token("admin", "secret", onAdmin), "")
		return code
	}
	require.Equal(t, 204, member())
	claims := i.claims("alice")
	claims["groups"] = []string{"none"}
	c.login(i.sign(claims))
	require.Equal(t, 404, member())

	// What an administrator gave stays, whatever the identity provider says.
	c.put("PUT", "/v3/groups/"+group+"/users/"+user, "")
	c.login(i.sign(claims))
	require.Equal(t, 204, member())
	c.login(i.sign(i.claims("alice")))
	c.login(i.sign(claims))
	require.Equal(t, 204, member())
}

func TestProjectsFromMapping(t *testing.T) {
	i := newIssuer(t)
	c := federatedCloud(t, i, api.FederationConfig{}, nil)
	rules := func(role string) string {
		return `[{"local":[{"user":{"name":"{0}"}},{"projects":[{"name":"of {0}","roles":[{"name":"` + role + `"}]}]}],"remote":[{"type":"OIDC-preferred_username"}]}]`
	}
	c.idp(i.URL, rules("nix"))
	bearer := "Bearer " + i.sign(i.claims("alice"))
	c.fails(404, "Could not find role: nix.", "POST", fedPath+"/protocols/openid/auth", "", "", "Authorization", bearer)
	require.Empty(t, c.put("GET", "/v3/projects?name=of%20alice", "")["projects"], "nothing is made of a wrong mapping")

	// A role of another domain does not pass for the cloud's.
	other := dig(c.put("POST", "/v3/domains", `{"domain":{"name":"other"}}`), "domain", "id").(string)
	c.put("POST", "/v3/roles", `{"role":{"name":"special","domain_id":"`+other+`"}}`)
	c.put("POST", "/v3/roles", `{"role":{"name":"member","domain_id":"`+other+`"}}`)
	c.put("PATCH", "/v3/OS-FEDERATION/mappings/m", `{"mapping":{"rules":`+rules("special")+`}}`)
	c.fails(403, "role: special must be within the same domain", "POST", fedPath+"/protocols/openid/auth", "", "", "Authorization", bearer)

	c.put("PATCH", "/v3/OS-FEDERATION/mappings/m", `{"mapping":{"rules":`+rules("member")+`}}`)
	token, m := c.login(i.sign(i.claims("alice")))
	_, _, list := c.do("GET", "/v3/auth/projects", token, "")
	p := list["projects"].([]any)[0].(map[string]any)
	require.Equal(t, "of alice", p["name"])
	require.Equal(t, dig(m, "user", "domain", "id"), p["domain_id"])
	code, _, scoped := c.do("POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+token+`"}},"scope":{"project":{"id":"`+p["id"].(string)+`"}}}}`)
	require.Equal(t, 201, code, scoped)
	require.Equal(t, c.ids.Roles["member"], dig(scoped["token"].(map[string]any)["roles"].([]any)[0], "id"))

	// Version 3.0 takes away what is no longer asserted.
	c.put("PATCH", "/v3/OS-FEDERATION/mappings/m", `{"mapping":{"schema_version":"3.0","rules":`+strings.Replace(rules("reader"), "of {0}", "new {0}", 1)+`}}`)
	token, _ = c.login(i.sign(i.claims("alice")))
	_, _, list = c.do("GET", "/v3/auth/projects", token, "")
	require.Len(t, list["projects"], 1)
	require.Equal(t, "new alice", dig(list["projects"].([]any)[0], "name"))

	// What rested on a role that was taken away does not come back with the role.
	mapTo := func(project string) (token string) {
		c.put("PATCH", "/v3/OS-FEDERATION/mappings/m", `{"mapping":{"schema_version":"3.0","rules":`+strings.Replace(rules("reader"), "of {0}", project+" {0}", 1)+`}}`)
		token, m = c.login(i.sign(i.claims("alice")))
		return token
	}
	scope := `"scope":{"project":{"id":"` + dig(list["projects"].([]any)[0], "id").(string) + `"}}}}`
	code, h, scoped := c.do("POST", "/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+mapTo("new")+`"}},`+scope)
	require.Equal(t, 201, code, scoped)
	path := "/v3/users/" + dig(m, "user", "id").(string) + "/application_credentials"
	code, _, made := c.do("POST", path, h.Get("X-Subject-Token"), `{"application_credential":{"name":"a","secret":"s"}}`)
	require.Equal(t, 201, code, made)
	login := `{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":"` + dig(made, "application_credential", "id").(string) + `","secret":"s"}}}}`
	mapTo("new")
	code, _, made = c.do("POST", "/v3/auth/tokens", "", login)
	require.Equal(t, 201, code, made)
	mapTo("other")
	mapTo("new")
	c.fails(401, "", "POST", "/v3/auth/tokens", "", login)
	require.Empty(t, c.put("GET", path, "")["application_credentials"])
}

// TestMappedLocalUser holds that a mapping to somebody here gives an ordinary token.
func TestMappedLocalUser(t *testing.T) {
	i := newIssuer(t)
	c := federatedCloud(t, i, api.FederationConfig{}, nil)
	c.idp(i.URL, `[{"local":[{"user":{"name":"{0}","type":"local","domain":{"name":"Default"}}}],"remote":[{"type":"OIDC-preferred_username"}]}]`)
	c.fails(401, "", "POST", fedPath+"/protocols/openid/auth", "", "", "Authorization", "Bearer "+i.sign(i.claims("alice")))
	c.put("POST", "/v3/users", `{"user":{"name":"alice","domain_id":"default"}}`)
	_, m := c.login(i.sign(i.claims("alice")))
	require.Equal(t, "alice", dig(m, "user", "name"))
	require.NotContains(t, m["user"], "OS-FEDERATION")
}

// TestSameNameElsewhere holds that users of two identity providers in one domain are
// two, whatever their names and ids there.
func TestSameNameElsewhere(t *testing.T) {
	i := newIssuer(t)
	proxy := &api.FrontProxy{Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, SecretHeader: "X-Proxy-Secret", Secret: "s"}
	c := federatedCloud(t, i, api.FederationConfig{Proxy: proxy}, nil)
	c.idp(i.URL, `[{"local":[{"user":{"name":"{0}"}}],"remote":[{"type":"HTTP_OIDC_PREFERRED_USERNAME"}]}]`)
	_, a := c.login(i.sign(i.claims("alice")))
	domain := dig(a, "user", "domain", "id").(string)
	second := "/v3/OS-FEDERATION/identity_providers/idp2"
	c.put("PUT", second, `{"identity_provider":{"enabled":true,"domain_id":"`+domain+`"}}`)
	c.put("PUT", second+"/protocols/openid", `{"protocol":{"mapping_id":"m"}}`)
	code, _, m := c.do("GET", second+"/protocols/openid/auth", "", "", "X-Proxy-Secret", "s", "OIDC-Preferred-Username", "alice")
	require.Equal(t, 201, code, m)
	require.Equal(t, "alice", dig(m, "token", "user", "name"))
	require.Equal(t, domain, dig(m, "token", "user", "domain", "id"))
	require.NotEqual(t, dig(a, "user", "id"), dig(m, "token", "user", "id"))
}

// forgedAssertions holds that assertions in headers are believed from the front
// proxy alone.
func forgedAssertions(t *testing.T) {
	rules := `[{"local":[{"user":{"name":"{0}"}}],"remote":[{"type":"HTTP_OIDC_SUB"}]}]`
	send := func(c *cloud, from string, headers ...string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", base+fedPath+"/protocols/openid/auth", http.NoBody)
		r.RemoteAddr = from
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	proxy := &api.FrontProxy{Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}, SecretHeader: "X-Proxy-Secret", Secret: "s", Prefix: "HTTP_OIDC"}
	c := federatedCloud(t, nil, api.FederationConfig{Proxy: proxy}, nil)
	c.idp("https://idp", rules)
	iss, sub := []string{"OIDC-ISS", "https://idp"}, []string{"OIDC-SUB", "eve"}
	headers := func(more ...string) []string { return append(append(append([]string{}, iss...), sub...), more...) }
	code, body := send(c, "10.0.0.1:4000", headers("X-Proxy-Secret", "s")...)
	require.Equal(t, 201, code, body)
	require.Contains(t, body, `"eve"`)
	for name, try := range map[string]struct {
		from    string
		headers []string
	}{
		"from elsewhere":            {"10.0.0.2:4000", headers("X-Proxy-Secret", "s")},
		"without the secret":        {"10.0.0.1:4000", headers()},
		"with another":              {"10.0.0.1:4000", headers("X-Proxy-Secret", "t")},
		"with two":                  {"10.0.0.1:4000", headers("X-Proxy-Secret", "t", "X-Proxy-Secret", "s")},
		"said twice":                {"10.0.0.1:4000", headers("X-Proxy-Secret", "s", "OIDC-SUB", "mallory")},
		"an underscore's lookalike": {"10.0.0.1:4000", append(append([]string{}, iss...), "X-Proxy-Secret", "s", "OIDC_SUB", "eve")},
		"in another shape":          {"10.0.0.1:4000", append(append([]string{}, iss...), "X-Proxy-Secret", "s", "HTTP-OIDC-SUB", "eve")},
		"no address":                {"", headers("X-Proxy-Secret", "s")},
		"as remote address":         {"10.0.0.2:4000", headers("X-Proxy-Secret", "s", "X-Forwarded-For", "10.0.0.1")},
	} {
		code, body := send(c, try.from, try.headers...)
		require.Equal(t, 401, code, name+body)
	}
	none := federatedCloud(t, nil, api.FederationConfig{}, nil)
	none.idp("https://idp", rules)
	code, _ = send(none, "10.0.0.1:4000", headers("X-Proxy-Secret", "s", "X-Proxy-Secret", "")...)
	require.Equal(t, 401, code)
	empty := federatedCloud(t, nil, api.FederationConfig{Proxy: &api.FrontProxy{Addresses: proxy.Addresses, SecretHeader: "X-Proxy-Secret"}}, nil)
	empty.idp("https://idp", rules)
	code, _ = send(empty, "10.0.0.1:4000", headers("X-Proxy-Secret", "")...)
	require.Equal(t, 401, code)
}

func TestWebSSO(t *testing.T) {
	i := newIssuer(t)
	dashboard := "https://Horizon.example.com/auth/websso/"
	c := federatedCloud(t, i, api.FederationConfig{TrustedDashboards: []string{dashboard}}, nil)
	c.idp(i.URL, plainRules)
	server := httptest.NewServer(c.h)
	t.Cleanup(server.Close)
	for _, path := range []string{"/identity/v3/auth/OS-FEDERATION/websso/openid", "/identity/v3/auth/OS-FEDERATION/identity_providers/idp/protocols/openid/websso"} {
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		browser := &http.Client{Jar: jar}
		get := func(u string) (int, string) {
			resp, err := browser.Get(u)
			require.NoError(t, err)
			defer resp.Body.Close() //nolint:errcheck // read
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			return resp.StatusCode, string(b)
		}
		code, _ := get(server.URL + path)
		require.Equal(t, 400, code)
		code, body := get(server.URL + path + "?origin=" + url.QueryEscape("https://evil.example.com/"))
		require.Equal(t, 401, code, body)
		require.Contains(t, body, "is not a trusted dashboard host")
		code, body = get(server.URL + path + "?origin=" + url.QueryEscape(strings.ToLower(dashboard)))
		require.Equal(t, 200, code, body)
		require.Contains(t, body, `action="https://horizon.example.com/auth/websso/"`)
		token := regexp.MustCompile(`name="token" id="token" value="([^"]+)"`).FindStringSubmatch(body)
		require.NotNil(t, token, body)
		caller, err := c.svc.ValidateToken(t.Context(), token[1])
		require.NoError(t, err)
		require.Equal(t, "alice", caller.UserName)

		// Somebody else's answer is not taken for one's own.
		code, _ = get(server.URL + path + "?code=x&state=y")
		require.Equal(t, 400, code)
	}
}

func TestLocalUserKeepsItsName(t *testing.T) {
	c := newCloud(t)
	u := dig(c.put("POST", "/v3/users", `{"user":{"name":"a","domain_id":"default"}}`), "user", "id").(string)
	c.put("PATCH", "/v3/users/"+u, `{"user":{"name":"b"}}`)
	c.fails(409, "Duplicate entry", "POST", "/v3/users", c.token("admin", "secret", onAdmin), `{"user":{"name":"b","domain_id":"default"}}`)
	c.put("POST", "/v3/users", `{"user":{"name":"a","domain_id":"default"}}`)
}

// TestLinkedUser holds that an administrator can say beforehand by which account a
// user of ours will come.
func TestLinkedUser(t *testing.T) {
	i := newIssuer(t)
	c := federatedCloud(t, i, api.FederationConfig{}, nil)
	c.idp(i.URL, plainRules)
	admin := c.token("admin", "secret", onAdmin)
	body := func(idp, unique string) string {
		return `{"user":{"name":"linked","domain_id":"default","federated":[{"idp_id":"` + idp + `","protocols":[{"protocol_id":"openid","unique_id":"` + unique + `"}]}]}}`
	}
	c.fails(400, "Could not find federated protocol", "POST", "/v3/users", admin, body("nix", "id-alice"))
	m := c.put("POST", "/v3/users", body("idp", "id-alice"))
	require.Len(t, dig(m, "user", "federated"), 1)
	user := dig(m, "user", "id").(string)
	_, got := c.login(i.sign(i.claims("alice")))
	require.Equal(t, user, dig(got, "user", "id"))
	require.Equal(t, "linked", dig(got, "user", "name"), "a user of ours keeps its name")
	c.fails(409, "", "POST", "/v3/users", admin, strings.Replace(body("idp", "id-alice"), `"linked"`, `"other"`, 1))
	c.put("PATCH", "/v3/users/"+user, `{"user":{"federated":[]}}`)
	_, got = c.login(i.sign(i.claims("alice")))
	require.NotEqual(t, user, dig(got, "user", "id"))
	c.put("DELETE", fedPath, "")
	c.put("GET", "/v3/users/"+user, "")
}

// TestReplayChangesNothing holds that an assertion shown for the second time does
// not even renew a membership.
func TestReplayChangesNothing(t *testing.T) {
	c := federatedCloud(t, nil, api.FederationConfig{}, func(cfg *identity.Config) { cfg.Federation.AuthorizationTTL = time.Hour })
	c.idp("https://idp", `[{"local":[{"user":{"name":"{0}"}},{"groups":"{1}","domain":{"id":"default"}}],"remote":[{"type":"name"},{"type":"groups"}]}]`)
	group := dig(c.put("POST", "/v3/groups", `{"group":{"name":"dev","domain_id":"default"}}`), "group", "id").(string)
	show := func(id string, groups ...string) (string, error) {
		_, info, err := c.svc.AuthenticateFederated(t.Context(), "idp", "openid", federation.Proof{ID: id, Until: time.Now().Add(time.Hour),
			Assertion: federation.Assertion{"name": {"a"}, "groups": groups, "HTTP_OIDC_ISS": {"https://idp"}}})
		if err != nil {
			return "", err
		}
		return info.User.ID, nil
	}
	user, err := show("1", "dev")
	require.NoError(t, err)
	_, err = show("2", "none")
	require.NoError(t, err)
	_, err = show("1", "dev")
	require.Error(t, err)
	code, _, _ := c.do("GET", "/v3/groups/"+group+"/users/"+user, c.token("admin", "secret", onAdmin), "")
	require.Equal(t, 404, code)
}
