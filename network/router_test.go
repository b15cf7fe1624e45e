package network_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/dataplane/fake"
)

// site is a project's network behind a router with a gateway.
type site struct {
	ext, net     network.Network
	extSubnet    network.Subnet
	subnet       network.Subnet
	router       network.Router
	leg          network.Interface
	names        map[string]string
	group, guest string
}

func (c *cloud) site() *site {
	c.t.Helper()
	s := &site{}
	s.ext, s.extSubnet = c.public()
	s.net = c.network(c.alice, "net")
	s.subnet = c.subnet(c.alice, s.net, "10.0.0.0/24")
	var err error
	s.router, err = c.CreateRouter(c.alice, network.Router{Std: network.Std{Name: "r"}, AdminUp: true}, &network.GatewayChange{NetworkID: s.ext.ID})
	require.NoError(c.t, err)
	s.leg, err = c.AddInterface(c.alice, s.router.ID, s.subnet.ID, "")
	require.NoError(c.t, err)
	gs, _, err := c.SecurityGroups(c.alice, nacre.Query{})
	require.NoError(c.t, err)
	s.group = gs[0].ID
	s.names = map[string]string{s.ext.ID: "public", s.net.ID: "net", s.router.ID: "r", s.group: "default"}
	return s
}

func TestRouters(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		s := c.site()
		_, err := c.Router(c.bob, s.router.ID)
		fails(t, err, nacre.NotFound, "RouterNotFound")
		_, err = c.AddInterface(c.bob, s.router.ID, s.subnet.ID, "")
		fails(t, err, nacre.NotFound, "RouterNotFound")

		_, err = c.AddInterface(c.alice, s.router.ID, s.subnet.ID, "")
		fails(t, err, nacre.Invalid, "BadRequest")
		_, err = c.AddInterface(c.alice, s.router.ID, "", "")
		fails(t, err, nacre.Invalid, "BadRequest")
		twin := c.network(c.alice, "twin")
		overlap := c.subnet(c.alice, twin, "10.0.0.0/16")
		_, err = c.AddInterface(c.alice, s.router.ID, overlap.ID, "")
		fails(t, err, nacre.Invalid, "BadRequest")
		other, err := c.CreateRouter(c.alice, network.Router{}, nil)
		require.NoError(t, err)
		_, err = c.AddInterface(c.alice, other.ID, s.subnet.ID, "")
		fails(t, err, nacre.Conflict, "IpAddressAlreadyAllocated")

		// By a port: its address instead of the subnet's gateway.
		p := c.port(c.alice, s.net, at("10.0.0.9"))
		leg, err := c.AddInterface(c.alice, other.ID, "", p.ID)
		require.NoError(t, err)
		require.Equal(t, s.subnet.ID, leg.SubnetID)
		_, err = c.AddInterface(c.alice, s.router.ID, "", p.ID)
		fails(t, err, nacre.Conflict, "PortInUse")
		fails(t, c.DeletePort(c.alice, p.ID), nacre.Conflict, "ServicePortInUse")
		fails(t, c.DeleteRouter(c.alice, other.ID), nacre.Conflict, "RouterInUse")
		fails(t, c.DeleteNetwork(c.alice, s.net.ID), nacre.Conflict, "NetworkInUse")
		fails(t, c.DeleteSubnet(c.alice, s.subnet.ID), nacre.Conflict, "SubnetInUse")
		_, err = c.RemoveInterface(c.alice, other.ID, "", "nowhere")
		fails(t, err, nacre.NotFound, "RouterInterfaceNotFound")
		_, err = c.RemoveInterface(c.alice, other.ID, overlap.ID, "")
		fails(t, err, nacre.NotFound, "RouterInterfaceNotFoundForSubnet")
		_, err = c.RemoveInterface(c.alice, other.ID, "", p.ID)
		require.NoError(t, err)
		require.NoError(t, c.DeleteRouter(c.alice, other.ID))
		c.clean()

		// Routes need a next hop that is on a leg, and hold that leg.
		route := func(hop string) []network.Route {
			return []network.Route{{Destination: netip.MustParsePrefix("192.168.0.0/16"), NextHop: mustAddr(hop)}}
		}
		far, self, near := route("10.44.0.1"), route("10.0.0.1"), route("10.0.0.50")
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Routes: &far})
		fails(t, err, nacre.Invalid, "InvalidRoutes")
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Routes: &self})
		fails(t, err, nacre.Invalid, "InvalidRoutes")
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Routes: &near})
		require.NoError(t, err)
		_, err = c.RemoveInterface(c.alice, s.router.ID, s.subnet.ID, "")
		fails(t, err, nacre.Conflict, "RouterInterfaceInUseByRoute")
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Routes: &[]network.Route{}})
		require.NoError(t, err)

		// The gateway: only an external network, SNAT is the administrator's.
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Gateway: &network.GatewayChange{NetworkID: twin.ID}})
		fails(t, err, nacre.Invalid, "BadRequest")
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Gateway: &network.GatewayChange{NetworkID: s.ext.ID, SNAT: ptr(false)}})
		require.ErrorIs(t, err, nacre.Forbidden)
		_, err = c.UpdateNetwork(c.admin, s.ext.ID, func(n *network.Network) error { n.External = false; return nil })
		fails(t, err, nacre.Conflict, "ExternalNetworkInUse")
		r, err := c.UpdateRouter(c.admin, s.router.ID, network.RouterChange{Gateway: &network.GatewayChange{NetworkID: s.ext.ID, FixedIPs: []network.FixedIP{{Address: "172.24.4.99"}}}})
		require.NoError(t, err)
		require.Equal(t, s.router.GatewayPortID, r.GatewayPortID, "the port stays when only the address changes")
		gw, err := c.GatewayPorts(c.alice, r)
		require.NoError(t, err)
		require.Equal(t, []string{"172.24.4.99"}, addresses(gw[r.ID]))
		r, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Gateway: &network.GatewayChange{Clear: true}})
		require.NoError(t, err)
		require.Empty(t, r.GatewayPortID)
		_, err = c.RemoveInterface(c.alice, s.router.ID, s.subnet.ID, "")
		require.NoError(t, err)
		require.NoError(t, c.DeleteRouter(c.alice, s.router.ID))
		c.clean()
	})
}

