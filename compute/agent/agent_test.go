package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/agent"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/hypervisor/fake"
)

// host is an agent over a simulated hypervisor, and what compute heard from it.
type host struct {
	t      *testing.T
	driver *fake.Driver
	cfg    agent.Config
	agent  *agent.Agent
	stop   func()

	mu     sync.Mutex
	states map[string]hypervisor.State
	fulls  []hypervisor.Report
	lose   func() bool
}

func newHost(t *testing.T, dirs ...string) *host {
	h := &host{t: t, states: map[string]hypervisor.State{}}
	if len(dirs) > 0 {
		h.cfg.Dir = dirs[0]
	}
	var err error
	h.driver, err = fake.New(fake.Config{})
	require.NoError(t, err)
	h.cfg.Host, h.cfg.Driver, h.cfg.Report, h.cfg.Log = "h1", h.driver, h.take, slog.New(slog.DiscardHandler)
	return h
}

func (h *host) take(_ context.Context, r hypervisor.Report) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lose != nil && h.lose() {
		return errors.New("lost")
	}
	if r.Full {
		h.fulls = append(h.fulls, r)
	}
	for _, s := range r.States {
		h.states[s.ID] = s
	}
	return nil
}

func (h *host) start() {
	var err error
	h.agent, err = agent.New(h.cfg)
	require.NoError(h.t, err)
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		require.ErrorIs(h.t, h.agent.Run(ctx), context.Canceled)
	}()
	h.stop = func() {
		cancel()
		<-done
	}
}

func (h *host) heard() []hypervisor.Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.fulls)
}

func (h *host) state(id string) hypervisor.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.states[id]
}

// send hands over a message and lets d of time pass.
func (h *host) send(d time.Duration, desired ...hypervisor.Desired) {
	h.t.Helper()
	require.NoError(h.t, h.agent.Handle(h.t.Context(), desired))
	time.Sleep(d)
	synctest.Wait()
}

func (h *host) power(id string) hypervisor.Power {
	h.t.Helper()
	in, err := h.driver.Get(h.t.Context(), id)
	require.NoError(h.t, err)
	return in.Power
}

func want(id string, generation int64, power hypervisor.Power) hypervisor.Desired {
	return hypervisor.Desired{ID: id, Generation: generation, Power: power, Boot: 1,
		Spec: hypervisor.Spec{ID: id, Name: "instance-" + id, DisplayName: id, VCPUs: 1, MemoryMB: 64,
			NICs: []hypervisor.NIC{{PortID: "port-" + id, MAC: "fa:16:3e:00:00:01"}}}}
}

func gone(id string, generation int64) hypervisor.Desired {
	return hypervisor.Desired{ID: id, Generation: generation, Gone: true}
}

const moment = 50 * time.Millisecond

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		var reboots atomic.Int32
		h.driver.Fault("Reboot", "", func(context.Context, string) error { reboots.Add(1); return nil })
		h.start()
		defer h.stop()
		h.send(moment, want("a", 1, hypervisor.Paused))
		require.Equal(t, hypervisor.State{ID: "a", Generation: 1, Phase: hypervisor.Done, Power: hypervisor.Paused, Boot: 1}, h.state("a"))
		h.send(moment, want("a", 2, hypervisor.Running))
		require.Equal(t, hypervisor.State{ID: "a", Generation: 2, Phase: hypervisor.Done, Power: hypervisor.Running, Boot: 1}, h.state("a"))
		require.Zero(t, reboots.Load())
		reply, err := h.agent.Console(t.Context(), hypervisor.ConsoleRequest{ID: "a", Limit: 1000})
		require.NoError(t, err)
		require.Contains(t, string(reply.Output), "a login:")

		boot := want("a", 3, hypervisor.Running)
		boot.Boot = 2
		h.send(moment, boot)
		require.EqualValues(t, 2, h.state("a").Boot)
		require.EqualValues(t, 1, reboots.Load())
		h.send(moment, boot, boot)
		require.EqualValues(t, 1, reboots.Load(), "a message that comes twice reboots once")

		off := boot
		off.Generation, off.Power = 4, hypervisor.Shutdown
		h.send(moment, off)
		require.Equal(t, hypervisor.Shutdown, h.state("a").Power)
		on := boot
		on.Generation, on.Boot = 5, 3
		h.send(moment, on)
		require.Equal(t, hypervisor.Running, h.state("a").Power)
		require.EqualValues(t, 3, h.state("a").Boot)
		require.EqualValues(t, 1, reboots.Load(), "a start is boot enough")

		h.send(moment, gone("a", 6))
		require.Equal(t, hypervisor.State{ID: "a", Generation: 6, Phase: hypervisor.Absent, Boot: 0}, h.state("a"))
		_, err = h.driver.Get(t.Context(), "a")
		require.ErrorIs(t, err, nacre.NotFound)
		h.send(moment, gone("never-heard-of", 1))
		require.Equal(t, hypervisor.Absent, h.state("never-heard-of").Phase)
	})
}

func TestOlderIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.start()
		defer h.stop()
		h.send(moment, want("a", 5, hypervisor.Running))
		h.send(moment, want("a", 4, hypervisor.Shutdown))
		require.Equal(t, hypervisor.Running, h.power("a"))
		require.EqualValues(t, 5, h.state("a").Generation)
		h.send(moment, gone("a", 6))
		h.send(moment, want("a", 5, hypervisor.Running), want("a", 6, hypervisor.Running))
		require.Equal(t, hypervisor.Absent, h.state("a").Phase, "a late message does not bring back the dead")
		require.Empty(t, h.driver.Taps())
	})
}

func TestGuestTurnsItselfOff(t *testing.T) {
	for _, dir := range []bool{false, true} {
		t.Run(fmt.Sprintf("dir=%v", dir), func(t *testing.T) {
			d := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				if dir {
					h.cfg.Dir = d
				}
				h.start()
				h.send(moment, want("a", 1, hypervisor.Running))
				require.NoError(t, h.driver.PowerOff("a"))
				time.Sleep(moment)
				require.Equal(t, hypervisor.State{ID: "a", Generation: 1, Phase: hypervisor.Done, Power: hypervisor.Shutdown, Boot: 1}, h.state("a"))
				h.send(time.Hour, want("a", 1, hypervisor.Running))
				require.Equal(t, hypervisor.Shutdown, h.power("a"))
				h.stop()

				h.start()
				time.Sleep(moment)
				require.Zero(t, h.state("a").Generation)
				require.Equal(t, hypervisor.Shutdown, h.state("a").Power)
				h.send(moment, want("a", 1, hypervisor.Running))
				require.EqualValues(t, 1, h.state("a").Generation)
				if dir {
					require.Equal(t, hypervisor.Shutdown, h.power("a"), "it is remembered that it had its run")
				}
				h.send(moment, want("a", 2, hypervisor.Running))
				require.Equal(t, hypervisor.Running, h.power("a"))
				h.stop()
			})
		})
	}
}

func TestRestartDestroysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		for _, id := range []string{"a", "b"} {
			require.NoError(t, h.driver.Create(t.Context(), want(id, 0, 0).Spec, nil))
		}
		require.NoError(t, h.driver.Resume(t.Context(), "a"))
		h.start()
		defer h.stop()
		time.Sleep(10 * time.Minute)
		require.Equal(t, hypervisor.State{ID: "a", Phase: hypervisor.Done, Power: hypervisor.Running}, h.state("a"))
		require.Equal(t, hypervisor.State{ID: "b", Phase: hypervisor.Done, Power: hypervisor.Paused}, h.state("b"))
		list, err := h.driver.List(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 2)
		var reboots atomic.Int32
		h.driver.Fault("Reboot", "", func(context.Context, string) error { reboots.Add(1); return nil })
		adopted := want("a", 9, hypervisor.Running)
		adopted.Boot = 7
		h.send(moment, adopted)
		require.EqualValues(t, 7, h.state("a").Boot)
		require.Zero(t, reboots.Load(), "a found guest is not rebooted for a boot that may long be done")
	})
}

