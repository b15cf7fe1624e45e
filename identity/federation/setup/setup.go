// Package setup reads from a YAML file how users of identity providers come in:
//
//	trusted_dashboards: ["https://dashboard.example.com/auth/websso/"]
//	remote_id_attribute: HTTP_OIDC_ISS
//	oidc:
//	  - identity_provider: example
//	    issuer: https://idp.example.com
//	    client_id: keystone
//	    client_secret_file: oidc-secret
//	saml:
//	  - identity_provider: corp
//	    entity_id: https://cloud.example.com/identity/v3
//	    metadata_file: corp-metadata.xml
//	proxy:
//	  addresses: ["10.0.0.5/32"]
//	  secret_header: X-Proxy-Secret
//	  secret_file: proxy-secret
//	issuer:
//	  entity_id: https://cloud.example.com/identity/v3/OS-FEDERATION/saml2/idp
//	  sso: https://cloud.example.com/identity/v3/OS-FEDERATION/saml2/sso
//	  certificate_file: saml.crt
//	  key_file: saml.key
//
// Files are relative to its own directory. Unknown names are errors. The identity
// providers themselves, their protocols and mappings are made by the API; a name
// here that is not there (yet) lets nobody in.
package setup

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/federation/oidc"
	"github.com/nacre-cloud/nacre/identity/federation/saml"
	"github.com/nacre-cloud/nacre/identity/fernet"
)

type document struct {
	TrustedDashboards []string      `yaml:"trusted_dashboards"`
	RemoteIDAttribute string        `yaml:"remote_id_attribute"`
	AuthorizationTTL  time.Duration `yaml:"authorization_ttl"`
	KeyRepository     string        `yaml:"session_keys"`
	OIDC              []oidcEntry   `yaml:"oidc"`
	SAML              []samlEntry   `yaml:"saml"`
	Proxy             *proxyEntry   `yaml:"proxy"`
	Issuer            *issuerEntry  `yaml:"issuer"`

	dir string
}

type oidcEntry struct {
	IdP        string   `yaml:"identity_provider"`
	Protocol   string   `yaml:"protocol"`
	Issuer     string   `yaml:"issuer"`
	ClientID   string   `yaml:"client_id"`
	SecretFile string   `yaml:"client_secret_file"`
	Audiences  []string `yaml:"audiences"`
	Scopes     []string `yaml:"scopes"`
}

type samlEntry struct {
	IdP          string `yaml:"identity_provider"`
	Protocol     string `yaml:"protocol"`
	EntityID     string `yaml:"entity_id"`
	MetadataFile string `yaml:"metadata_file"`
	CertFile     string `yaml:"certificate_file"`
	KeyFile      string `yaml:"key_file"`
	Initiated    bool   `yaml:"idp_initiated"`
}

type proxyEntry struct {
	Addresses    []netip.Prefix `yaml:"addresses"`
	SecretHeader string         `yaml:"secret_header"`
	SecretFile   string         `yaml:"secret_file"`
	Prefix       string         `yaml:"prefix"`
}

type issuerEntry struct {
	EntityID string        `yaml:"entity_id"`
	SSO      string        `yaml:"sso"`
	CertFile string        `yaml:"certificate_file"`
	KeyFile  string        `yaml:"key_file"`
	Lifetime time.Duration `yaml:"lifetime"`
}

// Read reads a file: what identity.Config and what api.Config take of it.
func Read(path string) (identity.FederationConfig, api.FederationConfig, error) {
	d := document{dir: filepath.Dir(path)}
	users, logins, err := d.read(path)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return users, logins, err
}

func (d *document) read(path string) (users identity.FederationConfig, logins api.FederationConfig, err error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return users, logins, err
	}
	defer f.Close() //nolint:errcheck // only read
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(d); err != nil {
		return users, logins, err
	}
	users = identity.FederationConfig{RemoteIDAttribute: d.RemoteIDAttribute, AuthorizationTTL: d.AuthorizationTTL}
	logins = api.FederationConfig{TrustedDashboards: d.TrustedDashboards, Verifiers: map[api.FederatedProtocol]federation.Verifier{}, Logins: map[api.FederatedProtocol]federation.Login{}}
	if d.KeyRepository != "" {
		if logins.Keys, err = fernet.Open(d.path(d.KeyRepository)); err != nil {
			return users, logins, err
		}
	}
	for _, step := range []func(*api.FederationConfig) error{d.oidc, d.saml, d.proxy, d.issuer} {
		if err := step(&logins); err != nil {
			return users, logins, err
		}
	}
	return users, logins, nil
}

