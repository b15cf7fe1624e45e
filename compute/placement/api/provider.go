package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/rest"
)

const one = "/resource_providers/{uuid}"

func (a *api) providerRoutes() []rest.Route {
	return []rest.Route{
		{Method: "GET", Path: "/resource_providers", Policy: []string{"placement:resource_providers:list"}, Statements: 5, View: providerList{}, Op: rest.Do(a.listProviders)},
		{Method: "POST", Path: "/resource_providers", Policy: []string{"placement:resource_providers:create"}, View: providerView{}, Op: in(a.createProvider)},
		{Method: "GET", Path: one, Policy: []string{"placement:resource_providers:show"}, View: providerView{}, Op: rest.Do(a.getProvider)},
		{Method: "PUT", Path: one, Policy: []string{"placement:resource_providers:update"}, View: providerView{}, Op: in(a.updateProvider)},
		{Method: "DELETE", Path: one, Status: 204, Policy: []string{"placement:resource_providers:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteProvider(r.Context(), r.Var("uuid"))
		})},
		{Method: "GET", Path: one + "/aggregates", Min: "1.1", Policy: []string{"placement:resource_providers:aggregates:list"}, View: aggregatesView{}, Op: rest.Do(a.getAggregates)},
		{Method: "PUT", Path: one + "/aggregates", Min: "1.1", Max: "1.18", Policy: []string{"placement:resource_providers:aggregates:update"}, View: aggregatesView{}, Op: in(a.setAggregatesOld)},
		{Method: "PUT", Path: one + "/aggregates", Min: "1.19", Policy: []string{"placement:resource_providers:aggregates:update"}, View: aggregatesView{}, Op: in(a.setAggregates)},
		{Method: "GET", Path: one + "/traits", Min: "1.6", Policy: []string{"placement:resource_providers:traits:list"}, View: traitsView{}, Op: rest.Do(a.getTraits)},
		{Method: "PUT", Path: one + "/traits", Min: "1.6", Policy: []string{"placement:resource_providers:traits:update"}, View: traitsView{}, Op: in(a.setTraits)},
		{Method: "DELETE", Path: one + "/traits", Min: "1.6", Status: 204, Policy: []string{"placement:resource_providers:traits:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.ClearProviderTraits(r.Context(), r.Var("uuid"))
		})},
	}
}

type providerView struct {
	UUID       string  `json:"uuid"`
	Name       string  `json:"name"`
	Generation int64   `json:"generation"`
	Links      []link  `json:"links"`
	Parent     *string `json:"parent_provider_uuid" since:"1.14"`
	Root       string  `json:"root_provider_uuid" since:"1.14"`
}

