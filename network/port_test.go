package network_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
)

func TestPorts(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n := c.network(c.alice, "net")
		sn := c.subnet(c.alice, n, "10.0.0.0/24")
		p := c.port(c.alice, n)
		require.Equal(t, network.Down, p.Status)
		require.Regexp(t, "^fa:16:3e:", p.MAC)
		require.Equal(t, []string{"10.0.0.3"}, addresses(p))
		require.Len(t, p.SecurityGroups, 1)
		require.True(t, p.PortSecurity)

		_, err := c.Port(c.bob, p.ID)
		fails(t, err, nacre.NotFound, "PortNotFound")
		_, err = c.newPort(c.bob, n)
		fails(t, err, nacre.NotFound, "NetworkNotFound")
		_, err = c.newPort(c.alice, n, on("node1"))
		require.ErrorIs(t, err, nacre.Forbidden)

		mac := func(m string) func(*network.NewPort) { return func(p *network.NewPort) { p.MAC = m } }
		_, err = c.newPort(c.alice, n, mac(p.MAC))
		fails(t, err, nacre.Conflict, "MacAddressInUse")
		_, err = c.newPort(c.alice, n, mac("01:00:5e:00:00:01"))
		fails(t, err, nacre.Invalid, "HTTPBadRequest")
		_, err = c.newPort(c.alice, n, func(p *network.NewPort) { p.SecurityGroups = []string{"nowhere"} })
		fails(t, err, nacre.NotFound, "SecurityGroupNotFound")
		_, err = c.newPort(c.alice, n, func(p *network.NewPort) {
			p.FixedIPs = []network.FixedIP{{Address: "10.0.0.9"}, {Address: "10.0.0.9"}}
		})
		fails(t, err, nacre.Invalid, "InvalidInput")

		open := c.port(c.alice, n, func(p *network.NewPort) { p.PortSecurity = ptr(false) })
		require.Empty(t, open.SecurityGroups)
		_, err = c.UpdatePort(c.alice, open.ID, network.PortChange{SecurityGroups: &p.SecurityGroups})
		fails(t, err, nacre.Invalid, "PortSecurityAndIPRequiredForSecurityGroups")
		_, err = c.UpdatePort(c.alice, open.ID, network.PortChange{Pairs: &[]network.Pair{{Address: "10.9.0.0/24"}}})
		fails(t, err, nacre.Conflict, "AddressPairAndPortSecurityRequired")
		_, err = c.UpdatePort(c.alice, p.ID, network.PortChange{PortSecurity: ptr(false)})
		fails(t, err, nacre.Conflict, "PortSecurityPortHasSecurityGroup")
		_, err = c.UpdatePort(c.alice, p.ID, network.PortChange{Pairs: &[]network.Pair{{Address: "10.9.0.1"}, {Address: "10.9.0.1"}}})
		fails(t, err, nacre.Invalid, "DuplicateAddressPairInRequest")

		// The same group twice is the group once.
		twice, err := c.UpdatePort(c.alice, p.ID, network.PortChange{SecurityGroups: &[]string{p.SecurityGroups[0], p.SecurityGroups[0]}})
		require.NoError(t, err)
		require.Equal(t, p.SecurityGroups, twice.SecurityGroups)

		// Addresses: one more, one instead of another, none.
		fixed := func(f ...network.FixedIP) network.PortChange {
			if f == nil {
				f = []network.FixedIP{}
			}
			return network.PortChange{FixedIPs: &f}
		}
		two, err := c.UpdatePort(c.alice, p.ID, fixed(network.FixedIP{SubnetID: sn.ID, Address: "10.0.0.3"}, network.FixedIP{SubnetID: sn.ID}))
		require.NoError(t, err)
		require.Len(t, two.FixedIPs, 2)
		other, err := c.UpdatePort(c.alice, p.ID, fixed(network.FixedIP{Address: "10.0.0.77"}))
		require.NoError(t, err)
		require.Equal(t, []string{"10.0.0.77"}, addresses(other))
		same, err := c.UpdatePort(c.alice, p.ID, fixed(network.FixedIP{SubnetID: sn.ID}))
		require.NoError(t, err)
		require.Equal(t, []string{"10.0.0.77"}, addresses(same))
		none, err := c.UpdatePort(c.alice, p.ID, fixed())
		require.NoError(t, err)
		require.Empty(t, none.FixedIPs)
		c.clean()

		_, err = c.UpdatePort(network.IfRevision(c.alice, p.Revision), p.ID, network.PortChange{Name: ptr("x")})
		fails(t, err, nacre.Precondition, "RevisionNumberConstraintFailed")
	})
}

// A failed create leaves nothing behind, an address least of all.
func TestFailedPortLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n, _ := small(c)
		_, err := c.newPort(c.alice, n, func(p *network.NewPort) {
			p.FixedIPs = []network.FixedIP{{Address: "10.0.0.2"}, {Address: "10.0.0.200"}}
		})
		fails(t, err, nacre.Invalid, "InvalidIpForNetwork")
		require.Equal(t, []string{"10.0.0.2"}, addresses(c.port(c.alice, n, at("10.0.0.2"))))
		c.clean()
	})
}

