package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/awssign"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/credential"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) limitRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/v3/limits/model", Policy: id("get_limit_model"), Op: rest.Do(func(r *rest.Request) (any, error) {
			name, about, err := h.svc.Limits.Model(r.Context())
			return object{"model": object{"name": name, "description": about}}, err
		})},
		{Method: "POST", Path: "/v3/registered_limits", Status: http.StatusCreated, Policy: id("create_registered_limits"), Statements: 30, Op: rest.In(func(r *rest.Request, b *registeredBatch) (any, error) {
			ls := make([]limit.RegisteredLimit, len(b.Limits))
			for i, f := range b.Limits {
				ls[i] = limit.RegisteredLimit{ServiceID: f.ServiceID, RegionID: identity.Ref(f.RegionID), ResourceName: f.ResourceName, DefaultLimit: f.DefaultLimit, Description: f.Description}
			}
			ls, err := h.svc.Limits.CreateRegisteredLimits(r.Context(), ls)
			views := make([]registeredBody, len(ls))
			for i := range ls {
				views[i] = registeredView(r, &ls[i])
			}
			return object{"registered_limits": views}, err
		})},
		{Method: "GET", Path: "/v3/registered_limits", Policy: id("list_registered_limits"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ls, err := h.svc.Limits.ListRegisteredLimits(r.Context(), q)
			return collection(r, "registered_limits", q, ls, registeredView, func(l *limit.RegisteredLimit) string { return l.ID }), err
		})},
		{Method: "GET", Path: "/v3/registered_limits/{id}", Policy: id("get_registered_limit"), Op: rest.Do(func(r *rest.Request) (any, error) {
			l, err := h.svc.Limits.GetRegisteredLimit(r.Context(), r.Var("id"))
			return object{"registered_limit": registeredView(r, &l)}, err
		})},
		{Method: "PATCH", Path: "/v3/registered_limits/{id}", Policy: id("update_registered_limit"), Statements: 8, Op: rest.In(func(r *rest.Request, b *registeredEnvelope) (any, error) {
			l, err := h.svc.Limits.UpdateRegisteredLimit(r.Context(), r.Var("id"), b.Limit.change())
			return object{"registered_limit": registeredView(r, &l)}, err
		})},
		{Method: "DELETE", Path: "/v3/registered_limits/{id}", Policy: id("delete_registered_limit"), Statements: 5, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Limits.DeleteRegisteredLimit(r.Context(), r.Var("id"))
		})},
		{Method: "POST", Path: "/v3/limits", Status: http.StatusCreated, Policy: id("create_limits"), Statements: 30, Op: rest.In(func(r *rest.Request, b *limitBatch) (any, error) {
			ls := make([]limit.Limit, len(b.Limits))
			for i, f := range b.Limits {
				ls[i] = limit.Limit{ProjectID: identity.Ref(f.ProjectID), DomainID: identity.Ref(f.DomainID), ServiceID: f.ServiceID, RegionID: identity.Ref(f.RegionID),
					ResourceName: f.ResourceName, ResourceLimit: f.ResourceLimit, Description: f.Description}
			}
			ls, err := h.svc.Limits.CreateLimits(r.Context(), ls)
			views := make([]limitBody, len(ls))
			for i := range ls {
				views[i] = limitView(r, &ls[i])
			}
			return object{"limits": views}, err
		})},
		{Method: "GET", Path: "/v3/limits", Policy: id("list_limits"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ls, err := h.svc.Limits.ListLimits(r.Context(), q)
			return collection(r, "limits", q, ls, limitView, func(l *limit.Limit) string { return l.ID }), err
		})},
		{Method: "GET", Path: "/v3/limits/{id}", Policy: id("get_limit"), Op: rest.Do(func(r *rest.Request) (any, error) {
			l, err := h.svc.Limits.GetLimit(r.Context(), r.Var("id"))
			return object{"limit": limitView(r, &l)}, err
		})},
		{Method: "PATCH", Path: "/v3/limits/{id}", Policy: id("update_limit"), Op: rest.In(func(r *rest.Request, b *limitEnvelope) (any, error) {
			l, err := h.svc.Limits.UpdateLimit(r.Context(), r.Var("id"), limit.Change{Limit: ptr(b.Limit.ResourceLimit), Description: ptr(b.Limit.Description)})
			return object{"limit": limitView(r, &l)}, err
		})},
		{Method: "DELETE", Path: "/v3/limits/{id}", Policy: id("delete_limit"), Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Limits.DeleteLimit(r.Context(), r.Var("id"))
		})},
	}
}

