package identity

import (
	"context"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Trust lets a user, the trustee, act on a project with some of the roles of
// another, the trustor.
type Trust struct {
	ID            string `store:"id,pk" json:"id"`
	TrustorUserID string `store:"trustor_user_id,index=trust_trustor" json:"trustor_user_id"`
	TrusteeUserID string `store:"trustee_user_id,index=trust_trustee" json:"trustee_user_id"`
	ProjectID     string `store:"project_id,index=trust_project" json:"project_id"`
	// Impersonation makes the trustee's tokens name the trustor.
	Impersonation bool `store:"impersonation" json:"impersonation"`
	// RoleIDs are the roles; they hold while the trustor has them.
	RoleIDs   []string   `store:"role_ids,json" json:"-"`
	ExpiresAt *time.Time `store:"expires_at" json:"-"`
	// RemainingUses is how many tokens may still be made; nil is any number.
	RemainingUses *int `store:"remaining_uses" json:"remaining_uses"`
	// Roles are filled in by the methods that show one trust.
	Roles []Role `store:"-" json:"-"`
}

func (t *Trust) expired() bool { return t.ExpiresAt != nil && !time.Now().Before(*t.ExpiresAt) }

func trustTarget(t *Trust) policy.Map {
	if t.TrustorUserID == "" {
		return nil
	}
	return policy.Map{"target.trust.trustor_user_id": t.TrustorUserID, "target.trust.trustee_user_id": t.TrusteeUserID}
}

func noTrust(id string) func() *nacre.Error {
	return func() *nacre.Error { return notFound("trust", id) }
}

// CreateTrust makes a trust. The trustor is the caller and has each of the roles
// on the project. Trusts can't be passed on.
func (s *Service) CreateTrust(ctx context.Context, t Trust, roles []NameRef) (Trust, error) {
	if err := s.enforce(ctx, "create_trust", trustTarget(&t)); err != nil {
		return Trust{}, err
	}
	c := nacre.CallerFrom(ctx)
	if i, err := s.lookUp(ctx, c.Token, 0); err != nil || i.AppCred != nil || i.Trust != nil {
		return Trust{}, forbidden("You are not authorized to perform the requested action: create a trust with a token issued via delegation.")
	}
	switch {
	case t.expired():
		return Trust{}, nacre.Errorf(nacre.Invalid, "ValidationExpirationError", "The 'expires_at' must not be before now. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
	case t.RemainingUses != nil && *t.RemainingUses < 1:
		return Trust{}, invalid("remaining_uses must be a positive integer or null.")
	case len(roles) == 0:
		return Trust{}, forbidden("At least one role should be specified")
	}
	if _, err := s.users.Get(ctx, t.TrusteeUserID); err != nil {
		return Trust{}, orNotFound(err, "user", t.TrusteeUserID)
	}
	p, err := s.projects.Get(ctx, t.ProjectID)
	if err != nil {
		return Trust{}, orNotFound(err, "project", t.ProjectID)
	}
	sc, err := s.findScope(ctx, p.ID, "", "")
	if err != nil {
		return Trust{}, err
	}
	held, err := s.rolesOn(ctx, t.TrustorUserID, sc)
	if err != nil {
		return Trust{}, err
	}
	for _, ref := range roles {
		i := slices.IndexFunc(held, func(r Role) bool { return r.ID == ref.ID || ref.ID == "" && r.Name == ref.Name })
		if i < 0 {
			return Trust{}, forbidden("Some of requested roles are not in redelegated trust or held by the trustor: %s", ref.ID+ref.Name)
		}
		t.Roles, t.RoleIDs = append(t.Roles, held[i]), append(t.RoleIDs, held[i].ID)
	}
	t.ID = s.newID()
	return t, s.tx(ctx, func(ctx context.Context) error {
		if err := s.trusts.Insert(ctx, t); err != nil {
			return err
		}
		return s.emit(ctx, "OS-TRUST:trust", "created", t.ID)
	})
}

func (s *Service) trust(ctx context.Context, id, rule string) (Trust, error) {
	t, err := s.trusts.Get(ctx, id)
	if err == nil && t.expired() {
		t, err = Trust{}, store.ErrNoRow
	}
	if deny := s.enforce(ctx, rule, trustTarget(&t)); deny != nil {
		return Trust{}, deny
	}
	return t, store.WrapNotFound(err, noTrust(id))
}

// GetTrust shows a trust.
func (s *Service) GetTrust(ctx context.Context, id string) (Trust, error) {
	return s.trustWithRoles(ctx, id, "get_trust")
}

func (s *Service) trustWithRoles(ctx context.Context, id, rule string) (Trust, error) {
	t, err := s.trust(ctx, id, rule)
	if err == nil {
		t.Roles, err = s.roles.Where(ctx, store.In("id", t.RoleIDs))
	}
	return t, err
}

// TrustRoles lists a trust's roles.
func (s *Service) TrustRoles(ctx context.Context, id string) ([]Role, error) {
	t, err := s.trustWithRoles(ctx, id, "list_roles_for_trust")
	return t.Roles, err
}

// TrustRole shows one of a trust's roles.
func (s *Service) TrustRole(ctx context.Context, id, roleID string) (Role, error) {
	t, err := s.trustWithRoles(ctx, id, "get_role_for_trust")
	if err != nil {
		return Role{}, err
	}
	i := slices.IndexFunc(t.Roles, func(r Role) bool { return r.ID == roleID })
	if i < 0 {
		return Role{}, notFound("role", roleID)
	}
	return t.Roles[i], nil
}

// ListTrusts lists trusts: all, or those of the trustor or trustee asked for.
func (s *Service) ListTrusts(ctx context.Context, q nacre.Query) ([]Trust, error) {
	rule, target := "list_trusts", policy.Map{}
	if v, ok := q.Get("trustor_user_id"); ok {
		rule = "list_trusts_for_trustor"
		target["target.trust.trustor_user_id"] = v
	} else if v, ok := q.Get("trustee_user_id"); ok {
		rule = "list_trusts_for_trustee"
		target["target.trust.trustee_user_id"] = v
	}
	if err := s.enforce(ctx, rule, target); err != nil {
		return nil, err
	}
	return list(ctx, s.trusts, q, columns{"id", "trustor_user_id", "trustee_user_id", "project_id"},
		store.Or(store.IsNull("expires_at"), store.Greater("expires_at", time.Now())))
}

// DeleteTrust ends a trust and the tokens made with it.
func (s *Service) DeleteTrust(ctx context.Context, id string) error {
	t, err := s.trust(ctx, id, "delete_trust")
	if err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.trusts.Delete(ctx, id); err != nil {
			return store.WrapNotFound(err, noTrust(id))
		}
		if err := s.revoke(ctx, revocation{UserID: t.TrusteeUserID, Stale: true}); err != nil {
			return err
		}
		return s.emit(ctx, "OS-TRUST:trust", "deleted", id)
	})
}

