package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store"
)

// Faulty wraps an engine so that before asks permission for each call: an error
// is the call's answer, and the engine never learns of it. In a transaction it
// also dooms that transaction, as a statement's failure does.
//
// op is "migrate", "get", "select", "aggregate", "insert", "update", "delete" or
// "lock", with the table's name; or "begin", "commit" (an error rolls back) and
// "committed" (the commit happened, but the caller never learns) with "". A test
// that crashes after every store call counts calls and, from the n-th on,
// returns an error for all of them, n = 1, 2, … until a run sees no error.
func Faulty(e store.Engine, before func(op, table string) error) store.Engine {
	return &faulty{e, before}
}

type faulty struct {
	store.Engine
	before func(op, table string) error
}

// Unwrap lets package store find the engine beneath.
func (f *faulty) Unwrap() store.Engine { return f.Engine }

type faultKey struct{}

// ask asks before; in a transaction a refusal is kept for the commit.
func (f *faulty) ask(ctx context.Context, op, table string) error {
	kept, _ := ctx.Value(faultKey{}).(*error)
	if kept != nil && *kept != nil {
		return *kept
	}
	err := f.before(op, table)
	if err != nil && kept != nil {
		*kept = err
	}
	return err
}

func (f *faulty) Migrate(ctx context.Context, s *store.Schema, apply bool) error {
	if err := f.ask(ctx, "migrate", s.Area); err != nil {
		return err
	}
	return f.Engine.Migrate(ctx, s, apply)
}

func (f *faulty) Get(ctx context.Context, t *store.TableDef, id string, forUpdate bool) (store.Row, error) {
	if err := f.ask(ctx, "get", t.Name); err != nil {
		return store.Row{}, err
	}
	return f.Engine.Get(ctx, t, id, forUpdate)
}

func (f *faulty) Select(ctx context.Context, t *store.TableDef, q store.Select) ([]store.Row, error) {
	if err := f.ask(ctx, "select", t.Name); err != nil {
		return nil, err
	}
	return f.Engine.Select(ctx, t, q)
}

func (f *faulty) Aggregate(ctx context.Context, t *store.TableDef, q store.Aggregate) ([]store.Group, error) {
	if err := f.ask(ctx, "aggregate", t.Name); err != nil {
		return nil, err
	}
	return f.Engine.Aggregate(ctx, t, q)
}

func (f *faulty) Insert(ctx context.Context, t *store.TableDef, rows []store.Row) error {
	if err := f.ask(ctx, "insert", t.Name); err != nil {
		return err
	}
	return f.Engine.Insert(ctx, t, rows)
}

func (f *faulty) Update(ctx context.Context, t *store.TableDef, w store.Where, set store.Set) (int64, error) {
	if err := f.ask(ctx, "update", t.Name); err != nil {
		return 0, err
	}
	return f.Engine.Update(ctx, t, w, set)
}

func (f *faulty) Delete(ctx context.Context, t *store.TableDef, w store.Where) (int64, error) {
	if err := f.ask(ctx, "delete", t.Name); err != nil {
		return 0, err
	}
	return f.Engine.Delete(ctx, t, w)
}

func (f *faulty) Lock(ctx context.Context, keys []string) error {
	if err := f.ask(ctx, "lock", ""); err != nil {
		return err
	}
	return f.Engine.Lock(ctx, keys)
}

func (f *faulty) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if err := f.ask(ctx, "begin", ""); err != nil {
		return err
	}
	err := f.Engine.InTx(ctx, func(ctx context.Context) error {
		ctx = context.WithValue(ctx, faultKey{}, new(error))
		if err := fn(ctx); err != nil {
			return err
		}
		return f.ask(ctx, "commit", "")
	})
	if err != nil {
		return err
	}
	return f.ask(ctx, "committed", "")
}

// faulty tests Faulty itself: a transaction cut off at any call leaves all or
// nothing.
func (s suite) faulty(t *testing.T) {
	crashed := fmt.Errorf("crashed")
	for n := 1; ; n++ {
		tb, ctx := s.fresh(t)
		calls := 0
		bad := on(Faulty(tb.engine, func(string, string) error {
			if calls++; calls >= n {
				return crashed
			}
			return nil
		}))
		err := store.InTx(ctx, bad.engine, func(ctx context.Context) error {
			if err := bad.counters.Insert(ctx, counter{"a", 1}); err != nil {
				return err
			}
			// A caller that swallows the failure does not get to commit either.
			_, _ = bad.counters.Update(ctx, "a", func(c *counter) error { c.N = 2; return nil })
			return nil
		})
		vs, serr := tb.counters.Where(ctx)
		require.NoError(t, serr)
		if err == nil {
			require.Equal(t, []counter{{"a", 2}}, vs)
			require.Equal(t, 7, n, "begin, insert, get, update, commit, committed were each refused once")
			return
		}
		require.ErrorIs(t, err, crashed)
		if n == 6 {
			require.Equal(t, []counter{{"a", 2}}, vs, "committed, unknown to the caller")
		} else {
			require.Empty(t, vs)
		}
	}
}