type registeredBatch struct {
	Limits []struct {
		ServiceID    string  `json:"service_id" valid:"required"`
		RegionID     string  `json:"region_id" valid:"null"`
		ResourceName string  `json:"resource_name" valid:"required,min=1,max=255"`
		DefaultLimit int     `json:"default_limit" valid:"required,min=-1,max=2147483647"`
		Description  *string `json:"description" valid:"null"`
	} `json:"registered_limits" valid:"required,min=1"`
}

type registeredEnvelope struct {
	Limit registeredFields `json:"registered_limit" valid:"required"`
}

type registeredFields struct {
	ServiceID    rest.Opt[string] `json:"service_id"`
	RegionID     rest.Opt[string] `json:"region_id" valid:"null"`
	ResourceName rest.Opt[string] `json:"resource_name" valid:"min=1,max=255"`
	DefaultLimit rest.Opt[int]    `json:"default_limit" valid:"min=-1,max=2147483647"`
	Description  rest.Opt[string] `json:"description" valid:"null"`
}

func (f *registeredFields) change() limit.Change {
	return limit.Change{ServiceID: ptr(f.ServiceID), RegionID: ptr(f.RegionID), ResourceName: ptr(f.ResourceName), Limit: ptr(f.DefaultLimit), Description: ptr(f.Description)}
}

type registeredBody struct {
	limit.RegisteredLimit
	Links links `json:"links"`
}

func registeredView(r *rest.Request, l *limit.RegisteredLimit) registeredBody {
	return registeredBody{*l, self(r, "registered_limits", l.ID)}
}

type limitBatch struct {
	Limits []struct {
		ProjectID     string  `json:"project_id" valid:"null"`
		DomainID      string  `json:"domain_id" valid:"null"`
		ServiceID     string  `json:"service_id" valid:"required"`
		RegionID      string  `json:"region_id" valid:"null"`
		ResourceName  string  `json:"resource_name" valid:"required,min=1,max=255"`
		ResourceLimit int     `json:"resource_limit" valid:"required,min=-1,max=2147483647"`
		Description   *string `json:"description" valid:"null"`
	} `json:"limits" valid:"required,min=1"`
}

type limitEnvelope struct {
	Limit struct {
		ResourceLimit rest.Opt[int]    `json:"resource_limit" valid:"min=-1,max=2147483647"`
		Description   rest.Opt[string] `json:"description" valid:"null"`
	} `json:"limit" valid:"required"`
}

type limitBody struct {
	limit.Limit
	Links links `json:"links"`
}

func limitView(r *rest.Request, l *limit.Limit) limitBody {
	return limitBody{*l, self(r, "limits", l.ID)}
}

func (h *handlers) policyRoutes() []rest.Route {
	return []rest.Route{
		{Method: "POST", Path: "/v3/policies", Status: http.StatusCreated, Policy: id("create_policy"), Unknown: rest.Keep, Op: rest.In(func(r *rest.Request, b *policyEnvelope) (any, error) {
			for _, need := range []error{required("blob", "policy", b.Policy.Blob.Set), required("type", "policy", b.Policy.Type.Set)} {
				if need != nil {
					return nil, need
				}
			}
			p, err := h.svc.Catalog.CreatePolicy(r.Context(), b.Policy.change())
			return object{"policy": policyView(r, &p)}, err
		})},
		{Method: "GET", Path: "/v3/policies", Policy: id("list_policies"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ps, err := h.svc.Catalog.ListPolicies(r.Context(), q)
			return collection(r, "policies", q, ps, policyView, func(p *catalog.PolicyDocument) string { return p.ID }), err
		})},
		{Method: "GET", Path: "/v3/policies/{id}", Policy: id("get_policy"), Op: rest.Do(func(r *rest.Request) (any, error) {
			p, err := h.svc.Catalog.GetPolicy(r.Context(), r.Var("id"))
			return object{"policy": policyView(r, &p)}, err
		})},
		{Method: "PATCH", Path: "/v3/policies/{id}", Policy: id("update_policy"), Unknown: rest.Keep, Op: rest.In(func(r *rest.Request, b *policyEnvelope) (any, error) {
			if err := matching(r, b.Policy.Extra, "policy"); err != nil {
				return nil, err
			}
			p, err := h.svc.Catalog.UpdatePolicy(r.Context(), r.Var("id"), b.Policy.change())
			return object{"policy": policyView(r, &p)}, err
		})},
		{Method: "DELETE", Path: "/v3/policies/{id}", Policy: id("delete_policy"), Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Catalog.DeletePolicy(r.Context(), r.Var("id"))
		})},
	}
}

