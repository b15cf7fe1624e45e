package agent

import (
	"context"
	"errors"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// settle brings a server to what want says, or finds that it can't be. It
// returns early when its context ends: because the agent stops, or because a
// tombstone came in the middle.
func (a *Agent) settle(ctx context.Context, s *server, want *hypervisor.Desired) {
	a.set(s, func(st *hypervisor.State) { st.Phase, st.Reason = hypervisor.Working, "" })
	for try, faults := 0, 0; ; try++ {
		in, err := a.converge(ctx, s, want)
		if err == nil {
			a.settled(s, want, in, "")
			return
		}
		if ctx.Err() != nil {
			return
		}
		reason, final := verdict(err, &faults, a.cfg.Tries)
		// What is to be gone is never given up on.
		final = final && !want.Gone
		a.log.WarnContext(ctx, "a server is not as desired", "server", s.id, "generation", want.Generation, "try", try+1, "final", final, "err", err)
		if final {
			in, _ := a.look(ctx, s.id)
			a.settled(s, want, in, reason)
			return
		}
		a.set(s, func(st *hypervisor.State) { st.Reason = reason })
		if !a.wait(ctx, s, want, a.pause(try)) {
			return
		}
	}
}

// verdict says whether an error is worth another try, and what to tell the user
// if not. An error that is no nacre.Error (a lost connection, a full table) is
// always tried again: compute's deadline ends that.
func verdict(err error, faults *int, tries int) (reason string, final bool) {
	var e *nacre.Error
	if !errors.As(err, &e) {
		return "", false
	}
	switch e.Kind {
	case nacre.Internal:
		return e.Message, false
	case nacre.Unavailable, nacre.Conflict:
		// A state that forbids the call may have been a race with the guest: look
		// again, but not for long.
		*faults++
		if e.Kind == nacre.Conflict {
			tries = min(tries, 2)
		}
		return e.Message, *faults >= tries
	}
	return e.Message, true
}

// wait pauses between tries; a newer desired state ends the wait and the work on
// this one.
func (a *Agent) wait(ctx context.Context, s *server, want *hypervisor.Desired, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		a.mu.Lock()
		newer := s.want != want
		a.mu.Unlock()
		if newer {
			return false
		}
		select {
		case <-t.C:
			return true
		case <-s.newer:
		case <-ctx.Done():
			return false
		}
	}
}

// settled records the outcome; a reason means failure.
func (a *Agent) settled(s *server, want *hypervisor.Desired, in hypervisor.Instance, reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.done = want.Generation
	s.state.Power, s.state.Reason = in.Power, reason
	switch {
	case reason != "":
		s.state.Phase = hypervisor.Failed
	case want.Gone:
		s.state.Phase, s.gone = hypervisor.Absent, time.Now()
		s.record = record{Gone: true, GoneAt: s.gone}
	case want.Move != nil && want.Move.Target && in.ID == "":
		// Nothing is here (any more), and nothing is to be.
		s.state.Phase, s.record = hypervisor.Done, record{}
	default:
		s.state.Phase = hypervisor.Done
	}
	s.record.Generation, s.record.Failed = want.Generation, reason != ""
	s.state.Boot, s.known = s.record.Boot, true
	if err := a.keep(s.id, s.record); err != nil {
		a.log.Error("what was reached can't be remembered", "server", s.id, "err", err)
	}
	a.mark(s)
}

// converge does what is to be done and returns what is there then. It may be cut
// off anywhere and called again.
func (a *Agent) converge(ctx context.Context, s *server, want *hypervisor.Desired) (hypervisor.Instance, error) {
	if want.Gone {
		return hypervisor.Instance{}, a.slot(ctx, a.workers, func() error { return a.cfg.Driver.Delete(ctx, s.id) })
	}
	if want.Move != nil {
		return a.move(ctx, s, want)
	}
	if err := a.clear(ctx, s, want); err != nil {
		return hypervisor.Instance{}, err
	}
	a.mu.Lock()
	rec, known := s.record, s.known
	a.mu.Unlock()
	in, err := a.look(ctx, s.id)
	switch {
	case errors.Is(err, nacre.NotFound), err == nil && in.Partial:
		if rec.Built && !rec.Gone {
			return in, nacre.Errorf(nacre.Conflict, "vanished", "The server was built on this host but is not there any more.")
		}
	case err != nil:
		return in, err
	}
	reached := known && rec.Built && !rec.Failed && rec.Generation == want.Generation
	switch {
	case err != nil || in.Partial:
		if err := a.slot(ctx, a.builds, func() error { return a.cfg.Driver.Create(ctx, want.Spec, a.cfg.Images) }); err != nil {
			return in, err
		}
		rec = record{Built: true, Boot: want.Boot, Build: want.Build}
	case reached:
		return in, nil
	case !known:
		// Found, and nothing is remembered: whether the last reboot was done is
		// anybody's guess, and one too few is the milder mistake.
		rec.Built, rec.Boot, rec.Build = true, want.Boot, want.Build
	}
	a.mu.Lock()
	s.record, s.known = rec, true
	a.mu.Unlock()
	return a.power(ctx, s, want)
}

