package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/storetest"
)

var errCrash = errors.New("crashed")

// A step that waits too long is given up at its deadline.
func TestDeadline(t *testing.T) {
	onEach(t, func(w *world) {
		var cause error
		var at time.Duration
		p := w.process(reconcile.Handler{
			Steps: map[string]reconcile.Step{"wait": func(context.Context, *reconcile.Job) (reconcile.Next, error) {
				return reconcile.Again(time.Hour), nil
			}},
			Expire: func(ctx context.Context, j *reconcile.Job, err error) error {
				cause, at = err, w.since()
				return w.set(ctx, j, "error")
			},
		})
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "wait", Within: 90 * time.Second})
		pass(89 * time.Second)
		require.Equal(w.t, "begun", w.state("a"))
		pass(2 * time.Second)
		require.EqualError(w.t, cause, "timed out in step wait")
		require.InDelta(w.t, 90, at.Seconds(), 1)
		require.Equal(w.t, "error", w.state("a"))
		w.idle(p.Reconciler)
		p.stop()
	})
}

// Fail expires at once, with the error as it is.
func TestFail(t *testing.T) {
	onEach(t, func(w *world) {
		p := w.process(reconcile.Handler{
			Steps: map[string]reconcile.Step{"go": func(context.Context, *reconcile.Job) (reconcile.Next, error) {
				return reconcile.Next{}, fmt.Errorf("step: %w", reconcile.Fail(nacre.Errorf(nacre.Conflict, "Full", "no room")))
			}},
			Expire: func(ctx context.Context, j *reconcile.Job, err error) error {
				require.ErrorIs(w.t, err, nacre.Conflict)
				return w.set(ctx, j, err.Error())
			},
		})
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "go"})
		pass(0)
		require.Equal(w.t, "no room", w.state("a"))
		w.idle(p.Reconciler)
		p.stop()
	})
}

// Expire is repeated until it succeeds, with growing waits, for the same cause,
// and no step runs in between: neither after a failure nor after a deadline, and
// also by the next process.
func TestExpireRepeated(t *testing.T) {
	for name, step := range map[string]reconcile.Step{
		"failed": func(context.Context, *reconcile.Job) (reconcile.Next, error) {
			return reconcile.Next{}, reconcile.Fail(errors.New("no room"))
		},
		"deadline": func(context.Context, *reconcile.Job) (reconcile.Next, error) {
			return reconcile.Next{}, errors.New("no room")
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(w *world) {
				expiring := false
				var causes []string
				var at []time.Duration
				h := reconcile.Handler{
					Steps: map[string]reconcile.Step{"go": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
						require.False(w.t, expiring, "a step after Expire")
						return step(ctx, j)
					}},
					Expire: func(ctx context.Context, j *reconcile.Job, err error) error {
						expiring = true
						causes, at = append(causes, err.Error()), append(at, w.since())
						if len(at) < 8 {
							return errors.New("the network does not answer")
						}
						return w.set(ctx, j, err.Error())
					},
				}
				p := w.process(h)
				w.put(p.Reconciler, "a", reconcile.Begin{Step: "go", Within: 20 * time.Second})
				pass(22 * time.Second)
				require.NotEmpty(w.t, at)
				p.stop()
				p = w.process(h)
				pass(5 * time.Minute)
				require.Len(w.t, at, 8)
				for _, c := range causes {
					require.Equal(w.t, causes[0], c)
					require.Contains(w.t, c, "no room")
				}
				for i := 2; i < len(at); i++ {
					require.GreaterOrEqual(w.t, at[i]-at[i-1], 100*time.Millisecond<<min(i-1, 5), "wait %d", i)
				}
				require.Equal(w.t, causes[0], w.state("a"))
				w.idle(p.Reconciler)
				p.stop()
			})
		})
	}
}

// Expire may put other work, which stays.
func TestExpirePutsOtherWork(t *testing.T) {
	onEach(t, func(w *world) {
		var p proc
		h := reconcile.Handler{
			Steps: map[string]reconcile.Step{
				"go": func(context.Context, *reconcile.Job) (reconcile.Next, error) {
					return reconcile.Next{}, reconcile.Fail(errors.New("no"))
				},
				"giveBack": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
					return reconcile.Done(), w.set(ctx, j, "given back")
				},
			},
			Expire: func(ctx context.Context, j *reconcile.Job, err error) error {
				return j.Tx(ctx, func(ctx context.Context) error {
					return p.Put(ctx, "thing", j.ObjectID, reconcile.Begin{Step: "giveBack"})
				})
			},
		}
		p = proc{Reconciler: w.reconciler(w.engine, h)}
		p = w.run(p.Reconciler)
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "go"})
		pass(0)
		require.Equal(w.t, "given back", w.state("a"))
		w.idle(p.Reconciler)
		p.stop()
	})
}