type providerList struct {
	Providers []providerView `json:"resource_providers"`
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

var linkVersions = []struct{ rel, since string }{{"inventories", "1.0"}, {"usages", "1.0"}, {"aggregates", "1.1"}, {"traits", "1.6"}, {"allocations", "1.11"}}

func viewOf(r *rest.Request, p placement.Provider) providerView {
	self := path(r, "/resource_providers/"+p.ID)
	v := providerView{UUID: p.ID, Name: p.Name, Generation: p.Generation, Parent: orNull(p.ParentID), Root: p.RootID, Links: []link{{"self", self}}}
	for _, l := range linkVersions {
		if r.Version >= rest.V(l.since) {
			v.Links = append(v.Links, link{l.rel, self + "/" + l.rel})
		}
	}
	return v
}

func (a *api) listProviders(r *rest.Request) (any, error) {
	vals, err := parameters(r, map[string]string{"name": "1.0", "uuid": "1.0", "member_of": "1.3", "resources": "1.4", "in_tree": "1.14", "required": "1.18"})
	if err != nil {
		return nil, err
	}
	f := placement.Filter{Name: last(vals, "name")}
	for name, to := range map[string]*string{"uuid": &f.ID, "in_tree": &f.InTree} {
		if v := last(vals, name); vals.Has(name) {
			if *to = dashed(v); *to == "" {
				return nil, invalid("Invalid query string parameters: %s is not a 'uuid'", rest.PyRepr(v))
			}
		}
	}
	if f.Demand, err = demand(r, vals, ""); err != nil {
		return nil, err
	}
	if vals.Has("resources") {
		if f.Resources, err = resources(last(vals, "resources")); err != nil {
			return nil, err
		}
	}
	ps, err := a.s.Providers(r.Context(), f)
	if err != nil {
		return nil, err
	}
	out := providerList{make([]providerView, len(ps))}
	var modified time.Time
	for i, p := range ps {
		out.Providers[i] = viewOf(r, p)
		if p.UpdatedAt.After(modified) {
			modified = p.UpdatedAt
		}
	}
	fresh(r, modified)
	return out, nil
}

type createProvider struct {
	Name   string           `json:"name" valid:"required,max=200"`
	UUID   string           `json:"uuid" valid:"format=uuid"`
	Parent rest.Opt[string] `json:"parent_provider_uuid" since:"1.14" valid:"null,format=uuid"`
}

func (a *api) createProvider(r *rest.Request, b *createProvider) (any, error) {
	p, err := a.s.CreateProvider(r.Context(), dashed(b.UUID), b.Name, dashed(b.Parent.Value))
	if err != nil {
		return nil, err
	}
	location(r, "/resource_providers/"+p.ID)
	if r.Version < rest.V("1.20") {
		r.SetStatus(http.StatusCreated)
		return nil, nil
	}
	fresh(r, p.UpdatedAt)
	return viewOf(r, p), nil
}

func (a *api) getProvider(r *rest.Request) (any, error) {
	p, err := a.s.Provider(r.Context(), r.Var("uuid"))
	if err != nil {
		return nil, err
	}
	fresh(r, p.UpdatedAt)
	return viewOf(r, p), nil
}

type updateProvider struct {
	Name   string           `json:"name" valid:"required,max=200"`
	Parent rest.Opt[string] `json:"parent_provider_uuid" since:"1.14" valid:"null,format=uuid"`
}

func (a *api) updateProvider(r *rest.Request, b *updateProvider) (any, error) {
	parent := b.Parent.Ptr()
	if parent != nil {
		id := dashed(*parent)
		parent = &id
	}
	p, err := a.s.UpdateProvider(r.Context(), r.Var("uuid"), b.Name, parent, r.Version >= rest.V("1.37"))
	if err != nil {
		return nil, err
	}
	fresh(r, p.UpdatedAt)
	return viewOf(r, p), nil
}

type aggregatesView struct {
	Aggregates []string `json:"aggregates"`
	Generation int64    `json:"resource_provider_generation" since:"1.19"`
}

func (a *api) getAggregates(r *rest.Request) (any, error) {
	p, err := a.s.Aggregates(r.Context(), r.Var("uuid"))
	if err != nil {
		return nil, err
	}
	fresh(r, time.Time{})
	return aggregatesView{p.Aggregates, p.Generation}, nil
}

type aggregatesBody struct {
	Aggregates []string `json:"aggregates" valid:"required"`
	Generation int64    `json:"resource_provider_generation" valid:"required"`
}

func (a *api) setAggregatesOld(r *rest.Request, b *[]string) (any, error) {
	return a.putAggregates(r, *b, nil)
}

func (a *api) setAggregates(r *rest.Request, b *aggregatesBody) (any, error) {
	return a.putAggregates(r, b.Aggregates, &b.Generation)
}

func (a *api) putAggregates(r *rest.Request, ids []string, generation *int64) (any, error) {
	seen := map[string]bool{}
	out := make([]string, len(ids))
	for i, id := range ids {
		if out[i] = dashed(id); out[i] == "" {
			return nil, invalid("JSON does not validate: %s is not a 'uuid'", rest.PyRepr(id))
		}
		if seen[id] {
			return nil, invalid("JSON does not validate: the list has non-unique elements")
		}
		seen[id] = true
	}
	p, err := a.s.SetAggregates(r.Context(), r.Var("uuid"), out, generation)
	if err != nil {
		return nil, err
	}
	fresh(r, time.Time{})
	return aggregatesView{p.Aggregates, p.Generation}, nil
}

type traitsView struct {
	Traits     []string `json:"traits"`
	Generation int64    `json:"resource_provider_generation"`
}

func (a *api) getTraits(r *rest.Request) (any, error) {
	p, err := a.s.ProviderTraits(r.Context(), r.Var("uuid"))
	if err != nil {
		return nil, err
	}
	fresh(r, p.UpdatedAt)
	return traitsView{p.Traits, p.Generation}, nil
}

type traitsBody struct {
	Traits     []string `json:"traits" valid:"required"`
	Generation int64    `json:"resource_provider_generation" valid:"required"`
}

func (a *api) setTraits(r *rest.Request, b *traitsBody) (any, error) {
	seen := map[string]bool{}
	for _, t := range b.Traits {
		if !namePattern.MatchString(t) || len(t) > 255 {
			return nil, invalid("JSON does not validate: %s does not match '^[A-Z0-9_]+$'", rest.PyRepr(t))
		}
		if seen[t] {
			return nil, invalid("JSON does not validate: the list of traits has non-unique elements")
		}
		seen[t] = true
	}
	p, err := a.s.SetProviderTraits(r.Context(), r.Var("uuid"), b.Traits, b.Generation)
	if err != nil {
		return nil, err
	}
	fresh(r, time.Time{})
	return traitsView{p.Traits, p.Generation}, nil
}

// trimmed splits at commas.
func trimmed(s string) []string {
	out := strings.Split(s, ",")
	for i := range out {
		out[i] = strings.TrimSpace(out[i])
	}
	return out
}
