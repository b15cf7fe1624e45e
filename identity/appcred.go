package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// AppCredential is an application credential: some of a user's roles on one
// project, for a program that shows a secret.
type AppCredential struct {
	ID          string  `store:"id,pk" json:"id"`
	UserID      string  `store:"user_id,unique=application_credential_name" json:"user_id"`
	Name        string  `store:"name,unique=application_credential_name" json:"name"`
	ProjectID   string  `store:"project_id,index=application_credential_project" json:"project_id"`
	Description *string `store:"description" json:"description"`
	SecretHash  string  `store:"secret_hash" json:"-"`
	// RoleIDs are the roles it was made with; it has those that its user still has.
	RoleIDs []string `store:"role_ids,json" json:"-"`
	// ExpiresAt is nil for one that does not end.
	ExpiresAt *time.Time `store:"expires_at" json:"-"`
	// Unrestricted ones may make and delete application credentials.
	Unrestricted bool `store:"unrestricted" json:"unrestricted"`
	// AccessRules are the only requests that it may make; empty is any.
	AccessRules []AccessRule `store:"access_rules,json" json:"-"`
	// Secret is known at the creation only.
	Secret string `store:"-" json:"secret,omitempty"`
	// Roles are filled in by the methods that show it.
	Roles []Role `store:"-" json:"-"`
}

func (a *AppCredential) expired() bool { return a.ExpiresAt != nil && !time.Now().Before(*a.ExpiresAt) }

// NewAppCredential is what an application credential is made from.
type NewAppCredential struct {
	Name         string
	Description  *string
	Secret       string // empty makes one
	Roles        []NameRef
	ExpiresAt    *time.Time
	Unrestricted bool
	// AccessRules are rules to make, or ids of the user's.
	AccessRules []AccessRule
}

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

// restricted refuses tokens of trusts, and of application credentials that may
// not manage others: what they made would outlive them.
func restricted(ctx context.Context, s *Service) error {
	i, ok := s.delegated(ctx)
	switch {
	case ok && (i == nil || i.AppCred != nil && i.AppCred.Unrestricted):
		return nil
	case ok && (i.Trust != nil || i.AccessTokenID != ""):
		return forbidden("Cannot manage application credentials with a token issued via delegation.")
	}
	return forbidden("You are not authorized to perform the requested action: Using method 'application_credential' is not allowed for managing additional application credentials..")
}

// CreateAppCredential makes an application credential for the caller's own
// project. Without roles it gets all that the caller has.
func (s *Service) CreateAppCredential(ctx context.Context, userID string, n NewAppCredential) (AppCredential, error) {
	if err := s.enforce(ctx, "create_application_credential", policy.Map{"user_id": userID}); err != nil {
		return AppCredential{}, err
	}
	if err := restricted(ctx, s); err != nil {
		return AppCredential{}, err
	}
	c := nacre.CallerFrom(ctx)
	a := AppCredential{ID: s.newID(), UserID: userID, Name: n.Name, ProjectID: c.ProjectID, Description: n.Description,
		ExpiresAt: n.ExpiresAt, Unrestricted: n.Unrestricted, Secret: n.Secret}
	if err := checkName("name", a.Name, 255); err != nil {
		return AppCredential{}, err
	}
	if a.expired() {
		return AppCredential{}, nacre.Errorf(nacre.Invalid, "ValidationExpirationError", "The 'expires_at' must not be before now. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
	}
	roles, err := s.appCredRoles(ctx, c, n.Roles)
	if err != nil {
		return AppCredential{}, err
	}
	a.Roles = roles
	for _, r := range roles {
		a.RoleIDs = append(a.RoleIDs, r.ID)
	}
	hash := s.hasher.hash
	if a.Secret == "" {
		a.Secret, hash = randomSecret()+randomSecret(), s.hasher.hashCheap
	}
	if a.SecretHash, err = hash(ctx, a.Secret); err != nil {
		return AppCredential{}, err
	}
	err = s.tx(ctx, func(ctx context.Context) (err error) {
		if err := hold(ctx, s.projects, "project", a.ProjectID); err != nil {
			return err
		}
		if err := hold(ctx, s.users, "user", userID); err != nil {
			return err
		}
		if a.AccessRules, err = s.accessRules(ctx, userID, n.AccessRules); err != nil {
			return err
		}
		if err := s.appCreds.Insert(ctx, a); err != nil {
			if store.IsDuplicate(err) {
				return conflict("application_credential", "Duplicate entry found with name %s", a.Name)
			}
			return err
		}
		return s.emit(ctx, "application_credential", "created", a.ID)
	})
	return a, err
}

// appCredRoles are the roles asked for, each of which the caller must hold.
func (s *Service) appCredRoles(ctx context.Context, c *nacre.Caller, asked []NameRef) ([]Role, error) {
	held, err := s.roles.Where(ctx, store.In("id", c.RoleIDs))
	if err != nil || len(asked) == 0 {
		return held, err
	}
	var out []Role
	for _, ref := range asked {
		i := slices.IndexFunc(held, func(r Role) bool {
			return r.ID == ref.ID || ref.ID == "" && r.Name == ref.Name
		})
		if i < 0 {
			return nil, invalid("Invalid application credential: Could not find role assignment with role: %s, user or group: %s, project, domain, or system: %s..", ref.ID+ref.Name, c.UserID, c.ProjectID)
		}
		out = append(out, held[i])
	}
	return out, nil
}

// GetAppCredential shows an application credential.
func (s *Service) GetAppCredential(ctx context.Context, userID, id string) (AppCredential, error) {
	a, err := s.appCreds.Get(ctx, id)
	// Whose it is decides, not the path that names somebody.
	target := policy.Map{}
	if err == nil {
		target["user_id"] = a.UserID
	}
	if deny := s.enforce(ctx, "get_application_credential", target); deny != nil {
		return AppCredential{}, deny
	}
	if err != nil {
		return a, store.WrapNotFound(err, func() *nacre.Error { return noAppCred(id) })
	}
	if a.Roles, err = s.roles.Where(ctx, store.In("id", a.RoleIDs)); err != nil {
		return a, err
	}
	return a, nil
}

func noAppCred(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "application credential", "Could not find Application Credential: %s.", id)
}

