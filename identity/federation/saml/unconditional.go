package saml

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/beevik/etree"
	csaml "github.com/crewjam/saml"
	xrv "github.com/mattermost/xml-roundtrip-validator"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"
)

const (
	assertionSpace = "urn:oasis:names:tc:SAML:2.0:assertion"
	bearer         = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
)

// unconditional finds in a response an assertion without conditions, as Keystone
// makes them for other Keystones; nil is that there is none.
func unconditional(raw []byte) (*etree.Element, error) {
	if err := xrv.Validate(bytes.NewReader(raw)); err != nil {
		return nil, err
	}
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(raw); err != nil {
		return nil, err
	}
	root := doc.Root()
	if root == nil || root.Tag != "Response" {
		return nil, nil
	}
	var found *etree.Element
	for _, e := range root.ChildElements() {
		if e.Tag != "Assertion" || e.NamespaceURI() != assertionSpace {
			continue
		}
		if found != nil {
			return nil, errors.New("the response holds several assertions")
		}
		found = e
	}
	if found == nil || found.SelectElement("Conditions") != nil {
		return nil, nil
	}
	return found, nil
}

// unconditionally reads an assertion that has no conditions, and so names no
// audience: that it was made for the URL that it came to must do, and it must be
// signed itself. Nothing is read but what the signature covers.
func (p *Provider) unconditionally(el *etree.Element, acs string, now time.Time) (*csaml.Assertion, error) {
	signed, err := p.verified(el)
	if err != nil {
		return nil, err
	}
	doc := etree.NewDocument()
	doc.SetRoot(signed)
	b, err := doc.WriteToBytes()
	if err != nil {
		return nil, err
	}
	a := &csaml.Assertion{}
	if err := xml.Unmarshal(b, a); err != nil {
		return nil, err
	}
	switch {
	case a.Conditions != nil || a.Subject == nil || a.ID == "" || len(a.Subject.SubjectConfirmations) != 1:
		return nil, errors.New("the assertion is incomplete")
	case a.Issuer.Value != p.idp.EntityID:
		return nil, fmt.Errorf("the assertion is from %q", a.Issuer.Value)
	case a.IssueInstant.Add(csaml.MaxIssueDelay).Before(now), a.IssueInstant.Add(-csaml.MaxClockSkew).After(now):
		return nil, errors.New("the assertion is old, or not made yet")
	}
	c := a.Subject.SubjectConfirmations[0]
	d := c.SubjectConfirmationData
	switch {
	case c.Method != bearer || d == nil || d.NotOnOrAfter.IsZero():
		return nil, errors.New("the assertion says not until when it may be shown, or by whom")
	case d.Recipient != acs:
		return nil, errors.New("the assertion is for another URL")
	case d.NotOnOrAfter.Add(csaml.MaxClockSkew).Before(now):
		return nil, errors.New("the assertion has ended")
	}
	a.Conditions = &csaml.Conditions{NotOnOrAfter: d.NotOnOrAfter}
	return a, nil
}

// verified is what the identity provider's signature on an element covers.
func (p *Provider) verified(el *etree.Element) (*etree.Element, error) {
	var certs []*x509.Certificate
	for _, d := range p.idp.IDPSSODescriptors {
		for _, k := range d.KeyDescriptors {
			if k.Use != "" && k.Use != "signing" {
				continue
			}
			for _, c := range k.KeyInfo.X509Data.X509Certificates {
				der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(c.Data), ""))
				if err != nil {
					return nil, err
				}
				cert, err := x509.ParseCertificate(der)
				if err != nil {
					return nil, err
				}
				certs = append(certs, cert)
			}
		}
	}
	around, err := etreeutils.NSBuildParentContext(el)
	if err != nil {
		return nil, err
	}
	if around, err = around.SubContext(el); err != nil {
		return nil, err
	}
	alone, err := etreeutils.NSDetatch(around, el)
	if err != nil {
		return nil, err
	}
	v := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: certs})
	v.IdAttribute = "ID"
	return v.Validate(alone)
}
