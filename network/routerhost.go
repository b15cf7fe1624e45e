package network

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

// routerCheck is how often routers are looked at whose host may have died.
const routerCheck = 5 * time.Second

// routerOwners are the owners of a router's legs.
var routerOwners = []string{OwnerRouter, OwnerGateway}

func (s *Service) legs(ctx context.Context, router string) ([]Port, error) {
	return s.ports.Where(ctx, store.Eq("device_id", router), store.In("device_owner", routerOwners))
}

// settleRouter places a router that has a leg, with its networks, on its host, and
// looks for one first where it has none; in the caller's transaction. left is a
// network that it no longer touches.
func (s *Service) settleRouter(ctx context.Context, id, left string) error {
	r, err := s.routers.GetForUpdate(ctx, id)
	if err != nil {
		return err
	}
	legs, err := s.legs(ctx, id)
	if err != nil {
		return err
	}
	to, err := s.hostFor(ctx, &r, legs)
	if err != nil {
		return err
	}
	from := r.Host
	if to != from {
		if err := s.moveRouter(ctx, &r, legs, to); err != nil {
			return err
		}
	} else if to != "" {
		if err := s.placeRouter(ctx, &r, legs); err != nil {
			return err
		}
	}
	// Where it moved, only the networks of its legs went along. One that an earlier
	// release placed was where it is.
	had := cmp.Or(from, r.Host)
	if left == "" || had == "" {
		return nil
	}
	return s.sweep(ctx, had, left, nil)
}

// hostFor is where a router is to be: where it is, unless that has no way to the
// network of its gateway and another has. Without a leg it need not be anywhere. One
// that an earlier release placed is where that put it.
func (s *Service) hostFor(ctx context.Context, r *Router, legs []Port) (string, error) {
	if len(legs) == 0 {
		return r.Host, nil
	}
	if r.Host == "" {
		ps, err := s.places.Where(ctx, placesOf(dataplane.KindRouter, r.ID))
		if err != nil || len(ps) > 0 {
			return append(ps, Place{})[0].Host, err
		}
		to, _, err := s.chooseHost(ctx, r)
		return to, err
	}
	if r.GatewayNetworkID == "" {
		return r.Host, nil
	}
	h, err := s.hosts.One(ctx, store.Eq("name", r.Host))
	if err != nil {
		return "", err
	}
	physical, err := s.gatewayPhysical(ctx, r)
	if err != nil || leadsTo(h, physical) {
		return r.Host, err
	}
	if to, leads, err := s.chooseHost(ctx, r); err != nil || leads {
		return to, err
	}
	return r.Host, nil
}

// gatewayPhysical is the physical network that a router's gateway is on; empty for none.
func (s *Service) gatewayPhysical(ctx context.Context, r *Router) (string, error) {
	if r.GatewayNetworkID == "" {
		return "", nil
	}
	n, err := s.networks.Get(ctx, r.GatewayNetworkID)
	return n.Physical, err
}

// fit are the hosts that may have routers: those that live and are not disabled.
func (s *Service) fit(now time.Time) store.Where {
	return store.And(store.Eq("admin_state_up", true), store.Greater("seen_at", now.Add(-s.c.HostTimeout)))
}

func leadsTo(h Host, physical string) bool {
	return physical == "" || slices.Contains(h.Info.Physical, physical)
}

// chooseHost picks the host for a router among those that live and are not disabled:
// the one with the fewest routers, as neutron does by default (LeastRoutersScheduler),
// and of these the first that was known. Those with a way to the gateway's network come
// first; leads says that this one has it. Empty is that there is none.
func (s *Service) chooseHost(ctx context.Context, r *Router) (name string, leads bool, err error) {
	physical, err := s.gatewayPhysical(ctx, r)
	if err != nil {
		return "", false, err
	}
	hs, err := s.hosts.Select(ctx, store.Select{Where: s.fit(time.Now()), Order: []store.Order{{Column: "created_at"}}})
	if err != nil || len(hs) == 0 {
		return "", false, err
	}
	counts, err := s.routers.Aggregate(ctx, store.Aggregate{Where: store.Ne("host", ""), By: []string{"host"}})
	if err != nil {
		return "", false, err
	}
	load := map[string]int64{}
	for _, g := range counts {
		load[g.Key[0].(string)] = g.Count
	}
	best := slices.MinFunc(hs, func(a, b Host) int {
		if x, y := leadsTo(a, physical), leadsTo(b, physical); x != y {
			if x {
				return -1
			}
			return 1
		}
		return int(load[a.Name] - load[b.Name])
	})
	return best.Name, leadsTo(best, physical), nil
}

