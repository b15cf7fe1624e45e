package compute

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/scheduler"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// The steps of a cold move (a resize too) are choose, halt, pull, switch, and then those
// of a start (build, wire, run) on the new host, where the server waits to be confirmed
// or reverted. What fails goes back, retreat, and then those of a start on the old host.
//
// Those of a live one are choose, prepare, ready, send, land. What fails or is called off
// goes calloff, then drop if the old host does not know where the guest is, then home.
//
// What ends a move where it is, and so its work, leaves one step, tidy.

// errGoneOn says that a server is further than its step: somebody else did it, or nobody
// learned that it was done. The step that is due is read again.
var errGoneOn = errors.New("the server has gone on")

// loadMove is load for the steps between the choice of a host and its becoming the
// server's own. A server without a move is gone for them: the step that ended the move
// was woken meanwhile, and looks once more.
func (s *Service) loadMove(ctx context.Context, j *reconcile.Job) (sv Server, p progress, gone bool, err error) {
	sv, p, gone, err = s.load(ctx, j)
	if err != nil || gone || sv.Move == nil {
		return sv, p, gone || sv.Move == nil, err
	}
	if sv.Move.Switched || sv.OtherHost == "" {
		err = errGoneOn
	}
	return sv, p, false, err
}

// errNoHost is nova's sentence.
func errNoHost(res scheduler.Result) error {
	return fmt.Errorf("No valid host was found. There are not enough hosts available (%s)", res.Explain()) //nolint:staticcheck // nova's sentence
}

// pick finds hosts for a server that is to leave its own, best first. soon says that
// there may be more in a moment: a host that is up has not destroyed yet what it had of
// the server.
func (s *Service) pick(ctx context.Context, sv *Server, want Server) (res scheduler.Result, hosts map[string]Host, soon bool, err error) {
	stones, err := s.tombstones.Where(ctx, store.Eq("server_id", sv.ID))
	if err != nil {
		return res, nil, false, err
	}
	var not []string
	if sv.Move == nil {
		not = append(not, sv.Host)
	}
	for _, t := range stones {
		not = append(not, t.Host)
	}
	res, hosts, err = s.candidates(ctx, want, not)
	if err != nil || len(res.Hosts) > 0 {
		return res, hosts, false, err
	}
	for _, t := range stones {
		if t.Host == sv.Host || !s.Up(hosts[t.Host]) {
			continue
		}
		soon = true
		if err := s.send(ctx, t.Host, hypervisor.Desired{ID: sv.ID, Generation: t.Generation, Gone: true}); err != nil {
			return res, hosts, true, err
		}
	}
	return res, hosts, soon || s.free.stale(), nil
}

// stepChoose chooses the host that a server moves to. The migration takes over what the
// server holds, and the server gets its place on the new host.
func (s *Service) stepChoose(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if sv.Move == nil {
		return reconcile.Done(), nil // as in loadMove
	}
	if sv.OtherHost != "" {
		return reconcile.Next{}, errGoneOn
	}
	then := reconcile.Goto("halt")
	if sv.Move.Type == TypeLive {
		then = reconcile.Goto("prepare")
	}
	want := wantOf(&sv)
	res, hosts, soon, err := s.pick(ctx, &sv, want)
	if err != nil {
		return reconcile.Next{}, err
	}
	if soon && !sv.Move.Cancel && (p.MoveBy.IsZero() || time.Now().Before(p.MoveBy)) {
		return reconcile.Again(200 * time.Millisecond), nil
	}
	if len(res.Hosts) == 0 || sv.Move.Cancel {
		if p.Cause = "The migration was called off."; !sv.Move.Cancel {
			p.Cause = errNoHost(res).Error()
		}
		return s.goHome(ctx, j, &sv, p)
	}
	return s.claim(ctx, j, &sv, resources(want), chosen{res, hosts}, then, func(ctx context.Context, host Host) error {
		_, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			x.OtherHost, x.Move.Source, x.Move.Target = host.Name, hosts[sv.Host].Info.Migration, host.Info.Migration
			x.Updated = time.Now().UTC()
			return nil
		})
		if err != nil {
			return err
		}
		_, err = s.migrations.UpdateWhere(ctx, store.Eq("id", sv.Move.Migration), store.Set{"dest": host.Name, "dest_ip": host.Info.Address, "updated_at": time.Now().UTC()})
		return err
	})
}

