package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Work is one row of an area's work table: at most one for each object.
type Work struct {
	// ID is Kind and object: "server/<uuid>".
	ID       string `store:"id,pk"`
	Kind     string `store:"kind"`
	ObjectID string `store:"object_id"`
	// Step is what comes next.
	Step  string `store:"step"`
	Tries int    `store:"tries"`
	// Due is when it is to be looked at again.
	Due time.Time `store:"due_at,index=work_due"`
	// Deadline is when it is given up; zero means never (deletions).
	Deadline time.Time `store:"deadline"`
	// Lease is another number after each claim; Owner holds it until LeaseUntil.
	// It begins anywhere, so that a worker of an object's earlier work can't
	// pass for one of this.
	Lease      int64     `store:"lease"`
	Owner      string    `store:"owner"`
	LeaseUntil time.Time `store:"lease_until"`
	// Woken counts the wakes, so that one that comes during a step isn't lost.
	Woken int64 `store:"woken"`
	// Caller is who began it, without the token.
	Caller nacre.Caller `store:"caller,json"`
	// Data is the handler's own.
	Data json.RawMessage `store:"data,json"`
	// Since is when the work was put; LastError what failed last, for operators.
	Since     time.Time `store:"since"`
	LastError string    `store:"last_error"`
	// Cause is why it is given up; from then on only Expire runs.
	Cause string `store:"cause"`
}

// Table is the definition for an area's schema.
func Table() *store.TableDef { return store.Define[Work]("work") }

// ErrLost says that somebody else has the work now: stop, write nothing.
var ErrLost = errors.New("reconcile: the lease was lost")

type failure struct{ err error }

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// Fail marks an error that no further try can mend.
func Fail(err error) error { return failure{err} }

// Next is where a step leaves its work.
type Next struct {
	kind  nextKind
	step  string
	after time.Duration
	data  any
	over  bool // Done whatever woke it
}

type nextKind uint8

const (
	nextDone nextKind = iota
	nextGoto
	nextAgain
	nextCommitted
)

// Done ends the work.
func Done() Next { return Next{kind: nextDone} }

// Goto goes on with another step, at once.
func Goto(step string) Next { return Next{kind: nextGoto, step: step} }

// Again looks at the same step after d, or when woken. It is how a step waits.
func Again(d time.Duration) Next { return Next{kind: nextAgain, after: d} }

// With replaces the handler's data.
func (n Next) With(data any) Next { n.data = data; return n }

// Step does one thing. Its error is tried again; see the package comment.
type Step func(ctx context.Context, j *Job) (Next, error)

// Handler drives objects of one kind.
type Handler struct {
	Steps map[string]Step
	// Expire brings the object to rest after cause. Its work is over when it
	// returns nil, unless it has put other work in its place; work without a
	// deadline that was woken meanwhile begins afresh. Expire is repeated until
	// then, with a growing wait, and no step runs any more; after the first time,
	// or a crash, cause is its text alone.
	Expire func(ctx context.Context, j *Job, cause error) error
}

// DefaultLease is how long work waits whose worker vanished.
const DefaultLease = 30 * time.Second

// Config of a Reconciler. Zero values work but for Engine and Area.
type Config struct {
	Engine store.Engine
	Area   string
	// Workers is how many works go on at once; 0 means 8.
	Workers int
	// Lease is how long a claim lasts without renewal; 0 means DefaultLease. It is
	// renewed while a step runs.
	Lease time.Duration
	// Poll is how often due work is looked for without a wake; 0 means 1 s.
	Poll time.Duration
	// FirstWait and MaxWait bound the wait after a failure; 0 means 200 ms, 10 s.
	FirstWait, MaxWait time.Duration
	// Alone says that no other process works on this database: the leases of one
	// that died are void at once, not when they lapse.
	Alone bool
	// Instance is a name that no two processes have at a time: the leases of one that
	// died lapse five seconds after another of that name began to run. Empty is none.
	Instance string
	Log      *slog.Logger
}

// Reconciler runs an area's work.
type Reconciler struct {
	c        Config
	owner    string
	rows     *store.Table[Work]
	handlers map[string]Handler
	kick     chan struct{}

	mu     sync.Mutex
	active map[string]bool // claimed here, so that a poll doesn't look at them twice
}

// New makes a Reconciler; Handle adds kinds before Run.
func New(c Config) *Reconciler {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Lease, DefaultLease)
	def(&c.Poll, time.Second)
	def(&c.FirstWait, 200*time.Millisecond)
	def(&c.MaxWait, 10*time.Second)
	if c.Workers == 0 {
		c.Workers = 8
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Reconciler{c: c, owner: c.Instance + "/" + uuid.NewString(), rows: store.NewTable[Work](c.Engine, "work"), handlers: map[string]Handler{},
		kick: make(chan struct{}, 1), active: map[string]bool{}}
}

// Handle registers the handler of a kind.
func (r *Reconciler) Handle(kind string, h Handler) { r.handlers[kind] = h }

func workID(kind, id string) string { return kind + "/" + id }

