package compute_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/internal/computetest"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// held plants a fault that says when it is met and waits until it is released.
func held(c *computetest.Cloud, host, method, id string) (met <-chan struct{}, release func()) {
	reached, free := make(chan struct{}, 100), make(chan struct{})
	remove := c.Drivers[host].Fault(method, id, func(ctx context.Context, _ string) error {
		reached <- struct{}{}
		select {
		case <-free:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return reached, func() {
		remove()
		close(free)
	}
}

// boundAlone waits until a server's port is bound to one host and no other.
func boundAlone(c *computetest.Cloud, id, host string) {
	c.Eventually("its ports are on "+host+" alone", func() bool {
		active, others := c.Nets.Bindings(id, 0)
		return active == host && len(others) == 0
	})
}

// A live migration ends, though network will never bind its ports on the new host.
func TestLiveMigrationWhoseNetworkRefuses(t *testing.T) {
	for _, when := range []string{"user", "deadline"} {
		t.Run(when, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"), computetest.Configure(func(c *compute.Config) { c.MoveTimeout = 5 * time.Minute }))
				sv, admin := boot(t, c, c.Flavor()), computetest.Admin()
				tried := make(chan struct{}, 1000)
				c.Nets.OnBind(func(op, host string) error {
					if host == sv.Host || op != "bind" {
						return nil
					}
					tried <- struct{}{}
					return nacre.Errorf(nacre.Unavailable, "PortBindingError", "Binding for port could not be created.")
				})
				require.NoError(t, c.Compute.LiveMigrate(admin, sv.ID, ""))
				<-tried
				status := "error"
				if when == "user" {
					status = "cancelled"
					require.NoError(t, c.Compute.AbortMigration(admin, sv.ID, migrations(t, c, sv.ID)[0].Number, false))
				}
				c.Reach(sv.ID, "ACTIVE")
				runsOn(t, c, sv.ID, sv.Host)
				require.Equal(t, status, migrations(t, c, sv.ID)[0].Status)
			})
		})
	}
}

// An evacuation that something else ends is over, and says so.
func TestEvacuationThatIsEnded(t *testing.T) {
	for name, end := range map[string]func(c *computetest.Cloud, id string) error{
		"delete": func(c *computetest.Cloud, id string) error {
			return c.Compute.DeleteServer(computetest.Admin(), id, "os_compute_api:servers:delete")
		},
		"reset": func(c *computetest.Cloud, id string) error {
			return c.Compute.ResetState(computetest.Admin(), id, compute.VMActive)
		},
	} {
		t.Run(name, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
				sv := boot(t, c, c.Flavor())
				met, release := held(c, other(sv.Host), "Create", sv.ID)
				c.StopHost(sv.Host)
				c.Eventually("it is seen that the host is down", func() bool { return c.Compute.Evacuate(computetest.Admin(), sv.ID, "", false) == nil })
				<-met
				require.NoError(t, end(c, sv.ID))
				release()
				c.StartHost(sv.Host)
				if name == "delete" {
					c.Reach(sv.ID, "")
				}
				c.Clean()
				require.Equal(t, "error", migrations(t, c, sv.ID)[0].Status)
				if name == "delete" {
					require.Zero(t, c.Instances(t))
					return
				}
				require.Equal(t, other(sv.Host), c.Reach(sv.ID, "ACTIVE").Host)
				boundAlone(c, sv.ID, other(sv.Host))
			})
		})
	}
}