// useTrust counts a token against a trust's remaining uses, before it is made.
func (s *Service) useTrust(ctx context.Context, id string) error {
	return s.tx(ctx, func(ctx context.Context) error {
		_, err := s.trusts.Update(ctx, id, func(t *Trust) error {
			switch {
			case t.RemainingUses == nil:
			case *t.RemainingUses < 1:
				return forbidden("No remaining uses for trust: %s.", id)
			default:
				n := *t.RemainingUses - 1
				t.RemainingUses = &n
			}
			return nil
		})
		return gone(err, "the trust is gone")
	})
}

// loadTrust reads what a trust's token stands for into i, whose User is the
// trustee: the trustor's roles, as far as the trust has them.
func (s *Service) loadTrust(ctx context.Context, i *TokenInfo, sc *scope) error {
	t, err := s.trusts.Get(ctx, i.TrustID)
	if err != nil {
		return gone(err, "the trust is gone")
	}
	if t.expired() || t.TrusteeUserID != i.User.ID || t.ProjectID != i.ProjectID {
		return errAuth("the trust has expired or is not for this")
	}
	trustor, err := s.users.Get(ctx, t.TrustorUserID)
	if err != nil {
		return gone(err, "the trustor is gone")
	}
	if err := s.checkAlive(ctx, &trustor); err != nil {
		return err
	}
	if i.Roles, err = s.rolesOn(ctx, trustor.ID, sc); err != nil {
		return err
	}
	// Each role of the trust must still be held, else it gives nothing.
	for _, id := range t.RoleIDs {
		if !slices.ContainsFunc(i.Roles, func(r Role) bool { return r.ID == id }) {
			return errAuth("the trustor has lost a role of the trust")
		}
	}
	allowed, err := s.expand(ctx, t.RoleIDs)
	if err != nil {
		return err
	}
	i.Roles = slices.DeleteFunc(i.Roles, func(r Role) bool {
		return !slices.ContainsFunc(allowed, func(x Role) bool { return x.ID == r.ID })
	})
	i.Trust, i.trustor = &t, trustor.ID
	if t.Impersonation {
		i.User = trustor
		i.UserDomain, err = s.getDomain(ctx, trustor.DomainID)
	}
	return err
}
