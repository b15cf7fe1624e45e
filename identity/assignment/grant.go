package assignment

import (
	"context"
	"errors"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
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
			missing = kit.OrNotFound(err, what, id)
		}
	}
	if g.RoleID != "" {
		r, err := s.roles.Get(ctx, g.RoleID)
		note(err, "role", g.RoleID)
		add(roleTarget(&r))
		role = r
	}
	var domain kit.Ref
	switch {
	case g.ProjectID != "":
		d, err := s.parent.Project(ctx, g.ProjectID)
		note(err, "project", g.ProjectID)
		if domain = d; err == nil {
			add(policy.Map{"target.project.id": g.ProjectID, "target.project.domain_id": orNone(d)})
		}
	case g.DomainID != "":
		err := s.parent.CheckDomain(ctx, g.DomainID)
		note(err, "domain", g.DomainID)
		if err == nil {
			add(policy.Map{"target.domain.id": g.DomainID})
			domain = kit.Ref(g.DomainID)
		}
	}
	what, id, find := "user", g.UserID, s.parent.User
	if g.UserID == "" {
		what, id, find = "group", g.GroupID, s.parent.Group
	}
	actorDomain, err := find(ctx, id)
	if verb == "create" || verb == "list" || !errors.Is(err, nacre.NotFound) {
		note(err, what, id)
	}
	if err == nil {
		add(policy.Map{"target." + what + ".id": id, "target." + what + ".domain_id": actorDomain})
	}
	if err := s.area.Enforce(ctx, g.rule(verb), target); err != nil {
		return role, err
	}
	if missing == nil && verb == "create" && g.ProjectID != "" && role.DomainID != "" && role.DomainID != domain {
		return role, kit.Forbidden("Project %s must be in the same domain as the role %s being assigned.", g.target(), g.RoleID)
	}
	return role, missing
}

// CreateGrant assigns a role; doing so again changes nothing.
func (s *Service) CreateGrant(ctx context.Context, g Grant) error {
	if _, err := s.checkGrant(ctx, &g, "create"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error { return s.Write(ctx, g) })
}

// Write assigns a role within a transaction; doing so again changes nothing. It asks no
// policy.
func (s *Service) Write(ctx context.Context, g Grant) error {
	if err := s.parent.Hold(ctx, &g); err != nil {
		return err
	}
	if err := kit.Hold(ctx, s.roles, "role", g.RoleID); err != nil {
		return err
	}
	row := g.row()
	if _, err := s.assignments.Get(ctx, row.ID); !errors.Is(err, store.ErrNoRow) {
		return err
	}
	if err := s.assignments.Insert(ctx, row); err != nil {
		return err
	}
	if err := s.parent.Lost(ctx, g.UserID, g.GroupID); err != nil {
		return err
	}
	return s.area.Happened(ctx, "role_assignment", "created", g.RoleID)
}

func orNone(id kit.Ref) string {
	if id == "" {
		return "None"
	}
	return string(id)
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
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.assignments.Delete(ctx, g.row().ID); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return noGrant(&g) })
		}
		// An application credential's roles go with those of its user.
		if g.UserID != "" && g.ProjectID != "" {
			if err := s.parent.GrantEnded(ctx, g.UserID, g.ProjectID); err != nil {
				return err
			}
		}
		if err := s.parent.Lost(ctx, g.UserID, g.GroupID); err != nil {
			return err
		}
		return s.area.Happened(ctx, "role_assignment", "deleted", g.RoleID)
	})
}

// KeepOnly takes a user's own roles on projects away, but for those of the grants, as
// DeleteGrant does, within a transaction. It asks no policy.
func (s *Service) KeepOnly(ctx context.Context, userID string, keep []Grant) error {
	have, err := s.assignments.Where(ctx, store.Eq("user_id", userID), store.Ne("project_id", ""))
	if err != nil {
		return err
	}
	lost := false
	for _, a := range have {
		if a.ProjectID == "" || slices.ContainsFunc(keep, func(g Grant) bool { return g.row().ID == a.ID }) {
			continue
		}
		if err := s.assignments.Delete(ctx, a.ID); err != nil {
			return err
		}
		if err := s.parent.GrantEnded(ctx, userID, a.ProjectID); err != nil {
			return err
		}
		if err := s.area.Happened(ctx, "role_assignment", "deleted", a.RoleID); err != nil {
			return err
		}
		lost = true
	}
	if !lost {
		return nil
	}
	return s.parent.Lost(ctx, userID, "")
}
