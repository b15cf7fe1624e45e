package oauth1

import "context"

// Role is a role as far as authorization names it.
type Role struct{ ID, Name string }

// Parent is what oauth1 needs of the area that it is a part of.
type Parent interface {
	// CheckProject is NotFound when there is no such project.
	CheckProject(ctx context.Context, id string) error
	// Hold keeps a user and a project from going until the transaction ends; either
	// may be empty.
	Hold(ctx context.Context, userID, projectID string) error
	// Held are the roles that a user has on a project.
	Held(ctx context.Context, userID, projectID string) ([]Role, error)
	// Delegated reports whether the caller's token was made by delegation: a trust,
	// an application credential, an access token.
	Delegated(ctx context.Context) (bool, error)
	// Lost has a user's tokens looked up again, within the change's transaction.
	Lost(ctx context.Context, userIDs ...string) error
}
