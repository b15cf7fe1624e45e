package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
	// Lease counts the claims; Owner holds it until LeaseUntil.
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
	// returns nil, unless it has put other work in its place.
	Expire func(ctx context.Context, j *Job, cause error) error
}

// Config of a Reconciler. Zero values work but for Engine and Area.
type Config struct {
	Engine store.Engine
	Area   string
	// Workers is how many works go on at once; 0 means 8.
	Workers int
	// Lease is how long a claim lasts without renewal; 0 means 30 s. It is
	// renewed while a step runs.
	Lease time.Duration
	// Poll is how often due work is looked for without a wake; 0 means 1 s.
	Poll time.Duration
	// FirstWait and MaxWait bound the wait after a failure; 0 means 200 ms, 30 s.
	FirstWait, MaxWait time.Duration
	Log                *slog.Logger
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
	def(&c.Lease, 30*time.Second)
	def(&c.Poll, time.Second)
	def(&c.FirstWait, 200*time.Millisecond)
	def(&c.MaxWait, 30*time.Second)
	if c.Workers == 0 {
		c.Workers = 8
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Reconciler{c: c, owner: uuid.NewString(), rows: store.NewTable[Work](c.Engine, "work"), handlers: map[string]Handler{},
		kick: make(chan struct{}, 1), active: map[string]bool{}}
}

// Handle registers the handler of a kind.
func (r *Reconciler) Handle(kind string, h Handler) { r.handlers[kind] = h }

func workID(kind, id string) string { return kind + "/" + id }

// Begin is what Put starts.
type Begin struct {
	Step string
	// Within is the time until it is given up; 0 means never.
	Within time.Duration
	// After delays the first look.
	After time.Duration
	Data  any
}

// Put adds work for an object, in the context's transaction. Work that the
// object had is replaced: its worker loses the lease and can't write any more.
func (r *Reconciler) Put(ctx context.Context, kind, id string, b Begin) error {
	if !store.Inside(ctx, r.c.Engine) {
		return store.ErrTx
	}
	h, ok := r.handlers[kind]
	if !ok || h.Steps[b.Step] == nil {
		return fmt.Errorf("reconcile: no step %s/%s", kind, b.Step)
	}
	now := time.Now().UTC()
	w := Work{ID: workID(kind, id), Kind: kind, ObjectID: id, Step: b.Step, Due: now.Add(b.After), Since: now, Data: json.RawMessage("null")}
	if b.Within > 0 {
		w.Deadline = now.Add(b.Within)
	}
	if b.Data != nil {
		var err error
		if w.Data, err = json.Marshal(b.Data); err != nil {
			return err
		}
	}
	if c := nacre.CallerFrom(ctx); c != nil {
		w.Caller = c.Stored()
	}
	store.AfterCommit(ctx, r.Kick)
	old, err := r.rows.Get(ctx, w.ID)
	switch {
	case errors.Is(err, store.ErrNoRow):
		return r.rows.Insert(ctx, w)
	case err != nil:
		return err
	}
	_, err = r.rows.Update(ctx, w.ID, func(x *Work) error {
		w.Lease, w.Woken = old.Lease+1, old.Woken+1
		*x = w
		return nil
	})
	return err
}

// Poke makes an object's work due now, or puts it when there is none; in the
// context's transaction. It is for objects that are brought up to date again and
// again: work that runs keeps its lease and looks once more.
func (r *Reconciler) Poke(ctx context.Context, kind, id string, b Begin) error {
	if !store.Inside(ctx, r.c.Engine) {
		return store.ErrTx
	}
	n, err := r.rows.UpdateWhere(ctx, store.Eq("id", workID(kind, id)), store.Set{"due_at": time.Now().UTC(), "woken": store.Increment(1)})
	if err != nil {
		return err
	}
	if n == 0 {
		return r.Put(ctx, kind, id, b)
	}
	store.AfterCommit(ctx, r.Kick)
	return nil
}

// Drop removes an object's work, in the context's transaction. It is no error
// when there is none.
func (r *Reconciler) Drop(ctx context.Context, kind, id string) error {
	if !store.Inside(ctx, r.c.Engine) {
		return store.ErrTx
	}
	_, err := r.rows.DeleteWhere(ctx, store.Eq("id", workID(kind, id)))
	return err
}

// Wake makes an object's work due now. A hint: without work it does nothing.
func (r *Reconciler) Wake(ctx context.Context, kind, id string) error {
	n, err := r.rows.UpdateWhere(ctx, store.Eq("id", workID(kind, id)), store.Set{"due_at": time.Now().UTC(), "woken": store.Increment(1)})
	if n > 0 {
		store.AfterCommit(ctx, r.Kick)
	}
	return err
}

// Pending is the object's work, if it has any.
func (r *Reconciler) Pending(ctx context.Context, kind, id string) (Work, bool, error) {
	w, err := r.rows.Get(ctx, workID(kind, id))
	if errors.Is(err, store.ErrNoRow) {
		return Work{}, false, nil
	}
	return w, err == nil, err
}

// All lists the work, for audits.
func (r *Reconciler) All(ctx context.Context) ([]Work, error) { return r.rows.Where(ctx) }

// Kick makes Run look now.
func (r *Reconciler) Kick() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then waits for the steps that are running.
func (r *Reconciler) Run(ctx context.Context) {
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

// claim takes due work whose lease has lapsed.
func (r *Reconciler) claim(ctx context.Context, limit int) ([]Work, error) {
	now := time.Now().UTC()
	r.mu.Lock()
	skip := make([]string, 0, len(r.active))
	for id := range r.active {
		skip = append(skip, id)
	}
	r.mu.Unlock()
	due := store.And(store.LessEq("due_at", now), store.LessEq("lease_until", now))
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
		n, err := r.rows.UpdateWhere(ctx, store.And(store.In("id", ids), store.LessEq("lease_until", now)),
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
	ctx = nacre.WithCaller(ctx, &j.Work.Caller)
	stop := r.renew(ctx, j)
	defer stop()
	for ctx.Err() == nil {
		again, err := r.once(ctx, j)
		if errors.Is(err, ErrLost) {
			return
		}
		if err != nil && ctx.Err() == nil {
			// The store itself fails: the lease lapses and the work is found again.
			r.c.Log.Error("work", "area", r.c.Area, "id", w.ID, "step", j.Step, "error", err)
			return
		}
		if !again {
			return
		}
	}
	// Shutting down: give the work back so that the next process goes on at once.
	_ = j.release(context.WithoutCancel(ctx))
}

// renew keeps the lease while steps run, so that a slow one isn't doubled.
func (r *Reconciler) renew(ctx context.Context, j *Job) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(r.c.Lease / 3)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				_, _ = r.rows.UpdateWhere(ctx, store.And(store.Eq("id", j.ID), store.Eq("lease", j.Lease)), store.Set{"lease_until": time.Now().UTC().Add(r.c.Lease)})
			}
		}
	}()
	return func() { cancel(); <-done }
}

