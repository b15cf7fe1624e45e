package network

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

const (
	kindHost = "host"
	// resend is how long a host may take before it is told again.
	resend = 5 * time.Second
	// resendDown is that for a host that is silent.
	resendDown = time.Minute
	// batch is how many objects one message carries.
	batch = 100
	// gather is how long the changes of a group that a host has are gathered: each
	// new member changes it, and it is sent whole.
	gather = 250 * time.Millisecond
)

// AddHost makes a host known, so that its reports are heard. Idempotent.
func (s *Service) AddHost(ctx context.Context, name string) (Host, error) {
	if name == "" || strings.Contains(name, "/") {
		return Host{}, nacre.Errorf(nacre.Invalid, "InvalidInput", "'%s' is not a name for a host.", name)
	}
	var out Host
	err := s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "hosts"); err != nil {
			return err
		}
		h, err := s.hosts.One(ctx, store.Eq("name", name))
		if err == nil || !errors.Is(err, store.ErrNoRow) {
			out = h
			return err
		}
		out = Host{ID: s.c.IDs.NewID(), Name: name, Created: time.Now().UTC(), AdminUp: true}
		if err := s.hosts.Insert(ctx, out); err != nil {
			return err
		}
		return s.bindWaiting(ctx, name)
	})
	if err == nil {
		err = s.listenTo(name)
	}
	return out, err
}

// bindWaiting places the ports that were bound to a host before it was known.
func (s *Service) bindWaiting(ctx context.Context, host string) error {
	ps, err := s.ports.Where(ctx, store.Eq("host", host))
	if err != nil {
		return err
	}
	for i := range ps {
		if _, err := s.ports.UpdateWhere(ctx, store.Eq("id", ps[i].ID), store.Set{"binding_failed": false}); err != nil {
			return err
		}
		if !carried(&ps[i]) {
			continue
		}
		if err := s.carry(ctx, host, &ps[i], false); err != nil {
			return err
		}
	}
	return nil
}

// known reports whether a host was added. Hosts stay, so it is remembered.
func (s *Service) known(ctx context.Context, name string) (bool, error) {
	if _, ok := s.hostNames.Load(name); ok {
		return true, nil
	}
	ok, err := s.hosts.Exists(ctx, store.Eq("name", name))
	if ok {
		store.AfterCommit(ctx, func() { s.hostNames.Store(name, true) })
	}
	return ok, err
}

// Up reports whether a host counts as alive.
func (s *Service) Up(h Host) bool { return time.Since(h.Seen) < s.c.HostTimeout }

// put makes an object part of what a host is to have; in the caller's
// transaction. gen is the object's generation.
func (s *Service) put(ctx context.Context, host string, kind dataplane.Kind, id string, gen int64) error {
	if host == "" {
		return nil
	}
	key := placeID(host, kind, id)
	p, err := s.places.Get(ctx, key)
	switch {
	case errors.Is(err, store.ErrNoRow):
		if known, err := s.known(ctx, host); err != nil || !known {
			return err
		}
		err = s.places.Insert(ctx, Place{ID: key, Host: host, Kind: kind, ObjectID: id, Wanted: gen, Pending: true})
	case err != nil:
	case p.Gone:
		// It comes back before the host has let go of it: with a newer generation
		// than the tombstone's, or the host would take the tombstone's word.
		if gen <= p.Wanted {
			if gen, err = s.bump(ctx, kind, id, p.Wanted+1); err != nil {
				return err
			}
		}
		_, err = s.places.UpdateWhere(ctx, store.Eq("id", key), store.Set{"gone": false, "pending": true, "wanted": gen, "active": false, "reason": ""})
	case p.Wanted < gen:
		_, err = s.places.UpdateWhere(ctx, store.Eq("id", key), store.Set{"wanted": gen, "pending": true})
	default:
		return nil
	}
	if err == nil {
		s.poke(ctx, host)
	}
	return err
}

// bump raises an object's generation to at least gen; in the caller's transaction.
func (s *Service) bump(ctx context.Context, kind dataplane.Kind, id string, gen int64) (int64, error) {
	have, err := s.generation(ctx, kind, id)
	if err != nil {
		return 0, err
	}
	_, err = s.raise(ctx, kind, id, max(1, gen-have))
	return max(have+1, gen), err
}

