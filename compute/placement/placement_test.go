package placement_test

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

type res = placement.Resources

// elsewhere, where it is set, prepares the engine that onEach uses instead.
var elsewhere func(t testing.TB) func(t testing.TB) store.Engine

func onEach(t *testing.T, test func(t *testing.T, ctx context.Context, e store.Engine, s *placement.Service)) {
	engines := map[string]func() (store.Engine, error){
		"memstore":      func() (store.Engine, error) { return memstore.New(memstore.Options{}), nil },
		"readCommitted": func() (store.Engine, error) { return memstore.New(memstore.Options{ReadCommitted: true}), nil },
		"sqlite": func() (store.Engine, error) {
			return bunstore.OpenSQLite(filepath.Join(t.TempDir(), "p.db"), bunstore.Options{Synchronous: "OFF"})
		},
	}
	if elsewhere != nil {
		engines = map[string]func() (store.Engine, error){"elsewhere": func() (store.Engine, error) { return elsewhere(t)(t), nil }}
	}
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			e, err := open()
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, e.Close()) })
			require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "placement", Tables: placement.Tables()}, true))
			s, err := placement.New(placement.Config{Engine: e})
			require.NoError(t, err)
			test(t, nacre.WithCaller(t.Context(), &nacre.Caller{UserID: "u", ProjectID: "p", Roles: []string{"admin"}}), e, s)
		})
	}
}

// make makes a provider whose id is its name.
func makeProvider(t *testing.T, ctx context.Context, s *placement.Service, id, parent string, offers res, aggregates string, traits ...string) {
	t.Helper()
	_, err := s.CreateProvider(ctx, id, id, parent)
	require.NoError(t, err)
	var invs []placement.Inventory
	for class, n := range offers {
		invs = append(invs, placement.Inventory{Class: class, Total: n, MinUnit: 1, MaxUnit: n, StepSize: 1, Ratio: 1})
	}
	_, err = s.SetInventories(ctx, id, 0, invs)
	require.NoError(t, err)
	_, err = s.SetProviderTraits(ctx, id, traits, 1)
	require.NoError(t, err)
	if aggregates != "" {
		_, err = s.SetAggregates(ctx, id, strings.Fields(aggregates), nil)
		require.NoError(t, err)
	}
}

// shown is candidates as text: "provider:CLASS=n,CLASS=n + provider:…", sorted.
func shown(cs []placement.Candidate) []string {
	out := []string{}
	for _, c := range cs {
		var parts []string
		for _, id := range slices.Sorted(maps.Keys(c.Allocations)) {
			var rs []string
			for _, class := range slices.Sorted(maps.Keys(c.Allocations[id])) {
				rs = append(rs, fmt.Sprintf("%s=%d", class, c.Allocations[id][class]))
			}
			parts = append(parts, id+":"+strings.Join(rs, ","))
		}
		out = append(out, strings.Join(parts, " + "))
	}
	slices.Sort(out)
	return out
}

