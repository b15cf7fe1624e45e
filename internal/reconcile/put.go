package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

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
// object had is replaced: its worker loses the lease and can't write any more. What it
// has under way outside may still happen, so the new work begins when that worker has
// ended, in whichever process it is, or when its lease lapses.
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
	store.AfterCommit(ctx, func() { r.kickAfter(b.After) })
	_, err := r.rows.GetForUpdate(ctx, w.ID)
	switch {
	case errors.Is(err, store.ErrNoRow):
		w.Lease = rand.Int64() >> 1
		if err = r.rows.Insert(ctx, w); store.IsDuplicate(err) {
			// Another transaction put some meanwhile.
			err = store.ErrRaced
		}
		return err
	case err != nil:
		return err
	}
	_, err = r.rows.Update(ctx, w.ID, func(x *Work) error {
		w.Lease, w.Woken = x.Lease+1, x.Woken+1
		w.Owner, w.LeaseUntil = x.Owner, x.LeaseUntil
		*x = w
		return nil
	})
	return err
}

// kickAfter makes Run look when d has passed, unless its next poll is sooner.
func (r *Reconciler) kickAfter(d time.Duration) {
	switch {
	case d <= 0:
		r.Kick()
	case d < r.c.Poll:
		time.AfterFunc(d, r.Kick)
	}
}

// Poke makes an object's work due now, or puts it when there is none; in the
// context's transaction. It is for objects that are brought up to date again and
// again: work that runs keeps its lease and looks once more.
func (r *Reconciler) Poke(ctx context.Context, kind, id string, b Begin) error {
	if !store.Inside(ctx, r.c.Engine) {
		return store.ErrTx
	}
	n, err := r.rows.UpdateWhere(ctx, standing(store.Eq("id", workID(kind, id))), store.Set{"due_at": time.Now().UTC(), "woken": store.Increment(1)})
	if err != nil {
		return err
	}
	if n == 0 {
		return r.Put(ctx, kind, id, b)
	}
	store.AfterCommit(ctx, r.Kick)
	return nil
}

// Hold locks an object's work, if it has any, in the context's transaction. Who changes
// an object that its steps change too holds its work first, as they do: else the two
// could wait for each other.
func (r *Reconciler) Hold(ctx context.Context, kind, id string) error {
	if !store.Inside(ctx, r.c.Engine) {
		return store.ErrTx
	}
	_, err := r.rows.GetForUpdate(ctx, workID(kind, id))
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	return err
}

// dropped is the step of work that is none any more: its row stays until the worker that
// drives it has ended, so that what is put meanwhile waits for that.
const dropped = ""

// standing is work that was not dropped.
func standing(w store.Where) store.Where { return store.And(w, store.Not(store.Eq("step", dropped))) }

// Drop removes an object's work, in the context's transaction: its worker loses the lease
// and can't write any more. It is no error when there is none.
func (r *Reconciler) Drop(ctx context.Context, kind, id string) error {
	if !store.Inside(ctx, r.c.Engine) {
		return store.ErrTx
	}
	now, mine := time.Now().UTC(), store.Eq("id", workID(kind, id))
	n, err := r.rows.DeleteWhere(ctx, mine, store.Or(store.LessEq("lease_until", now), store.Eq("owner", "")))
	if err != nil || n > 0 {
		return err
	}
	_, err = r.rows.UpdateWhere(ctx, mine, store.Set{"step": dropped, "lease": store.Increment(1), "due_at": now, "deadline": time.Time{}, "cause": ""})
	return err
}

// PokeAll is [Reconciler.Poke] for many objects of a kind, in as few statements.
func (r *Reconciler) PokeAll(ctx context.Context, kind string, ids []string, b Begin) error {
	if len(ids) == 0 {
		return nil
	}
	if !store.Inside(ctx, r.c.Engine) {
		return store.ErrTx
	}
	works := make([]string, len(ids))
	for i, id := range ids {
		works[i] = workID(kind, id)
	}
	n, err := r.rows.UpdateWhere(ctx, standing(store.In("id", works)), store.Set{"due_at": time.Now().UTC(), "woken": store.Increment(1)})
	if err != nil {
		return err
	}
	store.AfterCommit(ctx, r.Kick)
	if n == int64(len(ids)) {
		return nil
	}
	have, err := r.rows.Where(ctx, standing(store.In("id", works)))
	if err != nil {
		return err
	}
	for i, id := range ids {
		if !slices.ContainsFunc(have, func(w Work) bool { return w.ID == works[i] }) {
			if err := r.Put(ctx, kind, id, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// Wake makes an object's work due now. A hint: without work it does nothing.
func (r *Reconciler) Wake(ctx context.Context, kind, id string) error {
	n, err := r.rows.UpdateWhere(ctx, standing(store.Eq("id", workID(kind, id))), store.Set{"due_at": time.Now().UTC(), "woken": store.Increment(1)})
	if n > 0 {
		store.AfterCommit(ctx, r.Kick)
	}
	return err
}
