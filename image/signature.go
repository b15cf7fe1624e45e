package image

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes that images are signed with
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"hash"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
)

// verifier checks an image's signature against its bytes as they pass.
type verifier struct {
	hash      crypto.Hash
	h         hash.Hash
	signature []byte
	key       crypto.PublicKey
	id        string
}

func badSignature(id, why string) error {
	return nacre.Errorf(nacre.Invalid, "", "Signature verification failed for image %s: %s", id, why)
}

var signatureHashes = map[string]crypto.Hash{"SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// verifier is nil for an image that is not signed: one that lacks any of the four
// img_signature properties.
func (s *Service) verifier(ctx context.Context, im *Image) (*verifier, error) {
	p := im.Properties
	for _, name := range []string{"img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid"} {
		if p[name] == "" {
			return nil, nil
		}
	}
	v := &verifier{hash: signatureHashes[p["img_signature_hash_method"]], id: im.ID}
	if v.hash == 0 {
		return nil, badSignature(im.ID, "Invalid signature hash method: "+p["img_signature_hash_method"])
	}
	v.h = v.hash.New()
	var err error
	if v.signature, err = base64.StdEncoding.DecodeString(p["img_signature"]); err != nil {
		return nil, badSignature(im.ID, "The signature data was not properly encoded using base64")
	}
	if s.c.Keys == nil {
		return nil, badSignature(im.ID, "no key manager is configured")
	}
	raw, err := s.c.Keys.Certificate(ctx, p["img_signature_certificate_uuid"])
	if err != nil {
		return nil, badSignature(im.ID, "Unable to retrieve certificate with ID: "+p["img_signature_certificate_uuid"])
	}
	if b, _ := pem.Decode(raw); b != nil {
		raw = b.Bytes
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, badSignature(im.ID, "the certificate can't be read")
	}
	if now := time.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return nil, badSignature(im.ID, "Certificate is not valid: it has expired or is not valid yet")
	}
	v.key = cert.PublicKey
	kind := p["img_signature_key_type"]
	_, isRSA := v.key.(*rsa.PublicKey)
	_, isEC := v.key.(*ecdsa.PublicKey)
	if !(kind == "RSA-PSS" && isRSA || strings.HasPrefix(kind, "ECC_") && isEC) {
		return nil, badSignature(im.ID, "Invalid public key type for signature key type: "+kind)
	}
	return v, nil
}

func (v *verifier) write(p []byte) { v.h.Write(p) }

func (v *verifier) check() error {
	sum, ok := v.h.Sum(nil), false
	switch key := v.key.(type) {
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(key, v.hash, sum, v.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, sum, bytes.Clone(v.signature))
	}
	if !ok {
		return badSignature(v.id, "Signature verification for the image failed")
	}
	return nil
}
