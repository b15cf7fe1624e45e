package network_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/agent"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/fake"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// cloud is a network service with hosts in a synctest bubble.
type cloud struct {
	*network.Service
	t      testing.TB
	engine store.Engine
	bus    *bus.Bus
	stop   func()
	// admin is the administrator; alice and bob are members of projects of their own.
	admin, alice, bob context.Context

	mu      sync.Mutex
	wired   []string
	changed []string
}

func caller(user, project string, roles ...string) *nacre.Caller {
	return &nacre.Caller{UserID: user, UserName: user, ProjectID: project, ProjectName: project, Roles: roles}
}

// newCloud makes a service on an engine. run false leaves its loops out, for tests
// that only look at rows.
func newCloud(t testing.TB, e store.Engine, run bool) *cloud {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, e.Migrate(ctx, network.Schema(), true))
	c := &cloud{t: t, engine: e, bus: bus.New(bus.NewMemory(bus.MemoryOptions{}), nil)}
	c.admin = nacre.WithCaller(ctx, caller("admin", "admin", "admin", "member", "reader"))
	c.alice = nacre.WithCaller(ctx, caller("alice", "alice", "member", "reader"))
	c.bob = nacre.WithCaller(ctx, caller("bob", "bob", "member", "reader"))
	var err error
	c.Service, err = network.New(network.Config{Engine: e, Bus: c.bus})
	require.NoError(t, err)
	c.SetHooks(network.Hooks{PortEvent: func(_ context.Context, e network.PortEvent) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.Name == network.VIFPlugged {
			c.wired = append(c.wired, e.DeviceID)
			return
		}
		c.changed = append(c.changed, e.DeviceID)
	}})
	if run {
		c.stop = c.start(func(ctx context.Context) { _ = c.Run(ctx) })
		synctest.Wait()
	}
	return c
}

// restart is a new process on the database and bus of one that was stopped.
func (c *cloud) restart(e store.Engine) *cloud {
	c.t.Helper()
	c.stop()
	next := &cloud{t: c.t, engine: e, bus: c.bus, admin: c.admin, alice: c.alice, bob: c.bob}
	var err error
	next.Service, err = network.New(network.Config{Engine: e, Bus: c.bus})
	require.NoError(c.t, err)
	next.stop = next.start(func(ctx context.Context) { _ = next.Run(ctx) })
	synctest.Wait()
	return next
}

// start runs f until the test ends, or stop is called.
func (c *cloud) start(f func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f(ctx) }()
	stop = func() { cancel(); <-done }
	c.t.Cleanup(stop)
	return stop
}

// elsewhere, where it is set, prepares the engine that each uses instead.
var elsewhere func(t testing.TB) func(t testing.TB) store.Engine

// each runs a story on every engine that works in a process.
func each(t *testing.T, f func(t *testing.T, c *cloud)) {
	t.Helper()
	if elsewhere != nil {
		open := elsewhere(t)
		synctest.Test(t, func(t *testing.T) {
			e := open(t)
			t.Cleanup(func() { require.NoError(t, e.Close()) })
			f(t, newCloud(t, e, true))
		})
		return
	}
	for name, open := range map[string]func(t *testing.T) store.Engine{
		"mem":           func(*testing.T) store.Engine { return memstore.New(memstore.Options{}) },
		"readcommitted": func(*testing.T) store.Engine { return memstore.New(memstore.Options{ReadCommitted: true}) },
		"sqlite": func(t *testing.T) store.Engine {
			e, err := bunstore.OpenSQLite(filepath.Join(t.TempDir(), "network.db"), bunstore.Options{})
			require.NoError(t, err)
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := open(t)
				t.Cleanup(func() { require.NoError(t, e.Close()) })
				f(t, newCloud(t, e, true))
			})
		})
	}
}

// host is a host with a simulated data plane.
type host struct {
	name string
	*fake.Driver
	stop func()

	mu sync.Mutex
	// got is every message, in order.
	got []dataplane.Desired
}

// host starts a host's agent over a driver; nil is a new one.
func (c *cloud) host(name string, d *fake.Driver) *host {
	c.t.Helper()
	var err error
	if d == nil {
		d, err = fake.New(fake.Config{})
		require.NoError(c.t, err)
	}
	h := &host{name: name, Driver: d}
	_, err = c.AddHost(c.admin, name)
	require.NoError(c.t, err)
	h.stop = c.agent(h)
	time.Sleep(time.Second) // hosts are told apart by when they came
	return h
}

