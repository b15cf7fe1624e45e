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

// tell makes, stops, starts and deletes a server. A request that fails by the
// planted fault is made again, as a user would, unless the service died.
func (s story) tell(t *testing.T, flavor string) {
	me := computetest.User("p1")
	try := func(f func() error) {
		t.Helper()
		for !s.crashed.Load() {
			err := f()
			if err == nil || nacre.KindOf(err) == nacre.Conflict || nacre.KindOf(err) == nacre.NotFound {
				break // a repetition of what was done, though nobody learned of it
			}
			require.ErrorIs(t, err, errCrash)
		}
		s.settled(t)
	}
	id := ""
	try(func() error {
		svs, err := s.c.Compute.CreateServers(me, computetest.NewServer(flavor, 1))
		if err == nil {
			id = svs[0].ID
		}
		return err
	})
	try(func() error { return s.c.Compute.Do(me, id, compute.Stop) })
	try(func() error { return s.c.Compute.Do(me, id, compute.Start) })
	try(func() error { return s.c.Compute.DeleteServer(me, id, "os_compute_api:servers:delete") })
}

// faultAt tells the story with the n-th store call failing, and all after it when
// the service dies there; then it holds a service on what is left to bringing
// everything to rest and leaving nothing. It reports whether the fault was met.
func faultAt(t *testing.T, open func() store.Engine, n int64, dies bool) (met bool) {
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
		story{c, store.NewTable[compute.Server](e, "server"), &crashed}.tell(t, flavor)
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
			require.Contains(t, []string{"ACTIVE", "SHUTOFF", "ERROR"}, sv.Status(), "call %d", n)
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

// everyCall plants the fault at every store call, or at every few as steps says,
// until the story ends before it.
func everyCall(t *testing.T, dies bool, steps map[string]int64) {
	for name, open := range computetest.Engines(t) {
		t.Run(name, func(t *testing.T) {
			n := int64(1)
			for ; faultAt(t, open, n, dies); n += steps[name] {
			}
			require.Greater(t, n, int64(100), "the story is longer than that")
		})
	}
}

func TestServiceDiesAtEveryStoreCall(t *testing.T) {
	everyCall(t, true, map[string]int64{"memstore": 1, "sqlite": 13})
}

func TestStoreCallsFailOnce(t *testing.T) {
	everyCall(t, false, map[string]int64{"memstore": 3, "sqlite": 17})
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
