package identity

import (
	"context"

	"github.com/nacre-cloud/nacre/store"
)

// Writers run side by side, so a look is no promise. Whoever refers to a row holds
// it, in the transaction that writes the reference; whoever deletes a row takes it
// away first, which waits for the holders, and then what refers to it. What is
// counted or compared as a whole has a lock of its own.
const (
	// catalogLock is for services, regions and endpoints and what refers to them.
	catalogLock = "identity catalog"
	limitLock   = "identity limits"
	impliedLock = "identity implied roles"
)

func (s *Service) lock(ctx context.Context, keys ...string) error {
	return store.Lock(ctx, s.engine, keys...)
}

// hold keeps a row from going until the transaction ends; NotFound says that it is
// gone. No id is nothing to hold.
func hold[T any](ctx context.Context, t *store.Table[T], what, id string) error {
	if id == "" {
		return nil
	}
	_, err := t.GetForUpdate(ctx, id)
	return orNotFound(err, what, id)
}
