package api

import (
	"context"
	"net/http"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// policyAssociationRoutes are OS-ENDPOINT-POLICY's and OS-REVOKE's.
func (h *handlers) policyAssociationRoutes() []rest.Route {
	const base = "/v3/policies/{id}/OS-ENDPOINT-POLICY"
	routes := []rest.Route{
		{Method: "GET", Path: base + "/endpoints", Policy: id("list_endpoints_for_policy"), Statements: 5, Op: rest.Do(func(r *rest.Request) (any, error) {
			es, err := h.svc.Catalog.PolicyEndpoints(r.Context(), r.Var("id"))
			return plainList(r, "endpoints", es, endpointView), err
		})},
		{Method: "GET", Path: "/v3/endpoints/{id}/OS-ENDPOINT-POLICY/policy", Policy: id("get_policy_for_endpoint"), Statements: 5, Op: rest.Do(func(r *rest.Request) (any, error) {
			p, err := h.svc.Catalog.PolicyForEndpoint(r.Context(), r.Var("id"))
			return object{"policy": policyView(r, &p)}, err
		})},
		{Method: "GET", Path: "/v3/OS-REVOKE/events", Policy: id("list_revoke_events"), Op: rest.Do(h.revocationEvents)},
	}
	for path, kind := range map[string]string{
		"/endpoints/{endpoint}": "endpoint", "/services/{service}": "service", "/services/{service}/regions/{region}": "region_and_service",
	} {
		on := func(f func(context.Context, string, catalog.PolicyTarget) error) rest.Op {
			return rest.Do(func(r *rest.Request) (any, error) {
				return nil, f(r.Context(), r.Var("id"), catalog.PolicyTarget{EndpointID: r.PathValue("endpoint"), ServiceID: r.PathValue("service"), RegionID: r.PathValue("region")})
			})
		}
		routes = append(routes,
			rest.Route{Method: "PUT", Path: base + path, Policy: id("create_policy_association_for_" + kind), Statements: 8, Op: on(h.svc.Catalog.AssociatePolicy)},
			rest.Route{Method: "GET", Path: base + path, Status: http.StatusNoContent, Policy: id("check_policy_association_for_" + kind), Statements: 4, Op: on(h.svc.Catalog.CheckPolicyAssociation)},
			rest.Route{Method: "DELETE", Path: base + path, Policy: id("delete_policy_association_for_" + kind), Statements: 6, Op: on(h.svc.Catalog.DissociatePolicy)},
		)
	}
	return routes
}

type revocationBody struct {
	revoke.Event
	IssuedBefore rest.Micros `json:"issued_before"`
	RevokedAt    rest.Micros `json:"revoked_at"`
}

func (h *handlers) revocationEvents(r *rest.Request) (any, error) {
	var since time.Time
	if text := r.URL.Query().Get("since"); text != "" {
		var err error
		if since, err = rest.ParseTime(text); err != nil {
			return nil, nacre.Errorf(nacre.Invalid, "ValidationError", "invalidate date format %s", text)
		}
	}
	events, err := h.svc.Revocations.Events(r.Context(), since)
	views := make([]revocationBody, len(events))
	for i, e := range events {
		views[i] = revocationBody{e, rest.Micros(e.IssuedBefore), rest.Micros(e.RevokedAt)}
	}
	return object{"events": views, "links": object{"self": r.Base() + "/v3/OS-REVOKE/events", "previous": nil, "next": nil}}, err
}

// goneRoutes are those of the PKI tokens that Keystone once had; it still says so.
func (h *handlers) goneRoutes() []rest.Route {
	gone := rest.Do(func(r *rest.Request) (any, error) {
		r.SetStatus(http.StatusGone)
		return object{"error": object{"code": http.StatusGone, "title": "Gone", "message": "This API is no longer available due to the removal of support for PKI tokens."}}, nil
	})
	var routes []rest.Route
	for _, path := range []string{"/v3/OS-SIMPLE-CERT/ca", "/v3/OS-SIMPLE-CERT/certificates", "/v3/auth/tokens/OS-PKI/revoked"} {
		routes = append(routes, rest.Route{Method: "GET", Path: path, Status: http.StatusGone, Public: true, Op: gone})
	}
	return routes
}
