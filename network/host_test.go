package network_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/fake"
)

func (c *cloud) status(p network.Port) string {
	c.t.Helper()
	p, err := c.Port(c.admin, p.ID)
	require.NoError(c.t, err)
	return p.Status
}

// wait lets d pass and everything that it brings about.
func wait(d time.Duration) { time.Sleep(d); synctest.Wait() }

// Who gets what: a port's host gets the port, its network and its groups; the first
// host also has the routers with their networks.
func TestPlaces(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		one, two := c.host("node1", nil), c.host("node2", nil)
		s := c.site()
		c.rest()
		router := []string{"network net", "network public", "router r"}
		require.ElementsMatch(t, router, one.has(t, s.names))
		require.Empty(t, two.has(t, s.names))

		p := c.port(c.admin, s.net, of("alice"), on("node2"), func(p *network.NewPort) { p.DeviceID, p.DeviceOwner = "vm", "compute:nova" })
		s.names[p.ID] = "p"
		require.Equal(t, network.Down, p.Status)
		c.rest()
		require.Equal(t, network.Active, c.status(p))
		c.mu.Lock()
		require.Equal(t, []string{"vm"}, c.wired)
		c.mu.Unlock()
		guest := []string{"network net", "port p", "security_group default"}
		require.ElementsMatch(t, router, one.has(t, s.names))
		require.ElementsMatch(t, guest, two.has(t, s.names))
		leg, err := c.Port(c.admin, s.leg.PortID)
		require.NoError(t, err)
		require.Equal(t, network.Active, leg.Status)

		// It moves, and back, and back again: everything follows each time.
		for _, to := range []*host{one, two, one} {
			_, err := c.UpdatePort(c.admin, p.ID, network.PortChange{Host: ptr(to.name)})
			require.NoError(t, err)
			require.Equal(t, network.Down, c.status(p))
			c.rest()
			require.Equal(t, network.Active, c.status(p))
			if to == two {
				require.ElementsMatch(t, router, one.has(t, s.names))
				require.ElementsMatch(t, guest, two.has(t, s.names))
			} else {
				require.ElementsMatch(t, append(router, guest[1:]...), one.has(t, s.names))
				require.Empty(t, two.has(t, s.names))
			}
		}
		// Unbound it is nowhere.
		_, err = c.UpdatePort(c.admin, p.ID, network.PortChange{Host: ptr("")})
		require.NoError(t, err)
		c.rest()
		require.Equal(t, network.Down, c.status(p))
		require.ElementsMatch(t, router, one.has(t, s.names))

		// The router loses its legs, gets one again, loses it: it and its networks
		// go and come.
		for range 2 {
			_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Gateway: &network.GatewayChange{Clear: true}})
			require.NoError(t, err)
			_, err = c.RemoveInterface(c.alice, s.router.ID, s.subnet.ID, "")
			require.NoError(t, err)
			c.rest()
			require.Empty(t, one.has(t, s.names))
			_, err = c.AddInterface(c.alice, s.router.ID, s.subnet.ID, "")
			require.NoError(t, err)
			c.rest()
			require.ElementsMatch(t, []string{"network net", "router r"}, one.has(t, s.names))
		}
		_, err = c.RemoveInterface(c.alice, s.router.ID, s.subnet.ID, "")
		require.NoError(t, err)
		require.NoError(t, c.DeleteRouter(c.alice, s.router.ID))
		require.NoError(t, c.DeletePort(c.alice, p.ID))
		require.NoError(t, c.DeleteNetwork(c.alice, s.net.ID))
		c.rest()
		require.Empty(t, one.has(t, s.names))
		require.Empty(t, two.has(t, s.names))
	})
}

// Routers that were there before any host are placed when the first one comes.
func TestFirstHostGetsRouters(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		s := c.site()
		c.rest()
		h := c.host("node1", nil)
		c.rest()
		require.ElementsMatch(t, []string{"network net", "network public", "router r"}, h.has(t, s.names))
	})
}

// A change sends the object that changed, and no other.
func TestOnlyWhatChangedIsSent(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		s := c.site()
		p := c.port(c.admin, s.net, of("alice"), on("node1"))
		c.rest()
		count := func() map[string]int {
			return map[string]int{"net": h.messages(s.net.ID), "router": h.messages(s.router.ID), "group": h.messages(s.group), "port": h.messages(p.ID)}
		}
		changes := func(want ...string) {
			t.Helper()
			before := count()
			c.rest()
			for k, n := range count() {
				expect := before[k]
				for _, w := range want {
					if w == k {
						expect++
					}
				}
				require.Equal(t, expect, n, k)
			}
		}
		_, err := c.UpdatePort(c.alice, p.ID, network.PortChange{AdminUp: ptr(false)})
		require.NoError(t, err)
		changes("port")
		_, err = c.UpdateTags(c.alice, "networks", s.net.ID, func([]string) ([]string, error) { return []string{"red"}, nil })
		require.NoError(t, err)
		_, err = c.UpdateTags(c.alice, "routers", s.router.ID, func([]string) ([]string, error) { return []string{"red"}, nil })
		require.NoError(t, err)
		_, err = c.UpdateTags(c.alice, "security-groups", s.group, func([]string) ([]string, error) { return []string{"red"}, nil })
		require.NoError(t, err)
		_, err = c.UpdateTags(c.alice, "ports", p.ID, func([]string) ([]string, error) { return []string{"red"}, nil })
		require.NoError(t, err)
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Name: ptr("named")})
		require.NoError(t, err)
		changes()
		_, err = c.CreateSecurityGroupRule(c.alice, network.SecurityGroupRule{GroupID: s.group, Direction: "ingress", Protocol: "icmp"})
		require.NoError(t, err)
		changes("group")
		_, err = c.UpdateSubnet(c.alice, s.subnet.ID, func(sn *network.Subnet) error { sn.DNS = []string{"1.1.1.1"}; return nil })
		require.NoError(t, err)
		changes("net")
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{AdminUp: ptr(false)})
		require.NoError(t, err)
		changes("router")
		wait(10 * time.Minute)
		changes()
	})
}

