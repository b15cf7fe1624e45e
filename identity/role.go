package identity

import (
	"context"
	"errors"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// RoleChange is what is given of a role: at its creation Name must be set; in an
// update nil leaves a field as it is.
type RoleChange struct {
	// ID names a new role; empty makes one. Only bootstrap sets it.
	ID                          string
	DomainID, Name, Description *string
	Options                     Options
	Extra                       map[string]any
}

// roleRule is the rule for a role, which differs for those of a domain.
func roleRule(verb string, r *Role) string {
	if r.DomainID != "" {
		return verb + "_domain_role"
	}
	return verb + "_role"
}

func roleTarget(r *Role) policy.Map {
	if r.Name == "" {
		return nil
	}
	m := policy.Map{"target.role.id": r.ID, "target.role.name": r.Name, "target.role.domain_id": "None"}
	if r.DomainID != "" {
		m["target.role.domain_id"] = string(r.DomainID)
	}
	return m
}

// CreateRole makes a role.
func (s *Service) CreateRole(ctx context.Context, ch RoleChange) (Role, error) {
	r := Role{ID: s.newID(), Description: ch.Description, Options: mergeOptions(nil, ch.Options), Extra: ch.Extra}
	if ch.ID != "" {
		r.ID = ch.ID
	}
	setIf(&r.Name, ch.Name)
	if ch.DomainID != nil {
		r.DomainID = Ref(*ch.DomainID)
	}
	if err := s.enforce(ctx, roleRule("create", &r), roleTarget(&r)); err != nil {
		return Role{}, err
	}
	if err := checkName("name", r.Name, 255); err != nil {
		return Role{}, err
	}
	if err := checkOptions(resourceOptions, ch.Options); err != nil {
		return Role{}, err
	}
	err := s.tx(ctx, func(ctx context.Context) error {
		if err := hold(ctx, s.projects, "domain", string(r.DomainID)); err != nil {
			return err
		}
		if err := s.roles.Insert(ctx, r); err != nil {
			return orConflict(err, "role", r.Name, string(r.DomainID))
		}
		return s.emit(ctx, "role", "created", r.ID)
	})
	return r, err
}

func (s *Service) role(ctx context.Context, id, verb string) (Role, error) {
	r, err := s.roles.Get(ctx, id)
	if deny := s.enforce(ctx, roleRule(verb, &r), roleTarget(&r)); deny != nil {
		return Role{}, deny
	}
	return r, orNotFound(err, "role", id)
}

// GetRole shows a role.
func (s *Service) GetRole(ctx context.Context, id string) (Role, error) {
	return s.role(ctx, id, "get")
}

// ListRoles lists the roles without a domain, or those of the domain_id asked for.
func (s *Service) ListRoles(ctx context.Context, q nacre.Query) ([]Role, error) {
	rule, w := "list_roles", store.Eq("domain_id", "")
	if d, ok := q.Get("domain_id"); ok {
		rule, w = "list_domain_roles", store.Eq("domain_id", d)
	}
	if err := s.enforce(ctx, rule, nil); err != nil {
		return nil, err
	}
	return list(ctx, s.roles, q, columns{"id", "name"}, w)
}

// UpdateRole changes a role.
func (s *Service) UpdateRole(ctx context.Context, id string, ch RoleChange) (Role, error) {
	old, err := s.role(ctx, id, "update")
	if err != nil {
		return Role{}, err
	}
	if ch.Name != nil {
		if err := checkName("name", *ch.Name, 255); err != nil {
			return Role{}, err
		}
	}
	if err := checkOptions(resourceOptions, ch.Options); err != nil {
		return Role{}, err
	}
	var out Role
	err = s.tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.roles.Update(ctx, id, func(r *Role) error {
			if r.Options.immutable() {
				keep, set := ch.Options["immutable"]
				if b, _ := keep.(bool); !set || b {
					return immutable("update", "role", id)
				}
			}
			if ch.DomainID != nil && Ref(*ch.DomainID) != r.DomainID {
				return invalid("Update of `domain_id` is not allowed.")
			}
			setIf(&r.Name, ch.Name)
			if ch.Description != nil {
				r.Description = ch.Description
			}
			r.Options, r.Extra = mergeOptions(r.Options, ch.Options), merge(r.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			name := ""
			setIf(&name, ch.Name)
			return orNotFound(orConflict(err, "role", name, string(old.DomainID)), "role", id)
		}
		if out.Name != old.Name {
			if err := s.revoke(ctx, revocation{Stale: true}); err != nil {
				return err
			}
		}
		return s.emit(ctx, "role", "updated", id)
	})
	return out, err
}

// DeleteRole removes a role from everybody who has it.
func (s *Service) DeleteRole(ctx context.Context, id string) error {
	r, err := s.role(ctx, id, "delete")
	if err != nil {
		return err
	}
	if r.Options.immutable() {
		return immutable("delete", "role", id)
	}
	return s.tx(ctx, func(ctx context.Context) error { return s.dropRoles(ctx, []Role{r}) })
}

func (s *Service) dropRoles(ctx context.Context, rs []Role) error {
	if len(rs) == 0 {
		return nil
	}
	ids := make([]string, len(rs))
	for i := range rs {
		ids[i] = rs[i].ID
		if err := s.emit(ctx, "role", "deleted", rs[i].ID); err != nil {
			return err
		}
	}
	if err := s.revoke(ctx, revocation{Stale: true}); err != nil {
		return err
	}
	if _, err := s.roles.DeleteWhere(ctx, store.In("id", ids)); err != nil {
		return err
	}
	if _, err := s.assignments.DeleteWhere(ctx, store.In("role_id", ids)); err != nil {
		return err
	}
	_, err := s.implied.DeleteWhere(ctx, store.Or(store.In("prior_role_id", ids), store.In("implied_role_id", ids)))
	return err
}

// Inference is a role and the roles that it implies directly.
type Inference struct {
	Prior   Role
	Implies []Role
}

// CreateImplied lets a role imply another.
func (s *Service) CreateImplied(ctx context.Context, priorID, impliedID string) (Inference, error) {
	if err := s.enforce(ctx, "create_implied_role", nil); err != nil {
		return Inference{}, err
	}
	out, err := s.inference(ctx, priorID, impliedID)
	if err != nil {
		return out, err
	}
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, impliedLock); err != nil {
			return err
		}
		for _, id := range []string{priorID, impliedID} {
			if err := hold(ctx, s.roles, "role", id); err != nil {
				return err
			}
		}
		all, err := s.implied.Where(ctx)
		if err != nil {
			return err
		}
		switch {
		case out.Implies[0].Name == "admin" || out.Implies[0].DomainID != "" && out.Prior.DomainID == "":
			return forbidden("%s cannot be an implied roles.", impliedID)
		case priorID == impliedID || slices.Contains(closure(all, []string{impliedID}), priorID):
			return nacre.Errorf(nacre.Invalid, "ValidationError", "%s already implies %s: a role can't imply itself.", impliedID, priorID)
		}
		row := impliedRole{ID: priorID + "|" + impliedID, PriorID: priorID, ImpliedID: impliedID}
		if slices.ContainsFunc(all, func(i impliedRole) bool { return i.ID == row.ID }) {
			return conflict("implied_role", "Duplicate entry")
		}
		if err := s.implied.Insert(ctx, row); err != nil {
			return orConflict(err, "implied_role", "", "")
		}
		return s.revoke(ctx, revocation{Stale: true})
	})
	return out, err
}