func (c *cloud) agent(h *host) (stop func()) {
	c.t.Helper()
	a, err := agent.New(agent.Config{Host: h.name, Driver: h.Driver, Report: func(ctx context.Context, r dataplane.Report) error {
		return c.bus.Publish(ctx, bus.Queue, "network.report."+h.name, r)
	}})
	require.NoError(c.t, err)
	return c.start(func(ctx context.Context) {
		wait, err := c.bus.Subscribe(ctx, bus.Queue, "network.host."+h.name, "", func(ctx context.Context, body []byte) error {
			var ds []dataplane.Desired
			if err := json.Unmarshal(body, &ds); err != nil {
				return err
			}
			h.mu.Lock()
			h.got = append(h.got, ds...)
			h.mu.Unlock()
			return a.Handle(ctx, ds)
		})
		if err != nil {
			panic(err)
		}
		_ = a.Run(ctx)
		wait()
	})
}

// has are the objects in place on a host, as "kind name-or-id", by what names says.
func (h *host) has(t testing.TB, names map[string]string) []string {
	t.Helper()
	refs, err := h.List(t.Context())
	require.NoError(t, err)
	out := []string{}
	for _, r := range refs {
		name, ok := names[r.ID]
		if !ok {
			name = r.ID
		}
		out = append(out, string(r.Kind)+" "+name)
	}
	return out
}

// messages is how many messages of a kind of object came.
func (h *host) messages(id string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.got {
		if d.ID == id {
			n++
		}
	}
	return n
}

// rest waits until hosts have confirmed everything, and audits.
func (c *cloud) rest() {
	c.t.Helper()
	var n int64
	for range 200 {
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		var err error
		n, err = c.Waiting(c.admin)
		require.NoError(c.t, err)
		if n == 0 {
			break
		}
	}
	require.Zero(c.t, n, "places wait for their host")
	c.clean()
}

func (c *cloud) clean() {
	c.t.Helper()
	found, err := c.Audit(c.admin)
	require.NoError(c.t, err)
	require.Empty(c.t, found)
}

func (c *cloud) network(ctx context.Context, name string) network.Network {
	c.t.Helper()
	n, err := c.CreateNetwork(ctx, network.Network{Std: network.Std{Name: name}, AdminUp: true, PortSecurity: true})
	require.NoError(c.t, err)
	return n
}

func (c *cloud) subnet(ctx context.Context, n network.Network, cidr string) network.Subnet {
	c.t.Helper()
	version := 4
	if strings.Contains(cidr, ":") {
		version = 6
	}
	sn, err := c.CreateSubnet(ctx, network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, CIDR: cidr, IPVersion: version}})
	require.NoError(c.t, err)
	return sn
}

// public is the external network with 172.24.4.0/24.
func (c *cloud) public() (network.Network, network.Subnet) {
	c.t.Helper()
	n, err := c.CreateNetwork(c.admin, network.Network{Std: network.Std{Name: "public"}, AdminUp: true, External: true, Type: "flat", Physical: "public"})
	require.NoError(c.t, err)
	sn, err := c.CreateSubnet(c.admin, network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, CIDR: "172.24.4.0/24", IPVersion: 4}, NoDHCP: true})
	require.NoError(c.t, err)
	return n, sn
}

func (c *cloud) newPort(ctx context.Context, n network.Network, change ...func(*network.NewPort)) (network.Port, error) {
	in := network.NewPort{Port: network.Port{NetworkID: n.ID, AdminUp: true}}
	for _, f := range change {
		f(&in)
	}
	return c.CreatePort(ctx, in)
}

func (c *cloud) port(ctx context.Context, n network.Network, change ...func(*network.NewPort)) network.Port {
	c.t.Helper()
	p, err := c.newPort(ctx, n, change...)
	require.NoError(c.t, err)
	return p
}

func on(host string) func(*network.NewPort) { return func(p *network.NewPort) { p.Host = host } }

func of(project string) func(*network.NewPort) {
	return func(p *network.NewPort) { p.ProjectID = project }
}

func at(address string) func(*network.NewPort) {
	return func(p *network.NewPort) { p.FixedIPs = []network.FixedIP{{Address: address}} }
}

