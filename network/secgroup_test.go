package network_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/fake"
)

func TestDefaultGroup(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		gs, rules, err := c.SecurityGroups(c.alice, nacre.Query{})
		require.NoError(t, err)
		require.Len(t, gs, 1)
		require.Equal(t, "default", gs[0].Name)
		require.Len(t, rules[gs[0].ID], 4)
		for _, r := range rules[gs[0].ID] {
			require.Equal(t, r.Direction == "ingress", r.RemoteGroupID == gs[0].ID)
		}
		_, err = c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: "default"}})
		fails(t, err, nacre.Conflict, "SecurityGroupDefaultAlreadyExists")
		fails(t, c.DeleteSecurityGroup(c.alice, gs[0].ID), nacre.Conflict, "SecurityGroupCannotRemoveDefault")
		_, err = c.UpdateSecurityGroup(c.alice, gs[0].ID, func(g *network.SecurityGroup) error { g.Name = "other"; return nil })
		fails(t, err, nacre.Conflict, "SecurityGroupCannotUpdateDefault")
		other, err := c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: "other"}})
		require.NoError(t, err)
		_, err = c.UpdateSecurityGroup(c.alice, other.ID, func(g *network.SecurityGroup) error { g.Name = "Default"; return nil })
		fails(t, err, nacre.Conflict, "SecurityGroupDefaultAlreadyExists")
		require.NoError(t, c.DeleteSecurityGroup(c.alice, other.ID))
		_, err = c.SecurityGroup(c.bob, gs[0].ID)
		fails(t, err, nacre.NotFound, "SecurityGroupNotFound")
		require.NoError(t, c.DeleteSecurityGroup(c.admin, gs[0].ID))
		again, _, err := c.SecurityGroups(c.alice, nacre.Query{})
		require.NoError(t, err)
		require.Len(t, again, 1)
		require.NotEqual(t, gs[0].ID, again[0].ID)
	})
}