func TestCandidates(t *testing.T) {
	onEach(t, func(t *testing.T, ctx context.Context, _ store.Engine, s *placement.Service) {
		// Two hosts: h1 with two NUMA cells, h2 flat; ss shares disks with h1 and h2; h3 alone.
		makeProvider(t, ctx, s, "h1", "", res{"MEMORY_MB": 1000}, "agg1", "COMPUTE_NODE")
		makeProvider(t, ctx, s, "h1a", "h1", res{"VCPU": 4, "SRIOV_NET_VF": 1}, "", "HW_NUMA_ROOT", "HW_CPU_X86_AVX")
		makeProvider(t, ctx, s, "h1b", "h1", res{"VCPU": 2, "SRIOV_NET_VF": 1}, "", "HW_NUMA_ROOT")
		makeProvider(t, ctx, s, "h2", "", res{"VCPU": 8, "MEMORY_MB": 500, "DISK_GB": 10}, "agg1 agg2", "COMPUTE_NODE")
		makeProvider(t, ctx, s, "ss", "", res{"DISK_GB": 100}, "agg1", "MISC_SHARES_VIA_AGGREGATE")
		makeProvider(t, ctx, s, "h3", "", res{"VCPU": 1}, "agg3", "STORAGE_DISK_SSD")
		plain := func(g placement.Group) map[string]placement.Group { return map[string]placement.Group{"": g} }
		demand := func(d placement.Demand) placement.Demand { return d }
		for name, c := range map[string]struct {
			r    placement.Request
			want []string
		}{
			"one class": {placement.Request{Groups: plain(placement.Group{Resources: res{"VCPU": 1}})},
				[]string{"h1a:VCPU=1", "h1b:VCPU=1", "h2:VCPU=1", "h3:VCPU=1"}},
			"over a tree": {placement.Request{Groups: plain(placement.Group{Resources: res{"VCPU": 3, "MEMORY_MB": 100}})},
				[]string{"h1:MEMORY_MB=100 + h1a:VCPU=3", "h2:MEMORY_MB=100,VCPU=3"}},
			"flat": {placement.Request{Flat: true, Groups: plain(placement.Group{Resources: res{"VCPU": 3, "MEMORY_MB": 100}})},
				[]string{"h2:MEMORY_MB=100,VCPU=3"}},
			"shared disk": {placement.Request{Groups: plain(placement.Group{Resources: res{"VCPU": 3, "DISK_GB": 5}})},
				[]string{"h1a:VCPU=3 + ss:DISK_GB=5", "h2:DISK_GB=5,VCPU=3", "h2:VCPU=3 + ss:DISK_GB=5"}},
			"too much": {placement.Request{Groups: plain(placement.Group{Resources: res{"VCPU": 9}})}, []string{}},
			"required of all together": {placement.Request{Groups: plain(placement.Group{Resources: res{"VCPU": 1, "MEMORY_MB": 1},
				Demand: demand(placement.Demand{Required: [][]string{{"COMPUTE_NODE"}, {"HW_CPU_X86_AVX"}}})})}, []string{"h1:MEMORY_MB=1 + h1a:VCPU=1"}},
			"forbidden": {placement.Request{Groups: plain(placement.Group{Resources: res{"VCPU": 1}, Demand: demand(placement.Demand{Forbidden: []string{"HW_NUMA_ROOT", "STORAGE_DISK_SSD"}})})},
				[]string{"h2:VCPU=1"}},
			"member of, by the root": {placement.Request{Groups: plain(placement.Group{Resources: res{"VCPU": 1}, Demand: demand(placement.Demand{MemberOf: [][]string{{"agg1"}}, NotMemberOf: []string{"agg2"}})})},
				[]string{"h1a:VCPU=1", "h1b:VCPU=1"}},
			"in tree": {placement.Request{Groups: plain(placement.Group{Resources: res{"VCPU": 1}, InTree: "h1b"})}, []string{"h1a:VCPU=1", "h1b:VCPU=1"}},
			"root required": {placement.Request{RootRequired: []string{"COMPUTE_NODE"}, RootForbidden: []string{"STORAGE_DISK_SSD"}, Groups: plain(placement.Group{Resources: res{"VCPU": 2}})},
				[]string{"h1a:VCPU=2", "h1b:VCPU=2", "h2:VCPU=2"}},
			"groups, none": {placement.Request{Groups: map[string]placement.Group{"1": {Resources: res{"SRIOV_NET_VF": 1}}, "2": {Resources: res{"VCPU": 2}}}},
				[]string{"h1a:SRIOV_NET_VF=1 + h1b:VCPU=2", "h1a:SRIOV_NET_VF=1,VCPU=2", "h1a:VCPU=2 + h1b:SRIOV_NET_VF=1", "h1b:SRIOV_NET_VF=1,VCPU=2"}},
			"groups, isolate": {placement.Request{Isolate: true, Groups: map[string]placement.Group{"1": {Resources: res{"SRIOV_NET_VF": 1}}, "2": {Resources: res{"VCPU": 2}}}},
				[]string{"h1a:SRIOV_NET_VF=1 + h1b:VCPU=2", "h1a:VCPU=2 + h1b:SRIOV_NET_VF=1"}},
			"same subtree": {placement.Request{SameSubtree: [][]string{{"1", "2"}}, Groups: map[string]placement.Group{"1": {Resources: res{"SRIOV_NET_VF": 1}}, "2": {Resources: res{"VCPU": 2}}}},
				[]string{"h1a:SRIOV_NET_VF=1,VCPU=2", "h1b:SRIOV_NET_VF=1,VCPU=2"}},
			"a group by traits alone": {placement.Request{SameSubtree: [][]string{{"N", "1"}}, Groups: map[string]placement.Group{"1": {Resources: res{"VCPU": 1}}, "N": {Demand: demand(placement.Demand{Required: [][]string{{"HW_CPU_X86_AVX"}}})}}},
				[]string{"h1a:VCPU=1"}},
			"two groups on one provider add up": {placement.Request{Groups: map[string]placement.Group{"1": {Resources: res{"VCPU": 5}}, "2": {Resources: res{"VCPU": 4}}}}, []string{}},
		} {
			cs, sums, err := s.Candidates(ctx, c.r)
			require.NoError(t, err, name)
			require.Equal(t, c.want, shown(cs), name)
			ids := map[string]bool{}
			for _, f := range sums {
				ids[f.Provider.ID] = true
			}
			for _, x := range cs {
				for id := range x.Allocations {
					require.True(t, ids[id], "%s: no summary of %s", name, id)
				}
			}
			// What is offered can be had.
			for i, x := range cs {
				id := fmt.Sprintf("consumer %s %d", name, i)
				require.NoError(t, s.SetAllocations(ctx, id, placement.Wish{Allocations: x.Allocations, ProjectID: "p", User: "u"}), name)
				require.NoError(t, s.DeleteAllocations(ctx, id))
			}
		}
		cs, _, err := s.Candidates(ctx, placement.Request{Limit: 2, Groups: plain(placement.Group{Resources: res{"VCPU": 1}})})
		require.NoError(t, err)
		require.Len(t, cs, 2)
		_, _, err = s.Candidates(ctx, placement.Request{Groups: plain(placement.Group{Resources: res{"NOPE": 1}})})
		require.ErrorIs(t, err, nacre.Invalid)

		counted, n := store.CountStatements(ctx)
		_, _, err = s.Candidates(counted, placement.Request{Groups: plain(placement.Group{Resources: res{"VCPU": 1}})})
		require.NoError(t, err)
		require.LessOrEqual(t, n.Load(), int64(5))
	})
}

