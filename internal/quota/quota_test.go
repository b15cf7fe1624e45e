package quota_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/quota"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

type thing struct {
	ID      string `store:"id,pk"`
	Project string `store:"project_id,index=thing_project"`
}

func onEach(t *testing.T, test func(t *testing.T, e store.Engine, k *quota.Kit)) {
	for name, open := range map[string]func() (store.Engine, error){
		"memstore":      func() (store.Engine, error) { return memstore.New(memstore.Options{}), nil },
		"readCommitted": func() (store.Engine, error) { return memstore.New(memstore.Options{ReadCommitted: true}), nil },
		"sqlite": func() (store.Engine, error) {
			return bunstore.OpenSQLite(filepath.Join(t.TempDir(), "q.db"), bunstore.Options{Synchronous: "OFF"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := open()
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, e.Close()) })
			require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "test", Tables: []*store.TableDef{quota.Table(), store.Define[thing]("things")}}, true))
			test(t, e, quota.New(e, map[string]int64{"things": 10, "bytes": quota.Unlimited, "parts": 0}))
		})
	}
}

func TestLimits(t *testing.T) {
	onEach(t, func(t *testing.T, e store.Engine, k *quota.Kit) {
		ctx := t.Context()
		require.Equal(t, []string{"bytes", "parts", "things"}, k.Resources())
		limits := func(project string) map[string]int64 {
			l, err := k.Limits(ctx, project)
			require.NoError(t, err)
			return l
		}
		require.Equal(t, map[string]int64{"things": 10, "bytes": -1, "parts": 0}, limits("p1"))

		require.NoError(t, k.Set(ctx, quota.Class("default"), map[string]int64{"things": 20, "parts": 5}))
		require.NoError(t, k.Set(ctx, "p1", map[string]int64{"things": 3, "unknown": 7}))
		require.NoError(t, k.Set(ctx, "p1", map[string]int64{"things": 4}), "set again")
		require.Equal(t, map[string]int64{"things": 4, "bytes": -1, "parts": 5}, limits("p1"))
		require.Equal(t, map[string]int64{"things": 20, "bytes": -1, "parts": 5}, limits("p2"))
		d, err := k.Defaults(ctx)
		require.NoError(t, err)
		require.Equal(t, limits("p2"), d)
		counted, n := store.CountStatements(ctx)
		_, err = k.Limits(counted, "p1")
		require.NoError(t, err)
		require.EqualValues(t, 1, n.Load())

		owned, err := k.Owned(ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]map[string]int64{"p1": {"things": 4}}, owned, "projects, not classes; resources that exist")

		had, err := k.Clear(ctx, "p1")
		require.NoError(t, err)
		require.True(t, had)
		had, err = k.Clear(ctx, "p1")
		require.NoError(t, err)
		require.False(t, had)
		require.Equal(t, limits("p2"), limits("p1"))
	})
}

func TestOver(t *testing.T) {
	onEach(t, func(t *testing.T, e store.Engine, k *quota.Kit) {
		for name, c := range map[string]struct {
			used, more, over map[string]int64
		}{
			"fits":       {map[string]int64{"things": 9}, map[string]int64{"things": 1}, map[string]int64{}},
			"too many":   {map[string]int64{"things": 9}, map[string]int64{"things": 2}, map[string]int64{"things": 10}},
			"unlimited":  {map[string]int64{"bytes": 1 << 50}, map[string]int64{"bytes": 1 << 50}, map[string]int64{}},
			"none":       {nil, map[string]int64{"parts": 1}, map[string]int64{"parts": 0}},
			"several":    {map[string]int64{"things": 10}, map[string]int64{"parts": 1, "things": 1}, map[string]int64{"parts": 0, "things": 10}},
			"less":       {map[string]int64{"things": 50}, map[string]int64{"things": -1}, map[string]int64{}},
			"no more":    {map[string]int64{"things": 50}, map[string]int64{"things": 0}, map[string]int64{}},
			"no quota":   {nil, map[string]int64{"colours": 99}, map[string]int64{}},
			"overflowed": {map[string]int64{"things": 1}, map[string]int64{"things": 1<<63 - 1}, map[string]int64{"things": 10}},
		} {
			over, err := k.Over(t.Context(), "p", c.used, c.more)
			require.NoError(t, err)
			require.Equal(t, c.over, over, name)
		}
	})
}

// However many ask at once, the limit holds: counting is under the lock.
func TestRace(t *testing.T) {
	onEach(t, func(t *testing.T, e store.Engine, k *quota.Kit) {
		require.ErrorIs(t, k.Lock(t.Context(), "p"), store.ErrTx)
		require.ErrorIs(t, k.Lock(t.Context(), ""), nacre.Invalid)
		things := store.NewTable[thing](e, "things")
		var wg sync.WaitGroup
		results := make(chan error, 40)
		for i := range 40 {
			wg.Go(func() {
				results <- store.InTx(t.Context(), e, func(ctx context.Context) error {
					if err := k.Lock(ctx, "p"); err != nil {
						return err
					}
					n, err := things.Count(ctx, store.Eq("project_id", "p"))
					if err != nil {
						return err
					}
					over, err := k.Over(ctx, "p", map[string]int64{"things": n}, map[string]int64{"things": 1})
					if err != nil {
						return err
					}
					if len(over) > 0 {
						return nacre.QuotaExceeded
					}
					return things.Insert(ctx, thing{ID: string(rune('A' + i)), Project: "p"})
				})
			})
		}
		wg.Wait()
		close(results)
		refused := 0
		for err := range results {
			if err != nil {
				require.ErrorIs(t, err, nacre.QuotaExceeded)
				refused++
			}
		}
		require.Equal(t, 30, refused)
		n, err := things.Count(t.Context(), store.Eq("project_id", "p"))
		require.NoError(t, err)
		require.EqualValues(t, 10, n)
	})
}
