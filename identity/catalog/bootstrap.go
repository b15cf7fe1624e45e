package catalog

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre/store"
)

// Offer is a service with its endpoints. Interfaces without a URL get none.
type Offer struct {
	Type, Name, Description string
	Public, Internal, Admin string
}

// Bootstrap adds services to the catalog, within a transaction. What is there already
// stays, but for the endpoints' URLs. A catalog that is a file is left alone.
func (s *Service) Bootstrap(ctx context.Context, region string, offers []Offer) error {
	if len(offers) == 0 || s.template != nil {
		return nil
	}
	if _, err := s.regions.Get(ctx, region); errors.Is(err, store.ErrNoRow) {
		if _, err := s.CreateRegion(ctx, RegionChange{ID: region}); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	for _, want := range offers {
		svc, err := s.services.One(ctx, store.Eq("type", want.Type), store.Eq("name", want.Name))
		if errors.Is(err, store.ErrNoRow) {
			ch := ServiceChange{Type: &want.Type, Name: &want.Name}
			if want.Description != "" {
				ch.Description = &want.Description
			}
			svc, err = s.CreateService(ctx, ch)
		}
		if err != nil {
			return err
		}
		for _, at := range [][2]string{{"public", want.Public}, {"internal", want.Internal}, {"admin", want.Admin}} {
			if err := s.bootEndpoint(ctx, svc.ID, at[0], region, at[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) bootEndpoint(ctx context.Context, service, iface, region, url string) error {
	if url == "" {
		return nil
	}
	e, err := s.endpoints.One(ctx, store.Eq("service_id", service), store.Eq("interface", iface), store.Eq("region_id", region))
	switch {
	case errors.Is(err, store.ErrNoRow):
		_, err = s.CreateEndpoint(ctx, EndpointChange{ServiceID: &service, Interface: &iface, RegionID: &region, URL: &url})
	case err == nil && e.URL != url:
		_, err = s.UpdateEndpoint(ctx, e.ID, EndpointChange{URL: &url})
	}
	return err
}