func TestSecurityGroupRules(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		g, err := c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: "web"}, Stateful: true})
		require.NoError(t, err)
		rules, err := c.RulesOf(c.alice, g)
		require.NoError(t, err)
		require.Len(t, rules, 2)
		create := func(r network.SecurityGroupRule) (network.SecurityGroupRule, error) {
			r.GroupID = g.ID
			if r.Direction == "" {
				r.Direction = "ingress"
			}
			return c.CreateSecurityGroupRule(c.alice, r)
		}
		for _, bad := range [][2]int{{-16, 80}, {80, 65536}, {0, 80}} {
			_, err = create(network.SecurityGroupRule{Protocol: "tcp", PortMin: ptr(bad[0]), PortMax: ptr(bad[1])})
			fails(t, err, nacre.Invalid, "SecurityGroupInvalidPortValue")
		}
		_, err = create(network.SecurityGroupRule{Protocol: "tcp", PortMin: ptr(80), PortMax: ptr(65536)})
		require.ErrorContains(t, err, "Invalid value for port 65536")
		ssh := network.SecurityGroupRule{Protocol: "TCP", PortMin: ptr(22), PortMax: ptr(22), RemotePrefix: "10.1.2.3/8"}
		r, err := create(ssh)
		require.NoError(t, err)
		require.Equal(t, "IPv4", r.EtherType)
		require.Equal(t, "tcp", r.Protocol)
		require.Equal(t, "10.1.2.3/8", r.RemotePrefix, "as it was given")
		require.Equal(t, "10.0.0.0/8", r.NormalizedCIDR())
		ssh.RemotePrefix = "10.9.9.9/8" // means the same
		_, err = create(ssh)
		fails(t, err, nacre.Conflict, "SecurityGroupRuleExists")
		for _, bad := range []struct {
			r    network.SecurityGroupRule
			code string
		}{
			{network.SecurityGroupRule{Protocol: "carrier-pigeon"}, "SecurityGroupRuleInvalidProtocol"},
			{network.SecurityGroupRule{Protocol: "256"}, "SecurityGroupRuleInvalidProtocol"},
			{network.SecurityGroupRule{EtherType: "IPX"}, "SecurityGroupRuleInvalidEtherType"},
			{network.SecurityGroupRule{Direction: "sideways"}, "HTTPBadRequest"},
			{network.SecurityGroupRule{PortMin: ptr(1), PortMax: ptr(2)}, "SecurityGroupProtocolRequiredWithPorts"},
			{network.SecurityGroupRule{Protocol: "tcp", PortMin: ptr(2), PortMax: ptr(1)}, "SecurityGroupInvalidPortRange"},
			{network.SecurityGroupRule{Protocol: "tcp", PortMin: ptr(0), PortMax: ptr(70000)}, "SecurityGroupInvalidPortValue"},
			{network.SecurityGroupRule{Protocol: "esp", PortMin: ptr(1), PortMax: ptr(1)}, "SecurityGroupInvalidProtocolForPort"},
			{network.SecurityGroupRule{Protocol: "icmp", PortMin: ptr(300)}, "SecurityGroupInvalidIcmpValue"},
			{network.SecurityGroupRule{Protocol: "icmp", PortMax: ptr(3)}, "SecurityGroupMissingIcmpType"},
			{network.SecurityGroupRule{RemotePrefix: "x"}, "HTTPBadRequest"},
			{network.SecurityGroupRule{RemotePrefix: "fd00::/8"}, "SecurityGroupRuleParameterConflict"},
			{network.SecurityGroupRule{RemotePrefix: "10.0.0.0/8", RemoteGroupID: g.ID}, "SecurityGroupMultipleRemoteEntites"},
		} {
			_, err := create(bad.r)
			fails(t, err, nacre.Invalid, bad.code)
		}
		_, err = create(network.SecurityGroupRule{RemoteGroupID: "nowhere"})
		fails(t, err, nacre.NotFound, "SecurityGroupNotFound")
		_, err = c.SecurityGroupRule(c.bob, r.ID)
		fails(t, err, nacre.NotFound, "SecurityGroupRuleNotFound")
		require.NoError(t, c.DeleteSecurityGroupRule(c.alice, r.ID))
		fails(t, c.DeleteSecurityGroupRule(c.alice, r.ID), nacre.NotFound, "SecurityGroupRuleNotFound")

		n := c.network(c.alice, "net")
		p := c.port(c.alice, n, func(p *network.NewPort) { p.SecurityGroups = []string{g.ID} })
		fails(t, c.DeleteSecurityGroup(c.alice, g.ID), nacre.Conflict, "SecurityGroupInUse")
		_, err = c.UpdateSecurityGroup(c.alice, g.ID, func(g *network.SecurityGroup) error { g.Stateful = false; return nil })
		fails(t, err, nacre.Conflict, "SecurityGroupInUse")
		require.NoError(t, c.DeletePort(c.alice, p.ID))
		require.NoError(t, c.DeleteSecurityGroup(c.alice, g.ID))
		c.clean()
	})
}

