//go:build realtest

package bunstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/realserver"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/storetest"
)

// postgres gives an engine on a new database.
func postgres(t testing.TB, s *realserver.PostgreSQL, o bunstore.Options) *bunstore.Engine {
	t.Helper()
	e, err := bunstore.OpenPostgres(s.Database(t), o)
	require.NoError(t, err)
	return e
}

func TestPostgresContract(t *testing.T) {
	s := realserver.Postgres(t)
	storetest.Run(t, func(t *testing.T) store.Engine { return postgres(t, s, bunstore.Options{}) })
}

func BenchmarkPostgres(b *testing.B) {
	s := realserver.Postgres(b)
	storetest.Bench(b, func(b *testing.B) store.Engine { return postgres(b, s, bunstore.Options{}) })
}

// Waiting for a row, a name, a lock or a connection has a deadline.
func TestPostgresBusy(t *testing.T) {
	s := realserver.Postgres(t)
	e := postgres(t, s, bunstore.Options{Wait: 200 * time.Millisecond, Conns: 2})
	defer e.Close()
	tab := pets(t, e)
	ctx := t.Context()
	require.NoError(t, e.InTx(ctx, func(in context.Context) error {
		require.NoError(t, store.Lock(in, e, "k"))
		_, err := tab.UpdateWhere(in, store.Eq("id", "a"), store.Set{"name": "x"})
		require.NoError(t, err)

		for name, fn := range map[string]func(ctx context.Context) error{
			"row":  func(ctx context.Context) error { _, err := tab.GetForUpdate(ctx, "a"); return err },
			"name": func(ctx context.Context) error { return tab.Insert(ctx, pet{ID: "x", Name: "x"}) },
			"lock": func(ctx context.Context) error { return store.Lock(ctx, e, "k") },
			"connection": func(context.Context) error {
				err := tab.Insert(ctx, pet{ID: "y", Name: "y"})
				require.ErrorContains(t, err, "postgres_test.go:")
				return err
			},
		} {
			require.ErrorIs(t, e.InTx(ctx, fn), nacre.Unavailable, name)
		}
		_, err = tab.UpdateWhere(ctx, store.Eq("id", "a"), store.Set{"name": "y"})
		require.ErrorIs(t, err, nacre.Unavailable, "a statement alone")
		return nil
	}))
}

// A server that goes away is Unavailable, and one that comes back is used again.
func TestPostgresGone(t *testing.T) {
	s := realserver.Postgres(t)
	e := postgres(t, s, bunstore.Options{Wait: time.Second})
	defer e.Close()
	tab := pets(t, e)
	ctx := t.Context()
	err := store.InTx(ctx, e, func(in context.Context) error {
		require.NoError(t, tab.Insert(in, pet{ID: "b", Name: "b"}))
		s.Stop()
		return tab.Insert(in, pet{ID: "c", Name: "c"})
	})
	require.ErrorIs(t, err, nacre.Unavailable)
	_, err = tab.Get(ctx, "a")
	require.ErrorIs(t, err, nacre.Unavailable)

	s.Start()
	require.Eventually(t, func() bool { _, err := tab.Get(ctx, "a"); return err == nil }, 20*time.Second, 20*time.Millisecond)
	n, err := tab.Count(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

// A server that was away and is back is used at once: connections that died while they
// lay idle cost no statement.
func TestPostgresIdleConnections(t *testing.T) {
	s := realserver.Postgres(t)
	const conns = 6
	e := postgres(t, s, bunstore.Options{Wait: 5 * time.Second, Conns: conns})
	defer e.Close()
	tab := pets(t, e)
	everyConn := func() {
		var wg sync.WaitGroup
		for range conns {
			wg.Go(func() {
				err := e.InTx(t.Context(), func(ctx context.Context) error {
					_, err := tab.Get(ctx, "a")
					return err
				})
				assert.NoError(t, err)
			})
		}
		wg.Wait()
	}
	for range 3 {
		everyConn()
		s.Stop()
		s.Start()
		everyConn()
	}
}
