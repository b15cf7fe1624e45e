// Package assignment is Keystone's roles: which there are, which imply which, and who
// has which on a project, a domain or the system (also OS-INHERIT).
//
//	svc, err := assignment.New(assignment.Config{Area: area, Parent: parent})
//	err = svc.CreateGrant(ctx, assignment.Grant{UserID: user, ProjectID: project, RoleID: role})
//	roles, err := svc.RolesOn(ctx, user, assignment.Scope{ProjectID: project, DomainID: domain})
//
// It is a part of package identity that shares its Engine; identity.Service has it as
// Assignments.
//
// # What it promises
//
// Who loses a role has lost it in the next look at any of its tokens. Roles never imply
// each other in a circle, and none implies admin. A role of a domain counts for what it
// implies only. An inherited assignment holds on the projects below its target, not on
// it. What users have on a scope costs four statements, however many have roles there.
package assignment
