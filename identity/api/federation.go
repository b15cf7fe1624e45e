package api

import (
	"context"
	"net/http"

	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/internal/rest"
)

const (
	idpPath      = "/v3/OS-FEDERATION/identity_providers"
	protocolPath = idpPath + "/{id}/protocols"
	mappingPath  = "/v3/OS-FEDERATION/mappings"
	spPath       = "/v3/OS-FEDERATION/service_providers"
)

func (h *handlers) federationRoutes() []rest.Route {
	all := append(h.idpRoutes(), h.protocolRoutes()...)
	all = append(all, h.mappingRoutes()...)
	all = append(all, h.serviceProviderRoutes()...)
	return append(all, h.federatedLoginRoutes()...)
}

// removed answers a deletion.
func removed(f func(ctx context.Context, id string) error) rest.Op {
	return rest.Do(func(r *rest.Request) (any, error) { return nil, f(r.Context(), r.Var("id")) })
}

// plainList renders a list that is never paged.
func plainList[T, V any](r *rest.Request, name string, items []T, view func(*rest.Request, *T) V) object {
	views := make([]V, len(items))
	for i := range items {
		views[i] = view(r, &items[i])
	}
	return object{name: views, "links": object{"self": here(r), "previous": nil, "next": nil}}
}

type idpEnvelope struct {
	IdP idpFields `json:"identity_provider"`
}

type idpFields struct {
	DomainID         rest.Opt[string]   `json:"domain_id" valid:"null"`
	Enabled          rest.Opt[bool]     `json:"enabled"`
	Description      rest.Opt[string]   `json:"description" valid:"null"`
	AuthorizationTTL rest.Opt[int]      `json:"authorization_ttl" valid:"null"`
	RemoteIDs        rest.Opt[[]string] `json:"remote_ids" valid:"null"`
}

// orNil is nil when the field was absent, else what to set, which is nil for null.
func orNil[T any](o rest.Opt[T]) **T {
	if !o.Set {
		return nil
	}
	var p *T
	if !o.Null {
		p = &o.Value
	}
	return &p
}

func (f *idpFields) change() federation.IdentityProviderChange {
	return federation.IdentityProviderChange{DomainID: ptr(f.DomainID), Enabled: ptr(f.Enabled), Description: orNil(f.Description),
		AuthorizationTTL: orNil(f.AuthorizationTTL), RemoteIDs: ptr(f.RemoteIDs)}
}

type idpBody struct {
	federation.IdentityProvider
	Links object `json:"links"`
}

func idpView(r *rest.Request, p *federation.IdentityProvider) idpBody {
	self := self(r, "OS-FEDERATION", "identity_providers", p.ID).Self
	return idpBody{*p, object{"self": self, "protocols": self + "/protocols"}}
}

func (h *handlers) idpRoutes() []rest.Route {
	fed := h.federation()
	return []rest.Route{
		{Method: "GET", Path: idpPath, Policy: id("list_identity_providers"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ps, err := fed.ListIdentityProviders(r.Context(), q)
			return plainList(r, "identity_providers", ps, idpView), err
		})},
		{Method: "PUT", Path: idpPath + "/{id}", Status: http.StatusCreated, Policy: id("create_identity_provider"), Statements: 12, Op: rest.In(func(r *rest.Request, b *idpEnvelope) (any, error) {
			p, err := fed.CreateIdentityProvider(r.Context(), r.Var("id"), b.IdP.change())
			return object{"identity_provider": idpView(r, &p)}, err
		})},
		{Method: "GET", Path: idpPath + "/{id}", Policy: id("get_identity_provider"), Op: rest.Do(func(r *rest.Request) (any, error) {
			p, err := fed.GetIdentityProvider(r.Context(), r.Var("id"))
			return object{"identity_provider": idpView(r, &p)}, err
		})},
		{Method: "PATCH", Path: idpPath + "/{id}", Policy: id("update_identity_provider"), Statements: 8, Op: rest.In(func(r *rest.Request, b *idpEnvelope) (any, error) {
			p, err := fed.UpdateIdentityProvider(r.Context(), r.Var("id"), b.IdP.change())
			return object{"identity_provider": idpView(r, &p)}, err
		})},
		{Method: "DELETE", Path: idpPath + "/{id}", Policy: id("delete_identity_provider"), Statements: 12, Op: removed(fed.DeleteIdentityProvider)},
	}
}

