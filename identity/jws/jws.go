// Package jws makes and reads tokens as JSON Web Signatures (ES256), the other
// format of Keystone's. Whoever has a public key can check such a token without
// being able to make one, so that several identity services read each other's.
//
//	keys, err := jws.Open("/etc/keystone/jws-keys/private", "/etc/keystone/jws-keys/public")
//	svc, err := identity.New(identity.Config{Tokens: keys, …})
//
// The key repository is Keystone's: the file private.pem signs, and each file in
// the public directory is a key whose tokens are good. To rotate, make a pair
// ([Create]), copy the new public key to the public directory of every service,
// then put the new private.pem in place, and remove the old public key once the
// last token made with the old one has ended. Both directories are looked at once
// a second; one that can't be read just now leaves the keys as they were.
//
// A token here is readable by everybody: it is signed, not encrypted.
package jws

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/nacre-cloud/nacre/identity/fernet"
)

// Keys are a key repository. They are safe for concurrent use.
type Keys struct {
	private, public string
	now             atomic.Pointer[loaded]
	looked          atomic.Int64
}

// loaded is what the directories had.
type loaded struct {
	stamp  string
	signer jose.Signer
	keys   []*ecdsa.PublicKey
}

// privateFile is the one key that signs.
const privateFile = "private.pem"

// Open reads a key repository: the directory of private.pem and that of the
// public keys. One that is missing or empty is an error.
func Open(private, public string) (*Keys, error) {
	k := &Keys{private: private, public: public}
	k.looked.Store(time.Now().UnixNano())
	l, err := k.load("")
	if err != nil {
		return nil, err
	}
	k.now.Store(l)
	return k, nil
}

// Create makes a pair of keys in a directory, as "keystone-manage
// create_jws_keypair" does: private.pem (mode 0600) and public.pem. It replaces
// none that is there.
func Create(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("jws: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := write(filepath.Join(dir, privateFile), "PRIVATE KEY", private, 0o600); err != nil {
		return err
	}
	return write(filepath.Join(dir, "public.pem"), "PUBLIC KEY", public, 0o644)
}

func write(path, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("jws: %w", err)
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Close())
}

// load reads the repository unless it is as it was, which is nil.
func (k *Keys) load(before string) (*loaded, error) {
	files, err := filepath.Glob(filepath.Join(k.public, "*"))
	if err != nil {
		return nil, fmt.Errorf("jws: %w", err)
	}
	files = append(files, filepath.Join(k.private, privateFile))
	l := &loaded{}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, fmt.Errorf("jws: %w", err)
		}
		l.stamp += fmt.Sprintf("%s %d %d\n", f, info.ModTime().UnixNano(), info.Size())
	}
	if l.stamp == before {
		return nil, nil
	}
	for _, f := range files[:len(files)-1] {
		key, err := parse(f, x509.ParsePKIXPublicKey)
		if err != nil {
			return nil, err
		}
		public, ok := key.(*ecdsa.PublicKey)
		if !ok || public.Curve != elliptic.P256() {
			return nil, fmt.Errorf("jws: %s is no key for ES256", f)
		}
		l.keys = append(l.keys, public)
	}
	if len(l.keys) == 0 {
		return nil, fmt.Errorf("jws: there is no public key in %s", k.public)
	}
	key, err := parse(files[len(files)-1], parsePrivate)
	if err != nil {
		return nil, err
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, fmt.Errorf("jws: %s is no key for ES256", privateFile)
	}
	if !slices.ContainsFunc(l.keys, func(p *ecdsa.PublicKey) bool { return p.Equal(&private.PublicKey) }) {
		return nil, fmt.Errorf("jws: the public key of %s is not in %s", privateFile, k.public)
	}
	l.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, (&jose.SignerOptions{}).WithType("JWT"))
	return l, err
}

// parsePrivate reads PKCS 8, and what older tools write.
func parsePrivate(der []byte) (any, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	return x509.ParseECPrivateKey(der)
}

