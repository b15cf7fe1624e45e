package memstore_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Engine { return memstore.New(memstore.Options{}) })
}

func TestContractReadCommitted(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Engine { return memstore.New(memstore.Options{ReadCommitted: true}) })
}

func BenchmarkEngine(b *testing.B) {
	storetest.Bench(b, func(*testing.B) store.Engine { return memstore.New(memstore.Options{}) })
}

type pet struct {
	ID   string `store:"id,pk"`
	Name string `store:"name,unique"`
	N    int64  `store:"n"`
}

func pets(t *testing.T, o memstore.Options) (*memstore.Engine, *store.Table[pet]) {
	t.Helper()
	e := memstore.New(o)
	require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "pets", Tables: []*store.TableDef{store.Define[pet]("pets")}}, true))
	tab := store.NewTable[pet](e, "pets")
	require.NoError(t, tab.Insert(t.Context(), pet{ID: "a", Name: "a"}, pet{ID: "b", Name: "b"}))
	return e, tab
}

// A wait for the writer ends by its deadline or the context, and the error says
// where the holder began.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tab := pets(t, memstore.Options{Wait: time.Minute})
		defer e.Close()
		err := store.InTx(t.Context(), e, func(in context.Context) error {
			begun := time.Now()
			err := tab.Insert(t.Context(), pet{ID: "c", Name: "c"})
			require.ErrorIs(t, err, nacre.Unavailable)
			require.Contains(t, err.Error(), "memstore_test.go:")
			require.Contains(t, err.Error(), "memstore_test.TestBusy")
			require.Equal(t, time.Minute, time.Since(begun))

			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorIs(t, e.InTx(ctx, func(context.Context) error { return nil }), context.DeadlineExceeded)
			return tab.Insert(in, pet{ID: "c", Name: "c"})
		})
		require.NoError(t, err)
		require.NoError(t, tab.Insert(t.Context(), pet{ID: "d", Name: "d"}))
	})
}

