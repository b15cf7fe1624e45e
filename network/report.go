package network

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/internal/roster"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

// heard is a report with its place among those of its host. Copies of network share the
// host's queue and may take two of its reports at once, in any order: what a report says
// counts only where no later one has spoken.
type heard struct {
	dataplane.Report
	host string
	id   string      // the host's
	mark roster.Mark // the report's
	now  roster.Mark // that of the host's last full report, as the host's row has it
}

func (p *Place) mark() roster.Mark {
	return roster.Mark{Epoch: p.SeenEpoch, Sequence: p.SeenSequence}
}

func (h *Host) mark() roster.Mark { return roster.Mark{Epoch: h.Started, Sequence: h.Sequence} }

// errOvertaken says that a later report was faster.
var errOvertaken = errors.New("a later report was faster")

// takeReport takes in what a host says. host comes from the topic.
func (s *Service) takeReport(ctx context.Context, host string, r dataplane.Report) error {
	h, err := s.hosts.One(ctx, store.Eq("name", host))
	if errors.Is(err, store.ErrNoRow) {
		s.log.Warn("report of an unknown host", "host", host)
		return nil
	}
	if err != nil {
		return err
	}
	in := heard{Report: r, host: host, id: h.ID, mark: roster.Mark{Epoch: r.Started, Sequence: r.Sequence}, now: h.mark()}
	if in.mark.Overtaken(in.now, s.Up(h)) {
		return nil
	}
	if r.Full || r.Host != nil {
		if err := s.takeHost(ctx, h, &in); errors.Is(err, errOvertaken) {
			return nil
		} else if err != nil {
			return err
		}
		in.now = in.mark
		if !s.Up(h) {
			s.wakeRouters() // some may have waited for a host
		}
	}
	known, err := s.reported(ctx, host, r)
	if err != nil {
		return err
	}
	news := false
	for _, st := range r.States {
		p, ok := known[placeID(host, st.Kind, st.ID)]
		// That a full report said the same is in the host's row; of another it is noted.
		quiet := r.Full || r.Sequence == 0
		if !ok || quiet && !p.Pending && st == (dataplane.State{Ref: dataplane.Ref{Kind: p.Kind, ID: p.ObjectID, Generation: p.Seen}, Active: p.Active, Reason: p.Reason}) {
			continue // of no concern any more, or as we know it
		}
		news = true
		if err := s.takeState(ctx, &in, st); err != nil {
			return err
		}
	}
	if !r.Full {
		return nil
	}
	if news {
		if known, err = s.reported(ctx, host, r); err != nil {
			return err
		}
	}
	return s.resync(ctx, &in, slices.SortedFunc(maps.Values(known), func(a, b Place) int { return strings.Compare(a.ID, b.ID) }))
}

