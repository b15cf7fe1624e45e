package identity

import (
	"context"

	"github.com/nacre-cloud/nacre/identity/assignment"
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

// on is the scope as roles are assigned on it.
func (sc *scope) on() assignment.Scope {
	on := assignment.Scope{Ancestors: sc.ancestors, System: sc.system}
	if sc.project != nil {
		on.ProjectID = sc.project.ID
	}
	if sc.domain != nil {
		on.DomainID = sc.domain.ID
	}
	return on
}

// rolesOn are the roles that a user has on a scope. more are groups that the user is in
// besides, as a federated token says.
func (s *Service) rolesOn(ctx context.Context, userID string, sc *scope, more ...string) ([]assignment.Role, error) {
	return s.Assignments.RolesOn(ctx, userID, sc.on(), more...)
}
