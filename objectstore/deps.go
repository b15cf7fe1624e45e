package objectstore

import "context"

// Projects is what the object store needs of identity.
type Projects interface {
	// Existing are those of the projects that there are. An error is not an answer: the
	// accounts are left as they are.
	Existing(ctx context.Context, ids ...string) (map[string]bool, error)
}