func TestPortOfAHostThatIsNotThere(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		p := c.port(c.admin, n, on("node7"), of("alice"))
		require.True(t, p.BindingFailed)
		c.rest()
		// It is wired as soon as the host comes.
		h := c.host("node7", nil)
		c.rest()
		p, err := c.Port(c.admin, p.ID)
		require.NoError(t, err)
		require.False(t, p.BindingFailed)
		require.Equal(t, network.Active, p.Status)
		require.Contains(t, h.has(t, map[string]string{p.ID: "p"}), "port p")
	})
}

func TestQuota(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		limits := map[string]int64{"network": 1, "subnet": 1, "port": 2, "router": 1, "floatingip": 1, "security_group": 2, "security_group_rule": 7}
		_, err := c.SetQuota(c.alice, "alice", limits)
		require.ErrorIs(t, err, nacre.Forbidden)
		_, err = c.SetQuota(c.admin, "alice", limits)
		require.NoError(t, err)
		_, err = c.SetQuota(c.admin, "alice", map[string]int64{"wings": 2})
		require.ErrorIs(t, err, nacre.Invalid)

		ext, _ := c.public()
		n := c.network(c.alice, "net")
		_, err = c.CreateNetwork(c.alice, network.Network{})
		fails(t, err, nacre.QuotaExceeded, "OverQuota")
		sn := c.subnet(c.alice, n, "10.0.0.0/24")
		_, err = c.CreateSubnet(c.alice, network.NewSubnet{Subnet: network.Subnet{NetworkID: n.ID, CIDR: "10.1.0.0/24", IPVersion: 4}})
		fails(t, err, nacre.QuotaExceeded, "OverQuota")
		c.port(c.alice, n)
		c.port(c.alice, n)
		_, err = c.newPort(c.alice, n)
		fails(t, err, nacre.QuotaExceeded, "OverQuota")
		r, err := c.CreateRouter(c.alice, network.Router{}, nil)
		require.NoError(t, err)
		_, err = c.CreateRouter(c.alice, network.Router{}, nil)
		fails(t, err, nacre.QuotaExceeded, "OverQuota")
		// What is ours (DHCP, legs, gateways, floating addresses) counts against no quota.
		_, err = c.AddInterface(c.alice, r.ID, sn.ID, "")
		require.NoError(t, err)
		_, err = c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: ext.ID}, "")
		require.NoError(t, err)
		_, err = c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: ext.ID}, "")
		fails(t, err, nacre.QuotaExceeded, "OverQuota")
		g, err := c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: "one"}})
		require.NoError(t, err)
		_, err = c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: "two"}})
		fails(t, err, nacre.QuotaExceeded, "OverQuota")
		rule := network.SecurityGroupRule{GroupID: g.ID, Direction: "ingress", Protocol: "icmp"}
		_, err = c.CreateSecurityGroupRule(c.alice, rule)
		require.NoError(t, err)
		rule.Protocol = "tcp"
		_, err = c.CreateSecurityGroupRule(c.alice, rule)
		fails(t, err, nacre.QuotaExceeded, "OverQuota")

		use, err := c.QuotaUse(c.alice, "alice")
		require.NoError(t, err)
		for r, n := range limits {
			require.Equal(t, n, use[r], r)
		}
		_, err = c.QuotaUse(c.bob, "alice")
		require.ErrorIs(t, err, nacre.Forbidden)
		_, err = c.Quota(c.bob, "alice")
		require.ErrorIs(t, err, nacre.Forbidden)

		require.NoError(t, c.ClearQuota(c.admin, "alice"))
		fails(t, c.ClearQuota(c.admin, "alice"), nacre.NotFound, "TenantQuotaNotFound")
		c.network(c.alice, "now")
	})
}

// TestNetworkWithLooseFloatingIPs: an external network goes with the floating IPs
// that nobody uses, and is held by one that is associated.
func TestNetworkWithLooseFloatingIPs(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		s := c.site()
		f, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID}, "")
		require.NoError(t, err)
		fails(t, c.DeleteNetwork(c.admin, s.ext.ID), nacre.Conflict, "NetworkInUse") // the router's gateway
		_, err = c.FloatingIP(c.alice, f.ID)
		require.NoError(t, err, "a refused deletion takes nothing")
		other, err := c.CreateNetwork(c.admin, network.Network{Std: network.Std{Name: "other"}, External: true, AdminUp: true})
		require.NoError(t, err)
		c.subnet(c.admin, other, "192.0.2.0/24")
		loose, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: other.ID}, "")
		require.NoError(t, err)
		require.NoError(t, c.DeleteNetwork(c.admin, other.ID))
		_, err = c.FloatingIP(c.alice, loose.ID)
		fails(t, err, nacre.NotFound, "FloatingIPNotFound")
		c.clean()
	})
}
