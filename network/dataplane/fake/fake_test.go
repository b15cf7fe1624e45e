package fake_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/dataplanetest"
	"github.com/nacre-cloud/nacre/network/dataplane/fake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	dataplanetest.Run(t, func(t *testing.T) dataplanetest.Harness {
		dir := t.TempDir()
		taps := map[string]bool{}
		var d *fake.Driver
		return dataplanetest.Harness{
			Open: func(t *testing.T) dataplane.Driver {
				var err error
				d, err = fake.New(fake.Config{StateDir: dir, ManualTaps: true})
				require.NoError(t, err)
				for tap := range taps {
					d.AddTap(tap)
				}
				return d
			},
			AddTap:    func(_ *testing.T, name string) { taps[name] = true; d.AddTap(name) },
			RemoveTap: func(_ *testing.T, name string) { delete(taps, name); d.RemoveTap(name) },
		}
	})
}

func TestFaults(t *testing.T) {
	d, err := fake.New(fake.Config{})
	require.NoError(t, err)
	defer d.Close()
	boom := errors.New("boom")
	d.SetFaults(fake.Faults{
		Apply:  func(context.Context, dataplane.Ref) error { return boom },
		Delete: func(context.Context, dataplane.Kind, string) error { return boom },
		List:   func(context.Context) error { return boom },
		Status: func(context.Context, string) error { return boom },
	})
	ctx := t.Context()
	require.ErrorIs(t, d.ApplyNetwork(ctx, dataplane.Network{ID: "n"}), boom)
	require.ErrorIs(t, d.ApplyPort(ctx, dataplane.Port{ID: "p"}), boom)
	require.ErrorIs(t, d.ApplyRouter(ctx, dataplane.Router{ID: "r"}), boom)
	require.ErrorIs(t, d.ApplySecurityGroup(ctx, dataplane.SecurityGroup{ID: "g"}), boom)
	require.ErrorIs(t, d.Delete(ctx, dataplane.KindPort, "p"), boom)
	_, err = d.List(ctx)
	require.ErrorIs(t, err, boom)
	_, err = d.Status(ctx, "p")
	require.ErrorIs(t, err, boom)
	d.SetFaults(fake.Faults{})
	refs, err := d.List(ctx)
	require.NoError(t, err)
	require.Empty(t, refs, "a fault leaves nothing behind")
}

