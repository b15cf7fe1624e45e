package api

import (
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/network"
)

type subnetPoolView struct {
	std
	IPVersion  int      `json:"ip_version"`
	Prefixes   []string `json:"prefixes"`
	DefaultLen int      `json:"default_prefixlen"`
	MinLen     int      `json:"min_prefixlen"`
	MaxLen     int      `json:"max_prefixlen"`
	Limit      *int     `json:"default_quota"`
	Shared     bool     `json:"shared"`
	Default    bool     `json:"is_default"`
	Scope      *string  `json:"address_scope_id"`
}

func subnetPoolOf(p network.SubnetPool) any {
	v := subnetPoolView{std: stdOf(p.Std), IPVersion: p.IPVersion, DefaultLen: p.DefaultLen, MinLen: p.MinLen, MaxLen: p.MaxLen, Limit: p.Limit, Shared: p.Shared, Default: p.Default}
	for _, x := range p.Prefixes {
		v.Prefixes = append(v.Prefixes, x.String())
	}
	return v
}

type subnetPoolBody struct {
	owner
	Name        *string        `json:"name" valid:"max=255"`
	Description *string        `json:"description" valid:"max=255"`
	Prefixes    *[]string      `json:"prefixes"`
	DefaultLen  *int           `json:"default_prefixlen" valid:"min=0"`
	MinLen      *int           `json:"min_prefixlen" valid:"min=0"`
	MaxLen      *int           `json:"max_prefixlen" valid:"min=0"`
	Limit       rest.Opt[*int] `json:"default_quota" valid:"null"`
	Shared      *bool          `json:"shared"`
	Default     *bool          `json:"is_default"`
	Scope       *string        `json:"address_scope_id" valid:"null"`
}

func parsePrefixes(in []string, what string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, x := range in {
		p, err := netip.ParsePrefix(x)
		if err != nil {
			return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: '%s' is not a valid IP subnet.", what, x)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func (b *subnetPoolBody) apply(p *network.SubnetPool) (err error) {
	if b.Scope != nil && *b.Scope != "" {
		return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for address_scope_id. Reason: address scopes are not served by this cloud.")
	}
	set(&p.Name, b.Name)
	set(&p.Description, b.Description)
	set(&p.DefaultLen, b.DefaultLen)
	set(&p.MinLen, b.MinLen)
	set(&p.MaxLen, b.MaxLen)
	set(&p.Default, b.Default)
	if b.Limit.Set {
		p.Limit = b.Limit.Value
	}
	if b.Prefixes != nil {
		p.Prefixes, err = parsePrefixes(*b.Prefixes, "prefixes")
	}
	return err
}

func (a *api) poolRoutes() []rest.Route {
	const base = "/v2.0/subnetpools"
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_subnetpool"}, View: subnetPoolView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ps, err := a.s.SubnetPools(r.Context(), q)
			if err != nil {
				return nil, err
			}
			return page(r, q, "subnetpools", ps, func(p network.SubnetPool) string { return p.ID }, subnetPoolOf)
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_subnetpool"}, View: subnetPoolView{}, Op: create(a.s, "subnetpool", "subnetpools", func(r *rest.Request, b *subnetPoolBody) (any, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, err
			}
			p := network.SubnetPool{}
			p.ProjectID = project
			set(&p.Shared, b.Shared)
			if err := b.apply(&p); err != nil {
				return nil, err
			}
			p, err = a.s.CreateSubnetPool(r.Context(), p)
			return subnetPoolOf(p), err
		})},
		{Method: "GET", Path: base + "/{id}", Policy: []string{"get_subnetpool"}, View: subnetPoolView{}, Op: do("subnetpool", func(r *rest.Request) (any, error) {
			p, err := a.s.SubnetPool(r.Context(), r.Var("id"))
			return subnetPoolOf(p), err
		})},
		{Method: "PUT", Path: base + "/{id}", Policy: []string{"update_subnetpool"}, View: subnetPoolView{}, Op: change("subnetpool", func(r *rest.Request, b *subnetPoolBody) (any, error) {
			if b.Shared != nil {
				return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Cannot update read-only attribute shared")
			}
			p, err := a.s.UpdateSubnetPool(r.Context(), r.Var("id"), func(p *network.SubnetPool) error {
				have := p.Prefixes
				if err := b.apply(p); err != nil || b.Prefixes == nil {
					return err
				}
				// By this way a pool only grows; remove_prefixes is the other.
				for _, x := range have {
					if !slices.ContainsFunc(p.Prefixes, func(n netip.Prefix) bool { return n.Bits() <= x.Bits() && n.Overlaps(x) }) {
						return nacre.Errorf(nacre.Invalid, "IllegalSubnetPoolPrefixUpdate", "Illegal update to prefixes: Existing prefixes must be a subset of the new prefixes.")
					}
				}
				return nil
			})
			return subnetPoolOf(p), err
		})},
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{"delete_subnetpool"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteSubnetPool(r.Context(), r.Var("id"))
		})},
		{Method: "PUT", Path: base + "/{id}/add_prefixes", Policy: []string{"update_subnetpool"}, Op: a.poolPrefixes(true)},
		{Method: "PUT", Path: base + "/{id}/remove_prefixes", Policy: []string{"update_subnetpool"}, Op: a.poolPrefixes(false)},
	}
}

// poolPrefixes adds prefixes to a pool's, or takes them from it.
func (a *api) poolPrefixes(add bool) rest.Op {
	type body struct {
		Prefixes []string `json:"prefixes" valid:"required"`
	}
	return rest.In(func(r *rest.Request, b *body) (any, error) {
		in, err := parsePrefixes(b.Prefixes, "prefixes")
		if err != nil {
			return nil, err
		}
		p, err := a.s.UpdateSubnetPool(r.Context(), r.Var("id"), func(p *network.SubnetPool) error {
			if add {
				p.Prefixes = append(p.Prefixes, in...)
				return nil
			}
			p.Prefixes = network.WithoutPrefixes(p.Prefixes, in)
			return nil
		})
		out := []string{}
		for _, x := range p.Prefixes {
			out = append(out, x.String())
		}
		return map[string]any{"prefixes": out}, err
	})
}
