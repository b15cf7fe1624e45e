package api

import (
	"net/netip"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/network"
)

type networkView struct {
	std
	AdminUp      bool     `json:"admin_state_up"`
	Status       string   `json:"status"`
	Shared       bool     `json:"shared"`
	External     bool     `json:"router:external"`
	Default      *bool    `json:"is_default,omitempty"`
	MTU          int      `json:"mtu"`
	PortSecurity bool     `json:"port_security_enabled"`
	Subnets      []string `json:"subnets"`
	DNSDomain    string   `json:"dns_domain"`
	ZoneHints    []string `json:"availability_zone_hints"`
	Zones        []string `json:"availability_zones"`
	IPv4Scope    *string  `json:"ipv4_address_scope"`
	IPv6Scope    *string  `json:"ipv6_address_scope"`
	*provider
}

// provider is what only administrators see of a network.
type provider struct {
	Type     string  `json:"provider:network_type"`
	Physical *string `json:"provider:physical_network"`
	Segment  *int    `json:"provider:segmentation_id"`
}

func (a *api) networkView(n network.Network, subnets []string, admin bool) networkView {
	v := networkView{std: stdOf(n.Std), AdminUp: n.AdminUp, Status: n.Status, Shared: n.Shared, External: n.External, MTU: n.MTU, PortSecurity: n.PortSecurity, Subnets: subnets, DNSDomain: n.DNSDomain,
		ZoneHints: []string{}, Zones: []string{"nova"}}
	if n.External {
		v.Default = &n.Default
	}
	if admin {
		v.provider = &provider{Type: n.Type, Physical: null(n.Physical)}
		if n.Segment != 0 {
			v.Segment = &n.Segment
		}
	}
	return v
}

type networkBody struct {
	owner
	Name         *string  `json:"name" valid:"max=255"`
	Description  *string  `json:"description" valid:"max=255"`
	AdminUp      *bool    `json:"admin_state_up"`
	Shared       *bool    `json:"shared"`
	External     *bool    `json:"router:external"`
	Default      *bool    `json:"is_default"`
	MTU          *int     `json:"mtu" valid:"min=0"`
	PortSecurity *bool    `json:"port_security_enabled"`
	DNSDomain    *string  `json:"dns_domain" valid:"max=255"`
	Type         *string  `json:"provider:network_type" valid:"null"`
	Physical     *string  `json:"provider:physical_network" valid:"null"`
	Segment      *int     `json:"provider:segmentation_id" valid:"null"`
	ZoneHints    []string `json:"availability_zone_hints"`
	// Segments is the other way to give the provider attributes; one is served.
	Segments *[]segmentBody `json:"segments" valid:"null"`
}

type segmentBody struct {
	Type     *string `json:"provider:network_type" valid:"null"`
	Physical *string `json:"provider:physical_network" valid:"null"`
	Segment  *int    `json:"provider:segmentation_id" valid:"null"`
}

// segment turns a list of one segment into the provider attributes.
func (b *networkBody) segment() error {
	if b.Segments == nil || len(*b.Segments) == 0 {
		return nil
	}
	if b.Type != nil || b.Physical != nil || b.Segment != nil {
		return nacre.Errorf(nacre.Invalid, "SegmentsSetInConjunctionWithProviders", "Segments and provider values cannot both be set.")
	}
	if len(*b.Segments) > 1 {
		return nacre.Errorf(nacre.Invalid, "InvalidInput", "Invalid input for operation: networks of several segments are not served by this cloud.")
	}
	one := (*b.Segments)[0]
	b.Type, b.Physical, b.Segment = one.Type, one.Physical, one.Segment
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (b *networkBody) apply(n *network.Network) {
	set(&n.Name, b.Name)
	set(&n.Description, b.Description)
	set(&n.AdminUp, b.AdminUp)
	set(&n.Shared, b.Shared)
	set(&n.External, b.External)
	set(&n.Default, b.Default)
	set(&n.MTU, b.MTU)
	set(&n.PortSecurity, b.PortSecurity)
	set(&n.DNSDomain, b.DNSDomain)
	set(&n.Type, b.Type)
	set(&n.Physical, b.Physical)
	set(&n.Segment, b.Segment)
}

func (a *api) admin(r *rest.Request) bool {
	return a.s.Allowed(r.Context(), "get_network:provider:network_type")
}

func (a *api) networkRoutes() []rest.Route {
	const base = "/v2.0/networks"
	one := func(r *rest.Request, n network.Network, err error) (any, error) {
		if err != nil {
			return nil, err
		}
		subs, err := a.s.NetworkSubnets(r.Context(), n)
		return a.networkView(n, subs, a.admin(r)), err
	}
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_network"}, View: networkView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ns, subs, err := a.s.Networks(r.Context(), q)
			if err != nil {
				return nil, err
			}
			admin := a.admin(r)
			return page(r, q, "networks", ns, func(n network.Network) string { return n.ID }, func(n network.Network) any { return a.networkView(n, subs[n.ID], admin) })
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_network"}, View: networkView{}, Op: create(a.s, "network", "networks", func(r *rest.Request, b *networkBody) (any, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, err
			}
			if err := b.segment(); err != nil {
				return nil, err
			}
			n := network.Network{AdminUp: true, PortSecurity: true}
			n.ProjectID = project
			b.apply(&n)
			n, err = a.s.CreateNetwork(r.Context(), n)
			return a.networkView(n, nil, a.admin(r)), err
		})},
		{Method: "GET", Path: base + "/{id}", Policy: []string{"get_network"}, View: networkView{}, Op: do("network", func(r *rest.Request) (any, error) {
			n, err := a.s.Network(r.Context(), r.Var("id"))
			return one(r, n, err)
		})},
		{Method: "PUT", Path: base + "/{id}", Policy: []string{"update_network"}, View: networkView{}, Op: change("network", func(r *rest.Request, b *networkBody) (any, error) {
			if err := b.segment(); err != nil {
				return nil, err
			}
			n, err := a.s.UpdateNetwork(r.Context(), r.Var("id"), func(n *network.Network) error { b.apply(n); return nil })
			return one(r, n, err)
		})},
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{"delete_network"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteNetwork(r.Context(), r.Var("id"))
		})},
	}
}

