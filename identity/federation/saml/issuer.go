package saml

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"time"

	"github.com/beevik/etree"
	csaml "github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/nacre-cloud/nacre/identity"
)

const signatureMethod = dsig.RSASHA256SignatureMethod

// IssuerConfig is Keystone's [saml]. All but Lifetime must be set.
type IssuerConfig struct {
	// EntityID is our name at service providers (idp_entity_id), SSO the address that
	// metadata names for logins (idp_sso_endpoint).
	EntityID, SSO string
	// Key, an RSA key, signs; Certificate is its public half for service providers.
	Key         crypto.Signer
	Certificate *x509.Certificate
	// Lifetime is how long an assertion may be shown; 0 is an hour, Keystone's
	// assertion_expiration_time.
	Lifetime time.Duration
}

// Issuer makes assertions about this cloud's users.
type Issuer struct{ cfg IssuerConfig }

// NewIssuer makes an Issuer.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	if cfg.EntityID == "" || cfg.SSO == "" || cfg.Certificate == nil {
		return nil, errors.New("saml: IssuerConfig.EntityID, SSO and Certificate are needed")
	}
	if _, ok := cfg.Key.(*rsa.PrivateKey); !ok {
		return nil, errors.New("saml: IssuerConfig.Key is no RSA key")
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = time.Hour
	}
	return &Issuer{cfg}, nil
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return "_" + hex.EncodeToString(b[:])
}

func attribute(name string, values ...string) csaml.Attribute {
	a := csaml.Attribute{Name: name}
	for _, v := range values {
		a.Values = append(a.Values, csaml.AttributeValue{Type: "xs:string", Value: v})
	}
	return a
}

// groups are a user's groups as Keystone asserts them, and mappings read them.
func groups(who identity.Subject) ([]string, error) {
	var out []string
	for _, g := range who.Groups {
		b, err := json.Marshal(map[string]any{"name": g.Name, "domain": map[string]string{"name": g.Domain.Name}})
		if err != nil {
			return nil, err
		}
		out = append(out, "JSON:"+string(b))
	}
	return out, nil
}

func (i *Issuer) assertion(who identity.Subject, recipient string, now time.Time) (*csaml.Assertion, error) {
	until := now.Add(i.cfg.Lifetime)
	attrs := []csaml.Attribute{attribute("openstack_user", who.User), attribute("openstack_roles", who.Roles...), attribute("openstack_project", who.Project),
		attribute("openstack_project_domain", who.ProjectDomain), attribute("openstack_user_domain", who.UserDomain)}
	gs, err := groups(who)
	if err != nil {
		return nil, err
	}
	if len(gs) > 0 {
		attrs = append(attrs, attribute("openstack_groups", gs...))
	}
	return &csaml.Assertion{
		ID: newID(), IssueInstant: now, Version: "2.0",
		Issuer: csaml.Issuer{Format: "urn:oasis:names:tc:SAML:2.0:nameid-format:entity", Value: i.cfg.EntityID},
		Subject: &csaml.Subject{
			NameID: &csaml.NameID{Value: who.User},
			SubjectConfirmations: []csaml.SubjectConfirmation{{Method: "urn:oasis:names:tc:SAML:2.0:cm:bearer",
				SubjectConfirmationData: &csaml.SubjectConfirmationData{NotOnOrAfter: until, Recipient: recipient}}},
		},
		Conditions: &csaml.Conditions{NotBefore: now.Add(-time.Minute), NotOnOrAfter: until,
			AudienceRestrictions: []csaml.AudienceRestriction{{Audience: csaml.Audience{Value: recipient}}}},
		AuthnStatements: []csaml.AuthnStatement{{AuthnInstant: now, SessionIndex: newID(), SessionNotOnOrAfter: &until,
			AuthnContext: csaml.AuthnContext{AuthnContextClassRef: &csaml.AuthnContextClassRef{Value: "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"}}}},
		AttributeStatements: []csaml.AttributeStatement{{Attributes: attrs}},
	}, nil
}

