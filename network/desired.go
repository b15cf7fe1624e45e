package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

// build makes the messages for places of one host.
func (s *Service) build(ctx context.Context, ps []Place) ([]dataplane.Desired, error) {
	ids := map[dataplane.Kind][]string{}
	for _, p := range ps {
		if !p.Gone {
			ids[p.Kind] = append(ids[p.Kind], p.ObjectID)
		}
	}
	nets, err := s.buildNetworks(ctx, ids[dataplane.KindNetwork])
	if err == nil && len(nets) > 0 {
		err = s.buildTunnels(ctx, ps[0].Host, nets)
	}
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

// buildTunnels tells a host's networks where else they are.
func (s *Service) buildTunnels(ctx context.Context, host string, nets map[string]*dataplane.Network) error {
	var ids []string
	for id, n := range nets {
		if n.Type == "vxlan" {
			ids = append(ids, id)
		}
	}
	others, err := s.places.Where(ctx, store.In("object_id", ids), store.Eq("kind", string(dataplane.KindNetwork)), store.Eq("gone", false), store.Not(store.Eq("host", host)))
	if err != nil || len(others) == 0 {
		return err
	}
	names := map[string]bool{}
	for _, p := range others {
		names[p.Host] = true
	}
	hosts, err := s.hosts.Where(ctx, store.In("name", slices.Sorted(maps.Keys(names))))
	if err != nil {
		return err
	}
	ends := map[string]netip.Addr{}
	for _, h := range hosts {
		ends[h.Name] = h.Info.Tunnel
	}
	for _, p := range others {
		if n, end := nets[p.ObjectID], ends[p.Host]; end.IsValid() {
			n.Tunnels = append(n.Tunnels, end)
		}
	}
	for _, n := range nets {
		slices.SortFunc(n.Tunnels, netip.Addr.Compare)
	}
	return nil
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
	legs, err := s.ports.Where(ctx, store.In("device_id", ids), store.In("device_owner", routerOwners))
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
		d := &dataplane.Router{ID: r.ID, Generation: r.Generation, ProjectID: r.ProjectID, AdminUp: r.AdminUp, Moves: r.Moves}
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
	sets, err := s.addressGroups.Where(ctx, store.InSelect("id", s.rules, "remote_address_group_id", store.In("security_group_id", ids)))
	if err != nil {
		return nil, err
	}
	ranges := map[string][]netip.Prefix{}
	for _, set := range sets {
		ranges[set.ID] = set.Addresses
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
		d.RemotePrefix, _ = netip.ParsePrefix(r.NormalizedCIDR())
		if r.RemoteAddressGroupID != "" {
			g.Rules = append(g.Rules, spread(d, ranges[r.RemoteAddressGroupID])...)
			continue
		}
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
