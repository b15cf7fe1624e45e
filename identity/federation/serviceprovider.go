package federation

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// ServiceProviderChange is what is given of a service provider; nil leaves a field
// as it is. At its creation AuthURL and SPURL must be set.
type ServiceProviderChange struct {
	AuthURL, SPURL   *string
	Enabled          *bool
	Description      **string
	RelayStatePrefix *string
}

func (ch *ServiceProviderChange) apply(p *ServiceProvider) {
	if ch.AuthURL != nil {
		p.AuthURL = *ch.AuthURL
	}
	if ch.SPURL != nil {
		p.SPURL = *ch.SPURL
	}
	if ch.Enabled != nil {
		p.Enabled = *ch.Enabled
	}
	if ch.Description != nil {
		p.Description = *ch.Description
	}
	if ch.RelayStatePrefix != nil {
		p.RelayStatePrefix = *ch.RelayStatePrefix
	}
}

// CreateServiceProvider adds a service provider, disabled unless asked otherwise.
func (s *Service) CreateServiceProvider(ctx context.Context, id string, ch ServiceProviderChange) (ServiceProvider, error) {
	p := ServiceProvider{ID: id, RelayStatePrefix: DefaultRelayState}
	if err := s.area.Enforce(ctx, "create_service_provider", nil); err != nil {
		return p, err
	}
	for _, need := range []struct {
		name  string
		value *string
	}{{"auth_url", ch.AuthURL}, {"sp_url", ch.SPURL}} {
		if need.value == nil {
			return p, invalid("Invalid input for field 'service_provider': '%s' is a required property", need.name)
		}
	}
	ch.apply(&p)
	return p, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.providers.Insert(ctx, p); err != nil {
			return orConflict(err, "service_provider", "Duplicate entry found with ID %s", id)
		}
		return s.changed(ctx, "service_provider", "created", id)
	})
}

// GetServiceProvider shows a service provider.
func (s *Service) GetServiceProvider(ctx context.Context, id string) (ServiceProvider, error) {
	if err := s.area.Enforce(ctx, "get_service_provider", nil); err != nil {
		return ServiceProvider{}, err
	}
	p, err := s.providers.Get(ctx, id)
	return p, noProvider(err, id)
}

// ListServiceProviders lists service providers, by id and enabled.
func (s *Service) ListServiceProviders(ctx context.Context, q nacre.Query) ([]ServiceProvider, error) {
	if err := s.area.Enforce(ctx, "list_service_providers", nil); err != nil {
		return nil, err
	}
	return s.providers.Where(ctx, filters(q))
}

// EnabledServiceProviders are those that tokens name. It asks no policy.
func (s *Service) EnabledServiceProviders(ctx context.Context) ([]ServiceProvider, error) {
	return s.providers.Where(ctx, store.Eq("enabled", true))
}

// ServiceProviderFor is an enabled service provider, for an assertion to be made
// for it; a disabled one is Forbidden. It asks no policy.
func (s *Service) ServiceProviderFor(ctx context.Context, id string) (ServiceProvider, error) {
	p, err := s.providers.Get(ctx, id)
	if err == nil && !p.Enabled {
		return p, nacre.Errorf(nacre.Forbidden, "Forbidden", "Service Provider %s is disabled", id)
	}
	return p, noProvider(err, id)
}

// UpdateServiceProvider changes a service provider.
func (s *Service) UpdateServiceProvider(ctx context.Context, id string, ch ServiceProviderChange) (ServiceProvider, error) {
	var out ServiceProvider
	if err := s.area.Enforce(ctx, "update_service_provider", nil); err != nil {
		return out, err
	}
	if ch == (ServiceProviderChange{}) {
		return out, invalid("Invalid input for field 'service_provider': {} does not have enough properties")
	}
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.providers.Update(ctx, id, func(p *ServiceProvider) error {
			ch.apply(p)
			return nil
		})
		if err != nil {
			return noProvider(err, id)
		}
		return s.changed(ctx, "service_provider", "updated", id)
	})
	return out, err
}

// DeleteServiceProvider removes a service provider.
func (s *Service) DeleteServiceProvider(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_service_provider", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.providers.Delete(ctx, id); err != nil {
			return noProvider(err, id)
		}
		return s.changed(ctx, "service_provider", "deleted", id)
	})
}
