package placement

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// The codes of placement's errors (placement/errors.py).
const (
	CodeUndefined        = "placement.undefined_code"
	CodeInventoryInUse   = "placement.inventory.inuse"
	CodeConcurrentUpdate = "placement.concurrent_update"
	CodeDuplicateName    = "placement.duplicate_name"
	CodeProviderInUse    = "placement.resource_provider.inuse"
	CodeProviderParent   = "placement.resource_provider.cannot_delete_parent"
	CodeProviderNotFound = "placement.resource_provider.not_found"
	CodeBadValue         = "placement.query.bad_value"
	CodeMissingValue     = "placement.query.missing_value"
)

func invalid(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Invalid, CodeUndefined, format, args...)
}

func conflict(code, format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Conflict, code, format, args...)
}

func notFound(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, CodeUndefined, format, args...)
}

func noProvider(id string) *nacre.Error {
	return nacre.Errorf(nacre.NotFound, CodeProviderNotFound, "No resource provider with uuid %s found", id)
}

func generationChanged() *nacre.Error {
	return conflict(CodeConcurrentUpdate, "Resource provider's generation already changed. Please update the generation and try again.")
}

// can asks the policy; target may be nil.
func (s *Service) can(ctx context.Context, rule string, target nacre.Target) error {
	return s.c.Policy.Enforce(ctx, "placement:"+rule, target)
}

func (s *Service) provider(ctx context.Context, id string) (Provider, error) {
	p, err := s.providers.Get(ctx, id)
	return p, store.WrapNotFound(err, func() *nacre.Error { return noProvider(id) })
}

// change runs fn in a transaction that holds the provider's lock, with the
// provider as it is then.
func (s *Service) change(ctx context.Context, id string, fn func(ctx context.Context, p Provider) error) error {
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "placement/"+id); err != nil {
			return err
		}
		p, err := s.provider(ctx, id)
		if err != nil {
			return err
		}
		return fn(ctx, p)
	})
}
