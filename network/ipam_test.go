package network_test

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
)

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// small is a network whose only subnet has addresses .2 to .6 for ports.
func small(c *cloud) (network.Network, network.Subnet) {
	c.t.Helper()
	n := c.network(c.alice, "small")
	sn, err := c.CreateSubnet(c.alice, network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, CIDR: "10.0.0.0/29", IPVersion: 4}, NoDHCP: true})
	require.NoError(c.t, err)
	return n, sn
}

func TestAddressesRunOut(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n, _ := small(c)
		byAddress := map[string]string{}
		for range 5 {
			p := c.port(c.alice, n)
			byAddress[addresses(p)[0]] = p.ID
		}
		require.Len(t, byAddress, 5)
		_, err := c.newPort(c.alice, n)
		fails(t, err, nacre.Conflict, "IpAddressGenerationFailure")

		// A hole is found again.
		require.NoError(t, c.DeletePort(c.alice, byAddress["10.0.0.4"]))
		require.Equal(t, []string{"10.0.0.4"}, addresses(c.port(c.alice, n)))
		_, err = c.newPort(c.alice, n)
		fails(t, err, nacre.Conflict, "IpAddressGenerationFailure")

		// A second subnet of the same version takes over.
		_, err = c.CreateSubnet(c.alice, network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, CIDR: "10.0.1.0/24", IPVersion: 4}, NoDHCP: true})
		require.NoError(t, err)
		require.Equal(t, []string{"10.0.1.2"}, addresses(c.port(c.alice, n)))
		c.clean()
	})
}

// A freed address rests until the range has been gone through.
func TestFreedAddressIsNotGivenOutAtOnce(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n, _ := small(c)
		one := c.port(c.alice, n)
		c.port(c.alice, n)
		require.NoError(t, c.DeletePort(c.alice, one.ID))
		require.Equal(t, []string{"10.0.0.4"}, addresses(c.port(c.alice, n)))
	})
}

func TestPools(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n := c.network(c.alice, "net")
		_, err := c.CreateSubnet(c.alice, network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, CIDR: "10.0.0.0/24", IPVersion: 4,
			Pools: []network.Pool{{Start: mustAddr("10.0.0.10"), End: mustAddr("10.0.0.11")}, {Start: mustAddr("10.0.0.20"), End: mustAddr("10.0.0.20")}}}, NoDHCP: true})
		require.NoError(t, err)
		for _, want := range []string{"10.0.0.10", "10.0.0.11", "10.0.0.20"} {
			require.Equal(t, []string{want}, addresses(c.port(c.alice, n)))
		}
		_, err = c.newPort(c.alice, n)
		fails(t, err, nacre.Conflict, "IpAddressGenerationFailure")
		// An address outside the pools may be chosen; it is given out once.
		require.Equal(t, []string{"10.0.0.200"}, addresses(c.port(c.alice, n, at("10.0.0.200"))))
		_, err = c.newPort(c.alice, n, at("10.0.0.200"))
		fails(t, err, nacre.Conflict, "IpAddressAlreadyAllocated")
		for address, code := range map[string]string{"10.0.0.255": "InvalidIpForSubnet", "10.0.0.0": "InvalidIpForSubnet", "10.7.0.1": "InvalidIpForNetwork", "x": "HTTPBadRequest"} {
			_, err = c.newPort(c.alice, n, at(address))
			fails(t, err, nacre.Invalid, code)
		}
		c.clean()
	})
}

// Many requests at once never get one address, or MAC address, twice.
func TestConcurrentPorts(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/28") // .2 is DHCP's; twelve are left
		var wg sync.WaitGroup
		var mu sync.Mutex
		got, full := map[string]int{}, 0
		for range 16 {
			wg.Go(func() {
				p, err := c.newPort(c.alice, n)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					full++
					if nacre.KindOf(err) != nacre.Conflict {
						t.Errorf("%v", err)
					}
					return
				}
				got[addresses(p)[0]]++
			})
		}
		wg.Wait()
		require.Len(t, got, 12)
		require.Equal(t, 4, full)
		c.clean()
	})
}

func TestSelfMadeAddresses(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		slaac, err := c.CreateSubnet(c.alice, network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, CIDR: "fd00:1::/64", IPVersion: 6, RAMode: "slaac", AddressMode: "slaac"}})
		require.NoError(t, err)
		p := c.port(c.alice, n, func(p *network.NewPort) { p.MAC = "fa:16:3e:01:02:03" })
		require.Equal(t, []string{"10.0.0.3", "fd00:1::f816:3eff:fe01:203"}, addresses(p))
		_, err = c.newPort(c.alice, n, at("fd00:1::99"))
		fails(t, err, nacre.Invalid, "AllocationOnAutoAddressSubnet")
		// A router's address is what it is told.
		r, err := c.CreateRouter(c.alice, network.Router{AdminUp: true}, nil)
		require.NoError(t, err)
		leg, err := c.AddInterface(c.alice, r.ID, slaac.ID, "")
		require.NoError(t, err)
		lp, err := c.Port(c.alice, leg.PortID)
		require.NoError(t, err)
		require.Equal(t, []string{slaac.Gateway}, addresses(lp))
		// A router holds the subnet; addresses that guests made for themselves don't.
		fails(t, c.DeleteSubnet(c.alice, slaac.ID), nacre.Conflict, "SubnetInUse")
		p, err = c.Port(c.alice, p.ID)
		require.NoError(t, err)
		require.Len(t, p.FixedIPs, 2, "a refused deletion takes nothing")
		_, err = c.RemoveInterface(c.alice, r.ID, slaac.ID, "")
		require.NoError(t, err)
		require.NoError(t, c.DeleteSubnet(c.alice, slaac.ID))
		p, err = c.Port(c.alice, p.ID)
		require.NoError(t, err)
		require.Equal(t, []string{"10.0.0.3"}, addresses(p))
		c.clean()
	})
}
