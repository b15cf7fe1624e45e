package catalog

import (
	"context"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// endpointPair checks that a project and an endpoint are there.
func (s *Service) endpointPair(ctx context.Context, projectID, endpointID, rule string) error {
	if err := s.area.Enforce(ctx, rule, nil); err != nil {
		return err
	}
	if err := s.parent.CheckProject(ctx, projectID); err != nil {
		return err
	}
	_, err := s.endpoints.Get(ctx, endpointID)
	return kit.OrNotFound(err, "endpoint", endpointID)
}

// AddEndpointToProject has a project see an endpoint, and no other that is not
// added too.
func (s *Service) AddEndpointToProject(ctx context.Context, projectID, endpointID string) error {
	if err := s.endpointPair(ctx, projectID, endpointID, "add_endpoint_to_project"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock); err != nil {
			return err
		}
		if err := s.parent.HoldProject(ctx, projectID); err != nil {
			return err
		}
		if err := kit.Hold(ctx, s.endpoints, "endpoint", endpointID); err != nil {
			return err
		}
		row := projectEndpoint{ID: projectID + "|" + endpointID, ProjectID: projectID, EndpointID: endpointID}
		if err := s.endpointsFor.Insert(ctx, row); err != nil {
			return kit.OrConflict(err, "project_endpoint", "", "")
		}
		return s.parent.Changed(ctx)
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
	if err := s.area.Enforce(ctx, "remove_endpoint_from_project", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.endpointsFor.Delete(ctx, projectID+"|"+endpointID); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.NotFound, "endpoint", "Endpoint %s not found in project %s", endpointID, projectID)
			})
		}
		return s.parent.Changed(ctx)
	})
}

// ListProjectEndpoints lists the endpoints that were added to a project, by
// themselves or by an endpoint group.
func (s *Service) ListProjectEndpoints(ctx context.Context, projectID string) ([]Endpoint, error) {
	if err := s.area.Enforce(ctx, "list_endpoints_for_project", nil); err != nil {
		return nil, err
	}
	if err := s.parent.CheckProject(ctx, projectID); err != nil {
		return nil, err
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

// EndpointProjects matches the ids of the projects that an endpoint was added to.
func (s *Service) EndpointProjects(ctx context.Context, endpointID string) (store.Where, error) {
	if err := s.area.Enforce(ctx, "list_projects_for_endpoint", nil); err != nil {
		return store.Where{}, err
	}
	if _, err := s.endpoints.Get(ctx, endpointID); err != nil {
		return store.Where{}, kit.OrNotFound(err, "endpoint", endpointID)
	}
	return store.InSelect("id", s.endpointsFor, "project_id", store.Eq("endpoint_id", endpointID)), nil
}
