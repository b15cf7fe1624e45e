package agent

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// unheard is the longest wait before a report is sent again: the way to compute costs
// little to try, and the host is heard again soon after it is back.
const unheard = 2 * time.Second

// report sends what changed, gathered for a moment, and everything at intervals.
func (a *Agent) report(ctx context.Context) {
	timer := time.NewTimer(a.interval())
	defer timer.Stop()
	for try := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			a.mu.Lock()
			a.full = true
			a.mu.Unlock()
		case <-a.wake:
			if !sleep(ctx, a.cfg.Batch) {
				return
			}
		}
		r, any := a.compose(ctx)
		if r.Full {
			timer.Reset(a.interval())
		}
		if !any {
			continue
		}
		if err := a.cfg.Report(ctx, r); err != nil {
			if ctx.Err() != nil {
				return
			}
			a.log.WarnContext(ctx, "a report could not be sent", "states", len(r.States), "full", r.Full, "err", err)
			a.unsent(r)
			if !sleep(ctx, min(a.pause(try), unheard)) {
				return
			}
			try++
			a.poke()
			continue
		}
		try = 0
	}
}

func (a *Agent) interval() time.Duration {
	tenth := a.cfg.Interval / 10
	return a.cfg.Interval - tenth + rand.N(2*tenth+1)
}

// compose takes what is to be sent.
func (a *Agent) compose(ctx context.Context) (hypervisor.Report, bool) {
	a.mu.Lock()
	full := a.full
	a.mu.Unlock()
	r := hypervisor.Report{Started: a.started, Full: full, States: []hypervisor.State{}}
	if full {
		// The host is asked before the lock: it may take its time.
		h, err := a.cfg.Driver.Host(ctx)
		if err != nil {
			a.log.WarnContext(ctx, "the host can't be described", "err", err)
		} else {
			h.Migration = a.cfg.Migration
			r.Host = &h
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sequence++
	r.Sequence = a.sequence
	ids := slices.Sorted(maps.Keys(a.dirty))
	if full {
		a.forget()
		ids = slices.Sorted(maps.Keys(a.servers))
		a.full = false
	}
	clear(a.dirty)
	for _, id := range ids {
		if s := a.servers[id]; s != nil {
			r.States = append(r.States, s.state)
		}
	}
	return r, full || len(r.States) > 0
}

func (a *Agent) unsent(r hypervisor.Report) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.full = a.full || r.Full
	for _, st := range r.States {
		a.dirty[st.ID] = true
	}
}

// forget drops tombstones that are old; a.mu is held.
func (a *Agent) forget() {
	for id, s := range a.servers {
		if !s.gone.IsZero() && !s.busy && time.Since(s.gone) > forget {
			delete(a.servers, id)
			a.drop(id)
		}
	}
}
