package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

type data struct{ N int }

// Steps follow each other at once, with the handler's data and the caller who
// began the work, but not the caller's token.
func TestSteps(t *testing.T) {
	onEach(t, func(w *world) {
		var seen []string
		p := w.process(steps(map[string]reconcile.Step{
			"first": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
				c := nacre.CallerFrom(ctx)
				seen = append(seen, j.Step, c.UserID, c.RequestID, c.Token)
				var d data
				require.NoError(w.t, j.Decode(&d))
				d.N++
				return reconcile.Goto("second").With(d), w.set(ctx, j, "half")
			},
			"second": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
				var d data
				require.NoError(w.t, j.Decode(&d))
				seen = append(seen, j.Step, fmt.Sprint(d.N), w.state(j.ObjectID))
				return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error { return w.write(ctx, j.ObjectID, "done") })
			},
		}))
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "first", Data: data{41}})
		pass(0)
		require.Equal(w.t, []string{"first", "u1", "req-1", "", "second", "42", "half"}, seen)
		require.Equal(w.t, "done", w.state("a"))
		require.Zero(w.t, w.since(), "a put wakes the worker")
		w.idle(p.Reconciler)
		p.stop()
	})
}

// A failed commit leaves neither the write nor the next step.
func TestCommitIsOne(t *testing.T) {
	onEach(t, func(w *world) {
		tries := 0
		p := w.process(one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
			tries++
			return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error {
				if err := w.write(ctx, j.ObjectID, fmt.Sprint(tries)); err != nil {
					return err
				}
				if tries < 3 {
					return errors.New("not yet")
				}
				return nil
			})
		}))
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "go"})
		pass(10 * time.Millisecond)
		require.Equal(w.t, "begun", w.state("a"))
		work, ok, err := p.Pending(context.Background(), "thing", "a")
		require.NoError(w.t, err)
		require.True(w.t, ok)
		require.Equal(w.t, "not yet", work.LastError)
		require.Equal(w.t, 1, work.Tries)
		pass(5 * time.Second)
		require.Equal(w.t, "3", w.state("a"))
		w.idle(p.Reconciler)
		p.stop()
	})
}

func TestPutNeedsTransactionAndStep(t *testing.T) {
	onEach(t, func(w *world) {
		r := w.reconciler(w.engine, one(nil))
		ctx := context.Background()
		require.ErrorIs(w.t, r.Put(ctx, "thing", "a", reconcile.Begin{Step: "go"}), store.ErrTx)
		require.ErrorIs(w.t, r.Poke(ctx, "thing", "a", reconcile.Begin{Step: "go"}), store.ErrTx)
		require.ErrorIs(w.t, r.Drop(ctx, "thing", "a"), store.ErrTx)
		require.ErrorIs(w.t, r.Hold(ctx, "thing", "a"), store.ErrTx)
		require.NoError(w.t, r.Wake(ctx, "thing", "a"), "a hint")
		for _, kind := range []string{"thing", "other"} {
			require.Error(w.t, store.InTx(ctx, w.engine, func(ctx context.Context) error {
				return r.Put(ctx, kind, "a", reconcile.Begin{Step: "nosuch"})
			}))
		}
		w.idle(r)
		// Work of a transaction that rolls back never was.
		require.Error(w.t, store.InTx(ctx, w.engine, func(ctx context.Context) error {
			r := w.reconciler(w.engine, one(func(context.Context, *reconcile.Job) (reconcile.Next, error) { return reconcile.Done(), nil }))
			require.NoError(w.t, r.Put(ctx, "thing", "a", reconcile.Begin{Step: "go"}))
			return errors.New("no")
		}))
		w.idle(r)
	})
}

func TestDrop(t *testing.T) {
	onEach(t, func(w *world) {
		ran := new(atomic.Int64)
		p := w.process(one(func(context.Context, *reconcile.Job) (reconcile.Next, error) {
			ran.Add(1)
			return reconcile.Done(), nil
		}))
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "go", After: time.Minute})
		require.NoError(w.t, store.InTx(context.Background(), w.engine, func(ctx context.Context) error {
			return errors.Join(p.Drop(ctx, "thing", "a"), p.Drop(ctx, "thing", "none"))
		}))
		pass(time.Hour)
		require.Zero(w.t, ran.Load())
		p.stop()
	})
}

// After and Again are kept to the moment, not to the next poll.
func TestDue(t *testing.T) {
	onEach(t, func(w *world) {
		var at []time.Duration
		p := w.process(one(func(context.Context, *reconcile.Job) (reconcile.Next, error) {
			at = append(at, w.since())
			return []reconcile.Next{reconcile.Again(30 * time.Millisecond), reconcile.Again(5 * time.Second), reconcile.Done()}[len(at)-1], nil
		}))
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "go", After: 300 * time.Millisecond})
		pass(time.Minute)
		require.Len(w.t, at, 3)
		require.Equal(w.t, 300*time.Millisecond, at[0])
		require.Equal(w.t, 330*time.Millisecond, at[1])
		require.InDelta(w.t, float64(at[1]+5*time.Second), float64(at[2]), float64(time.Second))
		p.stop()
	})
}

