package catalog

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// RegionChange is what is given of a region. A new one without ID gets a random one.
type RegionChange struct {
	ID                    string
	Description, ParentID *string
	Extra                 map[string]any
}

// CreateRegion makes a region.
func (s *Service) CreateRegion(ctx context.Context, ch RegionChange) (Region, error) {
	r := Region{ID: ch.ID, Extra: ch.Extra}
	if r.ID == "" {
		r.ID = s.area.NewID()
	}
	kit.SetIf(&r.Description, ch.Description)
	if ch.ParentID != nil {
		r.ParentID = kit.Ref(*ch.ParentID)
	}
	if err := s.area.Enforce(ctx, "create_region", nil); err != nil {
		return r, err
	}
	if len(r.ID) > 255 {
		return r, kit.Invalid("Invalid input for field 'id': '%s' is too long", r.ID)
	}
	return r, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock); err != nil {
			return err
		}
		if err := s.checkParent(ctx, r.ID, r.ParentID); err != nil {
			return err
		}
		if err := s.regions.Insert(ctx, r); err != nil {
			if store.IsDuplicate(err) {
				return kit.Conflict("region", "Duplicate ID, %s", r.ID)
			}
			return err
		}
		return s.changed(ctx, "region", "created", r.ID)
	})
}

// checkParent refuses a parent that is not there or lies below the region.
func (s *Service) checkParent(ctx context.Context, id string, parent kit.Ref) error {
	for at := parent; at != ""; {
		if string(at) == id {
			return nacre.Errorf(nacre.Invalid, "CircularRegionHierarchyError", "The specified parent region %s would create a circular region hierarchy.", parent)
		}
		r, err := s.regions.Get(ctx, string(at))
		if err != nil {
			return kit.OrNotFound(err, "region", string(at))
		}
		at = r.ParentID
	}
	return nil
}

// GetRegion shows a region.
func (s *Service) GetRegion(ctx context.Context, id string) (Region, error) {
	if err := s.area.Enforce(ctx, "get_region", nil); err != nil {
		return Region{}, err
	}
	if s.template != nil {
		return only(s.template.listRegions(byID(id)), "region", id)
	}
	r, err := s.regions.Get(ctx, id)
	return r, kit.OrNotFound(err, "region", id)
}

// ListRegions lists regions.
func (s *Service) ListRegions(ctx context.Context, q nacre.Query) ([]Region, error) {
	if err := s.area.Enforce(ctx, "list_regions", nil); err != nil {
		return nil, err
	}
	if s.template != nil {
		return s.template.listRegions(q), nil
	}
	return kit.List(ctx, s.regions, q, kit.Columns{"id", "parent_region_id"})
}

// UpdateRegion changes a region.
func (s *Service) UpdateRegion(ctx context.Context, id string, ch RegionChange) (Region, error) {
	var out Region
	if err := s.area.Enforce(ctx, "update_region", nil); err != nil {
		return out, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		if err := s.area.Lock(ctx, kit.CatalogLock); err != nil {
			return err
		}
		if ch.ParentID != nil {
			if err := s.checkParent(ctx, id, kit.Ref(*ch.ParentID)); err != nil {
				return err
			}
		}
		out, err = s.regions.Update(ctx, id, func(r *Region) error {
			kit.SetIf(&r.Description, ch.Description)
			if ch.ParentID != nil {
				r.ParentID = kit.Ref(*ch.ParentID)
			}
			r.Extra = kit.Merge(r.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			return kit.OrNotFound(err, "region", id)
		}
		return s.changed(ctx, "region", "updated", id)
	})
	return out, err
}

// DeleteRegion removes a region with those below it, unless any has endpoints.
func (s *Service) DeleteRegion(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_region", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock); err != nil {
			return err
		}
		if _, err := s.regions.Get(ctx, id); err != nil {
			return kit.OrNotFound(err, "region", id)
		}
		all := []string{id}
		for level := all; len(level) > 0; {
			below, err := s.regions.Where(ctx, store.In("parent_region_id", level))
			if err != nil {
				return err
			}
			level = nil
			for _, r := range below {
				level = append(level, r.ID)
			}
			all = append(all, level...)
		}
		used, err := s.endpoints.Exists(ctx, store.In("region_id", all))
		if err != nil {
			return err
		}
		if used {
			return kit.Forbidden("Unable to delete region %s because it or its child regions have associated endpoints.", id)
		}
		if _, err := s.associations.DeleteWhere(ctx, store.In("region_id", all)); err != nil {
			return err
		}
		if _, err := s.regions.DeleteWhere(ctx, store.In("id", all)); err != nil {
			return err
		}
		return s.changed(ctx, "region", "deleted", id)
	})
}

// EnsureRegion makes a region unless it is there, for endpoints that name one in
// the older way.
func (s *Service) EnsureRegion(ctx context.Context, id string) error {
	_, err := s.regions.Get(ctx, id)
	if errors.Is(err, store.ErrNoRow) {
		_, err = s.CreateRegion(ctx, RegionChange{ID: id})
	}
	return err
}
