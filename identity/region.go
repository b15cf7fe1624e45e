package identity

import (
	"context"
	"errors"
	"slices"

	"github.com/nacre-cloud/nacre"
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
		r.ID = s.newID()
	}
	setIf(&r.Description, ch.Description)
	if ch.ParentID != nil {
		r.ParentID = Ref(*ch.ParentID)
	}
	if err := s.enforce(ctx, "create_region", nil); err != nil {
		return r, err
	}
	if len(r.ID) > 255 {
		return r, invalid("Invalid input for field 'id': '%s' is too long", r.ID)
	}
	return r, s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock); err != nil {
			return err
		}
		if err := s.checkParent(ctx, r.ID, r.ParentID); err != nil {
			return err
		}
		if err := s.regions.Insert(ctx, r); err != nil {
			if store.IsDuplicate(err) {
				return conflict("region", "Duplicate ID, %s", r.ID)
			}
			return err
		}
		return s.catalogChanged(ctx, "region", "created", r.ID)
	})
}

// checkParent refuses a parent that is not there or lies below the region.
func (s *Service) checkParent(ctx context.Context, id string, parent Ref) error {
	for at := parent; at != ""; {
		if string(at) == id {
			return nacre.Errorf(nacre.Invalid, "CircularRegionHierarchyError", "The specified parent region %s would create a circular region hierarchy.", parent)
		}
		r, err := s.regions.Get(ctx, string(at))
		if err != nil {
			return orNotFound(err, "region", string(at))
		}
		at = r.ParentID
	}
	return nil
}

// GetRegion shows a region.
func (s *Service) GetRegion(ctx context.Context, id string) (Region, error) {
	if err := s.enforce(ctx, "get_region", nil); err != nil {
		return Region{}, err
	}
	if s.template != nil {
		return only(s.template.listRegions(byID(id)), "region", id)
	}
	r, err := s.regions.Get(ctx, id)
	return r, orNotFound(err, "region", id)
}

// ListRegions lists regions.
func (s *Service) ListRegions(ctx context.Context, q nacre.Query) ([]Region, error) {
	if err := s.enforce(ctx, "list_regions", nil); err != nil {
		return nil, err
	}
	if s.template != nil {
		return s.template.listRegions(q), nil
	}
	return list(ctx, s.regions, q, columns{"id", "parent_region_id"})
}

// UpdateRegion changes a region.
func (s *Service) UpdateRegion(ctx context.Context, id string, ch RegionChange) (Region, error) {
	var out Region
	if err := s.enforce(ctx, "update_region", nil); err != nil {
		return out, err
	}
	err := s.tx(ctx, func(ctx context.Context) (err error) {
		if err := s.lock(ctx, catalogLock); err != nil {
			return err
		}
		if ch.ParentID != nil {
			if err := s.checkParent(ctx, id, Ref(*ch.ParentID)); err != nil {
				return err
			}
		}
		out, err = s.regions.Update(ctx, id, func(r *Region) error {
			setIf(&r.Description, ch.Description)
			if ch.ParentID != nil {
				r.ParentID = Ref(*ch.ParentID)
			}
			r.Extra = merge(r.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			return orNotFound(err, "region", id)
		}
		return s.catalogChanged(ctx, "region", "updated", id)
	})
	return out, err
}

// DeleteRegion removes a region with those below it, unless any has endpoints.
func (s *Service) DeleteRegion(ctx context.Context, id string) error {
	if err := s.enforce(ctx, "delete_region", nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock); err != nil {
			return err
		}
		if _, err := s.regions.Get(ctx, id); err != nil {
			return orNotFound(err, "region", id)
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
			return forbidden("Unable to delete region %s because it or its child regions have associated endpoints.", id)
		}
		if _, err := s.associations.DeleteWhere(ctx, store.In("region_id", all)); err != nil {
			return err
		}
		if _, err := s.regions.DeleteWhere(ctx, store.In("id", all)); err != nil {
			return err
		}
		return s.catalogChanged(ctx, "region", "deleted", id)
	})
}

// projectEndpoint lets a project see an endpoint (OS-EP-FILTER).
type projectEndpoint struct {
	ID         string `store:"id,pk"`
	ProjectID  string `store:"project_id,index=project_endpoint_project"`
	EndpointID string `store:"endpoint_id,index=project_endpoint_endpoint"`
}

