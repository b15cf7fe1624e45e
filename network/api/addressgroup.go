package api

import (
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/network"
)

// addressGroupView has neither tags nor times.
type addressGroupView struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	ProjectID   string   `json:"project_id"`
	TenantID    string   `json:"tenant_id"`
	Addresses   []string `json:"addresses"`
	Shared      bool     `json:"shared"`
	Revision    int      `json:"revision_number"`
}

func addressGroupOf(g network.AddressGroup) any {
	v := addressGroupView{ID: g.ID, Name: g.Name, Description: g.Description, ProjectID: g.ProjectID, TenantID: g.ProjectID, Addresses: []string{}, Revision: g.Revision}
	for _, p := range g.Addresses {
		v.Addresses = append(v.Addresses, p.String())
	}
	return v
}

type addressGroupBody struct {
	owner
	Name        *string  `json:"name" valid:"max=255"`
	Description *string  `json:"description" valid:"max=255"`
	Addresses   []string `json:"addresses" valid:"null"`
}

func (a *api) addressGroupRoutes() []rest.Route {
	const base = "/v2.0/address-groups"
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_address_group"}, View: addressGroupView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			gs, err := a.s.AddressGroups(r.Context(), q)
			if err != nil {
				return nil, err
			}
			return page(r, q, "address_groups", gs, func(g network.AddressGroup) string { return g.ID }, addressGroupOf)
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_address_group"}, View: addressGroupView{}, Op: create(a.s, "address_group", "address_groups", func(r *rest.Request, b *addressGroupBody) (any, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, err
			}
			g := network.AddressGroup{}
			g.ProjectID = project
			set(&g.Name, b.Name)
			set(&g.Description, b.Description)
			if g.Addresses, err = parsePrefixes(b.Addresses, "addresses"); err != nil {
				return nil, err
			}
			g, err = a.s.CreateAddressGroup(r.Context(), g)
			return addressGroupOf(g), err
		})},
		{Method: "GET", Path: base + "/{id}", Policy: []string{"get_address_group"}, View: addressGroupView{}, Op: do("address_group", func(r *rest.Request) (any, error) {
			g, err := a.s.AddressGroup(r.Context(), r.Var("id"))
			return addressGroupOf(g), err
		})},
		{Method: "PUT", Path: base + "/{id}", Policy: []string{"update_address_group"}, View: addressGroupView{}, Op: change("address_group", func(r *rest.Request, b *addressGroupBody) (any, error) {
			if b.Addresses != nil {
				return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Cannot update read-only attribute addresses")
			}
			g, err := a.s.UpdateAddressGroup(r.Context(), r.Var("id"), func(g *network.AddressGroup) error {
				set(&g.Name, b.Name)
				set(&g.Description, b.Description)
				return nil
			})
			return addressGroupOf(g), err
		})},
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{"delete_address_group"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteAddressGroup(r.Context(), r.Var("id"))
		})},
		{Method: "PUT", Path: base + "/{id}/add_addresses", Policy: []string{"update_address_group"}, View: addressGroupView{}, Op: a.groupAddresses(true)},
		{Method: "PUT", Path: base + "/{id}/remove_addresses", Policy: []string{"update_address_group"}, View: addressGroupView{}, Op: a.groupAddresses(false)},
	}
}

// groupAddresses adds ranges to an address group's, or takes them from it.
func (a *api) groupAddresses(add bool) rest.Op {
	type body struct {
		Addresses []string `json:"addresses" valid:"required"`
	}
	return rest.In(func(r *rest.Request, b *body) (any, error) {
		in, err := parsePrefixes(b.Addresses, "addresses")
		if err != nil {
			return nil, err
		}
		g, err := a.s.UpdateAddressGroup(r.Context(), r.Var("id"), func(g *network.AddressGroup) error {
			if add {
				g.Addresses = append(g.Addresses, in...)
				return nil
			}
			g.Addresses = slices.DeleteFunc(g.Addresses, func(p netip.Prefix) bool { return slices.Contains(in, p) })
			return nil
		})
		return map[string]any{"address_group": addressGroupOf(g)}, err
	})
}
