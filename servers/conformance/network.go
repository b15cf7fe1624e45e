package conformance

import (
	"context"
	"net/netip"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/require"
)

func network(t *testing.T, s *suite) {
	t.Run("NetworkSubnetPort", s.networkSubnetPort)
	t.Run("Addresses", s.addresses)
	t.Run("RouterFloatingIP", s.routerFloatingIP)
	t.Run("SecurityGroups", s.securityGroups)
	t.Run("TagsAndPages", s.tagsAndPages)
	t.Run("Isolation", s.networkIsolation)
}

func (s *suite) newNetwork(t *testing.T) *networks.Network {
	t.Helper()
	c := s.user.network
	n, err := networks.Create(t.Context(), c, networks.CreateOpts{Name: name("network")}).Extract()
	require.NoError(t, err)
	after(t, "network", func(ctx context.Context) error { return networks.Delete(ctx, c, n.ID).ExtractErr() })
	return n
}

func (s *suite) newSubnet(t *testing.T, o subnets.CreateOpts) *subnets.Subnet {
	t.Helper()
	c := s.user.network
	if o.IPVersion == 0 {
		o.IPVersion = 4
	}
	o.Name = name("subnet")
	sn, err := subnets.Create(t.Context(), c, o).Extract()
	require.NoError(t, err)
	after(t, "subnet", func(ctx context.Context) error { return subnets.Delete(ctx, c, sn.ID).ExtractErr() })
	return sn
}

func (s *suite) newPort(t *testing.T, o ports.CreateOptsBuilder) *ports.Port {
	t.Helper()
	c := s.user.network
	p, err := ports.Create(t.Context(), c, o).Extract()
	require.NoError(t, err)
	after(t, "port", func(ctx context.Context) error { return ports.Delete(ctx, c, p.ID).ExtractErr() })
	return p
}

// external is the id of the target's external network.
func (s *suite) external(t *testing.T) string {
	t.Helper()
	ns, err := all(t.Context(), networks.List(s.user.network, networks.ListOpts{Name: s.External}), networks.ExtractNetworks)
	require.NoError(t, err)
	require.Len(t, ns, 1, "the external network %q", s.External)
	return ns[0].ID
}

func (s *suite) networkSubnetPort(t *testing.T) {
	ctx, c := t.Context(), s.user.network
	n := s.newNetwork(t)
	require.Equal(t, "ACTIVE", n.Status)
	require.Equal(t, s.user.project, n.ProjectID)
	require.False(t, n.Shared)
	sn := s.newSubnet(t, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.77.0.0/24", DNSNameservers: []string{"192.0.2.53"}})
	require.Equal(t, "10.77.0.1", sn.GatewayIP)
	require.True(t, sn.EnableDHCP)
	require.Equal(t, []subnets.AllocationPool{{Start: "10.77.0.2", End: "10.77.0.254"}}, sn.AllocationPools)
	p := s.newPort(t, ports.CreateOpts{NetworkID: n.ID, Name: name("port")})
	require.Len(t, p.FixedIPs, 1)
	require.Len(t, p.SecurityGroups, 1, "a new port is in the project's default group")
	require.NotEmpty(t, p.MACAddress)

	status(t, 409, networks.Delete(ctx, c, n.ID).ExtractErr(), "a network in use")
	status(t, 409, subnets.Delete(ctx, c, sn.ID).ExtractErr(), "a subnet in use")
	up, err := ports.Update(ctx, c, p.ID, ports.UpdateOpts{Name: ptr("renamed"), AdminStateUp: ptr(false)}).Extract()
	require.NoError(t, err)
	require.Equal(t, "renamed", up.Name)
	require.False(t, up.AdminStateUp)
	require.Greater(t, up.RevisionNumber, p.RevisionNumber)
	list, err := all(ctx, ports.List(c, ports.ListOpts{NetworkID: n.ID, DeviceOwner: ""}), ports.ExtractPorts)
	require.NoError(t, err)
	require.NotEmpty(t, list)
	require.NoError(t, ports.Delete(ctx, c, p.ID).ExtractErr())
	_, err = ports.Get(ctx, c, p.ID).Extract()
	status(t, 404, err)
	require.NoError(t, networks.Delete(ctx, c, n.ID).ExtractErr(), "a network whose only ports are DHCP's")
	_, err = subnets.Get(ctx, c, sn.ID).Extract()
	status(t, 404, err, "a network's subnets go with it")
}

func (s *suite) addresses(t *testing.T) {
	ctx, c := t.Context(), s.user.network
	n := s.newNetwork(t)
	sn := s.newSubnet(t, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.78.0.0/29", EnableDHCP: ptr(false)})
	fixed := s.newPort(t, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{SubnetID: sn.ID, IPAddress: "10.78.0.5"}}})
	require.Equal(t, "10.78.0.5", fixed.FixedIPs[0].IPAddress)
	_, err := ports.Create(ctx, c, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{SubnetID: sn.ID, IPAddress: "10.78.0.5"}}}).Extract()
	status(t, 409, err, "an address twice")
	_, err = ports.Create(ctx, c, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{SubnetID: sn.ID, IPAddress: "10.99.0.5"}}}).Extract()
	status(t, 400, err, "an address outside its subnet")
	seen := map[string]bool{"10.78.0.5": true}
	for range 4 { // .2 .3 .4 .6
		p := s.newPort(t, ports.CreateOpts{NetworkID: n.ID})
		a := p.FixedIPs[0].IPAddress
		require.False(t, seen[a], "%s was given out twice", a)
		seen[a] = true
		require.True(t, netip.MustParsePrefix("10.78.0.0/29").Contains(netip.MustParseAddr(a)))
	}
	_, err = ports.Create(ctx, c, ports.CreateOpts{NetworkID: n.ID}).Extract()
	status(t, 409, err, "a full subnet")
}