// However many claim at once, by whichever way, a host is never given out twice.
func TestClaimRace(t *testing.T) {
	onEach(t, func(t *testing.T, ctx context.Context, e store.Engine, s *placement.Service) {
		for _, h := range []string{"h1", "h2"} {
			require.NoError(t, s.Report(ctx, h, h, []placement.Inventory{{Class: "VCPU", Total: 10, MinUnit: 1, MaxUnit: 10, StepSize: 1, Ratio: 1}}))
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		granted := 0
		for i := range 40 {
			wg.Go(func() {
				id := fmt.Sprintf("c%d", i)
				var err error
				if i%2 == 0 {
					err = store.InTx(ctx, e, func(ctx context.Context) error { return s.Claim(ctx, id, "p", "u", "h1", res{"VCPU": 1}) })
				} else {
					err = s.SetAllocations(ctx, id, placement.Wish{Allocations: map[string]res{"h1": {"VCPU": 1}, "h2": {"VCPU": 1}}, ProjectID: "p", User: "u"})
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					granted++
				} else if nacre.KindOf(err) != nacre.Conflict {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 10, granted)
		free, err := s.FreeOf(ctx, "h1")
		require.NoError(t, err)
		require.Equal(t, res{"VCPU": 10}, free[0].Used)
		all, err := s.Allocated(ctx)
		require.NoError(t, err)
		require.Len(t, all, 10, "who got nothing has nothing")
		n, err := store.NewTable[placement.Consumer](e, "placement_consumer").Count(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 10, n)
		for id := range all {
			require.NoError(t, s.Release(ctx, id))
			require.NoError(t, s.Release(ctx, id), "again")
		}
		n, err = store.NewTable[placement.Consumer](e, "placement_consumer").Count(ctx)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// Report makes a provider, changes what changed, and nothing when nothing did.
func TestReport(t *testing.T) {
	onEach(t, func(t *testing.T, ctx context.Context, _ store.Engine, s *placement.Service) {
		inv := func(n int64) []placement.Inventory {
			return []placement.Inventory{{Class: "VCPU", Total: n, MinUnit: 1, MaxUnit: n, StepSize: 1, Ratio: 4}, {Class: "DISK_GB", Total: 5, MinUnit: 1, MaxUnit: 5, StepSize: 1, Ratio: 1}}
		}
		generation := func() int64 {
			p, err := s.Provider(ctx, "h")
			require.NoError(t, err)
			return p.Generation
		}
		require.NoError(t, s.Report(ctx, "h", "host", inv(2)))
		first := generation()
		require.NoError(t, s.Report(ctx, "h", "host", inv(2)))
		require.Equal(t, first, generation())
		require.NoError(t, s.Report(ctx, "h", "host", inv(3)))
		require.Equal(t, first+1, generation())
		free, err := s.FreeOf(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 12, free[0].Inventory["VCPU"].Capacity())
		for want, r := range map[string]res{
			"":                       {"VCPU": 3, "DISK_GB": 5},
			"MEMORY_MB is not":       {"MEMORY_MB": 1},
			"VCPU: 4 is not between": {"VCPU": 4},
			"DISK_GB: 6 is not":      {"DISK_GB": 6},
		} {
			ok, why := free[0].Fits(r)
			require.Equal(t, want == "", ok)
			require.Contains(t, why, want)
		}
	})
}
