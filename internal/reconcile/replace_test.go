package reconcile_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/reconcile"
)

// What replaces work waits, in any process, until the step that runs has ended: it may
// have something under way outside that the new work is to clear away. A step whose
// process is dead is waited for until its lease lapses.
func TestReplacingWaitsForTheStep(t *testing.T) {
	onEach(t, func(w *world) {
		var order []string
		end := make(chan struct{})
		h := func(name string) reconcile.Handler {
			return steps(map[string]reconcile.Step{
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