func (s *suite) routerFloatingIP(t *testing.T) {
	ctx, c := t.Context(), s.user.network
	n := s.newNetwork(t)
	sn := s.newSubnet(t, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.79.0.0/24"})
	r := s.newRouter(t, sn.ID)
	p := s.newPort(t, ports.CreateOpts{NetworkID: n.ID})
	fip := s.newFloatingIP(t, p.ID)
	require.Equal(t, p.FixedIPs[0].IPAddress, fip.FixedIP)
	require.Equal(t, r.ID, fip.RouterID)
	status(t, 409, routers.Delete(ctx, c, r.ID).ExtractErr(), "a router with interfaces")
	_, err := routers.RemoveInterface(ctx, c, r.ID, routers.RemoveInterfaceOpts{SubnetID: sn.ID}).Extract()
	status(t, 409, err, "an interface that a floating IP needs")
	off, err := floatingips.Update(ctx, c, fip.ID, floatingips.UpdateOpts{PortID: new(string)}).Extract()
	require.NoError(t, err)
	require.Empty(t, off.PortID)
	require.Empty(t, off.FixedIP)

	lone := s.newNetwork(t)
	s.newSubnet(t, subnets.CreateOpts{NetworkID: lone.ID, CIDR: "10.80.0.0/24"})
	far := s.newPort(t, ports.CreateOpts{NetworkID: lone.ID})
	_, err = floatingips.Update(ctx, c, fip.ID, floatingips.UpdateOpts{PortID: &far.ID}).Extract()
	status(t, 404, err, "a port that no router leads to")
	_, err = routers.AddInterface(ctx, c, r.ID, routers.AddInterfaceOpts{SubnetID: sn.ID}).Extract()
	status(t, 400, err, "an interface twice")
}

// newRouter is a router with a gateway and a subnet.
func (s *suite) newRouter(t *testing.T, subnet string) *routers.Router {
	t.Helper()
	ctx, c := t.Context(), s.user.network
	r, err := routers.Create(ctx, c, routers.CreateOpts{Name: name("router"), GatewayInfo: &routers.GatewayInfo{NetworkID: s.external(t)}}).Extract()
	require.NoError(t, err)
	after(t, "router", func(ctx context.Context) error { return routers.Delete(ctx, c, r.ID).ExtractErr() })
	require.NotEmpty(t, r.GatewayInfo.ExternalFixedIPs)
	i, err := routers.AddInterface(ctx, c, r.ID, routers.AddInterfaceOpts{SubnetID: subnet}).Extract()
	require.NoError(t, err)
	require.Equal(t, subnet, i.SubnetID)
	after(t, "router interface", func(ctx context.Context) error {
		_, err := routers.RemoveInterface(ctx, c, r.ID, routers.RemoveInterfaceOpts{SubnetID: subnet}).Extract()
		return err
	})
	return r
}

func (s *suite) newFloatingIP(t *testing.T, port string) *floatingips.FloatingIP {
	t.Helper()
	c := s.user.network
	f, err := floatingips.Create(t.Context(), c, floatingips.CreateOpts{FloatingNetworkID: s.external(t), PortID: port}).Extract()
	require.NoError(t, err)
	after(t, "floating IP", func(ctx context.Context) error { return floatingips.Delete(ctx, c, f.ID).ExtractErr() })
	return f
}

func (s *suite) newGroup(t *testing.T) *groups.SecGroup {
	t.Helper()
	c := s.user.network
	g, err := groups.Create(t.Context(), c, groups.CreateOpts{Name: name("group"), Description: "conformance"}).Extract()
	require.NoError(t, err)
	after(t, "security group", func(ctx context.Context) error { return groups.Delete(ctx, c, g.ID).ExtractErr() })
	return g
}

func (s *suite) securityGroups(t *testing.T) {
	ctx, c := t.Context(), s.user.network
	gs, err := all(ctx, groups.List(c, groups.ListOpts{Name: "default"}), groups.ExtractGroups)
	require.NoError(t, err)
	require.Len(t, gs, 1, "each project has a default group")
	require.Len(t, gs[0].Rules, 4)
	status(t, 409, groups.Delete(ctx, c, gs[0].ID).ExtractErr(), "deleting the default group")

	g := s.newGroup(t)
	require.Len(t, g.Rules, 2, "a new group lets everything out")
	o := rules.CreateOpts{Direction: rules.DirIngress, EtherType: rules.EtherType4, SecGroupID: g.ID, Protocol: rules.ProtocolTCP, PortRangeMin: 22, PortRangeMax: 22, RemoteIPPrefix: "0.0.0.0/0"}
	r, err := rules.Create(ctx, c, o).Extract()
	require.NoError(t, err)
	_, err = rules.Create(ctx, c, o).Extract()
	status(t, 409, err, "a rule twice")
	bad := o
	bad.PortRangeMin = 23
	_, err = rules.Create(ctx, c, bad).Extract()
	status(t, 400, err, "a port range upside down")
	bad = o
	bad.RemoteIPPrefix = "2001:db8::/32"
	_, err = rules.Create(ctx, c, bad).Extract()
	status(t, 400, err, "an IPv6 prefix in an IPv4 rule")
	bad = o
	bad.SecGroupID = "00000000-0000-4000-8000-000000000000"
	_, err = rules.Create(ctx, c, bad).Extract()
	status(t, 404, err, "a rule of no group")

	n := s.newNetwork(t)
	s.newSubnet(t, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.81.0.0/24"})
	p := s.newPort(t, ports.CreateOpts{NetworkID: n.ID, SecurityGroups: &[]string{g.ID}})
	require.Equal(t, []string{g.ID}, p.SecurityGroups)
	status(t, 409, groups.Delete(ctx, c, g.ID).ExtractErr(), "a group in use")
	require.NoError(t, rules.Delete(ctx, c, r.ID).ExtractErr())
	_, err = rules.Get(ctx, c, r.ID).Extract()
	status(t, 404, err)
}

func (s *suite) tagsAndPages(t *testing.T) {
	ctx, c := t.Context(), s.user.network
	tag := name("tag")
	for range 5 {
		n := s.newNetwork(t)
		got, err := attributestags.ReplaceAll(ctx, c, "networks", n.ID, attributestags.ReplaceAllOpts{Tags: []string{tag}}).Extract()
		require.NoError(t, err)
		require.Equal(t, []string{tag}, got)
	}
	seen, pages := map[string]bool{}, 0
	err := networks.List(c, networks.ListOpts{Tags: tag, Limit: 2, SortKey: "name"}).EachPage(ctx, pageOf(networks.ExtractNetworks, func(ns []networks.Network) {
		pages++
		for _, n := range ns {
			seen[n.ID] = true
		}
	}))
	require.NoError(t, err)
	require.Len(t, seen, 5)
	require.GreaterOrEqual(t, pages, 3)
}

func (s *suite) networkIsolation(t *testing.T) {
	ctx := t.Context()
	n, err := networks.Create(ctx, s.admin.network, networks.CreateOpts{Name: name("network")}).Extract()
	require.NoError(t, err)
	after(t, "network", func(ctx context.Context) error { return networks.Delete(ctx, s.admin.network, n.ID).ExtractErr() })
	_, err = networks.Get(ctx, s.user.network, n.ID).Extract()
	status(t, 404, err, "another project's network")
	status(t, 404, networks.Delete(ctx, s.user.network, n.ID).ExtractErr(), "deleting another project's network")
	_, err = ports.Create(ctx, s.user.network, ports.CreateOpts{NetworkID: n.ID}).Extract()
	status(t, 404, err, "a port on another project's network")
	_, err = networks.Create(ctx, s.user.network, networks.CreateOpts{Name: name("network"), Shared: ptr(true)}).Extract()
	status(t, 403, err, "a shared network made by a member")

	// The same addresses in two projects at once are two different places.
	for _, c := range []*gophercloud.ServiceClient{s.admin.network, s.user.network} {
		n, err := networks.Create(ctx, c, networks.CreateOpts{Name: name("network")}).Extract()
		require.NoError(t, err)
		after(t, "network", func(ctx context.Context) error { return networks.Delete(ctx, c, n.ID).ExtractErr() })
		sn, err := subnets.Create(ctx, c, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.94.0.0/24", IPVersion: gophercloud.IPv4}).Extract()
		require.NoError(t, err)
		p, err := ports.Create(ctx, c, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{SubnetID: sn.ID, IPAddress: "10.94.0.10"}}}).Extract()
		require.NoError(t, err)
		after(t, "port", func(ctx context.Context) error { return ports.Delete(ctx, c, p.ID).ExtractErr() })
		_, err = ports.Create(ctx, c, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{SubnetID: sn.ID, IPAddress: "10.94.0.10"}}}).Extract()
		status(t, 409, err, "the same address twice in one network")
		pages, err := ports.List(s.user.network, ports.ListOpts{FixedIPs: []ports.FixedIPOpts{{IPAddress: "10.94.0.10"}}}).AllPages(ctx)
		require.NoError(t, err)
		ps, err := ports.ExtractPorts(pages)
		require.NoError(t, err)
		for _, q := range ps {
			require.True(t, q.ID != p.ID || c == s.user.network, "a port of another project is shown")
		}
	}
}