// clear takes away what is to be made anew.
func (a *Agent) clear(ctx context.Context, s *server, want *hypervisor.Desired) error {
	a.mu.Lock()
	rec, known := s.record, s.known
	a.mu.Unlock()
	if !known || rec.Gone || rec.Build >= want.Build {
		return nil
	}
	// First that it is not expected to be there, then that it is not.
	rec.Built = false
	a.mu.Lock()
	s.record = rec
	err := a.keep(s.id, rec)
	a.mu.Unlock()
	if err != nil {
		return err
	}
	if err := a.slot(ctx, a.workers, func() error { return a.cfg.Driver.Delete(ctx, s.id) }); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.record.Build = want.Build
	return nil
}

// power brings a server that is there to the power that is wanted.
func (a *Agent) power(ctx context.Context, s *server, want *hypervisor.Desired) (in hypervisor.Instance, err error) {
	ran, stopped := false, false
	for range 4 {
		if in, err = a.look(ctx, s.id); err != nil {
			return in, err
		}
		if ran && in.Power == hypervisor.Shutdown {
			return in, nil // a guest that turned itself off at once had its run
		}
		if stopped && in.Power == hypervisor.Crashed {
			return in, nil // off is off; that it crashed is still to be told
		}
		step, runs := a.nextStep(ctx, s, want, in)
		if step == nil {
			return in, nil
		}
		if err := a.slot(ctx, a.workers, step); err != nil {
			return in, err
		}
		ran, stopped = ran || runs, want.Power == hypervisor.Shutdown
	}
	return in, hypervisor.Fault("The server does not stay in the wanted power state: it is %s.", in.Power)
}

// nextStep is the driver call that brings the instance nearer, or nil, and
// whether the guest runs after it.
func (a *Agent) nextStep(ctx context.Context, s *server, want *hypervisor.Desired, in hypervisor.Instance) (step func() error, runs bool) {
	d, alive := a.cfg.Driver, in.Power == hypervisor.Running || in.Power == hypervisor.Paused
	a.mu.Lock()
	behind := s.record.Boot < want.Boot
	a.mu.Unlock()
	booting := func(f func() error) func() error {
		return func() error {
			if err := f(); err != nil {
				return err
			}
			a.mu.Lock()
			s.record.Boot = want.Boot
			a.mu.Unlock()
			return nil
		}
	}
	grace := time.Duration(want.GraceSeconds) * time.Second
	switch {
	case want.Power == hypervisor.Shutdown && in.Power == hypervisor.Shutdown:
		return nil, false
	case want.Power == hypervisor.Shutdown:
		return func() error { return d.Stop(ctx, s.id, grace) }, false
	case !alive:
		return booting(func() error { return d.Start(ctx, want.Spec) }), false
	case want.Power == hypervisor.Paused && in.Power == hypervisor.Running:
		return func() error { return d.Pause(ctx, s.id) }, false
	case want.Power == hypervisor.Running && in.Power == hypervisor.Paused:
		return func() error { return d.Resume(ctx, s.id) }, true
	case want.Power == hypervisor.Running && behind:
		return booting(func() error { return d.Reboot(ctx, s.id, want.HardBoot, grace) }), true
	}
	return nil, false
}

func (a *Agent) look(ctx context.Context, id string) (in hypervisor.Instance, err error) {
	err = a.slot(ctx, a.workers, func() error {
		in, err = a.cfg.Driver.Get(ctx, id)
		return err
	})
	return in, err
}

// slot runs f while holding a place among those that work at one time.
func (a *Agent) slot(ctx context.Context, places chan struct{}, f func() error) error {
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-places }()
	if err := ctx.Err(); err != nil {
		return err
	}
	return f()
}
