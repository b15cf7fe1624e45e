package identity

import (
	"context"
	"errors"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/oauth1"
	"github.com/nacre-cloud/nacre/identity/revoke"
)

// oauthParent is what OAuth may do here.
type oauthParent struct{ s *Service }

func (p oauthParent) CheckProject(ctx context.Context, id string) error {
	return p.s.checkProject(ctx, id)
}

func (p oauthParent) Hold(ctx context.Context, userID, projectID string) error {
	return p.s.hold(ctx, userID, projectID)
}

func (p oauthParent) Held(ctx context.Context, userID, projectID string) ([]oauth1.Role, error) {
	sc, err := p.s.findScope(ctx, projectID, "", "")
	if err != nil {
		return nil, err
	}
	rs, err := p.s.rolesOn(ctx, userID, sc)
	out := make([]oauth1.Role, len(rs))
	for i, r := range rs {
		out[i] = oauth1.Role{ID: r.ID, Name: r.Name}
	}
	return out, err
}

func (p oauthParent) Delegated(ctx context.Context) (bool, error) {
	c := nacre.CallerFrom(ctx)
	if c == nil || c.Token == "" {
		return false, nil
	}
	i, err := p.s.lookUp(ctx, c.Token, 0)
	if err != nil {
		return false, err
	}
	return i.TrustID != "" || i.AppCred != nil || i.AccessTokenID != "" || slices.Contains(i.Methods, "application_credential"), nil
}

func (p oauthParent) Lost(ctx context.Context, userIDs ...string) error {
	slices.Sort(userIDs)
	for _, id := range slices.Compact(userIDs) {
		if err := p.s.Revocations.Record(ctx, revoke.Row{UserID: id, Stale: true}); err != nil {
			return err
		}
	}
	return nil
}

// authOAuth checks a request that is signed with an access token.
func (s *Service) authOAuth(ctx context.Context, req *AuthRequest, a *authState) error {
	if req.OAuth == nil {
		return kit.Expecting("oauth_token", "request")
	}
	t, err := s.OAuth.Verify(ctx, req.OAuth)
	if err != nil {
		return err
	}
	u, err := s.users.Get(ctx, t.UserID)
	if err != nil {
		return kit.Gone(err, "the access token's user is gone")
	}
	if err := s.checkAlive(ctx, &u); err != nil {
		return err
	}
	a.access, a.accessProject = t.ID, t.ProjectID
	a.until(t.ExpiresAt)
	return a.is(u)
}

// loadAccess narrows a token's roles to those that its access token was
// authorized with.
func (s *Service) loadAccess(ctx context.Context, i *TokenInfo) error {
	if i.AccessTokenID == "" {
		return nil
	}
	t, err := s.OAuth.AccessToken(ctx, i.AccessTokenID)
	if errors.Is(err, nacre.NotFound) {
		return kit.Unauthenticated("the access token is gone")
	}
	if err != nil {
		return err
	}
	if t.Expired() || t.UserID != i.UserID || t.ProjectID != i.ProjectID {
		return kit.Unauthenticated("the access token has expired or is not for this")
	}
	allowed, err := s.Assignments.Expand(ctx, t.RoleIDs)
	if err != nil {
		return err
	}
	i.Roles = slices.DeleteFunc(i.Roles, func(r assignment.Role) bool {
		return !slices.ContainsFunc(allowed, func(x assignment.Role) bool { return x.ID == r.ID })
	})
	i.Access = &t
	return nil
}