type poolView struct {
	Start string `json:"start" valid:"required"`
	End   string `json:"end" valid:"required"`
}

type routeView struct {
	Destination string `json:"destination" valid:"required"`
	NextHop     string `json:"nexthop" valid:"required"`
}

type subnetView struct {
	std
	NetworkID    string      `json:"network_id"`
	CIDR         string      `json:"cidr"`
	IPVersion    int         `json:"ip_version"`
	Gateway      *string     `json:"gateway_ip"`
	Pools        []poolView  `json:"allocation_pools"`
	DNS          []string    `json:"dns_nameservers"`
	Routes       []routeView `json:"host_routes"`
	DHCP         bool        `json:"enable_dhcp"`
	RAMode       *string     `json:"ipv6_ra_mode"`
	AddressMode  *string     `json:"ipv6_address_mode"`
	SubnetPool   *string     `json:"subnetpool_id"`
	ServiceTypes []string    `json:"service_types"`
	DNSFixed     bool        `json:"dns_publish_fixed_ip"`
	SegmentID    *string     `json:"segment_id"`
}

func subnetOf(s network.Subnet) any {
	v := subnetView{std: stdOf(s.Std), NetworkID: s.NetworkID, CIDR: s.CIDR, IPVersion: s.IPVersion, Gateway: null(s.Gateway), DNS: s.DNS, DHCP: s.DHCP, RAMode: null(s.RAMode), AddressMode: null(s.AddressMode), SubnetPool: null(s.SubnetPoolID), ServiceTypes: s.ServiceTypes}
	for _, p := range s.Pools {
		v.Pools = append(v.Pools, poolView{p.Start.String(), p.End.String()})
	}
	v.Routes = routesOf(s.Routes)
	return v
}

func routesOf(in []network.Route) []routeView {
	out := []routeView{}
	for _, r := range in {
		out = append(out, routeView{r.Destination.String(), r.NextHop.String()})
	}
	return out
}

func parseRoutes(in []routeView, what string) ([]network.Route, error) {
	out := []network.Route{}
	for _, r := range in {
		d, err := netip.ParsePrefix(r.Destination)
		if err != nil {
			return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: '%s' is not a valid CIDR.", what, r.Destination)
		}
		n, err := netip.ParseAddr(r.NextHop)
		if err != nil {
			return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for %s. Reason: '%s' is not a valid IP address.", what, r.NextHop)
		}
		out = append(out, network.Route{Destination: d.Masked(), NextHop: n})
	}
	return out, nil
}

func parsePools(in []poolView) ([]network.Pool, error) {
	out := []network.Pool{}
	for _, p := range in {
		start, err := netip.ParseAddr(p.Start)
		if err == nil {
			var end netip.Addr
			if end, err = netip.ParseAddr(p.End); err == nil {
				out = append(out, network.Pool{Start: start, End: end})
			}
		}
		if err != nil {
			return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for allocation_pools. Reason: Invalid data format for IP pool: '%s-%s'.", p.Start, p.End)
		}
	}
	return out, nil
}

