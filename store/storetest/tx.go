package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

var errBoom = errors.New("boom")

func (s suite) tx(t *testing.T) {
	t.Run("commit and rollback", s.visibility)
	t.Run("doomed", s.doomed)
	t.Run("misuse", s.misuse)
	t.Run("runs again", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		runs := 0
		err := store.InTx(ctx, tb.engine, func(ctx context.Context) error {
			runs++
			if err := tb.counters.Insert(ctx, counter{"a", int64(runs)}); err != nil {
				return err
			}
			if runs < 3 {
				return fmt.Errorf("wrapped: %w", store.ErrRaced)
			}
			return nil
		})
		require.NoError(t, err)
		c, err := tb.counters.Get(ctx, "a")
		require.NoError(t, err)
		require.EqualValues(t, 3, c.N)
		runs = 0
		err = store.InTx(ctx, tb.engine, func(context.Context) error { runs++; return store.ErrRaced })
		require.ErrorIs(t, err, nacre.Unavailable)
		require.Equal(t, 5, runs)
	})
	t.Run("panic", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		require.PanicsWithValue(t, "boom", func() {
			_ = store.InTx(ctx, tb.engine, func(ctx context.Context) error {
				_ = tb.counters.Insert(ctx, counter{"a", 1})
				panic("boom")
			})
		})
		require.NoError(t, tb.counters.Insert(ctx, counter{"a", 2}), "the transaction is gone and its row with it")
	})
	t.Run("own writes in indexes", s.ownWrites)
	t.Run("canceled", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		inner, cancel := context.WithCancel(ctx)
		err := store.InTx(inner, tb.engine, func(ctx context.Context) error {
			if err := tb.counters.Insert(ctx, counter{"a", 1}); err != nil {
				return err
			}
			cancel()
			return nil
		})
		require.ErrorIs(t, err, context.Canceled)
		n, err := tb.counters.Count(ctx)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func (s suite) visibility(t *testing.T) {
	tb, ctx := s.fresh(t)
	require.NoError(t, tb.counters.Insert(ctx, counter{"a", 1}, counter{"b", 1}))
	count := func(ctx context.Context, want int) {
		t.Helper()
		vs, err := tb.counters.Where(ctx)
		require.NoError(t, err)
		require.Len(t, vs, want)
	}
	err := store.InTx(ctx, tb.engine, func(in context.Context) error {
		require.True(t, store.Inside(in, tb.engine))
		require.False(t, store.Inside(ctx, tb.engine))
		require.ErrorIs(t, store.Outside(in), store.ErrTx)
		require.NoError(t, tb.counters.Insert(in, counter{"c", 1}))
		require.NoError(t, tb.counters.Delete(in, "a"))
		_, err := tb.counters.Update(in, "b", func(c *counter) error { c.N = 2; return nil })
		require.NoError(t, err)
		count(in, 2)
		_, err = tb.counters.Get(in, "a")
		require.ErrorIs(t, err, store.ErrNoRow, "finding nothing is no failure")
		// Outside, nothing has happened yet, and nobody waits to learn that.
		count(ctx, 2)
		got, err := tb.counters.Get(ctx, "b")
		require.NoError(t, err)
		require.EqualValues(t, 1, got.N)
		_, err = tb.counters.Get(store.Detach(in), "c")
		require.ErrorIs(t, err, store.ErrNoRow)
		return store.InTx(in, tb.engine, func(nested context.Context) error {
			count(nested, 2)
			return tb.counters.Insert(nested, counter{"d", 1})
		})
	})
	require.NoError(t, err)
	count(ctx, 3)

	err = store.InTx(ctx, tb.engine, func(ctx context.Context) error {
		require.NoError(t, tb.counters.Insert(ctx, counter{"e", 1}))
		_, err := tb.counters.DeleteWhere(ctx, store.Eq("id", "b"))
		require.NoError(t, err)
		_, err = tb.counters.UpdateWhere(ctx, store.All(), store.Set{"n": 9})
		require.NoError(t, err)
		return errBoom
	})
	require.ErrorIs(t, err, errBoom)
	vs, err := tb.counters.Where(ctx)
	require.NoError(t, err)
	require.Equal(t, []counter{{"b", 2}, {"c", 1}, {"d", 1}}, vs)
}

// ownWrites makes sure that a transaction's own changes are found, and what it
// removed or changed is not, whatever path a condition takes.
func (s suite) ownWrites(t *testing.T) {
	tb, ctx := s.fresh(t)
	require.NoError(t, tb.things.Insert(ctx,
		thing{ID: "1", Owner: "o", Name: ptr("a"), Kind: "k", Size: 1}, thing{ID: "2", Owner: "o", Name: ptr("b"), Kind: "k", Size: 2},
		thing{ID: "3", Owner: "p", Name: ptr("c"), Kind: "l", Size: 3}))
	err := store.InTx(ctx, tb.engine, func(ctx context.Context) error {
		require.NoError(t, tb.things.Delete(ctx, "1"))
		require.NoError(t, tb.things.Insert(ctx, thing{ID: "0", Owner: "o", Name: ptr("a"), Kind: "k", Size: 5}), "the name is free again")
		_, err := tb.things.Update(ctx, "2", func(v *thing) error { v.Kind, v.Name = "l", ptr("c"); return nil })
		require.NoError(t, err)
		require.NoError(t, tb.things.Insert(ctx, thing{ID: "4", Owner: "o", Name: ptr("b"), Kind: "m"}))
		for _, c := range []struct {
			w    store.Where
			want []string
		}{
			{store.All(), []string{"0", "2", "3", "4"}},
			{store.Eq("kind", "k"), []string{"0"}},
			{store.Eq("kind", "l"), []string{"2", "3"}},
			{store.And(store.Eq("owner", "o"), store.Eq("name", "a")), []string{"0"}},
			{store.And(store.Eq("owner", "o"), store.Eq("name", "b")), []string{"4"}},
			{store.In("id", []string{"1", "2"}), []string{"2"}},
			{store.Or(store.Eq("kind", "m"), store.Eq("owner", "o")), []string{"0", "2", "4"}},
			{store.Greater("size", 1), []string{"0", "2", "3"}},
		} {
			got, err := tb.things.Where(ctx, c.w)
			require.NoError(t, err)
			require.Equal(t, c.want, thingIDs(got), "%+v", c.w)
		}
		page, err := tb.things.Page(ctx, store.Select{Limit: 2}, "0")
		require.NoError(t, err)
		require.Equal(t, []string{"2", "3"}, thingIDs(page))
		require.NoError(t, tb.things.Delete(ctx, "0"))
		require.NoError(t, tb.things.Insert(ctx, thing{ID: "1", Owner: "o", Name: ptr("a")}), "a row may come back")
		return nil
	})
	require.NoError(t, err)
	got, err := tb.things.Where(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "3", "4"}, thingIDs(got))
}

