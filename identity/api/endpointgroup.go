package api

import (
	"net/http"

	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// endpointGroupRoutes are OS-EP-FILTER's for groups of endpoints.
func (h *handlers) endpointGroupRoutes() []rest.Route {
	const all, one = "/v3/OS-EP-FILTER/endpoint_groups", "/v3/OS-EP-FILTER/endpoint_groups/{id}"
	const pair = one + "/projects/{project}"
	return []rest.Route{
		{Method: "POST", Path: all, Status: http.StatusCreated, Policy: id("create_endpoint_group"), Op: rest.In(h.createEndpointGroup)},
		{Method: "GET", Path: all, Policy: id("list_endpoint_groups"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			gs, err := h.svc.Catalog.ListEndpointGroups(r.Context(), q)
			return collection(r, "endpoint_groups", q, gs, endpointGroupView, func(g *catalog.EndpointGroup) string { return g.ID }), err
		})},
		{Method: "GET", Path: one, Policy: id("get_endpoint_group"), Op: rest.Do(func(r *rest.Request) (any, error) {
			g, err := h.svc.Catalog.GetEndpointGroup(r.Context(), r.Var("id"))
			return object{"endpoint_group": endpointGroupView(r, &g)}, err
		})},
		{Method: "PATCH", Path: one, Policy: id("update_endpoint_group"), Statements: 5, Op: rest.In(func(r *rest.Request, b *endpointGroupEnvelope) (any, error) {
			if v := b.Group.ID; v.Set && v.Value != r.Var("id") {
				return nil, matching(r, map[string]any{"id": v.Value}, "endpoint_group")
			}
			g, err := h.svc.Catalog.UpdateEndpointGroup(r.Context(), r.Var("id"), b.Group.change())
			return object{"endpoint_group": endpointGroupView(r, &g)}, err
		})},
		{Method: "DELETE", Path: one, Policy: id("delete_endpoint_group"), Statements: 5, Op: removed(h.svc.Catalog.DeleteEndpointGroup)},
		{Method: "GET", Path: one + "/endpoints", Policy: id("list_endpoints_associated_with_endpoint_group"), Op: rest.Do(func(r *rest.Request) (any, error) {
			es, err := h.svc.Catalog.ListGroupEndpoints(r.Context(), r.Var("id"))
			return plainList(r, "endpoints", es, endpointView), err
		})},
		{Method: "GET", Path: one + "/projects", Policy: id("list_projects_associated_with_endpoint_group"), Op: rest.Do(func(r *rest.Request) (any, error) {
			ps, err := h.svc.ListEndpointGroupProjects(r.Context(), r.Var("id"))
			return plainList(r, "projects", ps, projectView), err
		})},
		{Method: "GET", Path: "/v3/OS-EP-FILTER/projects/{project}/endpoint_groups", Policy: id("list_endpoint_groups_for_project"), Op: rest.Do(func(r *rest.Request) (any, error) {
			gs, err := h.svc.Catalog.ListProjectEndpointGroups(r.Context(), r.Var("project"))
			return plainList(r, "endpoint_groups", gs, endpointGroupView), err
		})},
		{Method: "PUT", Path: pair, Policy: id("add_endpoint_group_to_project"), Statements: 5, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Catalog.AddEndpointGroupToProject(r.Context(), r.Var("id"), r.Var("project"))
		})},
		{Method: "GET", Path: pair, Policy: id("get_endpoint_group_in_project"), Op: rest.Do(func(r *rest.Request) (any, error) {
			group, project := r.Var("id"), r.Var("project")
			return object{"project_endpoint_group": object{
				"endpoint_group_id": group, "project_id": project, "links": self(r, "OS-EP-FILTER", "endpoint_groups", group, "projects", project),
			}}, h.svc.Catalog.CheckEndpointGroupInProject(r.Context(), group, project)
		})},
		{Method: "DELETE", Path: pair, Policy: id("remove_endpoint_group_from_project"), Statements: 4, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Catalog.RemoveEndpointGroupFromProject(r.Context(), r.Var("id"), r.Var("project"))
		})},
	}
}

type endpointGroupEnvelope struct {
	Group endpointGroupFields `json:"endpoint_group" valid:"required"`
}

type endpointGroupFields struct {
	ID          rest.Opt[string] `json:"id"`
	Name        rest.Opt[string] `json:"name"`
	Description rest.Opt[string] `json:"description" valid:"null"`
	Filters     map[string]any   `json:"filters"`
}

func (f *endpointGroupFields) change() catalog.EndpointGroupChange {
	return catalog.EndpointGroupChange{Name: ptr(f.Name), Description: ptr(f.Description), Filters: f.Filters}
}

func (h *handlers) createEndpointGroup(r *rest.Request, b *endpointGroupEnvelope) (any, error) {
	for _, need := range []error{required("name", "endpoint_group", b.Group.Name.Set), required("filters", "endpoint_group", b.Group.Filters != nil)} {
		if need != nil {
			return nil, need
		}
	}
	g, err := h.svc.Catalog.CreateEndpointGroup(r.Context(), b.Group.change())
	return object{"endpoint_group": endpointGroupView(r, &g)}, err
}

type endpointGroupBody struct {
	catalog.EndpointGroup
	Links links `json:"links"`
}

func endpointGroupView(r *rest.Request, g *catalog.EndpointGroup) endpointGroupBody {
	return endpointGroupBody{*g, self(r, "OS-EP-FILTER", "endpoint_groups", g.ID)}
}
