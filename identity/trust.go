package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/revoke"
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
	// RedelegatedTrustID is the trust whose trustee has passed it on as this one.
	RedelegatedTrustID Ref `store:"redelegated_trust_id,index=trust_redelegated" json:"-"`
	// RedelegationCount is how often it may be passed on yet.
	RedelegationCount int `store:"redelegation_count" json:"redelegation_count"`
	// AllowRedelegation lets the trustee pass a new trust on: Depth times, or as
	// often as Keystone's max_redelegation_count says.
	AllowRedelegation bool `store:"-" json:"-"`
	Depth             *int `store:"-" json:"-"`
	// Roles are filled in by the methods that show one trust.
	Roles []assignment.Role `store:"-" json:"-"`
}

// maxRedelegation is Keystone's [trust]max_redelegation_count.
const maxRedelegation = 3

func (t *Trust) expired() bool { return t.ExpiresAt != nil && !time.Now().Before(*t.ExpiresAt) }

func trustTarget(t *Trust) policy.Map {
	if t.TrustorUserID == "" {
		return nil
	}
	return policy.Map{"target.trust.trustor_user_id": t.TrustorUserID, "target.trust.trustee_user_id": t.TrusteeUserID}
}

func noTrust(id string) func() *nacre.Error {
	return func() *nacre.Error { return kit.NotFound("trust", id) }
}

// trusting refuses tokens that may not manage trusts, and says by which trust the
// caller acts, if by any.
func (s *Service) trusting(ctx context.Context) (*Trust, error) {
	i, ok := s.delegated(ctx)
	switch {
	case ok && i == nil:
		return nil, nil
	case !ok && i == nil, i.AppCred != nil:
		return nil, kit.Forbidden("You are not authorized to perform the requested action: Using method 'application_credential' is not allowed for managing trusts..")
	case i.AccessTokenID != "":
		return nil, kit.Forbidden("You are not authorized to perform the requested action: Redelegation allowed for delegated by trust only.")
	}
	return i.Trust, nil
}