func TestFloatingIPs(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		s := c.site()
		p := c.port(c.admin, s.net, of("alice"), on("node1"), func(p *network.NewPort) { p.DeviceID, p.DeviceOwner = "vm", "compute:nova" })
		c.rest()

		_, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.net.ID}, "")
		fails(t, err, nacre.Invalid, "BadRequest")
		_, err = c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID, Address: "172.24.4.50"}, "")
		require.ErrorIs(t, err, nacre.Forbidden)
		fixed, err := c.CreateFloatingIP(c.admin, network.FloatingIP{NetworkID: s.ext.ID, Address: "172.24.4.50"}, "")
		require.NoError(t, err)
		require.Equal(t, "172.24.4.50", fixed.Address)
		_, err = c.FloatingIP(c.alice, fixed.ID)
		fails(t, err, nacre.NotFound, "FloatingIPNotFound")

		f, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID, PortID: p.ID}, "")
		require.NoError(t, err)
		require.Equal(t, addresses(p)[0], f.FixedIP)
		require.Equal(t, s.router.ID, f.RouterID)
		require.Equal(t, network.Down, f.Status)
		c.rest()
		f, err = c.FloatingIP(c.alice, f.ID)
		require.NoError(t, err)
		require.Equal(t, network.Active, f.Status)
		_, err = c.CreateSecurityGroupRule(c.alice, network.SecurityGroupRule{GroupID: s.group, Direction: "ingress", Protocol: "tcp", PortMin: ptr(22), PortMax: ptr(22)})
		require.NoError(t, err)
		c.rest()
		ok, why := h.Reach(fake.External, mustAddr(f.Address), "tcp", 22)
		require.True(t, ok, why)
		c.mu.Lock()
		require.Contains(t, c.changed, "vm")
		c.mu.Unlock()

		// A second one for the same address of the port; what it holds in place.
		_, err = c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID, PortID: p.ID}, "")
		fails(t, err, nacre.Conflict, "FloatingIPPortAlreadyAssociated")
		_, err = c.RemoveInterface(c.alice, s.router.ID, s.subnet.ID, "")
		fails(t, err, nacre.Conflict, "RouterInterfaceInUseByFloatingIP")
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Gateway: &network.GatewayChange{Clear: true}})
		fails(t, err, nacre.Conflict, "RouterExternalGatewayInUseByFloatingIp")

		// Off and on again.
		f, err = c.UpdateFloatingIP(c.alice, f.ID, network.FloatingIPChange{PortID: ptr("")})
		require.NoError(t, err)
		require.Empty(t, f.PortID+f.FixedIP+f.RouterID)
		require.Equal(t, network.Down, f.Status)
		c.rest()
		ok, _ = h.Reach(fake.External, mustAddr(f.Address), "tcp", 22)
		require.False(t, ok)
		f, err = c.UpdateFloatingIP(c.alice, f.ID, network.FloatingIPChange{PortID: &p.ID})
		require.NoError(t, err)

		// No router leads there; nobody else's port.
		lone := c.network(c.alice, "lone")
		c.subnet(c.alice, lone, "10.8.0.0/24")
		lp := c.port(c.alice, lone)
		_, err = c.UpdateFloatingIP(c.alice, f.ID, network.FloatingIPChange{PortID: &lp.ID})
		fails(t, err, nacre.NotFound, "ExternalGatewayForFloatingIPNotFound")
		bobs := c.network(c.bob, "bobs")
		c.subnet(c.bob, bobs, "10.8.0.0/24")
		bp := c.port(c.bob, bobs)
		_, err = c.UpdateFloatingIP(c.alice, f.ID, network.FloatingIPChange{PortID: &bp.ID})
		fails(t, err, nacre.NotFound, "PortNotFound")

		// The port goes: it leads nowhere, and is still alice's.
		require.NoError(t, c.DeletePort(c.alice, p.ID))
		f, err = c.FloatingIP(c.alice, f.ID)
		require.NoError(t, err)
		require.Empty(t, f.PortID+f.FixedIP+f.RouterID)
		c.rest()
		fails(t, c.DeletePort(c.admin, f.ExternalPortID), nacre.Conflict, "ServicePortInUse")
		fails(t, c.DeleteNetwork(c.admin, s.ext.ID), nacre.Conflict, "NetworkInUse")
		require.NoError(t, c.DeleteFloatingIP(c.alice, f.ID))
		fails(t, c.DeleteFloatingIP(c.alice, f.ID), nacre.NotFound, "FloatingIPNotFound")
		c.rest()
	})
}
