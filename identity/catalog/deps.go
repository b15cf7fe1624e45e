package catalog

import "context"

// Parent is what the catalog needs of the area that it is a part of.
type Parent interface {
	// CheckProject is NotFound when there is no such project; HoldProject besides
	// keeps it from going until the transaction ends.
	CheckProject(ctx context.Context, id string) error
	HoldProject(ctx context.Context, id string) error
	// Changed has every token's catalog made anew, everywhere, once the change's
	// transaction is committed.
	Changed(ctx context.Context) error
	// Version numbers what is known here of all changes; changed is the number of
	// the last one that concerns the catalog.
	Version() (version, changed uint64)
}
