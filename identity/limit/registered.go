package limit

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

func checkLimit(name string, n int) error {
	if n < -1 || n > 1<<31-1 {
		return kit.Invalid("Invalid input for field 'limit': %d is out of range", n)
	}
	return kit.CheckName("resource_name", name, 255)
}

// CreateRegisteredLimits makes registered limits, all or none.
func (s *Service) CreateRegisteredLimits(ctx context.Context, ls []RegisteredLimit) ([]RegisteredLimit, error) {
	if err := s.area.Enforce(ctx, "create_registered_limits", nil); err != nil {
		return nil, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock, lockKey); err != nil {
			return err
		}
		for i := range ls {
			ls[i].ID = s.area.NewID()
			if err := checkLimit(ls[i].ResourceName, ls[i].DefaultLimit); err != nil {
				return err
			}
			if err := s.parent.CheckPlace(ctx, ls[i].ServiceID, ls[i].RegionID); err != nil {
				return err
			}
			if err := s.area.Happened(ctx, "registered_limit", "created", ls[i].ID); err != nil {
				return err
			}
		}
		return kit.OrConflict(s.registered.Insert(ctx, ls...), "registered_limit", "", "")
	})
	return ls, err
}

// ListRegisteredLimits lists registered limits.
func (s *Service) ListRegisteredLimits(ctx context.Context, q nacre.Query) ([]RegisteredLimit, error) {
	if err := s.area.Enforce(ctx, "list_registered_limits", nil); err != nil {
		return nil, err
	}
	return kit.List(ctx, s.registered, q, kit.Columns{"id", "service_id", "region_id", "resource_name"})
}

func noRegistered(id string) func() *nacre.Error {
	return func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "registered limit", "Could not find registered limit for %s.", id)
	}
}

// GetRegisteredLimit shows a registered limit.
func (s *Service) GetRegisteredLimit(ctx context.Context, id string) (RegisteredLimit, error) {
	if err := s.area.Enforce(ctx, "get_registered_limit", nil); err != nil {
		return RegisteredLimit{}, err
	}
	l, err := s.registered.Get(ctx, id)
	return l, store.WrapNotFound(err, noRegistered(id))
}

// overrides matches the limits that override a registered one.
func overrides(l *RegisteredLimit) store.Where {
	return store.And(store.Eq("service_id", l.ServiceID), store.Eq("region_id", l.RegionID), store.Eq("resource_name", l.ResourceName))
}

// freeRegistered refuses when there are limits of projects.
func (s *Service) freeRegistered(ctx context.Context, l *RegisteredLimit) error {
	used, err := s.limits.Exists(ctx, overrides(l))
	if err == nil && used {
		err = kit.Forbidden("Unable to update or delete registered limit %s because there are project limits associated with it.", l.ID)
	}
	return err
}

// UpdateRegisteredLimit changes a registered limit; what it is for can't change
// while projects have limits of their own.
func (s *Service) UpdateRegisteredLimit(ctx context.Context, id string, ch Change) (RegisteredLimit, error) {
	var out RegisteredLimit
	if err := s.area.Enforce(ctx, "update_registered_limit", nil); err != nil {
		return out, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock, lockKey); err != nil {
			return err
		}
		old, err := s.registered.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, noRegistered(id))
		}
		if ch.ServiceID != nil || ch.RegionID != nil || ch.ResourceName != nil {
			if err := s.freeRegistered(ctx, &old); err != nil {
				return err
			}
		}
		out, err = s.registered.Update(ctx, id, func(l *RegisteredLimit) error {
			kit.SetIf(&l.ServiceID, ch.ServiceID)
			kit.SetIf(&l.ResourceName, ch.ResourceName)
			kit.SetIf(&l.DefaultLimit, ch.Limit)
			if ch.RegionID != nil {
				l.RegionID = kit.Ref(*ch.RegionID)
			}
			if ch.Description != nil {
				l.Description = ch.Description
			}
			return checkLimit(l.ResourceName, l.DefaultLimit)
		})
		if err != nil {
			return kit.OrConflict(err, "registered_limit", "", "")
		}
		if err := s.parent.CheckPlace(ctx, out.ServiceID, out.RegionID); err != nil {
			return err
		}
		return s.area.Happened(ctx, "registered_limit", "updated", id)
	})
	return out, err
}

// DeleteRegisteredLimit removes a registered limit that no project overrides.
func (s *Service) DeleteRegisteredLimit(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_registered_limit", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, lockKey); err != nil {
			return err
		}
		old, err := s.registered.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, noRegistered(id))
		}
		if err := s.freeRegistered(ctx, &old); err != nil {
			return err
		}
		if err := s.registered.Delete(ctx, id); err != nil {
			return err
		}
		return s.area.Happened(ctx, "registered_limit", "deleted", id)
	})
}