func ptr[T any](v T) *T { return &v }

// fails asserts an error's kind and neutron's name for it.
func fails(t testing.TB, err error, kind nacre.Kind, code string) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	var e *nacre.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code, e.Message)
}

func addresses(p network.Port) (out []string) {
	for _, f := range p.FixedIPs {
		out = append(out, f.Address)
	}
	return out
}

func TestNetworks(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n := c.network(c.alice, "net")
		require.Equal(t, "alice", n.ProjectID)
		require.Equal(t, "vxlan", n.Type)
		require.NotZero(t, n.Segment)
		require.Equal(t, 1450, n.MTU)
		require.Equal(t, network.Active, n.Status)

		// Another project's is not there; a shared or external one is, but isn't theirs.
		_, err := c.Network(c.bob, n.ID)
		fails(t, err, nacre.NotFound, "NetworkNotFound")
		fails(t, c.DeleteNetwork(c.bob, n.ID), nacre.NotFound, "NetworkNotFound")
		shared, err := c.CreateNetwork(c.admin, network.Network{Shared: true, AdminUp: true})
		require.NoError(t, err)
		_, err = c.Network(c.bob, shared.ID)
		require.NoError(t, err)
		require.ErrorIs(t, c.DeleteNetwork(c.bob, shared.ID), nacre.Forbidden)
		_, err = c.UpdateNetwork(c.bob, shared.ID, func(n *network.Network) error { n.Name = "mine"; return nil })
		require.ErrorIs(t, err, nacre.Forbidden)

		for _, special := range []network.Network{{Shared: true}, {External: true}, {Default: true}, {Type: "flat", Physical: "public"}, {Segment: 7}} {
			_, err := c.CreateNetwork(c.alice, special)
			require.ErrorIs(t, err, nacre.Forbidden)
		}
		_, err = c.UpdateNetwork(c.alice, n.ID, func(n *network.Network) error { n.Shared = true; return nil })
		require.ErrorIs(t, err, nacre.Forbidden)

		for _, bad := range []network.Network{
			{Type: "vlan", Physical: "public", Segment: 7}, {Type: "flat"}, {Type: "flat", Physical: "nowhere"}, {Type: "flat", Physical: "public", Segment: 1},
			{Type: "local", Segment: 1}, {Type: "vxlan", Physical: "public"}, {Type: "vxlan", Segment: 1 << 24}, {Segment: 4}, {MTU: 9000}, {MTU: 60},
		} {
			_, err := c.CreateNetwork(c.admin, bad)
			fails(t, err, nacre.Invalid, "InvalidInput")
		}
		_, err = c.CreateNetwork(c.admin, network.Network{Type: "vxlan", Segment: n.Segment})
		fails(t, err, nacre.Conflict, "TunnelIdInUse")
		_, err = c.CreateNetwork(c.admin, network.Network{Type: "flat", Physical: "public"})
		require.NoError(t, err)
		_, err = c.CreateNetwork(c.admin, network.Network{Type: "flat", Physical: "public"})
		fails(t, err, nacre.Conflict, "FlatNetworkInUse")

		up, err := c.UpdateNetwork(c.alice, n.ID, func(n *network.Network) error { n.Name, n.MTU = "renamed", 1400; return nil })
		require.NoError(t, err)
		require.Equal(t, "renamed", up.Name)
		require.Equal(t, n.Revision+1, up.Revision)
		_, err = c.UpdateNetwork(network.IfRevision(c.alice, n.Revision), n.ID, func(*network.Network) error { return nil })
		fails(t, err, nacre.Precondition, "RevisionNumberConstraintFailed")
		_, err = c.UpdateNetwork(c.alice, n.ID, func(n *network.Network) error { n.MTU = 1500; return nil })
		fails(t, err, nacre.Invalid, "InvalidInput")

		c.subnet(c.alice, n, "10.0.0.0/24")
		p := c.port(c.alice, n)
		fails(t, c.DeleteNetwork(c.alice, n.ID), nacre.Conflict, "NetworkInUse")
		require.NoError(t, c.DeletePort(c.alice, p.ID))
		require.NoError(t, c.DeleteNetwork(c.alice, n.ID))
		subs, err := c.Subnets(c.admin, nacre.Query{})
		require.NoError(t, err)
		require.Empty(t, subs)
		ports, err := c.Ports(c.admin, nacre.Query{})
		require.NoError(t, err)
		require.Empty(t, ports)
		c.clean()
	})
}

