package image

import (
	"context"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // glance takes such signatures
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes that images are signed with
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"hash"
	"math/big"
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
	kind, is := p["img_signature_key_type"], ""
	switch v.key.(type) {
	case *rsa.PublicKey:
		is = "RSA-PSS"
	case *ecdsa.PublicKey:
		is = "ECC"
	case *dsa.PublicKey:
		is = "DSA"
	}
	switch want := signatureKeys[kind]; {
	case want == "":
		return nil, badSignature(im.ID, "Invalid signature key type: "+kind)
	case want != is:
		return nil, badSignature(im.ID, "Invalid public key type for signature key type: "+kind)
	}
	return v, nil
}

// signatureKeys are glance's key types and what key each takes. As in glance the
// name of a curve is not held against the certificate's. Curves that Go does not
// know have no certificate that can be read.
var signatureKeys = map[string]string{"RSA-PSS": "RSA-PSS", "DSA": "DSA", "ECC_SECP521R1": "ECC", "ECC_SECP384R1": "ECC",
	"ECC_SECT571K1": "ECC", "ECC_SECT571R1": "ECC", "ECC_SECT409K1": "ECC", "ECC_SECT409R1": "ECC"}

func (v *verifier) check() error {
	sum, ok := v.h.Sum(nil), false
	switch key := v.key.(type) {
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(key, v.hash, sum, v.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, sum, v.signature)
	case *dsa.PublicKey:
		var s struct{ R, S *big.Int }
		rest, err := asn1.Unmarshal(v.signature, &s)
		// DSA takes the leftmost bits of the hash, as many as its order has.
		n := min(len(sum), (key.Q.BitLen()+7)/8)
		ok = err == nil && len(rest) == 0 && dsa.Verify(key, sum[:n], s.R, s.S)
	}
	if !ok {
		return badSignature(v.id, "Signature verification for the image failed")
	}
	return nil
}