// ListAppCredentials lists a user's application credentials.
func (s *Service) ListAppCredentials(ctx context.Context, userID string, q nacre.Query) ([]AppCredential, error) {
	if err := s.enforce(ctx, "list_application_credentials", policy.Map{"user_id": userID}); err != nil {
		return nil, err
	}
	as, err := list(ctx, s.appCreds, q, columns{"id", "name", "project_id"}, store.Eq("user_id", userID))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, a := range as {
		ids = append(ids, a.RoleIDs...)
	}
	roles, err := s.roles.Where(ctx, store.In("id", ids))
	if err != nil {
		return nil, err
	}
	for i := range as {
		for _, r := range roles {
			if slices.Contains(as[i].RoleIDs, r.ID) {
				as[i].Roles = append(as[i].Roles, r)
			}
		}
	}
	return as, nil
}

// DeleteAppCredential removes an application credential; tokens made with it end.
func (s *Service) DeleteAppCredential(ctx context.Context, userID, id string) error {
	a, err := s.appCreds.Get(ctx, id)
	target := policy.Map{}
	if err == nil {
		target["user_id"] = a.UserID
	}
	if deny := s.enforce(ctx, "delete_application_credential", target); deny != nil {
		return deny
	}
	if err := restricted(ctx, s); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.appCreds.Delete(ctx, id); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return noAppCred(id) })
		}
		if err := s.revoke(ctx, revocation{UserID: a.UserID, Stale: true}); err != nil {
			return err
		}
		return s.emit(ctx, "application_credential", "deleted", id)
	})
}

// checkAppCred finds the credential whose secret is shown, and its user.
func (s *Service) checkAppCred(ctx context.Context, req *AuthRequest) (AppCredential, User, error) {
	var a AppCredential
	var err error
	if req.AppCredID != "" {
		a, err = s.appCreds.Get(ctx, req.AppCredID)
	} else {
		var u User
		if u, err = s.findUser(ctx, req.AppCredUser); err == nil {
			a, err = s.appCreds.One(ctx, store.Eq("user_id", u.ID), store.Eq("name", req.AppCredName))
		}
	}
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return a, User{}, err
	}
	ok, herr := s.hasher.check(ctx, a.SecretHash, req.AppCredSecret)
	if herr != nil {
		return a, User{}, herr
	}
	if err != nil || !ok || a.expired() {
		return a, User{}, errAuth("unknown, wrong or expired application credential")
	}
	u, err := s.users.Get(ctx, a.UserID)
	if err != nil {
		return a, User{}, gone(err, "the application credential's user is gone")
	}
	return a, u, s.checkAlive(ctx, &u)
}
