package identity

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // version 1 of S3's signatures is made with it
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/internal/policy"
)

// ValidateS3 checks the signature of an S3 request by an EC2 credential and says
// who signed, for the project of the credential. No token is made: the answer
// has no text to present again. It is for services.
func (s *Service) ValidateS3(ctx context.Context, access, signature string, stringToSign []byte) (*TokenInfo, error) {
	if err := s.enforce(ctx, "s3tokens_validate", policy.Map{}); err != nil {
		return nil, err
	}
	c, err := s.credentials.Get(ctx, ec2ID(access))
	if errors.Is(err, nacre.NotFound) || err == nil && c.Type != "ec2" {
		return nil, nacre.Errorf(nacre.NotFound, "credential", "EC2 access key not found.")
	}
	if err != nil {
		return nil, err
	}
	if err := s.unseal(&c); err != nil {
		return nil, err
	}
	var b struct {
		ec2Blob
		AppCredID string `json:"app_cred_id"`
	}
	if err := json.Unmarshal([]byte(c.Blob), &b); err != nil {
		return nil, err
	}
	if want, ok := signS3(b.Secret, stringToSign); !ok || !hmac.Equal([]byte(want), []byte(signature)) {
		return nil, errAuth("the signature does not match")
	}
	now := time.Now().UTC().Truncate(time.Second)
	tok := fernet.Token{UserID: c.UserID, ProjectID: string(c.ProjectID), Methods: []string{"ec2credential"}, AppCredID: b.AppCredID,
		IssuedAt: now, ExpiresAt: now.Add(s.ttl), AuditIDs: []string{fernet.NewAuditID()}}
	if b.TrustID != nil && *b.TrustID != "" {
		t, err := s.trusts.Get(ctx, *b.TrustID)
		if err != nil {
			return nil, gone(err, "the trust is gone")
		}
		tok.TrustID, tok.UserID = t.ID, t.TrusteeUserID
	}
	i, err := s.load(ctx, tok)
	if err != nil {
		return nil, err
	}
	if i.AppCred != nil && (i.AppCred.ProjectID != tok.ProjectID || len(i.AppCred.AccessRules) > 0) {
		return nil, errAuth("the application credential is not for this")
	}
	i.fill("")
	return i, nil
}

// signS3 signs by version 4 when the text says so, else by version 1.
func signS3(secret string, text []byte) (string, bool) {
	if !bytes.HasPrefix(text, []byte("AWS4")) {
		return base64.StdEncoding.EncodeToString(sum(sha1.New, []byte(secret), text)), true
	}
	lines := bytes.Split(text, []byte("\n"))
	if len(lines) != 4 || string(lines[0]) != "AWS4-HMAC-SHA256" {
		return "", false
	}
	scope := bytes.Split(lines[2], []byte("/"))
	if len(scope) != 4 || string(scope[3]) != "aws4_request" || !slices.Contains([]string{"s3", "iam", "sts"}, string(scope[2])) {
		return "", false
	}
	key := []byte("AWS4" + secret)
	for _, part := range scope {
		key = sum(sha256.New, key, part)
	}
	return hex.EncodeToString(sum(sha256.New, key, text)), true
}

func sum(h func() hash.Hash, key, text []byte) []byte {
	m := hmac.New(h, key)
	m.Write(text)
	return m.Sum(nil)
}