func parse(path string, f func([]byte) (any, error)) (any, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("jws: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("jws: %s is no PEM", path)
	}
	key, err := f(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("jws: %s: %w", path, err)
	}
	return key, nil
}

// current are the keys, after a look at the directories once a second.
func (k *Keys) current() *loaded {
	have := k.now.Load()
	now, last := time.Now().UnixNano(), k.looked.Load()
	if (now-last >= int64(time.Second) || now < last) && k.looked.CompareAndSwap(last, now) {
		if l, err := k.load(have.stamp); err == nil && l != nil {
			k.now.Store(l)
			return l
		}
	}
	return have
}

// claims are Keystone's.
type claims struct {
	Subject  string `json:"sub"`
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`

	Methods    []string  `json:"openstack_methods"`
	AuditIDs   []string  `json:"openstack_audit_ids"`
	System     string    `json:"openstack_system,omitempty"`
	DomainID   string    `json:"openstack_domain_id,omitempty"`
	ProjectID  string    `json:"openstack_project_id,omitempty"`
	TrustID    string    `json:"openstack_trust_id,omitempty"`
	Groups     []groupID `json:"openstack_group_ids,omitempty"`
	IdPID      string    `json:"openstack_idp_id,omitempty"`
	ProtocolID string    `json:"openstack_protocol_id,omitempty"`
	AccessID   string    `json:"openstack_access_token_id,omitempty"`
	AppCredID  string    `json:"openstack_app_cred_id,omitempty"`
	Thumbprint string    `json:"openstack_thumbprint,omitempty"`
}

type groupID struct {
	ID string `json:"id"`
}

// Pack makes a token's text.
func (k *Keys) Pack(t fernet.Token) (string, error) {
	c := claims{
		Subject: t.UserID, IssuedAt: t.IssuedAt.Unix(), Expires: t.ExpiresAt.Unix(), Methods: t.Methods, AuditIDs: t.AuditIDs,
		System: t.System, DomainID: t.DomainID, ProjectID: t.ProjectID, TrustID: t.TrustID, IdPID: t.IdPID, ProtocolID: t.ProtocolID,
		AccessID: t.AccessTokenID, AppCredID: t.AppCredID, Thumbprint: t.Thumbprint,
	}
	for _, g := range t.GroupIDs {
		c.Groups = append(c.Groups, groupID{g})
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signed, err := k.current().signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// maxLen bounds what is decoded at all.
const maxLen = 16 << 10

// Unpack reads a token's text: fernet.ErrToken unless one of the keys made it. It
// does not look at the expiry.
func (k *Keys) Unpack(text string) (fernet.Token, error) {
	if len(text) > maxLen {
		return fernet.Token{}, fernet.ErrToken
	}
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return fernet.Token{}, fernet.ErrToken
	}
	for _, key := range k.current().keys {
		payload, err := signed.Verify(key)
		if err != nil {
			continue
		}
		var c claims
		if err := json.Unmarshal(payload, &c); err != nil || c.Subject == "" || c.Expires == 0 {
			return fernet.Token{}, errors.Join(fernet.ErrToken, err)
		}
		t := fernet.Token{
			UserID: c.Subject, IssuedAt: time.Unix(c.IssuedAt, 0).UTC(), ExpiresAt: time.Unix(c.Expires, 0).UTC(), Methods: c.Methods, AuditIDs: c.AuditIDs,
			System: c.System, DomainID: c.DomainID, ProjectID: c.ProjectID, TrustID: c.TrustID, IdPID: c.IdPID, ProtocolID: c.ProtocolID,
			AccessTokenID: c.AccessID, AppCredID: c.AppCredID, Thumbprint: c.Thumbprint,
		}
		for _, g := range c.Groups {
			t.GroupIDs = append(t.GroupIDs, g.ID)
		}
		return t, nil
	}
	return fernet.Token{}, fernet.ErrToken
}
