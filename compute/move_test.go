package compute_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
	"github.com/nacre-cloud/nacre/store"
)

// bigger makes a flavor that is larger than computetest's.
func bigger(t *testing.T, c *computetest.Cloud) string {
	t.Helper()
	f, err := c.Compute.CreateFlavor(computetest.Admin(), compute.Flavor{Name: "bigger", RAM: 128, VCPUs: 2, Disk: 2, Public: true})
	require.NoError(t, err)
	return f.ID
}

// boot makes one server that runs.
func boot(t *testing.T, c *computetest.Cloud, flavor string) compute.Server {
	t.Helper()
	return c.Reach(c.Boot(computetest.User("p1"), flavor, 1)[0].ID, "ACTIVE")
}

// where are the hosts that have something of a server, with its power there.
func where(t *testing.T, c *computetest.Cloud, id string) map[string]hypervisor.Power {
	t.Helper()
	out := map[string]hypervisor.Power{}
	for name, d := range c.Drivers {
		if in, err := d.Get(context.Background(), id); err == nil {
			out[name] = in.Power
		}
	}
	return out
}

// runsOn requires that a server runs on one host and is nowhere else, nothing is left,
// and its ports are bound there alone.
func runsOn(t *testing.T, c *computetest.Cloud, id, host string) {
	t.Helper()
	c.Clean()
	c.Eventually("it runs on "+host, func() bool { return where(t, c, id)[host] == hypervisor.Running })
	require.Equal(t, map[string]hypervisor.Power{host: hypervisor.Running}, where(t, c, id))
	active, others := c.Nets.Bindings(id, 0)
	require.Equal(t, host, active)
	require.Empty(t, others)
	sv, err := c.Compute.Server(computetest.Admin(), id)
	require.NoError(t, err)
	require.Equal(t, host, sv.Host)
	require.Empty(t, sv.OtherHost)
	require.Nil(t, sv.Move)
}

func migrations(t *testing.T, c *computetest.Cloud, id string) []compute.Migration {
	t.Helper()
	ms, err := c.Compute.Migrations(computetest.Admin(), nacre.Query{}, store.Eq("server_id", id))
	require.NoError(t, err)
	return ms
}

func other(host string) string {
	if host == "h1" {
		return "h2"
	}
	return "h1"
}

func TestResize(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		flavor, me := c.Flavor(), computetest.User("p1")
		big := bigger(t, c)
		sv := boot(t, c, flavor)
		require.NoError(t, c.Compute.Resize(me, sv.ID, big, ""))
		got := c.Reach(sv.ID, "VERIFY_RESIZE")
		require.Equal(t, other(sv.Host), got.Host)
		require.Equal(t, big, got.FlavorID)
		require.Equal(t, map[string]hypervisor.Power{sv.Host: hypervisor.Shutdown, got.Host: hypervisor.Running}, where(t, c, sv.ID))
		require.Equal(t, nacre.Conflict, nacre.KindOf(c.Compute.Do(me, sv.ID, compute.Stop)))
		c.Clean()

		require.NoError(t, c.Compute.RevertResize(me, sv.ID))
		back := c.Reach(sv.ID, "ACTIVE")
		require.Equal(t, flavor, back.FlavorID)
		require.Equal(t, sv.VCPUs, back.VCPUs)
		runsOn(t, c, sv.ID, sv.Host)

		require.NoError(t, c.Compute.Resize(me, sv.ID, big, ""))
		c.Reach(sv.ID, "VERIFY_RESIZE")
		require.NoError(t, c.Compute.ConfirmResize(me, sv.ID))
		done := c.Reach(sv.ID, "ACTIVE")
		require.Equal(t, int64(2), done.VCPUs)
		runsOn(t, c, sv.ID, got.Host)
		out, err := c.Compute.Console(me, sv.ID, 0)
		require.NoError(t, err)
		require.Contains(t, out, "boot 1", "what it had came along")
		require.Contains(t, out, "boot 2")

		var seen []string
		for _, m := range migrations(t, c, sv.ID) {
			seen = append(seen, m.Type+" "+m.Status)
		}
		require.Equal(t, []string{"resize confirmed", "resize reverted"}, seen)
		as, err := c.Compute.Actions(me, sv.ID, nacre.Query{})
		require.NoError(t, err)
		var names []string
		for _, a := range as {
			require.Equal(t, "Success", a.Result, a.Name)
			names = append(names, a.Name)
		}
		require.Equal(t, []string{"confirmResize", "resize", "revertResize", "resize", "create"}, names)
		require.NoError(t, c.Compute.DeleteServer(me, sv.ID, "os_compute_api:servers:delete"))
		c.Reach(sv.ID, "")
		c.Clean()
		require.Zero(t, c.Instances(t))
	})
}

