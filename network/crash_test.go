package network_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/store/memstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// dying is the engine of a process that dies at a chosen call.
type dying struct {
	mu        sync.Mutex
	armed     bool
	calls, at int
}

var errDead = errors.New("the process is dead")

func (d *dying) before(string, string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.armed {
		return nil
	}
	d.calls++
	if d.at > 0 && d.calls >= d.at {
		return errDead
	}
	return nil
}

func (d *dying) arm(on bool) {
	d.mu.Lock()
	d.armed = on
	d.mu.Unlock()
}

// crashes runs act in processes that die at the first, second, … call of the store
// until it lives through; each time another process takes over, comes to rest, and
// audits. after looks at what came of it.
func crashes(t *testing.T, setup func(c *cloud, s *site), act func(c *cloud, s *site) error, after func(c *cloud, s *site, h *host)) {
	t.Helper()
	for at := 1; at > 0; at++ {
		synctest.Test(t, func(t *testing.T) {
			e := memstore.New(memstore.Options{})
			defer e.Close()
			d := &dying{at: at}
			c := newCloud(t, storetest.Faulty(e, d.before), true)
			h := c.host("node1", nil)
			s := c.site()
			if setup != nil {
				setup(c, s)
			}
			c.rest()
			d.arm(true)
			err := act(c, s)
			for range 5 {
				wait(20 * time.Millisecond)
			}
			d.arm(false)
			if err == nil && d.calls < at {
				at = -1
			}
			next := c.restart(e)
			// What was said while nobody listened is said again in time.
			wait(2 * time.Minute)
			next.rest()
			after(next, s, h)
		})
	}
}

func TestCrashWhileCreatingPort(t *testing.T) {
	crashes(t, nil, func(c *cloud, s *site) error {
		_, err := c.newPort(c.admin, s.net, of("alice"), on("node1"), func(p *network.NewPort) { p.Name = "p" })
		return err
	}, func(c *cloud, s *site, h *host) {
		ps, err := c.Ports(c.admin, q("name", "p"))
		require.NoError(c.t, err)
		for _, p := range ps {
			require.Equal(c.t, network.Active, p.Status)
			s.names[p.ID] = "p"
		}
		want := []string{"network net", "network public", "router r"}
		if len(ps) > 0 {
			want = append(want, "port p", "security_group default")
		}
		require.ElementsMatch(c.t, want, h.has(c.t, s.names))
	})
}

func TestCrashWhileDeletingPort(t *testing.T) {
	crashes(t, func(c *cloud, s *site) {
		p := c.port(c.admin, s.net, of("alice"), on("node1"), func(p *network.NewPort) { p.Name = "p" })
		s.guest, s.names[p.ID] = p.ID, "p"
		_, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID, PortID: p.ID}, "")
		require.NoError(c.t, err)
	}, func(c *cloud, s *site) error {
		return c.DeletePort(c.alice, s.guest)
	}, func(c *cloud, s *site, h *host) {
		want := []string{"network net", "network public", "router r"}
		_, err := c.Port(c.alice, s.guest)
		fs, ferr := c.FloatingIPs(c.alice, nacre.Query{})
		require.NoError(c.t, ferr)
		if err == nil {
			want = append(want, "port p", "security_group default")
			require.Equal(c.t, s.guest, fs[0].PortID)
			require.Equal(c.t, network.Active, fs[0].Status)
		} else {
			require.Empty(c.t, fs[0].PortID)
		}
		require.ElementsMatch(c.t, want, h.has(c.t, s.names))
	})
}

func TestCrashWhileCreatingRouter(t *testing.T) {
	crashes(t, nil, func(c *cloud, s *site) error {
		_, err := c.CreateRouter(c.alice, network.Router{Std: network.Std{Name: "second"}, AdminUp: true}, &network.GatewayChange{NetworkID: s.ext.ID})
		return err
	}, func(c *cloud, s *site, h *host) {
		want := []string{"network net", "network public", "router r"}
		rs, err := c.Routers(c.alice, q("name", "second"))
		require.NoError(c.t, err)
		for _, r := range rs {
			s.names[r.ID] = "second"
			want = append(want, "router second")
		}
		require.ElementsMatch(c.t, want, h.has(c.t, s.names))
	})
}

func TestCrashWhileDeletingRouter(t *testing.T) {
	crashes(t, func(c *cloud, s *site) {
		_, err := c.RemoveInterface(c.alice, s.router.ID, s.subnet.ID, "")
		require.NoError(c.t, err)
	}, func(c *cloud, s *site) error {
		return c.DeleteRouter(c.alice, s.router.ID)
	}, func(c *cloud, s *site, h *host) {
		want := []string{}
		if _, err := c.Router(c.alice, s.router.ID); err == nil {
			want = []string{"network public", "router r"}
		}
		require.ElementsMatch(c.t, want, h.has(c.t, s.names))
	})
}

// The same with a process that dies anywhere in the work that follows.
func TestCrashWhileHostsAreTold(t *testing.T) {
	for at := 1; at <= 60; at += 3 {
		synctest.Test(t, func(t *testing.T) {
			e := memstore.New(memstore.Options{})
			defer e.Close()
			d := &dying{at: at}
			c := newCloud(t, storetest.Faulty(e, d.before), true)
			h := c.host("node1", nil)
			s := c.site()
			p := c.port(c.admin, s.net, of("alice"), on("node1"))
			f, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID, PortID: p.ID}, "")
			require.NoError(t, err)
			d.arm(true)
			wait(30 * time.Second)
			d.arm(false)
			next := c.restart(e)
			wait(2 * time.Minute)
			next.rest()
			require.Equal(t, network.Active, next.status(p))
			f, err = next.FloatingIP(next.alice, f.ID)
			require.NoError(t, err)
			require.Equal(t, network.Active, f.Status)
			require.Len(t, h.has(t, nil), 5)
		})
	}
}

// Messages that are lost and doubled delay, no more.
func TestLossyBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memstore.New(memstore.Options{})
		defer e.Close()
		c := newCloud(t, e, true)
		h := c.host("node1", nil)
		s := c.site()
		c.rest()
		var ports []network.Port
		for i := range 10 {
			if i%2 == 0 {
				h.stop() // its queue is not read, its reports are not sent
			}
			ports = append(ports, c.port(c.admin, s.net, of("alice"), on("node1")))
			if i%2 == 0 {
				require.NoError(t, c.bus.Delete(c.admin, 1, "network.host.node1"))
				h = c.host("node1", h.Driver)
			}
		}
		c.rest()
		for _, p := range ports {
			require.Equal(t, network.Active, c.status(p))
			require.NoError(t, c.DeletePort(c.alice, p.ID))
		}
		c.rest()
		require.ElementsMatch(t, []string{"network net", "network public", "router r"}, h.has(t, s.names))
	})
}
