package assignment

import (
	"context"

	"github.com/nacre-cloud/nacre/identity/kit"
)

// Parent is what assignments need of the area that they are a part of. What is not there
// is nacre.NotFound.
type Parent interface {
	// Project is the domain of a project; a domain, which is a project too, has none.
	Project(ctx context.Context, id string) (domain kit.Ref, err error)
	CheckDomain(ctx context.Context, id string) error
	// User and Group are the domains of a user and of a group.
	User(ctx context.Context, id string) (domain string, err error)
	Group(ctx context.Context, id string) (domain string, err error)
	// Hold keeps all that a grant names, but for its role, from going until the
	// transaction ends.
	Hold(ctx context.Context, g *Grant) error

	// Below are the projects below these projects or domains, ProjectsIn those of a
	// domain.
	Below(ctx context.Context, ids ...string) ([]string, error)
	ProjectsIn(ctx context.Context, domainID string) ([]string, error)
	// GroupsOf are a user's groups. Members are the users of every group, or, with a
	// user, that user alone in its groups.
	GroupsOf(ctx context.Context, userID string) ([]string, error)
	Members(ctx context.Context, userID string) (map[string][]string, error)

	// Lost has the tokens of a user, or of a group's members, looked up again, within
	// the change's transaction; of everybody when both are empty.
	Lost(ctx context.Context, userID, groupID string) error
	// GrantEnded ends what rests on a user's role on a project.
	GrantEnded(ctx context.Context, userID, projectID string) error
}