func TestResizeIsRefused(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		flavor, me := c.Flavor(), computetest.User("p1")
		big := bigger(t, c)
		sv := boot(t, c, flavor)
		require.Equal(t, nacre.Invalid, nacre.KindOf(c.Compute.Resize(me, sv.ID, flavor, "")))
		require.Equal(t, nacre.Invalid, nacre.KindOf(c.Compute.Resize(me, sv.ID, "nowhere", "")))
		require.Equal(t, nacre.NotFound, nacre.KindOf(c.Compute.Resize(computetest.User("p2"), sv.ID, big, "")))
		require.Equal(t, nacre.Conflict, nacre.KindOf(c.Compute.ConfirmResize(me, sv.ID)))
		require.Equal(t, nacre.Conflict, nacre.KindOf(c.Compute.RevertResize(me, sv.ID)))
		require.Equal(t, nacre.Forbidden, nacre.KindOf(c.Compute.Migrate(me, sv.ID, "")))
		require.Equal(t, nacre.Forbidden, nacre.KindOf(c.Compute.LiveMigrate(me, sv.ID, "")))
		require.Equal(t, nacre.Forbidden, nacre.KindOf(c.Compute.Evacuate(me, sv.ID, "", false)))
		require.Equal(t, nacre.Invalid, nacre.KindOf(c.Compute.Migrate(computetest.Admin(), sv.ID, sv.Host)))
		require.Equal(t, nacre.Invalid, nacre.KindOf(c.Compute.Migrate(computetest.Admin(), sv.ID, "h9")))
		require.Equal(t, nacre.Invalid, nacre.KindOf(c.Compute.Evacuate(computetest.Admin(), sv.ID, "", false)), "its host is up")
		require.NoError(t, c.Compute.SetQuota(computetest.Admin(), "p1", map[string]int64{"cores": 1}, true))
		require.Equal(t, nacre.QuotaExceeded, nacre.KindOf(c.Compute.Resize(me, sv.ID, big, "")))
		require.Empty(t, migrations(t, c, sv.ID))
		runsOn(t, c, sv.ID, sv.Host)
	})
}

// The disks beside the root disk may come with a flavor, and grow; a swap disk may go.
func TestResizeOfOtherDisks(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		me := computetest.User("p1")
		flavor := func(name string, ephemeral, swap int) string {
			f, err := c.Compute.CreateFlavor(computetest.Admin(), compute.Flavor{Name: name, RAM: 64, VCPUs: 1, Disk: 1, Ephemeral: ephemeral, Swap: swap, Public: true})
			require.NoError(t, err)
			return f.ID
		}
		sv := boot(t, c, c.Flavor())
		for _, f := range []string{flavor("more", 2, 512), flavor("still more", 3, 0)} {
			require.NoError(t, c.Compute.Resize(me, sv.ID, f, ""))
			now := c.Reach(sv.ID, "VERIFY_RESIZE")
			require.NoError(t, c.Compute.ConfirmResize(me, sv.ID))
			c.Reach(sv.ID, "ACTIVE")
			runsOn(t, c, sv.ID, now.Host)
			info, err := c.Drivers[now.Host].Host(context.Background())
			require.NoError(t, err)
			require.Equal(t, info.DiskGB-now.Flavor.Disk-now.Flavor.Ephemeral, info.DiskFreeGB)
		}
		require.Equal(t, nacre.Invalid, nacre.KindOf(c.Compute.Resize(me, sv.ID, flavor("less", 2, 0), "")))
	})
}

