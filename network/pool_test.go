package network_test

import (
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/dataplane"
)

func prefixes(in ...string) (out []netip.Prefix) {
	for _, p := range in {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestSubnetPools(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		p, err := c.CreateSubnetPool(c.alice, network.SubnetPool{Prefixes: prefixes("10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "10.8.0.0/22"), DefaultLen: 24, MaxLen: 28})
		require.NoError(t, err)
		require.Equal(t, prefixes("10.0.0.0/23", "10.8.0.0/22"), p.Prefixes, "sorted, joined, without what is in others")
		require.Equal(t, []int{4, 24, 8, 28}, []int{p.IPVersion, p.DefaultLen, p.MinLen, p.MaxLen})
		_, err = c.SubnetPool(c.bob, p.ID)
		fails(t, err, nacre.NotFound, "SubnetPoolNotFound")
		for _, bad := range []struct {
			p    network.SubnetPool
			code string
		}{
			{network.SubnetPool{}, "EmptySubnetPoolPrefixList"},
			{network.SubnetPool{Prefixes: prefixes("10.0.0.0/8", "fd00::/48")}, "PrefixVersionMismatch"},
			{network.SubnetPool{Prefixes: prefixes("10.0.0.0/8"), MinLen: 24, MaxLen: 16}, "IllegalSubnetPoolPrefixBounds"},
			{network.SubnetPool{Prefixes: prefixes("10.0.0.0/8"), MaxLen: 33}, "IllegalSubnetPoolPrefixBounds"},
			{network.SubnetPool{Prefixes: prefixes("10.0.0.0/8"), DefaultLen: 4}, "IllegalSubnetPoolPrefixBounds"},
		} {
			_, err := c.CreateSubnetPool(c.alice, bad.p)
			fails(t, err, nacre.Invalid, bad.code)
		}
		_, err = c.CreateSubnetPool(c.alice, network.SubnetPool{Prefixes: prefixes("10.0.0.0/8"), Shared: true})
		require.ErrorIs(t, err, nacre.Forbidden)

		n := c.network(c.alice, "net")
		cut := func(change ...func(*network.NewSubnet)) (network.Subnet, error) {
			in := network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, SubnetPoolID: p.ID}}
			for _, f := range change {
				f(&in)
			}
			return c.CreateSubnet(c.alice, in)
		}
		length := func(n int) func(*network.NewSubnet) { return func(in *network.NewSubnet) { in.PrefixLen = n } }
		cidr := func(s string) func(*network.NewSubnet) { return func(in *network.NewSubnet) { in.CIDR = s } }
		one, err := cut()
		require.NoError(t, err)
		require.Equal(t, "10.0.0.0/24", one.CIDR)
		require.Equal(t, "10.0.0.1", one.Gateway)
		small, err := cut(length(26))
		require.NoError(t, err)
		require.Equal(t, "10.0.1.0/26", small.CIDR, "out of the smallest block with room")
		chosen, err := cut(cidr("10.8.1.0/24"))
		require.NoError(t, err)
		require.Equal(t, 4, chosen.IPVersion)
		_, err = cut(cidr("10.8.1.0/25"))
		fails(t, err, nacre.Conflict, "SubnetAllocationError")
		_, err = cut(cidr("192.168.0.0/24"))
		fails(t, err, nacre.Conflict, "SubnetAllocationError")
		_, err = cut(length(22))
		fails(t, err, nacre.Conflict, "SubnetAllocationError")
		_, err = cut(length(30))
		fails(t, err, nacre.Invalid, "MaxPrefixSubnetAllocationError")
		_, err = cut(length(7))
		fails(t, err, nacre.Invalid, "MinPrefixSubnetAllocationError")
		_, err = c.CreateSubnet(c.alice, network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, CIDR: "192.168.0.0/24", IPVersion: 4}})
		fails(t, err, nacre.Invalid, "NetworkSubnetPoolAffinityError")
		found, err := c.Subnets(c.alice, q("subnetpool_id", p.ID))
		require.NoError(t, err)
		require.Len(t, found, 3)

		// 256 + 64 + 256 addresses are taken.
		_, err = c.UpdateSubnetPool(c.alice, p.ID, func(p *network.SubnetPool) error { p.Limit = ptr(600); return nil })
		require.NoError(t, err)
		_, err = cut(length(28))
		require.NoError(t, err)
		_, err = cut(length(27))
		fails(t, err, nacre.QuotaExceeded, "SubnetPoolQuotaExceeded")

		_, err = c.UpdateSubnetPool(c.alice, p.ID, func(p *network.SubnetPool) error {
			p.Prefixes = network.WithoutPrefixes(p.Prefixes, prefixes("10.8.0.0/22"))
			return nil
		})
		fails(t, err, nacre.Invalid, "IllegalSubnetPoolPrefixUpdate")
		up, err := c.UpdateSubnetPool(c.alice, p.ID, func(p *network.SubnetPool) error {
			p.Prefixes = network.WithoutPrefixes(p.Prefixes, prefixes("10.8.2.0/23"))
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, prefixes("10.0.0.0/23", "10.8.0.0/23"), up.Prefixes)
		fails(t, c.DeleteSubnetPool(c.alice, p.ID), nacre.Invalid, "SubnetPoolDeleteError")
		c.clean()
		require.NoError(t, c.DeleteNetwork(c.alice, n.ID))
		require.NoError(t, c.DeleteSubnetPool(c.alice, p.ID))
		c.clean()
	})
}

