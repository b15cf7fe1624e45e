package appcred

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Wanted is what an application credential is made from.
type Wanted struct {
	Name         string
	Description  *string
	Secret       string // empty makes one
	Roles        []Role
	ExpiresAt    *time.Time
	Unrestricted bool
	// AccessRules are rules to make, or ids of the user's.
	AccessRules []AccessRule
}

// Create makes an application credential for the caller's own
// project. Without roles it gets all that the caller has.
func (s *Service) Create(ctx context.Context, userID string, n Wanted) (Credential, error) {
	if err := s.area.Enforce(ctx, "create_application_credential", policy.Map{"user_id": userID}); err != nil {
		return Credential{}, err
	}
	if err := s.parent.Unrestricted(ctx); err != nil {
		return Credential{}, err
	}
	c := nacre.CallerFrom(ctx)
	a := Credential{ID: s.area.NewID(), UserID: userID, Name: n.Name, ProjectID: c.ProjectID, Description: n.Description,
		ExpiresAt: n.ExpiresAt, Unrestricted: n.Unrestricted, Secret: n.Secret}
	if err := kit.CheckName("name", a.Name, 255); err != nil {
		return Credential{}, err
	}
	if a.Expired() {
		return Credential{}, nacre.Errorf(nacre.Invalid, "ValidationExpirationError", "The 'expires_at' must not be before now. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
	}
	roles, err := s.appCredRoles(ctx, c, n.Roles)
	if err != nil {
		return Credential{}, err
	}
	a.Roles = roles
	for _, r := range roles {
		a.RoleIDs = append(a.RoleIDs, r.ID)
	}
	random := a.Secret == ""
	if random {
		a.Secret = strings.ToLower(rand.Text() + rand.Text())
	}
	if a.SecretHash, err = s.parent.Hash(ctx, a.Secret, random); err != nil {
		return Credential{}, err
	}
	err = s.area.Tx(ctx, func(ctx context.Context) (err error) {
		if err := s.parent.Hold(ctx, userID, a.ProjectID); err != nil {
			return err
		}
		if a.AccessRules, err = s.accessRules(ctx, userID, n.AccessRules); err != nil {
			return err
		}
		if err := s.credentials.Insert(ctx, a); err != nil {
			if store.IsDuplicate(err) {
				return kit.Conflict("application_credential", "Duplicate entry found with name %s", a.Name)
			}
			return err
		}
		return s.area.Happened(ctx, "application_credential", "created", a.ID)
	})
	return a, err
}

// appCredRoles are the roles asked for, each of which the caller must hold.
func (s *Service) appCredRoles(ctx context.Context, c *nacre.Caller, asked []Role) ([]Role, error) {
	held, err := s.parent.Roles(ctx, c.RoleIDs)
	if err != nil || len(asked) == 0 {
		return held, err
	}
	var out []Role
	for _, ref := range asked {
		i := slices.IndexFunc(held, func(r Role) bool {
			return r.ID == ref.ID || ref.ID == "" && r.Name == ref.Name
		})
		if i < 0 {
			return nil, kit.Invalid("Invalid application credential: Could not find role assignment with role: %s, user or group: %s, project, domain, or system: %s..", ref.ID+ref.Name, c.UserID, c.ProjectID)
		}
		out = append(out, held[i])
	}
	return out, nil
}

// Get shows an application credential.
func (s *Service) Get(ctx context.Context, userID, id string) (Credential, error) {
	a, err := s.credentials.Get(ctx, id)
	// Whose it is decides, not the path that names somebody.
	target := policy.Map{}
	if err == nil {
		target["user_id"] = a.UserID
	}
	if deny := s.area.Enforce(ctx, "get_application_credential", target); deny != nil {
		return Credential{}, deny
	}
	if err != nil {
		return a, store.WrapNotFound(err, func() *nacre.Error { return noAppCred(id) })
	}
	if a.Roles, err = s.parent.Roles(ctx, a.RoleIDs); err != nil {
		return a, err
	}
	return a, nil
}

func noAppCred(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "application credential", "Could not find Application Credential: %s.", id)
}

// List lists a user's application credentials.
func (s *Service) List(ctx context.Context, userID string, q nacre.Query) ([]Credential, error) {
	if err := s.area.Enforce(ctx, "list_application_credentials", policy.Map{"user_id": userID}); err != nil {
		return nil, err
	}
	as, err := kit.List(ctx, s.credentials, q, kit.Columns{"id", "name", "project_id"}, store.Eq("user_id", userID))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, a := range as {
		ids = append(ids, a.RoleIDs...)
	}
	roles, err := s.parent.Roles(ctx, ids)
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

// Delete removes an application credential; tokens made with it end.
func (s *Service) Delete(ctx context.Context, userID, id string) error {
	a, err := s.credentials.Get(ctx, id)
	target := policy.Map{}
	if err == nil {
		target["user_id"] = a.UserID
	}
	if deny := s.area.Enforce(ctx, "delete_application_credential", target); deny != nil {
		return deny
	}
	if err := s.parent.Unrestricted(ctx); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.credentials.Delete(ctx, id); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return noAppCred(id) })
		}
		if err := s.parent.Lost(ctx, a.UserID); err != nil {
			return err
		}
		return s.area.Happened(ctx, "application_credential", "deleted", id)
	})
}

// Read finds an application credential. It asks no policy.
func (s *Service) Read(ctx context.Context, id string) (Credential, error) {
	return s.credentials.Get(ctx, id)
}

// Named finds a user's application credential by its name. It asks no policy.
func (s *Service) Named(ctx context.Context, userID, name string) (Credential, error) {
	return s.credentials.One(ctx, store.Eq("user_id", userID), store.Eq("name", name))
}