// A move that can't be ends where it began, and says why.
func TestColdMoveThatFails(t *testing.T) {
	for name, fault := range map[string]string{"receive": "Receive", "start": "Start"} {
		t.Run(name, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
				flavor, me := c.Flavor(), computetest.User("p1")
				big := bigger(t, c)
				sv := boot(t, c, flavor)
				c.Drivers[other(sv.Host)].Fault(fault, sv.ID, func(context.Context, string) error { return hypervisor.Fault("The disk is broken.") })
				require.NoError(t, c.Compute.Resize(me, sv.ID, big, ""))
				got := c.Reach(sv.ID, "ACTIVE")
				require.Equal(t, flavor, got.FlavorID)
				runsOn(t, c, sv.ID, sv.Host)
				as, err := c.Compute.Actions(me, sv.ID, nacre.Query{})
				require.NoError(t, err)
				require.Equal(t, "Error", as[0].Result)
				require.Contains(t, as[0].Message, "The disk is broken.")
				require.Equal(t, "error", migrations(t, c, sv.ID)[0].Status)
			})
		})
	}
}

func TestNoHostToMoveTo(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
		sv := boot(t, c, c.Flavor())
		for _, move := range []func() error{
			func() error { return c.Compute.Migrate(computetest.Admin(), sv.ID, "") },
			func() error { return c.Compute.LiveMigrate(computetest.Admin(), sv.ID, "") },
		} {
			require.NoError(t, move())
			c.Reach(sv.ID, "ACTIVE")
			runsOn(t, c, sv.ID, "h1")
			as, err := c.Compute.Actions(computetest.Admin(), sv.ID, nacre.Query{})
			require.NoError(t, err)
			require.Contains(t, as[0].Message, "No valid host was found")
		}
	})
}

func TestColdMigrateOfAStoppedServer(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2", "h3"))
		me := computetest.User("p1")
		sv := boot(t, c, c.Flavor())
		require.NoError(t, c.Compute.Do(me, sv.ID, compute.Stop))
		c.Reach(sv.ID, "SHUTOFF")
		to := other(sv.Host)
		require.NoError(t, c.Compute.Migrate(computetest.Admin(), sv.ID, to))
		got := c.Reach(sv.ID, "VERIFY_RESIZE")
		require.Equal(t, to, got.Host)
		require.NoError(t, c.Compute.ConfirmResize(me, sv.ID))
		c.Reach(sv.ID, "SHUTOFF")
		c.Clean()
		require.Equal(t, map[string]hypervisor.Power{to: hypervisor.Shutdown}, where(t, c, sv.ID))
		require.NoError(t, c.Compute.Do(me, sv.ID, compute.Start))
		c.Reach(sv.ID, "ACTIVE")
		runsOn(t, c, sv.ID, to)
		// And back to where it once was.
		require.NoError(t, c.Compute.Migrate(computetest.Admin(), sv.ID, sv.Host))
		c.Reach(sv.ID, "VERIFY_RESIZE")
		require.NoError(t, c.Compute.ConfirmResize(me, sv.ID))
		c.Reach(sv.ID, "ACTIVE")
		runsOn(t, c, sv.ID, sv.Host)
	})
}

func TestResizeIsConfirmedByItself(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"), computetest.Configure(func(c *compute.Config) { c.ConfirmWindow = time.Minute }))
		sv := boot(t, c, c.Flavor())
		require.NoError(t, c.Compute.Migrate(computetest.Admin(), sv.ID, ""))
		c.Reach(sv.ID, "VERIFY_RESIZE")
		c.Reach(sv.ID, "ACTIVE")
		runsOn(t, c, sv.ID, other(sv.Host))
	})
}

func TestLiveMigration(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		sv := boot(t, c, c.Flavor())
		for range 2 {
			from := c.Reach(sv.ID, "ACTIVE").Host
			require.NoError(t, c.Compute.LiveMigrate(computetest.Admin(), sv.ID, ""))
			c.Reach(sv.ID, "ACTIVE")
			runsOn(t, c, sv.ID, other(from))
		}
		out, err := c.Compute.Console(computetest.Admin(), sv.ID, 0)
		require.NoError(t, err)
		require.Contains(t, out, "boot 1")
		require.NotContains(t, out, "boot 2", "it ran on")
		for _, m := range migrations(t, c, sv.ID) {
			require.Equal(t, "completed", m.Status)
			require.Positive(t, m.Progress.MemoryTotal)
		}
	})
}

