package saml_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/xml"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	csaml "github.com/crewjam/saml"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/federation/saml"
)

func keyPair(t *testing.T) (*rsa.PrivateKey, *x509.Certificate) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return key, cert
}

const here = "https://sp.example.com/v3/auth"

var alice = identity.Subject{User: "alice", UserDomain: "Default", Project: "p", ProjectDomain: "Default", Roles: []string{"member", "reader"},
	Groups: []federation.GroupRef{{Name: "g", Domain: federation.DomainRef{Name: "Default"}}}}

func newIssuer(t *testing.T) *saml.Issuer {
	key, cert := keyPair(t)
	i, err := saml.NewIssuer(saml.IssuerConfig{EntityID: "https://idp.example.com", SSO: "https://idp.example.com/sso", Key: key, Certificate: cert})
	require.NoError(t, err)
	return i
}

func believer(t *testing.T, i *saml.Issuer, initiated bool) *saml.Provider {
	meta, err := i.Metadata(t.Context())
	require.NoError(t, err)
	p, err := saml.New(saml.Config{EntityID: "https://sp.example.com", Metadata: meta, IdPInitiated: initiated})
	require.NoError(t, err)
	return p
}

func form(raw []byte) url.Values {
	return url.Values{"SAMLResponse": {base64.StdEncoding.EncodeToString(raw)}}
}

func TestIssuerAndProvider(t *testing.T) {
	i := newIssuer(t)
	p := believer(t, i, true)
	for _, ecp := range []bool{false, true} {
		raw, err := i.Assert(t.Context(), alice, here, ecp, "ss:mem:")
		require.NoError(t, err)
		require.Equal(t, ecp, strings.Contains(string(raw), "ss:mem:"))
		proof, err := p.Complete(t.Context(), here, nil, form(raw))
		require.NoError(t, err)
		require.Equal(t, federation.Assertion{
			"openstack_user": {"alice"}, "openstack_user_domain": {"Default"}, "openstack_project": {"p"}, "openstack_project_domain": {"Default"},
			"openstack_roles": {"member", "reader"}, "openstack_groups": {`JSON:{"domain":{"name":"Default"},"name":"g"}`},
			"REMOTE_USER": {"alice"}, "MELLON_NAME_ID": {"alice"}, "Shib-Identity-Provider": {"https://idp.example.com"}, "MELLON_IDP": {"https://idp.example.com"},
		}, proof.Assertion)
		require.NotEmpty(t, proof.ID)
		require.Greater(t, proof.Until, time.Now().Add(50*time.Minute))
	}
}

func TestRefused(t *testing.T) {
	i, other := newIssuer(t), newIssuer(t)
	p := believer(t, i, true)
	raw, err := i.Assert(t.Context(), alice, here, false, "")
	require.NoError(t, err)
	good := string(raw)
	elsewhere, err := i.Assert(t.Context(), alice, "https://other.example.com", false, "")
	require.NoError(t, err)
	foreign, err := other.Assert(t.Context(), alice, here, false, "")
	require.NoError(t, err)
	// The signed assertion hides within another that says what it wants.
	signed := regexp.MustCompile(`(?s)<saml:Assertion.*</saml:Assertion>`).FindString(good)
	evil := regexp.MustCompile(`(?s)<ds:Signature.*</ds:Signature>`).ReplaceAllString(strings.ReplaceAll(signed, "alice", "admin"), "")
	evil = regexp.MustCompile(`ID="[^"]*"`).ReplaceAllString(evil, `ID="_evil"`)
	for name, raw := range map[string]string{
		"changed":                strings.ReplaceAll(good, "alice", "admin"),
		"a role more":            strings.Replace(good, ">member<", ">admin<", 1),
		"a comment in a name":    strings.Replace(good, ">member<", "><!-- -->admin<", 1),
		"unsigned":               regexp.MustCompile(`(?s)<ds:Signature.*</ds:Signature>`).ReplaceAllString(good, ""),
		"for another":            string(elsewhere),
		"by another":             string(foreign),
		"wrapped":                strings.Replace(good, signed, evil+signed, 1),
		"wrapping":               strings.Replace(good, signed, strings.Replace(evil, "</saml:Assertion>", signed+"</saml:Assertion>", 1), 1),
		"no conditions":          regexp.MustCompile(`(?s)<saml:Conditions.*</saml:Conditions>`).ReplaceAllString(good, ""),
		"no subject":             regexp.MustCompile(`(?s)<saml:Subject.*</saml:Subject>`).ReplaceAllString(good, ""),
		"an envelope of nothing": `<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body/></soap:Envelope>`,
		"nothing":                "", "nonsense": "<a", "another thing": "<a/>",
	} {
		t.Run(name, func(t *testing.T) {
			proof, err := p.Complete(t.Context(), here, nil, form([]byte(raw)))
			if name == "wrapped" && err == nil {
				// Only what was signed may count.
				require.Equal(t, "alice", proof.Assertion.Get("openstack_user"))
				return
			}
			require.ErrorIs(t, err, nacre.Unauthenticated)
		})
	}
	_, err = p.Complete(t.Context(), here+"/other", nil, form(raw))
	require.ErrorIs(t, err, nacre.Unauthenticated)
	_, err = believer(t, i, false).Complete(t.Context(), here, nil, form(raw))
	require.ErrorIs(t, err, nacre.Unauthenticated)
}

