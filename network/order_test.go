package network_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/fake"
	"github.com/nacre-cloud/nacre/store/memstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// ordered runs a story on an engine that locks rows, and fails when a transaction had to
// begin again. before, where it is set, is called before each call of the engine.
func ordered(t *testing.T, f func(t *testing.T, c *cloud, before *atomic.Pointer[func(op, table string)])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := memstore.New(memstore.Options{ReadCommitted: true})
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		var begun, committed atomic.Int64
		before := new(atomic.Pointer[func(op, table string)])
		c := newCloud(t, storetest.Faulty(e, func(op, table string) error {
			switch op {
			case "begin":
				begun.Add(1)
			case "committed":
				committed.Add(1)
			}
			if f := before.Load(); f != nil {
				(*f)(op, table)
			}
			return nil
		}), true)
		f(t, c, before)
		c.rest()
		require.Equal(t, committed.Load(), begun.Load(), "transactions that began again")
	})
}

// once has f run, beside the caller, when the engine is called the nth time for op on
// table, and gives it the time to get where it can get.
func once(before *atomic.Pointer[func(op, table string)], nth int64, op, table string, f func()) (done chan struct{}) {
	done = make(chan struct{})
	var n atomic.Int64
	on := func(o, t string) {
		if o == op && t == table && n.Add(1) == nth {
			go func() { defer close(done); f() }()
			time.Sleep(20 * time.Millisecond)
		}
	}
	before.Store(&on)
	return done
}

// A router goes back to a host while that says that it has let go of it.
func TestRouterGoesBackWhileItsOldHostReports(t *testing.T) {
	ordered(t, func(t *testing.T, c *cloud, before *atomic.Pointer[func(op, table string)]) {
		one := c.host("node1", nil)
		c.host("node2", nil)
		s := c.site()
		c.rest()
		agents := map[string]string{"node1": c.agentOf("node1"), "node2": c.agentOf("node2")}
		enable := func(host string, on bool) {
			_, err := c.UpdateAgent(c.admin, agents[host], network.AgentChange{AdminUp: &on})
			assert.NoError(t, err)
		}
		require.Equal(t, "node1", c.at(s.router.ID))
		held := make(chan struct{})
		one.SetFaults(fake.Faults{Delete: func(_ context.Context, kind dataplane.Kind, _ string) error {
			if kind == dataplane.KindRouter {
				<-held
			}
			return nil
		}})
		enable("node1", false)
		wait(time.Second)
		require.Equal(t, "node2", c.at(s.router.ID))
		enable("node1", true)
		back := once(before, 1, "delete", "place", func() { enable("node2", false) })
		close(held)
		<-back
		before.Store(nil)
		wait(time.Minute)
		require.Equal(t, "node1", c.at(s.router.ID))
	})
}

// A port's host reports while the port changes.
func TestPortChangesWhileItsHostReports(t *testing.T) {
	ordered(t, func(t *testing.T, c *cloud, before *atomic.Pointer[func(op, table string)]) {
		c.host("node1", nil)
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		c.rest()
		changed := once(before, 2, "update", "place", func() {
			ps, err := c.Ports(c.admin, q("name", "guest"))
			if assert.NoError(t, err) && assert.Len(t, ps, 1) {
				_, err = c.UpdatePort(c.admin, ps[0].ID, network.PortChange{AdminUp: ptr(false)})
				assert.NoError(t, err)
			}
		})
		c.port(c.admin, n, of("alice"), on("node1"), func(p *network.NewPort) { p.Name, p.PortSecurity = "guest", ptr(false) })
		<-changed
		before.Store(nil)
	})
}

// Two servers whose ports are on the same two networks, in another order, move at the
// same time, and are released at the same time.
func TestServersPortsMoveTogether(t *testing.T) {
	ordered(t, func(t *testing.T, c *cloud, before *atomic.Pointer[func(op, table string)]) {
		c.host("node1", nil)
		c.host("node2", nil)
		compute := nacre.AsService(t.Context(), "compute")
		a, b := c.network(c.alice, "a"), c.network(c.alice, "b")
		c.subnet(c.alice, a, "10.0.0.0/24")
		c.subnet(c.alice, b, "10.0.1.0/24")
		serve := func(server string, index int, n network.Network) string {
			p := c.port(c.alice, n)
			_, err := c.EnsureServerPort(compute, network.ServerPortRequest{ProjectID: "alice", ServerID: server, Index: index, Host: "node1", Zone: "nova", NIC: network.ServerNIC{PortID: p.ID}})
			require.NoError(t, err)
			return p.ID
		}
		servers := map[bool]string{} // by whether the port on a is the first
		for i := 0; len(servers) < 2; i++ {
			server := "vm" + string(rune('a'+i))
			servers[serve(server, 0, a) < serve(server, 1, b)] = server
		}
		c.rest()
		for _, m := range []struct {
			second int64 // which lock is that of the second network
			do     func(server string) error
		}{
			{3, func(server string) error { return c.BindServerPorts(compute, "alice", server, "node2") }},
			{2, func(server string) error { return c.ReleaseServerPorts(compute, "alice", server, "") }},
		} {
			other := once(before, m.second, "lock", "", func() { assert.NoError(t, m.do(servers[false])) })
			require.NoError(t, m.do(servers[true]))
			<-other
			before.Store(nil)
			c.rest()
		}
	})
}
