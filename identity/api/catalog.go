package api

import (
	"net/http"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) catalogRoutes() []rest.Route {
	routes := []rest.Route{
		{Method: "POST", Path: "/v3/services", Status: http.StatusCreated, Policy: id("create_service"), Unknown: rest.Keep, Op: rest.In(func(r *rest.Request, b *serviceEnvelope) (any, error) {
			if err := required("type", "service", b.Service.Type.Set); err != nil {
				return nil, err
			}
			v, err := h.svc.Catalog.CreateService(r.Context(), b.Service.change())
			return object{"service": serviceView(r, &v)}, err
		})},
		{Method: "GET", Path: "/v3/services", Policy: id("list_services"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			vs, err := h.svc.Catalog.ListServices(r.Context(), q)
			return collection(r, "services", q, vs, serviceView, func(v *catalog.ServiceRecord) string { return v.ID }), err
		})},
		{Method: "GET", Path: "/v3/services/{id}", Policy: id("get_service"), Op: rest.Do(func(r *rest.Request) (any, error) {
			v, err := h.svc.Catalog.GetService(r.Context(), r.Var("id"))
			return object{"service": serviceView(r, &v)}, err
		})},
		{Method: "PATCH", Path: "/v3/services/{id}", Policy: id("update_service"), Unknown: rest.Keep, Statements: 5, Op: rest.In(func(r *rest.Request, b *serviceEnvelope) (any, error) {
			if err := matching(r, b.Service.Extra, "service"); err != nil {
				return nil, err
			}
			v, err := h.svc.Catalog.UpdateService(r.Context(), r.Var("id"), b.Service.change())
			return object{"service": serviceView(r, &v)}, err
		})},
		{Method: "DELETE", Path: "/v3/services/{id}", Policy: id("delete_service"), Statements: 6, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Catalog.DeleteService(r.Context(), r.Var("id"))
		})},

		{Method: "POST", Path: "/v3/endpoints", Status: http.StatusCreated, Policy: id("create_endpoint"), Unknown: rest.Keep, Statements: 6, Op: rest.In(h.createEndpoint)},
		{Method: "GET", Path: "/v3/endpoints", Policy: id("list_endpoints"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			vs, err := h.svc.Catalog.ListEndpoints(r.Context(), q)
			return collection(r, "endpoints", q, vs, endpointView, endpointID), err
		})},
		{Method: "GET", Path: "/v3/endpoints/{id}", Policy: id("get_endpoint"), Op: rest.Do(func(r *rest.Request) (any, error) {
			v, err := h.svc.Catalog.GetEndpoint(r.Context(), r.Var("id"))
			return object{"endpoint": endpointView(r, &v)}, err
		})},
		{Method: "PATCH", Path: "/v3/endpoints/{id}", Policy: id("update_endpoint"), Unknown: rest.Keep, Statements: 12, Op: rest.In(func(r *rest.Request, b *endpointEnvelope) (any, error) {
			if err := matching(r, b.Endpoint.Extra, "endpoint"); err != nil {
				return nil, err
			}
			if err := h.oldRegion(r, &b.Endpoint); err != nil {
				return nil, err
			}
			v, err := h.svc.Catalog.UpdateEndpoint(r.Context(), r.Var("id"), b.Endpoint.change())
			return object{"endpoint": endpointView(r, &v)}, err
		})},
		{Method: "DELETE", Path: "/v3/endpoints/{id}", Policy: id("delete_endpoint"), Statements: 5, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Catalog.DeleteEndpoint(r.Context(), r.Var("id"))
		})},
	}
	return append(append(routes, h.regionRoutes()...), h.endpointFilterRoutes()...)
}

