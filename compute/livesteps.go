package compute

import (
	"context"
	"time"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// stepPrepare has the new host make ready for the guest, and its network too.
func (s *Service) stepPrepare(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.loadMove(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if p.Cause = calledOff(&sv, p); p.Cause != "" {
		return s.goHome(ctx, j, &sv, p) // nobody was told of it
	}
	if err := s.bindThere(ctx, &sv, sv.OtherHost); err != nil {
		return reconcile.Next{}, err
	}
	return s.step(ctx, j, "ready", p, "preparing", func(x *Server) {
		x.Move.Tell, x.Generation = true, x.next()
		x.Move.Generation = x.next()
	})
}

// stepReady waits for the new host's offer.
func (s *Service) stepReady(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.loadMove(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	done, err := s.otherDone(&sv)
	cause := calledOff(&sv, p)
	switch {
	case err != nil:
		return s.callOff(p, err.Error())
	case cause != "":
		return s.callOff(p, cause)
	case !done || sv.Move.Offer == "":
		return s.sendBoth(ctx, &sv)
	}
	return s.step(ctx, j, "send", p, "running", func(x *Server) { x.Generation = x.next() })
}

// stepSend has the old host send the guest.
func (s *Service) stepSend(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.loadMove(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if sv.Move.Sent {
		return reconcile.Goto("land"), nil
	}
	done, refused := s.hostDone(sv)
	switch {
	case refused != nil:
		return s.callOff(p, refused.Error())
	case sv.Move.Cancel:
		return s.callOff(p, "The migration was called off.")
	case done:
		return s.callOff(p, "The guest did not move.")
	case time.Now().After(p.MoveBy):
		return s.callOff(p, "The migration did not end in time.")
	}
	up, err := s.hostUp(ctx, sv.Host)
	if err != nil {
		return reconcile.Next{}, err
	}
	if !up && landed(sv.Move) {
		return reconcile.Goto("land"), nil // the host that sent it is silent, the guest runs
	}
	return s.sendBoth(ctx, &sv)
}

func (s *Service) hostUp(ctx context.Context, host string) (bool, error) {
	hs, err := s.hosts.Where(ctx, store.Eq("name", host))
	return len(hs) > 0 && s.Up(hs[0]), err
}

// landed reports whether the guest is on the host that it was sent to, and runs or, where
// it was paused, stands still.
func landed(m *Moving) bool {
	there := m.SeenPower == hypervisor.Running || m.Landed && m.SeenPower == hypervisor.Paused
	return m.SeenGen >= m.Generation && m.SeenPhase == hypervisor.Done && there
}

// callOff gives a live migration up. It may be too late for that: then the guest lands.
func (s *Service) callOff(p progress, cause string) (reconcile.Next, error) {
	p.Cause = cause
	return reconcile.Goto("calloff").With(p), nil
}

// stepCallOff asks the old host where the guest is.
func (s *Service) stepCallOff(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.loadMove(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if !p.Halted {
		p.Halted = true
		return s.step(ctx, j, "calloff", p, "", func(x *Server) { x.Move.Halt, x.Generation = true, x.next() })
	}
	if sv.Move.Sent {
		return reconcile.Goto("land"), nil
	}
	done, refused := s.hostDone(sv)
	if done && sv.SeenPower != hypervisor.Paused && sv.SeenPower != hypervisor.NoState {
		return s.goHome(ctx, j, &sv, p)
	}
	up, err := s.hostUp(ctx, sv.Host)
	if err != nil {
		return reconcile.Next{}, err
	}
	if done || refused != nil || !up {
		return s.step(ctx, j, "drop", p, "", func(x *Server) { x.Move.Drop, x.Move.Generation = true, x.next() })
	}
	return s.sendAgain(ctx, &sv)
}

// stepDrop asks the new host to let go of what it prepared, unless the guest runs there.
// There is no limit to the wait: only that host knows.
func (s *Service) stepDrop(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.loadMove(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	switch {
	case sv.Move.Sent || landed(sv.Move):
		return reconcile.Goto("land"), nil
	case sv.Move.SeenGen >= sv.Move.Generation && (sv.Move.SeenPhase == hypervisor.Done || sv.Move.SeenPhase == hypervisor.Absent):
		return s.goHome(ctx, j, &sv, p)
	}
	return s.sendBoth(ctx, &sv)
}

// stepLand makes the new host, where the guest runs, the server's own.
func (s *Service) stepLand(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.loadMove(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if err := s.rebind(ctx, &sv, sv.OtherHost, sv.Host); err != nil {
		return reconcile.Next{}, err
	}
	zone, err := s.zoneOf(ctx, sv.OtherHost)
	if err != nil {
		return reconcile.Next{}, err
	}
	return j.Commit(ctx, reconcile.Done(), func(ctx context.Context) error {
		from, g := sv.Host, int64(0)
		x, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			g = x.next()
			x.swap()
			vm, power := VMActive, hypervisor.Running
			if x.Move.VMState == VMPaused {
				vm, power = VMPaused, hypervisor.Paused
			}
			x.Move, x.OtherHost, x.Generation = nil, "", g+1
			x.TaskState, x.VMState, x.WantPower, x.PowerState = "", vm, power, power
			x.AvailabilityZone, x.Updated, x.Fault = zone, time.Now().UTC(), nil
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.c.Placement.Release(ctx, sv.Move.Migration); err != nil {
			return err
		}
		if err := s.leave(ctx, sv.ID, from, g); err != nil {
			return err
		}
		if err := s.setMigration(ctx, sv.Move.Migration, "completed"); err != nil {
			return err
		}
		if err := s.endAction(ctx, sv.ID, p.Op, nil); err != nil {
			return err
		}
		if err := s.cutActions(ctx, sv.ID, "The migration was over."); err != nil {
			return err
		}
		s.tellAfter(ctx, x)
		return s.emit(ctx, "compute.instance.live_migration.post.dest.end", sv.ID, sv.ProjectID, eventOf(&x))
	})
}

// tellAfter sends a server's host what is wanted once the transaction is committed: a
// hint, for the host's next full report has it sent again.
func (s *Service) tellAfter(ctx context.Context, sv Server) {
	out := store.Detach(ctx)
	store.AfterCommit(ctx, func() {
		if d, err := s.desired(out, &sv); err == nil {
			_ = s.send(out, sv.Host, d)
		}
	})
}