// CreateTrust makes a trust. The trustor is the caller and has each of the roles
// on the project; one who is a trustee itself passes its trust on, as far as that
// allows.
func (s *Service) CreateTrust(ctx context.Context, t Trust, roles []NameRef) (Trust, error) {
	if err := s.area.Enforce(ctx, "create_trust", trustTarget(&t)); err != nil {
		return Trust{}, err
	}
	c := nacre.CallerFrom(ctx)
	if _, err := s.lookUp(ctx, c.Token, 0); err != nil {
		return Trust{}, kit.Forbidden("You are not authorized to perform the requested action: create a trust without a token.")
	}
	parent, err := s.trusting(ctx)
	if err != nil {
		return Trust{}, err
	}
	switch {
	case t.ProjectID != "" && len(roles) == 0:
		return Trust{}, kit.Forbidden("You are not authorized to perform the requested action: At least one role should be specified.")
	case c.UserID != t.TrustorUserID:
		return Trust{}, kit.Forbidden("You are not authorized to perform the requested action: The authenticated user should match the trustor.")
	case t.expired():
		return Trust{}, nacre.Errorf(nacre.Invalid, "ValidationExpirationError", "The 'expires_at' must not be before now. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
	}
	if _, err := s.users.Get(ctx, t.TrusteeUserID); err != nil {
		return Trust{}, kit.OrNotFound(err, "user", t.TrusteeUserID)
	}
	chain := []Trust(nil)
	if parent != nil {
		if chain, err = s.pedigree(ctx, parent); err != nil {
			return Trust{}, err
		}
	}
	if err := s.trustRoles(ctx, &t, roles, chain); err != nil {
		return Trust{}, err
	}
	if err := t.redelegate(chain); err != nil {
		return Trust{}, err
	}
	t.ID = s.area.NewID()
	return t, s.area.Tx(ctx, func(ctx context.Context) error {
		for _, err := range []error{
			kit.Hold(ctx, s.projects, "project", t.ProjectID), kit.Hold(ctx, s.users, "user", min(t.TrustorUserID, t.TrusteeUserID)), kit.Hold(ctx, s.users, "user", max(t.TrustorUserID, t.TrusteeUserID)),
			kit.Hold(ctx, s.trusts, "trust", string(t.RedelegatedTrustID)),
		} {
			if err != nil {
				return err
			}
		}
		if err := s.trusts.Insert(ctx, t); err != nil {
			return err
		}
		return s.area.Happened(ctx, "OS-TRUST:trust", "created", t.ID)
	})
}

// trustRoles finds the roles that are named, each of which the first trustor has.
func (s *Service) trustRoles(ctx context.Context, t *Trust, named []NameRef, chain []Trust) error {
	if len(named) == 0 && t.ProjectID == "" {
		return nil
	}
	p, err := s.projects.Get(ctx, t.ProjectID)
	if err != nil {
		return kit.OrNotFound(err, "project", t.ProjectID)
	}
	sc, err := s.findScope(ctx, p.ID, "", "")
	if err != nil {
		return err
	}
	trustor := t.TrustorUserID
	if n := len(chain); n > 0 {
		trustor = chain[n-1].TrustorUserID
		if chain[n-1].ProjectID != t.ProjectID {
			return noMore("a trust is passed on for its own project")
		}
	}
	held, err := s.rolesOn(ctx, trustor, sc)
	if err != nil {
		return err
	}
	for _, ref := range named {
		i := slices.IndexFunc(held, func(r assignment.Role) bool { return r.ID == ref.ID || ref.ID == "" && r.Name == ref.Name })
		if i < 0 {
			return kit.NotFound("role", ref.ID+ref.Name)
		}
		t.Roles, t.RoleIDs = append(t.Roles, held[i]), append(t.RoleIDs, held[i].ID)
	}
	return nil
}

// noMore is Keystone's answer to what a trust does not allow; why goes to the log.
func noMore(why string) error {
	return &nacre.Error{Kind: nacre.Forbidden, Code: "Forbidden", Message: "You are not authorized to perform the requested action.", Err: errors.New(why)}
}

// redelegate settles how often a new trust may be passed on, and what of the
// trusts that it comes from it may have. chain begins with the nearest.
func (t *Trust) redelegate(chain []Trust) error {
	again := t.AllowRedelegation && (t.Depth == nil || *t.Depth != 0)
	switch {
	case again && t.Depth != nil && *t.Depth > maxRedelegation:
		return noMore("the depth is more than what is allowed at all")
	case again && t.RemainingUses != nil:
		return kit.Invalid("remaining_uses must not be set if redelegation is allowed")
	case !again && t.RemainingUses != nil && *t.RemainingUses < 1:
		return kit.Invalid("remaining_uses must be a positive integer or null.")
	}
	if len(chain) == 0 {
		if again {
			t.RedelegationCount = maxRedelegation
			kit.SetIf(&t.RedelegationCount, t.Depth)
		}
		return nil
	}
	parent := &chain[0]
	left := parent.RedelegationCount - 1
	if again && t.Depth != nil && *t.Depth != left {
		return noMore("the depth of a trust that is passed on can't be chosen")
	}
	t.RedelegatedTrustID = Ref(parent.ID)
	if again {
		t.RedelegationCount = left
	}
	for i := range chain {
		if err := chain[i].allows(t); err != nil {
			return err
		}
	}
	return nil
}

// allows says whether a trust may be passed on as another, further down the chain.
func (t *Trust) allows(child *Trust) error {
	switch {
	case t.RedelegationCount < 1 || t.RedelegationCount > maxRedelegation:
		return noMore("the trust may not be passed on")
	case child.RemainingUses != nil:
		return noMore("a trust that is passed on can't have a number of uses")
	case t.ExpiresAt != nil && child.ExpiresAt != nil && t.ExpiresAt.Before(*child.ExpiresAt):
		return noMore("the trust ends before")
	case !t.Impersonation && child.Impersonation:
		return noMore("the trust does not allow impersonation")
	}
	if child.ExpiresAt == nil {
		child.ExpiresAt = t.ExpiresAt
	}
	for _, id := range child.RoleIDs {
		if !slices.Contains(t.RoleIDs, id) {
			return noMore("the trust does not have all of the roles")
		}
	}
	return nil
}

// pedigree is a trust with those that it was passed on from, the first one last.
// One that has ended in between ends it all.
func (s *Service) pedigree(ctx context.Context, t *Trust) ([]Trust, error) {
	chain := []Trust{*t}
	for len(chain) <= maxRedelegation+1 {
		last := &chain[len(chain)-1]
		if last.RedelegatedTrustID == "" {
			return chain, nil
		}
		up, err := s.trusts.Get(ctx, string(last.RedelegatedTrustID))
		if err != nil {
			return nil, kit.Gone(err, "a trust that it comes from is gone")
		}
		if up.expired() {
			return nil, kit.Unauthenticated("a trust that it comes from has ended")
		}
		chain = append(chain, up)
	}
	return nil, kit.Unauthenticated("the trust was passed on too often")
}

func (s *Service) trust(ctx context.Context, id, rule string) (Trust, error) {
	t, err := s.trusts.Get(ctx, id)
	// One that is used up is not shown any more, but can be ended with its tokens.
	if err == nil && rule != "delete_trust" && (t.expired() || t.RemainingUses != nil && *t.RemainingUses < 1) {
		err = store.ErrNoRow
	}
	// What is not there is said before who may see it, as in Keystone.
	if err != nil {
		return Trust{}, store.WrapNotFound(err, noTrust(id))
	}
	if deny := s.area.Enforce(ctx, rule, trustTarget(&t)); deny != nil {
		return Trust{}, deny
	}
	_, err = s.trusting(ctx)
	return t, err
}

// GetTrust shows a trust.
func (s *Service) GetTrust(ctx context.Context, id string) (Trust, error) {
	return s.trustWithRoles(ctx, id, "get_trust")
}

func (s *Service) trustWithRoles(ctx context.Context, id, rule string) (Trust, error) {
	t, err := s.trust(ctx, id, rule)
	if err == nil {
		t.Roles, err = s.Assignments.Roles(ctx, t.RoleIDs)
	}
	return t, err
}

// TrustRoles lists a trust's roles.
func (s *Service) TrustRoles(ctx context.Context, id string) ([]assignment.Role, error) {
	t, err := s.trustWithRoles(ctx, id, "list_roles_for_trust")
	return t.Roles, err
}

// TrustRole shows one of a trust's roles.
func (s *Service) TrustRole(ctx context.Context, id, roleID string) (assignment.Role, error) {
	t, err := s.trustWithRoles(ctx, id, "get_role_for_trust")
	if err != nil {
		return assignment.Role{}, err
	}
	i := slices.IndexFunc(t.Roles, func(r assignment.Role) bool { return r.ID == roleID })
	if i < 0 {
		return assignment.Role{}, kit.NotFound("role", roleID)
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
	if err := s.area.Enforce(ctx, rule, target); err != nil {
		return nil, err
	}
	if _, err := s.trusting(ctx); err != nil {
		return nil, err
	}
	return kit.List(ctx, s.trusts, q, kit.Columns{"id", "trustor_user_id", "trustee_user_id", "project_id"},
		store.Or(store.IsNull("expires_at"), store.Greater("expires_at", time.Now())))
}

// DeleteTrust ends a trust, those that it was passed on as, and the tokens made
// with them.
func (s *Service) DeleteTrust(ctx context.Context, id string) error {
	if _, err := s.trust(ctx, id, "delete_trust"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		stale, err := s.dropTrusts(ctx, store.Eq("id", id))
		if err != nil {
			return err
		}
		if len(stale) == 0 {
			return kit.NotFound("trust", id)
		}
		return s.Revocations.Record(ctx, stale...)
	})
}

// dropTrusts removes trusts and those that they were passed on as. It returns what
// ends their tokens, a row each, for the caller to record with what else it ends.
func (s *Service) dropTrusts(ctx context.Context, w store.Where) ([]revoke.Row, error) {
	var stale []revoke.Row
	for {
		ts, err := s.trusts.Where(ctx, w)
		if err != nil || len(ts) == 0 {
			return stale, err
		}
		ids, passed := make([]string, len(ts)), []string(nil)
		for i := range ts {
			ids[i] = ts[i].ID
			if ts[i].RedelegationCount > 0 {
				passed = append(passed, ts[i].ID)
			}
			stale = append(stale, revoke.Row{UserID: ts[i].TrusteeUserID, Stale: true})
			if err := s.area.Happened(ctx, "OS-TRUST:trust", "deleted", ids[i]); err != nil {
				return nil, err
			}
		}
		if _, err := s.trusts.DeleteWhere(ctx, store.In("id", ids)); err != nil {
			return nil, err
		}
		if len(passed) == 0 {
			return stale, nil
		}
		w = store.In("redelegated_trust_id", passed)
	}
}

// useTrust counts a token against a trust's remaining uses, before it is made.
func (s *Service) useTrust(ctx context.Context, id string) error {
	return s.area.Tx(ctx, func(ctx context.Context) error {
		_, err := s.trusts.Update(ctx, id, func(t *Trust) error {
			switch {
			case t.RemainingUses == nil:
			case *t.RemainingUses < 1:
				return kit.Unauthenticated("the trust has no uses left")
			default:
				n := *t.RemainingUses - 1
				t.RemainingUses = &n
			}
			return nil
		})
		return kit.Gone(err, "the trust is gone")
	})
}

// loadTrust reads what a trust's token stands for into i, whose User is the
// trustee: the trustor's roles, as far as the trust has them.
func (s *Service) loadTrust(ctx context.Context, i *TokenInfo, sc *scope) error {
	t, err := s.trusts.Get(ctx, i.TrustID)
	if err != nil {
		return kit.Gone(err, "the trust is gone")
	}
	if t.expired() || t.TrusteeUserID != i.User.ID || t.ProjectID != i.ProjectID {
		return kit.Unauthenticated("the trust has expired or is not for this")
	}
	chain, err := s.pedigree(ctx, &t)
	if err != nil {
		return err
	}
	var trustor User
	for n := range chain {
		// The trustor of each is the trustee of the one above, or impersonates its trustor.
		u, err := s.users.Get(ctx, chain[n].TrustorUserID)
		if err != nil {
			return kit.Gone(err, "a trustor is gone")
		}
		if err := s.checkAlive(ctx, &u); err != nil {
			return err
		}
		i.others = append(i.others, u.ID)
		if n > 0 {
			if err := chain[n].allows(&chain[n-1]); err != nil {
				return err
			}
			between, err := s.users.Get(ctx, chain[n].TrusteeUserID)
			if err != nil {
				return kit.Gone(err, "one who has passed the trust on is gone")
			}
			if err := s.checkAlive(ctx, &between); err != nil {
				return err
			}
			i.others = append(i.others, between.ID)
		}
		if n == 0 {
			trustor = u
		}
	}
	i.Trust = &t
	if t.Impersonation {
		i.User = trustor
		if i.UserDomain, err = s.getDomain(ctx, trustor.DomainID); err != nil {
			return err
		}
	}
	if sc.empty() {
		return nil
	}
	if i.Roles, err = s.rolesOn(ctx, chain[len(chain)-1].TrustorUserID, sc); err != nil {
		return err
	}
	// Each role of the trust must still be held, else it gives nothing.
	for _, id := range t.RoleIDs {
		if !slices.ContainsFunc(i.Roles, func(r assignment.Role) bool { return r.ID == id }) {
			return kit.Unauthenticated("the trustor has lost a role of the trust")
		}
	}
	allowed, err := s.Assignments.Expand(ctx, t.RoleIDs)
	if err != nil {
		return err
	}
	i.Roles = slices.DeleteFunc(i.Roles, func(r assignment.Role) bool {
		return !slices.ContainsFunc(allowed, func(x assignment.Role) bool { return x.ID == r.ID })
	})
	return nil
}