type policyEnvelope struct {
	Policy policyFields `json:"policy" valid:"required"`
}

type policyFields struct {
	Type  rest.Opt[string] `json:"type" valid:"max=255"`
	Blob  rest.Opt[string] `json:"blob"`
	Extra map[string]any   `json:"-" extra:"true"`
}

func (f *policyFields) change() catalog.PolicyChange {
	return catalog.PolicyChange{Type: ptr(f.Type), Blob: ptr(f.Blob), Extra: unknown(f.Extra)}
}

type policyBody struct {
	catalog.PolicyDocument
	Links links `json:"links"`
}

func policyView(r *rest.Request, p *catalog.PolicyDocument) policyBody {
	return policyBody{*p, self(r, "policies", p.ID)}
}

func (h *handlers) credentialRoutes() []rest.Route {
	const ec2 = "/v3/users/{id}/credentials/OS-EC2"
	return []rest.Route{
		{Method: "POST", Path: "/v3/credentials", Status: http.StatusCreated, Policy: id("create_credential"), Unknown: rest.Keep, Op: rest.In(func(r *rest.Request, b *credentialEnvelope) (any, error) {
			for _, need := range []error{required("blob", "credential", b.Credential.Blob.Set), required("type", "credential", b.Credential.Type.Set)} {
				if need != nil {
					return nil, need
				}
			}
			c, err := h.svc.Credentials.Create(r.Context(), b.Credential.change())
			return object{"credential": credentialView(r, &c)}, err
		})},
		{Method: "GET", Path: "/v3/credentials", Policy: id("list_credentials", "get_credential"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			cs, err := h.svc.Credentials.List(r.Context(), q)
			return collection(r, "credentials", q, cs, credentialView, func(c *credential.Credential) string { return c.ID }), err
		})},
		{Method: "GET", Path: "/v3/credentials/{id}", Policy: id("get_credential"), Op: rest.Do(func(r *rest.Request) (any, error) {
			c, err := h.svc.Credentials.Get(r.Context(), r.Var("id"))
			return object{"credential": credentialView(r, &c)}, err
		})},
		{Method: "PATCH", Path: "/v3/credentials/{id}", Policy: id("update_credential"), Unknown: rest.Keep, Statements: 4, Op: rest.In(func(r *rest.Request, b *credentialEnvelope) (any, error) {
			if err := matching(r, b.Credential.Extra, "credential"); err != nil {
				return nil, err
			}
			c, err := h.svc.Credentials.Update(r.Context(), r.Var("id"), b.Credential.change())
			return object{"credential": credentialView(r, &c)}, err
		})},
		{Method: "DELETE", Path: "/v3/credentials/{id}", Policy: id("delete_credential"), Statements: 4, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Credentials.Delete(r.Context(), r.Var("id"))
		})},
		{Method: "POST", Path: "/v3/s3tokens", Policy: id("s3tokens_validate"), Unknown: rest.Ignore, Statements: 14, Op: rest.In(h.validateS3)},
		{Method: "POST", Path: "/v3/ec2tokens", Policy: id("ec2tokens_validate"), Unknown: rest.Ignore, Statements: 20, Op: rest.In(h.validateEC2)},
		{Method: "POST", Path: ec2, Status: http.StatusCreated, Policy: id("ec2_create_credential"), Statements: 4, Op: rest.In(func(r *rest.Request, b *ec2Body) (any, error) {
			c, err := h.svc.Credentials.CreateEC2(r.Context(), r.Var("id"), b.TenantID)
			return object{"credential": ec2View(r, &c)}, err
		})},
		{Method: "GET", Path: ec2, Policy: id("ec2_list_credentials"), Op: rest.Do(func(r *rest.Request) (any, error) {
			cs, err := h.svc.Credentials.ListEC2(r.Context(), r.Var("id"))
			views := make([]ec2Full, len(cs))
			for i := range cs {
				views[i] = ec2View(r, &cs[i])
			}
			return object{"credentials": views, "links": object{"self": here(r), "previous": nil, "next": nil}}, err
		})},
		{Method: "GET", Path: ec2 + "/{access}", Policy: id("ec2_get_credential"), Op: rest.Do(func(r *rest.Request) (any, error) {
			c, err := h.svc.Credentials.GetEC2(r.Context(), r.Var("id"), r.Var("access"))
			return object{"credential": ec2View(r, &c)}, err
		})},
		{Method: "DELETE", Path: ec2 + "/{access}", Policy: id("ec2_delete_credential"), Statements: 5, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.Credentials.DeleteEC2(r.Context(), r.Var("id"), r.Var("access"))
		})},
	}
}