func TestDefaultSubnetPool(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n := c.network(c.alice, "net")
		ask := network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, IPVersion: 6}, DefaultPool: true}
		_, err := c.CreateSubnet(c.alice, ask)
		fails(t, err, nacre.NotFound, "NoDefaultSubnetpool")
		_, err = c.CreateSubnetPool(c.admin, network.SubnetPool{Prefixes: prefixes("fd00::/48"), Shared: true, Default: true})
		require.NoError(t, err)
		_, err = c.CreateSubnetPool(c.admin, network.SubnetPool{Prefixes: prefixes("fd01::/48"), Default: true})
		fails(t, err, nacre.Invalid, "InvalidInput")
		sn, err := c.CreateSubnet(c.alice, ask)
		require.NoError(t, err)
		require.Equal(t, "fd00::/64", sn.CIDR)
	})
}

// Many at once never cut the same range.
func TestConcurrentCuts(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		p, err := c.CreateSubnetPool(c.alice, network.SubnetPool{Prefixes: prefixes("10.0.0.0/21"), DefaultLen: 24})
		require.NoError(t, err)
		var wg sync.WaitGroup
		var mu sync.Mutex
		got, full := map[string]bool{}, 0
		for range 10 {
			n := c.network(c.alice, "net")
			wg.Go(func() {
				sn, err := c.CreateSubnet(c.alice, network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, SubnetPoolID: p.ID}})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					full++
				} else {
					got[sn.CIDR] = true
				}
			})
		}
		wg.Wait()
		require.Len(t, got, 8)
		require.Equal(t, 2, full)
		c.clean()
	})
}

func TestAddressGroups(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		h := c.host("node1", nil)
		s := c.site()
		p := c.port(c.admin, s.net, of("alice"), on("node1"))
		a, err := c.CreateAddressGroup(c.alice, network.AddressGroup{Addresses: prefixes("192.168.0.0/16", "192.168.0.0/16", "fd00::/8")})
		require.NoError(t, err)
		require.Len(t, a.Addresses, 2)
		_, err = c.AddressGroup(c.bob, a.ID)
		fails(t, err, nacre.NotFound, "AddressGroupNotFound")
		_, err = c.CreateSecurityGroupRule(c.alice, network.SecurityGroupRule{GroupID: s.group, Direction: "ingress", RemoteAddressGroupID: a.ID, RemotePrefix: "10.0.0.0/8"})
		fails(t, err, nacre.Invalid, "SecurityGroupMultipleRemoteEntites")
		_, err = c.CreateSecurityGroupRule(c.alice, network.SecurityGroupRule{GroupID: s.group, Direction: "ingress", RemoteAddressGroupID: "nowhere"})
		fails(t, err, nacre.NotFound, "AddressGroupNotFound")
		r, err := c.CreateSecurityGroupRule(c.alice, network.SecurityGroupRule{GroupID: s.group, Direction: "ingress", Protocol: "tcp", RemoteAddressGroupID: a.ID})
		require.NoError(t, err)
		c.rest()
		// The host knows ranges only: those of the rule's IP version.
		ranges := func() (out []string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, d := range slices.Backward(h.got) {
				if d.Kind != dataplane.KindSecurityGroup || d.SecurityGroup == nil {
					continue
				}
				for _, x := range d.SecurityGroup.Rules {
					if x.Protocol == "tcp" {
						out = append(out, x.RemotePrefix.String())
					}
				}
				return out
			}
			return nil
		}
		require.Equal(t, []string{"192.168.0.0/16"}, ranges())
		_, err = c.UpdateAddressGroup(c.alice, a.ID, func(g *network.AddressGroup) error {
			g.Addresses = append(g.Addresses, prefixes("172.16.0.0/12")...)
			return nil
		})
		require.NoError(t, err)
		c.rest()
		require.Equal(t, []string{"192.168.0.0/16", "172.16.0.0/12"}, ranges())
		fails(t, c.DeleteAddressGroup(c.alice, a.ID), nacre.Conflict, "AddressGroupInUse")
		// No address left: the rule lets nobody in, rather than everybody.
		_, err = c.UpdateAddressGroup(c.alice, a.ID, func(g *network.AddressGroup) error { g.Addresses = nil; return nil })
		require.NoError(t, err)
		c.rest()
		require.Empty(t, ranges())
		require.NoError(t, c.DeleteSecurityGroupRule(c.alice, r.ID))
		require.NoError(t, c.DeleteAddressGroup(c.alice, a.ID))
		require.Equal(t, network.Active, c.status(p))
	})
}
