package identity

import (
	"context"

	"github.com/nacre-cloud/nacre/identity/awssign"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
)

// EC2Request is what an EC2 service saw of a signed request.
type EC2Request struct {
	Access string
	awssign.Request
}

// AuthenticateEC2 makes a token for whoever signed a request with an EC2
// credential, on the credential's project. It is for services and administrators:
// who could show it signatures at will could use those that it only saw. A
// signature is good for a quarter of an hour.
func (s *Service) AuthenticateEC2(ctx context.Context, req EC2Request) (string, *TokenInfo, error) {
	if err := s.area.Enforce(ctx, "ec2tokens_validate", policy.Map{}); err != nil {
		return "", nil, err
	}
	if req.Access == "" || req.Signature == "" {
		return "", nil, kit.Unauthenticated("EC2 signature not supplied")
	}
	c, err := s.Credentials.SignerOf(ctx, req.Access)
	if err != nil {
		return "", nil, err
	}
	at, ok := req.Verify(c.Secret)
	if !ok {
		return "", nil, kit.Unauthenticated("invalid EC2 signature")
	}
	// The time is the one that was signed, and no other that came along.
	if err := signedInTime(at, signatureTTL); err != nil {
		return "", nil, err
	}
	before := s.Revocations.Now()
	i, err := s.speaksFor(ctx, c)
	if err != nil {
		return "", nil, err
	}
	user, err := s.users.Get(ctx, i.UserID)
	if err != nil {
		return "", nil, kit.Gone(err, "the user is gone")
	}
	if i.TrustID != "" {
		if err := s.useTrust(ctx, i.TrustID); err != nil {
			return "", nil, err
		}
	}
	a := &authState{user: user, known: true, methods: i.Methods, app: i.AppCred, access: i.AccessTokenID}
	text, err := s.issue(ctx, i, a, before)
	return text, i, err
}