// placeRouter puts a router with a leg on its host, with its networks, and takes it
// from every other; one without a leg is nowhere.
func (s *Service) placeRouter(ctx context.Context, r *Router, legs []Port) error {
	if len(legs) == 0 {
		return s.remove(ctx, dataplane.KindRouter, r.ID, "")
	}
	elsewhere, err := s.places.Where(ctx, placesOf(dataplane.KindRouter, r.ID), store.Ne("host", r.Host))
	if err != nil {
		return err
	}
	for _, p := range elsewhere {
		if err := s.remove(ctx, dataplane.KindRouter, r.ID, p.Host); err != nil {
			return err
		}
	}
	done := map[string]bool{}
	for _, l := range legs {
		if done[l.NetworkID] {
			continue
		}
		done[l.NetworkID] = true
		if r.Host != "" {
			if err := s.place(ctx, r.Host, dataplane.KindNetwork, l.NetworkID); err != nil {
				return err
			}
		}
		for _, p := range elsewhere {
			if err := s.sweep(ctx, p.Host, l.NetworkID, nil); err != nil {
				return err
			}
		}
	}
	if r.Host == "" {
		return nil
	}
	gen, err := s.bump(ctx, dataplane.KindRouter, r.ID, 0)
	if err != nil {
		return err
	}
	return s.put(ctx, r.Host, dataplane.KindRouter, r.ID, gen)
}

// moveRouter gives a router to a host, "" for none, and takes it from the one that
// has it: by a tombstone, which waits for a host that is away. In the caller's
// transaction, under the router's row; r is brought up to date.
func (s *Service) moveRouter(ctx context.Context, r *Router, legs []Port, to string) error {
	r.Host, r.Unhosted = to, false
	if _, err := s.routers.UpdateWhere(ctx, store.Eq("id", r.ID), store.Set{"host": to, "unhosted": false, "moves": store.Increment(1)}); err != nil {
		return err
	}
	if len(legs) == 0 {
		return nil
	}
	// Its new host says when it is in place.
	if _, err := s.ports.UpdateWhere(ctx, store.And(store.Eq("device_id", r.ID), store.In("device_owner", routerOwners)), store.Set{"status": Down}); err != nil {
		return err
	}
	if _, err := s.floatingips.UpdateWhere(ctx, store.Eq("router_id", r.ID), store.Set{"status": Down}); err != nil {
		return err
	}
	return s.placeRouter(ctx, r, legs)
}

