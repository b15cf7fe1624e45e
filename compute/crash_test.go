package compute_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/bustest"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/storetest"
)

var errCrash = errors.New("the process died here")

// story is a server's whole life, told to a service that may die at any moment.
type story struct {
	c       *computetest.Cloud
	rows    *store.Table[compute.Server] // of the engine beneath, which never fails
	crashed *atomic.Bool
}

// settled waits until no server is on its way, or the service died.
func (s story) settled(t *testing.T) {
	t.Helper()
	require.True(t, computetest.Poll(func() bool {
		svs, err := s.rows.Where(context.Background(), store.Eq("deleted", false))
		require.NoError(t, err)
		return s.crashed.Load() || !slices.ContainsFunc(svs, func(sv compute.Server) bool { return sv.Transitional() })
	}), "servers are still on their way")
}

// try makes a request. One that fails by the planted fault is made again, as a user
// would, unless the service died.
func (s story) try(t *testing.T, f func() error) {
	t.Helper()
	s.ask(t, f)
	s.settled(t)
}

// ask is try without the wait until nothing is on its way.
func (s story) ask(t *testing.T, f func() error) {
	t.Helper()
	for !s.crashed.Load() {
		err := f()
		if err == nil || nacre.KindOf(err) == nacre.Conflict || nacre.KindOf(err) == nacre.NotFound {
			break // a repetition of what was done, though nobody learned of it
		}
		require.ErrorIs(t, err, errCrash)
	}
}

func (s story) boot(t *testing.T, flavor string) (id string) {
	t.Helper()
	s.try(t, func() error {
		svs, err := s.c.Compute.CreateServers(computetest.User("p1"), computetest.NewServer(flavor, 1))
		if err == nil {
			id = svs[0].ID
		}
		return err
	})
	return id
}

// tellLife makes, stops, starts and deletes a server.
func (s story) tellLife(t *testing.T, flavor string) {
	me := computetest.User("p1")
	id := s.boot(t, flavor)
	s.try(t, func() error { return s.c.Compute.Do(me, id, compute.Stop) })
	s.try(t, func() error { return s.c.Compute.Do(me, id, compute.Start) })
	s.try(t, func() error { return s.c.Compute.DeleteServer(me, id, "os_compute_api:servers:delete") })
}

// tellCold migrates a server, takes that back, migrates it again and for good.
func (s story) tellCold(t *testing.T, flavor string) {
	id, admin := s.boot(t, flavor), computetest.Admin()
	s.try(t, func() error { return s.c.Compute.Migrate(admin, id, "") })
	s.try(t, func() error { return s.c.Compute.RevertResize(admin, id) })
	s.try(t, func() error { return s.c.Compute.Migrate(admin, id, "") })
	s.try(t, func() error { return s.c.Compute.ConfirmResize(admin, id) })
}

// tellLive has a server migrate while it runs; the second time the new host refuses it.
func (s story) tellLive(t *testing.T, flavor string) {
	id, admin := s.boot(t, flavor), computetest.Admin()
	s.try(t, func() error { return s.c.Compute.LiveMigrate(admin, id, "") })
	for _, d := range s.c.Drivers {
		d.Fault("Land", id, func(context.Context, string) error { return nacre.Errorf(nacre.Conflict, "", "no") })
	}
	s.try(t, func() error { return s.c.Compute.LiveMigrate(admin, id, "") })
}

// tellRescue has a server built anew, and again on another host when its own is gone.
func (s story) tellRescue(t *testing.T, flavor string) {
	id, admin := s.boot(t, flavor), computetest.Admin()
	s.try(t, func() error {
		_, err := s.c.Compute.RebuildServer(admin, id, compute.Rebuild{ImageID: computetest.ImageID})
		return err
	})
	svs, err := s.rows.Where(context.Background())
	require.NoError(t, err)
	if len(svs) == 0 || svs[0].Host == "" {
		return
	}
	host := svs[0].Host
	s.c.StopHost(host)
	time.Sleep(2 * time.Minute) // in a bubble: until the host counts as down
	s.try(t, func() error { return s.c.Compute.Evacuate(admin, id, "", false) })
	if !s.crashed.Load() {
		s.c.StartHost(host)
	}
}

