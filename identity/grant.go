package identity

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Grant names a user or a group, a project, a domain or the system, and a role
// (empty in a list).
type Grant struct {
	UserID, GroupID     string
	ProjectID, DomainID string
	System              bool
	RoleID              string
	// Inherited means the projects below the target instead of itself.
	Inherited bool
}

func (g *Grant) actor() string  { return g.UserID + g.GroupID }
func (g *Grant) target() string { return g.ProjectID + g.DomainID }

func (g *Grant) row() Assignment {
	a := Assignment{UserID: g.UserID, GroupID: g.GroupID, ProjectID: g.ProjectID, DomainID: g.DomainID, System: g.System, RoleID: g.RoleID, Inherited: g.Inherited}
	a.ID = "u" + a.UserID + "|g" + a.GroupID + "|p" + a.ProjectID + "|d" + a.DomainID + "|" + a.RoleID
	if a.System {
		a.ID += "|system"
	}
	if a.Inherited {
		a.ID += "|inherited"
	}
	return a
}

// rule is the policy rule's name for a verb: create_grant, list_system_grants_for_user.
func (g *Grant) rule(verb string) string {
	plural := ""
	if verb == "list" {
		plural = "s"
	}
	switch {
	case !g.System:
		return verb + "_grant" + plural
	case g.UserID != "":
		return verb + "_system_grant" + plural + "_for_user"
	}
	return verb + "_system_grant" + plural + "_for_group"
}

// checkGrant asks the policy and then whether all that is named is there. It
// returns the role. When a role is taken away or looked for, a missing user or
// group does not matter.
func (s *Service) checkGrant(ctx context.Context, g *Grant, verb string) (Role, error) {
	target := policy.Map{}
	add := func(m policy.Map) {
		for k, v := range m {
			target[k] = v
		}
	}
	var role Role
	var missing error
	note := func(err error, what, id string) {
		if missing == nil {
			missing = orNotFound(err, what, id)
		}
	}
	if g.RoleID != "" {
		r, err := s.roles.Get(ctx, g.RoleID)
		note(err, "role", g.RoleID)
		add(roleTarget(&r))
		role = r
	}
	var domain Ref
	switch {
	case g.ProjectID != "":
		p, err := s.projects.Get(ctx, g.ProjectID)
		note(err, "project", g.ProjectID)
		add(projectTarget(&p))
		domain = p.DomainID
	case g.DomainID != "":
		d, err := s.getDomain(ctx, g.DomainID)
		note(err, "domain", g.DomainID)
		if err == nil {
			add(policy.Map{"target.domain.id": d.ID})
			domain = Ref(d.ID)
		}
	}
	if g.UserID != "" {
		u, err := s.users.Get(ctx, g.UserID)
		if verb == "create" || verb == "list" || !errors.Is(err, nacre.NotFound) {
			note(err, "user", g.UserID)
		}
		add(policy.Map{"target.user.id": u.ID, "target.user.domain_id": u.DomainID})
	} else {
		gr, err := s.groups.Get(ctx, g.GroupID)
		if verb == "create" || verb == "list" || !errors.Is(err, nacre.NotFound) {
			note(err, "group", g.GroupID)
		}
		add(groupTarget(&gr))
	}
	if err := s.enforce(ctx, g.rule(verb), target); err != nil {
		return role, err
	}
	if missing == nil && verb == "create" && g.ProjectID != "" && role.DomainID != "" && role.DomainID != domain {
		return role, forbidden("Project %s must be in the same domain as the role %s being assigned.", g.target(), g.RoleID)
	}
	return role, missing
}

// CreateGrant assigns a role; doing so again changes nothing.
func (s *Service) CreateGrant(ctx context.Context, g Grant) error {
	if _, err := s.checkGrant(ctx, &g, "create"); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error { return s.writeGrant(ctx, g) })
}

func (s *Service) writeGrant(ctx context.Context, g Grant) error {
	for _, err := range []error{
		hold(ctx, s.projects, "project", g.ProjectID), hold(ctx, s.projects, "domain", g.DomainID), hold(ctx, s.users, "user", g.UserID),
		hold(ctx, s.groups, "group", g.GroupID), hold(ctx, s.roles, "role", g.RoleID),
	} {
		if err != nil {
			return err
		}
	}
	row := g.row()
	if _, err := s.assignments.Get(ctx, row.ID); !errors.Is(err, store.ErrNoRow) {
		return err
	}
	if err := s.assignments.Insert(ctx, row); err != nil {
		return err
	}
	if err := s.staleActor(ctx, g.UserID, g.GroupID); err != nil {
		return err
	}
	return s.emit(ctx, "role_assignment", "created", g.RoleID)
}

// staleActor has the tokens of a user, or of a group's members, looked up again.
func (s *Service) staleActor(ctx context.Context, userID, groupID string) error {
	if userID != "" {
		return s.revoke(ctx, revocation{UserID: userID, Stale: true})
	}
	members, err := s.members.Where(ctx, store.Eq("group_id", groupID))
	if err != nil {
		return err
	}
	rows := make([]revocation, len(members))
	for i := range members {
		rows[i] = revocation{UserID: members[i].UserID, Stale: true}
	}
	return s.revoke(ctx, rows...)
}

func noGrant(g *Grant) *nacre.Error {
	target := g.target()
	if g.System {
		target = "system"
	}
	return nacre.Errorf(nacre.NotFound, "role assignment", "Could not find role assignment with role: %s, user or group: %s, project, domain, or system: %s.", g.RoleID, g.actor(), target)
}

// CheckGrant is NotFound unless the role is assigned, directly.
func (s *Service) CheckGrant(ctx context.Context, g Grant) error {
	if _, err := s.checkGrant(ctx, &g, "check"); err != nil {
		return err
	}
	_, err := s.assignments.Get(ctx, g.row().ID)
	return store.WrapNotFound(err, func() *nacre.Error { return noGrant(&g) })
}

// ListGrants lists the roles assigned directly.
func (s *Service) ListGrants(ctx context.Context, g Grant) ([]Role, error) {
	if _, err := s.checkGrant(ctx, &g, "list"); err != nil {
		return nil, err
	}
	return s.roles.Where(ctx, store.InSelect("id", s.assignments, "role_id", store.And(
		eqOrNull("user_id", g.UserID), eqOrNull("group_id", g.GroupID), eqOrNull("project_id", g.ProjectID),
		eqOrNull("domain_id", g.DomainID), store.Eq("system", g.System), store.Eq("inherited", g.Inherited))))
}

func eqOrNull(column, v string) store.Where {
	if v == "" {
		return store.IsNull(column)
	}
	return store.Eq(column, v)
}

// DeleteGrant takes a role away; tokens lose it at once.
func (s *Service) DeleteGrant(ctx context.Context, g Grant) error {
	if _, err := s.checkGrant(ctx, &g, "revoke"); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.assignments.Delete(ctx, g.row().ID); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return noGrant(&g) })
		}
		// An application credential's roles go with those of its user.
		if g.UserID != "" && g.ProjectID != "" {
			if _, err := s.appCreds.DeleteWhere(ctx, store.Eq("user_id", g.UserID), store.Eq("project_id", g.ProjectID)); err != nil {
				return err
			}
		}
		if err := s.staleActor(ctx, g.UserID, g.GroupID); err != nil {
			return err
		}
		return s.emit(ctx, "role_assignment", "deleted", g.RoleID)
	})
}
