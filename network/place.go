package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"
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
	// batch is how many objects one message carries.
	batch = 100
)

// AddHost makes a host known, so that its reports are heard. Idempotent.
func (s *Service) AddHost(ctx context.Context, name string) (Host, error) {
	var out Host
	err := s.tx(ctx, func(ctx context.Context) error {
		h, err := s.hosts.One(ctx, store.Eq("name", name))
		if err == nil || !errors.Is(err, store.ErrNoRow) {
			out = h
			return err
		}
		out = Host{ID: s.c.IDs.NewID(), Name: name, Created: time.Now().UTC(), AdminUp: true}
		return s.hosts.Insert(ctx, out)
	})
	if err == nil {
		err = s.listenTo(name)
	}
	return out, err
}

// Up reports whether a host counts as alive.
func (s *Service) Up(h Host) bool { return time.Since(h.Seen) < s.c.HostTimeout }

// networkNode is the host that has the routers: the first that is known.
func (s *Service) networkNode(ctx context.Context) (string, error) {
	hs, err := s.hosts.Select(ctx, store.Select{Order: []store.Order{{Column: "created_at"}}, Limit: 1})
	if err != nil || len(hs) == 0 {
		return "", err
	}
	return hs[0].Name, nil
}

// put makes an object part of what a host is to have; in the caller's
// transaction. gen is the object's generation.
func (s *Service) put(ctx context.Context, host string, kind dataplane.Kind, id string, gen int64) error {
	if host == "" {
		return nil
	}
	key := host + "/" + string(kind) + "/" + id
	p, err := s.places.Get(ctx, key)
	switch {
	case errors.Is(err, store.ErrNoRow):
		if err := s.places.Insert(ctx, Place{ID: key, Host: host, Kind: kind, ObjectID: id, Wanted: gen, Pending: true}); err != nil {
			return err
		}
	case err != nil:
		return err
	case p.Gone:
		// It comes back before the host has let go of it: a newer generation than
		// the tombstone's.
		if gen <= p.Wanted {
			if gen, err = s.bump(ctx, kind, id, p.Wanted+1); err != nil {
				return err
			}
		}
		if _, err := s.places.Update(ctx, key, func(p *Place) error {
			p.Gone, p.Pending, p.Wanted, p.Active = false, true, gen, false
			return nil
		}); err != nil {
			return err
		}
	case p.Wanted < gen:
		if _, err := s.places.UpdateWhere(ctx, store.Eq("id", key), store.Set{"wanted": gen, "pending": true}); err != nil {
			return err
		}
	default:
		return nil
	}
	return s.work.Poke(ctx, kindHost, host, reconcile.Begin{Step: "sync"})
}

// bump raises an object's generation to at least gen; in the caller's transaction.
func (s *Service) bump(ctx context.Context, kind dataplane.Kind, id string, gen int64) (int64, error) {
	raise := func(o *Std) { o.Generation = max(o.Generation+1, gen); gen = o.Generation }
	var err error
	switch kind {
	case dataplane.KindNetwork:
		_, err = s.networks.Update(ctx, id, func(n *Network) error { raise(&n.Std); return nil })
	case dataplane.KindPort:
		_, err = s.ports.Update(ctx, id, func(p *Port) error { raise(&p.Std); return nil })
	case dataplane.KindRouter:
		_, err = s.routers.Update(ctx, id, func(r *Router) error { raise(&r.Std); return nil })
	case dataplane.KindSecurityGroup:
		_, err = s.groups.Update(ctx, id, func(g *SecurityGroup) error { raise(&g.Std); return nil })
	}
	return gen, err
}

// changed raises an object's generation and has every host that has it told; in
// the caller's transaction.
func (s *Service) changed(ctx context.Context, kind dataplane.Kind, id string) error {
	ps, err := s.places.Where(ctx, store.Eq("object_id", id), store.Eq("kind", string(kind)), store.Eq("gone", false))
	if err != nil || len(ps) == 0 {
		return err
	}
	gen, err := s.bump(ctx, kind, id, 0)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if err := s.put(ctx, p.Host, kind, id, gen); err != nil {
			return err
		}
	}
	return nil
}