// Assert makes a signed response for a service provider's URL; with ecp it is in
// the envelope of the enhanced client profile, with a relay state that begins so.
func (i *Issuer) Assert(_ context.Context, who identity.Subject, recipient string, ecp bool, relayState string) ([]byte, error) {
	now := time.Now().UTC()
	a, err := i.assertion(who, recipient, now)
	if err != nil {
		return nil, err
	}
	signed, err := i.sign(a)
	if err != nil {
		return nil, err
	}
	resp := (&csaml.Response{ID: newID(), Version: "2.0", IssueInstant: now, Destination: recipient,
		Issuer: &csaml.Issuer{Format: "urn:oasis:names:tc:SAML:2.0:nameid-format:entity", Value: i.cfg.EntityID},
		Status: csaml.Status{StatusCode: csaml.StatusCode{Value: csaml.StatusSuccess}}}).Element()
	resp.AddChild(signed)
	doc := etree.NewDocument()
	if ecp {
		doc.SetRoot(envelope(resp, recipient, relayState))
	} else {
		doc.SetRoot(resp)
	}
	return doc.WriteToBytes()
}

func (i *Issuer) sign(a *csaml.Assertion) (*etree.Element, error) {
	ctx, err := dsig.NewSigningContext(i.cfg.Key, [][]byte{i.cfg.Certificate.Raw})
	if err != nil {
		return nil, err
	}
	ctx.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	if err := ctx.SetSignatureMethod(signatureMethod); err != nil {
		return nil, err
	}
	el := a.Element()
	signed, err := ctx.SignEnveloped(el)
	if err != nil {
		return nil, err
	}
	// The schema wants the signature right after the issuer.
	children := signed.ChildElements()
	a.Signature = children[len(children)-1]
	return a.Element(), nil
}

// envelope is SOAP with the headers that the enhanced client profile has.
func envelope(resp *etree.Element, recipient, relayState string) *etree.Element {
	const actor = "http://schemas.xmlsoap.org/soap/actor/next"
	env := etree.NewElement("soap:Envelope")
	env.CreateAttr("xmlns:soap", "http://schemas.xmlsoap.org/soap/envelope/")
	env.CreateAttr("xmlns:ecp", "urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp")
	header := env.CreateElement("soap:Header")
	for _, e := range []struct{ name, text string }{{"ecp:RelayState", relayState + newID()[1:]}, {"ecp:Response", ""}} {
		h := header.CreateElement(e.name)
		h.CreateAttr("soap:actor", actor)
		h.CreateAttr("soap:mustUnderstand", "1")
		if e.text != "" {
			h.SetText(e.text)
		} else {
			h.CreateAttr("AssertionConsumerServiceURL", recipient)
		}
	}
	env.CreateElement("soap:Body").AddChild(resp)
	return env
}

// Metadata describes this issuer to service providers.
func (i *Issuer) Metadata(context.Context) ([]byte, error) {
	return xml.MarshalIndent(&csaml.EntityDescriptor{
		EntityID: i.cfg.EntityID, ValidUntil: i.cfg.Certificate.NotAfter,
		IDPSSODescriptors: []csaml.IDPSSODescriptor{{
			SSODescriptor: csaml.SSODescriptor{RoleDescriptor: csaml.RoleDescriptor{
				ProtocolSupportEnumeration: "urn:oasis:names:tc:SAML:2.0:protocol",
				KeyDescriptors: []csaml.KeyDescriptor{{Use: "signing", KeyInfo: csaml.KeyInfo{X509Data: csaml.X509Data{
					X509Certificates: []csaml.X509Certificate{{Data: base64.StdEncoding.EncodeToString(i.cfg.Certificate.Raw)}}}}}},
			}},
			SingleSignOnServices: []csaml.Endpoint{{Binding: csaml.HTTPRedirectBinding, Location: i.cfg.SSO}},
		}},
	}, "", "  ")
}
