package api

import (
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type flavorView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	RAM         int               `json:"ram"`
	Disk        int               `json:"disk"`
	Swap        any               `json:"swap"`
	Ephemeral   int               `json:"OS-FLV-EXT-DATA:ephemeral"`
	Disabled    bool              `json:"OS-FLV-DISABLED:disabled"`
	VCPUs       int               `json:"vcpus"`
	Public      bool              `json:"os-flavor-access:is_public"`
	RXTX        float64           `json:"rxtx_factor"`
	Links       []link            `json:"links"`
	Description *string           `json:"description" since:"2.55"`
	ExtraSpecs  map[string]string `json:"extra_specs" since:"2.61"`
}

type flavorShort struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Links       []link  `json:"links"`
	Description *string `json:"description" since:"2.55"`
}

func flavorOf(r *rest.Request, f compute.Flavor) flavorView {
	v := flavorView{ID: f.ID, Name: f.Name, RAM: f.RAM, Disk: f.Disk, Swap: f.Swap, Ephemeral: f.Ephemeral, Disabled: f.Disabled, VCPUs: f.VCPUs, Public: f.Public, RXTX: f.RXTXFactor,
		Links: links(r, "flavors/"+f.ID), Description: null(f.Description), ExtraSpecs: f.ExtraSpecs}
	if f.Swap == 0 && r.Version < rest.V("2.75") {
		v.Swap = ""
	}
	if v.ExtraSpecs == nil {
		v.ExtraSpecs = map[string]string{}
	}
	return v
}

type flavorCreate struct {
	Flavor struct {
		Name        string           `json:"name" valid:"required,lax,min=1,max=255"`
		ID          rest.Opt[string] `json:"id" valid:"null,lax,min=1,max=255"`
		RAM         int              `json:"ram" valid:"required,lax,min=1,max=2147483647"`
		VCPUs       int              `json:"vcpus" valid:"required,lax,min=1,max=2147483647"`
		Disk        int              `json:"disk" valid:"required,lax,min=0,max=2147483647"`
		Swap        any              `json:"swap"`
		Ephemeral   int              `json:"OS-FLV-EXT-DATA:ephemeral" valid:"lax,min=0,max=2147483647"`
		RXTX        float64          `json:"rxtx_factor" valid:"lax,null,min=0"`
		Public      *bool            `json:"os-flavor-access:is_public" valid:"lax"`
		Description rest.Opt[string] `json:"description" since:"2.55" valid:"null,max=65535"`
	} `json:"flavor" valid:"required"`
}

func (a *api) createFlavor(r *rest.Request, b *flavorCreate) (any, error) {
	in := b.Flavor
	f := compute.Flavor{ID: in.ID.Value, Name: strings.TrimSpace(in.Name), RAM: in.RAM, VCPUs: in.VCPUs, Disk: in.Disk, Ephemeral: in.Ephemeral, RXTXFactor: in.RXTX, Public: in.Public == nil || *in.Public, Description: in.Description.Value}
	switch v := in.Swap.(type) {
	case nil:
	case int64:
		f.Swap = int(v)
	case string:
		n, err := strconv.Atoi(v)
		if err != nil && v != "" {
			return nil, bad("Invalid input for field/attribute swap. Value: %s. '%s' is not of type 'integer'", v, v)
		}
		f.Swap = n
	default:
		return nil, bad("Invalid input for field/attribute swap. Value: %v. %s is not of type 'integer'", v, rest.PyRepr(v))
	}
	if f.Swap < 0 {
		return nil, bad("Invalid input for field/attribute swap. Value: %d. %d is less than the minimum of 0", f.Swap, f.Swap)
	}
	if f.Name == "" {
		return nil, bad("Invalid input for field/attribute name. Value: %s. a name of spaces only is not allowed", in.Name)
	}
	f, err := a.s.CreateFlavor(r.Context(), f)
	if err != nil {
		return nil, err
	}
	return map[string]flavorView{"flavor": flavorOf(r, f)}, nil
}

func (a *api) listFlavors(r *rest.Request, detail bool) (any, error) {
	q, err := r.Query(strictQuery(r, 1000, "2.75", "is_public", "minRam", "minDisk"))
	if err != nil {
		return nil, err
	}
	fs, err := a.s.Flavors(r.Context(), q)
	if err != nil {
		return nil, err
	}
	more := next(r, len(fs), q.Limit, func() string { return fs[len(fs)-1].ID })
	if detail {
		out := make([]flavorView, len(fs))
		for i, f := range fs {
			out[i] = flavorOf(r, f)
		}
		return struct {
			Flavors []flavorView `json:"flavors"`
			Links   []link       `json:"flavors_links,omitempty"`
		}{out, more}, nil
	}
	out := make([]flavorShort, len(fs))
	for i, f := range fs {
		out[i] = flavorShort{f.ID, f.Name, links(r, "flavors/"+f.ID), null(f.Description)}
	}
	return struct {
		Flavors []flavorShort `json:"flavors"`
		Links   []link        `json:"flavors_links,omitempty"`
	}{out, more}, nil
}

