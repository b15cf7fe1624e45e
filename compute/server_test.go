package compute_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
	"github.com/nacre-cloud/nacre/store"
)

func TestLifeOfAServer(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
		me := computetest.User("p1")
		sv := c.Boot(me, c.Flavor(), 1)[0]
		require.Equal(t, "BUILD", sv.Status())
		sv = c.Reach(sv.ID, "ACTIVE")
		require.Equal(t, hypervisor.Running, sv.PowerState)
		require.Equal(t, "h1", sv.Host)
		require.False(t, sv.Launched.IsZero())
		require.Len(t, sv.Ports, 1)
		c.Clean()

		out, err := c.Compute.Console(me, sv.ID, 3)
		require.NoError(t, err)
		require.NotEmpty(t, out)

		for _, step := range []struct {
			deed   compute.Deed
			status string
		}{{compute.RebootSoft, "ACTIVE"}, {compute.RebootHard, "ACTIVE"}, {compute.Pause, "PAUSED"}, {compute.Unpause, "ACTIVE"}, {compute.Stop, "SHUTOFF"}, {compute.Start, "ACTIVE"}, {compute.Stop, "SHUTOFF"}, {compute.RebootHard, "ACTIVE"}} {
			require.NoError(t, c.Compute.Do(me, sv.ID, step.deed), step.deed)
			c.Reach(sv.ID, step.status)
			c.Clean()
		}
		err = c.Compute.Do(me, sv.ID, compute.Start)
		require.ErrorIs(t, err, nacre.Conflict)
		require.ErrorContains(t, err, "Cannot 'start' instance "+sv.ID+" while it is in vm_state active")

		require.NoError(t, c.Compute.DeleteServer(me, sv.ID, "os_compute_api:servers:delete"))
		c.Reach(sv.ID, "")
		c.Clean()
		require.Zero(t, c.Instances(t))
		require.Zero(t, c.Nets.Count())
		as, err := c.Compute.Actions(me, sv.ID, nacre.Query{})
		require.NoError(t, err)
		for _, a := range as {
			require.Equal(t, "Success", a.Result, a.Name)
		}
		require.Len(t, as, 10)
	})
}

func TestGuestTurnsItselfOff(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
		c.Reach(sv.ID, "ACTIVE")
		require.NoError(t, c.Drivers["h1"].PowerOff(sv.ID))
		require.Equal(t, hypervisor.Shutdown, c.Reach(sv.ID, "SHUTOFF").PowerState)
		require.NoError(t, c.Compute.Do(computetest.User("p1"), sv.ID, compute.Start))
		c.Reach(sv.ID, "ACTIVE")
		c.Clean()
	})
}

func TestNoValidHost(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		big, err := c.Compute.CreateFlavor(computetest.Admin(), compute.Flavor{Name: "big", RAM: 1 << 20, VCPUs: 1, Disk: 1, Public: true})
		require.NoError(t, err)
		require.NoError(t, c.Compute.SetQuota(computetest.Admin(), "p1", map[string]int64{"ram": -1}, false))
		sv := c.Boot(computetest.User("p1"), big.ID, 1)[0]
		sv = c.Reach(sv.ID, "ERROR")
		require.Contains(t, sv.Fault.Message, "No valid host was found. There are not enough hosts available (filter results: Placement (start: 2, end: 0: h1 MEMORY_MB")
		c.Clean()
		require.NoError(t, c.Compute.DeleteServer(computetest.User("p1"), sv.ID, "os_compute_api:servers:delete"))
		c.Reach(sv.ID, "")
		c.Clean()
	})
}

func TestBuildFailsOnOneHostAndGoesToAnother(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		c.Drivers["h1"].Fault("Create", "", func(context.Context, string) error {
			return nacre.Errorf(nacre.Conflict, "", "no space on h1")
		})
		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
		require.Equal(t, "h2", c.Reach(sv.ID, "ACTIVE").Host)
		c.Clean()
		require.Equal(t, 1, c.Instances(t))

		c.Drivers["h2"].Fault("Create", "", func(context.Context, string) error {
			return nacre.Errorf(nacre.Conflict, "", "no space on h2")
		})
		bad := c.Boot(computetest.User("p1"), sv.FlavorID, 1)[0]
		got := c.Reach(bad.ID, "ERROR")
		require.Contains(t, got.Fault.Message, "Exceeded maximum number of retries")
		require.Contains(t, got.Fault.Message, "no space on h")
		require.Empty(t, got.Host)
		c.Clean()
		require.Equal(t, 1, c.Instances(t))
		require.Equal(t, 1, c.Nets.Count())
	})
}

