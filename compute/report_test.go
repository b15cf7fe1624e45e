package compute

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// copies are services over one database, with a host that has servers at rest.
func copies(t *testing.T, n, servers int) []*Service {
	e := memstore.New(memstore.Options{ReadCommitted: true})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	require.NoError(t, e.Migrate(t.Context(), Schema(), true))
	p, err := placement.New(placement.Config{Engine: e})
	require.NoError(t, err)
	var out []*Service
	for range n {
		b := bus.New(bus.NewMemory(bus.MemoryOptions{}), nil)
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		s, err := New(Config{Engine: e, Bus: b, Placement: p, Images: struct{ Images }{}, Networks: struct{ Networks }{}})
		require.NoError(t, err)
		out = append(out, s)
	}
	now := time.Now().UTC()
	require.NoError(t, out[0].hosts.Insert(t.Context(), Host{ID: "h", Name: "h", Created: now}))
	for i := range servers {
		require.NoError(t, out[0].servers.Insert(t.Context(), Server{ID: serverID(i), Host: "h", VMState: VMActive, Generation: 1, Seen: Seen{SeenGen: 1}, WantPower: hypervisor.Running, Created: now}))
	}
	return out
}

func serverID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }

// history is what a host reports while its guests do as they like: mostly what changed,
// now and then all, from an agent that is started anew on the way.
func history(r *rand.Rand, servers, n int) (reports []hypervisor.Report, last map[string]hypervisor.State) {
	last = map[string]hypervisor.State{}
	for i := range servers {
		last[serverID(i)] = hypervisor.State{ID: serverID(i), Generation: 1, Phase: hypervisor.Done, Power: hypervisor.Running}
	}
	started, sequence := time.Now().UnixNano(), int64(0)
	for i := range n {
		if i > 0 && r.IntN(20) == 0 {
			started, sequence = started+1_000_000, 0
		}
		sequence++
		rep := hypervisor.Report{Started: started, Sequence: sequence, Full: sequence == 1 || r.IntN(6) == 0}
		for range 1 + r.IntN(2) {
			st := last[serverID(r.IntN(servers))]
			st.Phase = []hypervisor.Phase{hypervisor.Working, hypervisor.Done, hypervisor.Failed}[r.IntN(3)]
			st.Power = []hypervisor.Power{hypervisor.Running, hypervisor.Shutdown, hypervisor.Paused}[r.IntN(3)]
			last[st.ID] = st
			rep.States = slices.DeleteFunc(rep.States, func(x hypervisor.State) bool { return x.ID == st.ID })
			rep.States = append(rep.States, st)
		}
		if rep.Full {
			rep.Host, rep.States = &hypervisor.Host{VCPUs: 1, MemoryMB: 1024, DiskGB: 1}, nil
			for _, st := range last {
				rep.States = append(rep.States, st)
			}
		}
		reports = append(reports, rep)
	}
	return reports, last
}

// disorder hands messages out as copies that share a queue take them: some twice, and
// none far from its place.
func disorder(r *rand.Rand, reports []hypervisor.Report) []hypervisor.Report {
	type at struct {
		hypervisor.Report
		place float64
	}
	var all []at
	for i, rep := range reports {
		for range 1 + r.IntN(2) {
			all = append(all, at{rep, float64(i) + 8*r.Float64()})
		}
	}
	slices.SortFunc(all, func(a, b at) int { return cmp.Compare(a.place, b.place) })
	out := make([]hypervisor.Report, len(all))
	for i := range all {
		out[i] = all[i].Report
	}
	return out
}

