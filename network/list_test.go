package network_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/store"
)

func q(pairs ...string) nacre.Query {
	var out nacre.Query
	for i := 0; i < len(pairs); i += 2 {
		out.Filters = append(out.Filters, nacre.Filter{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func TestListFilters(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		s := c.site()
		var ports []network.Port
		for i := range 4 {
			p := c.port(c.alice, s.net, func(p *network.NewPort) { p.Name, p.AdminUp = fmt.Sprintf("p%d", i), i%2 == 0 })
			ports = append(ports, p)
		}
		for i, tags := range [][]string{{"red"}, {"red", "blue"}, {"blue"}, nil} {
			_, err := c.UpdateTags(c.alice, "ports", ports[i].ID, func([]string) ([]string, error) { return tags, nil })
			require.NoError(t, err)
		}
		list := func(query nacre.Query) []string {
			t.Helper()
			query.Filters = append(query.Filters, nacre.Filter{Name: "device_owner"})
			ps, err := c.Ports(c.alice, query)
			require.NoError(t, err)
			out := []string{}
			for _, p := range ps {
				out = append(out, p.Name)
			}
			slices.Sort(out)
			return out
		}
		for _, f := range []struct {
			query nacre.Query
			want  string
		}{
			{q(), "[p0 p1 p2 p3]"},
			{q("name", "p1"), "[p1]"},
			{q("name", "p1", "name", "p3"), "[p1 p3]"},
			{q("id", ports[0].ID, "id", ports[2].ID), "[p0 p2]"},
			{q("admin_state_up", "True"), "[p0 p2]"},
			{q("admin_state_up", "false"), "[p1 p3]"},
			{q("network_id", s.net.ID, "mac_address", ports[2].MAC), "[p2]"},
			{q("fixed_ips", "ip_address="+addresses(ports[1])[0]), "[p1]"},
			{q("fixed_ips", "ip_address="+addresses(ports[1])[0], "fixed_ips", "ip_address="+addresses(ports[2])[0]), "[p1 p2]"},
			{q("fixed_ips", "subnet_id="+s.subnet.ID), "[p0 p1 p2 p3]"},
			{q("fixed_ips", "subnet_id="+s.extSubnet.ID), "[]"},
			{q("fixed_ips", "ip_address_substr=10.0"), "[p0 p1 p2 p3]"},
			{q("security_groups", s.group), "[p0 p1 p2 p3]"},
			{q("tags", "red"), "[p0 p1]"},
			{q("tags", "red,blue"), "[p1]"},
			{q("tags-any", "red,blue"), "[p0 p1 p2]"},
			{q("not-tags", "red,blue"), "[p0 p2 p3]"},
			{q("not-tags-any", "red,blue"), "[p3]"},
			{q("project_id", "bob"), "[]"},
			{q("tenant_id", "alice"), "[p0 p1 p2 p3]"},
			{q("status", "DOWN"), "[p0 p1 p2 p3]"},
		} {
			require.Equal(t, f.want, fmt.Sprint(list(f.query)), "%+v", f.query.Filters)
		}
		_, err := c.Ports(c.alice, q("admin_state_up", "perhaps"))
		require.ErrorIs(t, err, nacre.Invalid)
		_, err = c.Ports(c.alice, q("fixed_ips", "colour=red"))
		require.ErrorIs(t, err, nacre.Invalid)
		_, err = c.Ports(c.alice, nacre.Query{Sort: []nacre.SortKey{{Field: "shoe_size"}}})
		require.ErrorIs(t, err, nacre.Invalid)
		_, err = c.Ports(c.alice, nacre.Query{Marker: "nowhere", Limit: 1})
		require.ErrorIs(t, err, nacre.Invalid)

		ns, subs, err := c.Networks(c.alice, q("router:external", "true"))
		require.NoError(t, err)
		require.Len(t, ns, 1)
		require.Equal(t, []string{s.extSubnet.ID}, subs[ns[0].ID])
		ns, _, err = c.Networks(c.alice, q("subnets", s.subnet.ID))
		require.NoError(t, err)
		require.Equal(t, s.net.ID, ns[0].ID)
		ss, err := c.Subnets(c.alice, q("cidr", "10.0.0.0/24"))
		require.NoError(t, err)
		require.Len(t, ss, 1)
		none, err := c.SecurityGroupRules(c.alice, q("direction", "ingress", "ethertype", "IPv6"))
		require.NoError(t, err)
		require.Len(t, none, 1)
	})
}

func TestPaging(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		for i := range 5 {
			c.network(c.alice, fmt.Sprintf("n%d", i))
		}
		sort := []nacre.SortKey{{Field: "name", Desc: true}, {Field: "id"}}
		var names []string
		marker := ""
		for {
			ns, _, err := c.Networks(c.alice, nacre.Query{Sort: sort, Limit: 2, Marker: marker})
			require.NoError(t, err)
			if len(ns) == 0 {
				break
			}
			for _, n := range ns {
				names = append(names, n.Name)
			}
			marker = ns[len(ns)-1].ID
		}
		require.Equal(t, []string{"n4", "n3", "n2", "n1", "n0"}, names)
		// Back from the last one.
		ns, _, err := c.Networks(c.alice, nacre.Query{Sort: sort, Limit: 2, Marker: marker, Reverse: true})
		require.NoError(t, err)
		require.Equal(t, "n2", ns[0].Name)
		require.Equal(t, "n1", ns[1].Name)
	})
}