// remove turns an object's places into tombstones; in the caller's transaction.
// host empty means everywhere.
func (s *Service) remove(ctx context.Context, kind dataplane.Kind, id, host string) error {
	w := store.And(store.Eq("object_id", id), store.Eq("kind", string(kind)), store.Eq("gone", false))
	if host != "" {
		w = store.And(w, store.Eq("host", host))
	}
	ps, err := s.places.Where(ctx, w)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if _, err := s.places.Update(ctx, p.ID, func(p *Place) error {
			p.Gone, p.Pending, p.Active = true, true, false
			p.Wanted++
			return nil
		}); err != nil {
			return err
		}
		if err := s.work.Poke(ctx, kindHost, p.Host, reconcile.Begin{Step: "sync"}); err != nil {
			return err
		}
	}
	return nil
}

// settlePort brings a port's places in line after it was bound, unbound or
// changed: the port itself, its network and its groups. before is nil for a new
// one, after is nil for one that goes. In the caller's transaction.
func (s *Service) settlePort(ctx context.Context, before, after *Port) error {
	var hostBefore, hostAfter string
	if before != nil && carried(before) {
		hostBefore = before.Host
	}
	if after != nil && carried(after) {
		hostAfter = after.Host
	}
	if hostBefore != "" && hostBefore != hostAfter {
		if err := s.remove(ctx, dataplane.KindPort, before.ID, hostBefore); err != nil {
			return err
		}
	}
	if hostAfter != "" {
		n, err := s.networks.Get(ctx, after.NetworkID)
		if err != nil {
			return err
		}
		if err := s.put(ctx, hostAfter, dataplane.KindNetwork, n.ID, n.Generation); err != nil {
			return err
		}
		for _, g := range after.SecurityGroups {
			if err := s.putGroup(ctx, hostAfter, g); err != nil {
				return err
			}
		}
		if err := s.put(ctx, hostAfter, dataplane.KindPort, after.ID, after.Generation); err != nil {
			return err
		}
	}
	if hostBefore != "" {
		if err := s.sweep(ctx, hostBefore, before.NetworkID, before.SecurityGroups); err != nil {
			return err
		}
	}
	return nil
}

// carried says that a port is a guest's, which a host must wire; our own (DHCP,
// routers) are part of their network or router.
func carried(p *Port) bool { return p.Host != "" && !ourOwn(p.DeviceOwner) }

func ourOwn(owner string) bool {
	return owner == OwnerDHCP || owner == OwnerRouter || owner == OwnerGateway || owner == OwnerFloatingIP
}