// In READ COMMITTED a second reading may differ from the first, and what was
// chosen after a look may be wrong by the time it is written.
func TestReadCommittedAnomalies(t *testing.T) {
	e, tab := pets(t, memstore.Options{ReadCommitted: true})
	defer e.Close()
	ctx := t.Context()
	err := store.InTx(ctx, e, func(in context.Context) error {
		first, err := tab.Get(in, "a")
		require.NoError(t, err)
		_, err = tab.Update(ctx, "a", func(p *pet) error { p.N++; return nil })
		require.NoError(t, err)
		second, err := tab.Get(in, "a")
		require.NoError(t, err)
		require.Equal(t, first.N+1, second.N, "non-repeatable read")

		n, err := tab.Count(in)
		require.NoError(t, err)
		require.NoError(t, tab.Insert(ctx, pet{ID: "c", Name: "c"}))
		m, err := tab.Count(in)
		require.NoError(t, err)
		require.Equal(t, n+1, m, "phantom")
		return nil
	})
	require.NoError(t, err)

	// Two count, both find room, both insert.
	err = e.InTx(ctx, func(one context.Context) error {
		n1, err := tab.Count(one)
		require.NoError(t, err)
		return e.InTx(ctx, func(two context.Context) error {
			n2, err := tab.Count(two)
			require.NoError(t, err)
			require.Equal(t, n1, n2)
			require.NoError(t, tab.Insert(one, pet{ID: "x", Name: "x"}))
			return tab.Insert(two, pet{ID: "y", Name: "y"})
		})
	})
	require.NoError(t, err)
	n, err := tab.Count(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 5, n)

	// A compare-and-swap on what another changed meanwhile loses.
	runs := 0
	err = store.InTx(ctx, e, func(in context.Context) error {
		runs++
		row, err := e.Get(in, tab.Def(), "b", false)
		require.NoError(t, err)
		if runs == 1 {
			_, err = tab.Update(ctx, "b", func(p *pet) error { p.N = 100; return nil })
			require.NoError(t, err)
		}
		n, err := e.Update(in, tab.Def(), store.And(store.Eq("id", "b"), store.Eq(store.RevColumn, row.Rev)), store.Set{"n": row.Values[2].(int64) + 1})
		require.NoError(t, err)
		if n == 0 {
			return store.ErrRaced
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, runs)
	b, err := tab.Get(ctx, "b")
	require.NoError(t, err)
	require.EqualValues(t, 101, b.N)
}

// Writers of one row, of one unique key and of one named lock wait for each
// other; of a ring of waiters one loses.
func TestReadCommittedWaits(t *testing.T) {
	for name, c := range map[string]struct {
		hold, want func(ctx context.Context, e store.Engine, tab *store.Table[pet]) error
		check      func(t *testing.T, err error)
	}{
		"row": {
			func(ctx context.Context, _ store.Engine, tab *store.Table[pet]) error {
				_, err := tab.UpdateWhere(ctx, store.Eq("id", "a"), store.Set{"n": 7})
				return err
			},
			func(ctx context.Context, _ store.Engine, tab *store.Table[pet]) error {
				n, err := tab.UpdateWhere(ctx, store.Eq("n", 0), store.Set{"n": store.Increment(1)})
				if n != 1 {
					return fmt.Errorf("%d rows", n)
				}
				return err
			},
			func(t *testing.T, err error) { require.NoError(t, err, "a no longer matches") },
		},
		"name taken": {
			func(ctx context.Context, _ store.Engine, tab *store.Table[pet]) error {
				return tab.Insert(ctx, pet{ID: "x", Name: "same"})
			},
			func(ctx context.Context, _ store.Engine, tab *store.Table[pet]) error {
				return tab.Insert(ctx, pet{ID: "y", Name: "same"})
			},
			func(t *testing.T, err error) { require.True(t, store.IsDuplicate(err, "pets_name"), "%v", err) },
		},
		"name given up": {
			func(ctx context.Context, _ store.Engine, tab *store.Table[pet]) error { return tab.Delete(ctx, "a") },
			func(ctx context.Context, _ store.Engine, tab *store.Table[pet]) error {
				return tab.Insert(ctx, pet{ID: "y", Name: "a"})
			},
			func(t *testing.T, err error) { require.NoError(t, err) },
		},
		"lock": {
			func(ctx context.Context, e store.Engine, _ *store.Table[pet]) error {
				return store.Lock(ctx, e, "k", "j")
			},
			func(ctx context.Context, e store.Engine, _ *store.Table[pet]) error { return store.Lock(ctx, e, "k") },
			func(t *testing.T, err error) { require.NoError(t, err) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, tab := pets(t, memstore.Options{ReadCommitted: true})
				defer e.Close()
				result := make(chan error, 1)
				require.NoError(t, e.InTx(t.Context(), func(ctx context.Context) error {
					require.NoError(t, c.hold(ctx, e, tab))
					go func() {
						result <- e.InTx(t.Context(), func(ctx context.Context) error { return c.want(ctx, e, tab) })
					}()
					synctest.Wait()
					require.Empty(t, result, "the second waits")
					return nil
				}))
				c.check(t, <-result)
			})
		})
	}

	t.Run("ring", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e, _ := pets(t, memstore.Options{ReadCommitted: true})
			defer e.Close()
			result := make(chan error, 1)
			err := e.InTx(t.Context(), func(one context.Context) error {
				require.NoError(t, store.Lock(one, e, "a"))
				go func() {
					result <- e.InTx(t.Context(), func(two context.Context) error {
						require.NoError(t, store.Lock(two, e, "b"))
						return store.Lock(two, e, "a")
					})
				}()
				synctest.Wait()
				return store.Lock(one, e, "b")
			})
			require.ErrorIs(t, err, store.ErrRaced)
			require.NoError(t, <-result)
		})
	})

	t.Run("deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e, tab := pets(t, memstore.Options{ReadCommitted: true, Wait: time.Second})
			defer e.Close()
			require.NoError(t, e.InTx(t.Context(), func(one context.Context) error {
				require.NoError(t, tab.Delete(one, "a"))
				err := e.InTx(t.Context(), func(two context.Context) error { return tab.Delete(two, "a") })
				require.ErrorIs(t, err, nacre.Unavailable)
				require.Contains(t, err.Error(), "memstore_test.go:")
				return nil
			}))
		})
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, tab := pets(t, memstore.Options{})
		closed := make(chan error, 1)
		require.NoError(t, e.InTx(t.Context(), func(ctx context.Context) error {
			go func() { closed <- e.Close() }()
			synctest.Wait()
			require.Empty(t, closed, "Close waits for the transaction")
			return tab.Insert(ctx, pet{ID: "c", Name: "c"})
		}))
		require.NoError(t, <-closed)
		_, err := tab.Get(t.Context(), "a")
		require.ErrorIs(t, err, nacre.Unavailable)
		require.ErrorIs(t, e.InTx(t.Context(), func(context.Context) error { return nil }), nacre.Unavailable)
	})
}
