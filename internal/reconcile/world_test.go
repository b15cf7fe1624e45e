package reconcile_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// thing is what the tests drive to rest.
type thing struct {
	ID    string `store:"id,pk"`
	State string `store:"state"`
	N     int64  `store:"n"`
}

// world is a database with things and work, and the processes on it.
type world struct {
	t      *testing.T
	engine store.Engine
	things *store.Table[thing]
	start  time.Time
}

// onEach runs a test in a bubble of time, on each engine.
func onEach(t *testing.T, test func(w *world)) {
	t.Helper()
	for name, open := range map[string]func(dir string) (store.Engine, error){
		"memstore": func(string) (store.Engine, error) { return memstore.New(memstore.Options{}), nil },
		"readCommitted": func(string) (store.Engine, error) {
			return memstore.New(memstore.Options{ReadCommitted: true}), nil
		},
		"sqlite": func(dir string) (store.Engine, error) {
			return bunstore.OpenSQLite(filepath.Join(dir, "work.db"), bunstore.Options{Synchronous: "OFF"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				e, err := open(dir)
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, e.Close()) })
				w := &world{t: t, engine: e, things: store.NewTable[thing](e, "things"), start: time.Now()}
				require.NoError(t, e.Migrate(t.Context(), &store.Schema{Area: "test", Tables: []*store.TableDef{
					reconcile.Table(), store.Define[thing]("things"),
				}}, true))
				test(w)
			})
		})
	}
}

// proc is one process: a reconciler that runs until stop.
type proc struct {
	*reconcile.Reconciler
	stop func()
}

func (w *world) reconciler(e store.Engine, h reconcile.Handler) *reconcile.Reconciler {
	r := reconcile.New(reconcile.Config{Engine: e, Area: "test"})
	r.Handle("thing", h)
	return r
}

func (w *world) run(r *reconcile.Reconciler) proc {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	return proc{r, func() { cancel(); wg.Wait() }}
}

func (w *world) process(h reconcile.Handler) proc { return w.run(w.reconciler(w.engine, h)) }

// put begins work for a new thing, as an API call does.
func (w *world) put(r *reconcile.Reconciler, id string, b reconcile.Begin) {
	w.t.Helper()
	ctx := nacre.WithCaller(context.Background(), &nacre.Caller{UserID: "u1", RequestID: "req-1", Token: "secret"})
	require.NoError(w.t, store.InTx(ctx, w.engine, func(ctx context.Context) error {
		if err := w.things.Insert(ctx, thing{ID: id, State: "begun"}); err != nil {
			return err
		}
		return r.Put(ctx, "thing", id, b)
	}))
}

// again puts work for a thing that is there.
func (w *world) again(r *reconcile.Reconciler, id string, b reconcile.Begin) {
	w.t.Helper()
	require.NoError(w.t, store.InTx(context.Background(), w.engine, func(ctx context.Context) error {
		return r.Put(ctx, "thing", id, b)
	}))
}

func (w *world) state(id string) string {
	w.t.Helper()
	th, err := w.things.Get(context.Background(), id)
	require.NoError(w.t, err)
	return th.State
}

// set writes a thing's state under the job's lease.
func (w *world) set(ctx context.Context, j *reconcile.Job, state string) error {
	return j.Tx(ctx, func(ctx context.Context) error { return w.write(ctx, j.ObjectID, state) })
}

func (w *world) write(ctx context.Context, id, state string) error {
	_, err := w.things.Update(ctx, id, func(t *thing) error { t.State = state; t.N++; return nil })
	return err
}

// idle is that no work is left.
func (w *world) idle(r *reconcile.Reconciler) {
	w.t.Helper()
	all, err := r.All(context.Background())
	require.NoError(w.t, err)
	require.Empty(w.t, all)
}

func (w *world) since() time.Duration { return time.Since(w.start) }

// pass lets time go on until everything is still.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func steps(m map[string]reconcile.Step) reconcile.Handler {
	return reconcile.Handler{Steps: m, Expire: func(context.Context, *reconcile.Job, error) error { return nil }}
}

func one(f reconcile.Step) reconcile.Handler { return steps(map[string]reconcile.Step{"go": f}) }
