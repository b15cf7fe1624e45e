package network_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
)

// A server moves: its port is wired on the second host before it is active there, and
// the first one keeps its wiring until it is unbound.
func TestServerMoves(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		one, two := c.host("node1", nil), c.host("node2", nil)
		s := c.site()
		compute := nacre.AsService(t.Context(), "compute")
		sp, err := c.EnsureServerPort(compute, network.ServerPortRequest{ProjectID: "alice", ServerID: "vm", Host: "node2", Zone: "nova", NIC: network.ServerNIC{NetworkID: s.net.ID}})
		require.NoError(t, err)
		id := sp.Port.ID
		web, err := c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: "web"}})
		require.NoError(t, err)
		group := web.ID
		_, err = c.UpdatePort(c.alice, id, network.PortChange{SecurityGroups: &[]string{group}})
		require.NoError(t, err)
		s.names[id], s.names[group] = "p", "web"
		c.rest()
		router := []string{"network net", "network public", "router r"}
		guest := []string{"port p", "security_group web"}
		wired := append([]string{"network net"}, guest...)
		audit := func() {
			t.Helper()
			c.rest()
			found, err := c.Audit(c.admin)
			require.NoError(t, err)
			require.Empty(t, found)
		}
		audit()
		require.ElementsMatch(t, wired, two.has(t, s.names))

		// There and back, and there again: generations go up each time.
		for _, to := range []*host{one, two, one} {
			require.NoError(t, c.BindServerPorts(compute, "alice", "vm", to.name))
			require.NoError(t, c.BindServerPorts(compute, "alice", "vm", to.name)) // again changes nothing
			audit()
			require.Equal(t, network.Active, c.status(sp.Port))
			require.Subset(t, one.has(t, s.names), wired)
			require.Subset(t, two.has(t, s.names), wired)
			// A change reaches both.
			_, err = c.UpdatePort(c.admin, id, network.PortChange{DNSName: ptr("to-" + to.name)})
			require.NoError(t, err)
			audit()

			require.NoError(t, c.ActivateServerPorts(compute, "alice", "vm", to.name))
			require.NoError(t, c.ActivateServerPorts(compute, "alice", "vm", to.name))
			p, err := c.Port(c.admin, id)
			require.NoError(t, err)
			require.Equal(t, to.name, p.Host)
			require.Equal(t, network.Active, p.Status, "wired there before")
			audit()
			require.Subset(t, one.has(t, s.names), wired)
			require.Subset(t, two.has(t, s.names), wired)
			for _, h := range []string{"node1", "node2"} {
				require.NoError(t, c.UnbindServerPorts(compute, "alice", "vm", h))
			}
			audit()
			if to == one {
				require.ElementsMatch(t, append(router, guest...), one.has(t, s.names))
				require.Empty(t, two.has(t, s.names))
			} else {
				require.ElementsMatch(t, router, one.has(t, s.names))
				require.ElementsMatch(t, wired, two.has(t, s.names))
			}
		}
		require.ErrorIs(t, c.ActivateServerPorts(compute, "alice", "vm", "node2"), nacre.NotFound)
		require.ErrorIs(t, c.BindServerPorts(compute, "alice", "vm", "nowhere"), nacre.Unavailable)
		require.ErrorIs(t, c.BindServerPorts(c.alice, "alice", "vm", "node2"), nacre.Forbidden)

		// What is deleted while it is bound twice leaves both.
		require.NoError(t, c.BindServerPorts(compute, "alice", "vm", "node2"))
		c.rest()
		require.NoError(t, c.ReleaseServerPorts(compute, "alice", "vm", ""))
		audit()
		require.ElementsMatch(t, router, one.has(t, s.names))
		require.Empty(t, two.has(t, s.names))
	})
}

func TestPortBindings(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		c.host("node1", nil)
		c.host("node2", nil)
		s := c.site()
		svc := nacre.AsService(t.Context(), "compute")
		none := c.port(c.admin, s.net, of("alice"))
		_, err := c.CreatePortBinding(svc, none.ID, network.Binding{Host: "node1"})
		require.ErrorIs(t, err, nacre.Invalid, "a port of no server")
		p := c.port(c.admin, s.net, of("alice"), func(p *network.NewPort) { p.DeviceID, p.DeviceOwner = "vm", "compute:nova" })

		b, err := c.CreatePortBinding(svc, p.ID, network.Binding{Host: "node1"})
		require.NoError(t, err)
		require.True(t, b.Active, "the first one")
		b, err = c.CreatePortBinding(svc, p.ID, network.Binding{Host: "node2", Profile: map[string]any{"a": "b"}})
		require.NoError(t, err)
		require.False(t, b.Active)
		_, err = c.CreatePortBinding(svc, p.ID, network.Binding{Host: "node2"})
		require.ErrorIs(t, err, nacre.Conflict)
		_, err = c.CreatePortBinding(svc, p.ID, network.Binding{Host: "nowhere"})
		require.ErrorIs(t, err, nacre.Unavailable)
		_, err = c.CreatePortBinding(c.alice, p.ID, network.Binding{Host: "node2"})
		require.ErrorIs(t, err, nacre.Forbidden)
		_, err = c.UpdatePortBinding(svc, p.ID, "node2", network.BindingChange{Profile: &map[string]any{"c": "d"}})
		require.NoError(t, err)

		_, err = c.ActivatePortBinding(svc, p.ID, "node1")
		require.ErrorIs(t, err, nacre.Conflict, "it is active")
		_, err = c.ActivatePortBinding(svc, p.ID, "nowhere")
		require.ErrorIs(t, err, nacre.NotFound)
		_, err = c.ActivatePortBinding(svc, p.ID, "node2")
		require.NoError(t, err)
		got, err := c.Port(c.admin, p.ID)
		require.NoError(t, err)
		require.Equal(t, "node2", got.Host)
		require.Equal(t, map[string]any{"c": "d"}, got.Profile)
		bs, err := c.PortBindings(svc, p.ID)
		require.NoError(t, err)
		require.Len(t, bs, 2)
		require.Equal(t, []string{"node2", "node1"}, []string{bs[0].Host, bs[1].Host})

		require.NoError(t, c.DeletePortBinding(svc, p.ID, "node1"))
		require.ErrorIs(t, c.DeletePortBinding(svc, p.ID, "node1"), nacre.NotFound)
		require.NoError(t, c.DeletePortBinding(svc, p.ID, "node2"))
		got, err = c.Port(c.admin, p.ID)
		require.NoError(t, err)
		require.Empty(t, got.Host)
		c.rest()
		found, err := c.Audit(c.admin)
		require.NoError(t, err)
		require.Empty(t, found)
	})
}