func (d *document) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.dir, name)
}

// secret is a file's text; no name is no secret.
func (d *document) secret(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	b, err := os.ReadFile(d.path(name))
	return strings.TrimSpace(string(b)), err
}

// at names a protocol that none has been named like before.
func at(have api.FederationConfig, idp, protocol, usual string) (api.FederatedProtocol, error) {
	if protocol == "" {
		protocol = usual
	}
	a := api.FederatedProtocol{IdP: idp, Protocol: protocol}
	if idp == "" {
		return a, errors.New("an entry without identity_provider")
	}
	if _, twice := have.Logins[a]; twice {
		return a, fmt.Errorf("identity provider %s has protocol %s twice", idp, protocol)
	}
	return a, nil
}

func (d *document) oidc(c *api.FederationConfig) error {
	for _, e := range d.OIDC {
		a, err := at(*c, e.IdP, e.Protocol, "openid")
		if err != nil {
			return err
		}
		secret, err := d.secret(e.SecretFile)
		if err != nil {
			return err
		}
		p, err := oidc.New(oidc.Config{Issuer: e.Issuer, ClientID: e.ClientID, ClientSecret: secret, Audiences: e.Audiences, Scopes: e.Scopes})
		if err != nil {
			return fmt.Errorf("identity provider %s: %w", e.IdP, err)
		}
		c.Verifiers[a], c.Logins[a] = p, p
	}
	return nil
}

func (d *document) pair(cert, key string) (crypto.Signer, *x509.Certificate, error) {
	p, err := tls.LoadX509KeyPair(d.path(cert), d.path(key))
	if err != nil {
		return nil, nil, err
	}
	signer, ok := p.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s holds no key that signs", key)
	}
	return signer, p.Leaf, nil
}

func (d *document) saml(c *api.FederationConfig) error {
	for _, e := range d.SAML {
		a, err := at(*c, e.IdP, e.Protocol, "saml2")
		if err != nil {
			return err
		}
		meta, err := os.ReadFile(d.path(e.MetadataFile))
		if err != nil {
			return err
		}
		cfg := saml.Config{EntityID: e.EntityID, Metadata: meta, IdPInitiated: e.Initiated}
		if e.KeyFile != "" {
			if cfg.Key, cfg.Certificate, err = d.pair(e.CertFile, e.KeyFile); err != nil {
				return err
			}
		}
		p, err := saml.New(cfg)
		if err != nil {
			return fmt.Errorf("identity provider %s: %w", e.IdP, err)
		}
		c.Logins[a] = p
	}
	return nil
}

func (d *document) proxy(c *api.FederationConfig) error {
	if d.Proxy == nil {
		return nil
	}
	secret, err := d.secret(d.Proxy.SecretFile)
	if err != nil {
		return err
	}
	if secret == "" || d.Proxy.SecretHeader == "" || len(d.Proxy.Addresses) == 0 {
		return errors.New("proxy: addresses, secret_header and secret_file are needed, all three")
	}
	c.Proxy = &api.FrontProxy{Addresses: d.Proxy.Addresses, SecretHeader: d.Proxy.SecretHeader, Secret: secret, Prefix: d.Proxy.Prefix}
	return nil
}

func (d *document) issuer(c *api.FederationConfig) error {
	if d.Issuer == nil {
		return nil
	}
	key, cert, err := d.pair(d.Issuer.CertFile, d.Issuer.KeyFile)
	if err != nil {
		return err
	}
	c.Issuer, err = saml.NewIssuer(saml.IssuerConfig{EntityID: d.Issuer.EntityID, SSO: d.Issuer.SSO, Key: key, Certificate: cert, Lifetime: d.Issuer.Lifetime})
	return err
}