// A wake during a step isn't lost, whatever the step returns.
func TestWakeDuringStep(t *testing.T) {
	for name, next := range map[string]reconcile.Next{"done": reconcile.Done(), "again": reconcile.Again(time.Hour)} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(w *world) {
				var runs atomic.Int64
				inside, goOn := make(chan struct{}), make(chan struct{})
				p := w.process(one(func(context.Context, *reconcile.Job) (reconcile.Next, error) {
					if runs.Add(1) == 1 {
						close(inside)
						<-goOn
						return next, nil
					}
					return reconcile.Done(), nil
				}))
				w.put(p.Reconciler, "a", reconcile.Begin{Step: "go"})
				<-inside
				require.NoError(w.t, p.Wake(context.Background(), "thing", "a"))
				close(goOn)
				pass(0)
				require.EqualValues(w.t, 2, runs.Load())
				w.idle(p.Reconciler)
				p.stop()
			})
		})
	}
}

// A wake cuts a wait short, also the one after a failure.
func TestWakeWhileWaiting(t *testing.T) {
	onEach(t, func(w *world) {
		var runs atomic.Int64
		p := w.process(one(func(context.Context, *reconcile.Job) (reconcile.Next, error) {
			if runs.Add(1) < 3 {
				return reconcile.Again(time.Hour), nil
			}
			return reconcile.Done(), nil
		}))
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "go"})
		pass(time.Second)
		require.EqualValues(w.t, 1, runs.Load())
		require.NoError(w.t, p.Wake(context.Background(), "thing", "a"))
		pass(0)
		require.EqualValues(w.t, 2, runs.Load())
		require.NoError(w.t, store.InTx(context.Background(), w.engine, func(ctx context.Context) error {
			return p.Poke(ctx, "thing", "a", reconcile.Begin{Step: "go"})
		}))
		pass(0)
		require.EqualValues(w.t, 3, runs.Load())
		w.idle(p.Reconciler)
		p.stop()
	})
}

// Poke leaves the lease with the running step, and puts work where there is none.
func TestPoke(t *testing.T) {
	onEach(t, func(w *world) {
		var runs atomic.Int64
		inside, goOn := make(chan struct{}), make(chan struct{})
		p := w.process(one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
			if runs.Add(1) == 1 {
				close(inside)
				<-goOn
			}
			return reconcile.Done(), w.set(ctx, j, fmt.Sprint(runs.Load()))
		}))
		require.NoError(w.t, w.things.Insert(context.Background(), thing{ID: "a"}))
		poke := func() {
			require.NoError(w.t, store.InTx(context.Background(), w.engine, func(ctx context.Context) error {
				return p.Poke(ctx, "thing", "a", reconcile.Begin{Step: "go"})
			}))
		}
		poke()
		<-inside
		poke()
		poke()
		close(goOn)
		pass(0)
		require.EqualValues(w.t, 2, runs.Load(), "two pokes during a step are one more look")
		require.Equal(w.t, "2", w.state("a"))
		w.idle(p.Reconciler)
		p.stop()
	})
}

// Work that is put over running work takes the lease away: the old step can't
// write any more, its context ends, and the new work goes on.
func TestPutReplaces(t *testing.T) {
	onEach(t, func(w *world) {
		inside := make(chan struct{})
		var lost error
		p := w.process(steps(map[string]reconcile.Step{
			"create": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
				close(inside)
				<-ctx.Done()
				lost = j.Tx(context.WithoutCancel(ctx), func(context.Context) error { return w.write(ctx, "a", "created") })
				return reconcile.Done(), nil
			},
			"delete": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
				return reconcile.Done(), w.set(ctx, j, "deleted")
			},
		}))
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "create"})
		<-inside
		w.again(p.Reconciler, "a", reconcile.Begin{Step: "delete"})
		pass(11 * time.Second) // a third of the lease
		require.ErrorIs(w.t, lost, reconcile.ErrLost)
		require.Equal(w.t, "deleted", w.state("a"))
		w.idle(p.Reconciler)
		p.stop()
	})
}

