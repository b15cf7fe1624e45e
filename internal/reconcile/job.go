package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// Job is a claimed Work in the hands of a step.
type Job struct {
	Work
	r         *Reconciler
	committed *Next
}

// Decode reads the handler's data.
func (j *Job) Decode(v any) error {
	if len(j.Data) == 0 {
		return nil
	}
	return json.Unmarshal(j.Data, v)
}

// Tx runs fn in a transaction that stands only while this job holds the lease;
// else it is ErrLost. All writes of a step go through it.
func (j *Job) Tx(ctx context.Context, fn func(ctx context.Context) error) error {
	return store.InTx(ctx, j.r.c.Engine, func(ctx context.Context) error {
		if _, err := j.fence(ctx); err != nil {
			return err
		}
		return fn(ctx)
	})
}

// Commit is Tx that also persists where the work goes next, in the same
// transaction. A step returns its result:
//
//	return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error { … })
func (j *Job) Commit(ctx context.Context, next Next, fn func(ctx context.Context) error) (Next, error) {
	work := j.Work
	err := store.InTx(ctx, j.r.c.Engine, func(ctx context.Context) error {
		j.Work = work
		w, err := j.fence(ctx)
		if err != nil {
			return err
		}
		if err := fn(ctx); err != nil {
			return err
		}
		return j.persist(ctx, w, next, nil)
	})
	if err != nil {
		j.Work = work
		return Next{}, err
	}
	j.committed = &next
	return Next{kind: nextCommitted}, nil
}

func (j *Job) fence(ctx context.Context) (Work, error) {
	w, err := j.r.rows.GetForUpdate(ctx, j.ID)
	if errors.Is(err, store.ErrNoRow) || err == nil && w.Lease != j.Lease {
		return w, ErrLost
	}
	return w, err
}

func (j *Job) finish(ctx context.Context, next Next, cause error) error {
	work := j.Work
	err := store.InTx(ctx, j.r.c.Engine, func(ctx context.Context) error {
		j.Work = work
		w, err := j.fence(ctx)
		if err != nil {
			return err
		}
		return j.persist(ctx, w, next, cause)
	})
	if err != nil {
		j.Work = work
	}
	return err
}

// giveUp writes why the work is expired.
func (j *Job) giveUp(ctx context.Context, cause error) error {
	work := j.Work
	err := store.InTx(ctx, j.r.c.Engine, func(ctx context.Context) error {
		if _, err := j.fence(ctx); err != nil {
			return err
		}
		var err error
		work, err = j.r.rows.Update(ctx, j.ID, func(x *Work) error {
			x.Cause, x.LastError, x.Tries = text(cause), text(cause), 0
			return nil
		})
		return err
	})
	if err == nil {
		// A wake that came during the step is still to be honoured.
		work.Woken = j.Woken
		j.Work = work
	}
	return err
}

// text is an error as every database can hold it, and never empty.
func text(err error) string {
	const limit = 4096
	s := err.Error()
	if len(s) > limit {
		s = s[:limit]
	}
	if s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD"); s == "" {
		s = "unknown error"
	}
	return s
}

// persist writes where the work goes; w is the row as it is now.
func (j *Job) persist(ctx context.Context, w Work, next Next, cause error) error {
	before := j.Woken
	if next.kind == nextDone {
		if w.Woken == before || next.over {
			return j.r.rows.Delete(ctx, j.ID)
		}
		// Somebody called while the step ran: it looks once more.
		next = Again(0)
	}
	now := time.Now().UTC()
	out, err := j.r.rows.Update(ctx, j.ID, func(x *Work) error {
		if next.data != nil {
			b, err := json.Marshal(next.data)
			if err != nil {
				return err
			}
			x.Data = b
		}
		switch {
		case next.kind == nextGoto:
			x.Step, x.Tries, x.LastError, x.Due = next.step, 0, "", now
		case cause != nil:
			x.Tries++
			x.LastError = text(cause)
			x.Due, x.LeaseUntil, x.Owner = now.Add(next.after), now, ""
		default:
			x.Tries, x.LastError, x.Cause = 0, "", ""
			x.Due, x.LeaseUntil, x.Owner = now.Add(next.after), now, ""
		}
		if next.kind == nextAgain {
			if x.Cause == "" && !x.Deadline.IsZero() && x.Due.After(x.Deadline) {
				x.Due = x.Deadline
			}
			if w.Woken != before {
				// Somebody called while the step ran.
				x.Due = now
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if next.kind == nextAgain {
		store.AfterCommit(ctx, func() { j.r.kickAfter(time.Until(out.Due)) })
	}
	j.Work = out
	return nil
}

// release gives the work back without a change, to be looked at after wait.
func (j *Job) release(ctx context.Context, wait time.Duration) error {
	now := time.Now().UTC()
	set := store.Set{"lease_until": now, "owner": ""}
	if wait > 0 {
		set["due_at"] = now.Add(wait)
	}
	_, err := j.r.rows.UpdateWhere(ctx, store.And(store.Eq("id", j.ID), store.Eq("lease", j.Lease), store.Eq("owner", j.r.owner)), set)
	return err
}
