package saml

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/beevik/etree"
	csaml "github.com/crewjam/saml"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
)

func issuerWithKey(t *testing.T) *Issuer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	i, err := NewIssuer(IssuerConfig{EntityID: "https://idp.example.com", SSO: "https://idp.example.com/sso", Key: key, Certificate: cert})
	require.NoError(t, err)
	return i
}

// Assertions without conditions, as Keystone's are, and what somebody may try with
// them.
func TestUnconditional(t *testing.T) {
	const here = "https://sp.example.com/v3/auth"
	ours, theirs := issuerWithKey(t), issuerWithKey(t)
	meta, err := ours.Metadata(t.Context())
	require.NoError(t, err)
	p, err := New(Config{EntityID: "https://sp.example.com", Metadata: meta, IdPInitiated: true})
	require.NoError(t, err)
	now := time.Now().UTC()
	signed := func(i *Issuer, edit func(*csaml.Assertion)) *etree.Element {
		a, err := i.assertion(identity.Subject{User: "alice", Project: "p", Roles: []string{"member"}}, here, now)
		require.NoError(t, err)
		a.Conditions = nil
		if edit != nil {
			edit(a)
		}
		el, err := i.sign(a)
		require.NoError(t, err)
		return el
	}
	show := func(p *Provider, as ...*etree.Element) error {
		resp := (&csaml.Response{ID: newID(), Version: "2.0", IssueInstant: now, Destination: here, Status: csaml.Status{StatusCode: csaml.StatusCode{Value: csaml.StatusSuccess}}}).Element()
		for _, a := range as {
			resp.AddChild(a)
		}
		doc := etree.NewDocument()
		doc.SetRoot(resp)
		raw, err := doc.WriteToBytes()
		require.NoError(t, err)
		proof, err := p.Complete(t.Context(), here, nil, url.Values{"SAMLResponse": {base64.StdEncoding.EncodeToString(raw)}})
		if err == nil {
			require.Equal(t, []string{"alice"}, proof.Assertion["openstack_user"])
			require.NotEmpty(t, proof.ID)
			require.Less(t, proof.Until, now.Add(2*time.Hour))
		}
		return err
	}
	require.NoError(t, show(p, signed(ours, nil)))

	data := func(a *csaml.Assertion) *csaml.SubjectConfirmationData {
		return a.Subject.SubjectConfirmations[0].SubjectConfirmationData
	}
	for name, edit := range map[string]func(*csaml.Assertion){
		"for another URL": func(a *csaml.Assertion) { data(a).Recipient = "https://other.example.com" },
		"for nobody":      func(a *csaml.Assertion) { data(a).Recipient = "" },
		"ended":           func(a *csaml.Assertion) { data(a).NotOnOrAfter = now.Add(-time.Hour) },
		"without an end":  func(a *csaml.Assertion) { data(a).NotOnOrAfter = time.Time{} },
		"old":             func(a *csaml.Assertion) { a.IssueInstant = now.Add(-time.Hour) },
		"of the future":   func(a *csaml.Assertion) { a.IssueInstant = now.Add(time.Hour) },
		"by another":      func(a *csaml.Assertion) { a.Issuer.Value = "https://evil.example.com" },
		"not bearer's":    func(a *csaml.Assertion) { a.Subject.SubjectConfirmations[0].Method = "x" },
		"of nobody":       func(a *csaml.Assertion) { a.Subject.SubjectConfirmations = nil },
	} {
		require.ErrorIs(t, show(p, signed(ours, edit)), nacre.Unauthenticated, name)
	}
	require.ErrorIs(t, show(p, signed(theirs, nil)), nacre.Unauthenticated, "another's key")
	require.ErrorIs(t, show(p, signed(ours, nil), signed(ours, nil)), nacre.Unauthenticated, "two")
	require.ErrorIs(t, show(p), nacre.Unauthenticated, "none")

	bare := signed(ours, nil)
	bare.RemoveChild(bare.SelectElement("Signature"))
	require.ErrorIs(t, show(p, bare), nacre.Unauthenticated, "unsigned")
	for _, name := range []string{"a new id", "the same id"} {
		evil := signed(ours, nil)
		good := evil.Copy()
		evil.FindElement(".//NameID").SetText("admin")
		if name == "a new id" {
			evil.CreateAttr("ID", newID())
		}
		require.ErrorIs(t, show(p, evil), nacre.Unauthenticated, "a signature of something else, %s", name)
		evil.CreateElement("saml:Advice").AddChild(good)
		require.ErrorIs(t, show(p, evil), nacre.Unauthenticated, "wrapped, %s", name)
	}

	strict, err := New(Config{EntityID: "https://sp.example.com", Metadata: meta})
	require.NoError(t, err)
	require.ErrorIs(t, show(strict, signed(ours, nil)), nacre.Unauthenticated, "nobody asked for it")
	_, err = strict.Complete(t.Context(), here, []byte("id-1"), url.Values{"SAMLResponse": {"PHg+"}})
	require.ErrorIs(t, err, nacre.Unauthenticated)
}
