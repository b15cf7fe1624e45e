// Package dataplanetest is the suite that every data plane driver passes. It
// tests what the contract promises to network and its agent: idempotence,
// generations, any order of arrival, tombstones, restart, and what Watch and
// Status say. What packets do is the driver's own test.
//
//	func TestContract(t *testing.T) {
//		dataplanetest.Run(t, func(t *testing.T) dataplanetest.Harness {
//			dir := t.TempDir()
//			return dataplanetest.Harness{Open: …, AddTap: …, RemoveTap: …}
//		})
//	}
package dataplanetest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// Harness is a host to run the suite on.
type Harness struct {
	// Open opens the driver. It is called again after Close, and then finds the
	// same state and the same devices.
	Open func(t *testing.T) dataplane.Driver
	// AddTap makes a device appear as a hypervisor would; RemoveTap takes it away.
	AddTap    func(t *testing.T, name string)
	RemoveTap func(t *testing.T, name string)
}

// Wait is how long the suite waits for what happens by itself.
const Wait = 10 * time.Second

// Run runs the suite; newHarness gives an empty host for each test.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, h Harness)
	}{
		{"Host", testHost},
		{"Idempotent", testIdempotent},
		{"OlderIsIgnored", testOlder},
		{"AnyOrder", testAnyOrder},
		{"DeleteMissing", testDeleteMissing},
		{"DeleteAnyGeneration", testDelete},
		{"NetworkGoesAndComes", testNetworkGoes},
		{"AdminState", testAdminState},
		{"Restart", testRestart},
		{"Watch", testWatch},
		{"Refused", testRefused},
		{"Concurrent", testConcurrent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newHarness(t)) })
	}
}

// world is one network with a router, a group and a port.
type world struct {
	network dataplane.Network
	port    dataplane.Port
	router  dataplane.Router
	group   dataplane.SecurityGroup
}

func newWorld() world {
	network, subnet, port, group, dhcp, leg := uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()
	prefix := func(last byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 0, last}), 24) }
	return world{
		network: dataplane.Network{
			ID: network, Generation: 5, ProjectID: "p", Name: "n", Type: "local", MTU: 1450, AdminUp: true,
			Subnets: []dataplane.Subnet{{ID: subnet, CIDR: prefix(0), Gateway: prefix(1).Addr(), DHCP: true}},
			DHCP:    &dataplane.Endpoint{PortID: dhcp, NetworkID: network, MAC: "fa:16:3e:00:00:02", Addresses: []netip.Prefix{prefix(2)}},
		},
		port: dataplane.Port{
			ID: port, Generation: 5, NetworkID: network, ProjectID: "p", DeviceID: uuid.NewString(), DeviceOwner: "compute:nova",
			MAC: "fa:16:3e:00:00:05", FixedIPs: []dataplane.FixedIP{{SubnetID: subnet, Address: prefix(5).Addr()}},
			Tap: "tap" + port[:11], AdminUp: true, PortSecurity: true, SecurityGroups: []string{group},
		},
		router: dataplane.Router{
			ID: uuid.NewString(), Generation: 5, ProjectID: "p", AdminUp: true,
			Interfaces: []dataplane.Endpoint{{PortID: leg, NetworkID: network, MAC: "fa:16:3e:00:00:01", Addresses: []netip.Prefix{prefix(1)}}},
		},
		group: dataplane.SecurityGroup{
			ID: group, Generation: 5, ProjectID: "p", Members: []netip.Addr{prefix(5).Addr()},
			Rules: []dataplane.Rule{
				{ID: uuid.NewString(), Direction: "egress", EtherType: "IPv4"},
				{ID: uuid.NewString(), Direction: "ingress", EtherType: "IPv4", RemoteGroup: group},
			},
		},
	}
}

func (w world) apply(t *testing.T, d dataplane.Driver) {
	t.Helper()
	require.NoError(t, d.ApplySecurityGroup(t.Context(), w.group))
	require.NoError(t, d.ApplyNetwork(t.Context(), w.network))
	require.NoError(t, d.ApplyRouter(t.Context(), w.router))
	require.NoError(t, d.ApplyPort(t.Context(), w.port))
}

func (w world) refs() []dataplane.Ref {
	return []dataplane.Ref{
		{Kind: dataplane.KindNetwork, ID: w.network.ID, Generation: w.network.Generation},
		{Kind: dataplane.KindPort, ID: w.port.ID, Generation: w.port.Generation},
		{Kind: dataplane.KindRouter, ID: w.router.ID, Generation: w.router.Generation},
		{Kind: dataplane.KindSecurityGroup, ID: w.group.ID, Generation: w.group.Generation},
	}
}

