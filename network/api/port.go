package api

import (
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/network"
)

type portView struct {
	std
	NetworkID      string               `json:"network_id"`
	MAC            string               `json:"mac_address"`
	AdminUp        bool                 `json:"admin_state_up"`
	Status         string               `json:"status"`
	DeviceID       string               `json:"device_id"`
	DeviceOwner    string               `json:"device_owner"`
	FixedIPs       []network.FixedIP    `json:"fixed_ips"`
	SecurityGroups []string             `json:"security_groups"`
	PortSecurity   bool                 `json:"port_security_enabled"`
	Pairs          []pairView           `json:"allowed_address_pairs"`
	DHCPOptions    []network.DHCPOption `json:"extra_dhcp_opts"`
	VNICType       string               `json:"binding:vnic_type"`
	DNSName        string               `json:"dns_name"`
	DNSAssignment  []assignment         `json:"dns_assignment"`
	*binding
}

// binding is what only administrators see of a port.
type binding struct {
	Host    string         `json:"binding:host_id"`
	VIFType string         `json:"binding:vif_type"`
	Details map[string]any `json:"binding:vif_details"`
	Profile map[string]any `json:"binding:profile"`
	Trusted *bool          `json:"trusted"`
}

type pairView struct {
	Address string `json:"ip_address" valid:"required"`
	MAC     string `json:"mac_address" valid:"null"`
}

func (a *api) portView(p network.Port, admin bool) portView {
	v := portView{std: stdOf(p.Std), NetworkID: p.NetworkID, MAC: p.MAC, AdminUp: p.AdminUp, Status: p.Status, DeviceID: p.DeviceID, DeviceOwner: p.DeviceOwner, FixedIPs: p.FixedIPs,
		SecurityGroups: p.SecurityGroups, PortSecurity: p.PortSecurity, DHCPOptions: p.DHCPOptions, VNICType: p.VNICType, DNSName: p.DNSName, DNSAssignment: a.assignments(&p)}
	for _, x := range p.Pairs {
		pv := pairView(x)
		if pv.MAC == "" {
			pv.MAC = p.MAC
		}
		v.Pairs = append(v.Pairs, pv)
	}
	if admin {
		v.binding = &binding{Host: p.Host, Profile: p.BindingProfile()}
		v.VIFType, v.Details = vif(p.Host, p.BindingFailed)
		if t, ok := p.Profile["trusted"].(bool); ok {
			v.Trusted = &t
		}
	}
	return v
}

// vif is what a hypervisor must know of a port that is bound to a host.
func vif(host string, failed bool) (typ string, details map[string]any) {
	switch {
	case failed:
		return "binding_failed", map[string]any{}
	case host == "":
		return "unbound", map[string]any{}
	}
	return "bridge", map[string]any{"port_filter": true, "connectivity": "l2"}
}

type fixedIPBody struct {
	SubnetID string `json:"subnet_id" valid:"null,format=uuid"`
	Address  string `json:"ip_address" valid:"null"`
}

type optionBody struct {
	Name    string  `json:"opt_name" valid:"required,min=1,max=64"`
	Value   *string `json:"opt_value" valid:"null,max=255"`
	Version int     `json:"ip_version"`
}

