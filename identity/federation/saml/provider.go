// Package saml speaks SAML 2.0: [Provider] believes what an identity provider
// asserts of users, and [Issuer] asserts at other clouds who ours are
// (Keystone-to-Keystone).
//
//	p, err := saml.New(saml.Config{EntityID: "https://cloud.example.com/v3", Metadata: xml})
//	api.FederationConfig{Logins: {{IdP: "example", Protocol: "saml2"}: p}}
//
// An assertion is believed when it, or the response around it, is signed by a key of
// the metadata; when it names us as its audience and the URL that it came to as its
// recipient; when its time has come and not passed; and once. Unless
// IdPInitiated is set it must answer a login that was begun here.
//
// An attribute's values are under its name and its friendly name. The issuer is
// the attribute Shib-Identity-Provider and MELLON_IDP, the subject REMOTE_USER and
// MELLON_NAME_ID, as the usual web server modules have them.
package saml

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"
	csaml "github.com/crewjam/saml"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/federation"
)

// Config is what a Provider is made of. EntityID and Metadata must be set.
type Config struct {
	// EntityID is our name at the identity provider, the audience of its assertions.
	EntityID string
	// Metadata is the identity provider's, as XML: its name, addresses and keys.
	Metadata []byte
	// Key and Certificate sign our requests and decrypt assertions; nil is
	// unsigned requests and no encrypted assertions.
	Key         crypto.Signer
	Certificate *x509.Certificate
	// IdPInitiated takes assertions that nobody here asked for, as those of another
	// Keystone's users are. Then the URL that an assertion comes to may be its
	// audience too, and a signed assertion without conditions, as Keystone makes
	// them, is for whom its recipient is.
	IdPInitiated bool
}

// Provider is one SAML identity provider. It is safe for concurrent use.
type Provider struct {
	cfg Config
	idp *csaml.EntityDescriptor
}

var _ federation.Login = (*Provider)(nil)

// New makes a Provider.
func New(cfg Config) (*Provider, error) {
	if cfg.EntityID == "" {
		return nil, errors.New("saml: Config.EntityID is missing")
	}
	idp := &csaml.EntityDescriptor{}
	if err := xml.Unmarshal(cfg.Metadata, idp); err != nil {
		return nil, fmt.Errorf("saml: Config.Metadata: %w", err)
	}
	if idp.EntityID == "" || len(idp.IDPSSODescriptors) == 0 {
		return nil, errors.New("saml: Config.Metadata describes no identity provider")
	}
	return &Provider{cfg, idp}, nil
}

func refused(err error) error {
	return &nacre.Error{Kind: nacre.Unauthenticated, Code: "Unauthorized", Message: "The request you have made requires authentication.", Err: err}
}

func (p *Provider) at(callback string) (*csaml.ServiceProvider, *url.URL, error) {
	acs, err := url.Parse(callback)
	if err != nil {
		return nil, nil, err
	}
	sp := &csaml.ServiceProvider{EntityID: p.cfg.EntityID, AcsURL: *acs, MetadataURL: *acs, IDPMetadata: p.idp, AllowIDPInitiated: false}
	if p.cfg.Key != nil && p.cfg.Certificate != nil {
		sp.Key, sp.Certificate = p.cfg.Key, p.cfg.Certificate
		sp.SignatureMethod = signatureMethod
	}
	sp.ValidateAudienceRestriction = func(a *csaml.Assertion) error {
		for _, r := range a.Conditions.AudienceRestrictions {
			if r.Audience.Value == p.cfg.EntityID || p.cfg.IdPInitiated && r.Audience.Value == callback {
				return nil
			}
		}
		return errors.New("the assertion is for another audience, or for none")
	}
	return sp, acs, nil
}

// Begin implements federation.Login: a request by redirection, to be answered by a
// form that posts itself.
func (p *Provider) Begin(_ context.Context, callback string) (string, []byte, error) {
	sp, _, err := p.at(callback)
	if err != nil {
		return "", nil, err
	}
	to := sp.GetSSOBindingLocation(csaml.HTTPRedirectBinding)
	if to == "" {
		return "", nil, errors.New("saml: the identity provider's metadata has no address for redirection")
	}
	req, err := sp.MakeAuthenticationRequest(to, csaml.HTTPRedirectBinding, csaml.HTTPPostBinding)
	if err != nil {
		return "", nil, err
	}
	u, err := req.Redirect("", sp)
	if err != nil {
		return "", nil, err
	}
	return u.String(), []byte(req.ID), nil
}