// Pending is the object's work, if it has any.
func (r *Reconciler) Pending(ctx context.Context, kind, id string) (Work, bool, error) {
	w, err := r.rows.Get(ctx, workID(kind, id))
	if errors.Is(err, store.ErrNoRow) || err == nil && w.Step == dropped {
		return Work{}, false, nil
	}
	return w, err == nil, err
}

// All lists the work, for audits.
func (r *Reconciler) All(ctx context.Context) ([]Work, error) {
	return r.rows.Where(ctx, standing(store.All()))
}

// Kick makes Run look now.
func (r *Reconciler) Kick() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then waits for the steps that are running.
func (r *Reconciler) Run(ctx context.Context) {
	r.inherit(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, r.c.Workers)
	tick := time.NewTicker(r.c.Poll)
	defer tick.Stop()
	for ctx.Err() == nil {
		free := r.c.Workers - len(slots)
		claimed := 0
		if free > 0 {
			ws, err := r.claim(ctx, free)
			if err != nil && ctx.Err() == nil {
				r.c.Log.Warn("claiming work", "area", r.c.Area, "error", err)
			}
			claimed = len(ws)
			for _, w := range ws {
				slots <- struct{}{}
				wg.Go(func() {
					defer func() {
						r.mu.Lock()
						delete(r.active, w.ID)
						r.mu.Unlock()
						<-slots
						r.Kick()
					}()
					r.drive(ctx, w)
				})
			}
		}
		if claimed == free && free > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-r.kick:
		case <-tick.C:
		}
	}
}

// settling is how long what a process that died had asked of others may still be under
// way there.
const settling = 5 * time.Second

// inherit ends leases whose holder is known to be dead: at once where there was only one
// process, else as soon as what that one had begun outside is over.
func (r *Reconciler) inherit(ctx context.Context) {
	until, held := time.Now().UTC(), []store.Where{}
	switch {
	case r.c.Alone:
	case r.c.Instance != "":
		until = until.Add(settling)
		held = append(held, store.Prefix("owner", r.c.Instance+"/"), store.Not(store.Eq("owner", r.owner)))
	default:
		return
	}
	held = append(held, store.Greater("lease_until", until))
	if _, err := r.rows.UpdateWhere(ctx, store.And(held...), store.Set{"lease_until": until}); err != nil && ctx.Err() == nil {
		r.c.Log.Warn("taking over leases", "area", r.c.Area, "error", err)
	}
}

// claim takes due work whose lease has lapsed, or is ours though we do not drive it: the
// store failed when it was claimed or given back.
func (r *Reconciler) claim(ctx context.Context, limit int) ([]Work, error) {
	now := time.Now().UTC()
	r.mu.Lock()
	skip := make([]string, 0, len(r.active))
	for id := range r.active {
		skip = append(skip, id)
	}
	r.mu.Unlock()
	free := store.Or(store.LessEq("lease_until", now), store.Eq("owner", r.owner))
	// Kinds that this program does not know are for a newer one beside it.
	due := store.And(store.LessEq("due_at", now), free, store.In("kind", slices.Sorted(maps.Keys(r.handlers))))
	if len(skip) > 0 {
		due = store.And(due, store.Not(store.In("id", skip)))
	}
	q := store.Select{Where: due, Order: []store.Order{{Column: "due_at"}}, Limit: limit}
	// A look without a transaction first: most looks find nothing.
	if ws, err := r.rows.Select(ctx, q); err != nil || len(ws) == 0 {
		return nil, err
	}
	var got []Work
	err := store.InTx(ctx, r.c.Engine, func(ctx context.Context) error {
		got = nil
		q.ForUpdate = true
		ws, err := r.rows.Select(ctx, q)
		if err != nil {
			return err
		}
		ids := make([]string, len(ws))
		until := now.Add(r.c.Lease)
		for i := range ws {
			ids[i] = ws[i].ID
			ws[i].Lease++
			ws[i].Owner, ws[i].LeaseUntil = r.owner, until
		}
		if len(ids) == 0 {
			return nil
		}
		n, err := r.rows.UpdateWhere(ctx, store.And(store.In("id", ids), free),
			store.Set{"lease": store.Increment(1), "owner": r.owner, "lease_until": until})
		if err == nil && int(n) != len(ids) {
			err = store.ErrRaced
		}
		got = ws
		return err
	})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	for _, w := range got {
		r.active[w.ID] = true
	}
	r.mu.Unlock()
	return got, nil
}

// drive runs steps until the work is done, waits, or is lost.
func (r *Reconciler) drive(ctx context.Context, w Work) {
	j := &Job{Work: w, r: r}
	caller := w.Caller
	ctx = nacre.WithCaller(ctx, &caller)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := r.renew(ctx, w.ID, w.Lease, cancel)
	defer stop()
	for again := true; again && ctx.Err() == nil; {
		var err error
		if again, err = r.once(ctx, j); errors.Is(err, ErrLost) {
			r.letGo(ctx, w)
			return
		} else if err != nil && ctx.Err() == nil {
			// The store itself fails. What is not given back here is claimed
			// again once it works.
			r.c.Log.Error("work", "area", r.c.Area, "id", w.ID, "step", j.Step, "error", err)
			_ = j.release(ctx, r.backoff(j.Tries))
			return
		}
	}
	if ctx.Err() != nil {
		// Shutting down: give the work back so that the next process goes on at once.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBack)
		defer cancel()
		_ = j.release(ctx, 0)
		r.letGo(ctx, w)
	}
}