// watchRouters moves the routers of hosts that died, were disabled or do not lead to
// their gateway's network to others, and finds hosts for those that have none, until ctx
// ends.
func (s *Service) watchRouters(ctx context.Context) {
	hearing := time.Now()
	for {
		var err error
		if hearing, err = s.lookAfterRouters(ctx, hearing); err != nil && ctx.Err() == nil {
			s.log.Warn("cannot look after routers; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.routersWake:
		case <-time.After(routerCheck):
		}
	}
}

// wakeRouters has routers looked at now.
func (s *Service) wakeRouters() {
	select {
	case s.routersWake <- struct{}{}:
	default:
	}
}

// lookAfterRouters does what watchRouters promises once. Any number of processes may do
// it at the same time: each move is one transaction that looks again. hearing is since
// when hosts have been heard without a gap, and the new one is returned. A host counts as
// dead only when others were heard all the time that it was not: after an outage of the
// broker, or of this process, silence is nobody's fault.
func (s *Service) lookAfterRouters(ctx context.Context, hearing time.Time) (time.Time, error) {
	now := time.Now()
	last, err := s.hosts.Select(ctx, store.Select{Order: []store.Order{{Column: "seen_at", Desc: true}}, Limit: 1})
	if err != nil || len(last) == 0 {
		return now, err
	}
	if now.Sub(last[0].Seen) > s.c.HostTimeout/2 {
		hearing = now
	}
	unfit := store.Eq("admin_state_up", false)
	if !s.c.KeepRouters && now.Sub(hearing) >= s.c.HostTimeout {
		unfit = store.Or(unfit, store.LessEq("seen_at", now.Add(-s.c.HostTimeout)))
	}
	hosts, err := s.hosts.Where(ctx, s.fit(now))
	if err != nil || len(hosts) == 0 {
		return hearing, err // there is nowhere to go
	}
	astray, err := s.astray(ctx, hosts)
	if err != nil {
		return hearing, err
	}
	rs, err := s.routers.Where(ctx, store.Or(store.InSelect("host", s.hosts, "name", unfit), astray,
		store.And(store.Eq("host", ""), store.Eq("unhosted", false), store.InSelect("id", s.ports, "device_id", store.In("device_owner", routerOwners)))))
	for _, r := range rs {
		err = errors.Join(err, s.rehost(ctx, r.ID, r.Host))
	}
	return hearing, err
}

// astray are the routers on hosts that have no way to the network of their gateway,
// where another of these hosts has one.
func (s *Service) astray(ctx context.Context, hosts []Host) (store.Where, error) {
	none := store.Not(store.All())
	nets, err := s.networks.Where(ctx, store.Ne("physical_network", ""), store.InSelect("id", s.routers, "gateway_network_id", store.Ne("host", "")))
	if err != nil {
		return none, err
	}
	out := []store.Where{none}
	for _, n := range nets {
		var without []string
		for _, h := range hosts {
			if !leadsTo(h, n.Physical) {
				without = append(without, h.Name)
			}
		}
		if len(without) > 0 && len(without) < len(hosts) {
			out = append(out, store.And(store.Eq("gateway_network_id", n.ID), store.In("host", without)))
		}
	}
	return store.Or(out...), nil
}

// rehost moves a router away from a host that can't have it or does not lead to its
// gateway's network, or finds one for it, if it is still there and another can.
func (s *Service) rehost(ctx context.Context, id, from string) error {
	return s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "router/"+id); err != nil {
			return err
		}
		r, err := s.routers.GetForUpdate(ctx, id)
		if isGone(err) || err == nil && (r.Host != from || r.Unhosted) {
			return nil
		}
		if err != nil {
			return err
		}
		if from == "" {
			return s.settleRouter(ctx, id, "")
		}
		h, err := s.hosts.One(ctx, store.Eq("name", from))
		if err != nil {
			return err
		}
		physical, err := s.gatewayPhysical(ctx, &r)
		if err != nil || h.AdminUp && s.Up(h) && leadsTo(h, physical) {
			return err
		}
		to, leads, err := s.chooseHost(ctx, &r)
		if err != nil || to == "" || !leads && s.Up(h) {
			return err // where it is it serves better than anywhere else
		}
		legs, err := s.legs(ctx, id)
		if err != nil {
			return err
		}
		s.log.Warn("a router moves", "router", id, "from", from, "to", to, "disabled", !h.AdminUp)
		return s.moveRouter(ctx, &r, legs, to)
	})
}

// routerLeft notes that a host let go of a router, in the transaction that ends its
// tombstone. Whoever has it now tells the neighbours once more: the other's copy may
// have answered until now.
func (s *Service) routerLeft(ctx context.Context, id string) error {
	n, err := s.routers.UpdateWhere(ctx, store.And(store.Eq("id", id), store.Ne("host", "")), store.Set{"moves": store.Increment(1)})
	if err != nil || n == 0 {
		return err
	}
	return s.changed(ctx, dataplane.KindRouter, id)
}

// AgentChange is what may change about an agent; nil leaves it.
type AgentChange struct {
	AdminUp     *bool
	Description *string
}

