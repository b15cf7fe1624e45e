package password

import "context"

// Parent is what passwords need of the area that they are a part of. Both are called
// within a transaction.
type Parent interface {
	// HoldUser keeps a user from going until the transaction ends; NotFound when it is
	// not there.
	HoldUser(ctx context.Context, id string) error
	// AuthFailed records that a log-in has failed, as an event.
	AuthFailed(ctx context.Context, userID string, payload map[string]string) error
}