// A poke that comes while work without a deadline is given up begins it afresh.
func TestPokeWhileExpiring(t *testing.T) {
	onEach(t, func(w *world) {
		var p proc
		runs := 0
		h := reconcile.Handler{
			Steps: map[string]reconcile.Step{"sync": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
				if runs++; runs == 1 {
					return reconcile.Next{}, reconcile.Fail(errors.New("no"))
				}
				return reconcile.Done(), w.set(ctx, j, "synced")
			}},
			Expire: func(ctx context.Context, j *reconcile.Job, err error) error {
				return store.InTx(ctx, w.engine, func(ctx context.Context) error {
					return p.Poke(ctx, "thing", j.ObjectID, reconcile.Begin{Step: "sync"})
				})
			},
		}
		p = proc{Reconciler: w.reconciler(w.engine, h)}
		p = w.run(p.Reconciler)
		w.put(p.Reconciler, "a", reconcile.Begin{Step: "sync"})
		pass(time.Second)
		require.Equal(w.t, "synced", w.state("a"))
		w.idle(p.Reconciler)
		p.stop()
	})
}

// A process that dies in a step: another takes over when the lease lapses, and
// what the dead one does afterwards is refused, even when the object has new
// work by then.
func TestTakeover(t *testing.T) {
	onEach(t, func(w *world) {
		dead := new(atomic.Bool)
		sick := storetest.Faulty(w.engine, func(string, string) error {
			if dead.Load() {
				return errCrash
			}
			return nil
		})
		inside, goOn := make(chan struct{}), make(chan struct{})
		var late [3]error
		first := w.run(w.reconciler(sick, one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
			close(inside)
			for i := range late {
				<-goOn
				late[i] = j.Tx(context.WithoutCancel(ctx), func(ctx context.Context) error { return w.write(ctx, "a", "ghost") })
			}
			return reconcile.Done(), nil
		})))
		w.put(first.Reconciler, "a", reconcile.Begin{Step: "go"})
		<-inside
		pass(5 * time.Second)
		dead.Store(true)
		crash := w.since()

		var at time.Duration
		mine, goOn2 := make(chan struct{}), make(chan struct{})
		second := w.process(one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
			at = w.since()
			close(mine)
			<-goOn2
			return reconcile.Done(), w.set(ctx, j, "done")
		}))
		<-mine
		require.Greater(w.t, at-crash, 5*time.Second, "the lease holds")
		require.LessOrEqual(w.t, at-crash, 31*time.Second, "a lease and a poll")
		dead.Store(false)
		goOn <- struct{}{} // while the second holds the lease
		pass(0)
		close(goOn2)
		pass(0)
		require.Equal(w.t, "done", w.state("a"))
		goOn <- struct{}{} // when the work is over
		pass(0)
		second.stop()
		mine2, goOn3 := make(chan struct{}), make(chan struct{})
		third := w.process(one(func(context.Context, *reconcile.Job) (reconcile.Next, error) {
			close(mine2)
			<-goOn3
			return reconcile.Done(), nil
		}))
		w.again(third.Reconciler, "a", reconcile.Begin{Step: "go"})
		<-mine2
		goOn <- struct{}{} // when the object has new work, claimed as often
		pass(0)
		for i, err := range late {
			require.ErrorIs(w.t, err, reconcile.ErrLost, "write %d", i)
		}
		require.Equal(w.t, "done", w.state("a"))
		close(goOn3)
		pass(time.Second)
		w.idle(third.Reconciler)
		first.stop()
		third.stop()
	})
}

// A slow step keeps its lease, and nobody doubles it.
func TestSlowStep(t *testing.T) {
	onEach(t, func(w *world) {
		var runs atomic.Int64
		h := one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
			runs.Add(1)
			time.Sleep(10 * time.Minute)
			return reconcile.Done(), w.set(ctx, j, "done")
		})
		a, b := w.process(h), w.process(h)
		w.put(a.Reconciler, "a", reconcile.Begin{Step: "go"})
		pass(11 * time.Minute)
		require.EqualValues(w.t, 1, runs.Load())
		require.Equal(w.t, "done", w.state("a"))
		a.stop()
		b.stop()
	})
}

// A process that stops gives back what it holds, so that the next one goes on at
// once and not after the lease.
func TestShutdown(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context) (reconcile.Next, error){
		"cancelled": func(ctx context.Context) (reconcile.Next, error) { return reconcile.Next{}, ctx.Err() },
		"goto":      func(context.Context) (reconcile.Next, error) { return reconcile.Goto("go"), nil },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(w *world) {
				inside := make(chan struct{})
				a := w.process(one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
					close(inside)
					<-ctx.Done()
					return end(ctx)
				}))
				w.put(a.Reconciler, "a", reconcile.Begin{Step: "go"})
				<-inside
				a.stop()
				start := time.Now()
				var took time.Duration
				b := w.process(one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
					took = time.Since(start)
					return reconcile.Done(), w.set(ctx, j, "done")
				}))
				pass(time.Minute)
				require.Equal(w.t, "done", w.state("a"))
				require.Zero(w.t, took)
				b.stop()
			})
		})
	}
	t.Run("finished", func(t *testing.T) {
		onEach(t, func(w *world) {
			inside := make(chan struct{})
			a := w.process(one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
				close(inside)
				<-ctx.Done()
				return reconcile.Done(), nil
			}))
			w.put(a.Reconciler, "a", reconcile.Begin{Step: "go"})
			<-inside
			a.stop()
			w.idle(a.Reconciler)
		})
	})
}

