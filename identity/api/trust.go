package api

import (
	"net/http"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) trustRoutes() []rest.Route {
	const all, one = "/v3/OS-TRUST/trusts", "/v3/OS-TRUST/trusts/{id}"
	return []rest.Route{
		{Method: "POST", Path: all, Status: http.StatusCreated, Policy: id("create_trust"), Statements: 14, Op: rest.In(h.createTrust)},
		{Method: "GET", Path: all, Policy: id("list_trusts", "list_trusts_for_trustor", "list_trusts_for_trustee"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ts, err := h.svc.ListTrusts(r.Context(), q)
			return collection(r, "trusts", q, ts, trustView, func(t *identity.Trust) string { return t.ID }), err
		})},
		{Method: "GET", Path: one, Policy: id("get_trust"), Op: rest.Do(func(r *rest.Request) (any, error) {
			t, err := h.svc.GetTrust(r.Context(), r.Var("id"))
			return object{"trust": trustWithRoles(r, &t)}, err
		})},
		{Method: "DELETE", Path: one, Policy: id("delete_trust"), Statements: 12, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.DeleteTrust(r.Context(), r.Var("id"))
		})},
		{Method: "GET", Path: one + "/roles", Policy: id("list_roles_for_trust"), Op: rest.Do(func(r *rest.Request) (any, error) {
			roles, err := h.svc.TrustRoles(r.Context(), r.Var("id"))
			return collection(r, "roles", nacre.Query{}, roles, roleView, roleID), err
		})},
		{Method: "GET", Path: one + "/roles/{role}", Policy: id("get_role_for_trust"), Op: rest.Do(func(r *rest.Request) (any, error) {
			role, err := h.svc.TrustRole(r.Context(), r.Var("id"), r.Var("role"))
			return object{"role": roleView(r, &role)}, err
		})},
	}
}

type trustEnvelope struct {
	Trust struct {
		TrustorUserID     string              `json:"trustor_user_id" valid:"required"`
		TrusteeUserID     string              `json:"trustee_user_id" valid:"required"`
		Impersonation     bool                `json:"impersonation" valid:"required"`
		ProjectID         string              `json:"project_id" valid:"null"`
		ExpiresAt         rest.Opt[time.Time] `json:"expires_at" valid:"null"`
		RemainingUses     *int                `json:"remaining_uses" valid:"null,min=1"`
		AllowRedelegation bool                `json:"allow_redelegation" valid:"null"`
		RedelegationCount *int                `json:"redelegation_count" valid:"null,min=0"`
		Roles             []struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"roles"`
	} `json:"trust" valid:"required"`
}

func (h *handlers) createTrust(r *rest.Request, b *trustEnvelope) (any, error) {
	in := &b.Trust
	t := identity.Trust{TrustorUserID: in.TrustorUserID, TrusteeUserID: in.TrusteeUserID, ProjectID: in.ProjectID, Impersonation: in.Impersonation, RemainingUses: in.RemainingUses,
		AllowRedelegation: in.AllowRedelegation, Depth: in.RedelegationCount}
	if in.ExpiresAt.Set && !in.ExpiresAt.Null {
		t.ExpiresAt = &in.ExpiresAt.Value
	}
	var roles []identity.NameRef
	for _, role := range in.Roles {
		roles = append(roles, identity.NameRef{ID: role.ID, Name: role.Name})
	}
	t, err := h.svc.CreateTrust(r.Context(), t, roles)
	return object{"trust": trustWithRoles(r, &t)}, err
}

type trustBody struct {
	identity.Trust
	ProjectID identity.Ref `json:"project_id"`
	ExpiresAt rest.Micros  `json:"expires_at"`
	DeletedAt *string      `json:"deleted_at"`
	// Redelegated is there for a trust that was passed on.
	Redelegated string `json:"redelegated_trust_id,omitempty"`
	Links       links  `json:"links"`
}

func trustView(r *rest.Request, t *identity.Trust) trustBody {
	b := trustBody{Trust: *t, ProjectID: identity.Ref(t.ProjectID), Redelegated: string(t.RedelegatedTrustID), Links: self(r, "OS-TRUST", "trusts", t.ID)}
	if t.ExpiresAt != nil {
		b.ExpiresAt = rest.Micros(*t.ExpiresAt)
	}
	return b
}

type trustFull struct {
	trustBody
	Roles      []roleBody `json:"roles"`
	RolesLinks object     `json:"roles_links"`
}

func trustWithRoles(r *rest.Request, t *identity.Trust) trustFull {
	f := trustFull{trustBody: trustView(r, t), RolesLinks: object{"self": self(r, "OS-TRUST", "trusts", t.ID, "roles").Self, "previous": nil, "next": nil}}
	for i := range t.Roles {
		f.Roles = append(f.Roles, roleView(r, &t.Roles[i]))
	}
	return f
}
