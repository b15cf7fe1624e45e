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
	"github.com/nacre-cloud/nacre/store"
)

func TestLifeOfAServer(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"})
		me := user("p1")
		sv := c.boot(me, c.flavor(), 1)[0]
		require.Equal(t, "BUILD", sv.Status())
		sv = c.reach(sv.ID, "ACTIVE")
		require.Equal(t, hypervisor.Running, sv.PowerState)
		require.Equal(t, "h1", sv.Host)
		require.False(t, sv.Launched.IsZero())
		require.Len(t, sv.Ports, 1)
		c.clean()

		out, err := c.svc.Console(me, sv.ID, 3)
		require.NoError(t, err)
		require.NotEmpty(t, out)

		for _, step := range []struct {
			deed   compute.Deed
			status string
		}{{compute.RebootSoft, "ACTIVE"}, {compute.RebootHard, "ACTIVE"}, {compute.Pause, "PAUSED"}, {compute.Unpause, "ACTIVE"}, {compute.Stop, "SHUTOFF"}, {compute.Start, "ACTIVE"}, {compute.Stop, "SHUTOFF"}, {compute.RebootHard, "ACTIVE"}} {
			require.NoError(t, c.svc.Do(me, sv.ID, step.deed), step.deed)
			c.reach(sv.ID, step.status)
			c.clean()
		}
		err = c.svc.Do(me, sv.ID, compute.Start)
		require.ErrorIs(t, err, nacre.Conflict)
		require.ErrorContains(t, err, "Cannot 'start' instance "+sv.ID+" while it is in vm_state active")

		require.NoError(t, c.svc.DeleteServer(me, sv.ID, "os_compute_api:servers:delete"))
		c.reach(sv.ID, "")
		c.clean()
		require.Zero(t, c.instances())
		require.Zero(t, c.nets.count())
		as, err := c.svc.Actions(me, sv.ID, nacre.Query{})
		require.NoError(t, err)
		for _, a := range as {
			require.Equal(t, "Success", a.Result, a.Name)
		}
		require.Len(t, as, 10)
	})
}

func TestGuestTurnsItselfOff(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"})
		sv := c.boot(user("p1"), c.flavor(), 1)[0]
		c.reach(sv.ID, "ACTIVE")
		require.NoError(t, c.drivers["h1"].PowerOff(sv.ID))
		require.Equal(t, hypervisor.Shutdown, c.reach(sv.ID, "SHUTOFF").PowerState)
		require.NoError(t, c.svc.Do(user("p1"), sv.ID, compute.Start))
		c.reach(sv.ID, "ACTIVE")
		c.clean()
	})
}

func TestNoValidHost(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1", "h2"})
		big, err := c.svc.CreateFlavor(admin(), compute.Flavor{Name: "big", RAM: 1 << 20, VCPUs: 1, Disk: 1, Public: true})
		require.NoError(t, err)
		require.NoError(t, c.svc.SetQuota(admin(), "p1", map[string]int64{"ram": -1}, false))
		sv := c.boot(user("p1"), big.ID, 1)[0]
		sv = c.reach(sv.ID, "ERROR")
		require.Contains(t, sv.Fault.Message, "No valid host was found. There are not enough hosts available (filter results: Placement (start: 2, end: 0: h1 MEMORY_MB")
		c.clean()
		require.NoError(t, c.svc.DeleteServer(user("p1"), sv.ID, "os_compute_api:servers:delete"))
		c.reach(sv.ID, "")
		c.clean()
	})
}

func TestBuildFailsOnOneHostAndGoesToAnother(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1", "h2"})
		c.drivers["h1"].Fault("Create", "", func(context.Context, string) error {
			return nacre.Errorf(nacre.Conflict, "", "no space on h1")
		})
		sv := c.boot(user("p1"), c.flavor(), 1)[0]
		require.Equal(t, "h2", c.reach(sv.ID, "ACTIVE").Host)
		c.clean()
		require.Equal(t, 1, c.instances())

		c.drivers["h2"].Fault("Create", "", func(context.Context, string) error {
			return nacre.Errorf(nacre.Conflict, "", "no space on h2")
		})
		bad := c.boot(user("p1"), sv.FlavorID, 1)[0]
		got := c.reach(bad.ID, "ERROR")
		require.Contains(t, got.Fault.Message, "Exceeded maximum number of retries")
		require.Contains(t, got.Fault.Message, "no space on h")
		require.Empty(t, got.Host)
		c.clean()
		require.Equal(t, 1, c.instances())
		require.Equal(t, 1, c.nets.count())
	})
}

func TestPortsFail(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"})
		c.nets.fail = nacre.Errorf(nacre.Conflict, "", "No more IP addresses available on network net.")
		sv := c.boot(user("p1"), c.flavor(), 1)[0]
		require.Contains(t, c.reach(sv.ID, "ERROR").Fault.Message, "No more IP addresses available")
		c.clean()
	})
}

func TestPortsAreNeverWired(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"}, func(cfg *compute.Config) { cfg.WireTimeout = 50 * time.Millisecond })
		c.nets.hold(true)
		sv := c.boot(user("p1"), c.flavor(), 1)[0]
		require.Contains(t, c.reach(sv.ID, "ERROR").Fault.Message, "Virtual interface creation failed")
		c.clean()
		require.Zero(t, c.instances())
	})
}