type subnetBody struct {
	owner
	NetworkID    string                `json:"network_id" valid:"format=uuid"`
	Name         *string               `json:"name" valid:"max=255"`
	Description  *string               `json:"description" valid:"max=255"`
	CIDR         *string               `json:"cidr" valid:"null"`
	IPVersion    int                   `json:"ip_version"`
	PrefixLen    *int                  `json:"prefixlen"`
	Gateway      rest.Opt[string]      `json:"gateway_ip" valid:"null"`
	Pools        *[]poolView           `json:"allocation_pools" valid:"null"`
	DNS          rest.Opt[[]string]    `json:"dns_nameservers" valid:"null"`
	Routes       rest.Opt[[]routeView] `json:"host_routes" valid:"null"`
	DHCP         *bool                 `json:"enable_dhcp"`
	RAMode       *string               `json:"ipv6_ra_mode" valid:"null"`
	AddressMode  *string               `json:"ipv6_address_mode" valid:"null"`
	SubnetPool   *string               `json:"subnetpool_id" valid:"null"`
	ServiceTypes *[]string             `json:"service_types"`
	DefaultPool  *bool                 `json:"use_default_subnetpool"`
	DNSFixed     *bool                 `json:"dns_publish_fixed_ip"`
	Segment      *string               `json:"segment_id" valid:"null"`
}

func (b *subnetBody) apply(s *network.Subnet) (err error) {
	set(&s.Name, b.Name)
	set(&s.Description, b.Description)
	if b.DNS.Set {
		s.DNS = append([]string{}, b.DNS.Value...)
	}
	set(&s.DHCP, b.DHCP)
	set(&s.RAMode, b.RAMode)
	set(&s.AddressMode, b.AddressMode)
	set(&s.ServiceTypes, b.ServiceTypes)
	if b.Gateway.Set {
		s.Gateway = b.Gateway.Value
	}
	if b.Pools != nil {
		if s.Pools, err = parsePools(*b.Pools); err != nil {
			return err
		}
	}
	if b.Routes.Set {
		s.Routes, err = parseRoutes(b.Routes.Value, "host_routes")
	}
	return err
}

func (a *api) subnetRoutes() []rest.Route {
	const base = "/v2.0/subnets"
	return []rest.Route{
		{Method: "GET", Path: base, Policy: []string{"get_subnet"}, View: subnetView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ss, err := a.s.Subnets(r.Context(), q)
			if err != nil {
				return nil, err
			}
			return page(r, q, "subnets", ss, func(s network.Subnet) string { return s.ID }, subnetOf)
		})},
		{Method: "POST", Path: base, Status: 201, Policy: []string{"create_subnet"}, View: subnetView{}, Op: create(a.s, "subnet", "subnets", func(r *rest.Request, b *subnetBody) (any, error) {
			project, err := b.project(r)
			if err != nil {
				return nil, err
			}
			switch {
			case b.NetworkID == "":
				return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Failed to parse request. Required attribute 'network_id' not specified")
			case b.Segment != nil:
				return nil, nacre.Errorf(nacre.Invalid, "BadSubnetRequest", "Bad subnets request: segments are not served by this cloud.")
			}
			in := network.NewSubnet{NoGateway: b.Gateway.Null, NoDHCP: b.DHCP != nil && !*b.DHCP}
			in.NetworkID, in.IPVersion, in.ProjectID = b.NetworkID, b.IPVersion, project
			set(&in.CIDR, b.CIDR)
			set(&in.SubnetPoolID, b.SubnetPool)
			set(&in.PrefixLen, b.PrefixLen)
			set(&in.DefaultPool, b.DefaultPool)
			if err := b.apply(&in.Subnet); err != nil {
				return nil, err
			}
			s, err := a.s.CreateSubnet(r.Context(), in)
			return subnetOf(s), err
		})},
		{Method: "GET", Path: base + "/{id}", Policy: []string{"get_subnet"}, View: subnetView{}, Op: do("subnet", func(r *rest.Request) (any, error) {
			s, err := a.s.Subnet(r.Context(), r.Var("id"))
			return subnetOf(s), err
		})},
		{Method: "PUT", Path: base + "/{id}", Policy: []string{"update_subnet"}, View: subnetView{}, Op: change("subnet", func(r *rest.Request, b *subnetBody) (any, error) {
			if b.CIDR != nil || b.IPVersion != 0 || b.NetworkID != "" {
				return nil, nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Cannot update read-only attribute cidr")
			}
			s, err := a.s.UpdateSubnet(r.Context(), r.Var("id"), b.apply)
			return subnetOf(s), err
		})},
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{"delete_subnet"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteSubnet(r.Context(), r.Var("id"))
		})},
	}
}
