package api

import (
	"net/http"
	"time"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/appcred"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) appCredRoutes() []rest.Route {
	const all = "/v3/users/{id}/application_credentials"
	return []rest.Route{
		{Method: "POST", Path: all, Status: http.StatusCreated, Policy: id("create_application_credential"), Statements: 6, Op: rest.In(func(r *rest.Request, b *appCredEnvelope) (any, error) {
			n := appcred.Wanted{Name: b.AppCred.Name, Description: ptr(b.AppCred.Description), Secret: b.AppCred.Secret, Unrestricted: b.AppCred.Unrestricted}
			if b.AppCred.ExpiresAt.Set && !b.AppCred.ExpiresAt.Null {
				n.ExpiresAt = &b.AppCred.ExpiresAt.Value
			}
			for _, role := range b.AppCred.Roles {
				n.Roles = append(n.Roles, appcred.Role{ID: role.ID, Name: role.Name})
			}
			for _, rule := range b.AppCred.AccessRules {
				n.AccessRules = append(n.AccessRules, appcred.AccessRule{ID: rule.ID, Service: rule.Service, Method: rule.Method, Path: rule.Path})
			}
			a, err := h.svc.AppCredentials.Create(r.Context(), r.Var("id"), n)
			return object{"application_credential": appCredView(r, &a)}, err
		})},
		{Method: "GET", Path: all, Policy: id("list_application_credentials"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			as, err := h.svc.AppCredentials.List(r.Context(), r.Var("id"), q)
			return collection(r, "application_credentials", q, as, appCredView, func(a *appcred.Credential) string { return a.ID }), err
		})},
		{Method: "GET", Path: all + "/{credential}", Policy: id("get_application_credential"), Op: rest.Do(func(r *rest.Request) (any, error) {
			a, err := h.svc.AppCredentials.Get(r.Context(), r.Var("id"), r.Var("credential"))
			return object{"application_credential": appCredView(r, &a)}, err
		})},
		{Method: "DELETE", Path: all + "/{credential}", Policy: id("delete_application_credential"), Statements: 6, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.AppCredentials.Delete(r.Context(), r.Var("id"), r.Var("credential"))
		})},
		{Method: "GET", Path: "/v3/users/{id}/access_rules", Policy: id("list_access_rules"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			rs, err := h.svc.AppCredentials.ListAccessRules(r.Context(), r.Var("id"), q)
			return collection(r, "access_rules", q, rs, ruleView, func(a *appcred.AccessRule) string { return a.ID }), err
		})},
		{Method: "GET", Path: "/v3/users/{id}/access_rules/{rule}", Policy: id("get_access_rule"), Op: rest.Do(func(r *rest.Request) (any, error) {
			a, err := h.svc.AppCredentials.GetAccessRule(r.Context(), r.Var("id"), r.Var("rule"))
			return object{"access_rule": ruleView(r, &a)}, err
		})},
		{Method: "DELETE", Path: "/v3/users/{id}/access_rules/{rule}", Policy: id("delete_access_rule"), Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.AppCredentials.DeleteAccessRule(r.Context(), r.Var("id"), r.Var("rule"))
		})},
	}
}

type appCredEnvelope struct {
	AppCred struct {
		Name         string              `json:"name" valid:"required,min=1,max=255"`
		Description  rest.Opt[string]    `json:"description" valid:"null"`
		Secret       string              `json:"secret" valid:"null"`
		ExpiresAt    rest.Opt[time.Time] `json:"expires_at" valid:"null"`
		Unrestricted bool                `json:"unrestricted" valid:"null"`
		Roles        []struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"roles"`
		AccessRules []struct {
			ID      string `json:"id"`
			Service string `json:"service"`
			Method  string `json:"method"`
			Path    string `json:"path"`
		} `json:"access_rules"`
	} `json:"application_credential" valid:"required"`
}

type appCredRole struct {
	ID       string       `json:"id"`
	Name     string       `json:"name"`
	DomainID identity.Ref `json:"domain_id"`
}

type appCredBody struct {
	appcred.Credential
	ExpiresAt *rest.Naive   `json:"expires_at"`
	Roles     []appCredRole `json:"roles"`
	// AccessRules are shown where there are some.
	AccessRules []appcred.AccessRule `json:"access_rules,omitempty"`
	System      *string              `json:"system"`
	Links       links                `json:"links"`
}

func appCredView(r *rest.Request, a *appcred.Credential) appCredBody {
	b := appCredBody{Credential: *a, AccessRules: a.AccessRules, Links: self(r, "users", a.UserID, "application_credentials", a.ID)}
	if a.ExpiresAt != nil {
		t := rest.Naive(*a.ExpiresAt)
		b.ExpiresAt = &t
	}
	for _, role := range a.Roles {
		b.Roles = append(b.Roles, appCredRole{role.ID, role.Name, role.DomainID})
	}
	return b
}

type ruleBody struct {
	appcred.AccessRule
	Links links `json:"links"`
}

func ruleView(r *rest.Request, a *appcred.AccessRule) ruleBody {
	return ruleBody{*a, self(r, "users", a.UserID, "access_rules", a.ID)}
}