// A paused server goes as it is, and can be resumed where it came to.
func TestPausedServerMovesLive(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		sv, me := boot(t, c, c.Flavor()), computetest.User("p1")
		require.NoError(t, c.Compute.Do(me, sv.ID, compute.Pause))
		c.Reach(sv.ID, "PAUSED")
		require.NoError(t, c.Compute.LiveMigrate(computetest.Admin(), sv.ID, ""))
		got := c.Reach(sv.ID, "PAUSED")
		require.Equal(t, other(sv.Host), got.Host)
		require.Equal(t, hypervisor.Paused, got.PowerState)
		c.Clean()
		require.Equal(t, map[string]hypervisor.Power{got.Host: hypervisor.Paused}, where(t, c, sv.ID))
		require.Equal(t, "completed", migrations(t, c, sv.ID)[0].Status)
		require.NoError(t, c.Compute.Do(me, sv.ID, compute.Unpause))
		c.Reach(sv.ID, "ACTIVE")
		runsOn(t, c, sv.ID, got.Host)
	})
}

func TestLiveMigrationThatFails(t *testing.T) {
	for name, at := range map[string]struct {
		source bool
		fault  string
	}{"prepare": {false, "Prepare"}, "send": {true, "Migrate"}, "land": {false, "Land"}, "unclear": {true, "MidMigrate"}} {
		t.Run(name, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
				sv := boot(t, c, c.Flavor())
				host := other(sv.Host)
				if at.source {
					host = sv.Host
				}
				c.Drivers[host].Fault(at.fault, sv.ID, func(context.Context, string) error { return hypervisor.Fault("The wire is cut.") })
				require.NoError(t, c.Compute.LiveMigrate(computetest.Admin(), sv.ID, ""))
				got := c.Reach(sv.ID, "ACTIVE")
				if at.fault == "MidMigrate" {
					// The guest stood still; what the new host says decides.
					runsOn(t, c, sv.ID, got.Host)
					return
				}
				runsOn(t, c, sv.ID, sv.Host)
				require.Equal(t, "error", migrations(t, c, sv.ID)[0].Status)
			})
		})
	}
}

func TestLiveMigrationIsCalledOff(t *testing.T) {
	for _, when := range []string{"user", "deadline"} {
		t.Run(when, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"), computetest.Configure(func(c *compute.Config) { c.MoveTimeout = 5 * time.Minute }))
				sv := boot(t, c, c.Flavor())
				c.Drivers[sv.Host].Fault("Migrate", sv.ID, func(ctx context.Context, _ string) error {
					<-ctx.Done()
					return ctx.Err()
				})
				admin := computetest.Admin()
				require.NoError(t, c.Compute.LiveMigrate(admin, sv.ID, ""))
				var m compute.Migration
				c.Eventually("it is under way", func() bool {
					ms, err := c.Compute.ServerMigrations(admin, sv.ID, "os_compute_api:servers:migrations:index")
					require.NoError(t, err)
					if len(ms) == 1 {
						m = ms[0]
					}
					return m.Status == "running"
				})
				status := "error"
				if when == "user" {
					status = "cancelled"
					require.Equal(t, nacre.NotFound, nacre.KindOf(c.Compute.AbortMigration(admin, sv.ID, m.Number+1, false)))
					require.NoError(t, c.Compute.ForceMigration(admin, sv.ID, m.Number))
					require.NoError(t, c.Compute.AbortMigration(admin, sv.ID, m.Number, true))
				}
				c.Reach(sv.ID, "ACTIVE")
				runsOn(t, c, sv.ID, sv.Host)
				require.Equal(t, status, migrations(t, c, sv.ID)[0].Status)
			})
		})
	}
}