func TestPortsFail(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
		c.Nets.Fail(nacre.Errorf(nacre.Conflict, "", "No more IP addresses available on network net."))
		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
		require.Contains(t, c.Reach(sv.ID, "ERROR").Fault.Message, "No more IP addresses available")
		c.Clean()
	})
}

func TestPortsAreNeverWired(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"), computetest.Configure(func(cfg *compute.Config) { cfg.WireTimeout = 50 * time.Millisecond }))
		c.Nets.Hold(true)
		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
		require.Contains(t, c.Reach(sv.ID, "ERROR").Fault.Message, "Virtual interface creation failed")
		c.Clean()
		require.Zero(t, c.Instances(t))
	})
}

func TestDeleteInEveryState(t *testing.T) {
	// At each of these moments of a build the server is deleted.
	moments := map[string]func(c *computetest.Cloud, strike func()){
		"its port is being made":  func(c *computetest.Cloud, strike func()) { c.Nets.OnPort(strike) },
		"the host is building it": func(c *computetest.Cloud, strike func()) { fault(c, "Create", strike) },
		"the host has half of it": func(c *computetest.Cloud, strike func()) { fault(c, fake.MidCreate, strike) },
		"it is let run":           func(c *computetest.Cloud, strike func()) { fault(c, "Resume", strike) },
	}
	for name, plant := range moments {
		t.Run(name, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				c := computetest.Start(t, computetest.NewWorld(e, "h1"))
				id, struck := make(chan string, 1), false
				plant(c, func() {
					if !struck {
						struck = true
						require.NoError(t, c.Compute.DeleteServer(computetest.User("p1"), <-id, "os_compute_api:servers:delete"))
					}
				})
				sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
				id <- sv.ID
				c.Reach(sv.ID, "")
				require.True(t, struck)
				c.Clean()
				require.Zero(t, c.Instances(t))
				require.Zero(t, c.Nets.Count())
				as, err := c.Compute.Actions(computetest.User("p1"), sv.ID, nacre.Query{})
				require.NoError(t, err)
				results := map[string]string{}
				for _, a := range as {
					results[a.Name] = a.Result + a.Message
				}
				require.Equal(t, map[string]string{"create": "ErrorThe server was deleted.", "delete": "Success"}, results)
			})
		})
	}
	t.Run("before anything and while it waits for its ports", func(t *testing.T) {
		computetest.Each(t, func(t *testing.T, e store.Engine) {
			c := computetest.Start(t, computetest.NewWorld(e, "h1"))
			c.Nets.Hold(true)
			flavor := c.Flavor()
			for _, wait := range []bool{false, true} {
				sv := c.Boot(computetest.User("p1"), flavor, 1)[0]
				if wait {
					c.Eventually("the host has built it", func() bool { return c.Instances(t) == 1 })
				}
				require.NoError(t, c.Compute.DeleteServer(computetest.User("p1"), sv.ID, "os_compute_api:servers:delete"))
				c.Reach(sv.ID, "")
				c.Clean()
				require.Zero(t, c.Instances(t))
				require.Zero(t, c.Nets.Count())
			}
		})
	})
}

// fault has the host do something before a method of its driver.
func fault(c *computetest.Cloud, method string, do func()) {
	c.Drivers["h1"].Fault(method, "", func(context.Context, string) error {
		do()
		return nil
	})
}

