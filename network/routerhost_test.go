package network_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/dataplane/fake"
	"github.com/nacre-cloud/nacre/store"
)

// at is the host that has a router.
func (c *cloud) at(id string) string {
	c.t.Helper()
	r, err := c.Router(c.admin, id)
	require.NoError(c.t, err)
	hs, err := c.RouterAgents(c.admin, id)
	require.NoError(c.t, err)
	if r.Host != "" {
		require.Len(c.t, hs, 1)
		require.Equal(c.t, r.Host, hs[0].Name)
	}
	return r.Host
}

func (c *cloud) agentOf(host string) string {
	c.t.Helper()
	hs, err := c.Agents(c.admin)
	require.NoError(c.t, err)
	for _, h := range hs {
		if h.Name == host {
			return h.ID
		}
	}
	require.Fail(c.t, "no agent", host)
	return ""
}

// twin is another process that serves the same database.
func (c *cloud) twin() {
	c.t.Helper()
	s, err := network.New(network.Config{Engine: c.engine, Bus: c.bus})
	require.NoError(c.t, err)
	c.start(func(ctx context.Context) { _ = s.Run(ctx) })
	synctest.Wait()
}

var routed = []string{"network net", "network public", "router r"}

// The routers of a host that died go to another, once, though two processes look after
// them; the old host loses its copy when it comes back, and the new one tells the
// neighbours again.
func TestRoutersLeaveADeadHost(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		c.twin()
		one, two := c.host("node1", nil), c.host("node2", nil)
		s := c.site()
		p := c.port(c.admin, s.net, of("alice"), on("node2"), func(p *network.NewPort) { p.DeviceID, p.DeviceOwner = "vm", "compute:nova" })
		f, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID, PortID: p.ID}, "")
		require.NoError(t, err)
		c.rest()
		require.Equal(t, "node1", c.at(s.router.ID))
		first, err := c.Router(c.admin, s.router.ID)
		require.NoError(t, err)
		one.stop()
		wait(time.Minute)
		require.Equal(t, "node1", c.at(s.router.ID), "it may yet be heard")
		wait(time.Minute)
		require.Equal(t, "node2", c.at(s.router.ID))
		require.Subset(t, two.has(t, s.names), routed)
		after, err := c.Router(c.admin, s.router.ID)
		require.NoError(t, err)
		require.Equal(t, first.Moves+1, after.Moves, "it moved once")
		leg, err := c.Port(c.admin, s.leg.PortID)
		require.NoError(t, err)
		require.Equal(t, network.Active, leg.Status)
		f, err = c.FloatingIP(c.alice, f.ID)
		require.NoError(t, err)
		require.Equal(t, network.Active, f.Status)
		c.clean()

		c.host("node1", one.Driver)
		c.rest()
		wait(10 * time.Minute)
		require.Empty(t, one.has(t, s.names))
		require.Equal(t, "node2", c.at(s.router.ID), "it stays where it is")
		again, err := c.Router(c.admin, s.router.ID)
		require.NoError(t, err)
		require.Equal(t, after.Moves+1, again.Moves, "the neighbours are told when the old copy went")
		c.rest()
	})
}

// When nobody was heard for a while it was not the hosts that died: the first that is
// heard again does not get everything.
func TestRoutersStayOverAnOutage(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		one, two := c.host("node1", nil), c.host("node2", nil)
		s := c.site()
		c.rest()
		one.stop()
		two.stop()
		wait(10 * time.Minute)
		require.Equal(t, "node1", c.at(s.router.ID))
		c.host("node2", two.Driver)
		wait(time.Minute)
		require.Equal(t, "node1", c.at(s.router.ID))
		c.host("node1", one.Driver)
		wait(10 * time.Minute)
		require.Equal(t, "node1", c.at(s.router.ID))
		require.ElementsMatch(t, routed, one.has(t, s.names))
		c.rest()
	})
}

// Without another that lives, or the wish, routers stay.
func TestRoutersStayWithTheOnlyHost(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		one := c.host("node1", nil)
		s := c.site()
		c.rest()
		_, err := c.UpdateAgent(c.admin, c.agentOf("node1"), network.AgentChange{AdminUp: ptr(false)})
		require.NoError(t, err)
		one.stop()
		wait(10 * time.Minute)
		require.Equal(t, "node1", c.at(s.router.ID))
		c.host("node1", one.Driver)
		c.rest()
		require.ElementsMatch(t, routed, one.has(t, s.names))
	})
}