// Complete implements federation.Login. The form's SAMLResponse may be within an
// envelope of the enhanced client profile.
func (p *Provider) Complete(_ context.Context, callback string, session []byte, form url.Values) (federation.Proof, error) {
	raw, err := base64.StdEncoding.DecodeString(form.Get("SAMLResponse"))
	if err != nil {
		return federation.Proof{}, refused(err)
	}
	sp, acs, err := p.at(callback)
	if err != nil {
		return federation.Proof{}, err
	}
	var asked []string
	switch {
	case len(session) > 0:
		asked = []string{string(session)}
	case p.cfg.IdPInitiated:
		sp.AllowIDPInitiated = true
	default:
		return federation.Proof{}, refused(errors.New("nobody here asked for the assertion"))
	}
	a, err := p.parse(sp, raw, asked, *acs)
	if err != nil {
		return federation.Proof{}, refused(err)
	}
	return p.proof(a)
}

// parse reads a response. The library takes for granted that an assertion has what
// it needs; one that lacks it must not end the process.
func (p *Provider) parse(sp *csaml.ServiceProvider, raw []byte, asked []string, at url.URL) (a *csaml.Assertion, err error) {
	defer func() {
		if r := recover(); r != nil {
			a, err = nil, fmt.Errorf("the assertion is incomplete: %v", r)
		}
	}()
	if raw, err = unwrapped(raw); err != nil {
		return nil, err
	}
	if sp.AllowIDPInitiated {
		el, err := unconditional(raw)
		if err != nil {
			return nil, err
		}
		if el != nil {
			return p.unconditionally(el, at.String(), time.Now())
		}
	}
	a, err = sp.ParseXMLResponse(raw, asked, at)
	var bad *csaml.InvalidResponseError
	if errors.As(err, &bad) {
		err = bad.PrivateErr
	}
	return a, err
}

// unwrapped takes a response out of its SOAP envelope, if it is in one.
func unwrapped(raw []byte) ([]byte, error) {
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(raw); err != nil {
		return nil, err
	}
	root := doc.Root()
	if root == nil || root.Tag != "Envelope" {
		return raw, nil
	}
	for _, body := range root.ChildElements() {
		if body.Tag != "Body" {
			continue
		}
		for _, e := range body.ChildElements() {
			if e.Tag == "Response" {
				inner := etree.NewDocument()
				c := e.Copy()
				inherit(c, body, root)
				inner.SetRoot(c)
				return inner.WriteToBytes()
			}
		}
	}
	return nil, errors.New("the envelope holds no response")
}

// inherit gives an element the namespaces that it had from those around it.
func inherit(e *etree.Element, around ...*etree.Element) {
	for _, o := range around {
		for _, a := range o.Attr {
			if (a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns") && e.SelectAttr(a.FullKey()) == nil {
				e.CreateAttr(a.FullKey(), a.Value)
			}
		}
	}
}

// proof is what an assertion says, once it is sure that it may.
func (p *Provider) proof(a *csaml.Assertion) (federation.Proof, error) {
	if a == nil || a.Subject == nil || a.Conditions == nil || a.ID == "" {
		return federation.Proof{}, refused(errors.New("the assertion is incomplete"))
	}
	borne := slices.ContainsFunc(a.Subject.SubjectConfirmations, func(c csaml.SubjectConfirmation) bool {
		return c.Method == bearer && c.SubjectConfirmationData != nil && !c.SubjectConfirmationData.NotOnOrAfter.IsZero()
	})
	if !borne || a.Conditions.NotOnOrAfter.IsZero() {
		return federation.Proof{}, refused(errors.New("the assertion says not until when it may be shown, or by whom"))
	}
	out := federation.Assertion{"Shib-Identity-Provider": {p.idp.EntityID}, "MELLON_IDP": {p.idp.EntityID}}
	if n := a.Subject.NameID; n != nil && n.Value != "" {
		out["REMOTE_USER"], out["MELLON_NAME_ID"] = []string{n.Value}, []string{n.Value}
	}
	reserved := []string{"Shib-Identity-Provider", "MELLON_IDP", "REMOTE_USER", "MELLON_NAME_ID"}
	for _, st := range a.AttributeStatements {
		for _, at := range st.Attributes {
			var vs []string
			for _, v := range at.Values {
				vs = append(vs, strings.TrimSpace(v.Value))
			}
			for _, name := range []string{at.Name, at.FriendlyName} {
				if name != "" && len(vs) > 0 && !slices.Contains(reserved, name) {
					out[name] = vs
				}
			}
		}
	}
	until := a.Conditions.NotOnOrAfter.Add(csaml.MaxClockSkew + time.Minute)
	return federation.Proof{Assertion: out, ID: a.ID, Until: until}, nil
}