func (h *handlers) regionRoutes() []rest.Route {
	return []rest.Route{
		{Method: "POST", Path: "/v3/regions", Status: http.StatusCreated, Policy: id("create_region"), Unknown: rest.Keep, Statements: 8, Op: rest.In(func(r *rest.Request, b *regionEnvelope) (any, error) {
			v, err := h.svc.Catalog.CreateRegion(r.Context(), b.Region.change())
			return object{"region": regionView(r, &v)}, err
		})},
		{Method: "PUT", Path: "/v3/regions/{id}", Status: http.StatusCreated, Policy: id("create_region"), Unknown: rest.Keep, Statements: 8, Op: rest.In(func(r *rest.Request, b *regionEnvelope) (any, error) {
			if b.Region.ID != "" && b.Region.ID != r.Var("id") {
				return nil, nacre.Errorf(nacre.Invalid, "ValidationError", "Conflicting region IDs specified: \"%s\" != \"%s\"", r.Var("id"), b.Region.ID)
			}
			b.Region.ID = r.Var("id")
			v, err := h.svc.Catalog.CreateRegion(r.Context(), b.Region.change())
			return object{"region": regionView(r, &v)}, err
		})},
		{Method: "GET", Path: "/v3/regions", Policy: id("list_regions"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			vs, err := h.svc.Catalog.ListRegions(r.Context(), q)
			return collection(r, "regions", q, vs, regionView, func(v *catalog.Region) string { return v.ID }), err
		})},
		{Method: "GET", Path: "/v3/regions/{id}", Policy: id("get_region"), Op: rest.Do(func(r *rest.Request) (any, error) {
			v, err := h.svc.Catalog.GetRegion(r.Context(), r.Var("id"))
			return object{"region": regionView(r, &v)}, err
		})},
		{Method: "PATCH", Path: "/v3/regions/{id}", Policy: id("update_region"), Unknown: rest.Keep, Statements: 9, Op: rest.In(func(r *rest.Request, b *regionEnvelope) (any, error) {
			if b.Region.ID != "" && b.Region.ID != r.Var("id") {
				return nil, nacre.Errorf(nacre.Invalid, "ValidationError", "Cannot change region ID")
			}
			v, err := h.svc.Catalog.UpdateRegion(r.Context(), r.Var("id"), b.Region.change())
			return object{"region": regionView(r, &v)}, err
		})},
		{Method: "DELETE", Path: "/v3/regions/{id}", Policy: id("delete_region"), Statements: 8, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Catalog.DeleteRegion(r.Context(), r.Var("id"))
		})},
	}
}

// endpointFilterRoutes are OS-EP-FILTER's for single endpoints.
func (h *handlers) endpointFilterRoutes() []rest.Route {
	const one = "/v3/OS-EP-FILTER/projects/{project}/endpoints/{endpoint}"
	return []rest.Route{
		{Method: "GET", Path: "/v3/OS-EP-FILTER/projects/{project}/endpoints", Policy: id("list_endpoints_for_project"), Statements: 6, Op: rest.Do(func(r *rest.Request) (any, error) {
			vs, err := h.svc.Catalog.ListProjectEndpoints(r.Context(), r.Var("project"))
			return collection(r, "endpoints", nacre.Query{}, vs, endpointView, endpointID), err
		})},
		{Method: "GET", Path: "/v3/OS-EP-FILTER/endpoints/{endpoint}/projects", Policy: id("list_projects_for_endpoint"), Op: rest.Do(func(r *rest.Request) (any, error) {
			vs, err := h.svc.ListEndpointProjects(r.Context(), r.Var("endpoint"))
			return collection(r, "projects", nacre.Query{}, vs, projectView, projectID), err
		})},
		{Method: "PUT", Path: one, Policy: id("add_endpoint_to_project"), Statements: 5, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Catalog.AddEndpointToProject(r.Context(), r.Var("project"), r.Var("endpoint"))
		})},
		{Method: "GET", Path: one, Status: http.StatusNoContent, Policy: id("check_endpoint_in_project"), Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Catalog.CheckEndpointInProject(r.Context(), r.Var("project"), r.Var("endpoint"))
		})},
		{Method: "DELETE", Path: one, Policy: id("remove_endpoint_from_project"), Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Catalog.RemoveEndpointFromProject(r.Context(), r.Var("project"), r.Var("endpoint"))
		})},
	}
}

type serviceEnvelope struct {
	Service serviceFields `json:"service" valid:"required"`
}