func TestRestartInTheMiddleOfCreate(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, dir)
		remove := h.driver.Fault(fake.MidCreate, "a", func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		h.start()
		h.send(time.Minute, want("a", 1, hypervisor.Running))
		require.Equal(t, hypervisor.Working, h.state("a").Phase)
		h.stop()
		remove()
		in, err := h.driver.Get(t.Context(), "a")
		require.NoError(t, err)
		require.True(t, in.Partial)

		h.start()
		defer h.stop()
		time.Sleep(moment)
		require.Equal(t, hypervisor.State{ID: "a", Phase: hypervisor.Working, Power: hypervisor.Shutdown}, h.state("a"))
		h.send(moment, want("a", 1, hypervisor.Running))
		require.Equal(t, hypervisor.State{ID: "a", Generation: 1, Phase: hypervisor.Done, Power: hypervisor.Running, Boot: 1}, h.state("a"))
	})
}

func TestDeleteDuringCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.driver.Fault(fake.MidCreate, "a", func(ctx context.Context, _ string) error {
			select {
			case <-time.After(time.Hour):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		h.start()
		defer h.stop()
		h.send(moment, want("a", 1, hypervisor.Running))
		h.send(moment, gone("a", 2))
		require.Equal(t, hypervisor.State{ID: "a", Generation: 2, Phase: hypervisor.Absent}, h.state("a"), "a tombstone does not wait for a download")
		_, err := h.driver.Get(t.Context(), "a")
		require.ErrorIs(t, err, nacre.NotFound)
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		var tries atomic.Int32
		fails := func(method string, err error) func() {
			tries.Store(0)
			return h.driver.Fault(method, "", func(context.Context, string) error { tries.Add(1); return err })
		}
		h.start()
		defer h.stop()
		remove := fails("Create", nacre.Errorf(nacre.Invalid, "", "The image is bad."))
		h.send(moment, want("invalid", 1, hypervisor.Running))
		require.Equal(t, hypervisor.State{ID: "invalid", Generation: 1, Phase: hypervisor.Failed, Reason: "The image is bad."}, h.state("invalid"))
		time.Sleep(time.Hour)
		require.EqualValues(t, 1, tries.Load(), "what is refused is not tried again")
		remove()

		remove = fails("Create", hypervisor.Fault("No space left."))
		h.send(moment, want("fault", 1, hypervisor.Running))
		require.Equal(t, hypervisor.Working, h.state("fault").Phase)
		require.Equal(t, "No space left.", h.state("fault").Reason)
		time.Sleep(5 * time.Minute)
		require.Equal(t, hypervisor.Failed, h.state("fault").Phase)
		require.Equal(t, "No space left.", h.state("fault").Reason)
		require.EqualValues(t, 5, tries.Load())
		remove()
		h.send(moment, want("fault", 2, hypervisor.Running))
		require.Equal(t, hypervisor.Done, h.state("fault").Phase, "a newer generation is a new chance")
		require.Empty(t, h.state("fault").Reason)

		remove = fails("Resume", errors.New("connection refused"))
		h.send(time.Hour, want("plain", 1, hypervisor.Running))
		require.Equal(t, hypervisor.Working, h.state("plain").Phase)
		require.Empty(t, h.state("plain").Reason, "what is not meant for users is not shown")
		require.Greater(t, tries.Load(), int32(60))
		remove()
		time.Sleep(time.Minute)
		require.Equal(t, hypervisor.Done, h.state("plain").Phase)

		remove = fails("Delete", hypervisor.Fault("busy"))
		h.send(time.Hour, gone("plain", 2))
		require.Equal(t, hypervisor.Working, h.state("plain").Phase, "what is to be gone is never given up on")
		remove()
		time.Sleep(time.Minute)
		require.Equal(t, hypervisor.Absent, h.state("plain").Phase)
	})
}

func TestVanished(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, dir)
		h.start()
		h.send(moment, want("a", 1, hypervisor.Running))
		h.stop()
		require.NoError(t, h.driver.Delete(t.Context(), "a"))
		h.start()
		defer h.stop()
		time.Sleep(moment)
		require.Equal(t, hypervisor.Absent, h.state("a").Phase)
		h.send(time.Minute, want("a", 1, hypervisor.Running))
		require.Equal(t, hypervisor.Failed, h.state("a").Phase, "a server with data is not silently made anew")
		require.Contains(t, h.state("a").Reason, "not there any more")
		_, err := h.driver.Get(t.Context(), "a")
		require.ErrorIs(t, err, nacre.NotFound)
		h.send(moment, gone("a", 2))
		require.Equal(t, hypervisor.Absent, h.state("a").Phase)
	})
}

func TestFullReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.start()
		defer h.stop()
		h.send(moment, want("a", 1, hypervisor.Running))
		require.NotEmpty(t, h.heard())
		require.True(t, h.heard()[0].Full)
		require.Equal(t, 64, h.heard()[0].Host.VCPUs)
		started := h.heard()[0].Started
		time.Sleep(10 * time.Minute)
		n := len(h.heard())
		last := h.heard()[n-1]
		require.InDelta(t, 31, n, 4, "one at the start, and one each 20 s")
		require.Equal(t, started, last.Started)
		require.Len(t, last.States, 1)

		h.agent.Resync()
		time.Sleep(moment)
		require.Len(t, h.heard(), n+1)

		h.send(moment, gone("a", 2))
		time.Sleep(30 * time.Minute)
		require.Len(t, h.heard()[len(h.heard())-1].States, 1, "a tombstone is told again while it is young")
		time.Sleep(time.Hour)
		require.Empty(t, h.heard()[len(h.heard())-1].States)
	})
}

// However long compute could not be reached, it hears of the host soon after it can be.
func TestHeardSoonAfterASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		var deaf atomic.Bool
		h.lose = deaf.Load
		h.start()
		defer h.stop()
		h.send(moment)
		deaf.Store(true)
		h.send(100*time.Second, want("a", 1, hypervisor.Running))
		require.Zero(t, h.state("a"))
		deaf.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, hypervisor.Done, h.state("a").Phase)
	})
}

func TestStopOfACrashedGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.cfg.Driver = crashStays{h.driver}
		h.start()
		defer h.stop()
		h.send(moment, want("a", 1, hypervisor.Running))
		require.NoError(t, h.driver.Crash("a"))
		time.Sleep(moment)
		require.Equal(t, hypervisor.Crashed, h.state("a").Power)
		h.send(time.Minute, want("a", 2, hypervisor.Shutdown))
		require.Equal(t, hypervisor.State{ID: "a", Generation: 2, Phase: hypervisor.Done, Power: hypervisor.Crashed, Boot: 1}, h.state("a"))
		h.send(moment, want("a", 3, hypervisor.Running))
		require.Equal(t, hypervisor.Running, h.state("a").Power)
	})
}

// crashStays is a hypervisor that tells of a crash until the next start, as
// libvirt does.
type crashStays struct{ *fake.Driver }

func (c crashStays) Stop(ctx context.Context, id string, grace time.Duration) error {
	if in, err := c.Get(ctx, id); err != nil || in.Power == hypervisor.Crashed {
		return err
	}
	return c.Driver.Stop(ctx, id, grace)
}

// chatty notices machines that are nobody's.
type chatty struct{ *fake.Driver }

func (c chatty) Watch(ctx context.Context) (<-chan string, error) {
	ch := make(chan string)
	go func() {
		defer close(ch)
		for range 3 {
			select {
			case ch <- "stranger":
			case <-ctx.Done():
				return
			}
		}
		<-ctx.Done()
	}()
	return ch, nil
}

func TestStrangersAreNotReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.cfg.Driver = chatty{h.driver}
		h.start()
		defer h.stop()
		time.Sleep(5 * time.Minute)
		require.Empty(t, h.heard()[len(h.heard())-1].States)
		// A server of that id is still built in the ordinary way.
		h.send(moment, want("stranger", 1, hypervisor.Running))
		require.Equal(t, hypervisor.Running, h.state("stranger").Power)
	})
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.cfg.Builds, h.cfg.Workers = 3, 2
		var now, most atomic.Int32
		h.driver.Fault("Create", "", func(context.Context, string) error {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			return nil
		})
		h.start()
		defer h.stop()
		var all []hypervisor.Desired
		for i := range 30 {
			all = append(all, want(fmt.Sprint("s", i), 1, hypervisor.Running))
		}
		h.send(moment, all...)
		h.send(moment, gone("other", 1))
		require.Equal(t, hypervisor.Absent, h.state("other").Phase, "builds don't hold up the rest")
		time.Sleep(11 * time.Second)
		require.EqualValues(t, 3, most.Load())
		for i := range 30 {
			require.Equal(t, hypervisor.Running, h.state(fmt.Sprint("s", i)).Power)
		}
	})
}