func (s suite) doomed(t *testing.T) {
	tb, ctx := s.fresh(t)
	require.NoError(t, tb.parts.Insert(ctx, part{ID: "a", Label: "taken"}))
	for name, fail := range map[string]func(ctx context.Context) error{
		"duplicate": func(ctx context.Context) error { return tb.parts.Insert(ctx, part{ID: "b", Label: "taken"}) },
		"key":       func(ctx context.Context) error { return tb.parts.Insert(ctx, part{ID: "a", Label: "new"}) },
		"input": func(ctx context.Context) error {
			_, err := tb.parts.Where(ctx, store.Eq("nope", 1))
			return err
		},
		"canceled": func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, err := tb.parts.Where(ctx)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := store.InTx(ctx, tb.engine, func(ctx context.Context) error {
				require.NoError(t, tb.parts.Insert(ctx, part{ID: "before", Label: "before"}))
				require.Error(t, fail(ctx))
				_, err := tb.parts.Get(ctx, "a")
				require.ErrorIs(t, err, store.ErrTx)
				err = tb.parts.Insert(ctx, part{ID: "after", Label: "after"})
				require.ErrorIs(t, err, store.ErrTx)
				require.False(t, store.IsDuplicate(err), "the later error is not the first one again")
				return nil // as if nothing were wrong
			})
			require.ErrorIs(t, err, store.ErrTx)
			vs, err := tb.parts.Where(ctx)
			require.NoError(t, err)
			require.Len(t, vs, 1)
		})
	}
}