type serviceFields struct {
	Type        rest.Opt[string] `json:"type"`
	Name        rest.Opt[string] `json:"name"`
	Description rest.Opt[string] `json:"description" valid:"null"`
	Enabled     rest.Opt[bool]   `json:"enabled"`
	Extra       map[string]any   `json:"-" extra:"true"`
}

func (f *serviceFields) change() catalog.ServiceChange {
	return catalog.ServiceChange{Type: ptr(f.Type), Name: ptr(f.Name), Description: ptr(f.Description), Enabled: ptr(f.Enabled), Extra: unknown(f.Extra)}
}

type serviceBody struct {
	catalog.ServiceRecord
	Links links `json:"links"`
}

func serviceView(r *rest.Request, v *catalog.ServiceRecord) serviceBody {
	return serviceBody{*v, self(r, "services", v.ID)}
}

type endpointEnvelope struct {
	Endpoint endpointFields `json:"endpoint" valid:"required"`
}

type endpointFields struct {
	ServiceID rest.Opt[string] `json:"service_id"`
	Interface rest.Opt[string] `json:"interface" valid:"enum=admin|internal|public"`
	RegionID  rest.Opt[string] `json:"region_id" valid:"null"`
	// Region is the older name of RegionID; it makes the region where needed.
	Region  rest.Opt[string] `json:"region" valid:"null"`
	URL     rest.Opt[string] `json:"url"`
	Enabled rest.Opt[bool]   `json:"enabled"`
	Extra   map[string]any   `json:"-" extra:"true"`
}

func (f *endpointFields) change() catalog.EndpointChange {
	ch := catalog.EndpointChange{ServiceID: ptr(f.ServiceID), Interface: ptr(f.Interface), RegionID: ptr(f.RegionID), URL: ptr(f.URL), Enabled: ptr(f.Enabled), Extra: unknown(f.Extra)}
	if ch.RegionID == nil {
		ch.RegionID = ptr(f.Region)
	}
	return ch
}

// oldRegion makes the region that an endpoint names in the older way.
func (h *handlers) oldRegion(r *rest.Request, e *endpointFields) error {
	if e.Region.Value == "" || e.RegionID.Set {
		return nil
	}
	return h.svc.Catalog.EnsureRegion(r.Context(), e.Region.Value)
}

func (h *handlers) createEndpoint(r *rest.Request, b *endpointEnvelope) (any, error) {
	e := &b.Endpoint
	for _, need := range []error{required("interface", "endpoint", e.Interface.Set), required("service_id", "endpoint", e.ServiceID.Set), required("url", "endpoint", e.URL.Set)} {
		if need != nil {
			return nil, need
		}
	}
	if err := h.oldRegion(r, e); err != nil {
		return nil, err
	}
	v, err := h.svc.Catalog.CreateEndpoint(r.Context(), e.change())
	return object{"endpoint": endpointView(r, &v)}, err
}

type endpointBody struct {
	catalog.Endpoint
	Region identity.Ref `json:"region"`
	Links  links        `json:"links"`
}

func endpointView(r *rest.Request, v *catalog.Endpoint) endpointBody {
	return endpointBody{*v, v.RegionID, self(r, "endpoints", v.ID)}
}

func endpointID(v *catalog.Endpoint) string { return v.ID }

type regionEnvelope struct {
	Region regionFields `json:"region" valid:"required"`
}

type regionFields struct {
	ID          string           `json:"id" valid:"null"`
	Description rest.Opt[string] `json:"description" valid:"null"`
	ParentID    rest.Opt[string] `json:"parent_region_id" valid:"null"`
	Extra       map[string]any   `json:"-" extra:"true"`
}

func (f *regionFields) change() catalog.RegionChange {
	return catalog.RegionChange{ID: f.ID, Description: ptr(f.Description), ParentID: ptr(f.ParentID), Extra: unknown(f.Extra)}
}

type regionBody struct {
	catalog.Region
	Links links `json:"links"`
}

func regionView(r *rest.Request, v *catalog.Region) regionBody {
	return regionBody{*v, self(r, "regions", v.ID)}
}
