package api

import (
	"net/http"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/domainconfig"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type configEnvelope struct {
	Config map[string]any `json:"config"`
}

// config reads options by group; with an option the body has it alone, without
// its group.
func (b *configEnvelope) config(group, option string) (domainconfig.Options, error) {
	if option != "" {
		return domainconfig.Options{group: b.Config}, nil
	}
	out := domainconfig.Options{}
	for g, v := range b.Config {
		options, ok := v.(map[string]any)
		if !ok {
			return nil, nacre.Errorf(nacre.Forbidden, "InvalidDomainConfig", "Invalid domain specific configuration: The value of group %s specified in the config should be a dictionary of options.", g)
		}
		out[g] = options
	}
	return out, nil
}

// configView shows one option without its group, as Keystone does.
func configView(c domainconfig.Options, group, option string, err error) (any, error) {
	if err == nil && option != "" {
		return object{"config": c[group]}, nil
	}
	return object{"config": c}, err
}

func (h *handlers) domainConfigRoutes() []rest.Route {
	const path = "/v3/domains/{id}/config"
	all := []rest.Route{{Method: "PUT", Path: path, Policy: id("create_domain_config"), Unknown: rest.Ignore, Statements: 150, Op: rest.In(h.putConfig)}}
	for _, p := range []string{path, path + "/{group}", path + "/{group}/{option}"} {
		all = append(all,
			rest.Route{Method: "GET", Path: p, Policy: id("get_domain_config", "get_security_compliance_domain_config"), Op: rest.Do(h.getConfig)},
			rest.Route{Method: "PATCH", Path: p, Policy: id("update_domain_config"), Unknown: rest.Ignore, Statements: 150, Op: rest.In(h.updateConfig)},
			rest.Route{Method: "DELETE", Path: p, Policy: id("delete_domain_config"), Statements: 5, Op: rest.Do(func(r *rest.Request) (any, error) {
				return nil, h.svc.DomainConfigs.Delete(r.Context(), r.Var("id"), r.Var("group"), r.Var("option"))
			})})
	}
	// By name: a domain whose id is "config" would make a variable ambiguous.
	for _, group := range []string{"", "/identity", "/ldap"} {
		all = append(all, h.configDefault(group, "/v3/domains/config"+group+"/default"))
		if group != "" {
			all = append(all, h.configDefault(group, "/v3/domains/config"+group+"/{option}/default"))
		}
	}
	return all
}

func (h *handlers) configDefault(group, path string) rest.Route {
	group = strings.TrimPrefix(group, "/")
	return rest.Route{Method: "GET", Path: path, Policy: id("get_domain_config_default"), Op: rest.Do(func(r *rest.Request) (any, error) {
		c, err := h.svc.DomainConfigs.Defaults(r.Context(), group, r.Var("option"))
		return configView(c, group, r.Var("option"), err)
	})}
}

func (h *handlers) putConfig(r *rest.Request, b *configEnvelope) (any, error) {
	c, err := b.config("", "")
	if err != nil {
		return nil, err
	}
	out, created, err := h.svc.DomainConfigs.Put(r.Context(), r.Var("id"), c)
	if created {
		r.SetStatus(http.StatusCreated)
	}
	return object{"config": out}, err
}

func (h *handlers) getConfig(r *rest.Request) (any, error) {
	c, err := h.svc.DomainConfigs.Get(r.Context(), r.Var("id"), r.Var("group"), r.Var("option"))
	return configView(c, r.Var("group"), r.Var("option"), err)
}

func (h *handlers) updateConfig(r *rest.Request, b *configEnvelope) (any, error) {
	c, err := b.config(r.Var("group"), r.Var("option"))
	if err != nil {
		return nil, err
	}
	out, err := h.svc.DomainConfigs.Update(r.Context(), r.Var("id"), r.Var("group"), r.Var("option"), c)
	return object{"config": out}, err
}
