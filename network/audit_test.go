package network_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/store"
)

var errUndo = errors.New("undo")

// Each kind of damage is found.
func TestAuditFindsDamage(t *testing.T) {
	each(t, func(t *testing.T, c *cloud) {
		c.host("node1", nil)
		s := c.site()
		p := c.port(c.admin, s.net, of("alice"), on("node1"))
		f, err := c.CreateFloatingIP(c.alice, network.FloatingIP{NetworkID: s.ext.ID, PortID: p.ID}, "")
		require.NoError(t, err)
		_, err = c.UpdateTags(c.alice, "ports", p.ID, func([]string) ([]string, error) { return []string{"red"}, nil })
		require.NoError(t, err)
		c.rest()
		c.stop() // nobody mends what is broken now

		ports, allocations, places := store.NewTable[network.Port](c.engine, "port"), store.NewTable[network.Allocation](c.engine, "ip_allocation"), store.NewTable[network.Place](c.engine, "place")
		members, fips, routers := store.NewTable[network.Membership](c.engine, "port_security_group"), store.NewTable[network.FloatingIP](c.engine, "floatingip"), store.NewTable[network.Router](c.engine, "router")
		groups, tags, networks := store.NewTable[network.SecurityGroup](c.engine, "security_group"), store.NewTable[network.TagRow](c.engine, "tag"), store.NewTable[network.Network](c.engine, "network")
		ctx := c.admin
		address := addresses(p)[0]
		type damage struct {
			name, kind string
			do         func() error
		}
		set := func(n int64, err error) error { require.EqualValues(t, 1, n); return err }
		for _, d := range []damage{
			{"address outside its subnet", "port", func() error {
				_, err := ports.Update(ctx, p.ID, func(p *network.Port) error { p.FixedIPs[0].Address = "10.7.0.1"; return nil })
				return err
			}},
			{"address not allocated", "port", func() error { return allocations.Delete(ctx, s.net.ID+"/"+address) }},
			{"allocation of nobody", "ip_allocation", func() error {
				return allocations.Insert(ctx, network.Allocation{ID: s.net.ID + "/10.0.0.200", NetworkID: s.net.ID, SubnetID: s.subnet.ID, PortID: "nobody", Address: "10.0.0.200"})
			}},
			{"network gone", "port", func() error { return networks.Delete(ctx, s.net.ID) }},
			{"group gone", "port", func() error { return groups.Delete(ctx, s.group) }},
			{"membership gone", "port", func() error { return members.Delete(ctx, p.ID+"/"+s.group) }},
			{"membership elsewhere", "membership", func() error {
				return set(members.UpdateWhere(ctx, store.Eq("port_id", p.ID), store.Set{"host": "node9"}))
			}},
			{"floating IP to nowhere", "floatingip", func() error {
				return set(fips.UpdateWhere(ctx, store.Eq("id", f.ID), store.Set{"port_id": "nobody"}))
			}},
			{"floating IP half off", "floatingip", func() error {
				return set(fips.UpdateWhere(ctx, store.Eq("id", f.ID), store.Set{"port_id": ""}))
			}},
			{"floating IP without its port", "floatingip", func() error { return ports.Delete(ctx, f.ExternalPortID) }},
			{"router gone", "port", func() error { return routers.Delete(ctx, s.router.ID) }},
			{"gateway gone", "router", func() error { return ports.Delete(ctx, s.router.GatewayPortID) }},
			{"port nobody is told of", "place", func() error { return places.Delete(ctx, "node1/port/"+p.ID) }},
			{"place of nothing", "place", func() error {
				return places.Insert(ctx, network.Place{ID: "node1/port/nobody", Host: "node1", Kind: "port", ObjectID: "nobody"})
			}},
			{"place without work", "place", func() error {
				return places.Insert(ctx, network.Place{ID: "node8/port/" + p.ID, Host: "node8", Kind: "port", ObjectID: p.ID, Pending: true})
			}},
			{"place behind its object", "place", func() error {
				return set(places.UpdateWhere(ctx, store.Eq("id", "node1/port/"+p.ID), store.Set{"wanted": 0}))
			}},
			{"network on a host without need", "place", func() error {
				return places.Insert(ctx, network.Place{ID: "node8/network/" + s.net.ID, Host: "node8", Kind: "network", ObjectID: s.net.ID, Wanted: 99})
			}},
			{"group on a host without need", "place", func() error {
				return places.Insert(ctx, network.Place{ID: "node8/security_group/" + s.group, Host: "node8", Kind: "security_group", ObjectID: s.group, Wanted: 99})
			}},
			{"network missing on a host", "place", func() error { return places.Delete(ctx, "node1/network/"+s.net.ID) }},
			{"tag of nothing", "tag", func() error {
				return tags.Insert(ctx, network.TagRow{ID: "nobody/red", ObjectID: "nobody", Tag: "red"})
			}},
			{"tag not findable", "port", func() error { return tags.Delete(ctx, p.ID+"/red") }},
		} {
			// In a transaction that is given up, so that each begins whole.
			undo := store.InTx(ctx, c.engine, func(ctx2 context.Context) error {
				old := ctx
				ctx = ctx2
				defer func() { ctx = old }()
				require.NoError(t, d.do(), d.name)
				found, err := c.Audit(ctx2)
				require.NoError(t, err, d.name)
				kinds := []string{}
				for _, f := range found {
					kinds = append(kinds, f.Kind)
				}
				require.Contains(t, kinds, d.kind, d.name)
				return errUndo
			})
			require.ErrorIs(t, undo, errUndo)
		}
		c.clean()
	})
}
