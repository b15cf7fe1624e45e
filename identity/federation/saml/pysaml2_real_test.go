//go:build realtest

package saml_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/federation/saml"
)

// believe has Debian's pysaml2, as a service provider, read a response.
const believe = `
import json, sys
from saml2 import BINDING_HTTP_POST
from saml2.client import Saml2Client
from saml2.config import SPConfig
ask = json.load(sys.stdin)
conf = SPConfig()
conf.load({"entityid": ask["here"], "xmlsec_binary": "/usr/bin/xmlsec1", "metadata": {"local": [ask["metadata"]]}, "allow_unknown_attributes": True,
  "key_file": ask["key"], "cert_file": ask["cert"],
  "service": {"sp": {"endpoints": {"assertion_consumer_service": [(ask["here"], BINDING_HTTP_POST)]},
    "allow_unsolicited": True, "want_assertions_signed": True, "want_response_signed": False}}})
r = Saml2Client(conf).parse_authn_request_response(ask["response"], BINDING_HTTP_POST)
print(json.dumps({"subject": r.name_id.text, "attributes": r.ava, "issuer": r.issuer()}))
`

// assert has Debian's Keystone, which uses pysaml2, assert a user.
const assert = `
import json, sys
import keystone.conf
from keystone.federation import idp
ask = json.load(sys.stdin)
keystone.conf.configure()
keystone.conf.CONF([], project="keystone", default_config_files=[])
c = keystone.conf.CONF
for name, v in {"idp_entity_id": "https://idp.example.com", "idp_sso_endpoint": "https://idp.example.com/sso", "keyfile": ask["key"], "certfile": ask["cert"]}.items():
    c.set_override(name, v, group="saml")
response = idp.SAMLGenerator().samlize_token("https://idp.example.com", ask["here"], "alice", "Default", ["member", "reader"], "p", "Default",
  ['JSON:{"name":"g","domain":{"name":"Default"}}'])
print(json.dumps({"response": response.to_string().decode(), "metadata": idp.MetadataGenerator().generate_metadata().to_string().decode()}))
`

// python runs a script that reads and answers JSON; an error is its own.
func python(t *testing.T, script string, in map[string]string, out any) error {
	t.Helper()
	b, err := json.Marshal(in)
	require.NoError(t, err)
	cmd := exec.Command("/usr/bin/python3", "-W", "ignore", "-c", script)
	cmd.Stdin = bytes.NewReader(b)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err = cmd.Output()
	if err != nil {
		t.Logf("%s", &stderr)
		return err
	}
	require.NoError(t, json.Unmarshal(b, out))
	return nil
}

// pair writes a key and a certificate as files, and is the issuer that has them.
func pair(t *testing.T, dir string) (key, cert string, i *saml.Issuer) {
	private, public := keyPair(t)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	key, cert = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: public.Raw}), 0o600))
	i, err = saml.NewIssuer(saml.IssuerConfig{EntityID: "https://idp.example.com", SSO: "https://idp.example.com/sso", Key: private, Certificate: public})
	require.NoError(t, err)
	return key, cert, i
}

func TestPysaml2BelievesUs(t *testing.T) {
	dir := t.TempDir()
	key, cert, i := pair(t, dir)
	meta, err := i.Metadata(t.Context())
	require.NoError(t, err)
	file := filepath.Join(dir, "metadata.xml")
	require.NoError(t, os.WriteFile(file, meta, 0o600))
	raw, err := i.Assert(t.Context(), alice, here, false, "")
	require.NoError(t, err)
	in := map[string]string{"here": here, "metadata": file, "key": key, "cert": cert, "response": base64.StdEncoding.EncodeToString(raw)}
	var got struct {
		Subject, Issuer string
		Attributes      map[string][]string
	}
	require.NoError(t, python(t, believe, in, &got))
	require.Equal(t, "alice", got.Subject)
	require.Equal(t, "https://idp.example.com", got.Issuer)
	require.Equal(t, map[string][]string{"openstack_user": {"alice"}, "openstack_user_domain": {"Default"}, "openstack_project": {"p"}, "openstack_project_domain": {"Default"},
		"openstack_roles": {"member", "reader"}, "openstack_groups": {`JSON:{"domain":{"name":"Default"},"name":"g"}`}}, got.Attributes)

	in["response"] = base64.StdEncoding.EncodeToString(bytes.Replace(raw, []byte(">member<"), []byte(">admin<"), 1))
	require.Error(t, python(t, believe, in, &got), "it looks at the signature")
}

func TestWeBelieveKeystone(t *testing.T) {
	key, cert, _ := pair(t, t.TempDir())
	var got struct{ Response, Metadata string }
	require.NoError(t, python(t, assert, map[string]string{"here": here, "key": key, "cert": cert}, &got))
	p, err := saml.New(saml.Config{EntityID: "https://sp.example.com", Metadata: []byte(got.Metadata), IdPInitiated: true})
	require.NoError(t, err)
	proof, err := p.Complete(t.Context(), here, nil, form([]byte(got.Response)))
	require.NoError(t, err)
	require.Equal(t, []string{"alice"}, proof.Assertion["openstack_user"])
	require.Equal(t, []string{"member", "reader"}, proof.Assertion["openstack_roles"])
	require.Equal(t, []string{"p"}, proof.Assertion["openstack_project"])
	require.Equal(t, []string{`JSON:{"name":"g","domain":{"name":"Default"}}`}, proof.Assertion["openstack_groups"])
	require.Equal(t, []string{"https://idp.example.com"}, proof.Assertion["MELLON_IDP"])
	_, err = p.Complete(t.Context(), here, nil, form(bytes.Replace([]byte(got.Response), []byte(">member<"), []byte(">admin<"), 1)))
	require.ErrorIs(t, err, nacre.Unauthenticated)
}