func TestSharedNetworkStaysSharedWhileUsed(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n, err := c.CreateNetwork(c.admin, network.Network{Shared: true, AdminUp: true, PortSecurity: true})
		require.NoError(t, err)
		c.subnet(c.admin, n, "10.0.0.0/24")
		p := c.port(c.bob, n)
		private := func(n *network.Network) error { n.Shared = false; return nil }
		_, err = c.UpdateNetwork(c.admin, n.ID, private)
		fails(t, err, nacre.Conflict, "InvalidSharedSetting")
		// The owner of the network may see and delete what others have on it, they
		// may not see each other's.
		_, err = c.Port(c.alice, p.ID)
		fails(t, err, nacre.NotFound, "PortNotFound")
		require.NoError(t, c.DeletePort(c.admin, p.ID))
		_, err = c.UpdateNetwork(c.admin, n.ID, private)
		require.NoError(t, err)
		_, err = c.newPort(c.bob, n)
		fails(t, err, nacre.NotFound, "NetworkNotFound")
	})
}

func TestSubnets(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n := c.network(c.alice, "net")
		create := func(sn network.Subnet, change ...func(*network.NewSubnet)) (network.Subnet, error) {
			sn.NetworkID = n.ID
			if sn.IPVersion == 0 {
				sn.IPVersion = 4
			}
			in := network.NewSubnet{Subnet: sn}
			for _, f := range change {
				f(&in)
			}
			return c.CreateSubnet(c.alice, in)
		}
		sn, err := create(network.Subnet{CIDR: "10.1.0.7/24"})
		require.NoError(t, err)
		require.Equal(t, "10.1.0.0/24", sn.CIDR)
		require.Equal(t, "10.1.0.1", sn.Gateway)
		require.True(t, sn.DHCP)
		require.Equal(t, "[{10.1.0.2 10.1.0.254}]", fmt.Sprint(sn.Pools))
		_, err = c.Subnet(c.bob, sn.ID)
		fails(t, err, nacre.NotFound, "SubnetNotFound")

		none, err := create(network.Subnet{CIDR: "10.2.0.0/24"}, func(in *network.NewSubnet) { in.NoGateway = true })
		require.NoError(t, err)
		require.Empty(t, none.Gateway)
		require.Equal(t, "[{10.2.0.1 10.2.0.254}]", fmt.Sprint(none.Pools))
		middle, err := create(network.Subnet{CIDR: "10.3.0.0/24", Gateway: "10.3.0.100"})
		require.NoError(t, err)
		require.Equal(t, "[{10.3.0.1 10.3.0.99} {10.3.0.101 10.3.0.254}]", fmt.Sprint(middle.Pools))

		pool := func(ends ...string) (out []network.Pool) {
			for i := 0; i < len(ends); i += 2 {
				out = append(out, network.Pool{Start: mustAddr(ends[i]), End: mustAddr(ends[i+1])})
			}
			return out
		}
		for _, bad := range []struct {
			sn   network.Subnet
			kind nacre.Kind
			code string
		}{
			{network.Subnet{CIDR: "10.1.0.128/25"}, nacre.Invalid, "InvalidInput"},
			{network.Subnet{CIDR: "fd00::/64"}, nacre.Invalid, "InvalidInput"},
			{network.Subnet{CIDR: "nonsense"}, nacre.Invalid, "HTTPBadRequest"},
			{network.Subnet{CIDR: "224.0.0.0/24"}, nacre.Invalid, "InvalidInput"},
			{network.Subnet{CIDR: "127.0.0.0/24"}, nacre.Invalid, "InvalidInput"},
			{network.Subnet{CIDR: "10.9.0.0/31"}, nacre.Invalid, "InvalidInput"},
			{network.Subnet{CIDR: "10.9.0.0/24", IPVersion: 5}, nacre.Invalid, "HTTPBadRequest"},
			{network.Subnet{CIDR: "10.9.0.0/24", Gateway: "10.9.0.255"}, nacre.Invalid, "InvalidInput"},
			{network.Subnet{CIDR: "10.9.0.0/24", Pools: pool("10.9.0.0", "10.9.0.9")}, nacre.Invalid, "OutOfBoundsAllocationPool"},
			{network.Subnet{CIDR: "10.9.0.0/24", Pools: pool("10.9.0.9", "10.9.0.5")}, nacre.Invalid, "InvalidAllocationPool"},
			{network.Subnet{CIDR: "10.9.0.0/24", Pools: pool("10.9.0.5", "10.9.0.9", "10.9.0.9", "10.9.0.20")}, nacre.Conflict, "OverlappingAllocationPools"},
			{network.Subnet{CIDR: "10.9.0.0/24", Pools: pool("10.9.0.1", "10.9.0.9")}, nacre.Conflict, "GatewayConflictWithAllocationPools"},
			{network.Subnet{CIDR: "10.9.0.0/24", RAMode: "slaac"}, nacre.Invalid, "InvalidInput"},
			{network.Subnet{CIDR: "fd00:9::/64", IPVersion: 6, RAMode: "slaac", AddressMode: "dhcpv6-stateful"}, nacre.Invalid, "InvalidInput"},
			{network.Subnet{CIDR: "fd00:9::/80", IPVersion: 6, RAMode: "slaac", AddressMode: "slaac"}, nacre.Invalid, "InvalidInput"},
			{network.Subnet{CIDR: "10.9.0.0/24", DNS: []string{"1.1.1.1", "1.1.1.1"}}, nacre.Invalid, "HTTPBadRequest"},
		} {
			_, err := create(bad.sn)
			fails(t, err, bad.kind, bad.code)
		}

		_, err = c.UpdateSubnet(c.alice, sn.ID, func(s *network.Subnet) error { s.CIDR = "10.5.0.0/24"; return nil })
		require.ErrorIs(t, err, nacre.Invalid)
		p := c.port(c.alice, n, func(p *network.NewPort) { p.FixedIPs = []network.FixedIP{{SubnetID: sn.ID}} })
		fails(t, c.DeleteSubnet(c.alice, sn.ID), nacre.Conflict, "SubnetInUse")
		require.NoError(t, c.DeletePort(c.alice, p.ID))
		require.NoError(t, c.DeleteSubnet(c.alice, sn.ID))
		c.clean()
	})
}