func ip(s string) netip.Addr     { return netip.MustParseAddr(s) }
func cidr(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func num(n int) *int             { return &n }

// cloud is two projects with the same addresses, each behind its own router on
// one external network, and a flat public network.
type cloud struct {
	*fake.Driver
	t *testing.T
}

func newCloud(t *testing.T) *cloud {
	d, err := fake.New(fake.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	c := &cloud{Driver: d, t: t}
	require.NoError(t, d.ApplyNetwork(t.Context(), dataplane.Network{
		ID: "public", Type: "flat", Physical: "public", MTU: 1500, AdminUp: true, External: true,
		Subnets: []dataplane.Subnet{{ID: "public-s", CIDR: cidr("172.24.4.0/24"), Gateway: ip("172.24.4.1")}},
	}))
	for i, project := range []string{"a", "b"} {
		require.NoError(t, d.ApplyNetwork(t.Context(), dataplane.Network{
			ID: project + "-net", Type: "vxlan", Segment: i + 1, MTU: 1450, AdminUp: true,
			Subnets: []dataplane.Subnet{{ID: project + "-s", CIDR: cidr("10.0.0.0/24"), Gateway: ip("10.0.0.1"), DHCP: true}},
			DHCP:    &dataplane.Endpoint{PortID: project + "-dhcp", NetworkID: project + "-net", Addresses: []netip.Prefix{cidr("10.0.0.2/24")}},
		}))
		c.router(project, true)
		c.group(project, 0)
		for _, last := range []string{"5", "6"} {
			c.port(project, last)
		}
	}
	return c
}

func (c *cloud) router(project string, snat bool, fips ...dataplane.FloatingIP) {
	outer := "172.24.4.20/24"
	if project == "b" {
		outer = "172.24.4.30/24"
	}
	require.NoError(c.t, c.ApplyRouter(c.t.Context(), dataplane.Router{
		ID: project + "-r", AdminUp: true,
		Interfaces: []dataplane.Endpoint{{PortID: project + "-leg", NetworkID: project + "-net", Addresses: []netip.Prefix{cidr("10.0.0.1/24")}}},
		Gateway: &dataplane.Gateway{
			Endpoint: dataplane.Endpoint{PortID: project + "-gw", NetworkID: "public", Addresses: []netip.Prefix{cidr(outer)}},
			NextHops: []netip.Addr{ip("172.24.4.1")}, SNAT: snat,
		},
		FloatingIPs: fips,
	}))
}

func (c *cloud) group(project string, generation int64, more ...dataplane.Rule) {
	id := project + "-default"
	require.NoError(c.t, c.ApplySecurityGroup(c.t.Context(), dataplane.SecurityGroup{
		ID: id, Generation: generation, Members: []netip.Addr{ip("10.0.0.5"), ip("10.0.0.6")},
		Rules: append([]dataplane.Rule{
			{Direction: "egress", EtherType: "IPv4"},
			{Direction: "ingress", EtherType: "IPv4", RemoteGroup: id},
		}, more...),
	}))
}

func (c *cloud) port(project, last string) {
	require.NoError(c.t, c.ApplyPort(c.t.Context(), dataplane.Port{
		ID: project + last, NetworkID: project + "-net", MAC: "fa:16:3e:00:00:0" + last, AdminUp: true, PortSecurity: true,
		FixedIPs: []dataplane.FixedIP{{SubnetID: project + "-s", Address: ip("10.0.0." + last)}},
		Tap:      "tap-" + project + last, SecurityGroups: []string{project + "-default"},
	}))
}

func (c *cloud) reach(want bool, from, to, protocol string, port int) {
	c.t.Helper()
	ok, why := c.Reach(from, ip(to), protocol, port)
	require.Equal(c.t, want, ok, "%s to %s: %s", from, to, why)
	require.NotEmpty(c.t, why)
}

func TestReach(t *testing.T) {
	c := newCloud(t)
	c.reach(true, "a5", "10.0.0.6", "tcp", 22)
	c.reach(true, "b6", "10.0.0.5", "icmp", 8)
	c.reach(true, "a5", "10.0.0.1", "icmp", 8)
	c.reach(true, "a5", "169.254.169.254", "tcp", 80)
	c.reach(false, "a5", "10.0.0.1", "tcp", 22)
	c.reach(false, "a5", "10.0.0.99", "icmp", 8)
	c.reach(true, "a5", "8.8.8.8", "udp", 53)
	c.reach(false, fake.External, "10.0.0.5", "tcp", 22)
	c.reach(false, fake.External, "172.24.4.10", "icmp", 8)
	c.reach(true, fake.External, "172.24.4.20", "icmp", 8)
	c.reach(false, "nobody", "10.0.0.5", "tcp", 22)

	// A floating IP alone opens nothing; a rule does, in its own project only.
	c.router("a", true, dataplane.FloatingIP{ID: "f", External: ip("172.24.4.10"), Fixed: ip("10.0.0.5")})
	c.router("b", true, dataplane.FloatingIP{ID: "g", External: ip("172.24.4.11"), Fixed: ip("10.0.0.5")})
	c.reach(false, fake.External, "172.24.4.10", "tcp", 22)
	ssh := dataplane.Rule{Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: num(22), PortMax: num(22)}
	c.group("a", 1, ssh)
	c.reach(true, fake.External, "172.24.4.10", "tcp", 22)
	c.reach(false, fake.External, "172.24.4.10", "tcp", 23)
	c.reach(false, fake.External, "172.24.4.11", "tcp", 22)
	c.reach(true, "b6", "172.24.4.10", "tcp", 22)
	// Hairpin: the sender is seen as its router, which no group rule names.
	c.reach(true, "a6", "172.24.4.10", "tcp", 22)
	c.reach(false, "a6", "172.24.4.10", "tcp", 80)

	// Ping is type 8; another type is another rule.
	c.group("a", 2, dataplane.Rule{Direction: "ingress", EtherType: "IPv4", Protocol: "icmp", PortMin: num(8), PortMax: num(0), RemotePrefix: cidr("172.24.4.0/24")})
	c.reach(true, fake.External, "172.24.4.10", "icmp", 8)
	c.reach(false, fake.External, "172.24.4.10", "icmp", 13)
	c.reach(false, fake.External, "172.24.4.10", "tcp", 22)
}

func TestReachWithoutSNAT(t *testing.T) {
	c := newCloud(t)
	c.router("a", false, dataplane.FloatingIP{ID: "f", External: ip("172.24.4.10"), Fixed: ip("10.0.0.5")})
	c.reach(true, "a5", "8.8.8.8", "icmp", 8)
	c.reach(false, "a6", "8.8.8.8", "icmp", 8)
}

func TestReachStateless(t *testing.T) {
	c := newCloud(t)
	open := dataplane.SecurityGroup{ID: "b-default", Generation: 1, Stateless: true, Rules: []dataplane.Rule{
		{Direction: "egress", EtherType: "IPv4"},
	}}
	require.NoError(t, c.ApplySecurityGroup(t.Context(), open))
	c.reach(false, "b5", "8.8.8.8", "icmp", 8)
	open.Rules = append(open.Rules, dataplane.Rule{Direction: "ingress", EtherType: "IPv4", Protocol: "icmp"})
	require.NoError(t, c.ApplySecurityGroup(t.Context(), open))
	c.reach(true, "b5", "8.8.8.8", "icmp", 8)
	c.reach(false, "b5", "8.8.8.8", "tcp", 80)
}

func TestReachPortSecurity(t *testing.T) {
	c := newCloud(t)
	c.reach(false, "a5", "10.0.0.7", "tcp", 80)
	p := dataplane.Port{
		ID: "a7", NetworkID: "a-net", MAC: "fa:16:3e:00:00:07", AdminUp: true, Tap: "tap-a7",
		FixedIPs: []dataplane.FixedIP{{SubnetID: "a-s", Address: ip("10.0.0.7")}},
	}
	require.NoError(t, c.ApplyPort(t.Context(), p))
	c.reach(true, "a5", "10.0.0.7", "tcp", 80)
	p.PortSecurity, p.Generation = true, 1
	require.NoError(t, c.ApplyPort(t.Context(), p))
	c.reach(false, "a5", "10.0.0.7", "tcp", 80)
	c.reach(false, "a7", "10.0.0.5", "tcp", 80)
}

func BenchmarkApplyPort(b *testing.B) {
	d, err := fake.New(fake.Config{StateDir: b.TempDir()})
	require.NoError(b, err)
	defer d.Close()
	p := dataplane.Port{NetworkID: "n", AdminUp: true}
	for b.Loop() {
		p.Generation++
		p.ID = "p" + string(rune('a'+p.Generation%26))
		require.NoError(b, d.ApplyPort(b.Context(), p))
	}
}