// takeHost notes that a host lives, and what it says of itself. Where its end of
// tunnels is another than before, the other hosts of its networks hear of it.
// errOvertaken says that a later report was faster. A host that is as it was costs one
// statement.
func (s *Service) takeHost(ctx context.Context, h Host, r *heard) error {
	now := time.Now().UTC()
	if h.Started == r.mark.Epoch && (r.Host == nil || reflect.DeepEqual(h.Info, *r.Host)) {
		n, err := s.hosts.UpdateWhere(ctx, store.And(store.Eq("id", h.ID), store.Eq("started", h.Started), store.LessEq("sequence", r.mark.Sequence)),
			store.Set{"seen_at": now, "sequence": r.mark.Sequence})
		if err != nil || n > 0 {
			return err
		}
	}
	note := func(ctx context.Context) error {
		_, err := s.hosts.Update(ctx, h.ID, func(h *Host) error {
			if r.mark.Overtaken(h.mark(), s.Up(*h)) {
				return errOvertaken
			}
			h.Seen, h.Started, h.Sequence = now, r.mark.Epoch, r.mark.Sequence
			if r.Host != nil {
				h.Info = *r.Host
			}
			return nil
		})
		return err
	}
	if r.Host == nil || r.Host.Tunnel == h.Info.Tunnel {
		return note(ctx)
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := note(ctx); err != nil {
			return err
		}
		ps, err := s.places.Where(ctx, store.Eq("host", h.Name), store.Eq("kind", string(dataplane.KindNetwork)), store.Eq("gone", false))
		if err != nil {
			return err
		}
		for _, p := range ps {
			if err := s.tellOthers(ctx, p.ObjectID, h.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

// reported are a host's places that a report speaks of.
func (s *Service) reported(ctx context.Context, host string, r dataplane.Report) (map[string]Place, error) {
	w := []store.Where{store.Eq("host", host)}
	if !r.Full {
		ids := make([]string, len(r.States))
		for i, st := range r.States {
			ids[i] = placeID(host, st.Kind, st.ID)
		}
		w = w[:0]
		for chunk := range slices.Chunk(ids, 500) {
			w = append(w, store.In("id", chunk))
		}
	}
	known := map[string]Place{}
	for _, w := range w {
		ps, err := s.places.Where(ctx, w)
		if err != nil {
			return nil, err
		}
		for _, p := range ps {
			known[p.ID] = p
		}
	}
	return known, nil
}

func placeID(host string, kind dataplane.Kind, id string) string {
	return host + "/" + string(kind) + "/" + id
}

// takeState notes what a host says of one object.
func (s *Service) takeState(ctx context.Context, in *heard, st dataplane.State) error {
	key := placeID(in.host, st.Kind, st.ID)
	var before, after Place
	err := s.tx(ctx, func(ctx context.Context) error {
		// A full report that finds an object as it is known leaves no mark in its place,
		// only in the host's row: so none may come between.
		h, err := s.hosts.GetForUpdate(ctx, in.id)
		if err != nil || in.mark.Overtaken(h.mark(), s.Up(h)) {
			return err
		}
		if in.now = h.mark(); in.mark.Succeeds(in.now) {
			in.now = roster.Mark{Epoch: in.mark.Epoch}
			if _, err := s.hosts.UpdateWhere(ctx, store.Eq("id", in.id), store.Set{"started": in.now.Epoch, "sequence": in.now.Sequence}); err != nil {
				return err
			}
		}
		if err := s.holdObject(ctx, st.Ref); err != nil {
			return err
		}
		p, err := s.places.GetForUpdate(ctx, key)
		if errors.Is(err, store.ErrNoRow) {
			return nil
		}
		if err != nil {
			return err
		}
		before = p
		switch {
		case in.mark.OvertakenBy(p.mark(), in.now):
			return nil
		case p.Gone && st.Absent && st.Generation >= p.Wanted:
			if err := s.places.Delete(ctx, key); err != nil || p.Kind != dataplane.KindRouter {
				return err
			}
			return s.routerLeft(ctx, p.ObjectID)
		case st.Absent || !p.Gone && st.Generation < p.Seen || p.Gone && st.Generation < p.Wanted:
			return nil
		case p.Gone:
			// It was sent before it was to go, and would not heed the tombstone.
			return s.overtake(ctx, p, st.Generation)
		case st.Generation > p.Wanted:
			gen, err := s.generation(ctx, p.Kind, p.ObjectID)
			if err != nil && !isGone(err) {
				return err
			}
			if st.Generation > gen {
				// The host knows a later generation than there ever was: the database
				// is an older one, brought back. A lower number it would not heed.
				return s.overtake(ctx, p, st.Generation)
			}
		}
		after, err = s.places.Update(ctx, key, func(p *Place) error {
			p.Seen, p.Active, p.Reason = st.Generation, st.Active, st.Reason
			p.SeenEpoch, p.SeenSequence = in.mark.Epoch, in.mark.Sequence
			p.Pending = st.Generation < p.Wanted
			p.Wanted = max(p.Wanted, st.Generation)
			return nil
		})
		if err != nil {
			return err
		}
		return s.showState(ctx, after)
	})
	if err != nil || after.ID == "" || after.Kind != dataplane.KindPort || after.Active == before.Active && before.Seen == after.Seen {
		return err
	}
	// What an inactive binding's host wired is of interest too: a guest may move there.
	name := VIFPlugged
	if !after.Active || after.Pending {
		if name = VIFUnplugged; !before.Active {
			return nil
		}
	}
	p, err := s.ports.Get(ctx, st.ID)
	if err == nil && (name == VIFPlugged || p.Host == in.host) {
		s.tellPort(ctx, name, &p)
	}
	return nil
}

// holdObject takes, before its place, an object whose own row what a host says may
// change: as those do who change it.
func (s *Service) holdObject(ctx context.Context, r dataplane.Ref) error {
	switch r.Kind {
	case dataplane.KindRouter:
		if err := store.Lock(ctx, s.c.Engine, "router/"+r.ID); err != nil {
			return err
		}
	case dataplane.KindPort:
	default:
		return nil
	}
	if _, err := s.generation(ctx, r.Kind, r.ID); !isGone(err) {
		return err
	}
	return nil // its tombstone is left
}

// showState puts what a host says into the object's status.
func (s *Service) showState(ctx context.Context, p Place) error {
	status := Down
	if p.Active && !p.Pending {
		status = Active
	}
	var err error
	set := store.Set{"status": status}
	w := store.And(store.Eq("id", p.ObjectID), store.Not(store.Eq("status", status)))
	switch p.Kind {
	case dataplane.KindPort:
		_, err = s.ports.UpdateWhere(ctx, store.And(w, store.Eq("host", p.Host)), set)
	case dataplane.KindNetwork:
		if p.Active {
			_, err = s.ports.UpdateWhere(ctx, store.And(store.Eq("network_id", p.ObjectID), store.Eq("device_owner", OwnerDHCP), store.Not(store.Eq("status", Active))), store.Set{"status": Active})
		}
	case dataplane.KindRouter:
		if p.Active && !p.Pending {
			if _, err = s.ports.UpdateWhere(ctx, store.And(store.Eq("device_id", p.ObjectID), store.In("device_owner", routerOwners), store.Not(store.Eq("status", Active))), store.Set{"status": Active}); err != nil {
				return err
			}
			_, err = s.floatingips.UpdateWhere(ctx, store.And(store.Eq("router_id", p.ObjectID), store.Not(store.Eq("status", Active))), store.Set{"status": Active})
		}
	}
	return err
}

// resync compares a host's full list with what it is to have, and sends again
// what it lacks.
func (s *Service) resync(ctx context.Context, in *heard, ps []Place) error {
	host, has := in.host, make(map[string]int64, len(in.States))
	for _, st := range in.States {
		if !st.Absent {
			has[string(st.Kind)+"/"+st.ID] = st.Generation
		}
	}
	s.sent.forget(ps) // it may have begun anew, or have missed what it was sent
	var lost []Place
	pending := false
	for _, p := range ps {
		key := string(p.Kind) + "/" + p.ObjectID
		gen, there := has[key]
		delete(has, key)
		if !p.Gone && !p.Pending && (!there || gen < p.Wanted) && !in.mark.OvertakenBy(p.mark(), in.now) {
			lost = append(lost, p)
		}
		pending = pending || p.Pending
	}
	for key := range has {
		s.log.Warn("host has something that nobody wants there; left alone", "host", host, "object", key)
	}
	if !pending && len(lost) == 0 {
		return nil
	}
	return s.tx(ctx, func(ctx context.Context) error {
		for _, p := range lost {
			// The same comparison again: it may have been confirmed meanwhile.
			n, err := s.places.UpdateWhere(ctx, store.And(store.Eq("id", p.ID), store.Eq("wanted", p.Wanted), store.Eq("gone", false)), store.Set{"pending": true, "active": false})
			if err != nil {
				return err
			}
			if n > 0 && p.Kind == dataplane.KindPort {
				p.Active, p.Pending = false, true
				if err := s.showState(ctx, p); err != nil {
					return err
				}
			}
		}
		s.poke(ctx, host)
		return nil
	})
}

// overtake gives a place a generation above the one that its host has.
func (s *Service) overtake(ctx context.Context, p Place, gen int64) error {
	next, err := s.bump(ctx, p.Kind, p.ObjectID, gen+1)
	switch {
	case isGone(err):
		next = gen + 1
	case err != nil:
		return err
	case p.Gone:
		// The object lives on elsewhere, and must stay above its tombstone.
		if _, err := s.raise(ctx, p.Kind, p.ObjectID, 2); err != nil {
			return err
		}
	}
	if _, err := s.places.UpdateWhere(ctx, store.Eq("id", p.ID), store.Set{"wanted": next, "pending": true}); err != nil {
		return err
	}
	s.poke(ctx, p.Host)
	if p.Kind == dataplane.KindPort {
		return s.changed(ctx, p.Kind, p.ObjectID) // its other hosts follow
	}
	return nil
}