// tellEnded has a server migrate, ends that in its middle, and restarts the server.
func (s story) tellEnded(t *testing.T, flavor string) {
	id, admin := s.boot(t, flavor), computetest.Admin()
	free := make(chan struct{})
	var met atomic.Bool
	for _, d := range s.c.Drivers {
		d.Fault("Receive", id, func(context.Context, string) error {
			met.Store(true)
			<-free
			return nil
		})
	}
	s.ask(t, func() error { return s.c.Compute.Migrate(admin, id, "") })
	computetest.Poll(func() bool { return met.Load() || s.crashed.Load() })
	s.ask(t, func() error { return s.c.Compute.ResetState(admin, id, compute.VMActive) })
	close(free)
	s.try(t, func() error { return s.c.Compute.Do(admin, id, compute.RebootHard) })
}

// faultAt tells the story with the n-th store call failing, and all after it when
// the service dies there; then it holds a service on what is left to bringing
// everything to rest and leaving nothing. It reports whether the fault was met.
func faultAt(t *testing.T, tell func(story, *testing.T, string), open func() store.Engine, n int64, dies bool) (met bool) {
	synctest.Test(t, func(t *testing.T) {
		e := open()
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		var calls atomic.Int64
		var armed, crashed atomic.Bool
		faulty := storetest.Faulty(e, func(string, string) error {
			if !armed.Load() {
				return nil
			}
			at := calls.Add(1)
			if at == n {
				met = true
				crashed.Store(dies)
			}
			if at == n || at > n && dies {
				return errCrash
			}
			return nil
		})
		w := computetest.NewWorld(e, "h1", "h2")
		w.Dir = t.TempDir()
		c := computetest.Start(t, w, computetest.Through(faulty))
		flavor := c.Flavor()
		armed.Store(true)
		tell(story{c, store.NewTable[compute.Server](e, "server"), &crashed}, t, flavor)
		armed.Store(false)
		if dies {
			c.Stop()
			c = computetest.Start(t, w)
		}
		c.Clean()
		me := computetest.User("p1")
		left, err := c.Compute.Servers(me, nacre.Query{}, "os_compute_api:servers:detail")
		require.NoError(t, err)
		for _, sv := range left {
			require.False(t, sv.Transitional(), "call %d: %s %s", n, sv.VMState, sv.TaskState)
			require.Contains(t, []string{"ACTIVE", "SHUTOFF", "ERROR", "VERIFY_RESIZE"}, sv.Status(), "call %d", n)
			oneGuest(t, c, &sv)
			if sv.Status() == "ERROR" {
				require.NotEmpty(t, sv.Fault.Message)
			}
			require.NoError(t, c.Compute.DeleteServer(me, sv.ID, "os_compute_api:servers:delete"))
			c.Reach(sv.ID, "")
		}
		c.Clean()
		require.Zero(t, c.Instances(t), "call %d", n)
		require.Zero(t, c.Nets.Count(), "call %d", n)
	})
	return met
}

// oneGuest requires that a server's guest runs on its host, if it should run, and
// nowhere else; that nothing is left of it on a host that is none of its own; and that
// its ports are where it is.
func oneGuest(t *testing.T, c *computetest.Cloud, sv *compute.Server) {
	t.Helper()
	if sv.VMState == compute.VMActive || sv.VMState == compute.VMResized {
		c.Eventually("it runs", func() bool { return where(t, c, sv.ID)[sv.Host] == hypervisor.Running })
		active, others := c.Nets.Bindings(sv.ID, 0)
		require.Equal(t, sv.Host, active)
		require.Empty(t, others)
	}
	for host, power := range where(t, c, sv.ID) {
		if host != sv.Host {
			require.Equal(t, sv.OtherHost, host)
			require.Equal(t, hypervisor.Shutdown, power)
		}
	}
}

