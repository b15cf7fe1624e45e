package assignment

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// RoleChange is what is given of a role: at its creation Name must be set; in an
// update nil leaves a field as it is.
type RoleChange struct {
	// ID names a new role; empty makes one. Only bootstrap sets it.
	ID                          string
	DomainID, Name, Description *string
	Options                     kit.Options
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
	r := Role{ID: s.area.NewID(), Description: ch.Description, Options: kit.MergeOptions(nil, ch.Options), Extra: ch.Extra}
	if ch.ID != "" {
		r.ID = ch.ID
	}
	kit.SetIf(&r.Name, ch.Name)
	if ch.DomainID != nil {
		r.DomainID = kit.Ref(*ch.DomainID)
	}
	if err := s.area.Enforce(ctx, roleRule("create", &r), roleTarget(&r)); err != nil {
		return Role{}, err
	}
	if err := kit.CheckName("name", r.Name, 255); err != nil {
		return Role{}, err
	}
	if err := kit.CheckOptions(ch.Options, "immutable"); err != nil {
		return Role{}, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.parent.Hold(ctx, &Grant{DomainID: string(r.DomainID)}); err != nil {
			return err
		}
		if err := s.roles.Insert(ctx, r); err != nil {
			return kit.OrConflict(err, "role", r.Name, string(r.DomainID))
		}
		return s.area.Happened(ctx, "role", "created", r.ID)
	})
	return r, err
}

func (s *Service) role(ctx context.Context, id, verb string) (Role, error) {
	r, err := s.roles.Get(ctx, id)
	if deny := s.area.Enforce(ctx, roleRule(verb, &r), roleTarget(&r)); deny != nil {
		return Role{}, deny
	}
	return r, kit.OrNotFound(err, "role", id)
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
	if err := s.area.Enforce(ctx, rule, nil); err != nil {
		return nil, err
	}
	return kit.List(ctx, s.roles, q, kit.Columns{"id", "name"}, w)
}

// UpdateRole changes a role.
func (s *Service) UpdateRole(ctx context.Context, id string, ch RoleChange) (Role, error) {
	old, err := s.role(ctx, id, "update")
	if err != nil {
		return Role{}, err
	}
	if ch.Name != nil {
		if err := kit.CheckName("name", *ch.Name, 255); err != nil {
			return Role{}, err
		}
	}
	if err := kit.CheckOptions(ch.Options, "immutable"); err != nil {
		return Role{}, err
	}
	var out Role
	err = s.area.Tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.roles.Update(ctx, id, func(r *Role) error {
			if r.Options.Immutable() {
				keep, set := ch.Options["immutable"]
				if b, _ := keep.(bool); !set || b {
					return kit.Immutable("update", "role", id)
				}
			}
			if ch.DomainID != nil && kit.Ref(*ch.DomainID) != r.DomainID {
				return kit.Invalid("Update of `domain_id` is not allowed.")
			}
			kit.SetIf(&r.Name, ch.Name)
			if ch.Description != nil {
				r.Description = ch.Description
			}
			r.Options, r.Extra = kit.MergeOptions(r.Options, ch.Options), kit.Merge(r.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			name := ""
			kit.SetIf(&name, ch.Name)
			return kit.OrNotFound(kit.OrConflict(err, "role", name, string(old.DomainID)), "role", id)
		}
		if out.Name != old.Name {
			if err := s.parent.Lost(ctx, "", ""); err != nil {
				return err
			}
		}
		return s.area.Happened(ctx, "role", "updated", id)
	})
	return out, err
}

// DeleteRole removes a role from everybody who has it.
func (s *Service) DeleteRole(ctx context.Context, id string) error {
	r, err := s.role(ctx, id, "delete")
	if err != nil {
		return err
	}
	if r.Options.Immutable() {
		return kit.Immutable("delete", "role", id)
	}
	return s.area.Tx(ctx, func(ctx context.Context) error { return s.dropRoles(ctx, []Role{r}) })
}

func (s *Service) dropRoles(ctx context.Context, rs []Role) error {
	if len(rs) == 0 {
		return nil
	}
	ids := make([]string, len(rs))
	for i := range rs {
		ids[i] = rs[i].ID
		if err := s.area.Happened(ctx, "role", "deleted", rs[i].ID); err != nil {
			return err
		}
	}
	if err := s.parent.Lost(ctx, "", ""); err != nil {
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

// RoleNamed finds a role without a domain by its name. It asks no policy.
func (s *Service) RoleNamed(ctx context.Context, name string) (Role, bool, error) {
	r, err := s.roles.One(ctx, store.Eq("name", name), store.Eq("domain_id", ""))
	if errors.Is(err, store.ErrNoRow) {
		return r, false, nil
	}
	return r, err == nil, err
}

// Roles reads roles by their ids. It asks no policy.
func (s *Service) Roles(ctx context.Context, ids []string) ([]Role, error) {
	return s.roles.Where(ctx, store.In("id", ids))
}

// RolesNamed reads roles by their names, whatever their domain. It asks no policy.
func (s *Service) RolesNamed(ctx context.Context, names []string) ([]Role, error) {
	return s.roles.Where(ctx, store.In("name", names))
}
