package oauth1

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// NewRequestToken makes a request token for a consumer that signs for it. It asks
// no policy: the signature does.
func (s *Service) NewRequestToken(ctx context.Context, r *Request, projectID string) (RequestToken, error) {
	p, err := parse(r.Authorization)
	if err != nil {
		return RequestToken{}, err
	}
	switch {
	case p["oauth_consumer_key"] == "":
		return RequestToken{}, kit.Expecting("oauth_consumer_key", "request")
	case projectID == "":
		return RequestToken{}, kit.Expecting("Requested-Project-Id", "request")
	}
	if err := s.parent.CheckProject(ctx, projectID); err != nil {
		return RequestToken{}, err
	}
	c, err := s.consumers.Get(ctx, p["oauth_consumer_key"])
	if err != nil {
		return RequestToken{}, orNotFound(err, "Consumer not found")
	}
	if err := s.check(ctx, r, p, c.Secret, ""); err != nil {
		return RequestToken{}, err
	}
	t := RequestToken{ID: s.area.NewID(), Secret: newSecret(), ConsumerID: c.ID, ProjectID: projectID, ExpiresAt: time.Now().UTC().Add(requestTokenLife)}
	return t, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.hold(ctx, "", projectID, c.ID); err != nil {
			return err
		}
		if _, err := s.requests.DeleteWhere(ctx, store.Less("expires_at", time.Now().Add(-requestTokenLife))); err != nil {
			return err
		}
		if err := s.requests.Insert(ctx, t); err != nil {
			return err
		}
		return s.area.Happened(ctx, "OS-OAUTH1:request_token", "created", t.ID)
	})
}

// hold keeps whom a new token is of, and its consumer, from going. It comes before the
// token's own row, which who deletes them takes last.
func (s *Service) hold(ctx context.Context, userID, projectID, consumerID string) error {
	if err := s.parent.Hold(ctx, userID, projectID); err != nil {
		return err
	}
	_, err := s.consumers.GetForUpdate(ctx, consumerID)
	return orNotFound(err, "Consumer not found")
}

func (s *Service) request(ctx context.Context, id string) (RequestToken, error) {
	t, err := s.requests.Get(ctx, id)
	if err == nil && !time.Now().Before(t.ExpiresAt) {
		return t, unauthorized("Request token is expired")
	}
	return t, orNotFound(err, "Request token not found")
}

func (s *Service) notDelegated(ctx context.Context, message string) error {
	delegated, err := s.parent.Delegated(ctx)
	if err == nil && delegated {
		err = nacre.Errorf(nacre.Forbidden, "Forbidden", "%s", message)
	}
	return err
}

// Authorize lets a request token's consumer act for the caller with these roles,
// each of which the caller has on the token's project, and returns the verifier.
func (s *Service) Authorize(ctx context.Context, id string, roles []Role) (string, error) {
	if err := s.area.Enforce(ctx, "authorize_request_token", nil); err != nil {
		return "", err
	}
	if err := s.notDelegated(ctx, "Cannot authorize a request token with a token issued via delegation."); err != nil {
		return "", err
	}
	t, err := s.request(ctx, id)
	if err != nil {
		return "", err
	}
	user := nacre.CallerFrom(ctx).UserID
	held, err := s.parent.Held(ctx, user, t.ProjectID)
	if err != nil {
		return "", err
	}
	ids := []string{}
	for _, want := range roles {
		i := slices.IndexFunc(held, func(r Role) bool { return r.ID == want.ID || want.ID == "" && r.Name == want.Name })
		if i < 0 {
			return "", unauthorized("authorizing user does not have role required")
		}
		if !slices.Contains(ids, held[i].ID) {
			ids = append(ids, held[i].ID)
		}
	}
	verifier := rand.Text()[:8]
	return verifier, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.hold(ctx, user, t.ProjectID, t.ConsumerID); err != nil {
			return err
		}
		_, err := s.requests.Update(ctx, id, func(t *RequestToken) error {
			t.UserID, t.RoleIDs, t.Verifier = user, ids, verifier
			return nil
		})
		return orNotFound(err, "Request token not found")
	})
}

// NewAccessToken exchanges an authorized request token, which ends, for an access
// token. It asks no policy: the signature does.
func (s *Service) NewAccessToken(ctx context.Context, r *Request) (AccessToken, error) {
	p, err := parse(r.Authorization)
	if err != nil {
		return AccessToken{}, err
	}
	for _, k := range []string{"oauth_consumer_key", "oauth_token", "oauth_verifier"} {
		if p[k] == "" {
			return AccessToken{}, kit.Expecting(k, "request")
		}
	}
	req, err := s.request(ctx, p["oauth_token"])
	if err != nil {
		return AccessToken{}, err
	}
	c, err := s.consumers.Get(ctx, p["oauth_consumer_key"])
	switch {
	case errors.Is(err, store.ErrNoRow):
		return AccessToken{}, unauthorized("Provided consumer does not exist.")
	case err != nil:
		return AccessToken{}, err
	case req.ConsumerID != c.ID:
		return AccessToken{}, unauthorized("Provided consumer key does not match stored consumer key.")
	}
	if err := s.check(ctx, r, p, c.Secret, req.Secret); err != nil {
		return AccessToken{}, err
	}
	if req.UserID == "" {
		return AccessToken{}, unauthorized("Request Token does not have an authorizing user id.")
	}
	if subtle.ConstantTimeCompare([]byte(req.Verifier), []byte(p["oauth_verifier"])) != 1 {
		return AccessToken{}, unauthorized("Provided verifier does not match stored verifier")
	}
	t := AccessToken{ID: s.area.NewID(), Secret: newSecret(), ConsumerID: c.ID, UserID: req.UserID, ProjectID: req.ProjectID, RoleIDs: req.RoleIDs, ExpiresAt: time.Now().UTC().Add(accessTokenLife)}
	return t, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.hold(ctx, t.UserID, t.ProjectID, t.ConsumerID); err != nil {
			return err
		}
		if _, err := s.access.DeleteWhere(ctx, store.Less("expires_at", time.Now().Add(-accessTokenLife))); err != nil {
			return err
		}
		// As it is now: another may have been faster, or have authorized it anew.
		now, err := s.requests.GetForUpdate(ctx, req.ID)
		if err != nil {
			return orNotFound(err, "Request token not found")
		}
		if now.UserID != req.UserID || now.Verifier != req.Verifier {
			return unauthorized("Provided verifier does not match stored verifier")
		}
		if err := s.requests.Delete(ctx, req.ID); err != nil {
			return orNotFound(err, "Request token not found")
		}
		if err := s.access.Insert(ctx, t); err != nil {
			return err
		}
		return s.area.Happened(ctx, "OS-OAUTH1:access_token", "created", t.ID)
	})
}

