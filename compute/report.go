package compute

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/internal/roster"
	"github.com/nacre-cloud/nacre/store"
)

// offerEvery is how often what a host offers is compared with placement's inventory
// while the host itself says the same.
const offerEvery = time.Minute

// heard is a report with its place among those of its host. Copies of compute share the
// host's queue and may take two of its reports at once, in any order: what a report says
// counts only where no later one has spoken.
type heard struct {
	hypervisor.Report
	host string
	id   string      // the host's
	mark roster.Mark // the report's
	now  roster.Mark // that of the host's last full report, as the host's row has it
}

func (h *Host) mark() roster.Mark { return roster.Mark{Epoch: h.Started, Sequence: h.Sequence} }

// overtaken reports whether a report of a host's is of no use any more.
func (s *Service) overtaken(h *Host, m roster.Mark) bool {
	return m.Overtaken(h.mark(), time.Since(h.Seen) < s.c.HostTimeout)
}

// takeReport takes in what a host says. host comes from the topic.
func (s *Service) takeReport(ctx context.Context, host string, r hypervisor.Report) error {
	h, err := s.hosts.One(ctx, store.Eq("name", host))
	if errors.Is(err, store.ErrNoRow) {
		s.log.Warn("report of an unknown host", "host", host)
		return nil
	}
	if err != nil {
		return err
	}
	in := heard{Report: r, host: host, id: h.ID, mark: roster.Mark{Epoch: r.Started, Sequence: r.Sequence}}
	if s.overtaken(&h, in.mark) {
		return nil
	}
	if r.Host != nil || r.Full {
		if h, err = s.hear(ctx, h, &in); errors.Is(err, errIgnored) {
			return nil
		} else if err != nil {
			return err
		}
	}
	known, err := s.spokenOf(ctx, &in)
	if err != nil {
		return err
	}
	if err := s.takeStates(ctx, &in, known); err != nil || !r.Full {
		return err
	}
	return s.resync(ctx, host, r, known)
}

// hear notes that a host lives, and what it says of itself; errIgnored says that a later
// report was faster. A host that is as it was costs one statement.
func (s *Service) hear(ctx context.Context, h Host, in *heard) (Host, error) {
	now := time.Now().UTC()
	same := in.Host == nil || reflect.DeepEqual(h.Info, *in.Host)
	if same && h.Started == in.mark.Epoch {
		n, err := s.hosts.UpdateWhere(ctx, store.And(store.Eq("id", h.ID), store.Eq("started", h.Started), store.LessEq("sequence", in.mark.Sequence)),
			store.Set{"seen_at": now, "sequence": in.mark.Sequence})
		if err != nil {
			return h, err
		}
		if same = n > 0; same {
			h.Seen, h.Sequence = now, in.mark.Sequence
		}
	} else {
		same = false
	}
	if !same {
		var err error
		if h, err = s.hosts.Update(ctx, h.ID, func(h *Host) error {
			if s.overtaken(h, in.mark) {
				return errIgnored
			}
			h.Seen, h.Started, h.Sequence = now, in.mark.Epoch, in.mark.Sequence
			if in.Host != nil {
				h.Info = *in.Host
			}
			return nil
		}); err != nil {
			return h, err
		}
	}
	if in.Host == nil || same && !s.offerDue(h.ID, now) {
		return h, nil
	}
	err := s.c.Placement.Report(ctx, h.ID, h.Name, inventories(*in.Host))
	if err == nil {
		s.mu.Lock()
		s.offered[h.ID] = now
		s.mu.Unlock()
	}
	return h, err
}

func (s *Service) offerDue(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.offered[id]
	return !ok || now.Sub(at) >= offerEvery
}

// spokenOf are the servers that a report speaks of and, of a full one, all that are to
// be on the host.
func (s *Service) spokenOf(ctx context.Context, in *heard) (map[string]*Server, error) {
	known := map[string]*Server{}
	add := func(list []Server, err error) error {
		for i := range list {
			known[list[i].ID] = &list[i]
		}
		return err
	}
	if in.Full {
		if err := add(s.servers.Where(ctx, store.Or(store.Eq("host", in.host), store.Eq("other_host", in.host)), store.Eq("deleted", false))); err != nil {
			return nil, err
		}
	}
	var ids []string
	for i := range in.States {
		if known[in.States[i].ID] == nil {
			ids = append(ids, in.States[i].ID)
		}
	}
	if len(ids) == 0 {
		return known, nil
	}
	return known, add(s.servers.Where(ctx, store.In("id", ids)))
}

// takeStates notes what is news: a full list of a thousand servers at rest costs
// nothing more.
func (s *Service) takeStates(ctx context.Context, in *heard, known map[string]*Server) error {
	for _, st := range in.States {
		sv := known[st.ID]
		if err := s.takeProgress(ctx, st); err != nil {
			return err
		}
		same := sv != nil && sv.Move == nil && sv.said(st) && sv.PowerState == st.Power
		// That a full report said it is in the host's row; of another it is noted.
		same = same && (in.Full || in.mark.Sequence == 0)
		if same && st.Phase != hypervisor.Absent || sv == nil && st.Phase != hypervisor.Absent {
			continue
		}
		if err := s.takeState(ctx, in, st); err != nil {
			return err
		}
	}
	return nil
}