type protocolEnvelope struct {
	Protocol struct {
		MappingID         rest.Opt[string] `json:"mapping_id" valid:"min=1,max=64"`
		RemoteIDAttribute rest.Opt[string] `json:"remote_id_attribute" valid:"null,max=64"`
	} `json:"protocol" valid:"required"`
}

func (b *protocolEnvelope) change() federation.ProtocolChange {
	ch := federation.ProtocolChange{MappingID: ptr(b.Protocol.MappingID)}
	if o := b.Protocol.RemoteIDAttribute; o.Set && !o.Null {
		ch.RemoteIDAttribute = &o.Value
	}
	return ch
}

type protocolBody struct {
	federation.Protocol
	Links object `json:"links"`
}

func protocolView(r *rest.Request, p *federation.Protocol) protocolBody {
	return protocolBody{*p, object{"self": self(r, "OS-FEDERATION", "identity_providers", p.IdPID, "protocols", p.ID).Self,
		"identity_provider": self(r, "OS-FEDERATION", "identity_providers", p.IdPID).Self}}
}

type protocolItem struct {
	protocolBody
	IdPID  string  `json:"idp_id"`
	Remote *string `json:"remote_id_attribute"`
}

func (h *handlers) protocolRoutes() []rest.Route {
	fed := h.federation()
	one := protocolPath + "/{protocol}"
	return []rest.Route{
		{Method: "GET", Path: protocolPath, Policy: id("list_protocols"), Op: rest.Do(func(r *rest.Request) (any, error) {
			ps, err := fed.ListProtocols(r.Context(), r.Var("id"))
			return plainList(r, "protocols", ps, func(r *rest.Request, p *federation.Protocol) protocolItem {
				return protocolItem{protocolView(r, p), p.IdPID, p.RemoteIDAttribute}
			}), err
		})},
		{Method: "PUT", Path: one, Status: http.StatusCreated, Policy: id("create_protocol"), Statements: 8, Op: rest.In(func(r *rest.Request, b *protocolEnvelope) (any, error) {
			p, err := fed.CreateProtocol(r.Context(), r.Var("id"), r.Var("protocol"), b.change())
			return object{"protocol": protocolView(r, &p)}, err
		})},
		{Method: "GET", Path: one, Policy: id("get_protocol"), Op: rest.Do(func(r *rest.Request) (any, error) {
			p, err := fed.GetProtocol(r.Context(), r.Var("id"), r.Var("protocol"))
			return object{"protocol": protocolView(r, &p)}, err
		})},
		{Method: "PATCH", Path: one, Policy: id("update_protocol"), Statements: 8, Op: rest.In(func(r *rest.Request, b *protocolEnvelope) (any, error) {
			p, err := fed.UpdateProtocol(r.Context(), r.Var("id"), r.Var("protocol"), b.change())
			return object{"protocol": protocolView(r, &p)}, err
		})},
		{Method: "DELETE", Path: one, Policy: id("delete_protocol"), Statements: 12, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, fed.DeleteProtocol(r.Context(), r.Var("id"), r.Var("protocol"))
		})},
	}
}

type mappingEnvelope struct {
	Mapping struct {
		Rules         []any  `json:"rules" valid:"required"`
		SchemaVersion string `json:"schema_version"`
	} `json:"mapping" valid:"required"`
}

func (b *mappingEnvelope) mapping(id string) federation.Mapping {
	return federation.Mapping{ID: id, Rules: b.Mapping.Rules, SchemaVersion: b.Mapping.SchemaVersion}
}

type mappingBody struct {
	federation.Mapping
	Links links `json:"links"`
}

func mappingView(r *rest.Request, m *federation.Mapping) mappingBody {
	return mappingBody{*m, self(r, "OS-FEDERATION", "mappings", m.ID)}
}