// letGo lets others have work that took the place of w while we drove it: it waits for
// us.
func (r *Reconciler) letGo(ctx context.Context, w Work) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBack)
	defer cancel()
	_, err := r.rows.UpdateWhere(ctx, store.And(store.Eq("id", w.ID), store.Eq("owner", r.owner), store.Greater("lease", w.Lease)),
		store.Set{"lease_until": time.Now().UTC(), "owner": ""})
	if err != nil {
		r.c.Log.Warn("work waits for a lease to lapse", "area", r.c.Area, "id", w.ID, "error", err)
	}
}

// giveBack bounds the writes of a step that ends with the process.
const giveBack = 5 * time.Second

// renew keeps the lease while steps run, so that a slow one isn't doubled. When
// it turns out to be lost, the step's context ends.
func (r *Reconciler) renew(ctx context.Context, id string, lease int64, lost func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	// The owner is compared too: it is empty once the work was given back.
	mine := store.And(store.Eq("id", id), store.Eq("lease", lease), store.Eq("owner", r.owner))
	go func() {
		defer close(done)
		t := time.NewTicker(r.c.Lease / 3)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				n, err := r.rows.UpdateWhere(ctx, mine, store.Set{"lease_until": time.Now().UTC().Add(r.c.Lease)})
				if err == nil && n == 0 {
					lost()
					return
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// once runs one step; again says that another follows at once.
func (r *Reconciler) once(ctx context.Context, j *Job) (again bool, err error) {
	if j.Step == dropped {
		return false, j.finish(ctx, Next{kind: nextDone, over: true}, nil)
	}
	h := r.handlers[j.Kind]
	if j.Cause != "" {
		return false, r.expire(ctx, h, j, errors.New(j.Cause))
	}
	if !j.Deadline.IsZero() && !time.Now().Before(j.Deadline) {
		cause := fmt.Errorf("timed out in step %s", j.Step)
		if j.LastError != "" {
			cause = fmt.Errorf("timed out in step %s: %s", j.Step, j.LastError)
		}
		return false, r.giveUp(ctx, h, j, cause)
	}
	step := h.Steps[j.Step]
	if step == nil {
		// A newer program's, perhaps: tried again until the deadline.
		step = func(context.Context, *Job) (Next, error) {
			return Next{}, fmt.Errorf("unknown step %q", j.Step)
		}
	}
	j.committed = nil
	next, err := r.safely(ctx, j, step)
	if errors.Is(err, ErrLost) {
		return false, err
	}
	if ctx.Err() != nil {
		if err == nil && next.kind != nextCommitted {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBack)
			defer cancel()
			err = j.finish(ctx, next, nil)
		}
		return false, err
	}
	if err != nil {
		var f failure
		if errors.As(err, &f) {
			return false, r.giveUp(ctx, h, j, f.err)
		}
		r.c.Log.Warn("step failed", "area", r.c.Area, "id", j.ID, "step", j.Step, "tries", j.Tries+1, "error", err)
		return false, j.finish(ctx, Again(r.backoff(j.Tries)), err)
	}
	if next.kind == nextCommitted {
		next = *j.committed
	} else if err := j.finish(ctx, next, nil); err != nil {
		return false, err
	}
	return next.kind == nextGoto, nil
}

func (r *Reconciler) safely(ctx context.Context, j *Job, step Step) (n Next, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.c.Log.Error("panic", "area", r.c.Area, "id", j.ID, "step", j.Step, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic in step %s: %v", j.Step, p)
		}
	}()
	return step(ctx, j)
}

// giveUp records the cause, so that from now on nothing but Expire runs whatever
// dies, and expires the work.
func (r *Reconciler) giveUp(ctx context.Context, h Handler, j *Job, cause error) error {
	if err := j.giveUp(ctx, cause); err != nil {
		return err
	}
	return r.expire(ctx, h, j, cause)
}

func (r *Reconciler) expire(ctx context.Context, h Handler, j *Job, cause error) error {
	_, err := r.safely(ctx, j, func(ctx context.Context, j *Job) (Next, error) { return Next{}, h.Expire(ctx, j, cause) })
	switch {
	case errors.Is(err, ErrLost) || ctx.Err() != nil:
		return err
	case err != nil:
		r.c.Log.Error("expiring", "area", r.c.Area, "id", j.ID, "error", err)
		return j.finish(ctx, Again(r.backoff(j.Tries)), err)
	}
	// It is ErrLost where Expire put other work in its place.
	return j.finish(ctx, Next{kind: nextDone, over: !j.Deadline.IsZero()}, nil)
}

func (r *Reconciler) backoff(tries int) time.Duration {
	d := min(r.c.FirstWait<<min(tries, 20), r.c.MaxWait)
	return d/2 + rand.N(d/2+1)
}