func (s suite) misuse(t *testing.T) {
	tb, ctx := s.fresh(t)
	var finished context.Context
	require.NoError(t, store.InTx(ctx, tb.engine, func(ctx context.Context) error {
		finished = ctx
		return nil
	}))
	def := tb.counters.Def()
	for name, call := range map[string]func(ctx context.Context, e store.Engine) error{
		"get":       func(ctx context.Context, e store.Engine) error { _, err := e.Get(ctx, def, "a", false); return err },
		"lockedGet": func(ctx context.Context, e store.Engine) error { _, err := e.Get(ctx, def, "a", true); return err },
		"select": func(ctx context.Context, e store.Engine) error {
			_, err := e.Select(ctx, def, store.Select{})
			return err
		},
		"aggregate": func(ctx context.Context, e store.Engine) error {
			_, err := e.Aggregate(ctx, def, store.Aggregate{})
			return err
		},
		"insert": func(ctx context.Context, e store.Engine) error {
			return e.Insert(ctx, def, []store.Row{{Values: []any{"a", int64(1)}}})
		},
		"update": func(ctx context.Context, e store.Engine) error {
			_, err := e.Update(ctx, def, store.All(), store.Set{"n": int64(1)})
			return err
		},
		"delete": func(ctx context.Context, e store.Engine) error { _, err := e.Delete(ctx, def, store.All()); return err },
		"lock":   func(ctx context.Context, e store.Engine) error { return e.Lock(ctx, []string{"k"}) },
		"inTx": func(ctx context.Context, e store.Engine) error {
			return e.InTx(ctx, func(context.Context) error { return nil })
		},
	} {
		require.ErrorIs(t, call(finished, tb.engine), store.ErrTx, "%s in a finished transaction", name)
		other, _ := s.fresh(t)
		_ = store.InTx(ctx, other.engine, func(ctx context.Context) error {
			require.ErrorIs(t, call(ctx, tb.engine), store.ErrTx, "%s in another engine's transaction", name)
			return nil
		})
	}
	require.ErrorIs(t, store.Lock(ctx, tb.engine, "k"), store.ErrTx)
	_, err := tb.counters.GetForUpdate(ctx, "a")
	require.ErrorIs(t, err, store.ErrTx)
	_, err = tb.counters.Select(ctx, store.Select{ForUpdate: true})
	require.ErrorIs(t, err, store.ErrTx)
	require.NoError(t, store.InTx(ctx, tb.engine, func(ctx context.Context) error {
		require.ErrorIs(t, tb.engine.InTx(ctx, func(context.Context) error { return nil }), store.ErrTx)
		return nil
	}))
	n, err := tb.counters.Count(ctx)
	require.NoError(t, err)
	require.Zero(t, n)
}