// UpdateAgent disables or enables the agent of a host, or describes it. The routers of
// a disabled one move to others that have a way to the same networks.
func (s *Service) UpdateAgent(ctx context.Context, id string, c AgentChange) (Host, error) {
	if err := s.enforce(ctx, "update_agent", policy.Map{}); err != nil {
		return Host{}, err
	}
	h, err := s.hosts.Update(ctx, id, func(h *Host) error {
		if c.AdminUp != nil {
			h.AdminUp = *c.AdminUp
		}
		if c.Description != nil {
			h.Description = *c.Description
		}
		return nil
	})
	s.wakeRouters()
	return h, store.WrapNotFound(err, func() *nacre.Error { return missing("Agent", "AgentNotFound", id) })
}

// AgentRouters are the routers on an agent's host.
func (s *Service) AgentRouters(ctx context.Context, id string) ([]Router, error) {
	if err := s.enforce(ctx, "get_l3-routers", policy.Map{}); err != nil {
		return nil, err
	}
	h, err := s.agent(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.routers.Select(ctx, store.Select{Where: store.Eq("host", h.Name), Order: []store.Order{{Column: "created_at"}, {Column: "id"}}})
}

// RouterAgents are the agents whose hosts have a router: one, or none.
func (s *Service) RouterAgents(ctx context.Context, id string) ([]Host, error) {
	if err := s.enforce(ctx, "get_l3-agents", policy.Map{}); err != nil {
		return nil, err
	}
	r, err := s.Router(ctx, id)
	if err != nil || r.Host == "" {
		return nil, err
	}
	return s.hosts.Where(ctx, store.Eq("name", r.Host))
}

// AddAgentRouter gives a router that has no host to an agent's.
func (s *Service) AddAgentRouter(ctx context.Context, agent, id string) error {
	if err := s.enforce(ctx, "create_l3-router", policy.Map{}); err != nil {
		return err
	}
	return s.hostRouter(ctx, agent, id, func(ctx context.Context, h *Host, r *Router, legs []Port) error {
		physical, err := s.gatewayPhysical(ctx, r)
		switch {
		case err != nil || r.Host == h.Name:
			return err
		case !h.AdminUp || !leadsTo(*h, physical):
			return nacre.Errorf(nacre.NotFound, "InvalidL3Agent", "Agent %s is not a L3 Agent or has been disabled", agent)
		case r.Host != "":
			has, err := s.hosts.One(ctx, store.Eq("name", r.Host))
			if err != nil {
				return err
			}
			return nacre.Errorf(nacre.Conflict, "RouterHostedByL3Agent", "The router %s has been already hosted by the L3 Agent %s.", id, has.ID)
		}
		return s.moveRouter(ctx, r, legs, h.Name)
	})
}

// RemoveAgentRouter takes a router from an agent's host. It has none then, until it
// changes or is given one. One that is not there is success.
func (s *Service) RemoveAgentRouter(ctx context.Context, agent, id string) error {
	if err := s.enforce(ctx, "delete_l3-router", policy.Map{}); err != nil {
		return err
	}
	return s.hostRouter(ctx, agent, id, func(ctx context.Context, h *Host, r *Router, legs []Port) error {
		if r.Host != h.Name {
			return nil
		}
		if err := s.moveRouter(ctx, r, legs, ""); err != nil {
			return err
		}
		_, err := s.routers.UpdateWhere(ctx, store.Eq("id", id), store.Set{"unhosted": true})
		return err
	})
}

// hostRouter does what concerns an agent and a router, under the router's row.
func (s *Service) hostRouter(ctx context.Context, agent, id string, do func(ctx context.Context, h *Host, r *Router, legs []Port) error) error {
	return s.tx(ctx, func(ctx context.Context) error {
		h, err := s.agent(ctx, agent)
		if err != nil {
			return err
		}
		if err := store.Lock(ctx, s.c.Engine, "router/"+id); err != nil {
			return err
		}
		r, err := s.routers.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return routerNotFound(id) })
		}
		legs, err := s.legs(ctx, id)
		if err != nil {
			return err
		}
		return do(ctx, &h, &r, legs)
	})
}

func (s *Service) agent(ctx context.Context, id string) (Host, error) {
	h, err := s.hosts.Get(ctx, id)
	return h, store.WrapNotFound(err, func() *nacre.Error { return missing("Agent", "AgentNotFound", id) })
}
