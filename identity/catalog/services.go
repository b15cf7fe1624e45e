package catalog

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// ServiceChange is what is given of a catalog service: at its creation Type must
// be set; in an update nil leaves a field as it is.
type ServiceChange struct {
	Type, Name, Description *string
	Enabled                 *bool
	Extra                   map[string]any
}

// CreateService adds a service to the catalog.
func (s *Service) CreateService(ctx context.Context, ch ServiceChange) (ServiceRecord, error) {
	v := ServiceRecord{ID: s.area.NewID(), Description: ch.Description, Enabled: true, Extra: ch.Extra}
	kit.SetIf(&v.Type, ch.Type)
	kit.SetIf(&v.Name, ch.Name)
	kit.SetIf(&v.Enabled, ch.Enabled)
	if err := s.area.Enforce(ctx, "create_service", nil); err != nil {
		return v, err
	}
	if err := kit.CheckName("type", v.Type, 255); err != nil {
		return v, err
	}
	return v, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.services.Insert(ctx, v); err != nil {
			return err
		}
		return s.changed(ctx, "service", "created", v.ID)
	})
}

// GetService shows a service.
func (s *Service) GetService(ctx context.Context, id string) (ServiceRecord, error) {
	if err := s.area.Enforce(ctx, "get_service", nil); err != nil {
		return ServiceRecord{}, err
	}
	if s.template != nil {
		return only(s.template.listServices(byID(id)), "service", id)
	}
	v, err := s.services.Get(ctx, id)
	return v, kit.OrNotFound(err, "service", id)
}

// ListServices lists services.
func (s *Service) ListServices(ctx context.Context, q nacre.Query) ([]ServiceRecord, error) {
	if err := s.area.Enforce(ctx, "list_services", nil); err != nil {
		return nil, err
	}
	if s.template != nil {
		return s.template.listServices(q), nil
	}
	return kit.List(ctx, s.services, q, kit.Columns{"id", "type", "name", "enabled"})
}

// UpdateService changes a service.
func (s *Service) UpdateService(ctx context.Context, id string, ch ServiceChange) (ServiceRecord, error) {
	var out ServiceRecord
	if err := s.area.Enforce(ctx, "update_service", nil); err != nil {
		return out, err
	}
	if ch.Type != nil {
		if err := kit.CheckName("type", *ch.Type, 255); err != nil {
			return out, err
		}
	}
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.services.Update(ctx, id, func(v *ServiceRecord) error {
			kit.SetIf(&v.Type, ch.Type)
			kit.SetIf(&v.Name, ch.Name)
			kit.SetIf(&v.Enabled, ch.Enabled)
			if ch.Description != nil {
				v.Description = ch.Description
			}
			v.Extra = kit.Merge(v.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			return kit.OrNotFound(err, "service", id)
		}
		return s.changed(ctx, "service", "updated", id)
	})
	return out, err
}

// DeleteService removes a service with its endpoints.
func (s *Service) DeleteService(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_service", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock); err != nil {
			return err
		}
		if err := s.services.Delete(ctx, id); err != nil {
			return kit.OrNotFound(err, "service", id)
		}
		of := store.Eq("service_id", id)
		if _, err := s.endpointsFor.DeleteWhere(ctx, store.InSelect("endpoint_id", s.endpoints, "id", of)); err != nil {
			return err
		}
		if _, err := s.associations.DeleteWhere(ctx, store.Or(of, store.InSelect("endpoint_id", s.endpoints, "id", of))); err != nil {
			return err
		}
		if _, err := s.endpoints.DeleteWhere(ctx, store.Eq("service_id", id)); err != nil {
			return err
		}
		return s.changed(ctx, "service", "deleted", id)
	})
}