type portBody struct {
	owner
	NetworkID      string                   `json:"network_id" valid:"format=uuid"`
	Name           *string                  `json:"name" valid:"max=255"`
	Description    *string                  `json:"description" valid:"max=255"`
	AdminUp        *bool                    `json:"admin_state_up"`
	MAC            *string                  `json:"mac_address" valid:"null"`
	DeviceID       *string                  `json:"device_id" valid:"null,max=255"`
	DeviceOwner    *string                  `json:"device_owner" valid:"null,max=255"`
	FixedIPs       *[]fixedIPBody           `json:"fixed_ips" valid:"null"`
	SecurityGroups *[]string                `json:"security_groups" valid:"null"`
	PortSecurity   *bool                    `json:"port_security_enabled"`
	Pairs          rest.Opt[[]pairView]     `json:"allowed_address_pairs" valid:"null"`
	DHCPOptions    *[]optionBody            `json:"extra_dhcp_opts" valid:"null"`
	Host           *string                  `json:"binding:host_id" valid:"null,max=255"`
	VNICType       *string                  `json:"binding:vnic_type" valid:"enum=normal|direct|macvtap|baremetal|direct-physical|virtio-forwarder|smart-nic|vdpa|accelerator-direct|accelerator-direct-physical|remote-managed"`
	Profile        rest.Opt[map[string]any] `json:"binding:profile" valid:"null"`
	Trusted        *bool                    `json:"trusted"`
	DNSName        *string                  `json:"dns_name"`
}

func (b *portBody) fixed() *[]network.FixedIP {
	if b.FixedIPs == nil {
		return nil
	}
	out := []network.FixedIP{}
	for _, f := range *b.FixedIPs {
		out = append(out, network.FixedIP(f))
	}
	return &out
}

func (b *portBody) pairs() *[]network.Pair {
	if !b.Pairs.Set {
		return nil
	}
	out := []network.Pair{}
	for _, p := range b.Pairs.Value {
		out = append(out, network.Pair{Address: p.Address, MAC: p.MAC})
	}
	return &out
}

// options merges the options of an update into those that a port has: a null
// value takes one away.
func (b *portBody) options(have []network.DHCPOption) *[]network.DHCPOption {
	if b.DHCPOptions == nil {
		return nil
	}
	out := append([]network.DHCPOption{}, have...)
	for _, o := range *b.DHCPOptions {
		version := o.Version
		if version == 0 {
			version = 4
		}
		kept := out[:0]
		for _, x := range out {
			if x.Name != o.Name || x.Version != version {
				kept = append(kept, x)
			}
		}
		out = kept
		if o.Value != nil {
			out = append(out, network.DHCPOption{Name: o.Name, Value: *o.Value, Version: version})
		}
	}
	return &out
}

func (a *api) createPort(r *rest.Request, b *portBody) (any, error) {
	project, err := b.project(r)
	if err != nil {
		return nil, err
	}
	if b.NetworkID == "" {
		return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Failed to parse request. Required attribute 'network_id' not specified")
	}
	in := network.NewPort{Port: network.Port{NetworkID: b.NetworkID, AdminUp: true}, PortSecurity: b.PortSecurity}
	in.ProjectID = project
	set(&in.Name, b.Name)
	set(&in.Description, b.Description)
	set(&in.AdminUp, b.AdminUp)
	set(&in.MAC, b.MAC)
	set(&in.DeviceID, b.DeviceID)
	set(&in.DeviceOwner, b.DeviceOwner)
	set(&in.Host, b.Host)
	set(&in.VNICType, b.VNICType)
	set(&in.Profile, b.Profile.Ptr())
	in.Trusted = b.Trusted
	if err := dnsName("dns_name", b.DNSName); err != nil {
		return nil, err
	}
	set(&in.DNSName, b.DNSName)
	set(&in.Pairs, b.pairs())
	set(&in.DHCPOptions, b.options(nil))
	set(&in.FixedIPs, b.fixed())
	set(&in.SecurityGroups, b.SecurityGroups)
	p, err := a.s.CreatePort(r.Context(), in)
	return a.portView(p, a.bindings(r)), err
}

func (a *api) bindings(r *rest.Request) bool {
	return a.s.Allowed(r.Context(), "get_port:binding:host_id")
}

