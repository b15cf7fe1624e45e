package identity

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/identity/awssign"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
)

// clockSkew is how far a signer's clock may be ahead, and Keystone's
// [credential]auth_ttl: for how long a signed request is good.
const clockSkew, signatureTTL = 5 * time.Minute, 15 * time.Minute

// presignedTTL is for how long an S3 request may be signed ahead.
const presignedTTL = 7 * day

// speaksFor is what a signature by the credential stands for: its user on its
// project, within what it was made with.
func (s *Service) speaksFor(ctx context.Context, c *credential.Signer) (*TokenInfo, error) {
	now := time.Now().UTC().Truncate(time.Second)
	tok := fernet.Token{UserID: c.UserID, ProjectID: c.ProjectID, Methods: []string{"ec2credential"}, AppCredID: c.AppCredID, AccessTokenID: c.AccessTokenID,
		IssuedAt: now, ExpiresAt: now.Add(s.ttl), AuditIDs: []string{fernet.NewAuditID()}}
	if c.TrustID != "" {
		t, err := s.trusts.Get(ctx, c.TrustID)
		if err != nil {
			return nil, kit.Gone(err, "the trust is gone")
		}
		tok.TrustID, tok.UserID = t.ID, t.TrusteeUserID
	}
	i, err := s.load(ctx, tok)
	if err != nil {
		return nil, err
	}
	if i.ProjectID == "" || i.AppCred != nil && (i.AppCred.ProjectID != tok.ProjectID || len(i.AppCred.AccessRules) > 0) {
		return nil, kit.Unauthenticated("the application credential is not for this")
	}
	return i, nil
}

// ValidateS3 checks the signature of an S3 request by an EC2 credential and says
// who signed, for the project of the credential. No token is made: the answer
// has no text to present again. It is for services, which themselves look at the
// time for which the request is good; one whose time is over by what was signed, or
// that was signed in the future, is refused here too.
func (s *Service) ValidateS3(ctx context.Context, access, signature string, stringToSign []byte) (*TokenInfo, error) {
	if err := s.area.Enforce(ctx, "s3tokens_validate", policy.Map{}); err != nil {
		return nil, err
	}
	c, err := s.Credentials.SignerOf(ctx, access)
	if err != nil {
		return nil, err
	}
	if !awssign.VerifyS3(c.Secret, signature, stringToSign) {
		return nil, kit.Unauthenticated("the signature does not match")
	}
	if err := s3InTime(strings.Split(string(stringToSign), "\n")); err != nil {
		return nil, err
	}
	i, err := s.speaksFor(ctx, c)
	if err == nil {
		i.fill("")
	}
	return i, err
}

// s3InTime refuses what an S3 client's string to sign says is over. By version 4 that is
// when it was signed, which may be ahead of the use; by the older ones it is either that
// or, of a URL, until when it is good.
func s3InTime(lines []string) error {
	switch {
	case strings.HasPrefix(lines[0], "AWS4"):
		return signedInTime(lines[1], presignedTTL)
	case len(lines) < 5:
		return nil // no request: a form's policy, which says itself how long it is good
	}
	at := lines[3]
	if until, err := strconv.ParseInt(at, 10, 64); err == nil {
		if time.Now().Unix() > until {
			return kit.Unauthenticated("the URL's time is over")
		}
		return nil
	}
	for _, line := range lines[4:] {
		if date, ok := strings.CutPrefix(line, "x-amz-date:"); ok {
			at = date
		}
	}
	return signedInTime(at, signatureTTL)
}

// signedInTime refuses what was signed too long ago, or ahead of time.
func signedInTime(text string, ttl time.Duration) error {
	for _, form := range []string{"20060102T150405Z", time.RFC3339, "2006-01-02T15:04:05.999Z", "2006-01-02T15:04:05", time.RFC1123, time.RFC1123Z, time.RFC850, time.ANSIC} {
		at, err := time.Parse(form, text)
		if err != nil {
			continue
		}
		if since := time.Since(at); since > ttl || since < -clockSkew {
			return kit.Unauthenticated("the signature's time is over, or is to come")
		}
		return nil
	}
	return kit.Unauthenticated("the signature's time can't be read")
}
