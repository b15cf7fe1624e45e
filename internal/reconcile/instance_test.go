package reconcile_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/internal/reconcile"
)

// What a process had in hand that was killed goes on soon after one of its name runs
// again, and not when the lease lapses; what others have stays with them.
func TestInstance(t *testing.T) {
	onEach(t, func(w *world) {
		hang := make(chan struct{})
		var mu sync.Mutex
		var order []string
		process := func(instance, name string) proc {
			r := reconcile.New(reconcile.Config{Engine: w.engine, Area: "test", Instance: instance, Workers: 1})
			r.Handle("thing", one(func(_ context.Context, j *reconcile.Job) (reconcile.Next, error) {
				if name == "dead" || name == "busy" {
					<-hang
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name+" "+j.ObjectID)
				return reconcile.Done(), nil
			}))
			return w.run(r)
		}
		// It can't be killed: its step hangs, so that it holds what it has.
		dead := process("copy1", "dead")
		w.put(dead.Reconciler, "a", reconcile.Begin{Step: "go"})
		synctest.Wait()
		busy := process("copy10", "busy")
		w.put(busy.Reconciler, "b", reconcile.Begin{Step: "go"})
		synctest.Wait()
		again := process("copy1", "again")
		pass(4 * time.Second)
		require.Empty(w.t, order, "what the dead one asked of others may be under way")
		pass(3 * time.Second)
		require.Equal(w.t, []string{"again a"}, order)
		close(hang)
		pass(time.Second)
		require.Contains(w.t, order, "busy b")
		w.idle(again.Reconciler)
		dead.stop()
		busy.stop()
		again.stop()
	})
}