// raise adds to an object's generation, which also keeps others from placing or
// changing it until the caller's transaction ends. False says that it is not there
// any more.
func (s *Service) raise(ctx context.Context, kind dataplane.Kind, id string, by int64) (bool, error) {
	w, set := store.Eq("id", id), store.Set{"generation": store.Increment(by)}
	var n int64
	var err error
	switch kind {
	case dataplane.KindNetwork:
		n, err = s.networks.UpdateWhere(ctx, w, set)
	case dataplane.KindPort:
		n, err = s.ports.UpdateWhere(ctx, w, set)
	case dataplane.KindRouter:
		n, err = s.routers.UpdateWhere(ctx, w, set)
	case dataplane.KindSecurityGroup:
		n, err = s.groups.UpdateWhere(ctx, w, set)
	}
	return n > 0, err
}

// generation reads an object's generation, and keeps others from changing it.
func (s *Service) generation(ctx context.Context, kind dataplane.Kind, id string) (int64, error) {
	switch kind {
	case dataplane.KindNetwork:
		n, err := s.networks.GetForUpdate(ctx, id)
		return n.Generation, err
	case dataplane.KindPort:
		p, err := s.ports.GetForUpdate(ctx, id)
		return p.Generation, err
	case dataplane.KindRouter:
		r, err := s.routers.GetForUpdate(ctx, id)
		return r.Generation, err
	default:
		g, err := s.groups.GetForUpdate(ctx, id)
		return g.Generation, err
	}
}

// place puts an object on a host at the generation it has. Where it is already
// nothing is to do: each change of it reaches its places.
func (s *Service) place(ctx context.Context, host string, kind dataplane.Kind, id string) error {
	p, err := s.places.Get(ctx, placeID(host, kind, id))
	switch {
	case err == nil && !p.Gone:
		return nil
	case err != nil && !isGone(err):
		return err
	}
	gen, err := s.generation(ctx, kind, id)
	if err == nil {
		err = s.put(ctx, host, kind, id, gen)
	}
	if err != nil || kind != dataplane.KindNetwork {
		return err
	}
	return s.tellOthers(ctx, id, host)
}

// tellOthers has the other hosts of a network hear that one of them got it or lost
// it: they are the ends of each other's tunnels.
func (s *Service) tellOthers(ctx context.Context, network, host string) error {
	others, err := s.places.Exists(ctx, placesOf(dataplane.KindNetwork, network), store.Not(store.Eq("host", host)))
	if err != nil || !others {
		return err
	}
	n, err := s.networks.Get(ctx, network)
	if isGone(err) || err == nil && n.Type != "vxlan" {
		return nil
	}
	if err != nil {
		return err
	}
	return s.changed(ctx, dataplane.KindNetwork, network)
}

func placesOf(kind dataplane.Kind, id string) store.Where {
	return store.And(store.Eq("object_id", id), store.Eq("kind", string(kind)), store.Eq("gone", false))
}

// changed raises an object's generation and has every host that has it told; in
// the caller's transaction. The generation goes up first: a host that is given
// the object meanwhile waits for this transaction, and is seen by it.
func (s *Service) changed(ctx context.Context, kind dataplane.Kind, id string) error {
	_, err := s.tellHosts(ctx, kind, id)
	return err
}

// tellHosts is changed; false says that the object is not there any more.
func (s *Service) tellHosts(ctx context.Context, kind dataplane.Kind, id string) (bool, error) {
	if there, err := s.raise(ctx, kind, id, 1); err != nil || !there {
		return false, err
	}
	ps, err := s.places.Where(ctx, placesOf(kind, id))
	if err != nil || len(ps) == 0 {
		return true, err
	}
	gen, err := s.generation(ctx, kind, id)
	if err != nil {
		return true, err
	}
	if _, err := s.places.UpdateWhere(ctx, placesOf(kind, id), store.Set{"wanted": gen, "pending": true}); err != nil {
		return true, err
	}
	for _, p := range ps {
		s.poke(ctx, p.Host)
	}
	return true, nil
}