// Lists cost three statements at most, however long; a port little more than what
// it touches.
func TestStatements(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		c.host("node1", nil)
		s := c.site()
		for range 20 {
			p := c.port(c.admin, s.net, of("alice"), on("node1"))
			_, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID, PortID: p.ID}, "")
			require.NoError(t, err)
		}
		cost := func(f func(ctx context.Context) error) int64 {
			t.Helper()
			ctx, n := store.CountStatements(c.alice)
			require.NoError(t, f(ctx))
			return n.Load()
		}
		_, err := c.CreateSecurityGroup(c.alice, network.SecurityGroup{})
		require.NoError(t, err)
		groups, _, err := c.SecurityGroups(c.alice, nacre.Query{})
		require.NoError(t, err)
		ports, err := c.Ports(c.alice, nacre.Query{})
		require.NoError(t, err)
		marker := nacre.Query{Limit: 5, Marker: ports[3].ID}
		for name, f := range map[string]func(ctx context.Context) error{
			"networks":   func(ctx context.Context) error { _, _, err := c.Networks(ctx, nacre.Query{}); return err },
			"subnets":    func(ctx context.Context) error { _, err := c.Subnets(ctx, nacre.Query{}); return err },
			"ports":      func(ctx context.Context) error { _, err := c.Ports(ctx, nacre.Query{}); return err },
			"ports page": func(ctx context.Context) error { _, err := c.Ports(ctx, marker); return err },
			"groups":     func(ctx context.Context) error { _, _, err := c.SecurityGroups(ctx, nacre.Query{}); return err },
			"groups page": func(ctx context.Context) error {
				_, _, err := c.SecurityGroups(ctx, nacre.Query{Limit: 1, Marker: groups[0].ID})
				return err
			},
			"rules": func(ctx context.Context) error { _, err := c.SecurityGroupRules(ctx, nacre.Query{}); return err },
			"routers": func(ctx context.Context) error {
				rs, err := c.Routers(ctx, nacre.Query{})
				if err == nil {
					_, err = c.GatewayPorts(ctx, rs...)
				}
				return err
			},
			"floatingips": func(ctx context.Context) error {
				fs, err := c.FloatingIPs(ctx, nacre.Query{})
				if err == nil {
					_, err = c.FloatingIPPorts(ctx, fs...)
				}
				return err
			},
		} {
			require.LessOrEqual(t, cost(f), int64(3), name)
		}
		compute := nacre.AsService(c.alice, "compute")
		ctx, n := store.CountStatements(compute)
		_, err = c.ServerPorts(ctx, "a", "b")
		require.NoError(t, err)
		require.LessOrEqual(t, n.Load(), int64(6))

		ctx, n = store.CountStatements(compute)
		sp, err := c.EnsureServerPort(ctx, network.ServerPortRequest{ProjectID: "alice", ServerID: "vm", NIC: network.ServerNIC{NetworkID: s.net.ID}, Host: "node1", SecurityGroups: []string{s.group}})
		require.NoError(t, err)
		made := n.Load()
		ctx, n = store.CountStatements(compute)
		require.NoError(t, c.ReleaseServerPorts(ctx, "alice", "vm", sp.Port.ID))
		t.Logf("a server's port: %d statements to make, %d to release", made, n.Load())
		require.LessOrEqual(t, made+n.Load(), int64(45))
		create := cost(func(ctx context.Context) error { _, err := c.newPort(ctx, s.net); return err })
		t.Logf("an unbound port: %d statements", create)
		require.LessOrEqual(t, create, int64(20))
	})
}