// A host that lost everything gets it again; what it has but should not is left.
func TestHostForgets(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		s := c.site()
		p := c.port(c.admin, s.net, of("alice"), on("node1"))
		s.names[p.ID] = "p"
		c.rest()
		all := h.has(t, s.names)
		require.Len(t, all, 5)

		h.stop()
		empty, err := fake.New(fake.Config{ManualTaps: true})
		require.NoError(t, err)
		require.NoError(t, empty.ApplyNetwork(t.Context(), dataplane.Network{ID: "stranger", Generation: 3, Type: "local"}))
		h = c.host("node1", empty)
		wait(time.Second)
		require.Equal(t, network.Down, c.status(p), "a port is ACTIVE only while its host says so")
		empty.AddTap(tap(p))
		c.rest()
		require.Equal(t, network.Active, c.status(p))
		require.ElementsMatch(t, append(all, "network stranger"), h.has(t, s.names))
	})
}

func tap(p network.Port) string { return "tap" + p.ID[:11] }

// A host that is away: the port leaves at once for the user, the tombstone waits.
func TestTombstonesWaitForTheirHost(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		p := c.port(c.admin, n, of("alice"), on("node1"))
		c.rest()
		h.stop()
		require.NoError(t, c.DeletePort(c.alice, p.ID))
		_, err := c.Port(c.alice, p.ID)
		fails(t, err, nacre.NotFound, "PortNotFound")
		wait(3 * time.Hour)
		left, err := c.Waiting(c.admin)
		require.NoError(t, err)
		require.EqualValues(t, 3, left, "port, network and group")
		c.clean()
		h = c.host("node1", h.Driver)
		c.rest()
		require.Empty(t, h.has(t, nil))
	})
}

// What comes back before the host let go of it must not be taken for the old one.
func TestBackBeforeTheTombstoneWasSeen(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		s := c.site()
		p := c.port(c.admin, s.net, of("alice"), on("node1"))
		s.names[p.ID] = "p"
		c.rest()
		all := h.has(t, s.names)
		for _, away := range []bool{true, false} {
			if away {
				h.stop()
			} else {
				h.SetFaults(fake.Faults{Delete: func(context.Context, dataplane.Kind, string) error { return errors.New("stuck") }})
			}
			_, err := c.UpdatePort(c.admin, p.ID, network.PortChange{Host: ptr("")})
			require.NoError(t, err)
			_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Gateway: &network.GatewayChange{Clear: true}})
			require.NoError(t, err)
			_, err = c.RemoveInterface(c.alice, s.router.ID, s.subnet.ID, "")
			require.NoError(t, err)
			wait(time.Second)
			_, err = c.UpdatePort(c.admin, p.ID, network.PortChange{Host: ptr("node1")})
			require.NoError(t, err)
			_, err = c.AddInterface(c.alice, s.router.ID, s.subnet.ID, "")
			require.NoError(t, err)
			_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Gateway: &network.GatewayChange{NetworkID: s.ext.ID}})
			require.NoError(t, err)
			if away {
				h = c.host("node1", h.Driver)
			} else {
				h.SetFaults(fake.Faults{})
			}
			c.rest()
			require.ElementsMatch(t, all, h.has(t, s.names))
			require.Equal(t, network.Active, c.status(p))
		}
	})
}

// A host that refuses says why, and is not asked again without end; when it can, it
// does.
func TestHostRefuses(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		h.SetFaults(fake.Faults{Apply: func(_ context.Context, r dataplane.Ref) error {
			if r.Kind == dataplane.KindPort {
				return errors.New("no")
			}
			return nil
		}})
		p := c.port(c.admin, n, of("alice"), on("node1"))
		wait(time.Minute)
		require.Equal(t, network.Down, c.status(p))
		h.SetFaults(fake.Faults{})
		wait(time.Minute)
		c.rest()
		require.Equal(t, network.Active, c.status(p))
	})
}

