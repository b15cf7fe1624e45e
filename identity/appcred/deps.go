package appcred

import (
	"context"

	"github.com/nacre-cloud/nacre/identity/kit"
)

// Role is a role as far as an application credential shows it.
type Role struct {
	ID, Name string
	DomainID kit.Ref
}

// Parent is what application credentials need of the area that they are a part of.
type Parent interface {
	// Unrestricted refuses callers whose token was made by delegation and may not make
	// what outlives it.
	Unrestricted(ctx context.Context) error
	// Roles reads roles by their ids.
	Roles(ctx context.Context, ids []string) ([]Role, error)
	// Hash makes a secret's hash; random says that it holds 128 random bits or more.
	Hash(ctx context.Context, secret string, random bool) (string, error)
	// Hold keeps a user and a project from going until the transaction ends.
	Hold(ctx context.Context, userID, projectID string) error
	// Lost has a user's tokens looked up again, within the change's transaction.
	Lost(ctx context.Context, userID string) error
}