// The routers of a disabled host leave it, and none come; new ones go where there are
// fewest, and to hosts that have the gateway's network.
func TestRoutersAndDisabledHosts(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		inner, err := fake.New(fake.Config{Physical: []string{}})
		require.NoError(t, err)
		one := c.host("node1", nil)
		s := c.site()
		c.rest()
		off := func(host string, up bool) {
			t.Helper()
			h, err := c.UpdateAgent(c.admin, c.agentOf(host), network.AgentChange{AdminUp: ptr(up), Description: ptr("by hand")})
			require.NoError(t, err)
			require.Equal(t, up, h.AdminUp)
			require.Equal(t, "by hand", h.Description)
			wait(time.Second)
		}
		three := c.host("node3", inner)
		wait(time.Minute)
		off("node1", false)
		require.Equal(t, "node1", c.at(s.router.ID), "node3 has no way to the gateway's network")
		two := c.host("node2", nil)
		wait(10 * time.Second)
		require.Equal(t, "node2", c.at(s.router.ID))
		c.rest()
		require.Empty(t, one.has(t, s.names))
		require.ElementsMatch(t, routed, two.has(t, s.names))
		off("node1", true)
		wait(time.Minute)
		require.Equal(t, "node2", c.at(s.router.ID))

		n := c.network(c.alice, "more")
		sn := c.subnet(c.alice, n, "10.9.0.0/24")
		r, err := c.CreateRouter(c.alice, network.Router{AdminUp: true}, nil)
		require.NoError(t, err)
		require.Empty(t, c.at(r.ID))
		off("node1", false)
		_, err = c.AddInterface(c.alice, r.ID, sn.ID, "")
		require.NoError(t, err)
		require.Equal(t, "node3", c.at(r.ID), "it has none yet")
		c.rest()
		require.NotEmpty(t, three.has(t, nil))
		_, err = c.UpdateRouter(c.alice, r.ID, network.RouterChange{Gateway: &network.GatewayChange{NetworkID: s.ext.ID}})
		require.NoError(t, err)
		require.Equal(t, "node2", c.at(r.ID), "the gateway is there")
		c.rest()
		require.Empty(t, three.has(t, nil))
	})
}

// An operator takes a router from its host and gives it to another.
func TestRoutersByHand(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		one, two := c.host("node1", nil), c.host("node2", nil)
		s := c.site()
		c.rest()
		a, b := c.agentOf("node1"), c.agentOf("node2")
		fails(t, c.AddAgentRouter(c.admin, b, s.router.ID), nacre.Conflict, "RouterHostedByL3Agent")
		require.NoError(t, c.AddAgentRouter(c.admin, a, s.router.ID))
		require.ErrorIs(t, c.AddAgentRouter(c.alice, a, s.router.ID), nacre.Forbidden)
		require.ErrorIs(t, c.RemoveAgentRouter(c.alice, a, s.router.ID), nacre.Forbidden)
		fails(t, c.AddAgentRouter(c.admin, "nobody", s.router.ID), nacre.NotFound, "AgentNotFound")
		fails(t, c.AddAgentRouter(c.admin, a, "none"), nacre.NotFound, "RouterNotFound")
		require.NoError(t, c.RemoveAgentRouter(c.admin, b, s.router.ID))
		require.Equal(t, "node1", c.at(s.router.ID))

		require.NoError(t, c.RemoveAgentRouter(c.admin, a, s.router.ID))
		wait(time.Minute)
		c.rest()
		require.Empty(t, c.at(s.router.ID), "nothing gives it back by itself")
		require.Empty(t, one.has(t, s.names))
		_, err := c.UpdateAgent(c.admin, b, network.AgentChange{AdminUp: ptr(false)})
		require.NoError(t, err)
		fails(t, c.AddAgentRouter(c.admin, b, s.router.ID), nacre.NotFound, "InvalidL3Agent")
		_, err = c.UpdateAgent(c.admin, b, network.AgentChange{AdminUp: ptr(true)})
		require.NoError(t, err)
		require.NoError(t, c.AddAgentRouter(c.admin, b, s.router.ID))
		c.rest()
		require.ElementsMatch(t, routed, two.has(t, s.names))
		rs, err := c.AgentRouters(c.admin, b)
		require.NoError(t, err)
		require.Len(t, rs, 1)
		require.Equal(t, s.router.ID, rs[0].ID)

		// A change finds it a host again.
		require.NoError(t, c.RemoveAgentRouter(c.admin, b, s.router.ID))
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{AdminUp: ptr(true)})
		require.NoError(t, err)
		require.Equal(t, "node1", c.at(s.router.ID))
		c.rest()
		require.ElementsMatch(t, routed, one.has(t, s.names))
	})
}