func (a *api) portRoutes() []rest.Route {
	const base = "/v2.0/ports"
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_port"}, View: portView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ps, err := a.s.Ports(r.Context(), q)
			if err != nil {
				return nil, err
			}
			admin := a.bindings(r)
			return page(r, q, "ports", ps, func(p network.Port) string { return p.ID }, func(p network.Port) any { return a.portView(p, admin) })
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_port"}, View: portView{}, Op: create(a.s, "port", "ports", a.createPort)},
		{Method: "GET", Path: base + "/{id}", Policy: []string{"get_port"}, View: portView{}, Op: do("port", func(r *rest.Request) (any, error) {
			p, err := a.s.Port(r.Context(), r.Var("id"))
			return a.portView(p, a.bindings(r)), err
		})},
		{Method: "PUT", Path: base + "/{id}", Policy: []string{"update_port"}, View: portView{}, Op: change("port", func(r *rest.Request, b *portBody) (any, error) {
			if b.NetworkID != "" {
				return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Cannot update read-only attribute network_id")
			}
			if err := dnsName("dns_name", b.DNSName); err != nil {
				return nil, err
			}
			c := network.PortChange{Name: b.Name, Description: b.Description, DeviceID: b.DeviceID, DeviceOwner: b.DeviceOwner, MAC: b.MAC, Host: b.Host, VNICType: b.VNICType, AdminUp: b.AdminUp,
				DNSName: b.DNSName, PortSecurity: b.PortSecurity, FixedIPs: b.fixed(), SecurityGroups: b.SecurityGroups, Pairs: b.pairs(), Profile: b.Profile.Ptr(), Trusted: b.Trusted}
			if b.DHCPOptions != nil {
				old, err := a.s.Port(r.Context(), r.Var("id"))
				if err != nil {
					return nil, err
				}
				c.DHCPOptions = b.options(old.DHCPOptions)
			}
			p, err := a.s.UpdatePort(r.Context(), r.Var("id"), c)
			return a.portView(p, a.bindings(r)), err
		})},
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{"delete_port"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeletePort(r.Context(), r.Var("id"))
		})},
	}
}

type routerView struct {
	std
	AdminUp   bool         `json:"admin_state_up"`
	Status    string       `json:"status"`
	Gateway   *gatewayView `json:"external_gateway_info"`
	Routes    []routeView  `json:"routes"`
	ZoneHints []string     `json:"availability_zone_hints"`
	Zones     []string     `json:"availability_zones"`
	FlavorID  *string      `json:"flavor_id"`
	*routerAdmin
}

type routerAdmin struct {
	Distributed bool `json:"distributed"`
	HA          bool `json:"ha"`
}

type gatewayView struct {
	NetworkID string            `json:"network_id"`
	SNAT      bool              `json:"enable_snat"`
	FixedIPs  []network.FixedIP `json:"external_fixed_ips"`
}

func (a *api) routerView(r network.Router, gw map[string]network.Port, admin bool) routerView {
	v := routerView{std: stdOf(r.Std), AdminUp: r.AdminUp, Status: r.Status, Routes: routesOf(r.Routes), ZoneHints: []string{}, Zones: []string{"nova"}}
	if r.GatewayNetworkID != "" {
		v.Gateway = &gatewayView{r.GatewayNetworkID, r.SNAT, gw[r.ID].FixedIPs}
	}
	if admin {
		v.routerAdmin = &routerAdmin{}
	}
	return v
}

type gatewayBody struct {
	NetworkID string        `json:"network_id" valid:"format=uuid"`
	SNAT      *bool         `json:"enable_snat"`
	FixedIPs  []fixedIPBody `json:"external_fixed_ips"`
	QoS       *string       `json:"qos_policy_id" valid:"null"`
}

type routerBody struct {
	owner
	Name        *string               `json:"name" valid:"max=255"`
	Description *string               `json:"description" valid:"max=255"`
	AdminUp     *bool                 `json:"admin_state_up"`
	Gateway     rest.Opt[gatewayBody] `json:"external_gateway_info" valid:"null"`
	Routes      rest.Opt[[]routeView] `json:"routes" valid:"null"`
	Distributed *bool                 `json:"distributed" valid:"null"`
	HA          *bool                 `json:"ha" valid:"null"`
	ZoneHints   []string              `json:"availability_zone_hints"`
}