func TestResetState(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
		c.Reach(sv.ID, "ACTIVE")
		// Work at hand is dropped.
		block := make(chan struct{})
		c.Drivers["h1"].Fault("Stop", "", func(context.Context, string) error { <-block; return nil })
		require.NoError(t, c.Compute.Do(computetest.User("p1"), sv.ID, compute.Stop))
		require.NoError(t, c.Compute.ResetState(computetest.Admin(), sv.ID, compute.VMError))
		c.Reach(sv.ID, "ERROR")
		close(block)
		require.NoError(t, c.Compute.Do(computetest.User("p1"), sv.ID, compute.RebootHard))
		c.Reach(sv.ID, "ACTIVE")
		c.Clean()

		// A deletion goes on.
		c.StopHost("h1")
		require.NoError(t, c.Compute.DeleteServer(computetest.User("p1"), sv.ID, "os_compute_api:servers:delete"))
		require.NoError(t, c.Compute.ResetState(computetest.Admin(), sv.ID, compute.VMActive))
		c.StartHost("h1")
		c.Reach(sv.ID, "")
		c.Clean()
		require.Zero(t, c.Instances(t))
	})
}

func TestDeleteWhileTheHostIsDown(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"), computetest.Configure(func(cfg *compute.Config) { cfg.HostTimeout = 200 * time.Millisecond }))
		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
		c.Reach(sv.ID, "ACTIVE")
		c.StopHost("h1")
		require.NoError(t, c.Compute.DeleteServer(computetest.User("p1"), sv.ID, "os_compute_api:servers:delete"))
		c.Reach(sv.ID, "")
		stones, _, err := c.Compute.Waiting(context.Background())
		require.NoError(t, err)
		require.EqualValues(t, 1, stones, "the tombstone waits for the host")
		require.Equal(t, 1, c.Instances(t))
		c.StartHost("h1")
		c.Clean()
		require.Zero(t, c.Instances(t), "and is obeyed when it is back")
	})
}

func TestQuota(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
		flavor := c.Flavor()
		require.NoError(t, c.Compute.SetQuota(computetest.Admin(), "p1", map[string]int64{"instances": 3}, false))
		c.Boot(computetest.User("p1"), flavor, 2)
		_, err := c.Compute.CreateServers(computetest.User("p1"), compute.NewServer{Name: "x", ImageID: computetest.ImageID, FlavorID: flavor, Min: 2, Max: 2})
		require.ErrorIs(t, err, nacre.QuotaExceeded)
		require.EqualError(t, err, "Quota exceeded for instances: Requested 2, but already used 2 of 3 instances")
		got, err := c.Compute.CreateServers(computetest.User("p1"), compute.NewServer{Name: "x", ImageID: computetest.ImageID, FlavorID: flavor, Min: 1, Max: 5})
		require.NoError(t, err)
		require.Len(t, got, 1, "as many as fit, at least the minimum")

		// However many are asked for, it is counted, not tried.
		require.NoError(t, c.Compute.SetQuota(computetest.Admin(), "p2", map[string]int64{"instances": 4, "cores": 3}, false))
		got, err = c.Compute.CreateServers(computetest.User("p2"), compute.NewServer{Name: "x", ImageID: computetest.ImageID, FlavorID: flavor, Min: 1, Max: 1<<31 - 1})
		require.NoError(t, err)
		require.Len(t, got, 3)
	})
}

func TestRefusals(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
		flavor := c.Flavor()
		ok := compute.NewServer{Name: "x", ImageID: computetest.ImageID, FlavorID: flavor}
		for name, tc := range map[string]struct {
			change func(*compute.NewServer)
			kind   nacre.Kind
			text   string
		}{
			"image":     {func(n *compute.NewServer) { n.ImageID = "99999999-2222-4333-8444-555555555555" }, nacre.Invalid, "Can not find requested image"},
			"flavor":    {func(n *compute.NewServer) { n.FlavorID = "none" }, nacre.Invalid, "Flavor none could not be found."},
			"key":       {func(n *compute.NewServer) { n.KeyName = "none" }, nacre.Invalid, "Invalid key_name provided."},
			"user data": {func(n *compute.NewServer) { n.UserData = "#!" }, nacre.Invalid, "User data needs to be valid base 64."},
			"zone":      {func(n *compute.NewServer) { n.AvailabilityZone = "mars" }, nacre.Invalid, "The requested availability zone is not available"},
			"host":      {func(n *compute.NewServer) { n.Host = "h1" }, nacre.Forbidden, "requested_destination"},
			"volume":    {func(n *compute.NewServer) { n.VolumeForm = true }, nacre.Invalid, "Block Device Mapping is Invalid"},
		} {
			n := ok
			tc.change(&n)
			_, err := c.Compute.CreateServers(computetest.User("p1"), n)
			require.ErrorIs(t, err, tc.kind, name)
			require.ErrorContains(t, err, tc.text, name)
		}
		sv := c.Boot(computetest.User("p1"), flavor, 1)[0]
		_, err := c.Compute.Server(computetest.User("p2"), sv.ID)
		require.ErrorIs(t, err, nacre.NotFound, "another project's server is not there")
		err = c.Compute.DeleteServer(computetest.User("p2"), sv.ID, "os_compute_api:servers:delete")
		require.ErrorIs(t, err, nacre.NotFound)
		list, err := c.Compute.Servers(computetest.User("p2"), nacre.Query{}, "os_compute_api:servers:detail")
		require.NoError(t, err)
		require.Empty(t, list)
	})
}

