package compute

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// endMove ends a cold move, or an evacuation, where it is: the server stays on the host
// that it has, the other one has what it got destroyed. left is that other one: its ports
// are to leave it (putTidy). In the caller's transaction.
func (s *Service) endMove(ctx context.Context, sv *Server, cause string) (left string, err error) {
	if left, err = s.endEvacuation(ctx, sv); err != nil || sv.Move == nil {
		return left, err
	}
	m, other := *sv.Move, sv.OtherHost
	if !m.Switched {
		return other, s.unwind(ctx, sv.ID, progress{Cause: cause}, func(x *Server, m *Moving) {
			if x.VMState == VMActive {
				x.WantPower = hypervisor.Running
			}
		})
	}
	g := sv.next()
	if _, err := s.servers.Update(ctx, sv.ID, func(x *Server) error {
		x.Move, x.OtherHost, x.Generation = nil, "", g+1
		x.setFlavor(x.Flavor)
		return nil
	}); err != nil {
		return "", err
	}
	if err := s.c.Placement.Release(ctx, m.Migration); err != nil {
		return "", err
	}
	if err := s.setMigration(ctx, m.Migration, "error"); err != nil {
		return "", err
	}
	return other, s.leave(ctx, sv.ID, other, g)
}

// endEvacuation ends what is under way of a server's evacuation; left is the host that it
// has left already. In the caller's transaction.
func (s *Service) endEvacuation(ctx context.Context, sv *Server) (left string, err error) {
	list, err := s.migrations.Where(ctx, store.Eq("server_id", sv.ID), store.Eq("type", TypeEvacuation), store.In("status", []string{"accepted", "pre-migrating"}))
	for _, m := range list {
		if m.Dest == sv.Host {
			left = m.Source
		}
		if err := s.setMigration(ctx, m.ID, "error"); err != nil {
			return left, err
		}
	}
	return left, err
}

// deleteMove has the other host of a server that is deleted destroy what it has of it; in
// the caller's transaction.
func (s *Service) deleteMove(ctx context.Context, sv *Server) error {
	if _, err := s.endEvacuation(ctx, sv); err != nil || sv.Move == nil {
		return err
	}
	status := "error"
	if sv.VMState == VMResized {
		status = "confirmed"
	}
	if err := s.setMigration(ctx, sv.Move.Migration, status); err != nil || sv.OtherHost == "" {
		return err
	}
	return s.entomb(ctx, sv.ID, sv.OtherHost, sv.next())
}

func tidyOf(left string) progress { return progress{Op: "tidy", Tidy: left} }

// toTidy is the host that a server's work has its ports leave, after a move that was
// ended; "" if they are in order.
func (s *Service) toTidy(ctx context.Context, id string) (string, error) {
	w, ok, err := s.work.Pending(ctx, kindServer, id)
	if err != nil || !ok {
		return "", err
	}
	var p progress
	err = json.Unmarshal(w.Data, &p)
	return p.Tidy, err
}

// putTidy gives a server that comes to rest the one work that is left, if it is: its ports
// leave a host that is not its own. In the caller's transaction.
func (s *Service) putTidy(ctx context.Context, id, left string) (bool, error) {
	if left == "" {
		var err error
		if left, err = s.toTidy(ctx, id); err != nil || left == "" {
			return false, err
		}
	}
	return true, s.work.Put(ctx, kindServer, id, reconcile.Begin{Step: "tidy", Data: tidyOf(left)})
}

// put starts a server's work, in the caller's transaction. Ports that a move left behind
// are put in order first.
func (s *Service) put(ctx context.Context, id string, b reconcile.Begin, p progress) (err error) {
	if p.Tidy, err = s.toTidy(ctx, id); err != nil {
		return err
	}
	if p.Tidy != "" {
		b.Step, p.Then = "tidy", b.Step
	}
	b.Data = p
	return s.work.Put(ctx, kindServer, id, b)
}

// stepTidy has the ports of a server whose move was ended be where the server is, and no
// more where it is not.
func (s *Service) stepTidy(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	sv, p, gone, err := s.load(ctx, j)
	if gone || err != nil {
		return reconcile.Done(), err
	}
	if err := s.rebind(ctx, &sv, sv.Host, p.Tidy); err != nil {
		if p.Cause = calledOff(&sv, p); p.Cause != "" {
			return s.goHome(ctx, j, &sv, p)
		}
		return reconcile.Next{}, err
	}
	then := reconcile.Done()
	if p.Then != "" {
		then = reconcile.Goto(p.Then)
	}
	p.Tidy, p.Then = "", ""
	return then.With(p), nil
}

// calledOff says why a live migration that has not begun to send its guest is to end, if
// it is.
func calledOff(sv *Server, p progress) string {
	switch {
	case sv.Move == nil || sv.Move.Type != TypeLive:
		return ""
	case sv.Move.Cancel:
		return "The migration was called off."
	case time.Now().After(p.MoveBy):
		return "The new host was not ready in time."
	}
	return ""
}