// A store that fails once, at any call, delays the work by no more than a wait
// after a failure and a poll, also when it fails while the work is claimed or given back.
func TestStoreHiccup(t *testing.T) {
	eachCall(t, func(call, n int) bool { return call == n }, false)
}

// A process that dies at any store call: the next one brings everything to rest
// once the lease has lapsed.
func TestCrashAtEachCall(t *testing.T) {
	eachCall(t, func(call, n int) bool { return call >= n }, true)
}

// eachCall brings one thing to rest (an outside effect, a wait, an end) and gives
// another up, with a fault at each store call in turn. When the process dies of
// it, a second takes over.
func eachCall(t *testing.T, faulty func(call, n int) bool, dies bool) {
	onEach(t, func(w *world) {
		needed := 0 // calls until the last work is over, without a fault
		for n := 0; n <= needed; n++ {
			good, bad := fmt.Sprint("good", n), fmt.Sprint("bad", n)
			var calls atomic.Int64
			sick := storetest.Faulty(w.engine, func(string, string) error {
				if call := int(calls.Add(1)); n > 0 && faulty(call, n) {
					return errCrash
				}
				return nil
			})
			var mu sync.Mutex
			outside := map[string]bool{}
			h := reconcile.Handler{
				Steps: map[string]reconcile.Step{
					"make": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
						mu.Lock()
						outside[j.ObjectID] = true
						mu.Unlock()
						return reconcile.Goto("wait"), w.set(ctx, j, "made")
					},
					"wait": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
						if j.ObjectID == bad {
							return reconcile.Next{}, reconcile.Fail(errors.New("bad"))
						}
						if w.state(j.ObjectID) == "made" {
							return reconcile.Again(100 * time.Millisecond), w.set(ctx, j, "waited")
						}
						return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error { return w.write(ctx, good, "done") })
					},
				},
				Expire: func(ctx context.Context, j *reconcile.Job, err error) error {
					mu.Lock()
					delete(outside, j.ObjectID)
					mu.Unlock()
					return w.set(ctx, j, "error: "+err.Error())
				},
			}
			well := w.reconciler(w.engine, h)
			w.put(well, good, reconcile.Begin{Step: "make"})
			w.put(well, bad, reconcile.Begin{Step: "make"})
			r := reconcile.New(reconcile.Config{Engine: sick, Area: "test", Workers: 1})
			r.Handle("thing", h)
			p := w.run(r)
			if n == 0 {
				for all := []reconcile.Work{{}}; len(all) > 0; {
					pass(time.Millisecond)
					needed = int(calls.Load())
					var err error
					all, err = well.All(context.Background())
					require.NoError(w.t, err)
				}
			}
			within := 4 * time.Second
			if dies {
				within = 35 * time.Second
				pass(2 * time.Second)
				p.stop()
				p = w.run(well)
			}
			pass(within)
			p.stop()
			require.Equal(w.t, "done", w.state(good), "fault at call %d", n)
			require.Equal(w.t, "error: bad", w.state(bad), "fault at call %d", n)
			mu.Lock()
			require.Equal(w.t, map[string]bool{good: true}, outside, "fault at call %d", n)
			mu.Unlock()
			w.idle(well)
		}
		require.Greater(w.t, needed, 20)
	})
}

// Where no other process can be, the leases of one that died are void at once.
func TestAlone(t *testing.T) {
	onEach(t, func(w *world) {
		dead := new(atomic.Bool)
		sick := storetest.Faulty(w.engine, func(string, string) error {
			if dead.Load() {
				return errCrash
			}
			return nil
		})
		inside := make(chan struct{})
		first := w.run(w.reconciler(sick, one(func(ctx context.Context, _ *reconcile.Job) (reconcile.Next, error) {
			close(inside)
			<-ctx.Done()
			return reconcile.Next{}, ctx.Err()
		})))
		w.put(first.Reconciler, "a", reconcile.Begin{Step: "go"})
		<-inside
		dead.Store(true)
		first.stop()
		r := reconcile.New(reconcile.Config{Engine: w.engine, Area: "test", Alone: true})
		r.Handle("thing", one(func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
			return reconcile.Done(), w.set(ctx, j, "done")
		}))
		p := w.run(r)
		pass(time.Millisecond)
		require.Equal(w.t, "done", w.state("a"))
		p.stop()
	})
}
