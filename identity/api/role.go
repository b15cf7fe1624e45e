package api

import (
	"net/http"

	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) roleRoutes() []rest.Route {
	return []rest.Route{
		{Method: "POST", Path: "/v3/roles", Status: http.StatusCreated, Policy: id("create_role", "create_domain_role"), Unknown: rest.Keep, Statements: 5, Op: rest.In(func(r *rest.Request, b *roleEnvelope) (any, error) {
			if err := required("name", "role", b.Role.Name.Set); err != nil {
				return nil, err
			}
			v, err := h.svc.Assignments.CreateRole(r.Context(), b.Role.change())
			return object{"role": roleView(r, &v)}, err
		})},
		{Method: "GET", Path: "/v3/roles", Policy: id("list_roles", "list_domain_roles"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			rs, err := h.svc.Assignments.ListRoles(r.Context(), q)
			return collection(r, "roles", q, rs, roleView, roleID), err
		})},
		{Method: "GET", Path: "/v3/roles/{id}", Policy: id("get_role", "get_domain_role"), Op: rest.Do(func(r *rest.Request) (any, error) {
			v, err := h.svc.Assignments.GetRole(r.Context(), r.Var("id"))
			return object{"role": roleView(r, &v)}, err
		})},
		{Method: "PATCH", Path: "/v3/roles/{id}", Policy: id("update_role", "update_domain_role"), Unknown: rest.Keep, Statements: 6, Op: rest.In(func(r *rest.Request, b *roleEnvelope) (any, error) {
			if err := matching(r, b.Role.Extra, "role"); err != nil {
				return nil, err
			}
			v, err := h.svc.Assignments.UpdateRole(r.Context(), r.Var("id"), b.Role.change())
			return object{"role": roleView(r, &v)}, err
		})},
		{Method: "DELETE", Path: "/v3/roles/{id}", Policy: id("delete_role", "delete_domain_role"), Statements: 8, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Assignments.DeleteRole(r.Context(), r.Var("id"))
		})},

		{Method: "GET", Path: "/v3/roles/{id}/implies", Policy: id("list_implied_roles"), Op: rest.Do(func(r *rest.Request) (any, error) {
			v, err := h.svc.Assignments.ListImplied(r.Context(), r.Var("id"))
			return object{"role_inference": inferenceView(r, &v), "links": object{"self": here(r)}}, err
		})},
		{Method: "PUT", Path: "/v3/roles/{id}/implies/{implied}", Status: http.StatusCreated, Policy: id("create_implied_role"), Statements: 6, Op: rest.Do(func(r *rest.Request) (any, error) {
			v, err := h.svc.Assignments.CreateImplied(r.Context(), r.Var("id"), r.Var("implied"))
			return oneInference(r, &v), err
		})},
		{Method: "GET", Path: "/v3/roles/{id}/implies/{implied}", Policy: id("get_implied_role"), Op: rest.Do(func(r *rest.Request) (any, error) {
			v, err := h.svc.Assignments.GetImplied(r.Context(), r.Var("id"), r.Var("implied"))
			return oneInference(r, &v), err
		})},
		{Method: "HEAD", Path: "/v3/roles/{id}/implies/{implied}", Status: http.StatusNoContent, Policy: id("get_implied_role"), Op: rest.Do(func(r *rest.Request) (any, error) {
			_, err := h.svc.Assignments.GetImplied(r.Context(), r.Var("id"), r.Var("implied"))
			return nil, err
		})},
		{Method: "DELETE", Path: "/v3/roles/{id}/implies/{implied}", Policy: id("delete_implied_role"), Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Assignments.DeleteImplied(r.Context(), r.Var("id"), r.Var("implied"))
		})},
		{Method: "GET", Path: "/v3/role_inferences", Policy: id("list_role_inference_rules"), Op: rest.Do(func(r *rest.Request) (any, error) {
			all, err := h.svc.Assignments.ListInferences(r.Context())
			views := make([]object, len(all))
			for i := range all {
				views[i] = inferenceView(r, &all[i])
			}
			return object{"role_inferences": views, "links": object{"self": here(r)}}, err
		})},
	}
}

type roleEnvelope struct {
	Role roleFields `json:"role" valid:"required"`
}

type roleFields struct {
	Name        rest.Opt[string] `json:"name"`
	Description rest.Opt[string] `json:"description" valid:"null"`
	DomainID    rest.Opt[string] `json:"domain_id" valid:"null"`
	Options     map[string]any   `json:"options"`
	Extra       map[string]any   `json:"-" extra:"true"`
}

func (f *roleFields) change() assignment.RoleChange {
	return assignment.RoleChange{Name: ptr(f.Name), Description: ptr(f.Description), DomainID: ptr(f.DomainID), Options: f.Options, Extra: unknown(f.Extra)}
}

type roleBody struct {
	assignment.Role
	Links links `json:"links"`
}

func roleView(r *rest.Request, v *assignment.Role) roleBody {
	return roleBody{*v, self(r, "roles", v.ID)}
}

func roleID(v *assignment.Role) string { return v.ID }

// brief is a role in an inference.
func brief(r *rest.Request, v *assignment.Role) object {
	return object{"id": v.ID, "name": v.Name, "description": v.Description, "links": self(r, "roles", v.ID)}
}

func inferenceView(r *rest.Request, v *assignment.Inference) object {
	implies := make([]object, len(v.Implies))
	for i := range v.Implies {
		implies[i] = brief(r, &v.Implies[i])
	}
	return object{"prior_role": brief(r, &v.Prior), "implies": implies}
}

func oneInference(r *rest.Request, v *assignment.Inference) object {
	if len(v.Implies) == 0 {
		return nil
	}
	return object{"role_inference": object{"prior_role": brief(r, &v.Prior), "implies": brief(r, &v.Implies[0])}, "links": object{"self": here(r)}}
}