// remove turns an object's places into tombstones; in the caller's transaction.
// host empty means everywhere.
func (s *Service) remove(ctx context.Context, kind dataplane.Kind, id, host string) error {
	w := placesOf(kind, id)
	if host != "" {
		w = store.And(store.Eq("id", placeID(host, kind, id)), store.Eq("gone", false))
	}
	ps, err := s.places.Where(ctx, w)
	if err != nil || len(ps) == 0 {
		return err
	}
	// A host may have been sent a later generation of what others have too than it
	// was told to reach. A port's hosts are all told of each change.
	gen := int64(0)
	if kind != dataplane.KindPort {
		if gen, err = s.generation(ctx, kind, id); err != nil && !isGone(err) {
			return err
		}
	}
	for _, p := range ps {
		gen = max(gen, p.Wanted)
		s.poke(ctx, p.Host)
	}
	if _, err := s.places.UpdateWhere(ctx, w, store.Set{"gone": true, "pending": true, "active": false, "wanted": gen + 1}); err != nil {
		return err
	}
	if kind == dataplane.KindPort {
		return nil // where it leaves a host its generation goes up
	}
	// The host remembers the tombstone's generation as gone; if the object lives
	// on and comes back, it must be with a higher one.
	_, err = s.raise(ctx, kind, id, 2)
	return err
}

// settlePort brings a port's places in line after it was bound, unbound or
// changed: the port itself, its network and its groups. before is nil for a new
// one, after is nil for one that goes. In the caller's transaction.
func (s *Service) settlePort(ctx context.Context, before, after *Port) error {
	var was, is []string
	if before != nil {
		was = carriers(before)
	}
	if after != nil {
		if is = carriers(after); after.BindingFailed {
			is = slices.DeleteFunc(is, func(h string) bool { return h == after.Host })
		}
	}
	for _, host := range was {
		if !slices.Contains(is, host) {
			if err := s.remove(ctx, dataplane.KindPort, before.ID, host); err != nil {
				return err
			}
		}
	}
	for _, host := range is {
		if err := s.carry(ctx, host, after, before == nil); err != nil {
			return err
		}
	}
	for _, host := range was {
		network, left := before.NetworkID, before.SecurityGroups
		if slices.Contains(is, host) {
			network, left = "", slices.DeleteFunc(slices.Clone(left), func(g string) bool { return slices.Contains(after.SecurityGroups, g) })
		}
		if err := s.sweep(ctx, host, network, left); err != nil {
			return err
		}
	}
	return nil
}

// carry places a port on a host, with what it needs there.
func (s *Service) carry(ctx context.Context, host string, p *Port, fresh bool) error {
	if err := s.place(ctx, host, dataplane.KindNetwork, p.NetworkID); err != nil {
		return err
	}
	for _, g := range p.SecurityGroups {
		if err := s.putGroup(ctx, host, g); err != nil {
			return err
		}
	}
	if !fresh {
		return s.put(ctx, host, dataplane.KindPort, p.ID, p.Generation)
	}
	err := s.places.Insert(ctx, Place{ID: placeID(host, dataplane.KindPort, p.ID), Host: host, Kind: dataplane.KindPort, ObjectID: p.ID, Wanted: p.Generation, Pending: true})
	s.poke(ctx, host)
	return err
}

// carriers are the hosts that carry a port: where it is bound, and where it has an
// inactive binding.
func carriers(p *Port) []string {
	if !carried(p) {
		return nil
	}
	out := []string{p.Host}
	for _, b := range p.Inactive {
		out = append(out, b.Host)
	}
	return out
}

// carrier is the host that carries a port, "" when none does.
func carrier(p *Port) string {
	if carried(p) {
		return p.Host
	}
	return ""
}

// carried says that a port is a guest's, which a host must wire; our own (DHCP,
// routers) are part of their network or router.
func carried(p *Port) bool { return p.Host != "" && !ourOwn(p.DeviceOwner) }

var ourOwners = []string{OwnerDHCP, OwnerRouter, OwnerGateway, OwnerFloatingIP}

func ourOwn(owner string) bool { return slices.Contains(ourOwners, owner) }

