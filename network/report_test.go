package network

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// Whatever the order in which two copies take a host's reports, the last word stands.
func TestReportsOutOfOrder(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a test's own
		e := memstore.New(memstore.Options{ReadCommitted: true})
		require.NoError(t, e.Migrate(t.Context(), Schema(), true))
		var copies []*Service
		for range 2 {
			b := bus.New(bus.NewMemory(bus.MemoryOptions{}), nil)
			s, err := New(Config{Engine: e, Bus: b})
			require.NoError(t, err)
			copies = append(copies, s)
			defer b.Close() //nolint:errcheck // it is a test's own
		}
		now := time.Now().UTC()
		require.NoError(t, copies[0].hosts.Insert(t.Context(), Host{ID: "h", Name: "h", Created: now}))
		last := map[string]dataplane.State{}
		for i := range 4 {
			st := dataplane.State{Ref: dataplane.Ref{Kind: dataplane.KindPort, ID: fmt.Sprint("p", i), Generation: 1}, Active: true}
			last[placeID("h", st.Kind, st.ID)] = st
			require.NoError(t, copies[0].places.Insert(t.Context(), Place{ID: placeID("h", st.Kind, st.ID), Host: "h", Kind: st.Kind, ObjectID: st.ID, Wanted: 1, Seen: 1, Active: true}))
		}
		reports := reportHistory(r, last, 60)
		in := make(chan dataplane.Report)
		failed := make(chan error, 1000)
		var wg sync.WaitGroup
		for _, s := range copies {
			wg.Go(func() {
				for rep := range in {
					if err := s.takeReport(context.Background(), "h", rep); err != nil {
						failed <- err
					}
				}
			})
		}
		for _, rep := range reports {
			in <- rep
		}
		close(in)
		wg.Wait()
		close(failed)
		for err := range failed {
			require.NoError(t, err)
		}
		for id, want := range last {
			p, err := copies[0].places.Get(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, want.Active, p.Active, "seed %d, %s", seed, id)
			require.Equal(t, want.Reason, p.Reason)
		}
		require.NoError(t, e.Close())
	}
}

// reportHistory is what a host reports while its ports come and go, in the order in which
// copies that share a queue may take it, some of it twice. last is what was reported last.
func reportHistory(r *rand.Rand, last map[string]dataplane.State, n int) []dataplane.Report {
	type at struct {
		dataplane.Report
		place float64
	}
	var all []at
	ids := slices.Sorted(maps.Keys(last))
	started, sequence := time.Now().UnixNano(), int64(0)
	for i := range n {
		if i > 0 && r.IntN(20) == 0 {
			started, sequence = started+1_000_000, 0
		}
		sequence++
		rep := dataplane.Report{Started: started, Sequence: sequence, Full: sequence == 1 || r.IntN(6) == 0}
		id := ids[r.IntN(len(ids))]
		st := last[id]
		st.Active = !st.Active
		if st.Reason = ""; !st.Active {
			st.Reason = fmt.Sprint("reason ", i)
		}
		last[id] = st
		rep.States = []dataplane.State{st}
		if rep.Full {
			rep.Host, rep.States = &dataplane.Host{Driver: "fake"}, nil
			for _, id := range ids {
				rep.States = append(rep.States, last[id])
			}
		}
		for range 1 + r.IntN(2) {
			all = append(all, at{rep, float64(i) + 8*r.Float64()})
		}
	}
	slices.SortFunc(all, func(a, b at) int { return cmp.Compare(a.place, b.place) })
	out := make([]dataplane.Report, len(all))
	for i := range all {
		out[i] = all[i].Report
	}
	return out
}