type s3Body struct {
	Credentials *s3Credentials `json:"credentials"`
	// Credential is another name for it that Keystone takes.
	Credential *s3Credentials `json:"credential"`
}

type s3Credentials struct {
	Access    string `json:"access" valid:"required"`
	Signature string `json:"signature" valid:"required"`
	// Token is the text that was signed, in base64 of either alphabet.
	Token string `json:"token" valid:"required"`
}

func (h *handlers) validateS3(r *rest.Request, b *s3Body) (any, error) {
	c := b.Credentials
	if c == nil {
		c = b.Credential
	}
	if c == nil {
		return nil, missing("credentials", "the request body")
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(c.Token))
	if err != nil {
		return nil, nacre.Errorf(nacre.Invalid, "ValidationError", "Invalid input for field 'token': it is no base64")
	}
	i, err := h.svc.ValidateS3(r.Context(), c.Access, c.Signature, text)
	if err != nil {
		return nil, err
	}
	return h.tokenView(r, i, true)
}

type ec2TokenBody struct {
	Credentials *ec2Signed `json:"credentials"`
	// Credential and EC2 are other names for it that Keystone takes.
	Credential *ec2Signed `json:"credential"`
	EC2        *ec2Signed `json:"ec2Credentials"`
}

type ec2Signed struct {
	Access    string         `json:"access"`
	Signature string         `json:"signature"`
	Host      string         `json:"host"`
	Verb      string         `json:"verb"`
	Path      string         `json:"path"`
	Params    map[string]any `json:"params"`
	Headers   map[string]any `json:"headers"`
	BodyHash  string         `json:"body_hash"`
}

func (h *handlers) validateEC2(r *rest.Request, b *ec2TokenBody) (any, error) {
	c := b.Credentials
	if c == nil {
		c = b.Credential
	}
	if c == nil {
		c = b.EC2
	}
	if c == nil {
		c = &ec2Signed{}
	}
	text, i, err := h.svc.AuthenticateEC2(r.Context(), identity.EC2Request{Access: c.Access, Request: awssign.Request{Signature: c.Signature, Host: c.Host, Verb: c.Verb, Path: c.Path,
		Params: texts(c.Params), Headers: texts(c.Headers), BodyHash: c.BodyHash}})
	if err != nil {
		return nil, err
	}
	r.Set("X-Subject-Token", text)
	return h.tokenView(r, i, true)
}

// texts are a map's values as text, as a query string would have them.
func texts(m map[string]any) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = fmt.Sprint(v)
	}
	return out
}

type ec2Body struct {
	TenantID string `json:"tenant_id" valid:"required"`
}

type ec2Full struct {
	credential.EC2
	Links links `json:"links"`
}

func ec2View(r *rest.Request, c *credential.EC2) ec2Full {
	return ec2Full{*c, self(r, "users", c.UserID, "credentials", "OS-EC2", c.Access)}
}

type credentialEnvelope struct {
	Credential credentialFields `json:"credential" valid:"required"`
}

type credentialFields struct {
	UserID    rest.Opt[string] `json:"user_id"`
	ProjectID rest.Opt[string] `json:"project_id" valid:"null"`
	Type      rest.Opt[string] `json:"type" valid:"max=255"`
	Blob      rest.Opt[string] `json:"blob"`
	Extra     map[string]any   `json:"-" extra:"true"`
}

func (f *credentialFields) change() credential.Change {
	return credential.Change{UserID: ptr(f.UserID), ProjectID: ptr(f.ProjectID), Type: ptr(f.Type), Blob: ptr(f.Blob), Extra: unknown(f.Extra)}
}

type credentialBody struct {
	credential.Credential
	Links links `json:"links"`
}

func credentialView(r *rest.Request, c *credential.Credential) credentialBody {
	return credentialBody{*c, self(r, "credentials", c.ID)}
}
