package setup

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/identity/api"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	write("crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write("key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	write("secret", " s\n")
	const issuer = "issuer: {entity_id: https://a/idp, sso: https://a/sso, certificate_file: crt, key_file: key}\n"
	_, logins, err := Read(write("issuer.yaml", issuer))
	require.NoError(t, err)
	meta, err := logins.Issuer.Metadata(t.Context())
	require.NoError(t, err)
	write("meta.xml", string(meta))

	users, logins, err := Read(write("all.yaml", issuer+`
trusted_dashboards: [https://d/]
remote_id_attribute: HTTP_OIDC_ISS
authorization_ttl: 5m
oidc:
- {identity_provider: a, issuer: https://i, client_id: k, client_secret_file: secret}
saml:
- {identity_provider: b, entity_id: https://me, metadata_file: meta.xml, idp_initiated: true}
proxy: {addresses: [10.0.0.1/32], secret_header: X-S, secret_file: secret, prefix: HTTP_OIDC}
`))
	require.NoError(t, err)
	require.Equal(t, 5*time.Minute, users.AuthorizationTTL)
	require.Equal(t, "s", logins.Proxy.Secret)
	require.Contains(t, logins.Verifiers, api.FederatedProtocol{IdP: "a", Protocol: "openid"})
	require.Contains(t, logins.Logins, api.FederatedProtocol{IdP: "b", Protocol: "saml2"})

	for text, want := range map[string]string{
		"surprise: 1\n": "not found",
		"oidc: [{issuer: https://i, client_id: k}]\n":                                                                "without identity_provider",
		"oidc: [{identity_provider: a, client_id: k}]\n":                                                             "Config.Issuer",
		"oidc: [{identity_provider: a, issuer: i, client_id: k}, {identity_provider: a, issuer: i, client_id: k}]\n": "twice",
		"proxy: {addresses: [10.0.0.1/32], secret_header: X}\n":                                                      "all three",
		"saml: [{identity_provider: a, entity_id: x, metadata_file: nix}]\n":                                         "no such file",
		"saml: [{identity_provider: a, entity_id: x, metadata_file: secret}]\n":                                      "Config.Metadata",
	} {
		_, _, err := Read(write("bad.yaml", text))
		require.ErrorContains(t, err, want, text)
	}
}