// together runs n goroutines and gives their errors.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func (s suite) concurrent(t *testing.T) {
	t.Run("counters", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		require.NoError(t, tb.counters.Insert(ctx, counter{"update", 0}, counter{"lock", 0}, counter{"increment", 0}))
		for _, err := range together(6, func(i int) error {
			for range 15 {
				_, err := tb.counters.Update(ctx, "update", func(c *counter) error { c.N++; return nil })
				if err != nil {
					return err
				}
				err = store.InTx(ctx, tb.engine, func(ctx context.Context) error {
					if err := store.Lock(ctx, tb.engine, "z", "a"); err != nil {
						return err
					}
					c, err := tb.counters.Get(ctx, "lock")
					if err != nil {
						return err
					}
					_, err = tb.counters.UpdateWhere(ctx, store.Eq("id", "lock"), store.Set{"n": c.N + 1})
					return err
				})
				if err != nil {
					return err
				}
				if _, err := tb.counters.UpdateWhere(ctx, store.Eq("id", "increment"), store.Set{"n": store.Increment(1)}); err != nil {
					return err
				}
			}
			return nil
		}) {
			require.NoError(t, err)
		}
		vs, err := tb.counters.Where(ctx)
		require.NoError(t, err)
		require.Equal(t, []counter{{"increment", 90}, {"lock", 90}, {"update", 90}}, vs)
	})

	t.Run("one of many wins a compare-and-swap", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		require.NoError(t, tb.counters.Insert(ctx, counter{"a", 0}))
		def := tb.counters.Def()
		for range 20 {
			row, err := tb.engine.Get(ctx, def, "a", false)
			require.NoError(t, err)
			var mu sync.Mutex
			var won int64
			for _, err := range together(6, func(i int) error {
				n, err := tb.engine.Update(ctx, def, store.And(store.Eq("id", "a"), store.Eq(store.RevColumn, row.Rev)), store.Set{"n": int64(i)})
				mu.Lock()
				won += n
				mu.Unlock()
				return err
			}) {
				require.NoError(t, err)
			}
			require.EqualValues(t, 1, won)
		}
	})

	t.Run("one of many gets a name", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		for round := range 10 {
			won := 0
			for _, err := range together(6, func(i int) error {
				return store.InTx(ctx, tb.engine, func(ctx context.Context) error {
					return tb.parts.Insert(ctx, part{ID: fmt.Sprint(round, "-", i), Label: fmt.Sprint(round)})
				})
			}) {
				if err == nil {
					won++
				} else {
					require.True(t, store.IsDuplicate(err, "parts_label"), "%v", err)
				}
			}
			require.Equal(t, 1, won)
		}
	})

	t.Run("a limit holds under its lock", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		full := errors.New("full")
		won := 0
		for _, err := range together(30, func(i int) error {
			return store.InTx(ctx, tb.engine, func(ctx context.Context) error {
				if err := store.Lock(ctx, tb.engine, "quota/p"); err != nil {
					return err
				}
				n, err := tb.parts.Count(ctx, store.Eq("thing_id", "p"))
				if err != nil {
					return err
				}
				if n >= 10 {
					return full
				}
				return tb.parts.Insert(ctx, part{ID: fmt.Sprint(i), Thing: "p", Label: fmt.Sprint(i)})
			})
		}) {
			if err == nil {
				won++
			} else {
				require.ErrorIs(t, err, full)
			}
		}
		require.Equal(t, 10, won)
	})

	t.Run("each claims other rows", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		for i := range 40 {
			require.NoError(t, tb.counters.Insert(ctx, counter{fmt.Sprintf("%02d", i), 0}))
		}
		var mu sync.Mutex
		seen := map[string]int{}
		for _, err := range together(4, func(int) error {
			for range 50 {
				var mine []counter
				err := store.InTx(ctx, tb.engine, func(ctx context.Context) (err error) {
					if mine, err = tb.counters.Select(ctx, store.Select{Where: store.Eq("n", 0), Limit: 3, ForUpdate: true}); err != nil || len(mine) == 0 {
						return err
					}
					_, err = tb.counters.UpdateWhere(ctx, store.In("id", ids(mine, func(c counter) string { return c.ID })), store.Set{"n": 1})
					return err
				})
				if err != nil {
					return err
				}
				mu.Lock()
				for _, c := range mine {
					seen[c.ID]++
				}
				mu.Unlock()
			}
			return nil
		}) {
			require.NoError(t, err)
		}
		require.Len(t, seen, 40)
		for id, n := range seen {
			require.Equal(t, 1, n, id)
		}
	})

	t.Run("crossing transactions end", func(t *testing.T) {
		tb, ctx := s.fresh(t)
		require.NoError(t, tb.counters.Insert(ctx, counter{"a", 0}, counter{"b", 0}))
		for _, err := range together(4, func(i int) error {
			first, second := "a", "b"
			if i%2 == 1 {
				first, second = second, first
			}
			for range 10 {
				err := store.InTx(ctx, tb.engine, func(ctx context.Context) error {
					for _, id := range []string{first, second} {
						if _, err := tb.counters.Update(ctx, id, func(c *counter) error { c.N++; return nil }); err != nil {
							return err
						}
					}
					return nil
				})
				// Lost races may be lost too often; half a transaction is never seen.
				if err != nil && !errors.Is(err, nacre.Unavailable) {
					return err
				}
			}
			return nil
		}) {
			require.NoError(t, err)
		}
		vs, err := tb.counters.Where(ctx)
		require.NoError(t, err)
		require.Equal(t, vs[0].N, vs[1].N)
		require.Positive(t, vs[0].N)
	})
}