// putGroup places a group, and the groups that its rules name as remote.
func (s *Service) putGroup(ctx context.Context, host, id string) error {
	if err := s.place(ctx, host, dataplane.KindSecurityGroup, id); err != nil {
		return err
	}
	rules, err := s.rules.Where(ctx, store.Eq("security_group_id", id), store.Not(store.Eq("remote_group_id", "")))
	if err != nil {
		return err
	}
	done := map[string]bool{id: true}
	for _, r := range rules {
		if done[r.RemoteGroupID] {
			continue
		}
		done[r.RemoteGroupID] = true
		if err := s.place(ctx, host, dataplane.KindSecurityGroup, r.RemoteGroupID); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// sweep removes from a host a network and groups that nothing there needs.
func (s *Service) sweep(ctx context.Context, host, network string, groups []string) error {
	if network != "" {
		used, err := s.networkUsed(ctx, host, network)
		if err != nil {
			return err
		}
		if !used {
			if err := s.remove(ctx, dataplane.KindNetwork, network, host); err != nil {
				return err
			}
			if err := s.tellOthers(ctx, network, host); err != nil {
				return err
			}
		}
	}
	for _, g := range groups {
		member, err := s.members.Exists(ctx, store.Eq("group_id", g), store.Eq("host", host))
		if err != nil {
			return err
		}
		if member {
			continue
		}
		if err := s.sweepGroup(ctx, host, g); err != nil {
			return err
		}
		// What its rules name was there for its members.
		rules, err := s.rules.Where(ctx, store.Eq("security_group_id", g), store.Not(store.In("remote_group_id", []string{"", g})))
		if err != nil {
			return err
		}
		for _, r := range rules {
			if err := s.sweepGroup(ctx, host, r.RemoteGroupID); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepGroup removes a group from a host where it has no member and no group with
// members names it.
func (s *Service) sweepGroup(ctx context.Context, host, g string) error {
	used, err := s.members.Exists(ctx, store.Eq("host", host), store.Or(store.Eq("group_id", g),
		store.InSelect("group_id", s.rules, "security_group_id", store.Eq("remote_group_id", g))))
	if err != nil || used {
		return err
	}
	return s.remove(ctx, dataplane.KindSecurityGroup, g, host)
}

func (s *Service) networkUsed(ctx context.Context, host, network string) (bool, error) {
	used, err := s.places.Exists(ctx, store.Eq("host", host), store.Eq("kind", string(dataplane.KindPort)), store.Eq("gone", false), store.InSelect("object_id", s.ports, "id", store.Eq("network_id", network)))
	if used || err != nil {
		return used, err
	}
	return s.ports.Exists(ctx, store.Eq("network_id", network), store.In("device_owner", routerOwners), store.InSelect("device_id", s.routers, "id", store.Eq("host", host)))
}

// stepSync sends a host what it has not confirmed.
func (s *Service) stepSync(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
	host := j.ObjectID
	pending, err := s.places.Select(ctx, store.Select{Where: store.And(store.Eq("host", host), store.Eq("pending", true))})
	if err != nil {
		return reconcile.Next{}, err
	}
	if len(pending) == 0 {
		return reconcile.Done(), nil
	}
	// What others build on goes first; the host takes any order.
	order := []dataplane.Kind{dataplane.KindNetwork, dataplane.KindSecurityGroup, dataplane.KindRouter, dataplane.KindPort}
	slices.SortStableFunc(pending, func(a, b Place) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) })
	due, wait := s.sent.due(pending, time.Now())
	for chunk := range slices.Chunk(due, batch) {
		ds, err := s.build(ctx, chunk)
		if err == nil {
			err = s.c.Bus.Publish(ctx, bus.Queue, "network.host."+host, ds)
		}
		if err != nil {
			s.sent.forget(due)
			return reconcile.Next{}, err
		}
	}
	h, err := s.hosts.One(ctx, store.Eq("name", host))
	if err != nil && !errors.Is(err, store.ErrNoRow) {
		return reconcile.Next{}, err
	}
	if !s.Up(h) {
		// Nobody takes the messages. Its first report wakes this work.
		s.sent.forget(pending)
		return reconcile.Again(resendDown), nil
	}
	return reconcile.Again(wait), nil
}
