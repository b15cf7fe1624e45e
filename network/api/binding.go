package api

import (
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/network"
)

type bindingView struct {
	Host     string         `json:"host"`
	VIFType  string         `json:"vif_type"`
	Details  map[string]any `json:"vif_details"`
	VNICType string         `json:"vnic_type"`
	Profile  map[string]any `json:"profile"`
	Status   string         `json:"status"`
}

func bindingViewOf(b network.Binding) bindingView {
	v := bindingView{Host: b.Host, VNICType: b.VNICType, Profile: b.Profile, Status: "INACTIVE"}
	v.VIFType, v.Details = vif(b.Host, b.Failed)
	if b.Active {
		v.Status = "ACTIVE"
	}
	if v.Profile == nil {
		v.Profile = map[string]any{}
	}
	return v
}

type bindingBody struct {
	owner
	Host     string                   `json:"host" valid:"max=255"`
	VNICType *string                  `json:"vnic_type" valid:"enum=normal|direct|macvtap|baremetal|direct-physical|virtio-forwarder|smart-nic|vdpa|accelerator-direct|accelerator-direct-physical|remote-managed"`
	Profile  rest.Opt[map[string]any] `json:"profile" valid:"null"`
}

// bindingRoutes are neutron's binding-extended: a port's bindings to several hosts.
func (a *api) bindingRoutes() []rest.Route {
	const base = "/v2.0/ports/{id}/bindings"
	one := func(f func(r *rest.Request) (network.Binding, error)) rest.Op {
		return do("binding", func(r *rest.Request) (any, error) {
			b, err := f(r)
			return bindingViewOf(b), err
		})
	}
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_port_binding"}, View: bindingView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			bs, err := a.s.PortBindings(r.Context(), r.Var("id"))
			if err != nil {
				return nil, err
			}
			want := func(name, have string) bool {
				vals := r.URL.Query()[name]
				for _, v := range vals {
					if v == have {
						return true
					}
				}
				return len(vals) == 0
			}
			kept := bs[:0]
			for _, b := range bs {
				if v := bindingViewOf(b); want("host", v.Host) && want("status", v.Status) && want("vif_type", v.VIFType) && want("vnic_type", v.VNICType) {
					kept = append(kept, b)
				}
			}
			q.Limit = 0 // they are few, and have no ids to page by
			return page(r, q, "bindings", kept, func(b network.Binding) string { return b.Host }, func(b network.Binding) any { return bindingViewOf(b) })
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_port_binding"}, View: bindingView{}, Op: change("binding", func(r *rest.Request, b *bindingBody) (any, error) {
			in := network.Binding{Host: b.Host}
			set(&in.VNICType, b.VNICType)
			set(&in.Profile, b.Profile.Ptr())
			out, err := a.s.CreatePortBinding(r.Context(), r.Var("id"), in)
			return bindingViewOf(out), err
		})},
		{Method: "GET", Path: base + "/{host}", Policy: []string{"get_port_binding"}, View: bindingView{}, Op: one(func(r *rest.Request) (network.Binding, error) {
			return a.s.PortBinding(r.Context(), r.Var("id"), r.Var("host"))
		})},
		{Method: "PUT", Path: base + "/{host}", Policy: []string{"create_port_binding"}, View: bindingView{}, Op: change("binding", func(r *rest.Request, b *bindingBody) (any, error) {
			out, err := a.s.UpdatePortBinding(r.Context(), r.Var("id"), r.Var("host"), network.BindingChange{VNICType: b.VNICType, Profile: b.Profile.Ptr()})
			return bindingViewOf(out), err
		})},
		{Method: "PUT", Path: base + "/{host}/activate", Policy: []string{"activate"}, View: bindingView{}, Op: one(func(r *rest.Request) (network.Binding, error) {
			return a.s.ActivatePortBinding(r.Context(), r.Var("id"), r.Var("host"))
		})},
		{Method: "DELETE", Path: base + "/{host}", Policy: []string{"delete_port_binding"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeletePortBinding(r.Context(), r.Var("id"), r.Var("host"))
		})},
	}
}