// Whatever the order in which two copies take a host's reports, the last word stands.
func TestReportsOutOfOrder(t *testing.T) {
	const servers = 4
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's own
		ss := copies(t, 2, servers)
		reports, last := history(r, servers, 60)
		in := make(chan hypervisor.Report)
		var wg sync.WaitGroup
		failed := make(chan error, 1000)
		for _, s := range ss {
			wg.Go(func() {
				for rep := range in {
					if err := s.takeReport(context.Background(), "h", rep); err != nil {
						failed <- err
					}
				}
			})
		}
		for _, rep := range disorder(r, reports) {
			in <- rep
		}
		close(in)
		wg.Wait()
		close(failed)
		for err := range failed {
			require.NoError(t, err)
		}
		for id, want := range last {
			sv, err := ss[0].servers.Get(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, want, hypervisor.State{ID: id, Generation: sv.SeenGen, Phase: sv.SeenPhase, Power: sv.SeenPower}, "seed %d", seed)
		}
	}
}

// A late report of an agent that is gone does not bring its host to life, and one whose
// clock was set back is heard once the host has been silent for long enough.
func TestReportOfAnAgentThatIsGone(t *testing.T) {
	s := copies(t, 1, 0)[0]
	full := func(started, sequence int64) {
		require.NoError(t, s.takeReport(t.Context(), "h", hypervisor.Report{Started: started, Sequence: sequence, Full: true, Host: &hypervisor.Host{VCPUs: int(started)}}))
	}
	seen := func(ago time.Duration) {
		_, err := s.hosts.UpdateWhere(t.Context(), store.All(), store.Set{"seen_at": time.Now().UTC().Add(-ago)})
		require.NoError(t, err)
	}
	host := func() Host {
		h, err := s.hosts.Get(t.Context(), "h")
		require.NoError(t, err)
		return h
	}
	full(2, 1)
	seen(s.c.HostTimeout / 2)
	full(1, 7)
	require.Equal(t, 2, host().Info.VCPUs)
	require.Greater(t, time.Since(host().Seen), s.c.HostTimeout/3)
	full(2, 2)
	require.Less(t, time.Since(host().Seen), s.c.HostTimeout/3)
	seen(2 * s.c.HostTimeout)
	full(1, 8)
	require.Equal(t, 1, host().Info.VCPUs)
	require.True(t, s.Up(host()))
}

// With a server's hosts change places what each of them said, down to the number of the
// report: what the new host says next is not held against the old one's numbers.
func TestMarksTravelWithTheHost(t *testing.T) {
	s := copies(t, 1, 1)[0]
	require.NoError(t, s.hosts.Insert(t.Context(), Host{ID: "k", Name: "k", Created: time.Now().UTC()}))
	_, err := s.servers.Update(t.Context(), serverID(0), func(sv *Server) error {
		sv.Seen = Seen{SeenGen: 1, SeenPhase: hypervisor.Done, SeenPower: hypervisor.Running, SeenEpoch: 7, SeenSequence: 50}
		sv.OtherHost, sv.Move = "k", &Moving{Generation: 2, Seen: Seen{SeenGen: 2, SeenPhase: hypervisor.Working, SeenEpoch: 7, SeenSequence: 3}}
		sv.swap()
		return nil
	})
	require.NoError(t, err)
	report := func(host string, sequence int64, st hypervisor.State) Server {
		st.ID = serverID(0)
		require.NoError(t, s.takeReport(t.Context(), host, hypervisor.Report{Started: 7, Sequence: sequence, States: []hypervisor.State{st}}))
		sv, err := s.servers.Get(t.Context(), serverID(0))
		require.NoError(t, err)
		return sv
	}
	sv := report("k", 4, hypervisor.State{Generation: 2, Phase: hypervisor.Done, Power: hypervisor.Running})
	require.Equal(t, Seen{SeenGen: 2, SeenPhase: hypervisor.Done, SeenPower: hypervisor.Running, SeenEpoch: 7, SeenSequence: 4}, sv.Seen)
	old := sv.Move.Seen
	require.Equal(t, Seen{SeenGen: 1, SeenPhase: hypervisor.Done, SeenPower: hypervisor.Running, SeenEpoch: 7, SeenSequence: 50}, old)
	sv = report("h", 4, hypervisor.State{Generation: 1, Phase: hypervisor.Working})
	require.Equal(t, old, sv.Move.Seen, "an old report of the old host")
}