func TestExpired(t *testing.T) {
	key, cert := keyPair(t)
	i, err := saml.NewIssuer(saml.IssuerConfig{EntityID: "https://idp.example.com", SSO: "https://x", Key: key, Certificate: cert, Lifetime: -csaml.MaxClockSkew - time.Minute})
	require.NoError(t, err)
	raw, err := i.Assert(t.Context(), alice, here, false, "")
	require.NoError(t, err)
	_, err = believer(t, i, true).Complete(t.Context(), here, nil, form(raw))
	require.ErrorIs(t, err, nacre.Unauthenticated)
}

// spOf knows any service provider by where it wants its answers.
type spOf struct{ entity string }

func (s spOf) GetServiceProvider(_ *http.Request, id string) (*csaml.EntityDescriptor, error) {
	if id != s.entity {
		return nil, os.ErrNotExist
	}
	return &csaml.EntityDescriptor{EntityID: id, SPSSODescriptors: []csaml.SPSSODescriptor{{AssertionConsumerServices: []csaml.IndexedEndpoint{{Binding: csaml.HTTPPostBinding, Location: here, Index: 1}}}}}, nil
}

type loggedIn struct{}

func (loggedIn) GetSession(http.ResponseWriter, *http.Request, *csaml.IdpAuthnRequest) *csaml.Session {
	return &csaml.Session{ID: "s", NameID: "alice", UserName: "alice", UserEmail: "alice@example.com", Groups: []string{"dev", "ops"}, CreateTime: time.Now(), ExpireTime: time.Now().Add(time.Hour), Index: "1"}
}

// TestLogin leads a browser through another implementation's identity provider.
func TestLogin(t *testing.T) {
	key, cert := keyPair(t)
	idpURL, err := url.Parse("https://idp.example.com/metadata")
	require.NoError(t, err)
	sso, err := url.Parse("https://idp.example.com/sso")
	require.NoError(t, err)
	idp := &csaml.IdentityProvider{Key: key, Certificate: cert, MetadataURL: *idpURL, SSOURL: *sso, ServiceProviderProvider: spOf{"https://sp.example.com"}, SessionProvider: loggedIn{}}
	meta, err := xml.Marshal(idp.Metadata())
	require.NoError(t, err)
	p, err := saml.New(saml.Config{EntityID: "https://sp.example.com", Metadata: meta})
	require.NoError(t, err)
	answer := func() ([]byte, url.Values) {
		to, session, err := p.Begin(t.Context(), here)
		require.NoError(t, err)
		w := httptest.NewRecorder()
		idp.ServeSSO(w, httptest.NewRequest("GET", to, http.NoBody))
		body, err := io.ReadAll(w.Body)
		require.NoError(t, err)
		m := regexp.MustCompile(`name="SAMLResponse" value="([^"]+)"`).FindStringSubmatch(string(body))
		require.NotNil(t, m, string(body))
		return session, url.Values{"SAMLResponse": {strings.ReplaceAll(m[1], "&#43;", "+")}}
	}
	session, posted := answer()
	proof, err := p.Complete(t.Context(), here, session, posted)
	require.NoError(t, err)
	require.Equal(t, "alice", proof.Assertion.Get("REMOTE_USER"))
	require.Equal(t, "alice", proof.Assertion.Get("uid"))
	require.Equal(t, []string{"dev", "ops"}, proof.Assertion["eduPersonAffiliation"])

	other, _ := answer()
	_, err = p.Complete(t.Context(), here, other, posted)
	require.ErrorIs(t, err, nacre.Unauthenticated, "the answer to another login")
	_, err = p.Complete(t.Context(), here, nil, posted)
	require.ErrorIs(t, err, nacre.Unauthenticated)
}
