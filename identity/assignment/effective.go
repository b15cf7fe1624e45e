package assignment

import (
	"context"
	"slices"

	"github.com/nacre-cloud/nacre/store"
)

// Scope is what a role is for: a project of a domain, with the ids of the projects
// above it, a domain, or the system; or nothing.
type Scope struct {
	ProjectID, DomainID string
	Ancestors           []string
	System              bool
}

// actorIs matches assignments of a user or of one of its groups.
func actorIs(userID string, groups []string) store.Where {
	if len(groups) == 0 {
		return store.Eq("user_id", userID) // a database finds this by its index alone
	}
	return store.Or(store.Eq("user_id", userID), store.In("group_id", groups))
}

// RolesOn are the roles that a user has on a scope: assigned, inherited and
// implied ones, ordered by name. Roles of a domain count for what they imply only.
// more are groups that the user is in besides, as a federated token says.
func (s *Service) RolesOn(ctx context.Context, userID string, on Scope, more ...string) ([]Role, error) {
	groups, err := s.parent.GroupsOf(ctx, userID)
	if err != nil {
		return nil, err
	}
	groups = append(groups, more...)
	var w store.Where
	switch {
	case on.System:
		w = store.Eq("system", true)
	case on.ProjectID != "":
		w = store.Or(
			store.And(store.Eq("project_id", on.ProjectID), store.Eq("inherited", false)),
			store.And(store.In("project_id", on.Ancestors), store.Eq("inherited", true)),
			store.And(store.Eq("domain_id", on.DomainID), store.Eq("inherited", true)))
	case on.DomainID != "":
		w = store.And(store.Eq("domain_id", on.DomainID), store.Eq("inherited", false))
	default:
		return nil, nil
	}
	as, err := s.assignments.Where(ctx, actorIs(userID, groups), w)
	if err != nil || len(as) == 0 {
		return nil, err
	}
	ids := make([]string, len(as))
	for i := range as {
		ids[i] = as[i].RoleID
	}
	return s.Expand(ctx, ids)
}

// Expand reads roles with what they imply. It asks no policy.
func (s *Service) Expand(ctx context.Context, ids []string) ([]Role, error) {
	pairs, err := s.implied.Where(ctx)
	if err != nil {
		return nil, err
	}
	return s.roles.Select(ctx, store.Select{
		Where: store.And(store.In("id", closure(pairs, ids)), store.Eq("domain_id", "")),
		Order: []store.Order{{Column: "name"}},
	})
}

// Reach is where a user has any role.
type Reach struct {
	Projects, Domains []string
	System            bool
}

// ReachOf finds where a user has any role, enabled or not. more are groups as in
// RolesOn.
func (s *Service) ReachOf(ctx context.Context, userID string, more ...string) (Reach, error) {
	var r Reach
	groups, err := s.parent.GroupsOf(ctx, userID)
	if err != nil {
		return r, err
	}
	groups = append(groups, more...)
	as, err := s.assignments.Where(ctx, actorIs(userID, groups))
	if err != nil {
		return r, err
	}
	var below []string
	for _, a := range as {
		switch {
		case a.System:
			r.System = true
		case a.Inherited:
			below = append(below, a.ProjectID+a.DomainID)
		case a.ProjectID != "":
			r.Projects = append(r.Projects, a.ProjectID)
		default:
			r.Domains = append(r.Domains, a.DomainID)
		}
	}
	if len(below) > 0 {
		slices.Sort(below)
		tree, err := s.parent.Below(ctx, slices.Compact(below)...)
		if err != nil {
			return r, err
		}
		r.Projects = append(r.Projects, tree...)
	}
	slices.Sort(r.Projects)
	slices.Sort(r.Domains)
	r.Projects, r.Domains = slices.Compact(r.Projects), slices.Compact(r.Domains)
	return r, nil
}