// Two hosts hear of each other's members, and of nothing that they have no use for.
func TestGroupsOnHosts(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		one, two := c.host("node1", nil), c.host("node2", nil)
		n := c.network(c.alice, "net")
		c.subnet(c.alice, n, "10.0.0.0/24")
		group := func(name string) network.SecurityGroup {
			g, err := c.CreateSecurityGroup(c.alice, network.SecurityGroup{Std: network.Std{Name: name}, Stateful: true})
			require.NoError(t, err)
			return g
		}
		web, db := group("web"), group("db")
		names := map[string]string{n.ID: "net", web.ID: "web", db.ID: "db"}
		in := func(g network.SecurityGroup) func(*network.NewPort) {
			return func(p *network.NewPort) { p.SecurityGroups = []string{g.ID} }
		}
		w := c.port(c.admin, n, of("alice"), in(web), on("node1"))
		d := c.port(c.admin, n, of("alice"), in(db), on("node2"))
		names[w.ID], names[d.ID] = "w", "d"
		c.rest()
		require.ElementsMatch(t, []string{"network net", "security_group web", "port w"}, one.has(t, names))
		require.ElementsMatch(t, []string{"network net", "security_group db", "port d"}, two.has(t, names))
		ok, _ := reach(one, two, w, d, 5432)
		require.False(t, ok)

		// db lets web in: node2 now needs web's members.
		r, err := c.CreateSecurityGroupRule(c.alice, network.SecurityGroupRule{GroupID: db.ID, Direction: "ingress", Protocol: "tcp", PortMin: ptr(5432), PortMax: ptr(5432), RemoteGroupID: web.ID})
		require.NoError(t, err)
		c.rest()
		require.ElementsMatch(t, []string{"network net", "security_group db", "security_group web", "port d"}, two.has(t, names))
		require.ElementsMatch(t, []string{"network net", "security_group web", "port w"}, one.has(t, names))
		ok, why := reach(one, two, w, d, 5432)
		require.True(t, ok, why)

		// A member more on node1 is news for node2.
		before := two.messages(web.ID)
		w2 := c.port(c.admin, n, of("alice"), in(web), on("node1"))
		names[w2.ID] = "w2"
		c.rest()
		require.Greater(t, two.messages(web.ID), before)
		ok, why = reach(one, two, w2, d, 5432)
		require.True(t, ok, why)

		// The rule goes, and with it node2's use for web.
		require.NoError(t, c.DeleteSecurityGroupRule(c.alice, r.ID))
		c.rest()
		require.ElementsMatch(t, []string{"network net", "security_group db", "port d"}, two.has(t, names))
		// And comes back: web returns with a generation that node2 accepts.
		_, err = c.CreateSecurityGroupRule(c.alice, network.SecurityGroupRule{GroupID: db.ID, Direction: "ingress", Protocol: "tcp", PortMin: ptr(5432), PortMax: ptr(5432), RemoteGroupID: web.ID})
		require.NoError(t, err)
		c.rest()
		ok, why = reach(one, two, w, d, 5432)
		require.True(t, ok, why)

		// The last member leaves node2: nothing of the two stays there.
		require.NoError(t, c.DeletePort(c.alice, d.ID))
		c.rest()
		require.Empty(t, two.has(t, names))
		require.NoError(t, c.DeletePort(c.alice, w.ID))
		c.rest()
		require.ElementsMatch(t, []string{"network net", "security_group web", "port w2"}, one.has(t, names))
		// Another group for the port: the old one goes from the host.
		_, err = c.UpdatePort(c.alice, w2.ID, network.PortChange{SecurityGroups: &[]string{db.ID}})
		require.NoError(t, err)
		c.rest()
		require.ElementsMatch(t, []string{"network net", "security_group db", "security_group web", "port w2"}, one.has(t, names))
		require.NoError(t, c.DeleteSecurityGroup(c.alice, web.ID))
		c.rest()
		require.ElementsMatch(t, []string{"network net", "security_group db", "port w2"}, one.has(t, names))
	})
}

// reach asks a data plane that has what both hosts were told.
func reach(from, to *host, a, b network.Port, port int) (bool, string) {
	d, err := fake.New(fake.Config{})
	if err != nil {
		return false, err.Error()
	}
	ctx := context.Background()
	for _, h := range []*host{from, to} {
		h.mu.Lock()
		latest := map[dataplane.Ref]dataplane.Desired{}
		for _, m := range h.got {
			latest[dataplane.Ref{Kind: m.Kind, ID: m.ID}] = m
		}
		h.mu.Unlock()
		for _, m := range latest {
			switch {
			case m.Network != nil:
				err = d.ApplyNetwork(ctx, *m.Network)
			case m.Port != nil:
				err = d.ApplyPort(ctx, *m.Port)
			case m.Router != nil:
				err = d.ApplyRouter(ctx, *m.Router)
			case m.SecurityGroup != nil:
				err = d.ApplySecurityGroup(ctx, *m.SecurityGroup)
			}
			if err != nil {
				return false, err.Error()
			}
		}
	}
	return d.Reach(a.ID, mustAddr(b.FixedIPs[0].Address), "tcp", port)
}
