package agent

import (
	"context"
	"time"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// watch marks ports whose status the driver says has changed.
func (a *Agent) watch(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		ids, err := a.c.Driver.Watch(ctx)
		if err != nil {
			a.c.Log.Warn("cannot watch the data plane", "error", err)
		} else {
			for id := range ids {
				failures = 0
				a.portChanged(id)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(a.backoff(failures)):
		}
	}
}

// portChanged asks for a fresh report of a port.
func (a *Agent) portChanged(id string) {
	a.mu.Lock()
	a.changed[key{dataplane.KindPort, id}] = struct{}{}
	a.mu.Unlock()
	wake(a.news)
}

// unheard is the longest wait before a report is sent again: the way to network costs
// little to try, and the host is heard again soon after it is back.
const unheard = 2 * time.Second

// report sends full reports at intervals, and changes as they come.
func (a *Agent) report(ctx context.Context) {
	started, sequence := time.Now().UnixNano(), int64(0)
	full := true
	failures := 0
	again := time.Now().Add(a.interval())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r, taken, err := a.collect(ctx, full)
		if err == nil && (full || len(r.States) > 0) {
			sequence++
			r.Started, r.Sequence = started, sequence
			err = a.c.Report(ctx, r)
		}
		if ctx.Err() != nil {
			return
		}
		pause := time.Until(again)
		if err != nil {
			a.c.Log.Warn("cannot report to network", "full", full, "error", err)
			a.giveBack(taken)
			pause = min(a.backoff(failures), unheard)
			failures++
		} else {
			failures = 0
			if full {
				full = false
				again = time.Now().Add(a.interval())
				pause = time.Until(again)
			}
		}
		if !a.sleep(ctx, timer, pause, failures > 0) {
			return
		}
		full = full || !time.Now().Before(again)
	}
}

// sleep waits for the pause or, unless the last report failed, for news, which
// it lets gather for a moment. It says whether to go on.
func (a *Agent) sleep(ctx context.Context, timer *time.Timer, pause time.Duration, failed bool) bool {
	news := a.news
	if failed {
		news = nil
	}
	timer.Reset(max(pause, 0))
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	case <-news:
	}
	timer.Reset(a.c.Batch)
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (a *Agent) interval() time.Duration {
	return time.Duration(float64(a.c.Interval) * (0.9 + 0.2*a.c.Rand()))
}

// giveBack makes the next report tell these again.
func (a *Agent) giveBack(taken map[key]struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range taken {
		a.changed[k] = struct{}{}
	}
}

// known is an object's part in a report.
type known struct {
	desired dataplane.Desired
	// reason is why it fails; unfinished says that a change waits or is in hand;
	// carriedOut that it was removed.
	reason                 string
	unfinished, carriedOut bool
}

// collect makes a report of what changed, or of everything. taken is what it took
// from the changes, to be given back when the report is not sent.
func (a *Agent) collect(ctx context.Context, full bool) (r dataplane.Report, taken map[key]struct{}, err error) {
	a.mu.Lock()
	taken = a.changed
	a.changed = map[key]struct{}{}
	objects := make(map[key]known, len(taken))
	for k, o := range a.objects {
		if _, ok := taken[k]; ok || full {
			objects[k] = known{
				desired: o.desired, reason: o.reason, carriedOut: !o.done.IsZero(),
				unfinished: o.busy || o.queued,
			}
		}
	}
	a.mu.Unlock()

	r.Full = full
	inPlace := map[key]dataplane.Ref{}
	stranger := false
	for k := range taken {
		_, ok := objects[k]
		stranger = stranger || !ok
	}
	if full || stranger {
		refs, err := a.c.Driver.List(ctx)
		if err != nil {
			return r, taken, err
		}
		for _, ref := range refs {
			inPlace[key{ref.Kind, ref.ID}] = ref
		}
	}
	if full {
		host, err := a.c.Driver.Host(ctx)
		if err != nil {
			return r, taken, err
		}
		r.Host = &host
		for k, ref := range inPlace {
			if o, ok := objects[k]; !ok || o.reason == "" {
				r.States = append(r.States, a.state(ctx, ref, objects[k].unfinished))
			}
		}
	}
	for k := range taken {
		if _, ok := objects[k]; !ok && !full {
			// The driver has it from before this agent's start.
			if ref, ok := inPlace[k]; ok {
				r.States = append(r.States, a.state(ctx, ref, false))
			}
		}
	}
	for k, o := range objects {
		switch _, there := inPlace[k]; {
		case o.reason != "":
			r.States = append(r.States, dataplane.State{Ref: o.desired.Ref, Reason: o.reason})
		case o.carriedOut:
			if !there || !full {
				r.States = append(r.States, dataplane.State{Ref: o.desired.Ref, Absent: true})
			}
		case !full && !o.unfinished:
			r.States = append(r.States, a.state(ctx, o.desired.Ref, false))
		}
	}
	return r, taken, nil
}

// state is how an object in place is. One that a worker has in hand is active
// only if it is a port that says so.
func (a *Agent) state(ctx context.Context, ref dataplane.Ref, unfinished bool) dataplane.State {
	state := dataplane.State{Ref: ref}
	if ref.Kind != dataplane.KindPort {
		state.Active = !unfinished
		if unfinished {
			state.Reason = "a change is being applied"
		}
		return state
	}
	status, err := a.c.Driver.Status(ctx, ref.ID)
	if err != nil {
		a.c.Log.Warn("cannot tell a port's status", "port", ref.ID, "error", err)
		state.Reason = a.reason(err)
		return state
	}
	state.Active, state.Reason = status.Active, status.Reason
	return state
}