// endpointPair checks that a project and an endpoint are there.
func (s *Service) endpointPair(ctx context.Context, projectID, endpointID, rule string) error {
	if err := s.enforce(ctx, rule, nil); err != nil {
		return err
	}
	if _, err := s.projects.Get(ctx, projectID); err != nil {
		return orNotFound(err, "project", projectID)
	}
	_, err := s.endpoints.Get(ctx, endpointID)
	return orNotFound(err, "endpoint", endpointID)
}

// AddEndpointToProject has a project see an endpoint, and no other that is not
// added too.
func (s *Service) AddEndpointToProject(ctx context.Context, projectID, endpointID string) error {
	if err := s.endpointPair(ctx, projectID, endpointID, "add_endpoint_to_project"); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock); err != nil {
			return err
		}
		if err := hold(ctx, s.projects, "project", projectID); err != nil {
			return err
		}
		if err := hold(ctx, s.endpoints, "endpoint", endpointID); err != nil {
			return err
		}
		row := projectEndpoint{ID: projectID + "|" + endpointID, ProjectID: projectID, EndpointID: endpointID}
		if err := s.endpointsFor.Insert(ctx, row); err != nil {
			return orConflict(err, "project_endpoint", "", "")
		}
		return s.revoke(ctx, revocation{Stale: true})
	})
}

// CheckEndpointInProject is NotFound when the endpoint was not added.
func (s *Service) CheckEndpointInProject(ctx context.Context, projectID, endpointID string) error {
	if err := s.endpointPair(ctx, projectID, endpointID, "check_endpoint_in_project"); err != nil {
		return err
	}
	_, err := s.endpointsFor.Get(ctx, projectID+"|"+endpointID)
	return store.WrapNotFound(err, func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "endpoint", "Endpoint %s not found in project %s", endpointID, projectID)
	})
}

// RemoveEndpointFromProject undoes AddEndpointToProject.
func (s *Service) RemoveEndpointFromProject(ctx context.Context, projectID, endpointID string) error {
	if err := s.enforce(ctx, "remove_endpoint_from_project", nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.endpointsFor.Delete(ctx, projectID+"|"+endpointID); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.NotFound, "endpoint", "Endpoint %s not found in project %s", endpointID, projectID)
			})
		}
		return s.revoke(ctx, revocation{Stale: true})
	})
}

// ListProjectEndpoints lists the endpoints that were added to a project, by
// themselves or by an endpoint group.
func (s *Service) ListProjectEndpoints(ctx context.Context, projectID string) ([]Endpoint, error) {
	if err := s.enforce(ctx, "list_endpoints_for_project", nil); err != nil {
		return nil, err
	}
	if _, err := s.projects.Get(ctx, projectID); err != nil {
		return nil, orNotFound(err, "project", projectID)
	}
	groups, err := s.groupsOfProject(ctx, projectID)
	if err != nil {
		return nil, err
	}
	direct := store.InSelect("id", s.endpointsFor, "endpoint_id", store.Eq("project_id", projectID))
	if len(groups) == 0 {
		return s.endpoints.Where(ctx, direct)
	}
	own, err := s.endpointsFor.Where(ctx, store.Eq("project_id", projectID))
	if err != nil {
		return nil, err
	}
	all, err := s.endpoints.Where(ctx)
	return slices.DeleteFunc(all, func(e Endpoint) bool {
		return !slices.ContainsFunc(own, func(p projectEndpoint) bool { return p.EndpointID == e.ID }) &&
			!slices.ContainsFunc(groups, func(g EndpointGroup) bool { return g.has(&e) })
	}), err
}

// ListEndpointProjects lists the projects that an endpoint was added to.
func (s *Service) ListEndpointProjects(ctx context.Context, endpointID string) ([]Project, error) {
	if err := s.enforce(ctx, "list_projects_for_endpoint", nil); err != nil {
		return nil, err
	}
	if _, err := s.endpoints.Get(ctx, endpointID); err != nil {
		return nil, orNotFound(err, "endpoint", endpointID)
	}
	return s.projects.Where(ctx, store.InSelect("id", s.endpointsFor, "project_id", store.Eq("endpoint_id", endpointID)))
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