func TestAuditFindsDamage(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
		c.Reach(sv.ID, "ACTIVE")
		c.Clean()
		servers := store.NewTable[compute.Server](e, "server")
		tags := store.NewTable[compute.ServerTag](e, "server_tag")
		ctx := context.Background()
		for name, damage := range map[string]struct {
			do, undo func() error
			want     string
		}{
			"a server on its way without work": {func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.TaskState = "spawning"; return nil })
				return err
			}, func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.TaskState = ""; return nil })
				return err
			}, "nothing works on it"},
			"an allocation that differs": {func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.Flavor.RAM = 65; return nil })
				return err
			}, func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.Flavor.RAM = 64; return nil })
				return err
			}, "64 of MEMORY_MB allocated"},
			"a deleted server that holds": {func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.Deleted = true; return nil })
				return err
			}, func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.Deleted = false; return nil })
				return err
			}, "is held by a server that is not there"},
			"a stray tag": {func() error {
				return tags.Insert(ctx, compute.ServerTag{ID: "x/y", ServerID: "x", Tag: "y"})
			}, func() error { return tags.Delete(ctx, "x/y") }, "is of a server that is not there"},
			"a group that is not there": {func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.GroupID = "none"; return nil })
				return err
			}, func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.GroupID = ""; return nil })
				return err
			}, "which is not there"},
			"a host that is not known": {func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.Host = "gone"; return nil })
				return err
			}, func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.Host = "h1"; return nil })
				return err
			}, "which is not known"},
		} {
			require.NoError(t, damage.do(), name)
			fs, err := c.Compute.Audit(ctx)
			require.NoError(t, err)
			require.NotEmpty(t, fs, name)
			require.Contains(t, fs[0].Problem, damage.want, name)
			require.NoError(t, damage.undo(), name)
			c.Clean()
		}
	})
}

func TestMessagesAreLost(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
		// The driver fails now and then; nothing of it is seen.
		n := 0
		c.Drivers["h1"].Fault("Resume", "", func(context.Context, string) error {
			if n++; n < 3 {
				return errors.New("try again")
			}
			return nil
		})
		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
		c.Reach(sv.ID, "ACTIVE")
		c.Clean()
	})
}

func BenchmarkBoots(b *testing.B) {
	for name, open := range computetest.Engines(b) {
		b.Run(name, func(b *testing.B) {
			e := open()
			defer e.Close() //nolint:errcheck // a benchmark's own
			w := computetest.NewWorld(e, "h1", "h2", "h3", "h4")
			w.Interval = time.Minute // as in production
			c := computetest.Start(b, w)
			require.NoError(b, c.Compute.SetQuota(computetest.Admin(), "p1", map[string]int64{"instances": -1, "cores": -1, "ram": -1}, false))
			flavor := c.Flavor()
			b.ResetTimer()
			ids := make([]string, 0, b.N)
			for range b.N {
				ids = append(ids, c.Boot(computetest.User("p1"), flavor, 1)[0].ID)
			}
			for _, id := range ids {
				c.Reach(id, "ACTIVE")
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "boots/s")
		})
	}
}