// gateway reads external_gateway_info: absent is nil, null and {} take it away.
func (b *routerBody) gateway(have string) (*network.GatewayChange, error) {
	if !b.Gateway.Set {
		return nil, nil
	}
	in := b.Gateway.Value
	if b.Gateway.Null || in.NetworkID == "" && in.SNAT == nil && in.FixedIPs == nil {
		return &network.GatewayChange{Clear: true}, nil
	}
	if in.NetworkID == "" {
		in.NetworkID = have
	}
	if in.NetworkID == "" {
		return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for external_gateway_info. Reason: Validation of dictionary's keys failed. Expected keys: {'network_id'}.")
	}
	gw := &network.GatewayChange{NetworkID: in.NetworkID, SNAT: in.SNAT}
	for _, f := range in.FixedIPs {
		gw.FixedIPs = append(gw.FixedIPs, network.FixedIP(f))
	}
	return gw, nil
}

func (b *routerBody) unserved() error {
	if b.Distributed != nil && *b.Distributed || b.HA != nil && *b.HA {
		return nacre.Errorf(nacre.Invalid, "BadRequest", "Bad router request: distributed and highly available routers are not served by this cloud's data plane.")
	}
	return nil
}

func (a *api) oneRouter(r *rest.Request, x network.Router, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	gw, err := a.s.GatewayPorts(r.Context(), x)
	return a.routerView(x, gw, a.admin(r)), err
}

func (a *api) routerRoutes() []rest.Route {
	const base = "/v2.0/routers"
	type legBody struct {
		Subnet string `json:"subnet_id"`
		Port   string `json:"port_id"`
	}
	type legView struct {
		ID        string   `json:"id"`
		TenantID  string   `json:"tenant_id"`
		ProjectID string   `json:"project_id"`
		PortID    string   `json:"port_id"`
		NetworkID string   `json:"network_id"`
		SubnetID  string   `json:"subnet_id"`
		SubnetIDs []string `json:"subnet_ids"`
	}
	leg := func(f func(r *rest.Request, b *legBody) (network.Interface, error)) rest.Op {
		return rest.In(func(r *rest.Request, b *legBody) (any, error) {
			i, err := f(r, b)
			return legView{i.RouterID, i.ProjectID, i.ProjectID, i.PortID, i.NetworkID, i.SubnetID, i.SubnetIDs}, err
		})
	}
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_router"}, View: routerView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			rs, err := a.s.Routers(r.Context(), q)
			if err != nil {
				return nil, err
			}
			gw, err := a.s.GatewayPorts(r.Context(), rs...)
			if err != nil {
				return nil, err
			}
			admin := a.admin(r)
			return page(r, q, "routers", rs, func(x network.Router) string { return x.ID }, func(x network.Router) any { return a.routerView(x, gw, admin) })
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_router"}, View: routerView{}, Op: create(a.s, "router", "routers", func(r *rest.Request, b *routerBody) (any, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, err
			}
			if err := b.unserved(); err != nil {
				return nil, err
			}
			gw, err := b.gateway("")
			if err != nil {
				return nil, err
			}
			x := network.Router{AdminUp: true}
			x.ProjectID = project
			set(&x.Name, b.Name)
			set(&x.Description, b.Description)
			set(&x.AdminUp, b.AdminUp)
			x, err = a.s.CreateRouter(r.Context(), x, gw)
			v, err := a.oneRouter(r, x, err)
			return v, err
		})},
		{Method: "GET", Path: base + "/{id}", Policy: []string{"get_router"}, View: routerView{}, Op: do("router", func(r *rest.Request) (any, error) {
			x, err := a.s.Router(r.Context(), r.Var("id"))
			return a.oneRouter(r, x, err)
		})},
		{Method: "PUT", Path: base + "/{id}", Policy: []string{"update_router"}, View: routerView{}, Op: change("router", func(r *rest.Request, b *routerBody) (any, error) {
			if err := b.unserved(); err != nil {
				return nil, err
			}
			old, err := a.s.Router(r.Context(), r.Var("id"))
			if err != nil {
				return nil, err
			}
			c := network.RouterChange{Name: b.Name, Description: b.Description, AdminUp: b.AdminUp}
			if c.Gateway, err = b.gateway(old.GatewayNetworkID); err != nil {
				return nil, err
			}
			if b.Routes.Set { // null is none, as in neutron
				routes, err := parseRoutes(b.Routes.Value, "routes")
				if err != nil {
					return nil, err
				}
				c.Routes = &routes
			}
			x, err := a.s.UpdateRouter(r.Context(), old.ID, c)
			return a.oneRouter(r, x, err)
		})},
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{"delete_router"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteRouter(r.Context(), r.Var("id"))
		})},
		{Method: "PUT", Path: base + "/{id}/add_router_interface", Policy: []string{"add_router_interface"}, Op: leg(func(r *rest.Request, b *legBody) (network.Interface, error) {
			return a.s.AddInterface(r.Context(), r.Var("id"), b.Subnet, b.Port)
		})},
		{Method: "PUT", Path: base + "/{id}/remove_router_interface", Policy: []string{"remove_router_interface"}, Op: leg(func(r *rest.Request, b *legBody) (network.Interface, error) {
			return a.s.RemoveInterface(r.Context(), r.Var("id"), b.Subnet, b.Port)
		})},
		{Method: "PUT", Path: base + "/{id}/add_extraroutes", Policy: []string{"update_router"}, Op: a.extraRoutes(true)},
		{Method: "PUT", Path: base + "/{id}/remove_extraroutes", Policy: []string{"update_router"}, Op: a.extraRoutes(false)},
	}
}