// A move that is ended where it is leaves the server's ports on the server's host, and
// nowhere else, whatever had been done of them.
func TestPortsOfAMoveThatIsEnded(t *testing.T) {
	reset := func(c *computetest.Cloud, id string) error {
		return c.Compute.ResetState(computetest.Admin(), id, compute.VMActive)
	}
	each := func(t *testing.T, name string, f func(t *testing.T, c *computetest.Cloud, sv compute.Server)) {
		t.Run(name, func(t *testing.T) {
			computetest.Each(t, func(t *testing.T, e store.Engine) {
				c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"), computetest.Configure(func(c *compute.Config) {
					c.MoveTimeout, c.BuildTimeout = 2*time.Minute, 2*time.Minute
				}))
				f(t, c, boot(t, c, c.Flavor()))
			})
		})
	}
	each(t, "on the way", func(t *testing.T, c *computetest.Cloud, sv compute.Server) {
		met, release := held(c, other(sv.Host), "Receive", sv.ID)
		require.NoError(t, c.Compute.Migrate(computetest.Admin(), sv.ID, ""))
		<-met
		require.NoError(t, reset(c, sv.ID))
		release()
		runsOn(t, c, sv.ID, sv.Host)
	})
	each(t, "and something else is asked at once", func(t *testing.T, c *computetest.Cloud, sv compute.Server) {
		met, release := held(c, other(sv.Host), "Receive", sv.ID)
		require.NoError(t, c.Compute.Migrate(computetest.Admin(), sv.ID, ""))
		<-met
		var down atomic.Bool
		down.Store(true)
		c.Nets.OnBind(func(string, string) error {
			if down.Load() {
				return errors.New("network is down")
			}
			return nil
		})
		require.NoError(t, reset(c, sv.ID))
		release()
		require.NoError(t, c.Compute.Do(computetest.Admin(), sv.ID, compute.RebootHard))
		require.Contains(t, c.Reach(sv.ID, "ERROR").Fault.Message, "network is down")
		require.NoError(t, reset(c, sv.ID))
		require.NoError(t, c.Compute.LiveMigrate(computetest.Admin(), sv.ID, ""))
		c.Reach(sv.ID, "ACTIVE")
		require.Equal(t, "error", migrations(t, c, sv.ID)[0].Status)
		down.Store(false)
		c.Clean()
		boundAlone(c, sv.ID, sv.Host)
		require.NoError(t, c.Compute.Do(computetest.Admin(), sv.ID, compute.RebootHard))
		c.Reach(sv.ID, "ACTIVE")
		runsOn(t, c, sv.ID, sv.Host)
	})
	each(t, "taken back, but for the row", func(t *testing.T, c *computetest.Cloud, sv compute.Server) {
		require.NoError(t, c.Compute.Migrate(computetest.Admin(), sv.ID, ""))
		now := c.Reach(sv.ID, "VERIFY_RESIZE")
		var done atomic.Bool
		c.Nets.OnBind(func(op, host string) error {
			if op == "unbind" && host == now.Host && done.CompareAndSwap(false, true) {
				return reset(c, sv.ID)
			}
			return nil
		})
		require.NoError(t, c.Compute.RevertResize(computetest.Admin(), sv.ID))
		c.Eventually("it is reset", done.Load)
		c.Clean()
		require.Equal(t, now.Host, c.Reach(sv.ID, "ACTIVE").Host)
		boundAlone(c, sv.ID, now.Host)
	})
	each(t, "evacuated, but for the ports", func(t *testing.T, c *computetest.Cloud, sv compute.Server) {
		var down, tried atomic.Bool
		down.Store(true)
		c.Nets.OnBind(func(string, string) error {
			if tried.Store(true); down.Load() {
				return errors.New("network is down")
			}
			return nil
		})
		c.StopHost(sv.Host)
		c.Eventually("it is seen that the host is down", func() bool { return c.Compute.Evacuate(computetest.Admin(), sv.ID, "", false) == nil })
		c.Eventually("its ports are to move", tried.Load)
		require.NoError(t, reset(c, sv.ID))
		down.Store(false)
		c.StartHost(sv.Host)
		c.Clean()
		require.Equal(t, other(sv.Host), c.Reach(sv.ID, "ACTIVE").Host)
		boundAlone(c, sv.ID, other(sv.Host))
	})
	each(t, "evacuated, but for the ports, and out of time", func(t *testing.T, c *computetest.Cloud, sv compute.Server) {
		var down atomic.Bool
		down.Store(true)
		c.Nets.OnBind(func(string, string) error {
			if down.Load() {
				return errors.New("network is down")
			}
			return nil
		})
		c.StopHost(sv.Host)
		c.Eventually("it is seen that the host is down", func() bool { return c.Compute.Evacuate(computetest.Admin(), sv.ID, "", false) == nil })
		require.Equal(t, other(sv.Host), c.Reach(sv.ID, "ERROR").Host)
		require.Equal(t, "error", migrations(t, c, sv.ID)[0].Status)
		down.Store(false)
		boundAlone(c, sv.ID, other(sv.Host))
		c.StartHost(sv.Host)
		c.Clean()
	})
}

// A live migration that ends while its abortion is on the way is not aborted, and no
// action stays open.
func TestAbortionThatComesTooLate(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		var meanwhile atomic.Pointer[func()]
		hooked := storetest.Faulty(e, func(op, _ string) error {
			if op == "begin" {
				if f := meanwhile.Swap(nil); f != nil {
					(*f)()
				}
			}
			return nil
		})
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"), computetest.Through(hooked))
		sv, admin := boot(t, c, c.Flavor()), computetest.Admin()
		met, release := held(c, sv.Host, "Migrate", sv.ID)
		require.NoError(t, c.Compute.LiveMigrate(admin, sv.ID, ""))
		<-met
		m := migrations(t, c, sv.ID)[0]
		manager := nacre.WithCaller(context.Background(), &nacre.Caller{UserID: "m", ProjectID: "p1", Roles: []string{"manager", "member", "reader"}})
		require.NoError(t, c.Compute.SetLock(admin, sv.ID, true, ""))
		err := c.Compute.AbortMigration(manager, sv.ID, m.Number, false)
		require.ErrorContains(t, err, "is locked")
		require.NoError(t, c.Compute.SetLock(admin, sv.ID, false, ""))
		end := func() {
			release()
			c.Reach(sv.ID, "ACTIVE")
		}
		synctest.Wait() // nothing else is about to begin
		meanwhile.Store(&end)
		require.Equal(t, nacre.Conflict, nacre.KindOf(c.Compute.AbortMigration(admin, sv.ID, m.Number, false)))
		runsOn(t, c, sv.ID, other(sv.Host))
		as, err := c.Compute.Actions(admin, sv.ID, nacre.Query{})
		require.NoError(t, err)
		for _, a := range as {
			require.False(t, a.Finish.IsZero(), a.Name)
			require.NotEqual(t, "live_migration_cancel", a.Name)
		}
	})
}

// A server that goes back shows so until it is at rest.
func TestRevertShowsUntilItIsOver(t *testing.T) {
	computetest.Each(t, func(t *testing.T, e store.Engine) {
		c := computetest.Start(t, computetest.NewWorld(e, "h1", "h2"))
		sv, me := boot(t, c, c.Flavor()), computetest.User("p1")
		require.NoError(t, c.Compute.Migrate(computetest.Admin(), sv.ID, ""))
		c.Reach(sv.ID, "VERIFY_RESIZE")
		met, release := held(c, sv.Host, "Start", sv.ID)
		require.NoError(t, c.Compute.RevertResize(me, sv.ID))
		<-met
		got, err := c.Compute.Server(me, sv.ID)
		require.NoError(t, err)
		require.Equal(t, sv.Host, got.Host)
		require.Equal(t, "REVERT_RESIZE", got.Status())
		release()
		c.Reach(sv.ID, "ACTIVE")
		runsOn(t, c, sv.ID, sv.Host)
	})
}