func (h Harness) open(t *testing.T) dataplane.Driver {
	t.Helper()
	d := h.Open(t)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func requireActive(t *testing.T, d dataplane.Driver, portID string) {
	t.Helper()
	var last dataplane.PortStatus
	require.Eventually(t, func() bool {
		s, err := d.Status(t.Context(), portID)
		last = s
		return err == nil && s.Active
	}, Wait, 10*time.Millisecond, "the port never became active")
	require.Empty(t, last.Reason)
}

// requirePending wants an inactive port that says why.
func requirePending(t *testing.T, d dataplane.Driver, portID string) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, err := d.Status(t.Context(), portID)
		return err == nil && !s.Active && s.Reason != ""
	}, Wait, 10*time.Millisecond, "the port should wait, and say for what")
}

func requireList(t *testing.T, d dataplane.Driver, want []dataplane.Ref) {
	t.Helper()
	got, err := d.List(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, want, got)
}

func testHost(t *testing.T, h Harness) {
	d := h.open(t)
	host, err := d.Host(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, host.Driver)
	require.Contains(t, host.Types, "local")
	requireList(t, d, nil)
}

func testIdempotent(t *testing.T, h Harness) {
	d, w := h.open(t), newWorld()
	h.AddTap(t, w.port.Tap)
	for range 3 {
		w.apply(t, d)
		requireActive(t, d, w.port.ID)
	}
	requireList(t, d, w.refs())
}

func testOlder(t *testing.T, h Harness) {
	d, w := h.open(t), newWorld()
	h.AddTap(t, w.port.Tap)
	w.apply(t, d)
	requireActive(t, d, w.port.ID)
	old := w
	old.network.Generation, old.network.AdminUp = 4, false
	old.port.Generation, old.port.AdminUp = 4, false
	old.router.Generation, old.group.Generation = 4, 4
	old.apply(t, d)
	requireList(t, d, w.refs())
	requireActive(t, d, w.port.ID)
	// A newer one is taken.
	w.port.Generation, w.port.AdminUp = 6, false
	require.NoError(t, d.ApplyPort(t.Context(), w.port))
	requirePending(t, d, w.port.ID)
	requireList(t, d, w.refs())
}

func testAnyOrder(t *testing.T, h Harness) {
	d := h.open(t)
	for _, order := range []string{"gnrpt", "tprng", "pntgr", "ptgrn", "rptng", "ntpgr"} {
		t.Run(order, func(t *testing.T) {
			w := newWorld()
			for i, step := range order {
				switch step {
				case 'g':
					require.NoError(t, d.ApplySecurityGroup(t.Context(), w.group))
				case 'n':
					require.NoError(t, d.ApplyNetwork(t.Context(), w.network))
				case 'r':
					require.NoError(t, d.ApplyRouter(t.Context(), w.router))
				case 'p':
					require.NoError(t, d.ApplyPort(t.Context(), w.port))
				case 't':
					h.AddTap(t, w.port.Tap)
				}
				done := map[rune]bool{}
				for _, s := range order[:i+1] {
					done[s] = true
				}
				if done['p'] && !done['n'] {
					requirePending(t, d, w.port.ID)
				}
			}
			requireActive(t, d, w.port.ID)
			for _, ref := range w.refs() {
				require.NoError(t, d.Delete(t.Context(), ref.Kind, ref.ID))
			}
			requireList(t, d, nil)
		})
	}
}

func testDeleteMissing(t *testing.T, h Harness) {
	d := h.open(t)
	for _, ref := range newWorld().refs() {
		require.NoError(t, d.Delete(t.Context(), ref.Kind, ref.ID))
	}
	s, err := d.Status(t.Context(), uuid.NewString())
	require.NoError(t, err)
	require.False(t, s.Active)
	require.NotEmpty(t, s.Reason)
}

func testDelete(t *testing.T, h Harness) {
	d, w := h.open(t), newWorld()
	h.AddTap(t, w.port.Tap)
	w.apply(t, d)
	requireActive(t, d, w.port.ID)
	left := w.refs()
	for len(left) > 0 {
		last := left[len(left)-1]
		left = left[:len(left)-1]
		require.NoError(t, d.Delete(t.Context(), last.Kind, last.ID))
		requireList(t, d, left)
		require.NoError(t, d.Delete(t.Context(), last.Kind, last.ID), "a second time")
	}
	requirePending(t, d, w.port.ID)
}

func testNetworkGoes(t *testing.T, h Harness) {
	d, w := h.open(t), newWorld()
	h.AddTap(t, w.port.Tap)
	w.apply(t, d)
	requireActive(t, d, w.port.ID)
	require.NoError(t, d.Delete(t.Context(), dataplane.KindNetwork, w.network.ID))
	requirePending(t, d, w.port.ID)
	require.NoError(t, d.ApplyNetwork(t.Context(), w.network))
	requireActive(t, d, w.port.ID)
}