// extraRoutes adds routes to, or takes them from, those that a router has.
func (a *api) extraRoutes(add bool) rest.Op {
	type body struct {
		Routes []routeView `json:"routes" valid:"required"`
	}
	return change("router", func(r *rest.Request, b *body) (any, error) {
		old, err := a.s.Router(r.Context(), r.Var("id"))
		if err != nil {
			return nil, err
		}
		in, err := parseRoutes(b.Routes, "routes")
		if err != nil {
			return nil, err
		}
		routes := []network.Route{}
		named := map[network.Route]bool{}
		for _, x := range in {
			named[x] = true
		}
		for _, x := range old.Routes {
			if !named[x] {
				routes = append(routes, x)
			}
		}
		if add {
			routes = append(routes, in...)
		}
		x, err := a.s.UpdateRouter(r.Context(), old.ID, network.RouterChange{Routes: &routes})
		return a.oneRouter(r, x, err)
	})
}

type floatingIPView struct {
	std
	Address   string       `json:"floating_ip_address"`
	NetworkID string       `json:"floating_network_id"`
	PortID    *string      `json:"port_id"`
	FixedIP   *string      `json:"fixed_ip_address"`
	RouterID  *string      `json:"router_id"`
	Status    string       `json:"status"`
	Details   *portDetails `json:"port_details"`
	DNSName   string       `json:"dns_name"`
	DNSDomain string       `json:"dns_domain"`
}

type portDetails struct {
	Name        string `json:"name"`
	NetworkID   string `json:"network_id"`
	MAC         string `json:"mac_address"`
	AdminUp     bool   `json:"admin_state_up"`
	Status      string `json:"status"`
	DeviceID    string `json:"device_id"`
	DeviceOwner string `json:"device_owner"`
}

