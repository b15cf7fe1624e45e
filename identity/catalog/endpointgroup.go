package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// EndpointGroupChange is what is given of an endpoint group: at its creation Name
// and Filters must be set; in an update nil leaves a field as it is.
type EndpointGroupChange struct {
	Name, Description *string
	Filters           map[string]any
}

func noEndpointGroup(id string) func() *nacre.Error {
	return func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "endpoint group", "Could not find Endpoint Group: %s.", id)
	}
}

var endpointGroupFilters = []string{"service_id", "region_id", "enabled", "interface"}

func checkEndpointFilters(filters map[string]any) error {
	for k := range filters {
		if !slices.Contains(endpointGroupFilters, k) {
			return kit.Expecting("service_id or region_id or enabled or interface", "endpoint_group")
		}
	}
	if v, ok := filters["interface"]; ok && !slices.Contains([]any{"admin", "internal", "public"}, v) {
		return kit.Invalid("Invalid input for field 'endpoint_group/filters/interface': '%v' is not one of ['admin', 'internal', 'public']", v)
	}
	return nil
}

// has says whether an endpoint is in the group.
func (g *EndpointGroup) has(e *Endpoint) bool {
	for k, want := range g.Filters {
		var got any
		switch k {
		case "service_id":
			got = e.ServiceID
		case "interface":
			got = e.Interface
		case "enabled":
			got = e.Enabled
		case "region_id":
			if got = string(e.RegionID); e.RegionID == "" {
				got = nil
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return false
		}
	}
	return true
}

// CreateEndpointGroup makes an endpoint group.
func (s *Service) CreateEndpointGroup(ctx context.Context, ch EndpointGroupChange) (EndpointGroup, error) {
	g := EndpointGroup{ID: s.area.NewID(), Description: ch.Description, Filters: ch.Filters}
	kit.SetIf(&g.Name, ch.Name)
	if err := s.area.Enforce(ctx, "create_endpoint_group", nil); err != nil {
		return g, err
	}
	if err := kit.CheckName("name", g.Name, 255); err != nil {
		return g, err
	}
	if len(g.Filters) == 0 {
		return g, kit.Invalid("filters field is required and cannot be empty")
	}
	if err := checkEndpointFilters(g.Filters); err != nil {
		return g, err
	}
	return g, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.endpointGroups.Insert(ctx, g); err != nil {
			return err
		}
		return s.area.Happened(ctx, "endpoint_group", "created", g.ID)
	})
}

func (s *Service) endpointGroup(ctx context.Context, id, rule string) (EndpointGroup, error) {
	if err := s.area.Enforce(ctx, rule, nil); err != nil {
		return EndpointGroup{}, err
	}
	g, err := s.endpointGroups.Get(ctx, id)
	return g, store.WrapNotFound(err, noEndpointGroup(id))
}

// GetEndpointGroup shows an endpoint group.
func (s *Service) GetEndpointGroup(ctx context.Context, id string) (EndpointGroup, error) {
	return s.endpointGroup(ctx, id, "get_endpoint_group")
}

// ListEndpointGroups lists endpoint groups.
func (s *Service) ListEndpointGroups(ctx context.Context, q nacre.Query) ([]EndpointGroup, error) {
	if err := s.area.Enforce(ctx, "list_endpoint_groups", nil); err != nil {
		return nil, err
	}
	return kit.List(ctx, s.endpointGroups, q, kit.Columns{"id", "name"})
}

// UpdateEndpointGroup changes an endpoint group.
func (s *Service) UpdateEndpointGroup(ctx context.Context, id string, ch EndpointGroupChange) (EndpointGroup, error) {
	out, err := s.endpointGroup(ctx, id, "update_endpoint_group")
	if err != nil {
		return out, err
	}
	if ch.Name != nil {
		if err := kit.CheckName("name", *ch.Name, 255); err != nil {
			return out, err
		}
	}
	if err := checkEndpointFilters(ch.Filters); err != nil {
		return out, err
	}
	err = s.area.Tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.endpointGroups.Update(ctx, id, func(g *EndpointGroup) error {
			kit.SetIf(&g.Name, ch.Name)
			if ch.Description != nil {
				g.Description = ch.Description
			}
			if ch.Filters != nil {
				for k := range g.Filters {
					if _, keep := ch.Filters[k]; !keep {
						delete(g.Filters, k)
					}
				}
				g.Filters = kit.Merge(g.Filters, ch.Filters)
			}
			return nil
		})
		if err != nil {
			return store.WrapNotFound(err, noEndpointGroup(id))
		}
		return s.changed(ctx, "endpoint_group", "updated", id)
	})
	return out, err
}

