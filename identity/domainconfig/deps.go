package domainconfig

import "context"

// Parent is what domains' configurations need of the area that they are a part of.
type Parent interface {
	// CheckDomain is NotFound when there is no such domain.
	CheckDomain(ctx context.Context, id string) error
	// HoldDomain besides keeps it from going until the transaction ends.
	HoldDomain(ctx context.Context, id string) error
	// DomainName is a domain's name, or NotFound.
	DomainName(ctx context.Context, id string) (string, error)
}
