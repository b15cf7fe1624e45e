package conformance

import (
	"context"

	"github.com/gophercloud/gophercloud/v2/pagination"
)

// pageOf handles each page of a list as its items.
func pageOf[T any](extract func(pagination.Page) ([]T, error), handle func([]T)) func(context.Context, pagination.Page) (bool, error) {
	return func(_ context.Context, p pagination.Page) (bool, error) {
		items, err := extract(p)
		if err != nil {
			return false, err
		}
		handle(items)
		return true, nil
	}
}

// all is every item of a list.
func all[T any](ctx context.Context, p pagination.Pager, extract func(pagination.Page) ([]T, error)) ([]T, error) {
	pages, err := p.AllPages(ctx)
	if err != nil {
		return nil, err
	}
	return extract(pages)
}