// takeState notes what a host says of one server, and wakes its work.
func (s *Service) takeState(ctx context.Context, in *heard, st hypervisor.State) error {
	if st.Phase == hypervisor.Absent {
		if err := s.confirmGone(ctx, in.host, st); err != nil {
			return err
		}
	}
	changed, wake := false, false
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		changed, wake = false, false
		// A full report that finds a server as it is known leaves no mark in its row, only
		// in the host's: so none may come between.
		h, err := s.hosts.GetForUpdate(ctx, in.id)
		if err != nil || s.overtaken(&h, in.mark) {
			return err
		}
		if in.now = h.mark(); in.mark.Succeeds(in.now) {
			in.now = roster.Mark{Epoch: in.mark.Epoch}
			if _, err := s.hosts.UpdateWhere(ctx, store.Eq("id", in.id), store.Set{"started": in.now.Epoch, "sequence": in.now.Sequence}); err != nil {
				return err
			}
		}
		_, err = s.servers.Update(ctx, st.ID, func(sv *Server) error {
			changed, wake = s.note(sv, in, st)
			return nil
		})
		return err
	})
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	if err == nil && changed && wake {
		err = s.work.Wake(ctx, kindServer, st.ID)
	}
	return err
}

// note puts what a host says into a server's row.
func (s *Service) note(sv *Server, in *heard, st hypervisor.State) (changed, wake bool) {
	if m := sv.Move; m != nil && !sv.Deleted && sv.OtherHost == in.host && sv.Host != in.host {
		if in.mark.OvertakenBy(m.mark(), in.now) {
			return false, false
		}
		changed = m.take(st, in.mark)
		return changed, changed
	}
	if sv.Deleted || sv.Host != in.host || st.Generation < sv.SeenGen && st.Generation != 0 || in.mark.OvertakenBy(sv.mark(), in.now) {
		return false, false
	}
	if st.Generation == 0 && st.Phase != hypervisor.Absent {
		// The agent started anew and only found the instance.
		return false, false
	}
	changed = !sv.said(st)
	sv.Seen.note(st, in.mark)
	// That the host is at it is no news to the step that waits until it is done; of a move
	// it may say more meanwhile.
	idle := st.Phase == hypervisor.Working && sv.Move == nil
	if m := sv.Move; m != nil && st.Move.Moved && st.Move.ID == m.Migration && !m.Sent {
		m.Sent, changed = true, true
	}
	busy := sv.Transitional()
	if !busy && sv.settled() {
		s.followPower(sv, st.Power)
	}
	return changed, busy && !idle
}

// followPower follows what a guest did by itself, as nova's power sync does.
func (s *Service) followPower(sv *Server, p hypervisor.Power) {
	if p == hypervisor.NoState || sv.PowerState == p && sv.VMState != VMActive && sv.VMState != VMStopped {
		return
	}
	sv.PowerState = p
	now := time.Now().UTC()
	switch {
	case sv.VMState == VMActive && (p == hypervisor.Shutdown || p == hypervisor.Crashed):
		sv.VMState, sv.WantPower, sv.Updated = VMStopped, hypervisor.Shutdown, now
	case sv.VMState == VMStopped && p == hypervisor.Running && sv.WantPower == hypervisor.Running:
		sv.VMState, sv.Updated = VMActive, now
	}
}

// confirmGone removes the tombstone of what a host says is not there. Only the
// answer to the tombstone's own generation counts: an older "not here" may have
// been said before a creation that was still on its way.
func (s *Service) confirmGone(ctx context.Context, host string, st hypervisor.State) error {
	n, err := s.tombstones.DeleteWhere(ctx, store.Eq("id", host+"/"+st.ID), store.LessEq("generation", st.Generation))
	if err != nil || n == 0 {
		return err
	}
	// What an evacuation left behind is gone now.
	if _, err := s.migrations.UpdateWhere(ctx, store.And(store.Eq("server_id", st.ID), store.Eq("source", host), store.Eq("type", TypeEvacuation), store.Eq("status", "done")),
		store.Set{"status": "completed", "updated_at": time.Now().UTC()}); err != nil {
		return err
	}
	return s.work.Wake(ctx, kindServer, st.ID)
}

// resync compares a host's full list with what is wanted and sends what differs.
func (s *Service) resync(ctx context.Context, host string, r hypervisor.Report, servers map[string]*Server) error {
	stones, err := s.tombstones.Where(ctx, store.Eq("host", host))
	if err != nil {
		return err
	}
	has := make(map[string]hypervisor.State, len(r.States))
	for _, st := range r.States {
		has[st.ID] = st
	}
	gone := map[string]bool{}
	var out []hypervisor.Desired
	for _, t := range stones {
		gone[t.ServerID] = true
		out = append(out, hypervisor.Desired{ID: t.ServerID, Generation: t.Generation, Gone: true})
	}
	for _, id := range slices.Sorted(maps.Keys(servers)) {
		sv := servers[id]
		if sv.Deleted || sv.Host != host && sv.OtherHost != host {
			continue // it was only spoken of
		}
		delete(has, sv.ID)
		if sv.Generation == 0 || gone[sv.ID] {
			continue
		}
		if sv.Host != host {
			d, err := s.otherDesired(ctx, sv)
			if err != nil {
				return err
			}
			if st, there := indexState(r.States, sv.ID); d != nil && (!there || st.Generation < d.Generation) {
				out = append(out, *d)
			}
			continue
		}
		if st, there := indexState(r.States, sv.ID); !there || st.Generation < sv.Generation {
			d, err := s.desired(ctx, sv)
			if err != nil {
				return err
			}
			out = append(out, d)
		}
	}
	for id, st := range has {
		if !gone[id] && st.Phase != hypervisor.Absent {
			s.log.Warn("host has a server that nobody wants there; left alone", "host", host, "server", id)
		}
	}
	return s.send(ctx, host, out...)
}

func indexState(states []hypervisor.State, id string) (hypervisor.State, bool) {
	i := slices.IndexFunc(states, func(st hypervisor.State) bool { return st.ID == id })
	if i < 0 {
		return hypervisor.State{}, false
	}
	return states[i], true
}