// Deleting works at every moment of a move, and leaves nothing on either host.
func TestDeleteOnTheWay(t *testing.T) {
	for name, at := range map[string]struct {
		live  bool
		host  func(string) string
		fault string
	}{
		"halt": {false, func(h string) string { return h }, "Stop"}, "pull": {false, other, "MidReceive"}, "finish": {false, other, "Start"},
		"prepare": {true, other, "Prepare"}, "send": {true, func(h string) string { return h }, "Migrate"}, "land": {true, other, "Land"},
	} {
		t.Run(name, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
				sv := boot(t, c, c.Flavor())
				reached := make(chan struct{}, 100)
				c.Drivers[at.host(sv.Host)].Fault(at.fault, sv.ID, func(ctx context.Context, _ string) error {
					select {
					case reached <- struct{}{}:
					default:
					}
					<-ctx.Done()
					return ctx.Err()
				})
				if at.live {
					require.NoError(t, c.Compute.LiveMigrate(computetest.Admin(), sv.ID, ""))
				} else {
					require.NoError(t, c.Compute.Migrate(computetest.Admin(), sv.ID, ""))
				}
				<-reached
				require.NoError(t, c.Compute.DeleteServer(computetest.User("p1"), sv.ID, "os_compute_api:servers:delete"))
				c.Reach(sv.ID, "")
				c.Clean()
				require.Zero(t, c.Instances(t))
				require.Zero(t, c.Nets.Count())
			})
		})
	}
}

func TestEvacuate(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		computetest.Each(t, func(t *testing.T, e store.Engine) {
			c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
			admin := computetest.Admin()
			sv := boot(t, c, c.Flavor())
			require.Equal(t, nacre.Invalid, nacre.KindOf(c.Compute.Evacuate(admin, sv.ID, "", false)))
			c.StopHost(sv.Host)
			c.Eventually("it is seen that the host is down", func() bool { return c.Compute.Evacuate(admin, sv.ID, "", stopped) == nil })
			status, power := "ACTIVE", hypervisor.Running
			if stopped {
				status, power = "SHUTOFF", hypervisor.Shutdown
			}
			got := c.Reach(sv.ID, status)
			require.Equal(t, other(sv.Host), got.Host)
			require.Equal(t, map[string]hypervisor.Power{sv.Host: hypervisor.Running, got.Host: power}, where(t, c, sv.ID), "nobody can reach the old host")
			require.Equal(t, "done", migrations(t, c, sv.ID)[0].Status)
			active, others := c.Nets.Bindings(sv.ID, 0)
			require.Equal(t, got.Host, active)
			require.Empty(t, others)
			c.StartHost(sv.Host)
			c.Clean()
			require.Equal(t, map[string]hypervisor.Power{got.Host: power}, where(t, c, sv.ID), "it came back and destroyed what it had")
			require.Equal(t, "completed", migrations(t, c, sv.ID)[0].Status)
		})
	}
}

func TestRebuild(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		me := computetest.User("p1")
		sv := boot(t, c, c.Flavor())
		name := "anew"
		for range 2 {
			_, err := c.Compute.RebuildServer(me, sv.ID, compute.Rebuild{ImageID: computetest.ImageID, Name: &name})
			require.NoError(t, err)
			got := c.Reach(sv.ID, "ACTIVE")
			require.Equal(t, "anew", got.Name)
			runsOn(t, c, sv.ID, sv.Host)
			out, err := c.Compute.Console(me, sv.ID, 0)
			require.NoError(t, err)
			require.NotContains(t, out, "boot 2", "nothing is left of what it was")
		}
		require.NoError(t, c.Compute.Do(me, sv.ID, compute.Stop))
		c.Reach(sv.ID, "SHUTOFF")
		_, err := c.Compute.RebuildServer(me, sv.ID, compute.Rebuild{ImageID: computetest.ImageID})
		require.NoError(t, err)
		c.Reach(sv.ID, "SHUTOFF")
		_, err = c.Compute.RebuildServer(me, sv.ID, compute.Rebuild{ImageID: "11111111-2222-4333-8444-666666666666"})
		require.Equal(t, nacre.Invalid, nacre.KindOf(err))
	})
}