// The DHCP port follows the subnets with DHCP: made with the first, gone with the
// last, made again when somebody deletes it.
func TestDHCPPort(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n := c.network(c.alice, "net")
		dhcp := func() []network.Port {
			ps, err := c.Ports(c.admin, nacre.Query{Filters: []nacre.Filter{{Name: "device_owner", Value: network.OwnerDHCP}}})
			require.NoError(t, err)
			return ps
		}
		require.Empty(t, dhcp())
		one := c.subnet(c.alice, n, "10.1.0.0/24")
		require.Equal(t, []string{"10.1.0.2"}, addresses(dhcp()[0]))
		two := c.subnet(c.alice, n, "10.2.0.0/24")
		require.Equal(t, []string{"10.1.0.2", "10.2.0.2"}, addresses(dhcp()[0]))

		first := dhcp()[0].ID
		require.NoError(t, c.DeletePort(c.admin, first))
		require.Len(t, dhcp(), 1)
		require.NotEqual(t, first, dhcp()[0].ID)
		c.clean()

		_, err := c.UpdateSubnet(c.alice, one.ID, func(s *network.Subnet) error { s.DHCP = false; return nil })
		require.NoError(t, err)
		require.Len(t, dhcp()[0].FixedIPs, 1)
		require.NoError(t, c.DeleteSubnet(c.alice, two.ID))
		require.Empty(t, dhcp())
		c.clean()

		// None on an external network.
		ext, _ := c.public()
		_, err = c.CreateSubnet(c.admin, network.NewSubnet{Subnet: network.Subnet{NetworkID: ext.ID, CIDR: "172.24.5.0/24", IPVersion: 4}})
		require.NoError(t, err)
		require.Empty(t, dhcp())
		_, err = c.UpdateNetwork(c.admin, ext.ID, func(n *network.Network) error { n.External = false; return nil })
		require.NoError(t, err)
		require.Len(t, dhcp(), 1)
		_, err = c.UpdateNetwork(c.admin, ext.ID, func(n *network.Network) error { n.External = true; return nil })
		require.NoError(t, err)
		require.Empty(t, dhcp())
		c.clean()
	})
}
