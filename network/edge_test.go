package network_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/store"
)

func (c *cloud) check(ctx context.Context, want network.ServerNetworks) (network.ServerNetworks, error) {
	if want.ProjectID == "" {
		want.ProjectID = "alice"
	}
	if want.Servers == 0 {
		want.Servers = 1
	}
	return c.CheckServerNetworks(ctx, want)
}

func TestCheckServerNetworks(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		ext, _ := c.public()
		got, err := c.check(c.alice, network.ServerNetworks{})
		require.NoError(t, err)
		require.Empty(t, got.NICs, "no network, no NIC")
		require.Len(t, got.SecurityGroups, 1)
		_, err = c.check(c.alice, network.ServerNetworks{Mode: "auto"})
		fails(t, err, nacre.Invalid, "UnableToAutoAllocateNetwork")

		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		for _, mode := range []string{"", "auto"} {
			got, err = c.check(c.alice, network.ServerNetworks{Mode: mode})
			require.NoError(t, err)
			require.Equal(t, []network.ServerNIC{{NetworkID: n.ID}}, got.NICs)
		}
		got, err = c.check(c.alice, network.ServerNetworks{Mode: "none"})
		require.NoError(t, err)
		require.Empty(t, got.NICs)
		two := c.network(c.alice, "two")
		c.subnet(c.alice, two, "10.1.0.0/24")
		_, err = c.check(c.alice, network.ServerNetworks{})
		fails(t, err, nacre.Conflict, "NetworkAmbiguous")

		list := func(nics ...network.ServerNIC) network.ServerNetworks {
			return network.ServerNetworks{Mode: "list", NICs: nics}
		}
		bobs := c.network(c.bob, "bobs")
		_, err = c.check(c.alice, list(network.ServerNIC{NetworkID: bobs.ID}))
		fails(t, err, nacre.Invalid, "NetworkNotFound")
		_, err = c.check(c.alice, list(network.ServerNIC{NetworkID: ext.ID}))
		fails(t, err, nacre.Forbidden, "ExternalNetworkAttachForbidden")
		_, err = c.check(c.alice, list(network.ServerNIC{NetworkID: n.ID, FixedIP: mustAddr("10.9.0.1")}))
		fails(t, err, nacre.Invalid, "FixedIpInvalid")
		_, err = c.check(c.alice, list(network.ServerNIC{NetworkID: n.ID, FixedIP: mustAddr("10.0.0.2")}))
		fails(t, err, nacre.Conflict, "FixedIpAlreadyInUse")

		p := c.port(c.alice, n)
		got, err = c.check(c.alice, list(network.ServerNIC{PortID: p.ID}))
		require.NoError(t, err)
		require.Equal(t, n.ID, got.NICs[0].NetworkID)
		_, err = c.check(c.alice, list(network.ServerNIC{PortID: p.ID}, network.ServerNIC{PortID: p.ID}))
		fails(t, err, nacre.Conflict, "PortInUse")
		twice := list(network.ServerNIC{PortID: p.ID})
		twice.Servers = 2
		_, err = c.check(c.alice, twice)
		fails(t, err, nacre.Invalid, "MultiplePortsNotApplicable")
		_, err = c.check(c.bob, network.ServerNetworks{Mode: "list", ProjectID: "bob", NICs: []network.ServerNIC{{PortID: p.ID}}})
		fails(t, err, nacre.Invalid, "PortNotFound")

		_, err = c.check(c.alice, network.ServerNetworks{Mode: "none", SecurityGroups: []string{"nowhere"}})
		fails(t, err, nacre.Invalid, "SecurityGroupNotFound")
		g, err := c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: "web"}})
		require.NoError(t, err)
		for _, name := range []string{"web", g.ID} {
			got, err = c.check(c.alice, network.ServerNetworks{Mode: "none", SecurityGroups: []string{name}})
			require.NoError(t, err)
			require.Equal(t, []string{g.ID}, got.SecurityGroups)
		}
		_, err = c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: "web"}})
		require.NoError(t, err)
		_, err = c.check(c.alice, network.ServerNetworks{Mode: "none", SecurityGroups: []string{"web"}})
		fails(t, err, nacre.Conflict, "NoUniqueMatch")
	})
}

