package api_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/federation/saml"
)

// vouching is a cloud that asserts its users elsewhere.
func vouching(t *testing.T) (*cloud, *saml.Issuer) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "k2k"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	i, err := saml.NewIssuer(saml.IssuerConfig{EntityID: "https://home.example.com/v3/OS-FEDERATION/saml2/idp", SSO: "https://home.example.com/v3/OS-FEDERATION/saml2/sso", Key: key, Certificate: cert})
	require.NoError(t, err)
	return federatedCloud(t, nil, api.FederationConfig{Issuer: i}, nil), i
}

const k2kAuth = "/v3/OS-FEDERATION/identity_providers/home/protocols/saml2/auth"

// TestKeystoneToKeystone lets a user of one cloud into another, the way
// keystoneauth's k2k plugin goes.
func TestKeystoneToKeystone(t *testing.T) {
	home, issuer := vouching(t)
	_, _, raw := home.raw("GET", "/v3/OS-FEDERATION/saml2/metadata", "", "")
	meta, err := issuer.Metadata(t.Context())
	require.NoError(t, err)
	require.Equal(t, string(meta), raw)

	at := api.FederatedProtocol{IdP: "home", Protocol: "saml2"}
	p, err := saml.New(saml.Config{EntityID: "https://away.example.com", Metadata: meta, IdPInitiated: true})
	require.NoError(t, err)
	away := federatedCloud(t, nil, api.FederationConfig{Logins: map[api.FederatedProtocol]federation.Login{at: p}}, nil)
	server := httptest.NewServer(away.h)
	t.Cleanup(server.Close)
	authURL := server.URL + "/identity" + k2kAuth
	away.put("PUT", "/v3/OS-FEDERATION/identity_providers/home", `{"identity_provider":{"enabled":true}}`)
	away.put("PUT", "/v3/OS-FEDERATION/mappings/m", `{"mapping":{"rules":[{"local":[{"user":{"name":"{0}"},"groups":"{1}"}],"remote":[{"type":"openstack_user"},{"type":"openstack_groups"}]}]}}`)
	away.put("PUT", "/v3/OS-FEDERATION/identity_providers/home/protocols/saml2", `{"protocol":{"mapping_id":"m"}}`)
	group := dig(away.put("POST", "/v3/groups", `{"group":{"name":"g","domain_id":"default"}}`), "group", "id")

	sp := "/v3/OS-FEDERATION/service_providers/away"
	home.put("PUT", sp, `{"service_provider":{"enabled":true,"auth_url":"`+authURL+`","sp_url":"`+authURL+`"}}`)
	g := dig(home.put("POST", "/v3/groups", `{"group":{"name":"g","domain_id":"default"}}`), "group", "id").(string)
	home.put("PUT", "/v3/groups/"+g+"/users/"+home.ids.UserID, "")
	ask := func(token string) string {
		return `{"auth":{"identity":{"methods":["token"],"token":{"id":"` + token + `"}},"scope":{"service_provider":{"id":"away"}}}}`
	}
	token := home.token("admin", "secret", onAdmin)
	for _, path := range []string{"/v3/auth/OS-FEDERATION/saml2", "/v3/auth/OS-FEDERATION/saml2/ecp"} {
		code, h, body := home.raw("POST", path, "", ask(token))
		require.Equal(t, 200, code, body)
		require.Equal(t, "text/xml", h.Get("Content-Type"))
		require.Equal(t, authURL, h.Get("X-Sp-Url"))
	}
	home.fails(403, "Use a project scoped token", "POST", "/v3/auth/OS-FEDERATION/saml2", "", ask(home.token("admin", "secret", `"unscoped"`)))
	home.fails(401, "", "POST", "/v3/auth/OS-FEDERATION/saml2", "", ask("nonsense"))
	home.fails(404, "Could not find Service Provider: nix.", "POST", "/v3/auth/OS-FEDERATION/saml2", "", strings.Replace(ask(token), "away", "nix", 1))

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	_, _, envelope := home.raw("POST", "/v3/auth/OS-FEDERATION/saml2/ecp", "", ask(token))
	post := func(c *http.Client, body string) int {
		resp, err := c.Post(authURL, "application/vnd.paos+xml", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, 401, post(client, strings.ReplaceAll(envelope, ">admin<", ">root<")))
	require.Equal(t, 303, post(client, envelope))
	get := func(c *http.Client) (int, string, string) {
		resp, err := c.Get(authURL)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // read
		var b bytes.Buffer
		_, err = io.Copy(&b, resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, resp.Header.Get("X-Subject-Token"), b.String()
	}
	code, text, body := get(client)
	require.Equal(t, 201, code, body)
	caller, err := away.svc.ValidateToken(t.Context(), text)
	require.NoError(t, err)
	require.Equal(t, "admin", caller.UserName)
	require.NotEqual(t, away.ids.UserID, caller.UserID, "the other cloud's admin is not ours")
	require.Contains(t, body, `"groups":[{"id":"`+group.(string)+`"}]`)

	// An assertion is good once.
	code, _, body = get(client)
	require.Equal(t, 401, code, body)
	other := &http.Client{CheckRedirect: client.CheckRedirect}
	if post(other, envelope) == 303 {
		code, _, _ = get(other)
		require.Equal(t, 401, code)
	}

	home.put("PATCH", sp, `{"service_provider":{"enabled":false}}`)
	home.fails(403, "Service Provider away is disabled", "POST", "/v3/auth/OS-FEDERATION/saml2", "", ask(token))
}

// raw sends a request and returns the body as it is.
func (c *cloud) raw(method, path, token, body string) (int, http.Header, string) {
	c.t.Helper()
	r := httptest.NewRequestWithContext(c.t.Context(), method, base+path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	return w.Code, w.Header(), w.Body.String()
}