func floatingIPOf(f network.FloatingIP, ports map[string]network.Port) floatingIPView {
	v := floatingIPView{std: stdOf(f.Std), Address: f.Address, NetworkID: f.NetworkID, PortID: null(f.PortID), FixedIP: null(f.FixedIP), RouterID: null(f.RouterID), Status: f.Status, DNSName: f.DNSName, DNSDomain: f.DNSDomain}
	if p, ok := ports[f.PortID]; ok {
		v.Details = &portDetails{p.Name, p.NetworkID, p.MAC, p.AdminUp, p.Status, p.DeviceID, p.DeviceOwner}
	}
	return v
}

type floatingIPBody struct {
	owner
	NetworkID   string           `json:"floating_network_id" valid:"format=uuid"`
	Address     string           `json:"floating_ip_address" valid:"null"`
	SubnetID    string           `json:"subnet_id" valid:"null"`
	PortID      rest.Opt[string] `json:"port_id" valid:"null"`
	FixedIP     rest.Opt[string] `json:"fixed_ip_address" valid:"null"`
	DNSName     *string          `json:"dns_name"`
	DNSDomain   *string          `json:"dns_domain"`
	Description *string          `json:"description" valid:"max=255"`
}

func (a *api) oneFloatingIP(r *rest.Request, f network.FloatingIP, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	ports, err := a.s.FloatingIPPorts(r.Context(), f)
	return floatingIPOf(f, ports), err
}

func (a *api) floatingIPRoutes() []rest.Route {
	const base = "/v2.0/floatingips"
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_floatingip"}, View: floatingIPView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			fs, err := a.s.FloatingIPs(r.Context(), q)
			if err != nil {
				return nil, err
			}
			ports, err := a.s.FloatingIPPorts(r.Context(), fs...)
			if err != nil {
				return nil, err
			}
			return page(r, q, "floatingips", fs, func(f network.FloatingIP) string { return f.ID }, func(f network.FloatingIP) any { return floatingIPOf(f, ports) })
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_floatingip"}, View: floatingIPView{}, Op: create(a.s, "floatingip", "floatingips", func(r *rest.Request, b *floatingIPBody) (any, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, err
			}
			if b.NetworkID == "" {
				return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Failed to parse request. Required attribute 'floating_network_id' not specified")
			}
			f := network.FloatingIP{NetworkID: b.NetworkID, Address: b.Address, PortID: b.PortID.Value, FixedIP: b.FixedIP.Value}
			f.ProjectID = project
			if err := errors.Join(dnsName("dns_name", b.DNSName), dnsName("dns_domain", b.DNSDomain)); err != nil {
				return nil, err
			}
			set(&f.Description, b.Description)
			set(&f.DNSName, b.DNSName)
			set(&f.DNSDomain, b.DNSDomain)
			f, err = a.s.CreateFloatingIP(r.Context(), f, b.SubnetID)
			v, err := a.oneFloatingIP(r, f, err)
			return v, err
		})},
		{Method: "GET", Path: base + "/{id}", Policy: []string{"get_floatingip"}, View: floatingIPView{}, Op: do("floatingip", func(r *rest.Request) (any, error) {
			f, err := a.s.FloatingIP(r.Context(), r.Var("id"))
			return a.oneFloatingIP(r, f, err)
		})},
		{Method: "PUT", Path: base + "/{id}", Policy: []string{"update_floatingip"}, View: floatingIPView{}, Op: change("floatingip", func(r *rest.Request, b *floatingIPBody) (any, error) {
			if b.DNSName != nil || b.DNSDomain != nil {
				return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Cannot update read-only attribute dns_name")
			}
			if b.NetworkID != "" || b.Address != "" {
				return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Cannot update read-only attribute floating_network_id")
			}
			f, err := a.s.UpdateFloatingIP(r.Context(), r.Var("id"), network.FloatingIPChange{PortID: b.PortID.Ptr(), FixedIP: b.FixedIP.Ptr(), Description: b.Description})
			return a.oneFloatingIP(r, f, err)
		})},
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{"delete_floatingip"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteFloatingIP(r.Context(), r.Var("id"))
		})},
	}
}