// putGroup places a group, and the groups that its rules name as remote.
func (s *Service) putGroup(ctx context.Context, host, id string) error {
	g, err := s.groups.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := s.put(ctx, host, dataplane.KindSecurityGroup, id, g.Generation); err != nil {
		return err
	}
	rules, err := s.rules.Where(ctx, store.Eq("security_group_id", id), store.Not(store.Eq("remote_group_id", "")))
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.RemoteGroupID == id {
			continue
		}
		rg, err := s.groups.Get(ctx, r.RemoteGroupID)
		if errors.Is(err, store.ErrNoRow) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.put(ctx, host, dataplane.KindSecurityGroup, rg.ID, rg.Generation); err != nil {
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
		}
	}
	for _, g := range groups {
		used, err := s.members.Exists(ctx, store.Eq("group_id", g), store.Eq("host", host))
		if err != nil {
			return err
		}
		if !used {
			// A group that a group in use names as remote stays.
			used, err = s.rules.Exists(ctx, store.Eq("remote_group_id", g), store.Not(store.Eq("security_group_id", g)),
				store.InSelect("security_group_id", s.members, "group_id", store.Eq("host", host)))
			if err != nil {
				return err
			}
		}
		if !used {
			if err := s.remove(ctx, dataplane.KindSecurityGroup, g, host); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) networkUsed(ctx context.Context, host, network string) (bool, error) {
	used, err := s.ports.Exists(ctx, store.Eq("network_id", network), store.Eq("host", host))
	if used || err != nil {
		return used, err
	}
	node, err := s.networkNode(ctx)
	if err != nil || node != host {
		return false, err
	}
	return s.ports.Exists(ctx, store.Eq("network_id", network), store.In("device_owner", []string{OwnerRouter, OwnerGateway}))
}

// settleRouter places a router that has a leg, with its networks, on the network
// node; in the caller's transaction. left is a network that it no longer touches.
func (s *Service) settleRouter(ctx context.Context, id, left string) error {
	node, err := s.networkNode(ctx)
	if err != nil || node == "" {
		return err
	}
	legs, err := s.ports.Where(ctx, store.Eq("device_id", id), store.In("device_owner", []string{OwnerRouter, OwnerGateway}))
	if err != nil {
		return err
	}
	if len(legs) == 0 {
		if err := s.remove(ctx, dataplane.KindRouter, id, ""); err != nil {
			return err
		}
	} else {
		for _, l := range legs {
			n, err := s.networks.Get(ctx, l.NetworkID)
			if err != nil {
				return err
			}
			if err := s.put(ctx, node, dataplane.KindNetwork, n.ID, n.Generation); err != nil {
				return err
			}
		}
		gen, err := s.bump(ctx, dataplane.KindRouter, id, 0)
		if err != nil {
			return err
		}
		if err := s.put(ctx, node, dataplane.KindRouter, id, gen); err != nil {
			return err
		}
	}
	if left == "" {
		return nil
	}
	return s.sweep(ctx, node, left, nil)
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
	for chunk := range slices.Chunk(pending, batch) {
		ds, err := s.build(ctx, chunk)
		if err != nil {
			return reconcile.Next{}, err
		}
		if err := s.c.Bus.Publish(ctx, bus.Queue, "network.host."+host, ds); err != nil {
			return reconcile.Next{}, err
		}
	}
	return reconcile.Again(resend), nil
}

// build makes the messages for places of one host.
func (s *Service) build(ctx context.Context, ps []Place) ([]dataplane.Desired, error) {
	ids := map[dataplane.Kind][]string{}
	for _, p := range ps {
		if !p.Gone {
			ids[p.Kind] = append(ids[p.Kind], p.ObjectID)
		}
	}
	nets, err := s.buildNetworks(ctx, ids[dataplane.KindNetwork])
	if err != nil {
		return nil, err
	}
	ports, err := s.buildPorts(ctx, ids[dataplane.KindPort])
	if err != nil {
		return nil, err
	}
	routers, err := s.buildRouters(ctx, ids[dataplane.KindRouter])
	if err != nil {
		return nil, err
	}
	groups, err := s.buildGroups(ctx, ids[dataplane.KindSecurityGroup])
	if err != nil {
		return nil, err
	}
	out := make([]dataplane.Desired, 0, len(ps))
	for _, p := range ps {
		d := dataplane.Desired{Ref: dataplane.Ref{Kind: p.Kind, ID: p.ObjectID, Generation: p.Wanted}, Gone: p.Gone}
		switch {
		case p.Gone:
		case p.Kind == dataplane.KindNetwork && nets[p.ObjectID] != nil:
			d.Network = nets[p.ObjectID]
			d.Generation = d.Network.Generation
		case p.Kind == dataplane.KindPort && ports[p.ObjectID] != nil:
			d.Port = ports[p.ObjectID]
			d.Generation = d.Port.Generation
		case p.Kind == dataplane.KindRouter && routers[p.ObjectID] != nil:
			d.Router = routers[p.ObjectID]
			d.Generation = d.Router.Generation
		case p.Kind == dataplane.KindSecurityGroup && groups[p.ObjectID] != nil:
			d.SecurityGroup = groups[p.ObjectID]
			d.Generation = d.SecurityGroup.Generation
		default:
			continue // deleted since; its tombstone follows
		}
		out = append(out, d)
	}
	return out, nil
}

func (s *Service) buildNetworks(ctx context.Context, ids []string) (map[string]*dataplane.Network, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ns, err := s.networks.Where(ctx, store.In("id", ids))
	if err != nil {
		return nil, err
	}
	subs, err := s.subnets.Where(ctx, store.In("network_id", ids))
	if err != nil {
		return nil, err
	}
	dhcp, err := s.ports.Where(ctx, store.In("network_id", ids), store.Eq("device_owner", OwnerDHCP))
	if err != nil {
		return nil, err
	}
	out := map[string]*dataplane.Network{}
	for _, n := range ns {
		out[n.ID] = &dataplane.Network{ID: n.ID, Generation: n.Generation, ProjectID: n.ProjectID, Name: n.Name, Type: n.Type, Physical: n.Physical, Segment: n.Segment, MTU: n.MTU,
			AdminUp: n.AdminUp, External: n.External, DNSDomain: s.c.DNSDomain}
	}
	prefix := map[string]netip.Prefix{}
	for i := range subs {
		sn := &subs[i]
		prefix[sn.ID] = sn.Prefix()
		n := out[sn.NetworkID]
		if n == nil {
			continue
		}
		d := dataplane.Subnet{ID: sn.ID, CIDR: sn.Prefix(), Gateway: addr(sn.Gateway), DHCP: sn.DHCP, RAMode: sn.RAMode, AddressMode: sn.AddressMode}
		for _, a := range sn.DNS {
			d.DNS = append(d.DNS, addr(a))
		}
		for _, r := range sn.Routes {
			d.HostRoutes = append(d.HostRoutes, dataplane.Route{Destination: r.Destination, NextHop: r.NextHop})
		}
		n.Subnets = append(n.Subnets, d)
	}
	for i := range dhcp {
		if n := out[dhcp[i].NetworkID]; n != nil {
			e := endpoint(&dhcp[i], prefix)
			n.DHCP = &e
		}
	}
	return out, nil
}

func addr(s string) netip.Addr { a, _ := netip.ParseAddr(s); return a }

func endpoint(p *Port, prefix map[string]netip.Prefix) dataplane.Endpoint {
	e := dataplane.Endpoint{PortID: p.ID, NetworkID: p.NetworkID, MAC: p.MAC}
	for _, f := range p.FixedIPs {
		if pf, ok := prefix[f.SubnetID]; ok {
			e.Addresses = append(e.Addresses, netip.PrefixFrom(addr(f.Address), pf.Bits()))
		}
	}
	return e
}

func (s *Service) buildPorts(ctx context.Context, ids []string) (map[string]*dataplane.Port, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ps, err := s.ports.Where(ctx, store.In("id", ids))
	if err != nil {
		return nil, err
	}
	out := map[string]*dataplane.Port{}
	for _, p := range ps {
		d := &dataplane.Port{ID: p.ID, Generation: p.Generation, NetworkID: p.NetworkID, ProjectID: p.ProjectID, DeviceID: p.DeviceID, DeviceOwner: p.DeviceOwner, MAC: p.MAC,
			Tap: tapName(p.ID), AdminUp: p.AdminUp, PortSecurity: p.PortSecurity, SecurityGroups: p.SecurityGroups, Hostname: p.DNSName}
		for _, f := range p.FixedIPs {
			d.FixedIPs = append(d.FixedIPs, dataplane.FixedIP{SubnetID: f.SubnetID, Address: addr(f.Address)})
		}
		for _, pair := range p.Pairs {
			pf, err := netip.ParsePrefix(pair.Address)
			if err != nil {
				a := addr(pair.Address)
				pf = netip.PrefixFrom(a, a.BitLen())
			}
			d.AllowedPairs = append(d.AllowedPairs, dataplane.Pair{Prefix: pf, MAC: pair.MAC})
		}
		for _, o := range p.DHCPOptions {
			if d.DHCPOptions == nil {
				d.DHCPOptions = map[string]string{}
			}
			d.DHCPOptions[o.Name] = o.Value
		}
		out[p.ID] = d
	}
	return out, nil
}

// tapName is the device's name, as nova and neutron agree on it.
func tapName(port string) string { return "tap" + port[:11] }

func (s *Service) buildRouters(ctx context.Context, ids []string) (map[string]*dataplane.Router, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rs, err := s.routers.Where(ctx, store.In("id", ids))
	if err != nil {
		return nil, err
	}
	legs, err := s.ports.Where(ctx, store.In("device_id", ids), store.In("device_owner", []string{OwnerRouter, OwnerGateway}))
	if err != nil {
		return nil, err
	}
	fips, err := s.floatingips.Where(ctx, store.In("router_id", ids))
	if err != nil {
		return nil, err
	}
	var nets []string
	for _, l := range legs {
		nets = append(nets, l.NetworkID)
	}
	subs, err := s.subnets.Where(ctx, store.In("network_id", nets))
	if err != nil {
		return nil, err
	}
	prefix, gateways := map[string]netip.Prefix{}, map[string][]netip.Addr{}
	for i := range subs {
		prefix[subs[i].ID] = subs[i].Prefix()
		if subs[i].Gateway != "" {
			gateways[subs[i].NetworkID] = append(gateways[subs[i].NetworkID], addr(subs[i].Gateway))
		}
	}
	out := map[string]*dataplane.Router{}
	for _, r := range rs {
		d := &dataplane.Router{ID: r.ID, Generation: r.Generation, ProjectID: r.ProjectID, AdminUp: r.AdminUp}
		for _, rt := range r.Routes {
			d.Routes = append(d.Routes, dataplane.Route{Destination: rt.Destination, NextHop: rt.NextHop})
		}
		for i := range legs {
			if legs[i].DeviceID != r.ID {
				continue
			}
			e := endpoint(&legs[i], prefix)
			if legs[i].DeviceOwner == OwnerGateway {
				d.Gateway = &dataplane.Gateway{Endpoint: e, NextHops: gateways[legs[i].NetworkID], SNAT: r.SNAT}
			} else {
				d.Interfaces = append(d.Interfaces, e)
			}
		}
		for _, f := range fips {
			if f.RouterID == r.ID && f.FixedIP != "" {
				d.FloatingIPs = append(d.FloatingIPs, dataplane.FloatingIP{ID: f.ID, External: addr(f.Address), Fixed: addr(f.FixedIP)})
			}
		}
		out[r.ID] = d
	}
	return out, nil
}

func (s *Service) buildGroups(ctx context.Context, ids []string) (map[string]*dataplane.SecurityGroup, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	gs, err := s.groups.Where(ctx, store.In("id", ids))
	if err != nil {
		return nil, err
	}
	rules, err := s.rules.Where(ctx, store.In("security_group_id", ids))
	if err != nil {
		return nil, err
	}
	ms, err := s.members.Where(ctx, store.In("group_id", ids))
	if err != nil {
		return nil, err
	}
	as, err := s.allocations.Where(ctx, store.InSelect("port_id", s.members, "port_id", store.In("group_id", ids)))
	if err != nil {
		return nil, err
	}
	byPort := map[string][]netip.Addr{}
	for _, a := range as {
		byPort[a.PortID] = append(byPort[a.PortID], addr(a.Address))
	}
	out := map[string]*dataplane.SecurityGroup{}
	for _, g := range gs {
		out[g.ID] = &dataplane.SecurityGroup{ID: g.ID, Generation: g.Generation, ProjectID: g.ProjectID, Stateless: !g.Stateful}
	}
	for _, r := range rules {
		g := out[r.GroupID]
		if g == nil {
			continue
		}
		d := dataplane.Rule{ID: r.ID, Direction: r.Direction, EtherType: r.EtherType, Protocol: r.Protocol, PortMin: r.PortMin, PortMax: r.PortMax, RemoteGroup: r.RemoteGroupID}
		d.RemotePrefix, _ = netip.ParsePrefix(r.RemotePrefix)
		g.Rules = append(g.Rules, d)
	}
	for _, m := range ms {
		if g := out[m.GroupID]; g != nil {
			g.Members = append(g.Members, byPort[m.PortID]...)
		}
	}
	for _, g := range out {
		slices.SortFunc(g.Members, netip.Addr.Compare)
		g.Members = slices.Compact(g.Members)
	}
	return out, nil
}

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
	if r.Full || r.Host != nil {
		if _, err := s.hosts.Update(ctx, h.ID, func(h *Host) error {
			h.Seen, h.Started = time.Now().UTC(), r.Started
			if r.Host != nil {
				h.Info = *r.Host
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, st := range r.States {
		if err := s.takeState(ctx, host, st); err != nil {
			return err
		}
	}
	if r.Full {
		return s.resync(ctx, host, r)
	}
	return nil
}

// takeState notes what a host says of one object.
func (s *Service) takeState(ctx context.Context, host string, st dataplane.State) error {
	key := host + "/" + string(st.Kind) + "/" + st.ID
	var before, after Place
	err := s.tx(ctx, func(ctx context.Context) error {
		p, err := s.places.GetForUpdate(ctx, key)
		if errors.Is(err, store.ErrNoRow) {
			return nil
		}
		if err != nil {
			return err
		}
		before = p
		if p.Gone {
			if st.Absent && st.Generation >= p.Wanted {
				return s.places.Delete(ctx, key)
			}
			return nil
		}
		if st.Absent || st.Generation < p.Seen {
			return nil
		}
		after, err = s.places.Update(ctx, key, func(p *Place) error {
			p.Seen, p.Active, p.Reason = st.Generation, st.Active, st.Reason
			p.Pending = st.Generation < p.Wanted
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
	if s.hooks.PortWired != nil && after.Active && !after.Pending {
		p, err := s.ports.Get(ctx, st.ID)
		if err == nil && p.DeviceID != "" {
			s.hooks.PortWired(nacre.AsService(ctx, "network"), p.DeviceID)
		}
	}
	return nil
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
		_, err = s.ports.UpdateWhere(ctx, w, set)
	case dataplane.KindNetwork:
		if p.Active {
			_, err = s.ports.UpdateWhere(ctx, store.And(store.Eq("network_id", p.ObjectID), store.Eq("device_owner", OwnerDHCP), store.Not(store.Eq("status", Active))), store.Set{"status": Active})
		}
	case dataplane.KindRouter:
		if p.Active && !p.Pending {
			if _, err = s.ports.UpdateWhere(ctx, store.And(store.Eq("device_id", p.ObjectID), store.In("device_owner", []string{OwnerRouter, OwnerGateway}), store.Not(store.Eq("status", Active))), store.Set{"status": Active}); err != nil {
				return err
			}
			_, err = s.floatingips.UpdateWhere(ctx, store.And(store.Eq("router_id", p.ObjectID), store.Not(store.Eq("status", Active))), store.Set{"status": Active})
		}
	}
	return err
}

// resync compares a host's full list with what it is to have, and sends again
// what it lacks.
func (s *Service) resync(ctx context.Context, host string, r dataplane.Report) error {
	has := make(map[string]int64, len(r.States))
	for _, st := range r.States {
		if !st.Absent {
			has[string(st.Kind)+"/"+st.ID] = st.Generation
		}
	}
	ps, err := s.places.Where(ctx, store.Eq("host", host))
	if err != nil {
		return err
	}
	var lost []string
	for _, p := range ps {
		key := string(p.Kind) + "/" + p.ObjectID
		gen, there := has[key]
		delete(has, key)
		if !p.Gone && !p.Pending && (!there || gen < p.Wanted) {
			lost = append(lost, p.ID)
		}
	}
	for key := range has {
		s.log.Warn("host has something that nobody wants there; left alone", "host", host, "object", key)
	}
	pending := len(lost) > 0
	for _, p := range ps {
		pending = pending || p.Pending
	}
	if !pending {
		return nil
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if len(lost) > 0 {
			if _, err := s.places.UpdateWhere(ctx, store.In("id", lost), store.Set{"pending": true}); err != nil {
				return err
			}
		}
		return s.work.Poke(ctx, kindHost, host, reconcile.Begin{Step: "sync"})
	})
}