// A host without the gateway's network serves a router's inner networks while there is no
// other; the router goes where the gateway's is as soon as it can.
func TestRoutersComeBackToTheirGateway(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		one := c.host("node1", nil)
		inner, err := fake.New(fake.Config{Physical: []string{}})
		require.NoError(t, err)
		three := c.host("node3", inner)
		s := c.site()
		c.rest()
		one.stop()
		wait(10 * time.Minute)
		require.Equal(t, "node3", c.at(s.router.ID))

		// One that gets its gateway meanwhile, and one that has no gateway.
		late, err := c.CreateRouter(c.alice, network.Router{Std: network.Std{Name: "late"}, AdminUp: true}, &network.GatewayChange{NetworkID: s.ext.ID})
		require.NoError(t, err)
		require.Equal(t, "node3", c.at(late.ID))
		plain, err := c.CreateRouter(c.alice, network.Router{Std: network.Std{Name: "plain"}, AdminUp: true}, nil)
		require.NoError(t, err)
		n := c.network(c.alice, "more")
		_, err = c.AddInterface(c.alice, plain.ID, c.subnet(c.alice, n, "10.9.0.0/24").ID, "")
		require.NoError(t, err)
		s.names[late.ID], s.names[plain.ID], s.names[n.ID] = "late", "plain", "more"

		c.host("node1", one.Driver)
		wait(10 * time.Minute)
		require.Equal(t, "node1", c.at(s.router.ID))
		require.Equal(t, "node1", c.at(late.ID))
		require.Equal(t, "node3", c.at(plain.ID))
		c.rest()
		require.ElementsMatch(t, append([]string{"router late"}, routed...), one.has(t, s.names))
		require.ElementsMatch(t, []string{"network more", "router plain"}, three.has(t, s.names))
	})
}

// A router that moves because its gateway's network changes leaves nothing behind.
func TestRouterLeavesWithItsOldGateway(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		admin, err := network.New(network.Config{Engine: c.engine, Bus: c.bus, Physical: []string{"public", "other"}})
		require.NoError(t, err)
		here, err := fake.New(fake.Config{Physical: []string{"public"}})
		require.NoError(t, err)
		there, err := fake.New(fake.Config{Physical: []string{"other"}})
		require.NoError(t, err)
		three := c.host("node3", here)
		two := c.host("node2", there)
		s := c.site()
		other, err := admin.CreateNetwork(c.admin, network.Network{Std: network.Std{Name: "other"}, AdminUp: true, External: true, Type: "flat", Physical: "other"})
		require.NoError(t, err)
		c.subnet(c.admin, other, "172.24.5.0/24")
		c.rest()
		require.Equal(t, "node3", c.at(s.router.ID))
		require.ElementsMatch(t, routed, three.has(t, s.names))
		_, err = c.UpdateRouter(c.alice, s.router.ID, network.RouterChange{Gateway: &network.GatewayChange{NetworkID: other.ID}})
		require.NoError(t, err)
		c.rest()
		require.Equal(t, "node2", c.at(s.router.ID))
		require.Empty(t, three.has(t, s.names))
		s.names[other.ID] = "other"
		require.ElementsMatch(t, []string{"network net", "network other", "router r"}, two.has(t, s.names))
	})
}

// refusing is an engine that doesn't give out one router's row.
type refusing struct {
	store.Engine
	router string
}

func (r *refusing) Unwrap() store.Engine { return r.Engine }

func (r *refusing) Get(ctx context.Context, t *store.TableDef, id string, forUpdate bool) (store.Row, error) {
	if t.Name == "router" && id == r.router {
		return store.Row{}, errors.New("the row is damaged")
	}
	return r.Engine.Get(ctx, t, id, forUpdate)
}

// A router that can't be moved keeps no other from it.
func TestOneRouterFailsToMove(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		one := c.host("node1", nil)
		s := c.site()
		r, err := c.CreateRouter(c.alice, network.Router{AdminUp: true}, &network.GatewayChange{NetworkID: s.ext.ID})
		require.NoError(t, err)
		c.rest()
		c.stop()
		ids := []string{s.router.ID, r.ID}
		slices.Sort(ids)
		next := c.restart(&refusing{c.engine, ids[0]})
		next.host("node2", nil)
		one.stop()
		wait(10 * time.Minute)
		require.Equal(t, "node1", c.at(ids[0]))
		require.Equal(t, "node2", c.at(ids[1]))
	})
}

// That a router leaves a host is told to no one whose tunnels stay as they are.
func TestRouterLeavesQuietly(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		c.host("node1", nil)
		two := c.host("node2", nil)
		s := c.site()
		c.port(c.admin, s.net, of("alice"), on("node1"))
		c.port(c.admin, s.net, of("alice"), on("node2"))
		c.rest()
		before := two.messages(s.net.ID)
		require.NoError(t, c.RemoveAgentRouter(c.admin, c.agentOf("node1"), s.router.ID))
		c.rest()
		require.Equal(t, before, two.messages(s.net.ID))
	})
}
