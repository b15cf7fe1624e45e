package compute_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
	"github.com/nacre-cloud/nacre/store/memstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// calls are the store's calls that n boots, one after the other, take on so many hosts,
// besides those that the hosts' reports and the polls of an idle cloud take.
func calls(t *testing.T, hosts, n int) (calls int64) {
	synctest.Test(t, func(t *testing.T) {
		e := memstore.New(memstore.Options{})
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		names := make([]string, hosts)
		for i := range names {
			names[i] = fmt.Sprintf("h%03d", i)
		}
		w := computetest.NewWorld(e, names...)
		w.Interval = time.Hour
		var total atomic.Int64
		counted := storetest.Faulty(e, func(string, string) error { total.Add(1); return nil })
		c := computetest.Start(t, w, computetest.Through(counted), computetest.Configure(func(c *compute.Config) { c.HostTimeout = 3 * time.Hour }))
		flavor := c.Flavor()
		boots := func() (begun int64) {
			begun = total.Load()
			for range n {
				sv := c.Boot(computetest.User("p1"), flavor, 1)[0]
				c.Reach(sv.ID, "ACTIVE")
				time.Sleep(2 * time.Second) // what is remembered of the hosts is forgotten
			}
			return total.Load() - begun
		}
		boots() // the first ones
		calls = boots()
		c.Stop()
	})
	return calls
}

// A boot costs the database the same, however many hosts there are.
func TestBootsDoNotCostMoreOnMoreHosts(t *testing.T) {
	few, many := calls(t, 2, 5), calls(t, 60, 5)
	require.Positive(t, few)
	require.InDelta(t, few, many, float64(few)/10)
	t.Logf("%d calls a boot", few/5)
}