func (h *handlers) mappingRoutes() []rest.Route {
	fed := h.federation()
	return []rest.Route{
		{Method: "GET", Path: mappingPath, Policy: id("list_mappings"), Op: rest.Do(func(r *rest.Request) (any, error) {
			ms, err := fed.ListMappings(r.Context())
			return plainList(r, "mappings", ms, mappingView), err
		})},
		{Method: "PUT", Path: mappingPath + "/{id}", Status: http.StatusCreated, Policy: id("create_mapping"), Unknown: rest.Ignore, Statements: 8, Op: rest.In(func(r *rest.Request, b *mappingEnvelope) (any, error) {
			m, err := fed.CreateMapping(r.Context(), b.mapping(r.Var("id")))
			return object{"mapping": mappingView(r, &m)}, err
		})},
		{Method: "GET", Path: mappingPath + "/{id}", Policy: id("get_mapping"), Op: rest.Do(func(r *rest.Request) (any, error) {
			m, err := fed.GetMapping(r.Context(), r.Var("id"))
			return object{"mapping": mappingView(r, &m)}, err
		})},
		{Method: "PATCH", Path: mappingPath + "/{id}", Policy: id("update_mapping"), Unknown: rest.Ignore, Statements: 8, Op: rest.In(func(r *rest.Request, b *mappingEnvelope) (any, error) {
			m, err := fed.UpdateMapping(r.Context(), b.mapping(r.Var("id")))
			return object{"mapping": mappingView(r, &m)}, err
		})},
		{Method: "DELETE", Path: mappingPath + "/{id}", Policy: id("delete_mapping"), Statements: 8, Op: removed(fed.DeleteMapping)},
	}
}

type spEnvelope struct {
	SP struct {
		AuthURL          rest.Opt[string] `json:"auth_url" valid:"max=225,format=uri"`
		SPURL            rest.Opt[string] `json:"sp_url" valid:"max=225,format=uri"`
		Enabled          rest.Opt[bool]   `json:"enabled"`
		Description      rest.Opt[string] `json:"description" valid:"null"`
		RelayStatePrefix rest.Opt[string] `json:"relay_state_prefix" valid:"null"`
	} `json:"service_provider" valid:"required"`
}

func (b *spEnvelope) change() federation.ServiceProviderChange {
	f := &b.SP
	return federation.ServiceProviderChange{AuthURL: ptr(f.AuthURL), SPURL: ptr(f.SPURL), Enabled: ptr(f.Enabled), Description: orNil(f.Description), RelayStatePrefix: ptr(f.RelayStatePrefix)}
}

type spBody struct {
	federation.ServiceProvider
	Links links `json:"links"`
}

func spView(r *rest.Request, p *federation.ServiceProvider) spBody {
	return spBody{*p, self(r, "OS-FEDERATION", "service_providers", p.ID)}
}

func (h *handlers) serviceProviderRoutes() []rest.Route {
	fed := h.federation()
	return []rest.Route{
		{Method: "GET", Path: spPath, Policy: id("list_service_providers"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ps, err := fed.ListServiceProviders(r.Context(), q)
			return plainList(r, "service_providers", ps, spView), err
		})},
		{Method: "PUT", Path: spPath + "/{id}", Status: http.StatusCreated, Policy: id("create_service_provider"), Statements: 8, Op: rest.In(func(r *rest.Request, b *spEnvelope) (any, error) {
			p, err := fed.CreateServiceProvider(r.Context(), r.Var("id"), b.change())
			return object{"service_provider": spView(r, &p)}, err
		})},
		{Method: "GET", Path: spPath + "/{id}", Policy: id("get_service_provider"), Op: rest.Do(func(r *rest.Request) (any, error) {
			p, err := fed.GetServiceProvider(r.Context(), r.Var("id"))
			return object{"service_provider": spView(r, &p)}, err
		})},
		{Method: "PATCH", Path: spPath + "/{id}", Policy: id("update_service_provider"), Statements: 8, Op: rest.In(func(r *rest.Request, b *spEnvelope) (any, error) {
			p, err := fed.UpdateServiceProvider(r.Context(), r.Var("id"), b.change())
			return object{"service_provider": spView(r, &p)}, err
		})},
		{Method: "DELETE", Path: spPath + "/{id}", Policy: id("delete_service_provider"), Statements: 8, Op: removed(fed.DeleteServiceProvider)},
	}
}