// Reports that are old, doubled, or of nothing that is known do no harm.
func TestStrayReports(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		c.host("node1", nil)
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		p := c.port(c.admin, n, of("alice"), on("node1"))
		c.rest()
		now, err := c.Port(c.admin, p.ID)
		require.NoError(t, err)
		say := func(states ...dataplane.State) {
			t.Helper()
			require.NoError(t, c.bus.Publish(c.admin, bus.Queue, "network.report.node1", dataplane.Report{States: states}))
			wait(100 * time.Millisecond)
		}
		ref := func(gen int64) dataplane.Ref {
			return dataplane.Ref{Kind: dataplane.KindPort, ID: p.ID, Generation: gen}
		}
		say(dataplane.State{Ref: ref(now.Generation - 1)}, dataplane.State{Ref: ref(now.Generation), Absent: true},
			dataplane.State{Ref: dataplane.Ref{Kind: "port", ID: "nobody", Generation: 9}, Active: true})
		require.Equal(t, network.Active, c.status(p))
		say(dataplane.State{Ref: ref(now.Generation), Reason: "the tap went"})
		require.Equal(t, network.Down, c.status(p))
		say(dataplane.State{Ref: ref(now.Generation), Active: true})
		require.Equal(t, network.Active, c.status(p))
		require.NoError(t, c.bus.Publish(c.admin, bus.Queue, "network.report.node1", "nonsense"))
		wait(time.Second)
		c.rest()
	})
}

// A database that was brought back from a copy is behind its hosts; they are
// brought to what it says all the same.
func TestHostIsAhead(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		p := c.port(c.admin, n, of("alice"), on("node1"))
		c.rest()
		require.NoError(t, h.ApplyPort(t.Context(), dataplane.Port{ID: p.ID, Generation: 1000, NetworkID: n.ID, MAC: "fa:16:3e:00:00:01", Tap: tap(p)}))
		wait(3 * time.Minute) // until the next full report
		c.rest()
		now, err := c.Port(c.admin, p.ID)
		require.NoError(t, err)
		require.Greater(t, now.Generation, int64(1000))
		require.Equal(t, network.Active, now.Status)
	})
}

func TestAgents(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		c.rest()
		hs, err := c.Agents(c.alice)
		require.NoError(t, err)
		require.Empty(t, hs, "what one may not see is left out of lists")
		_, err = c.Agent(c.alice, "any")
		require.ErrorIs(t, err, nacre.Forbidden)
		hs, err = c.Agents(c.admin)
		require.NoError(t, err)
		require.Len(t, hs, 1)
		require.True(t, c.Up(hs[0]))
		require.Equal(t, "fake", hs[0].Info.Driver)
		h.stop()
		wait(5 * time.Minute)
		hs, err = c.Agents(c.admin)
		require.NoError(t, err)
		require.False(t, c.Up(hs[0]))
		_, err = c.AddHost(c.admin, "a/b")
		require.ErrorIs(t, err, nacre.Invalid)
	})
}

// Hosts that share a vxlan network know of each other's tunnels, and of nobody else's.
func TestTunnels(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		at := func(name, tunnel string) *host {
			d, err := fake.New(fake.Config{Tunnel: netip.MustParseAddr(tunnel)})
			require.NoError(t, err)
			return c.host(name, d)
		}
		one, two, three := at("node1", "192.0.2.1"), at("node2", "192.0.2.2"), at("node3", "192.0.2.3")
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		ends := func(h *host) (out []string) {
			c.rest()
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, d := range h.got {
				if d.Network != nil && d.ID == n.ID {
					out = []string{}
					for _, a := range d.Network.Tunnels {
						out = append(out, a.String())
					}
				}
			}
			return out
		}
		c.port(c.admin, n, of("alice"), on("node1"))
		require.Empty(t, ends(one))
		p := c.port(c.admin, n, of("alice"), on("node2"))
		require.Equal(t, []string{"192.0.2.2"}, ends(one))
		require.Equal(t, []string{"192.0.2.1"}, ends(two))
		c.port(c.admin, n, of("alice"), on("node3"))
		require.Equal(t, []string{"192.0.2.2", "192.0.2.3"}, ends(one))
		require.Equal(t, []string{"192.0.2.1", "192.0.2.3"}, ends(two))
		require.NoError(t, c.DeletePort(c.alice, p.ID))
		require.Equal(t, []string{"192.0.2.3"}, ends(one))
		require.Equal(t, []string{"192.0.2.1"}, ends(three))

		// A host comes back with another address.
		three.stop()
		at("node3", "198.51.100.3")
		time.Sleep(time.Minute)
		require.Equal(t, []string{"198.51.100.3"}, ends(one))

		// A network of another type has none.
		flat, err := c.CreateNetwork(c.admin, network.Network{Std: network.Std{Name: "flat", ProjectID: "alice"}, AdminUp: true, Type: "flat", Physical: "public"})
		require.NoError(t, err)
		n = flat
		c.port(c.admin, n, of("alice"), on("node1"))
		c.port(c.admin, n, of("alice"), on("node2"))
		require.Empty(t, ends(one))
	})
}
