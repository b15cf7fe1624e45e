package assignment

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Config is what a Service is made of. Area and Parent must be set.
type Config struct {
	kit.Area
	Parent Parent
}

// Service is roles and their assignments. Its methods are safe for concurrent use.
type Service struct {
	area   kit.Area
	parent Parent
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("assignment"); err != nil {
		return nil, err
	}
	if cfg.Parent == nil {
		return nil, errors.New("assignment: Config.Parent is missing")
	}
	return &Service{area: cfg.Area, parent: cfg.Parent, tables: newTables(cfg.Engine)}, nil
}

// UsersDeleted, GroupsDeleted and ProjectsDeleted remove what was assigned to or on
// what goes, within the transaction in which it goes.
func (s *Service) UsersDeleted(ctx context.Context, ids []string) error {
	return s.drop(ctx, "user_id", ids)
}

// GroupsDeleted is as UsersDeleted says.
func (s *Service) GroupsDeleted(ctx context.Context, ids []string) error {
	return s.drop(ctx, "group_id", ids)
}

// ProjectsDeleted is as UsersDeleted says.
func (s *Service) ProjectsDeleted(ctx context.Context, ids []string) error {
	return s.drop(ctx, "project_id", ids)
}

func (s *Service) drop(ctx context.Context, column string, ids []string) error {
	_, err := s.assignments.DeleteWhere(ctx, store.In(column, ids))
	return err
}

// DomainDeleted removes a domain's roles and what was assigned on it, within the
// transaction in which the domain goes.
func (s *Service) DomainDeleted(ctx context.Context, id string) error {
	roles, err := s.roles.Where(ctx, store.Eq("domain_id", id))
	if err != nil {
		return err
	}
	if err := s.dropRoles(ctx, roles); err != nil {
		return err
	}
	_, err = s.assignments.DeleteWhere(ctx, store.Eq("domain_id", id))
	return err
}

// Symptoms are what an operator would want to know of roles. It asks no policy.
func (s *Service) Symptoms(ctx context.Context) ([]nacre.Finding, error) {
	ok, err := s.assignments.Exists(ctx, store.InSelect("role_id", s.roles, "id", store.And(store.Eq("name", "admin"), store.Eq("domain_id", ""))))
	if err != nil || ok {
		return nil, err
	}
	return []nacre.Finding{{Area: "identity", Kind: "role", ID: "admin", Problem: "nobody has the role admin: nacre bootstrap makes an administrator"}}, nil
}

// Audit says what of roles and assignments refers to nothing. users, groups and
// projects are those that there are, domains among the projects.
func (s *Service) Audit(a *kit.Audit, users, groups, projects map[string]bool) {
	roles := kit.Keys(a, s.roles, func(r Role) string { return r.ID })
	kit.Each(a, "role", s.roles, func(r Role) string { return r.ID }, func(r Role) { a.Refers(r.ID, "domain", string(r.DomainID), projects) })
	kit.Each(a, "implied_role", s.implied, func(i impliedRole) string { return i.ID }, func(i impliedRole) {
		a.Refers(i.ID, "prior role", i.PriorID, roles)
		a.Refers(i.ID, "implied role", i.ImpliedID, roles)
	})
	kit.Each(a, "role_assignment", s.assignments, func(r Assignment) string { return r.ID }, func(r Assignment) {
		a.Refers(r.ID, "role", r.RoleID, roles)
		a.Refers(r.ID, "user", r.UserID, users)
		a.Refers(r.ID, "group", r.GroupID, groups)
		a.Refers(r.ID, "project", r.ProjectID, projects)
		a.Refers(r.ID, "domain", r.DomainID, projects)
	})
}
