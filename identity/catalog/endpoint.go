package catalog

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// EndpointChange is what is given of an endpoint: at its creation ServiceID,
// Interface and URL must be set; in an update nil leaves a field as it is.
type EndpointChange struct {
	ServiceID, Interface, RegionID, URL *string
	Enabled                             *bool
	Extra                               map[string]any
}

var placeholder = regexp.MustCompile(`[$%]\(([^)]*)\)s`)

// checkEndpoint checks what an endpoint refers to.
func (s *Service) checkEndpoint(ctx context.Context, e *Endpoint) error {
	if !slices.Contains([]string{"public", "internal", "admin"}, e.Interface) {
		return kit.Invalid("Invalid input for field 'interface': '%s' is not one of ['admin', 'internal', 'public']", e.Interface)
	}
	u, err := url.Parse(placeholder.ReplaceAllString(e.URL, "x"))
	if err != nil || u.Scheme == "" || u.Host == "" {
		return kit.Invalid("Cannot create an endpoint with an invalid URL: %s.", e.URL)
	}
	for _, m := range placeholder.FindAllStringSubmatch(e.URL, -1) {
		if !slices.Contains([]string{"project_id", "tenant_id", "user_id"}, m[1]) {
			return kit.Invalid("Cannot create an endpoint with an invalid URL: %s.", e.URL)
		}
	}
	return s.CheckPlace(ctx, e.ServiceID, e.RegionID)
}

// CheckPlace is Invalid unless the service is there, and the region if one is given.
// It asks no policy.
func (s *Service) CheckPlace(ctx context.Context, serviceID string, regionID kit.Ref) error {
	if _, err := s.services.Get(ctx, serviceID); err != nil {
		if errors.Is(err, nacre.NotFound) {
			return kit.Invalid("Could not find service: %s.", serviceID)
		}
		return err
	}
	if regionID == "" {
		return nil
	}
	_, err := s.regions.Get(ctx, string(regionID))
	if errors.Is(err, nacre.NotFound) {
		return kit.Invalid("Could not find region: %s.", regionID)
	}
	return err
}

// CreateEndpoint adds an endpoint to a service.
func (s *Service) CreateEndpoint(ctx context.Context, ch EndpointChange) (Endpoint, error) {
	e := Endpoint{ID: s.area.NewID(), Enabled: true, Extra: ch.Extra}
	ch.apply(&e)
	if err := s.area.Enforce(ctx, "create_endpoint", nil); err != nil {
		return e, err
	}
	return e, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock); err != nil {
			return err
		}
		if err := s.checkEndpoint(ctx, &e); err != nil {
			return err
		}
		if err := s.endpoints.Insert(ctx, e); err != nil {
			return err
		}
		return s.changed(ctx, "endpoint", "created", e.ID)
	})
}

func (ch *EndpointChange) apply(e *Endpoint) {
	kit.SetIf(&e.ServiceID, ch.ServiceID)
	kit.SetIf(&e.Interface, ch.Interface)
	kit.SetIf(&e.URL, ch.URL)
	kit.SetIf(&e.Enabled, ch.Enabled)
	if ch.RegionID != nil {
		e.RegionID = kit.Ref(*ch.RegionID)
	}
}

// GetEndpoint shows an endpoint.
func (s *Service) GetEndpoint(ctx context.Context, id string) (Endpoint, error) {
	if err := s.area.Enforce(ctx, "get_endpoint", nil); err != nil {
		return Endpoint{}, err
	}
	if s.template != nil {
		return only(s.template.listEndpoints(byID(id)), "endpoint", id)
	}
	e, err := s.endpoints.Get(ctx, id)
	return e, kit.OrNotFound(err, "endpoint", id)
}

// ListEndpoints lists endpoints.
func (s *Service) ListEndpoints(ctx context.Context, q nacre.Query) ([]Endpoint, error) {
	if err := s.area.Enforce(ctx, "list_endpoints", nil); err != nil {
		return nil, err
	}
	if s.template != nil {
		return s.template.listEndpoints(q), nil
	}
	return kit.List(ctx, s.endpoints, q, kit.Columns{"id", "interface", "service_id", "region_id", "enabled"})
}

// UpdateEndpoint changes an endpoint.
func (s *Service) UpdateEndpoint(ctx context.Context, id string, ch EndpointChange) (Endpoint, error) {
	var out Endpoint
	if err := s.area.Enforce(ctx, "update_endpoint", nil); err != nil {
		return out, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock); err != nil {
			return err
		}
		old, err := s.endpoints.Get(ctx, id)
		if err != nil {
			return kit.OrNotFound(err, "endpoint", id)
		}
		ch.apply(&old)
		if err := s.checkEndpoint(ctx, &old); err != nil {
			return err
		}
		out, err = s.endpoints.Update(ctx, id, func(e *Endpoint) error {
			ch.apply(e)
			e.Extra = kit.Merge(e.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			return kit.OrNotFound(err, "endpoint", id)
		}
		return s.changed(ctx, "endpoint", "updated", id)
	})
	return out, err
}

// DeleteEndpoint removes an endpoint.
func (s *Service) DeleteEndpoint(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_endpoint", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock); err != nil {
			return err
		}
		if err := s.endpoints.Delete(ctx, id); err != nil {
			return kit.OrNotFound(err, "endpoint", id)
		}
		if _, err := s.endpointsFor.DeleteWhere(ctx, store.Eq("endpoint_id", id)); err != nil {
			return err
		}
		if _, err := s.associations.DeleteWhere(ctx, store.Eq("endpoint_id", id)); err != nil {
			return err
		}
		return s.changed(ctx, "endpoint", "deleted", id)
	})
}