// DeleteEndpointGroup removes an endpoint group from all projects.
func (s *Service) DeleteEndpointGroup(ctx context.Context, id string) error {
	if _, err := s.endpointGroup(ctx, id, "delete_endpoint_group"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.endpointGroups.Delete(ctx, id); err != nil {
			return store.WrapNotFound(err, noEndpointGroup(id))
		}
		if _, err := s.groupsFor.DeleteWhere(ctx, store.Eq("endpoint_group_id", id)); err != nil {
			return err
		}
		return s.changed(ctx, "endpoint_group", "deleted", id)
	})
}

// groupPair checks that a project and an endpoint group are there.
func (s *Service) groupPair(ctx context.Context, groupID, projectID, rule string) error {
	if err := s.area.Enforce(ctx, rule, nil); err != nil {
		return err
	}
	if err := s.parent.CheckProject(ctx, projectID); err != nil {
		return err
	}
	_, err := s.endpointGroups.Get(ctx, groupID)
	return store.WrapNotFound(err, noEndpointGroup(groupID))
}

func noGroupPair() *nacre.Error {
	return nacre.Errorf(nacre.NotFound, "endpoint group", "Endpoint Group Project Association not found")
}

// AddEndpointGroupToProject has a project see a group's endpoints.
func (s *Service) AddEndpointGroupToProject(ctx context.Context, groupID, projectID string) error {
	if err := s.groupPair(ctx, groupID, projectID, "add_endpoint_group_to_project"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.parent.HoldProject(ctx, projectID); err != nil {
			return err
		}
		if _, err := s.endpointGroups.GetForUpdate(ctx, groupID); err != nil {
			return store.WrapNotFound(err, noEndpointGroup(groupID))
		}
		row := projectEndpointGroup{ID: projectID + "|" + groupID, ProjectID: projectID, EndpointGroupID: groupID}
		if err := s.groupsFor.Insert(ctx, row); err != nil {
			return kit.OrConflict(err, "project_endpoint_group", "", "")
		}
		return s.parent.Changed(ctx)
	})
}

// CheckEndpointGroupInProject is NotFound when the group was not added.
func (s *Service) CheckEndpointGroupInProject(ctx context.Context, groupID, projectID string) error {
	if err := s.groupPair(ctx, groupID, projectID, "get_endpoint_group_in_project"); err != nil {
		return err
	}
	_, err := s.groupsFor.Get(ctx, projectID+"|"+groupID)
	return store.WrapNotFound(err, noGroupPair)
}

// RemoveEndpointGroupFromProject undoes AddEndpointGroupToProject.
func (s *Service) RemoveEndpointGroupFromProject(ctx context.Context, groupID, projectID string) error {
	if err := s.groupPair(ctx, groupID, projectID, "remove_endpoint_group_from_project"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.groupsFor.Delete(ctx, projectID+"|"+groupID); err != nil {
			return store.WrapNotFound(err, noGroupPair)
		}
		return s.parent.Changed(ctx)
	})
}

// ListProjectEndpointGroups lists the endpoint groups that were added to a project.
func (s *Service) ListProjectEndpointGroups(ctx context.Context, projectID string) ([]EndpointGroup, error) {
	if err := s.area.Enforce(ctx, "list_endpoint_groups_for_project", nil); err != nil {
		return nil, err
	}
	return s.groupsOfProject(ctx, projectID)
}

func (s *Service) groupsOfProject(ctx context.Context, projectID string) ([]EndpointGroup, error) {
	return s.endpointGroups.Where(ctx, store.InSelect("id", s.groupsFor, "endpoint_group_id", store.Eq("project_id", projectID)))
}

// EndpointGroupProjects matches the ids of the projects that an endpoint group was
// added to.
func (s *Service) EndpointGroupProjects(ctx context.Context, id string) (store.Where, error) {
	_, err := s.endpointGroup(ctx, id, "list_projects_associated_with_endpoint_group")
	return store.InSelect("id", s.groupsFor, "project_id", store.Eq("endpoint_group_id", id)), err
}

// ListGroupEndpoints lists the endpoints of a group.
func (s *Service) ListGroupEndpoints(ctx context.Context, id string) ([]Endpoint, error) {
	g, err := s.endpointGroup(ctx, id, "list_endpoints_associated_with_endpoint_group")
	if err != nil {
		return nil, err
	}
	all, err := s.endpoints.Where(ctx)
	return slices.DeleteFunc(all, func(e Endpoint) bool { return !g.has(&e) }), err
}
