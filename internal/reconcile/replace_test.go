package reconcile_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// What replaces work waits, in any process, until the step that runs has ended: it may
// have something under way outside that the new work is to clear away. A step whose
// process is dead is waited for until its lease lapses.
func TestReplacingWaitsForTheStep(t *testing.T) {
	onEach(t, func(w *world) {
		var order []string
		end := make(chan struct{})
		h := func(name string) reconcile.Handler {
			h := steps(map[string]reconcile.Step{
				"create": func(_ context.Context, j *reconcile.Job) (reconcile.Next, error) {
					<-end // it does not heed its context
					order = append(order, "created by "+name)
					return reconcile.Done(), nil
				},
				"delete": func(context.Context, *reconcile.Job) (reconcile.Next, error) {
					order = append(order, "deleted")
					return reconcile.Done(), nil
				},
			})
			h.Expire = func(context.Context, *reconcile.Job, error) error {
				order = append(order, "expired")
				return nil
			}
			return h
		}
		one := w.process(h("one"))
		w.put(one.Reconciler, "a", reconcile.Begin{Step: "create"})
		synctest.Wait()
		two := w.process(h("two"))
		w.again(two.Reconciler, "a", reconcile.Begin{Step: "delete"})
		pass(5 * time.Second)
		require.Empty(w.t, order)
		close(end)
		pass(2 * time.Second)
		require.Equal(w.t, []string{"created by one", "deleted"}, order)
		w.idle(two.Reconciler)

		// Nor does work that is dropped between the two end the wait: it counts as none,
		// and what follows waits all the same.
		for name, follow := range map[string]func(id string){
			"put": func(id string) { w.again(two.Reconciler, id, reconcile.Begin{Step: "delete"}) },
			"poke": func(id string) {
				require.NoError(w.t, store.InTx(context.Background(), w.engine, func(ctx context.Context) error {
					return two.Poke(ctx, "thing", id, reconcile.Begin{Step: "delete"})
				}))
			},
			"poke all": func(id string) {
				require.NoError(w.t, store.InTx(context.Background(), w.engine, func(ctx context.Context) error {
					return two.PokeAll(ctx, "thing", []string{id}, reconcile.Begin{Step: "delete"})
				}))
			},
			"none": func(string) {},
		} {
			order, end = nil, make(chan struct{})
			w.put(one.Reconciler, name, reconcile.Begin{Step: "create", Within: time.Second})
			synctest.Wait()
			require.NoError(w.t, store.InTx(context.Background(), w.engine, func(ctx context.Context) error {
				return two.Drop(ctx, "thing", name)
			}))
			_, pending, err := two.Pending(context.Background(), "thing", name)
			require.NoError(w.t, err)
			require.False(w.t, pending)
			w.idle(two.Reconciler)
			require.NoError(w.t, two.Wake(context.Background(), "thing", name))
			follow(name)
			pass(5 * time.Second)
			require.Empty(w.t, order)
			close(end)
			pass(2 * time.Second)
			want := []string{"created by one", "deleted"}
			if name == "none" {
				want = want[:1]
			}
			require.Equal(w.t, want, order)
			rows, err := store.NewTable[reconcile.Work](w.engine, "work").Where(context.Background())
			require.NoError(w.t, err)
			require.Empty(w.t, rows)
		}
		order = make([]string, 2)

		// A worker that hangs beyond its lease is not waited for.
		end = make(chan struct{})
		w.put(one.Reconciler, "b", reconcile.Begin{Step: "create"})
		pass(2 * time.Second)
		w.again(two.Reconciler, "b", reconcile.Begin{Step: "delete"})
		pass(20 * time.Second)
		require.Len(w.t, order, 2)
		pass(20 * time.Second)
		require.Len(w.t, order, 3)
		require.Equal(w.t, "deleted", order[2])
		close(end)
		one.stop()
		two.stop()
	})
}