// inference reads two roles.
func (s *Service) inference(ctx context.Context, priorID, impliedID string) (Inference, error) {
	prior, err := s.roles.Get(ctx, priorID)
	if err != nil {
		return Inference{}, orNotFound(err, "role", priorID)
	}
	implied, err := s.roles.Get(ctx, impliedID)
	return Inference{Prior: prior, Implies: []Role{implied}}, orNotFound(err, "role", impliedID)
}

// GetImplied shows that a role implies another, or is NotFound.
func (s *Service) GetImplied(ctx context.Context, priorID, impliedID string) (Inference, error) {
	if err := s.enforce(ctx, "get_implied_role", nil); err != nil {
		return Inference{}, err
	}
	if _, err := s.implied.Get(ctx, priorID+"|"+impliedID); err != nil {
		return Inference{}, store.WrapNotFound(err, func() *nacre.Error {
			return nacre.Errorf(nacre.NotFound, "implied role", "%s does not imply %s.", priorID, impliedID)
		})
	}
	return s.inference(ctx, priorID, impliedID)
}

// DeleteImplied ends that a role implies another.
func (s *Service) DeleteImplied(ctx context.Context, priorID, impliedID string) error {
	if err := s.enforce(ctx, "delete_implied_role", nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.implied.Delete(ctx, priorID+"|"+impliedID); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.NotFound, "implied role", "%s does not imply %s.", priorID, impliedID)
			})
		}
		return s.revoke(ctx, revocation{Stale: true})
	})
}

// ListImplied shows what a role implies directly.
func (s *Service) ListImplied(ctx context.Context, priorID string) (Inference, error) {
	if err := s.enforce(ctx, "list_implied_roles", nil); err != nil {
		return Inference{}, err
	}
	prior, err := s.roles.Get(ctx, priorID)
	if err != nil {
		return Inference{}, orNotFound(err, "role", priorID)
	}
	implies, err := s.roles.Where(ctx, store.InSelect("id", s.implied, "implied_role_id", store.Eq("prior_role_id", priorID)))
	return Inference{Prior: prior, Implies: implies}, err
}

// ListInferences shows every role that implies another.
func (s *Service) ListInferences(ctx context.Context) ([]Inference, error) {
	if err := s.enforce(ctx, "list_role_inference_rules", nil); err != nil {
		return nil, err
	}
	pairs, err := s.implied.Where(ctx)
	if err != nil {
		return nil, err
	}
	roles, err := s.roles.Where(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[string]Role{}
	for _, r := range roles {
		byID[r.ID] = r
	}
	var out []Inference
	for _, p := range pairs { // ordered by prior role
		if len(out) == 0 || out[len(out)-1].Prior.ID != p.PriorID {
			out = append(out, Inference{Prior: byID[p.PriorID]})
		}
		last := &out[len(out)-1]
		last.Implies = append(last.Implies, byID[p.ImpliedID])
	}
	return out, nil
}

// closure is the roles with all that they imply, each once, given ones first.
func closure(pairs []impliedRole, ids []string) []string {
	out := []string{}
	for _, id := range ids {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	for i := 0; i < len(out); i++ {
		for _, p := range pairs {
			if p.PriorID == out[i] && !slices.Contains(out, p.ImpliedID) {
				out = append(out, p.ImpliedID)
			}
		}
	}
	return out
}

// roleNamed finds a role without a domain by its name.
func (s *Service) roleNamed(ctx context.Context, name string) (Role, bool, error) {
	r, err := s.roles.One(ctx, store.Eq("name", name), store.Eq("domain_id", ""))
	if errors.Is(err, store.ErrNoRow) {
		return r, false, nil
	}
	return r, err == nil, err
}