func TestRefusesBadMessages(t *testing.T) {
	h := newHost(t)
	a, err := agent.New(h.cfg)
	require.NoError(t, err)
	bad := want("a", 1, hypervisor.Running)
	bad.Spec.ID = "b"
	require.ErrorIs(t, a.Handle(t.Context(), []hypervisor.Desired{bad}), nacre.Invalid)
	require.ErrorIs(t, a.Handle(t.Context(), []hypervisor.Desired{gone("../x", 1)}), nacre.Invalid)
	_, err = agent.New(agent.Config{})
	require.ErrorContains(t, err, "Driver")
}

// TestChaos sends each server's history doubled, reordered and with losses,
// restarts the agent in the middle, breaks driver calls, and resends the newest
// as compute would: all must end as the newest says.
func TestChaos(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				h := newHost(t, dir)
				var mu sync.Mutex
				chance := func(n int) bool { mu.Lock(); defer mu.Unlock(); return rnd.IntN(n) == 0 }
				for _, m := range []string{"Create", fake.MidCreate, "Start", "Resume", "Stop", "Delete", "Get", "Reboot"} {
					h.driver.Fault(m, "", func(ctx context.Context, _ string) error {
						if chance(3) {
							select {
							case <-time.After(300 * time.Millisecond):
							case <-ctx.Done():
								return ctx.Err()
							}
						}
						if chance(5) {
							return errors.New("broken")
						}
						return nil
					})
				}
				h.lose = func() bool { return chance(2) }
				newest := map[string]hypervisor.Desired{}
				var traffic []hypervisor.Desired
				for i := range 12 {
					id := fmt.Sprint("s", i)
					var g int64
					for range 1 + rnd.IntN(6) {
						g++
						d := want(id, g, []hypervisor.Power{hypervisor.Paused, hypervisor.Running, hypervisor.Shutdown}[rnd.IntN(3)])
						d.Boot = 1 + g/2
						newest[id] = d
						traffic = append(traffic, d)
					}
					if rnd.IntN(3) == 0 {
						newest[id] = gone(id, g+1)
						traffic = append(traffic, newest[id])
					}
				}
				traffic = append(traffic, traffic...)
				rnd.Shuffle(len(traffic), func(i, j int) { traffic[i], traffic[j] = traffic[j], traffic[i] })
				h.start()
				for i, d := range traffic {
					if chance(3) {
						continue
					}
					h.send(time.Duration(i%7)*30*time.Millisecond, d)
					if chance(25) {
						h.stop()
						h.start()
					}
				}
				// Compute repeats what a host does not confirm.
				for range 200 {
					settled := true
					for id, d := range newest {
						st := h.state(id)
						if st.Generation != d.Generation || st.Phase != hypervisor.Done && st.Phase != hypervisor.Absent {
							settled = false
							require.NoError(t, h.agent.Handle(t.Context(), []hypervisor.Desired{d}))
						}
					}
					if settled {
						break
					}
					time.Sleep(10 * time.Second)
				}
				h.stop()
				for id, d := range newest {
					st := h.state(id)
					require.Equal(t, d.Generation, st.Generation, id)
					if d.Gone {
						require.Equal(t, hypervisor.Absent, st.Phase, id)
						continue
					}
					require.Equal(t, hypervisor.Done, st.Phase, "%s %+v", id, st)
					require.Equal(t, d.Power, st.Power, id)
				}
				list, err := h.driver.List(t.Context())
				require.NoError(t, err)
				alive := 0
				for _, d := range newest {
					if !d.Gone {
						alive++
					}
				}
				require.Len(t, list, alive)
			})
		})
	}
}