// everyCall plants the fault at every store call, or at every few as steps says,
// until the story ends before it.
func everyCall(t *testing.T, tell func(story, *testing.T, string), dies bool, steps map[string]int64) {
	for name, open := range computetest.Engines(t) {
		t.Run(name, func(t *testing.T) {
			n := int64(1)
			for ; faultAt(t, tell, open, n, dies); n += steps[name] {
			}
			require.Greater(t, n, int64(100), "the story is longer than that")
		})
	}
}

func TestServiceDiesAtEveryStoreCall(t *testing.T) {
	everyCall(t, story.tellLife, true, map[string]int64{"memstore": 1, "sqlite": 13})
}

func TestStoreCallsFailOnce(t *testing.T) {
	everyCall(t, story.tellLife, false, map[string]int64{"memstore": 3, "sqlite": 17})
}

// moves are the stories of servers that change hosts.
var moves = map[string]func(story, *testing.T, string){"cold": story.tellCold, "live": story.tellLive, "rescue": story.tellRescue, "ended": story.tellEnded}

func TestServiceDiesAtEveryStoreCallOfAMove(t *testing.T) {
	for name, tell := range moves {
		t.Run(name, func(t *testing.T) { everyCall(t, tell, true, map[string]int64{"memstore": 19, "sqlite": 151}) })
	}
}

func TestStoreCallsOfAMoveFailOnce(t *testing.T) {
	for name, tell := range moves {
		t.Run(name, func(t *testing.T) { everyCall(t, tell, false, map[string]int64{"memstore": 37, "sqlite": 173}) })
	}
}

func TestMessagesAreLostDoubledAndReordered(t *testing.T) {
	for name, o := range map[string]bustest.Options{
		"nine of ten lost":              {Drop: 0.9, Seed: 1},
		"all doubled":                   {Double: 1, Seed: 2},
		"doubled, reordered and late":   {Double: 1, Reorder: 0.5, Delay: 300 * time.Millisecond, Seed: 3},
		"half lost, the rest reordered": {Drop: 0.5, Double: 0.5, Reorder: 1, Seed: 4},
	} {
		t.Run(name, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				w := computetest.NewWorld(e, "h1", "h2")
				var faulty *bustest.FaultyTransport
				c := computetest.Start(t, w, computetest.Over(func(b bus.Transport) bus.Transport {
					faulty = bustest.Faulty(b, o)
					return faulty
				}))
				flavor, me := c.Flavor(), computetest.User("p1")
				var ids []string
				for _, sv := range c.Boot(me, flavor, 4) {
					ids = append(ids, sv.ID)
				}
				for _, id := range ids {
					c.Reach(id, "ACTIVE")
				}
				for i, d := range []compute.Deed{compute.Stop, compute.RebootHard, compute.Pause} {
					require.NoError(t, c.Compute.Do(me, ids[i], d))
				}
				c.Reach(ids[0], "SHUTOFF")
				c.Reach(ids[1], "ACTIVE")
				c.Reach(ids[2], "PAUSED")
				require.NoError(t, c.Compute.Do(me, ids[0], compute.Start))
				c.Reach(ids[0], "ACTIVE")
				for _, id := range ids {
					require.NoError(t, c.Compute.DeleteServer(me, id, "os_compute_api:servers:delete"))
				}
				for _, id := range ids {
					c.Reach(id, "")
				}
				c.Clean()
				require.Zero(t, c.Instances(t))
				require.Zero(t, c.Nets.Count())
				n := faulty.Counts()
				require.Positive(t, n.Dropped+n.Doubled+n.Reordered)
			})
		})
	}
}
