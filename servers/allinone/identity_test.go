package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/parts"
)

// local is the cloud of a state directory, in this process, as the program opens it.
type local struct {
	*servers.Local
	t     *testing.T
	admin string
}

func openLocal(t *testing.T, state string) *local {
	t.Helper()
	c := kit.Default()
	c.StateDir, c.URL = state, "http://cloud.test"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cloud, err := servers.OpenLocal(ctx, c, parts.All, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	l := &local{Local: cloud, t: t}
	secrets := map[string]string{}
	b, err := os.ReadFile(filepath.Join(state, "secrets.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &secrets))
	l.admin, _ = l.login("Default", "admin", secrets["admin_password"], "admin")
	require.NotEmpty(t, l.admin)
	return l
}

// ask sends a request and expects a status.
func (l *local) ask(want int, method, path, token, body string, headers ...string) (http.Header, map[string]any) {
	l.t.Helper()
	r := httptest.NewRequest(method, "http://cloud.test"+path, bytes.NewBufferString(body))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	l.Handler().ServeHTTP(w, r)
	require.Equal(l.t, want, w.Code, "%s %s: %s", method, path, w.Body)
	var m map[string]any
	if w.Body.Len() > 0 {
		require.NoError(l.t, json.Unmarshal(w.Body.Bytes(), &m))
	}
	return w.Header(), m
}

// login gets a token for a project of the domain by password.
func (l *local) login(domain, user, password, project string) (string, map[string]any) {
	l.t.Helper()
	h, m := l.ask(201, "POST", "/identity/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"`+user+`","domain":{"name":"`+domain+`"},"password":"`+password+`"}}},
		"scope":{"project":{"name":"`+project+`","domain":{"name":"`+domain+`"}}}}}`)
	return h.Get("X-Subject-Token"), m
}

// TestFederationByFile has users of an OpenID Connect issuer come in, as
// federation.yaml in the state directory says.
func TestFederationByFile(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	var issuer *httptest.Server
	issuer = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var v any = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "RS256", Use: "sig"}}}
		if r.URL.Path != "/keys" {
			v = map[string]any{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys", "authorization_endpoint": issuer.URL + "/a", "token_endpoint": issuer.URL + "/t", "id_token_signing_alg_values_supported": []string{"RS256"}}
		}
		_ = json.NewEncoder(w).Encode(v)
	}))
	defer issuer.Close()
	bearer := func(user string) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
		require.NoError(t, err)
		claims, err := json.Marshal(map[string]any{"iss": issuer.URL, "sub": user, "aud": "cloud", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()})
		require.NoError(t, err)
		o, err := s.Sign(claims)
		require.NoError(t, err)
		text, err := o.CompactSerialize()
		require.NoError(t, err)
		return text
	}

	state := filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.MkdirAll(state, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(state, "oidc-secret"), []byte("s\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(state, "federation.yaml"), []byte(`
remote_id_attribute: HTTP_OIDC_ISS
oidc:
  - {identity_provider: corp, issuer: `+issuer.URL+`, client_id: cloud, client_secret_file: oidc-secret}
`), 0o600))
	l := openLocal(t, state)
	defer func() { require.NoError(t, l.Close()) }()
	const idp = "/identity/v3/OS-FEDERATION/identity_providers/corp"
	l.ask(201, "PUT", idp, l.admin, `{"identity_provider":{"enabled":true,"remote_ids":["`+issuer.URL+`"]}}`)
	l.ask(201, "PUT", "/identity/v3/OS-FEDERATION/mappings/m", l.admin, `{"mapping":{"rules":[{"local":[{"user":{"name":"{0}"}},{"projects":[{"name":"mine of {0}","roles":[{"name":"member"}]}]}],"remote":[{"type":"OIDC-sub"}]}]}}`)
	l.ask(201, "PUT", idp+"/protocols/openid", l.admin, `{"protocol":{"mapping_id":"m"}}`)
	h, _ := l.ask(201, "POST", idp+"/protocols/openid/auth", "", "", "Authorization", "Bearer "+bearer("alice"))
	_, m := l.ask(200, "GET", "/identity/v3/auth/projects", h.Get("X-Subject-Token"), "")
	project := m["projects"].([]any)[0].(map[string]any)
	require.Equal(t, "mine of alice", project["name"])
	h, _ = l.ask(201, "POST", "/identity/v3/auth/tokens", "", `{"auth":{"identity":{"methods":["token"],"token":{"id":"`+h.Get("X-Subject-Token")+`"}},"scope":{"project":{"id":"`+project["id"].(string)+`"}}}}`)
	l.ask(200, "GET", "/compute/v2.1/servers", h.Get("X-Subject-Token"), "")
	l.ask(401, "POST", idp+"/protocols/openid/auth", "", "", "Authorization", "Bearer "+bearer("alice")+"x")
}

// TestWrongIdentityFiles has the cloud say at its start what is wrong with a file.
func TestWrongIdentityFiles(t *testing.T) {
	for name, file := range map[string][2]string{
		"ldap: chase_referrals": {"identity.yaml", "domains: {corp: {identity: {driver: ldap}, ldap: {chase_referrals: true}}}"},
		"Option uri":            {"identity.yaml", "domains: {corp: {identity: {driver: ldap}, ldap: {uri: x}}}"},
		"client_identity":       {"federation.yaml", "oidc: [{client_identity: x}]"},
	} {
		state := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(state, file[0]), []byte(file[1]), 0o600))
		c := kit.Default()
		c.StateDir, c.URL = state, "http://cloud.test"
		_, err := servers.OpenLocal(t.Context(), c, parts.All, slog.New(slog.NewTextHandler(io.Discard, nil)))
		require.ErrorContains(t, err, name)
	}
}