func TestServerPorts(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		c.host("node2", nil)
		s := c.site()
		compute := nacre.AsService(c.alice, "compute")
		brought := c.port(c.alice, s.net)
		ask := func(i int, nic network.ServerNIC, host string) network.ServerPortRequest {
			return network.ServerPortRequest{ProjectID: "alice", ServerID: "vm", Index: i, NIC: nic, Host: host, Zone: "nova", Hostname: "vm-host", SecurityGroups: []string{s.group}}
		}
		_, err := c.EnsureServerPort(c.alice, ask(0, network.ServerNIC{NetworkID: s.net.ID}, "node1"))
		require.ErrorIs(t, err, nacre.Forbidden)
		_, err = c.EnsureServerPort(compute, ask(0, network.ServerNIC{NetworkID: s.net.ID}, "node9"))
		fails(t, err, nacre.Unavailable, "PortBindingFailed")

		made, err := c.EnsureServerPort(compute, ask(0, network.ServerNIC{NetworkID: s.net.ID, Tag: "lan"}, "node1"))
		require.NoError(t, err)
		require.True(t, made.Port.Made)
		require.Equal(t, "compute:nova", made.Port.DeviceOwner)
		require.Equal(t, []string{"default"}, made.GroupNames)
		require.Equal(t, s.subnet.ID, made.Subnets[0].ID)
		again, err := c.EnsureServerPort(compute, ask(0, network.ServerNIC{NetworkID: s.net.ID, Tag: "lan"}, "node1"))
		require.NoError(t, err)
		require.Equal(t, made.Port, again.Port)
		for range 2 {
			taken, err := c.EnsureServerPort(compute, ask(1, network.ServerNIC{PortID: brought.ID}, "node1"))
			require.NoError(t, err)
			require.Equal(t, brought.ID, taken.Port.ID)
			require.False(t, taken.Port.Made)
			require.Equal(t, "vm-host", taken.Port.DNSName)
		}
		other := ask(0, network.ServerNIC{PortID: brought.ID}, "node1")
		other.ServerID = "vm2"
		_, err = c.EnsureServerPort(compute, other)
		fails(t, err, nacre.Conflict, "PortInUse")
		c.rest()
		require.Equal(t, network.Active, c.status(made.Port))

		// What others write into device_id attaches nothing to the server.
		bobs := c.network(c.bob, "bobs")
		spoof, err := c.newPort(c.bob, bobs, func(p *network.NewPort) { p.DeviceID, p.DeviceOwner = "vm", "compute:nova" })
		require.NoError(t, err)
		f, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID, PortID: made.Port.ID}, "")
		require.NoError(t, err)
		all, err := c.ServerPorts(compute, "vm", "nobody")
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Len(t, all["vm"], 2)
		require.Equal(t, made.Port.ID, all["vm"][0].Port.ID)
		require.Equal(t, f.Address, all["vm"][0].Floating[addresses(made.Port)[0]][0].String())
		_, err = c.ServerPorts(c.alice, "vm")
		require.ErrorIs(t, err, nacre.Forbidden)

		// A group for all of the server's ports, by name, with the user's own rights.
		web, err := c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: "web"}})
		require.NoError(t, err)
		fails(t, c.SetServerGroup(c.alice, "alice", "vm", "none", true), nacre.NotFound, "SecurityGroupNotFound")
		fails(t, c.SetServerGroup(c.alice, "alice", "vm", "web", false), nacre.NotFound, "SecurityGroupNotFound")
		fails(t, c.SetServerGroup(c.alice, "alice", "nobody", "web", true), nacre.NotFound, "SecurityGroupNotFound")
		for range 2 {
			require.NoError(t, c.SetServerGroup(c.alice, "alice", "vm", "web", true))
		}
		p, err := c.Port(c.alice, made.Port.ID)
		require.NoError(t, err)
		require.Contains(t, p.SecurityGroups, web.ID)
		require.Len(t, p.SecurityGroups, 2)
		require.NoError(t, c.SetServerGroup(c.alice, "alice", "vm", web.ID, false))
		p, err = c.Port(c.alice, made.Port.ID)
		require.NoError(t, err)
		require.Equal(t, made.Port.SecurityGroups, p.SecurityGroups)

		// Another host: the same ports move there.
		moved, err := c.EnsureServerPort(compute, ask(0, network.ServerNIC{NetworkID: s.net.ID}, "node2"))
		require.NoError(t, err)
		require.Equal(t, made.Port.ID, moved.Port.ID)
		require.Equal(t, "node2", moved.Port.Host)
		c.rest()
		require.NotContains(t, h.has(t, s.names), "port "+made.Port.ID)

		// Release: made ports go, brought ones are free again; others' stay.
		require.NoError(t, c.ReleaseServerPorts(compute, "bob", "vm", ""))
		_, err = c.Port(c.alice, made.Port.ID)
		require.NoError(t, err)
		require.NoError(t, c.ReleaseServerPorts(compute, "alice", "vm", made.Port.ID))
		_, err = c.Port(c.alice, made.Port.ID)
		fails(t, err, nacre.NotFound, "PortNotFound")
		for range 2 {
			require.NoError(t, c.ReleaseServerPorts(compute, "alice", "vm", ""))
		}
		free, err := c.Port(c.admin, brought.ID)
		require.NoError(t, err)
		require.Empty(t, free.DeviceID+free.DeviceOwner+free.Host)
		require.Equal(t, network.Down, free.Status)
		_, err = c.Port(c.bob, spoof.ID)
		require.NoError(t, err)
		c.rest()

		// The edge is never called in a transaction.
		err = store.InTx(compute, c.engine, func(ctx context.Context) error {
			_, err := c.EnsureServerPort(ctx, ask(0, network.ServerNIC{NetworkID: s.net.ID}, "node1"))
			return err
		})
		require.ErrorIs(t, err, store.ErrTx)
	})
}

// A network without a subnet gives a port without an address.
func TestServerPortWithoutSubnet(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		c.host("node1", nil)
		n := c.network(c.alice, "bare")
		sp, err := c.EnsureServerPort(nacre.AsService(c.alice, "compute"), network.ServerPortRequest{ProjectID: "alice", ServerID: "vm", NIC: network.ServerNIC{NetworkID: n.ID}, Host: "node1"})
		require.NoError(t, err)
		require.Empty(t, sp.Port.FixedIPs)
		c.rest()
		require.Equal(t, network.Active, c.status(sp.Port))
	})
}