// A failing step waits longer each time, up to a bound, with jitter.
func TestBackOff(t *testing.T) {
	onEach(t, func(w *world) {
		var at []time.Duration
		p := w.process(one(func(context.Context, *reconcile.Job) (reconcile.Next, error) {
			at = append(at, w.since())
			if len(at) == 12 {
				return reconcile.Done(), nil
			}
			return reconcile.Next{}, errors.New("bad bytes \xff and \x00")
		}))
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "go"})
		pass(time.Second)
		work, ok, err := p.Pending(context.Background(), "thing", "a")
		require.NoError(w.t, err)
		require.True(w.t, ok)
		require.Equal(w.t, "bad bytes \uFFFD and \uFFFD", work.LastError)
		pass(10 * time.Minute)
		require.Len(w.t, at, 12)
		want := 200 * time.Millisecond
		for i := 1; i < len(at); i++ {
			gap := at[i] - at[i-1]
			require.GreaterOrEqual(w.t, gap, want/2, "try %d", i)
			require.LessOrEqual(w.t, gap, want+time.Second, "try %d: the wait, and a poll", i)
			want = min(2*want, 10*time.Second)
		}
		p.stop()
	})
}

func TestPanicIsAFailure(t *testing.T) {
	onEach(t, func(w *world) {
		runs := 0
		p := w.process(one(func(context.Context, *reconcile.Job) (reconcile.Next, error) {
			if runs++; runs == 1 {
				panic("oops")
			}
			return reconcile.Done(), nil
		}))
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "go"})
		pass(3 * time.Second)
		require.Equal(w.t, 2, runs)
		w.idle(p.Reconciler)
		p.stop()
	})
}

// At most Workers steps at once, and none is forgotten.
func TestWorkers(t *testing.T) {
	onEach(t, func(w *world) {
		var now, most, ran atomic.Int64
		r := reconcile.New(reconcile.Config{Engine: w.engine, Area: "test", Workers: 3})
		r.Handle("thing", one(func(context.Context, *reconcile.Job) (reconcile.Next, error) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(10 * time.Millisecond)
			now.Add(-1)
			ran.Add(1)
			return reconcile.Done(), nil
		}))
		p := w.run(r)
		for i := range 50 {
			w.put(r, fmt.Sprint(i), reconcile.Begin{Step: "go"})
		}
		pass(time.Second)
		require.EqualValues(w.t, 50, ran.Load())
		require.EqualValues(w.t, 3, most.Load())
		w.idle(r)
		p.stop()
	})
}

// Two processes on one table: each piece of work is done once.
func TestTwoProcesses(t *testing.T) {
	onEach(t, func(w *world) {
		var mu sync.Mutex
		done := map[string]int{}
		h := one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
			time.Sleep(time.Millisecond)
			mu.Lock()
			done[j.ObjectID]++
			mu.Unlock()
			return reconcile.Done(), w.set(ctx, j, "done")
		})
		a, b := w.process(h), w.process(h)
		for i := range 60 {
			w.put(a.Reconciler, fmt.Sprint(i), reconcile.Begin{Step: "go"})
			b.Kick()
		}
		pass(time.Minute)
		w.idle(a.Reconciler)
		a.stop()
		b.stop()
		require.Len(w.t, done, 60)
		for id, n := range done {
			require.Equal(w.t, 1, n, id)
		}
		n, err := w.things.Count(context.Background(), store.Eq("state", "done"), store.Eq("n", 1))
		require.NoError(w.t, err)
		require.EqualValues(w.t, 60, n)
	})
}

// Work of an unknown kind is left alone; an unknown step waits for its deadline.
func TestNewerProgram(t *testing.T) {
	onEach(t, func(w *world) {
		newer := w.reconciler(w.engine, steps(map[string]reconcile.Step{
			"new": func(context.Context, *reconcile.Job) (reconcile.Next, error) { return reconcile.Done(), nil },
		}))
		newer.Handle("novelty", one(func(context.Context, *reconcile.Job) (reconcile.Next, error) { return reconcile.Done(), nil }))
		var cause error
		old := w.process(reconcile.Handler{
			Steps: map[string]reconcile.Step{"old": nil},
			Expire: func(_ context.Context, _ *reconcile.Job, err error) error {
				cause = err
				return nil
			},
		})
		require.NoError(w.t, store.InTx(context.Background(), w.engine, func(ctx context.Context) error {
			return errors.Join(newer.Put(ctx, "thing", "a", reconcile.Begin{Step: "new", Within: time.Minute}),
				newer.Put(ctx, "novelty", "b", reconcile.Begin{Step: "go"}))
		}))
		pass(30 * time.Second)
		waiting, ok, err := old.Pending(context.Background(), "thing", "a")
		require.NoError(w.t, err)
		require.True(w.t, ok)
		require.Empty(w.t, waiting.Cause)
		pass(40 * time.Second)
		require.ErrorContains(w.t, cause, `timed out in step new: unknown step "new"`)
		work, ok, err := old.Pending(context.Background(), "novelty", "b")
		require.NoError(w.t, err)
		require.True(w.t, ok)
		require.Zero(w.t, work.Tries)
		old.stop()
		p := w.run(newer)
		synctest.Wait()
		w.idle(newer)
		p.stop()
	})
}