// once runs one step; again says that another follows at once.
func (r *Reconciler) once(ctx context.Context, j *Job) (again bool, err error) {
	h := r.handlers[j.Kind]
	now := time.Now().UTC()
	if !j.Deadline.IsZero() && now.After(j.Deadline) {
		cause := fmt.Errorf("timed out in step %s", j.Step)
		if j.LastError != "" {
			cause = fmt.Errorf("timed out in step %s: %s", j.Step, j.LastError)
		}
		return r.expire(ctx, h, j, cause)
	}
	step := h.Steps[j.Step]
	if step == nil {
		return r.expire(ctx, h, j, fmt.Errorf("unknown step %q", j.Step))
	}
	j.committed = nil
	next, err := r.safely(ctx, j, step)
	if errors.Is(err, ErrLost) || ctx.Err() != nil {
		return false, err
	}
	if err != nil {
		var f failure
		if errors.As(err, &f) {
			return r.expire(ctx, h, j, f.err)
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
			err = fmt.Errorf("panic in step %s: %v", j.Step, p)
		}
	}()
	return step(ctx, j)
}

func (r *Reconciler) expire(ctx context.Context, h Handler, j *Job, cause error) (bool, error) {
	_, err := r.safely(ctx, j, func(ctx context.Context, j *Job) (Next, error) { return Next{}, h.Expire(ctx, j, cause) })
	switch {
	case errors.Is(err, ErrLost) || ctx.Err() != nil:
		return false, err
	case err != nil:
		r.c.Log.Error("expiring", "area", r.c.Area, "id", j.ID, "error", err)
		return false, j.finish(ctx, Again(r.backoff(j.Tries)), cause)
	}
	err = j.finish(ctx, Done(), nil)
	if errors.Is(err, ErrLost) {
		// Expire put other work in its place.
		err = nil
	}
	return false, err
}

func (r *Reconciler) backoff(tries int) time.Duration {
	d := min(r.c.FirstWait<<min(tries, 20), r.c.MaxWait)
	return d/2 + rand.N(d/2+1)
}