func TestDeleteInEveryState(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"})
		flavor := c.flavor()
		c.nets.hold(true)
		for range 5 {
			// Each is somewhere else on its way when it is deleted.
			sv := c.boot(user("p1"), flavor, 1)[0]
			time.Sleep(3 * time.Millisecond)
			require.NoError(t, c.svc.DeleteServer(user("p1"), sv.ID, "os_compute_api:servers:delete"))
			c.reach(sv.ID, "")
		}
		c.clean()
		require.Zero(t, c.instances())
		require.Zero(t, c.nets.count())
	})
}

func TestDeleteWhileTheHostIsDown(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"}, func(cfg *compute.Config) { cfg.HostTimeout = 200 * time.Millisecond })
		sv := c.boot(user("p1"), c.flavor(), 1)[0]
		c.reach(sv.ID, "ACTIVE")
		c.hostStop["h1"]()
		require.NoError(t, c.svc.DeleteServer(user("p1"), sv.ID, "os_compute_api:servers:delete"))
		c.reach(sv.ID, "")
		stones, _, err := c.svc.Waiting(context.Background())
		require.NoError(t, err)
		require.EqualValues(t, 1, stones, "the tombstone waits for the host")
		require.Equal(t, 1, c.instances())
		c.host(context.Background(), "h1")
		defer c.hostStop["h1"]()
		c.clean()
		require.Zero(t, c.instances(), "and is obeyed when it is back")
	})
}

func TestQuota(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"})
		flavor := c.flavor()
		require.NoError(t, c.svc.SetQuota(admin(), "p1", map[string]int64{"instances": 3}, false))
		c.boot(user("p1"), flavor, 2)
		_, err := c.svc.CreateServers(user("p1"), compute.NewServer{Name: "x", ImageID: imageID, FlavorID: flavor, Min: 2, Max: 2})
		require.ErrorIs(t, err, nacre.QuotaExceeded)
		require.EqualError(t, err, "Quota exceeded for instances: Requested 2, but already used 2 of 3 instances")
		got, err := c.svc.CreateServers(user("p1"), compute.NewServer{Name: "x", ImageID: imageID, FlavorID: flavor, Min: 1, Max: 5})
		require.NoError(t, err)
		require.Len(t, got, 1, "as many as fit, at least the minimum")
	})
}

func TestRefusals(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"})
		flavor := c.flavor()
		ok := compute.NewServer{Name: "x", ImageID: imageID, FlavorID: flavor}
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
			_, err := c.svc.CreateServers(user("p1"), n)
			require.ErrorIs(t, err, tc.kind, name)
			require.ErrorContains(t, err, tc.text, name)
		}
		sv := c.boot(user("p1"), flavor, 1)[0]
		_, err := c.svc.Server(user("p2"), sv.ID)
		require.ErrorIs(t, err, nacre.NotFound, "another project's server is not there")
		err = c.svc.DeleteServer(user("p2"), sv.ID, "os_compute_api:servers:delete")
		require.ErrorIs(t, err, nacre.NotFound)
		list, err := c.svc.Servers(user("p2"), nacre.Query{}, "os_compute_api:servers:detail")
		require.NoError(t, err)
		require.Empty(t, list)
	})
}

func TestAuditFindsDamage(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"})
		sv := c.boot(user("p1"), c.flavor(), 1)[0]
		c.reach(sv.ID, "ACTIVE")
		c.clean()
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
			"a host that is not known": {func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.Host = "gone"; return nil })
				return err
			}, func() error {
				_, err := servers.Update(ctx, sv.ID, func(s *compute.Server) error { s.Host = "h1"; return nil })
				return err
			}, "which is not known"},
		} {
			require.NoError(t, damage.do(), name)
			fs, err := c.svc.Audit(ctx)
			require.NoError(t, err)
			require.NotEmpty(t, fs, name)
			require.Contains(t, fs[0].Problem, damage.want, name)
			require.NoError(t, damage.undo(), name)
			c.clean()
		}
	})
}

func TestMessagesAreLost(t *testing.T) {
	each(t, func(t *testing.T, e store.Engine) {
		c := start(t, e, []string{"h1"})
		// The driver fails now and then; nothing of it is seen.
		n := 0
		c.drivers["h1"].Fault("Resume", "", func(context.Context, string) error {
			if n++; n < 3 {
				return errors.New("try again")
			}
			return nil
		})
		sv := c.boot(user("p1"), c.flavor(), 1)[0]
		c.reach(sv.ID, "ACTIVE")
		c.clean()
	})
}

func BenchmarkBoots(b *testing.B) {
	for name, open := range engines(b) {
		b.Run(name, func(b *testing.B) {
			e := open()
			defer e.Close() //nolint:errcheck // a benchmark's own
			c := start(b, e, []string{"h1", "h2", "h3", "h4"})
			require.NoError(b, c.svc.SetQuota(admin(), "p1", map[string]int64{"instances": -1, "cores": -1, "ram": -1}, false))
			flavor := c.flavor()
			b.ResetTimer()
			ids := make([]string, 0, b.N)
			for range b.N {
				ids = append(ids, c.boot(user("p1"), flavor, 1)[0].ID)
			}
			for _, id := range ids {
				c.reach(id, "ACTIVE")
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "boots/s")
		})
	}
}
