package agent_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/agent"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/fake"
)

// host is an agent on a simulated data plane, and what it told network.
type host struct {
	t      *testing.T
	agent  *agent.Agent
	driver *fake.Driver
	stop   func()

	mu      sync.Mutex
	reports []dataplane.Report
	fail    error
}

func start(t *testing.T, d *fake.Driver) *host {
	h := &host{t: t, driver: d}
	var err error
	h.agent, err = agent.New(agent.Config{Host: "node1", Driver: d, Report: h.take, Rand: dice()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.agent.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return h
}

func (h *host) take(_ context.Context, r dataplane.Report) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		return h.fail
	}
	h.reports = append(h.reports, r)
	return nil
}

func (h *host) handle(d ...dataplane.Desired) {
	h.t.Helper()
	require.NoError(h.t, h.agent.Handle(h.t.Context(), d))
}

// last is what network knows of an object by now.
func (h *host) last(kind dataplane.Kind, id string) (dataplane.State, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range slices.Backward(h.reports) {
		for _, s := range r.States {
			if s.Kind == kind && s.ID == id {
				return s, true
			}
		}
	}
	return dataplane.State{}, false
}

func (h *host) full() []dataplane.Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []dataplane.Report
	for _, r := range h.reports {
		if r.Full {
			all = append(all, r)
		}
	}
	return all
}

func newDriver(t *testing.T) *fake.Driver {
	d, err := fake.New(fake.Config{})
	require.NoError(t, err)
	return d
}

func network(id string, generation int64) dataplane.Desired {
	n := dataplane.Network{ID: id, Generation: generation, Type: "local", AdminUp: true, MTU: 1400 + int(generation)}
	return dataplane.Desired{Ref: ref(dataplane.KindNetwork, id, generation), Network: &n}
}

func port(id, network string, generation int64) dataplane.Desired {
	p := dataplane.Port{ID: id, Generation: generation, NetworkID: network, AdminUp: true, Tap: "tap" + id,
		FixedIPs: []dataplane.FixedIP{{Address: netip.MustParseAddr("10.0.0.5")}}}
	return dataplane.Desired{Ref: ref(dataplane.KindPort, id, generation), Port: &p}
}

func gone(kind dataplane.Kind, id string, generation int64) dataplane.Desired {
	return dataplane.Desired{Ref: ref(kind, id, generation), Gone: true}
}

func ref(kind dataplane.Kind, id string, generation int64) dataplane.Ref {
	return dataplane.Ref{Kind: kind, ID: id, Generation: generation}
}

func (h *host) settle(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

func TestPortBecomesActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		h := start(t, d)
		h.handle(port("p", "n", 1))
		h.settle(time.Second)
		s, ok := h.last(dataplane.KindPort, "p")
		require.True(t, ok)
		require.False(t, s.Active)
		require.Contains(t, s.Reason, "waiting for network n")
		h.handle(network("n", 1))
		h.settle(time.Second)
		s, _ = h.last(dataplane.KindPort, "p")
		require.Equal(t, dataplane.State{Ref: ref(dataplane.KindPort, "p", 1), Active: true}, s)
		d.RemoveTap("tapp")
		h.settle(time.Second)
		s, _ = h.last(dataplane.KindPort, "p")
		require.Contains(t, s.Reason, "waiting for device")
		h.handle(gone(dataplane.KindPort, "p", 2))
		h.settle(time.Second)
		s, _ = h.last(dataplane.KindPort, "p")
		require.Equal(t, dataplane.State{Ref: ref(dataplane.KindPort, "p", 2), Absent: true}, s)
		h.stop()
		require.NoError(t, d.Close())
	})
}

func TestOlderAndDoubledMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var mu sync.Mutex
		var applied []int64
		d.SetFaults(fake.Faults{Apply: func(_ context.Context, r dataplane.Ref) error {
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			applied = append(applied, r.Generation)
			return nil
		}})
		h := start(t, d)
		synctest.Wait()
		// While the first is in hand the others collapse into the newest.
		for g := int64(1); g <= 50; g++ {
			h.handle(network("n", g), network("n", g))
			if g == 1 {
				synctest.Wait()
			}
		}
		h.handle(network("n", 7))
		h.settle(time.Second)
		require.Equal(t, []int64{1, 50}, applied)
		refs, err := d.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, []dataplane.Ref{ref(dataplane.KindNetwork, "n", 50)}, refs)
		// What is gone is not brought back by what was sent before.
		h.handle(gone(dataplane.KindNetwork, "n", 51))
		h.settle(time.Second)
		h.handle(network("n", 50), network("n", 51))
		h.settle(time.Second)
		refs, err = d.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, refs)
		h.stop()
		require.NoError(t, d.Close())
	})
}

func TestConvergesOverABadBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const objects, generations = 30, 20
		d := newDriver(t)
		h := start(t, d)
		random := rand.New(rand.NewPCG(3, 4))
		// Nine in ten are lost, the rest doubled and in any order; every fifth
		// object is gone in the end.
		var all []dataplane.Desired
		var final []dataplane.Desired
		for i := range objects {
			id := fmt.Sprintf("n%d", i)
			for g := int64(1); g < generations; g++ {
				if random.IntN(10) == 0 {
					all = append(all, network(id, g), network(id, g))
				}
			}
			last := network(id, generations)
			if i%5 == 0 {
				last = gone(dataplane.KindNetwork, id, generations)
			}
			final = append(final, last)
		}
		all = append(all, final...)
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, m := range all {
			h.handle(m)
			time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
		}
		h.settle(time.Second)
		refs, err := d.List(t.Context())
		require.NoError(t, err)
		require.Len(t, refs, objects-objects/5)
		for _, r := range refs {
			require.EqualValues(t, generations, r.Generation)
		}
		for _, f := range final {
			s, ok := h.last(f.Kind, f.ID)
			require.True(t, ok)
			require.Equal(t, f.Gone, s.Absent)
			require.Equal(t, !f.Gone, s.Active)
		}
		h.stop()
		require.NoError(t, d.Close())
	})
}

// dice gives the same numbers each time, to whoever asks at once.
func dice() func() float64 {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}
}

func TestFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var mu sync.Mutex
		var tries []time.Time
		broken := true
		d.SetFaults(fake.Faults{Apply: func(_ context.Context, r dataplane.Ref) error {
			if r.ID != "bad" {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			tries = append(tries, time.Now())
			if broken {
				return dataplane.Fault("the bridge is on fire")
			}
			return nil
		}})
		h := start(t, d)
		h.handle(network("bad", 3), network("good", 1))
		h.settle(5 * time.Minute)
		s, _ := h.last(dataplane.KindNetwork, "good")
		require.True(t, s.Active, "one object's trouble is not another's")
		s, _ = h.last(dataplane.KindNetwork, "bad")
		require.Equal(t, dataplane.State{Ref: ref(dataplane.KindNetwork, "bad", 3), Reason: "the bridge is on fire"}, s)
		mu.Lock()
		require.Greater(t, len(tries), 10)
		require.Less(t, len(tries), 30)
		for i := 1; i < len(tries); i++ {
			pause := tries[i].Sub(tries[i-1])
			require.GreaterOrEqual(t, pause, 300*time.Millisecond)
			require.LessOrEqual(t, pause, 30*time.Second)
		}
		broken = false
		mu.Unlock()
		h.settle(time.Minute)
		s, _ = h.last(dataplane.KindNetwork, "bad")
		require.True(t, s.Active)
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(tries) }
		n := count()
		h.settle(10 * time.Minute)
		require.Equal(t, n, count(), "what works is left alone")
		h.stop()
		require.NoError(t, d.Close())
	})
}

func TestSecretsOfErrorsStayInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		d.SetFaults(fake.Faults{Delete: func(context.Context, dataplane.Kind, string) error {
			return errors.New("open /var/lib/secret: permission denied")
		}})
		h := start(t, d)
		h.handle(gone(dataplane.KindRouter, "r", 1))
		h.settle(time.Second)
		s, ok := h.last(dataplane.KindRouter, "r")
		require.True(t, ok)
		require.False(t, s.Absent, "it is not gone before the driver says so")
		require.Contains(t, s.Reason, "node1")
		require.NotContains(t, s.Reason, "secret")
		h.stop()
		require.NoError(t, d.Close())
	})
}

func TestFullReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		require.NoError(t, d.ApplyNetwork(t.Context(), *network("n", 4).Network))
		require.NoError(t, d.ApplyPort(t.Context(), *port("p", "n", 7).Port))
		h := start(t, d)
		synctest.Wait()
		full := h.full()
		require.Len(t, full, 1, "on start")
		require.Equal(t, "fake", full[0].Host.Driver)
		require.ElementsMatch(t, []dataplane.State{
			{Ref: ref(dataplane.KindNetwork, "n", 4), Active: true},
			{Ref: ref(dataplane.KindPort, "p", 7), Active: true},
		}, full[0].States)
		h.settle(time.Hour)
		count := len(h.full())
		require.InDelta(t, 180, count, 18, "one each 20 s")
		// An agent that was told nothing since its start removes nothing, and
		// still reports what it finds.
		d.RemoveTap("tapp")
		h.settle(time.Second)
		s, _ := h.last(dataplane.KindPort, "p")
		require.Equal(t, dataplane.State{Ref: ref(dataplane.KindPort, "p", 7), Reason: "waiting for device tapp"}, s)
		refs, err := d.List(t.Context())
		require.NoError(t, err)
		require.Len(t, refs, 2)
		h.stop()
		require.NoError(t, d.Close())
	})
}

func TestLostReportsAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		h := start(t, d)
		synctest.Wait()
		h.mu.Lock()
		h.fail = errors.New("no broker")
		h.mu.Unlock()
		h.handle(network("n", 1), gone(dataplane.KindPort, "p", 1))
		h.settle(time.Minute)
		_, ok := h.last(dataplane.KindNetwork, "n")
		require.False(t, ok)
		h.mu.Lock()
		h.fail = nil
		h.mu.Unlock()
		h.settle(2 * time.Second)
		s, _ := h.last(dataplane.KindNetwork, "n")
		require.True(t, s.Active)
		s, _ = h.last(dataplane.KindPort, "p")
		require.True(t, s.Absent)
		h.stop()
		require.NoError(t, d.Close())
	})
}

func TestOneObjectIsSerialOthersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(t)
		var mu sync.Mutex
		busy := map[string]int{}
		most, total := 0, 0
		d.SetFaults(fake.Faults{Apply: func(_ context.Context, r dataplane.Ref) error {
			mu.Lock()
			busy[r.ID]++
			total++
			most = max(most, total)
			twice := busy[r.ID] > 1
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			busy[r.ID]--
			total--
			mu.Unlock()
			if twice {
				return nacre.Errorf(nacre.Internal, "", "two at once")
			}
			return nil
		}})
		h := start(t, d)
		for g := int64(1); g <= 5; g++ {
			for i := range 20 {
				h.handle(network(fmt.Sprintf("n%d", i), g))
			}
			time.Sleep(300 * time.Millisecond)
		}
		h.settle(time.Minute)
		require.Equal(t, 8, most)
		for i := range 20 {
			s, _ := h.last(dataplane.KindNetwork, fmt.Sprintf("n%d", i))
			require.Equal(t, dataplane.State{Ref: ref(dataplane.KindNetwork, fmt.Sprintf("n%d", i), 5), Active: true}, s)
		}
		h.stop()
		require.NoError(t, d.Close())
	})
}

func TestNonsenseIsNamed(t *testing.T) {
	a, err := agent.New(agent.Config{Driver: newDriver(t), Report: func(context.Context, dataplane.Report) error { return nil }})
	require.NoError(t, err)
	both := network("n", 1)
	both.Gone = true
	wrong := network("n", 1)
	wrong.ID = "other"
	for _, d := range []dataplane.Desired{{}, {Ref: ref(dataplane.KindPort, "p", 1)}, both, wrong} {
		require.Error(t, a.Handle(t.Context(), []dataplane.Desired{d}))
	}
	_, err = agent.New(agent.Config{})
	require.ErrorContains(t, err, "Driver")
	_, err = agent.New(agent.Config{Driver: newDriver(t)})
	require.ErrorContains(t, err, "Report")
}