func testAdminState(t *testing.T, h Harness) {
	d, w := h.open(t), newWorld()
	h.AddTap(t, w.port.Tap)
	w.apply(t, d)
	requireActive(t, d, w.port.ID)
	w.network.Generation, w.network.AdminUp = 6, false
	require.NoError(t, d.ApplyNetwork(t.Context(), w.network))
	requirePending(t, d, w.port.ID)
	w.network.Generation, w.network.AdminUp = 7, true
	require.NoError(t, d.ApplyNetwork(t.Context(), w.network))
	requireActive(t, d, w.port.ID)
	w.router.Generation, w.router.AdminUp = 6, false
	require.NoError(t, d.ApplyRouter(t.Context(), w.router))
	requireActive(t, d, w.port.ID)
	requireList(t, d, w.refs())
}

func testRestart(t *testing.T, h Harness) {
	d, w := h.open(t), newWorld()
	h.AddTap(t, w.port.Tap)
	w.apply(t, d)
	requireActive(t, d, w.port.ID)
	gone := newWorld()
	gone.apply(t, d)
	for _, ref := range gone.refs() {
		require.NoError(t, d.Delete(t.Context(), ref.Kind, ref.ID))
	}
	require.NoError(t, d.Close())

	d = h.open(t)
	requireList(t, d, w.refs())
	requireActive(t, d, w.port.ID)
	// Nothing that came before the restart is taken for new.
	w.port.AdminUp = false
	w.port.Generation = 4
	require.NoError(t, d.ApplyPort(t.Context(), w.port))
	requireActive(t, d, w.port.ID)
	w.port.Generation = 6
	require.NoError(t, d.ApplyPort(t.Context(), w.port))
	requirePending(t, d, w.port.ID)
}

func testWatch(t *testing.T, h Harness) {
	d, w := h.open(t), newWorld()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := d.Watch(ctx)
	require.NoError(t, err)
	// Nobody reads this one: the driver must not wait for it.
	_, err = d.Watch(ctx)
	require.NoError(t, err)

	told := func(active bool) {
		t.Helper()
		deadline := time.After(Wait)
		for {
			select {
			case id, ok := <-changes:
				require.True(t, ok)
				if id != w.port.ID {
					continue
				}
				if s, err := d.Status(t.Context(), id); err == nil && s.Active == active {
					return
				}
			case <-deadline:
				require.FailNow(t, "no news of the port", "active %v", active)
			}
		}
	}
	h.AddTap(t, w.port.Tap)
	w.apply(t, d)
	told(true)
	h.RemoveTap(t, w.port.Tap)
	told(false)
	h.AddTap(t, w.port.Tap)
	told(true)
	for range 100 {
		require.NoError(t, d.ApplyPort(t.Context(), w.port))
	}

	cancel()
	require.Eventually(t, func() bool {
		select {
		case _, ok := <-changes:
			return !ok
		default:
			return false
		}
	}, Wait, time.Millisecond, "the channel closes when the context ends")
}

func testRefused(t *testing.T, h Harness) {
	d, w := h.open(t), newWorld()
	bad := w.network
	bad.Type = "carrier-pigeon"
	require.Error(t, d.ApplyNetwork(t.Context(), bad))
	bad = w.network
	bad.Type, bad.Physical = "flat", "no-such-network"
	require.Error(t, d.ApplyNetwork(t.Context(), bad))
	bad = w.network
	bad.ID = "../../etc/passwd"
	require.Error(t, d.ApplyNetwork(t.Context(), bad))
	require.Error(t, d.Delete(t.Context(), dataplane.KindPort, "../port/x"))
	require.Error(t, d.Delete(t.Context(), "planet", w.port.ID))
	requireList(t, d, nil)
}

func testConcurrent(t *testing.T, h Harness) {
	d, w := h.open(t), newWorld()
	require.NoError(t, d.ApplyNetwork(t.Context(), w.network))
	const ports = 8
	var all []dataplane.Port
	for i := range ports {
		p := w.port
		p.ID = uuid.NewString()
		p.Tap = "tap" + p.ID[:11]
		p.MAC = fmt.Sprintf("fa:16:3e:00:01:%02x", i)
		p.FixedIPs = []dataplane.FixedIP{{SubnetID: w.network.Subnets[0].ID, Address: netip.AddrFrom4([4]byte{10, 77, 0, byte(20 + i)})}}
		all = append(all, p)
		h.AddTap(t, p.Tap)
	}
	errs := make(chan error, ports*4)
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			errs <- d.ApplyPort(t.Context(), p)
			g := w.group
			g.Members = append([]netip.Addr(nil), p.FixedIPs[0].Address)
			errs <- d.ApplySecurityGroup(t.Context(), g)
			_, err := d.Status(t.Context(), p.ID)
			errs <- err
			_, err = d.List(t.Context())
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	for _, p := range all {
		requireActive(t, d, p.ID)
	}
}
