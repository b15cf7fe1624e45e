package objectstore

import "context"

// Projects is what the object store needs of identity.
type Projects interface {
	// Exists tells whether there is a project. An error is not an answer: the account
	// is left as it is.
	Exists(ctx context.Context, id string) (bool, error)
}
