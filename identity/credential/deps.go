package credential

import "context"

// Delegation is what a token was made from: an application credential, a trust, or an
// OAuth access token.
type Delegation struct {
	ProjectID          string
	AppCredID, TrustID string
}

// Parent is what credentials need of the area that they are a part of.
type Parent interface {
	// CheckUser is NotFound when there is no such user.
	CheckUser(ctx context.Context, id string) error
	// HoldUser and HoldProject besides keep it from going until the transaction ends.
	HoldUser(ctx context.Context, id string) error
	HoldProject(ctx context.Context, id string) error
	// Delegated is what the caller's token was made from; nil is nothing. ok is false
	// for a token that can't be looked at and may have been.
	Delegated(ctx context.Context) (d *Delegation, ok bool)
	// Unrestricted refuses callers whose token was made by delegation and may not make
	// what outlives it.
	Unrestricted(ctx context.Context) error
}