func (a *api) flavorRoutes() []rest.Route {
	const one = "/v2.1/flavors/{id}"
	type update struct {
		Flavor struct {
			Description rest.Opt[string] `json:"description" valid:"required,null,max=65535"`
		} `json:"flavor" valid:"required"`
	}
	type access struct {
		Flavor string `json:"flavor_id"`
		Tenant string `json:"tenant_id"`
	}
	accessView := func(id string, ps []string) any {
		out := make([]access, len(ps))
		for i, p := range ps {
			out[i] = access{id, p}
		}
		return map[string]any{"flavor_access": out}
	}
	type tenant struct {
		Tenant string `json:"tenant" valid:"required,min=1,max=255"`
	}
	type add struct {
		Add tenant `json:"addTenantAccess" valid:"required"`
	}
	type remove struct {
		Remove tenant `json:"removeTenantAccess" valid:"required"`
	}
	return append([]rest.Route{
		{Method: "GET", Path: "/v2.1/flavors", View: flavorShort{}, Op: rest.Do(func(r *rest.Request) (any, error) { return a.listFlavors(r, false) })},
		{Method: "GET", Path: "/v2.1/flavors/detail", View: flavorView{}, Op: rest.Do(func(r *rest.Request) (any, error) { return a.listFlavors(r, true) })},
		{Method: "POST", Path: "/v2.1/flavors", Policy: []string{"os_compute_api:os-flavor-manage:create"}, View: flavorView{}, Op: rest.In(a.createFlavor)},
		{Method: "GET", Path: one, View: flavorView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			f, err := a.s.Flavor(r.Context(), r.Var("id"))
			return map[string]flavorView{"flavor": flavorOf(r, f)}, err
		})},
		{Method: "PUT", Path: one, Min: "2.55", Policy: []string{"os_compute_api:os-flavor-manage:update"}, View: flavorView{}, Op: rest.In(func(r *rest.Request, b *update) (any, error) {
			f, err := a.s.UpdateFlavor(r.Context(), r.Var("id"), b.Flavor.Description.Value)
			return map[string]flavorView{"flavor": flavorOf(r, f)}, err
		})},
		{Method: "DELETE", Path: one, Status: 202, Policy: []string{"os_compute_api:os-flavor-manage:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteFlavor(r.Context(), r.Var("id"))
		})},
		{Method: "GET", Path: one + "/os-flavor-access", Policy: []string{"os_compute_api:os-flavor-access"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			ps, err := a.s.FlavorProjects(r.Context(), r.Var("id"))
			return accessView(r.Var("id"), ps), err
		})},
		{Method: "POST", Path: one + "/action", Action: "addTenantAccess", Policy: []string{"os_compute_api:os-flavor-access:add_tenant_access"}, Op: rest.In(func(r *rest.Request, b *add) (any, error) {
			ps, err := a.s.SetFlavorAccess(r.Context(), r.Var("id"), b.Add.Tenant, true)
			return accessView(r.Var("id"), ps), err
		})},
		{Method: "POST", Path: one + "/action", Action: "removeTenantAccess", Policy: []string{"os_compute_api:os-flavor-access:remove_tenant_access"}, Op: rest.In(func(r *rest.Request, b *remove) (any, error) {
			ps, err := a.s.SetFlavorAccess(r.Context(), r.Var("id"), b.Remove.Tenant, false)
			return accessView(r.Var("id"), ps), err
		})},
	}, a.extraSpecRoutes(one+"/os-extra_specs")...)
}

func (a *api) extraSpecRoutes(base string) []rest.Route {
	type body struct {
		Specs map[string]string `json:"extra_specs" valid:"required,lax"`
	}
	const rule = "os_compute_api:os-flavor-extra-specs:"
	read := func(r *rest.Request, op string) (compute.Flavor, error) {
		f, err := a.s.Flavor(r.Context(), r.Var("id"))
		if err == nil {
			err = a.s.MayReadExtraSpecs(r.Context(), rule+op)
		}
		return f, err
	}
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{rule + "index"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			f, err := read(r, "index")
			return body{f.ExtraSpecs}, err
		})},
		{Method: "POST", Path: base, Policy: []string{rule + "create"}, Op: rest.In(func(r *rest.Request, b *body) (any, error) {
			for k := range b.Specs {
				if k == "" || len(k) > 255 {
					return nil, bad("Key Names can only contain alphanumeric characters, periods, dashes, underscores, colons and spaces.")
				}
			}
			_, err := a.s.SetExtraSpecs(r.Context(), r.Var("id"), b.Specs, rule+"create")
			return b, err
		})},
		{Method: "GET", Path: base + "/{key}", Policy: []string{rule + "show"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			f, err := read(r, "show")
			if err != nil {
				return nil, err
			}
			v, ok := f.ExtraSpecs[r.Var("key")]
			if !ok {
				return nil, nacre.Errorf(nacre.NotFound, "", "Flavor %s has no extra specs with key %s.", f.ID, r.Var("key"))
			}
			return map[string]string{r.Var("key"): v}, nil
		})},
		{Method: "PUT", Path: base + "/{key}", Policy: []string{rule + "update"}, Op: rest.In(func(r *rest.Request, b *map[string]string) (any, error) {
			if _, ok := (*b)[r.Var("key")]; !ok || len(*b) != 1 {
				return nil, bad("Request body and URI mismatch")
			}
			_, err := a.s.SetExtraSpecs(r.Context(), r.Var("id"), *b, rule+"update")
			return b, err
		})},
		{Method: "DELETE", Path: base + "/{key}", Status: 200, Policy: []string{rule + "delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteExtraSpec(r.Context(), r.Var("id"), r.Var("key"))
		})},
	}
}