// bindThere has the server's ports wired on its other host too.
func (s *Service) bindThere(ctx context.Context, sv *Server, host string) error {
	return s.c.Networks.BindPorts(nacre.AsService(ctx, "compute"), sv.ProjectID, sv.ID, host)
}

// rebind makes the bindings to a host the active ones and takes those to the other away.
func (s *Service) rebind(ctx context.Context, sv *Server, to, from string) error {
	ctx = nacre.AsService(ctx, "compute")
	if err := s.c.Networks.BindPorts(ctx, sv.ProjectID, sv.ID, to); err != nil {
		return err
	}
	if err := s.c.Networks.ActivatePorts(ctx, sv.ProjectID, sv.ID, to); err != nil {
		return err
	}
	if from == "" {
		return nil
	}
	return s.c.Networks.UnbindPorts(ctx, sv.ProjectID, sv.ID, from)
}

// stepHalt has the old host turn the guest off.
func (s *Service) stepHalt(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.loadMove(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if !sv.Move.Tell {
		if err := s.bindThere(ctx, &sv, sv.OtherHost); err != nil {
			return reconcile.Next{}, err
		}
		return s.step(ctx, j, "halt", p, "migrating", func(x *Server) {
			x.Move.Tell, x.WantPower, x.TaskState, x.Generation = true, hypervisor.Shutdown, TaskResizeMigrating, x.next()
		})
	}
	if done, err := s.hostDone(sv); err != nil {
		return s.goBack(ctx, j, p, err)
	} else if !done {
		return s.sendAgain(ctx, &sv)
	}
	return s.step(ctx, j, "pull", p, "", func(x *Server) { x.Move.Generation = x.next() })
}

// step commits a change of the server's row, and of its migration's status unless that
// is "", and goes on with another step.
func (s *Service) step(ctx context.Context, j *reconcile.Job, to string, p progress, status string, fn func(*Server)) (reconcile.Next, error) {
	return j.Commit(ctx, reconcile.Goto(to).With(p), func(ctx context.Context) error {
		sv, err := s.servers.Update(ctx, j.ObjectID, func(x *Server) error {
			fn(x)
			x.Updated = time.Now().UTC()
			return nil
		})
		if err != nil || status == "" || sv.Move == nil {
			return err
		}
		return s.setMigration(ctx, sv.Move.Migration, status)
	})
}

// otherDone is hostDone of the server's other host.
func (s *Service) otherDone(sv *Server) (bool, error) {
	m := sv.Move
	return s.hostDone(Server{Generation: m.Generation, Seen: m.Seen})
}

// sendBoth tells both hosts.
func (s *Service) sendBoth(ctx context.Context, sv *Server) (reconcile.Next, error) {
	d, err := s.otherDesired(ctx, sv)
	if err != nil {
		return reconcile.Next{}, err
	}
	if d != nil {
		if err := s.send(ctx, sv.OtherHost, *d); err != nil {
			return reconcile.Next{}, err
		}
	}
	return s.sendAgain(ctx, sv)
}

// stepPull has the new host fetch what the server has.
func (s *Service) stepPull(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.loadMove(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if done, err := s.otherDone(&sv); err != nil {
		return s.goBack(ctx, j, p, err)
	} else if !done {
		return s.sendBoth(ctx, &sv)
	}
	return s.step(ctx, j, "switch", p, "post-migrating", func(x *Server) { x.TaskState = TaskResizeMigrated })
}

// stepSwitch makes the new host the server's own.
func (s *Service) stepSwitch(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
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
	to := "build"
	if sv.Move.VMState == VMStopped {
		to = "power"
	}
	return s.step(ctx, j, to, p, "", func(x *Server) {
		g := x.next()
		x.swap()
		x.TaskState, x.AvailabilityZone, x.Generation = TaskResizeFinish, zone, g
		x.WantPower = startPower(x.Move.VMState)
		x.Move.At = time.Now().UTC()
	})
}

// startPower is how a host brings a server up that was in a state.
func startPower(vm string) hypervisor.Power {
	if vm == VMStopped {
		return hypervisor.Shutdown
	}
	return hypervisor.Paused
}

func (s *Service) zoneOf(ctx context.Context, host string) (string, error) {
	h, err := s.hosts.One(ctx, store.Eq("name", host))
	if errors.Is(err, store.ErrNoRow) {
		return s.c.DefaultZone, nil
	}
	return h.Zone, err
}

// goBack gives a cold move up and takes the server back to its old host.
func (s *Service) goBack(ctx context.Context, j *reconcile.Job, p progress, cause error) (reconcile.Next, error) {
	p.Back, p.Cause = true, cause.Error()
	return reconcile.Goto("back").With(p), nil
}

// stepBack turns the guest off on its new host, if it came that far.
func (s *Service) stepBack(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if sv.Move == nil {
		return reconcile.Next{}, errGoneOn
	}
	if !sv.Move.Switched {
		return reconcile.Goto("retreat"), nil
	}
	if !p.Halted {
		p.Halted = true
		return s.step(ctx, j, "back", p, "", func(x *Server) { x.WantPower, x.Generation = hypervisor.Shutdown, x.next() })
	}
	if done, err := s.hostDone(sv); err != nil {
		return reconcile.Next{}, reconcile.Fail(err)
	} else if !done {
		return s.sendAgain(ctx, &sv)
	}
	return reconcile.Goto("retreat"), nil
}

// stepRetreat makes the old host the server's own again, with its old flavor, and has
// the new one destroy what it got.
func (s *Service) stepRetreat(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if sv.Move == nil {
		return reconcile.Next{}, errGoneOn
	}
	source, target := sv.Host, sv.OtherHost
	if sv.Move.Switched {
		source, target = target, source
	}
	if err := s.rebind(ctx, &sv, source, target); err != nil {
		return reconcile.Next{}, err
	}
	zone, err := s.zoneOf(ctx, source)
	if err != nil {
		return reconcile.Next{}, err
	}
	to := "build"
	if sv.Move.VMState == VMStopped {
		to = "power"
	}
	return j.Commit(ctx, reconcile.Goto(to).With(p), func(ctx context.Context) error {
		return s.unwind(ctx, sv.ID, p, func(x *Server, m *Moving) {
			x.AvailabilityZone, x.WantPower = zone, startPower(m.VMState)
		})
	})
}

// unwind ends a move with the server on its old host: the migration gives back what it
// held of it, the new host gets a tombstone. In the caller's transaction.
func (s *Service) unwind(ctx context.Context, id string, p progress, fn func(*Server, *Moving)) error {
	var m Moving
	target, g := "", int64(0)
	if _, err := s.servers.Update(ctx, id, func(x *Server) error {
		g = x.next()
		if x.Move.Switched {
			x.swap()
		}
		m, target = *x.Move, x.OtherHost
		x.Move, x.OtherHost, x.Generation, x.Updated = nil, "", g+1, time.Now().UTC()
		x.setFlavor(m.OldFlavor)
		fn(x, &m)
		return nil
	}); err != nil {
		return err
	}
	status := "reverted"
	switch {
	case m.Type == TypeLive && m.Cancel:
		status = "cancelled"
	case p.Cause != "":
		status = "error"
	}
	if err := s.setMigration(ctx, m.Migration, status); err != nil {
		return err
	}
	if target == "" {
		return nil // no host was chosen yet
	}
	if err := s.c.Placement.Release(ctx, id); err != nil {
		return err
	}
	if err := s.c.Placement.Transfer(ctx, m.Migration, id, "INSTANCE"); err != nil {
		return err
	}
	return s.leave(ctx, id, target, g)
}

// goHome ends a move whose guest never left its host.
func (s *Service) goHome(ctx context.Context, j *reconcile.Job, sv *Server, p progress) (reconcile.Next, error) {
	if sv.OtherHost != "" {
		if err := s.rebind(ctx, sv, sv.Host, sv.OtherHost); err != nil {
			return reconcile.Next{}, err
		}
	}
	next := reconcile.Done()
	if p.Tidy != "" {
		next = reconcile.Goto("tidy").With(tidyOf(p.Tidy))
	}
	return j.Commit(ctx, next, func(ctx context.Context) error {
		err := s.unwind(ctx, sv.ID, p, func(x *Server, m *Moving) {
			x.VMState, x.TaskState = m.VMState, ""
			if off := x.SeenPower == hypervisor.Shutdown || x.SeenPower == hypervisor.Crashed; off && m.VMState == VMActive {
				x.VMState, x.PowerState, x.WantPower = VMStopped, x.SeenPower, hypervisor.Shutdown
			}
		})
		if err != nil {
			return err
		}
		if err := s.endAction(ctx, sv.ID, p.Op, errors.New(p.Cause)); err != nil {
			return err
		}
		if err := s.endAction(ctx, sv.ID, "live_migration_cancel", nil); err != nil {
			return err
		}
		x, err := s.servers.Get(ctx, sv.ID)
		if err != nil {
			return err
		}
		s.tellAfter(ctx, x)
		return s.emit(ctx, "compute.instance."+eventName(p.Op)+".error", x.ID, x.ProjectID, eventOf(&x))
	})
}

// finishMove is what settle adds for a server that moved: it waits on its new host to be
// confirmed.
func (s *Service) finishMove(ctx context.Context, sv *Server) error {
	if sv.Move == nil {
		return nil
	}
	return s.setMigration(ctx, sv.Move.Migration, "finished")
}

// stepEvacuate chooses a host for a server whose own is down. The old host has what it
// has of the server destroyed when it comes back.
func (s *Service) stepEvacuate(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if p.Left != "" {
		return reconcile.Next{}, errGoneOn
	}
	want := wantOf(&sv)
	want.RequestedHost = p.Wanted
	res, hosts, soon, err := s.pick(ctx, &sv, want)
	if err != nil {
		return reconcile.Next{}, err
	}
	if soon {
		return reconcile.Again(200 * time.Millisecond), nil
	}
	if len(res.Hosts) == 0 {
		return reconcile.Next{}, reconcile.Fail(errNoHost(res))
	}
	p.Left = sv.Host
	return s.claim(ctx, j, &sv, resources(want), chosen{res, hosts}, reconcile.Goto("rewire").With(p), func(ctx context.Context, host Host) error {
		x, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
			x.Host, x.AvailabilityZone, x.Updated = host.Name, host.Zone, time.Now().UTC()
			x.Generation += 2
			x.Seen = Seen{}
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.leave(ctx, sv.ID, p.Left, x.Generation-1); err != nil {
			return err
		}
		_, err = s.migrations.UpdateWhere(ctx, store.Eq("id", p.Migration),
			store.Set{"status": "pre-migrating", "dest": host.Name, "dest_ip": host.Info.Address, "updated_at": time.Now().UTC()})
		return err
	})
}

// stepRewire takes an evacuated server's ports along, and has its new host build it.
func (s *Service) stepRewire(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if err := s.rebind(ctx, &sv, sv.Host, p.Left); err != nil {
		return reconcile.Next{}, err
	}
	return s.step(ctx, j, "build", p, "", func(x *Server) { x.WantPower, x.Generation = hypervisor.Paused, x.next() })
}
