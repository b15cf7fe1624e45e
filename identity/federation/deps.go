package federation

import "context"

// Parent is what federation needs of the area that it is a part of. Each method
// is called within the change's transaction.
type Parent interface {
	// HoldDomain keeps a domain from going until the transaction ends; NotFound when
	// there is none.
	HoldDomain(ctx context.Context, id string) error
	// NewDomain makes an enabled domain for an identity provider's users.
	NewDomain(ctx context.Context, idp string) (id string, err error)
	// Ended removes the users that came by an identity provider, or by one of its
	// protocols when that is not empty, and ends their tokens.
	Ended(ctx context.Context, idp, protocol string) error
	// Changed has every token looked at again.
	Changed(ctx context.Context) error
}
