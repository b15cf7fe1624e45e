//go:build realtest

package api_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/federation/oidc"
	"github.com/nacre-cloud/nacre/identity/federation/saml"
)

// logins uses Debian's keystoneauth1, each plugin as its users do, and prints whom
// each logged in.
const logins = `
import base64, hmac, json, struct, sys, time
from keystoneauth1 import session
from keystoneauth1 import loading
c = json.load(sys.stdin)
out = {}
def login(name, plugin, **opts):
    opts.setdefault("auth_url", c["auth_url"])
    p = loading.get_plugin_loader(plugin).load_from_options(**opts)
    s = session.Session(auth=p)
    a = p.get_access(s)
    out[name] = {"user": a.username, "project": a.project_name, "methods": a._data["token"]["methods"]}
    return p, s
scoped = {"project_name": "p", "project_domain_name": "Default"}
p, s = login("password", "v3password", username="local", password="pw", user_domain_name="Default", **scoped)
def passcode(secret):
    key = base64.b32decode(secret)
    h = hmac.new(key, struct.pack(">Q", int(time.time()) // 30), "sha1").digest()
    o = h[-1] & 15
    return "%06d" % ((struct.unpack(">I", h[o:o+4])[0] & 0x7fffffff) % 1000000)
login("totp", "v3totp", username="local", user_domain_name="Default", passcode=passcode(c["totp"]), **scoped)
login("appcred", "v3applicationcredential", application_credential_id=c["app_id"], application_credential_secret=c["app_secret"])
oidc = dict(identity_provider="idp", protocol="openid", client_id="keystone", client_secret="client secret", discovery_endpoint=c["issuer"] + "/.well-known/openid-configuration")
login("oidcpassword", "v3oidcpassword", username="alice", password="idp", **oidc, **scoped)
login("oidcclientcredentials", "v3oidcclientcredentials", **oidc, **scoped)
login("oidcaccesstoken", "v3oidcaccesstoken", identity_provider="idp", protocol="openid", access_token=c["bearer"], **scoped)
login("unscoped", "v3oidcaccesstoken", identity_provider="idp", protocol="openid", access_token=c["bearer"])
from keystoneauth1.identity import v3
home = v3.Password(auth_url=c["home_url"], username="admin", password="secret", user_domain_name="Default", project_name="admin", project_domain_name="Default")
k2k = v3.Keystone2Keystone(home, "away", project_name="p", project_domain_name="Default")
a = k2k.get_access(session.Session(auth=k2k))
out["k2k"] = {"user": a.username, "project": a.project_name, "methods": a._data["token"]["methods"]}
try:
    login("wrong", "v3oidcpassword", username="alice", password="no", **oidc)
except Exception as e:
    out["wrong"] = {"error": type(e).__name__}
print(json.dumps(out))
`

// TestKeystoneauth logs in by the plugins of keystoneauth1 that people have in
// their clouds.yaml.
func TestKeystoneauth(t *testing.T) {
	i := newIssuer(t)
	home, issuer := vouching(t)
	meta, err := issuer.Metadata(t.Context())
	require.NoError(t, err)
	k2k, err := saml.New(saml.Config{EntityID: "https://away.example.com", Metadata: meta, IdPInitiated: true})
	require.NoError(t, err)
	c := federatedCloud(t, i, api.FederationConfig{}, nil)
	p, err := oidc.New(oidc.Config{Issuer: i.URL, ClientID: "keystone", ClientSecret: "client secret"})
	require.NoError(t, err)
	// The other cloud's users come by a second identity provider.
	c.h = c.mounted(api.FederationConfig{Verifiers: map[api.FederatedProtocol]federation.Verifier{{IdP: "idp", Protocol: "openid"}: p},
		Logins: map[api.FederatedProtocol]federation.Login{{IdP: "home", Protocol: "saml2"}: k2k}})
	server, other := httptest.NewServer(c.h), httptest.NewServer(home.h)
	t.Cleanup(server.Close)
	t.Cleanup(other.Close)

	c.idp(i.URL, plainRules)
	c.put("PUT", "/v3/OS-FEDERATION/identity_providers/home", `{"identity_provider":{"enabled":true}}`)
	c.put("PUT", "/v3/OS-FEDERATION/mappings/k2k", `{"mapping":{"rules":[{"local":[{"user":{"name":"{0}"}},{"group":{"name":"dev","domain":{"name":"Default"}}}],"remote":[{"type":"openstack_user"}]}]}}`)
	c.put("PUT", "/v3/OS-FEDERATION/identity_providers/home/protocols/saml2", `{"protocol":{"mapping_id":"k2k"}}`)
	group := dig(c.put("POST", "/v3/groups", `{"group":{"name":"dev","domain_id":"default"}}`), "group", "id").(string)
	project := dig(c.put("POST", "/v3/projects", `{"project":{"name":"p","domain_id":"default"}}`), "project", "id").(string)
	c.put("PUT", "/v3/projects/"+project+"/groups/"+group+"/roles/"+c.ids.Roles["member"], "")
	user := dig(c.put("POST", "/v3/users", `{"user":{"name":"local","domain_id":"default","password":"pw"}}`), "user", "id").(string)
	c.put("PUT", "/v3/projects/"+project+"/users/"+user+"/roles/"+c.ids.Roles["member"], "")
	const secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	c.put("POST", "/v3/credentials", `{"credential":{"type":"totp","user_id":"`+user+`","blob":"`+secret+`"}}`)
	code, _, app := c.do("POST", "/v3/users/"+user+"/application_credentials", c.token("local", "pw", `{"project":{"id":"`+project+`"}}`), `{"application_credential":{"name":"a"}}`)
	require.Equal(t, 201, code, app)
	away := server.URL + "/identity" + k2kAuth
	home.put("PUT", "/v3/OS-FEDERATION/service_providers/away", `{"service_provider":{"enabled":true,"auth_url":"`+away+`","sp_url":"`+away+`"}}`)

	in, err := json.Marshal(map[string]any{"auth_url": server.URL + "/identity/v3", "home_url": other.URL + "/identity/v3", "issuer": i.URL, "totp": secret, "bearer": i.sign(i.claims("alice")),
		"app_id": dig(app, "application_credential", "id"), "app_secret": dig(app, "application_credential", "secret")})
	require.NoError(t, err)
	cmd := exec.Command("/usr/bin/python3", "-W", "ignore", "-c", logins)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	go func() {
		_, _ = stdin.Write(in)
		_ = stdin.Close()
	}()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	type who struct {
		User, Project, Error string
		Methods              []string
	}
	var got map[string]who
	require.NoError(t, json.Unmarshal(out, &got), string(out))
	for name, want := range map[string][2]string{
		"password": {"local", "p"}, "totp": {"local", "p"}, "appcred": {"local", "p"}, "oidcpassword": {"alice", "p"}, "oidcclientcredentials": {"robot", "p"},
		"oidcaccesstoken": {"alice", "p"}, "unscoped": {"alice", ""}, "k2k": {"admin", "p"},
	} {
		require.Equal(t, want, [2]string{got[name].User, got[name].Project}, name)
	}
	require.NotEmpty(t, got["wrong"].Error)
}