// Verify finds the access token that a request is signed with.
func (s *Service) Verify(ctx context.Context, r *Request) (AccessToken, error) {
	p, err := parse(r.Authorization)
	if err != nil {
		return AccessToken{}, err
	}
	if p["oauth_token"] == "" {
		return AccessToken{}, kit.Expecting("oauth_token", "request")
	}
	t, err := s.access.Get(ctx, p["oauth_token"])
	switch {
	case errors.Is(err, store.ErrNoRow), err == nil && t.ConsumerID != p["oauth_consumer_key"]:
		return AccessToken{}, unauthorized("Could not validate the access token")
	case err != nil:
		return AccessToken{}, err
	case t.Expired():
		return AccessToken{}, unauthorized("Access token is expired")
	}
	c, err := s.consumers.Get(ctx, t.ConsumerID)
	if err != nil {
		return AccessToken{}, orNotFound(err, "Consumer not found")
	}
	return t, s.check(ctx, r, p, c.Secret, t.Secret)
}

// AccessToken is an access token for a token that was made with it; NotFound when
// it is gone. It asks no policy.
func (s *Service) AccessToken(ctx context.Context, id string) (AccessToken, error) {
	t, err := s.access.Get(ctx, id)
	return t, orNotFound(err, "Access token not found")
}

// own finds a user's access token.
func (s *Service) own(ctx context.Context, userID, id string) (AccessToken, error) {
	t, err := s.access.Get(ctx, id)
	if err == nil && t.UserID != userID {
		return AccessToken{}, nacre.Errorf(nacre.NotFound, "NotFound", "Access token not found")
	}
	t.Secret = ""
	return t, orNotFound(err, "Access token not found")
}

const noDelegation = "Cannot manage OAuth access tokens with a token issued via delegation."

// ListAccessTokens lists what a user has authorized.
func (s *Service) ListAccessTokens(ctx context.Context, userID string) ([]AccessToken, error) {
	if err := s.area.Enforce(ctx, "list_access_tokens", nil); err != nil {
		return nil, err
	}
	if err := s.notDelegated(ctx, noDelegation); err != nil {
		return nil, err
	}
	ts, err := s.access.Where(ctx, store.Eq("authorizing_user_id", userID))
	for i := range ts {
		ts[i].Secret = ""
	}
	return ts, err
}

// GetAccessToken shows an access token, without its secret.
func (s *Service) GetAccessToken(ctx context.Context, userID, id string) (AccessToken, error) {
	if err := s.area.Enforce(ctx, "get_access_token", nil); err != nil {
		return AccessToken{}, err
	}
	if err := s.notDelegated(ctx, noDelegation); err != nil {
		return AccessToken{}, err
	}
	return s.own(ctx, userID, id)
}

// AccessTokenRoles are the ids of an access token's roles.
func (s *Service) AccessTokenRoles(ctx context.Context, userID, id string) ([]string, error) {
	if err := s.area.Enforce(ctx, "list_access_token_roles", nil); err != nil {
		return nil, err
	}
	t, err := s.own(ctx, userID, id)
	return t.RoleIDs, err
}

// AccessTokenRole is NotFound unless the access token has the role.
func (s *Service) AccessTokenRole(ctx context.Context, userID, id, roleID string) error {
	if err := s.area.Enforce(ctx, "get_access_token_role", nil); err != nil {
		return err
	}
	t, err := s.own(ctx, userID, id)
	if err == nil && !slices.Contains(t.RoleIDs, roleID) {
		err = nacre.Errorf(nacre.NotFound, "role", "Could not find role: %s.", roleID)
	}
	return err
}

// DeleteAccessToken takes back what a user authorized, and ends what was made with
// it. Users may take back their own: as Keystone it asks the rule about EC2
// credentials.
func (s *Service) DeleteAccessToken(ctx context.Context, userID, id string) error {
	if err := s.area.Enforce(ctx, "ec2_delete_credential", policy.Map{"target.credential.user_id": userID, "user_id": userID}); err != nil {
		return err
	}
	if err := s.notDelegated(ctx, noDelegation); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if _, err := s.own(ctx, userID, id); err != nil {
			return err
		}
		if err := s.access.Delete(ctx, id); err != nil {
			return orNotFound(err, "Access token not found")
		}
		if err := s.parent.Lost(ctx, userID); err != nil {
			return err
		}
		return s.area.Happened(ctx, "OS-OAUTH1:access_token", "deleted", id)
	})
}
