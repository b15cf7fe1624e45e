package agent

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// move does this host's part of a server's move.
func (a *Agent) move(ctx context.Context, s *server, want *hypervisor.Desired) (hypervisor.Instance, error) {
	mover, ok := a.cfg.Driver.(hypervisor.Mover)
	if !ok || a.cfg.Migration == "" {
		return hypervisor.Instance{}, nacre.Errorf(nacre.Invalid, "migration", "The host %s is not set up for servers that move.", a.cfg.Host)
	}
	in, err := a.look(ctx, s.id)
	missing := errors.Is(err, nacre.NotFound)
	if err != nil && !missing {
		return in, err
	}
	m := want.Move
	if !m.Target && missing {
		return in, nacre.Errorf(nacre.Conflict, "vanished", "The server is not on its host %s any more.", a.cfg.Host)
	}
	switch {
	case m.Target && m.Kind == hypervisor.Live:
		return a.expect(ctx, s, want, mover, in)
	case m.Target:
		if missing || in.Partial {
			if err := a.slot(ctx, a.builds, func() error { return mover.Receive(ctx, want.Spec, a.peer(s.id, m)) }); err != nil {
				return in, err
			}
		}
		a.arrived(s, want)
		return a.power(ctx, s, want)
	case m.Kind == hypervisor.Live:
		return a.sendGuest(ctx, s, want, mover, in)
	}
	return a.power(ctx, s, want)
}

// arrived notes that what a server has is here now.
func (a *Agent) arrived(s *server, want *hypervisor.Desired) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.record.Built && !s.record.Gone {
		return
	}
	s.record, s.known = record{Generation: s.record.Generation, Built: true, Boot: want.Boot, Build: want.Build}, true
}

// landed reports whether a guest that was expected is here whole.
func landed(in hypervisor.Instance) bool {
	return in.ID != "" && !in.Partial && !in.Moving && (in.Power == hypervisor.Running || in.Power == hypervisor.Paused)
}

// expect makes ready for a running guest; a cancelled move's preparations go, unless
// the guest is here.
func (a *Agent) expect(ctx context.Context, s *server, want *hypervisor.Desired, mover hypervisor.Mover, in hypervisor.Instance) (hypervisor.Instance, error) {
	m := want.Move
	switch {
	case landed(in):
		a.arrived(s, want)
		a.set(s, func(st *hypervisor.State) { st.Move.ID, st.Move.Landed = m.ID, true })
		return in, nil
	case m.Cancel:
		err := a.slot(ctx, a.workers, func() error { return a.cfg.Driver.Delete(ctx, s.id) })
		return hypervisor.Instance{}, err
	case in.ID != "" && !in.Partial:
		return in, nil // it is on its way in
	}
	var offer string
	err := a.slot(ctx, a.builds, func() (err error) {
		offer, err = mover.Prepare(ctx, want.Spec, a.peer(s.id, m))
		return err
	})
	if err == nil {
		a.set(s, func(st *hypervisor.State) { st.Move = hypervisor.MoveState{ID: m.ID, Offer: offer} })
	}
	return in, err
}

// sendGuest sends a running guest to the host that is ready for it. Without an offer
// there is nothing to do yet but to serve files.
func (a *Agent) sendGuest(ctx context.Context, s *server, want *hypervisor.Desired, mover hypervisor.Mover, in hypervisor.Instance) (hypervisor.Instance, error) {
	m := want.Move
	if m.Offer == "" {
		return in, nil
	}
	if !in.Moved {
		send, cancel := context.WithCancel(ctx)
		defer cancel()
		if m.Cancel {
			cancel()
		}
		if !m.Cancel {
			a.sendFlows(send, s.id, m)
		}
		err := mover.Migrate(send, s.id, m.Offer, a.peer(s.id, m), func(p hypervisor.Progress) {
			a.set(s, func(st *hypervisor.State) { st.Move = hypervisor.MoveState{ID: m.ID, Progress: p} })
		})
		var e *nacre.Error
		switch {
		case ctx.Err() != nil:
			return in, ctx.Err()
		case m.Cancel && errors.Is(err, context.Canceled):
			return a.look(ctx, s.id)
		case errors.As(err, &e) && e.Kind == nacre.Unavailable:
			// Copying a guest is not tried as often as a call.
			return in, &nacre.Error{Kind: nacre.Conflict, Code: e.Code, Message: e.Message, Err: err}
		case err != nil:
			return in, err
		}
	}
	// Once more: some began while it was sent.
	a.sendFlows(ctx, s.id, m)
	a.set(s, func(st *hypervisor.State) { st.Move.ID, st.Move.Moved = m.ID, true })
	return a.look(ctx, s.id)
}

// Call answers what compute asks a host at once.
func (a *Agent) Call(ctx context.Context, c hypervisor.Call) (hypervisor.ConsoleReply, error) {
	if !c.Hurry {
		return a.Console(ctx, c.ConsoleRequest)
	}
	mover, ok := a.cfg.Driver.(hypervisor.Mover)
	if !ok {
		return hypervisor.ConsoleReply{}, nacre.Errorf(nacre.Invalid, "migration", "The host %s is not set up for servers that move.", a.cfg.Host)
	}
	return hypervisor.ConsoleReply{}, mover.Hurry(ctx, c.ID)
}
