package kit

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// CatalogLock is held by who changes services, regions and endpoints, and by who
// refers to them.
const CatalogLock = "identity catalog"

// Area is what a sub-area has of the area that it is a part of. All but IDs must be
// set.
type Area struct {
	// Engine holds the tables: one for the whole area, so that one transaction
	// covers what is changed in several sub-areas.
	Engine store.Engine
	// Policy decides; its rules include those of the sub-area.
	Policy nacre.Enforcer
	// IDs makes identifiers (their dashes are dropped); nil is random.
	IDs nacre.IDs
	// Happened records an event (created, updated, deleted) within the change's
	// transaction.
	Happened func(ctx context.Context, resource, what, id string) error
}

// Check names what is missing, for the constructor of a sub-area.
func (a *Area) Check(name string) error {
	switch {
	case a.Engine == nil:
		return errors.New(name + ": Config.Engine is missing")
	case a.Policy == nil:
		return errors.New(name + ": Config.Policy is missing")
	case a.Happened == nil:
		return errors.New(name + ": Config.Happened is missing")
	}
	return nil
}

// Tx runs fn in a transaction.
func (a *Area) Tx(ctx context.Context, fn func(ctx context.Context) error) error {
	return store.InTx(ctx, a.Engine, fn)
}

// Lock is held until the transaction ends.
func (a *Area) Lock(ctx context.Context, keys ...string) error {
	return store.Lock(ctx, a.Engine, keys...)
}

// Enforce asks a rule, by its name without "identity:". Without a target it is one
// that looks at the caller alone.
func (a *Area) Enforce(ctx context.Context, rule string, target nacre.Target) error {
	if target == nil {
		target = nothing{}
	}
	return a.Policy.Enforce(ctx, "identity:"+rule, target)
}

// nothing is a target without attributes.
type nothing struct{}

// Attr implements nacre.Target.
func (nothing) Attr(string) (string, bool) { return "", false }

// NewID is a new identifier: 32 hex digits.
func (a *Area) NewID() string {
	id := ""
	if a.IDs == nil {
		id = uuid.NewString()
	} else {
		id = a.IDs.NewID()
	}
	return strings.ReplaceAll(id, "-", "")
}

// Hold keeps a row from going until the transaction ends; NotFound says that it is
// gone. No id is nothing to hold.
//
// Writers run side by side, so a look is no promise. Whoever refers to a row holds
// it, in the transaction that writes the reference; whoever deletes a row takes it
// away first, which waits for the holders, and then what refers to it. What is
// counted or compared as a whole has a lock of its own.
func Hold[T any](ctx context.Context, t *store.Table[T], what, id string) error {
	if id == "" {
		return nil
	}
	_, err := t.GetForUpdate(ctx, id)
	return OrNotFound(err, what, id)
}

// OwnDomain is the one domain that a domain-scoped caller's lists are limited to.
func OwnDomain(ctx context.Context) string {
	if c := nacre.CallerFrom(ctx); c != nil {
		return c.DomainID
	}
	return ""
}
