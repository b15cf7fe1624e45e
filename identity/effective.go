package identity

import (
	"context"
	"slices"

	"github.com/nacre-cloud/nacre/store"
)

// scope is what a token or a role is for: a project with its ancestors, a
// domain, or the system; or nothing.
type scope struct {
	project   *Project
	domain    *Project // the project's, or the scope itself
	ancestors []string // ids of the projects above project, without the domain
	system    bool
}

func (sc *scope) empty() bool { return sc.project == nil && sc.domain == nil && !sc.system }

// actorIs matches assignments of a user or of one of its groups.
func actorIs(userID string, groups []string) store.Where {
	if len(groups) == 0 {
		return store.Eq("user_id", userID) // a database finds this by its index alone
	}
	return store.Or(store.Eq("user_id", userID), store.In("group_id", groups))
}

// rolesOn are the roles that a user has on a scope: assigned, inherited and
// implied ones, ordered by name. Roles of a domain count for what they imply only.
// more are groups that the user is in besides, as a federated token says.
func (s *Service) rolesOn(ctx context.Context, userID string, sc *scope, more ...string) ([]Role, error) {
	groups, err := s.groupsOf(ctx, userID)
	if err != nil {
		return nil, err
	}
	groups = append(groups, more...)
	var on store.Where
	switch {
	case sc.system:
		on = store.Eq("system", true)
	case sc.project != nil:
		on = store.Or(
			store.And(store.Eq("project_id", sc.project.ID), store.Eq("inherited", false)),
			store.And(store.In("project_id", sc.ancestors), store.Eq("inherited", true)),
			store.And(store.Eq("domain_id", sc.domain.ID), store.Eq("inherited", true)))
	case sc.domain != nil:
		on = store.And(store.Eq("domain_id", sc.domain.ID), store.Eq("inherited", false))
	default:
		return nil, nil
	}
	as, err := s.assignments.Where(ctx, actorIs(userID, groups), on)
	if err != nil || len(as) == 0 {
		return nil, err
	}
	ids := make([]string, len(as))
	for i := range as {
		ids[i] = as[i].RoleID
	}
	return s.expand(ctx, ids)
}

// expand reads roles with what they imply.
func (s *Service) expand(ctx context.Context, ids []string) ([]Role, error) {
	pairs, err := s.implied.Where(ctx)
	if err != nil {
		return nil, err
	}
	return s.roles.Select(ctx, store.Select{
		Where: store.And(store.In("id", closure(pairs, ids)), store.Eq("domain_id", "")),
		Order: []store.Order{{Column: "name"}},
	})
}

// reach is where a user has any role.
type reach struct {
	projects, domains []string
	system            bool
}

// reachOf finds where a user has any role, enabled or not. more are groups as in
// rolesOn.
func (s *Service) reachOf(ctx context.Context, userID string, more ...string) (reach, error) {
	var r reach
	groups, err := s.groupsOf(ctx, userID)
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
			r.system = true
		case a.Inherited:
			below = append(below, a.ProjectID+a.DomainID)
		case a.ProjectID != "":
			r.projects = append(r.projects, a.ProjectID)
		default:
			r.domains = append(r.domains, a.DomainID)
		}
	}
	if len(below) > 0 {
		slices.Sort(below)
		tree, err := s.subtree(ctx, slices.Compact(below)...)
		if err != nil {
			return r, err
		}
		for i := range tree {
			r.projects = append(r.projects, tree[i].ID)
		}
	}
	slices.Sort(r.projects)
	slices.Sort(r.domains)
	r.projects, r.domains = slices.Compact(r.projects), slices.Compact(r.domains)
	return r, nil
}
