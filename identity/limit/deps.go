package limit

import (
	"context"

	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Parent is what limits need of the area that they are a part of.
type Parent interface {
	// CheckPlace is Invalid unless the service is there, and the region if one is
	// given. The caller holds kit.CatalogLock.
	CheckPlace(ctx context.Context, serviceID string, regionID kit.Ref) error
	// HoldOwner keeps a project, or a domain, from going until the transaction ends;
	// NotFound when it is not there.
	HoldOwner(ctx context.Context, id string, domain bool) error
	// DomainOf is the domain of a project.
	DomainOf(ctx context.Context, projectID string) (string, error)
	// InDomain matches rows whose column names a project of a domain.
	InDomain(column, domainID string) store.Where
}
