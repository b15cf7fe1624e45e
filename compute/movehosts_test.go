package compute_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
	"github.com/nacre-cloud/nacre/store"
)

// bootOn makes one server that runs on a host.
func bootOn(t *testing.T, c *computetest.Cloud, flavor, host string) compute.Server {
	t.Helper()
	sv := c.Boot(computetest.Admin(), flavor, 1, func(n *compute.NewServer) { n.Host = host })[0]
	sv = c.Reach(sv.ID, "ACTIVE")
	require.Equal(t, host, sv.Host)
	return sv
}

// theMoves are the ways by which a server leaves a host that is up.
func theMoves(c *computetest.Cloud, big string) map[string]func(id string) error {
	return map[string]func(id string) error{
		"migrate": func(id string) error { return c.Compute.Migrate(computetest.Admin(), id, "") },
		"resize":  func(id string) error { return c.Compute.Resize(computetest.Admin(), id, big, "") },
		"live":    func(id string) error { return c.Compute.LiveMigrate(computetest.Admin(), id, "") },
	}
}

// Servers move only between hosts that are set up for it.
func TestMovesGoOnlyWhereHostsAreSetUp(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		w := computetest.NewWorld(e, "h1", "h2", "h3")
		w.Still = []string{"h2"}
		c := computetest.Start(t, w)
		flavor := c.Flavor()
		for name, move := range theMoves(c, bigger(t, c)) {
			sv := bootOn(t, c, flavor, "h1")
			require.NoError(t, move(sv.ID))
			if name != "live" {
				c.Reach(sv.ID, "VERIFY_RESIZE")
				require.NoError(t, c.Compute.ConfirmResize(computetest.Admin(), sv.ID))
			}
			c.Eventually(name+" is over", func() bool {
				stones, work, err := c.Compute.Waiting(context.Background())
				require.NoError(t, err)
				return stones == 0 && work == 0
			})
			runsOn(t, c, sv.ID, "h3")
		}
		// An evacuation builds anew: it needs no listener.
		sv := bootOn(t, c, flavor, "h1")
		c.StopHost("h1")
		c.Eventually("it is seen that the host is down", func() bool { return c.Compute.Evacuate(computetest.Admin(), sv.ID, "h2", false) == nil })
		c.Eventually("it is on its new host", func() bool {
			sv, err := c.Compute.Server(computetest.Admin(), sv.ID)
			require.NoError(t, err)
			return sv.Host == "h2" && sv.Status() == "ACTIVE"
		})
		c.StartHost("h1")
		runsOn(t, c, sv.ID, "h2")
	})
}

// Where no host is set up for a move, or its own is not, it is refused before the guest
// is touched.
func TestNoHostIsSetUpForMoves(t *testing.T) {
	for name, still := range map[string]string{"target": "h2", "source": "h1"} {
		t.Run(name, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				w := computetest.NewWorld(e, "h1", "h2")
				w.Still = []string{still}
				c := computetest.Start(t, w)
				sv := bootOn(t, c, c.Flavor(), "h1")
				var stops atomic.Int64
				c.Drivers["h1"].Fault("Stop", sv.ID, func(context.Context, string) error {
					stops.Add(1)
					return nil
				})
				for name, move := range theMoves(c, bigger(t, c)) {
					require.NoError(t, move(sv.ID))
					c.Reach(sv.ID, "ACTIVE")
					runsOn(t, c, sv.ID, "h1")
					as, err := c.Compute.Actions(computetest.Admin(), sv.ID, nacre.Query{})
					require.NoError(t, err)
					require.Contains(t, as[0].Message, "No valid host was found", name)
					require.Contains(t, as[0].Message, still, name)
				}
				require.Zero(t, stops.Load())
			})
		})
	}
}

// The servers of a host that died spread over those that are left.
func TestEvacuatedServersSpread(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2", "h3"), computetest.Configure(func(c *compute.Config) { c.Workers = 1 }))
		flavor := c.Flavor()
		var ids []string
		for range 4 {
			ids = append(ids, bootOn(t, c, flavor, "h1").ID)
		}
		c.StopHost("h1")
		c.Eventually("it is seen that the host is down", func() bool { return c.Compute.Evacuate(computetest.Admin(), ids[0], "", false) == nil })
		for _, id := range ids[1:] {
			require.NoError(t, c.Compute.Evacuate(computetest.Admin(), id, "", false))
		}
		on := map[string]int{}
		for _, id := range ids {
			on[c.Reach(id, "ACTIVE").Host]++
		}
		require.Equal(t, map[string]int{"h2": 2, "h3": 2}, on)
	})
}

// A host that may get a server back keeps its zone.
func TestZoneOfAHostThatAServerMayReturnTo(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		admin := computetest.Admin()
		sv := bootOn(t, c, c.Flavor(), "h1")
		require.NoError(t, c.Compute.Migrate(admin, sv.ID, ""))
		c.Reach(sv.ID, "VERIFY_RESIZE")
		a, err := c.Compute.CreateAggregate(admin, "far", "mars")
		require.NoError(t, err)
		_, err = c.Compute.AddAggregateHost(admin, a.Number, "h1")
		require.Equal(t, nacre.Conflict, nacre.KindOf(err))
		require.NoError(t, c.Compute.RevertResize(admin, sv.ID))
		require.Equal(t, "nova", c.Reach(sv.ID, "ACTIVE").AvailabilityZone)
		require.NoError(t, c.Compute.DeleteServer(admin, sv.ID, "os_compute_api:servers:delete"))
		c.Reach(sv.ID, "")
		_, err = c.Compute.AddAggregateHost(admin, a.Number, "h1")
		require.NoError(t, err)
		c.Clean()
	})
}

// A page goes on after a migration that has ceased to match the filters meanwhile, but
// not after one that its user can't see.
func TestMarkerOfMigrations(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		flavor := c.Flavor()
		markers := map[string]string{}
		manager := func(project string) context.Context {
			return nacre.WithCaller(context.Background(), &nacre.Caller{UserID: "m", ProjectID: project, Roles: []string{"manager", "member", "reader"}})
		}
		for _, project := range []string{"p1", "p2"} {
			sv := c.Boot(computetest.User(project), flavor, 1)[0]
			c.Reach(sv.ID, "ACTIVE")
			require.NoError(t, c.Compute.Migrate(manager(project), sv.ID, ""))
			c.Reach(sv.ID, "VERIFY_RESIZE")
			require.NoError(t, c.Compute.ConfirmResize(computetest.User(project), sv.ID))
			c.Reach(sv.ID, "ACTIVE")
			markers[project] = migrations(t, c, sv.ID)[0].ID
		}
		list := func(ctx context.Context, marker string, filters ...nacre.Filter) (int, error) {
			ms, err := c.Compute.Migrations(ctx, nacre.Query{Filters: filters, Marker: marker})
			return len(ms), err
		}
		own := nacre.Filter{Name: "project_id", Value: "p2"}
		n, err := list(manager("p2"), "", own)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = list(manager("p2"), markers["p1"], own)
		require.Equal(t, nacre.Invalid, nacre.KindOf(err))
		n, err = list(manager("p2"), markers["p2"], own, nacre.Filter{Name: "status", Value: "finished"})
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = list(computetest.Admin(), markers["p2"], nacre.Filter{Name: "status", Value: "finished"})
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = list(computetest.Admin(), "nowhere")
		require.Equal(t, nacre.Invalid, nacre.KindOf(err))
	})
}
