package identity

import (
	"context"
	"errors"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/revoke"
)

// delegated is the caller's token when it was made from an application credential
// or a trust; ok is false for one that can't be looked at and may be.
func (s *Service) delegated(ctx context.Context) (i *TokenInfo, ok bool) {
	c := nacre.CallerFrom(ctx)
	switch {
	case c == nil || c.Service != "":
		return nil, true
	case c.Token == "":
		return nil, !slices.Contains(c.Methods, "application_credential")
	}
	i, err := s.lookUp(ctx, c.Token, 0)
	if err != nil {
		return nil, false
	}
	if i.AppCred == nil && i.Trust == nil && i.AccessTokenID == "" {
		i = nil
	}
	return i, true
}

// unrestricted refuses tokens of trusts, and of application credentials that may
// not manage others: what they made would outlive them.
func (s *Service) unrestricted(ctx context.Context) error {
	i, ok := s.delegated(ctx)
	switch {
	case ok && (i == nil || i.AppCred != nil && i.AppCred.Unrestricted):
		return nil
	case ok && (i.Trust != nil || i.AccessTokenID != ""):
		return kit.Forbidden("Cannot manage application credentials with a token issued via delegation.")
	}
	return kit.Forbidden("You are not authorized to perform the requested action: Using method 'application_credential' is not allowed for managing additional application credentials..")
}

// checkAppCred finds the credential whose secret is shown, and its user.
func (s *Service) checkAppCred(ctx context.Context, req *AuthRequest) (appcred.Credential, User, error) {
	var a appcred.Credential
	var err error
	if req.AppCredID != "" {
		a, err = s.AppCredentials.Read(ctx, req.AppCredID)
	} else {
		var u User
		if u, err = s.findUser(ctx, req.AppCredUser); err == nil {
			a, err = s.AppCredentials.Named(ctx, u.ID, req.AppCredName)
		}
	}
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return a, User{}, err
	}
	ok, herr := s.Passwords.Compare(ctx, a.SecretHash, req.AppCredSecret)
	if herr != nil {
		return a, User{}, herr
	}
	if err != nil || !ok || a.Expired() {
		return a, User{}, kit.Unauthenticated("unknown, wrong or expired application credential")
	}
	u, err := s.users.Get(ctx, a.UserID)
	if err != nil {
		return a, User{}, kit.Gone(err, "the application credential's user is gone")
	}
	return a, u, s.checkAlive(ctx, &u)
}

// appCredParent is what application credentials may do here.
type appCredParent struct{ s *Service }

func (p appCredParent) Unrestricted(ctx context.Context) error { return p.s.unrestricted(ctx) }

func (p appCredParent) Roles(ctx context.Context, ids []string) ([]appcred.Role, error) {
	rs, err := p.s.Assignments.Roles(ctx, ids)
	out := make([]appcred.Role, len(rs))
	for i, r := range rs {
		out[i] = appcred.Role{ID: r.ID, Name: r.Name, DomainID: r.DomainID}
	}
	return out, err
}

func (p appCredParent) Hash(ctx context.Context, secret string, random bool) (string, error) {
	if random {
		return p.s.Passwords.HashCheap(ctx, secret)
	}
	return p.s.Passwords.Hash(ctx, secret)
}

func (p appCredParent) Hold(ctx context.Context, userID, projectID string) error {
	return p.s.hold(ctx, userID, projectID)
}

// hold is kit.Hold of a project and a user, either of which may be empty.
func (s *Service) hold(ctx context.Context, userID, projectID string) error {
	if err := kit.Hold(ctx, s.projects, "project", projectID); err != nil {
		return err
	}
	return kit.Hold(ctx, s.users, "user", userID)
}

func (p appCredParent) Lost(ctx context.Context, userID string) error {
	return p.s.Revocations.Record(ctx, revoke.Row{UserID: userID, Stale: true})
}
