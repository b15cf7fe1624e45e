package network

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/store"
)

func subnetNotFound(id string) *nacre.Error { return missing("Subnet", "SubnetNotFound", id) }

// seenSubnets are the caller's own and those of shared networks.
func (s *Service) seenSubnets(ctx context.Context) (store.Where, error) {
	w, _, err := s.own(ctx)
	if err != nil || w.Op == store.OpAll {
		return w, err
	}
	return store.Or(w, store.InSelect("network_id", s.networks, "id", store.Eq("shared", true))), nil
}

var subnetColumns = columns(map[string]string{"network_id": "network_id", "cidr": "cidr", "ip_version": "ip_version", "gateway_ip": "gateway_ip", "enable_dhcp": "enable_dhcp",
	"ipv6_ra_mode": "ipv6_ra_mode", "ipv6_address_mode": "ipv6_address_mode", "subnetpool_id": "subnetpool_id"})

// Subnets lists the subnets that the caller may see.
func (s *Service) Subnets(ctx context.Context, q nacre.Query) ([]Subnet, error) {
	w, err := s.seenSubnets(ctx)
	if err != nil {
		return nil, err
	}
	return list(ctx, s, s.subnets, q, w, subnetColumns, special{
		"shared": func(v []string) (store.Where, error) {
			in, err := columnIn(s.networks.Def(), "shared", "shared", v)
			return store.InSelect("network_id", s.networks, "id", in), err
		},
		"router:external": func(v []string) (store.Where, error) {
			in, err := columnIn(s.networks.Def(), "router:external", "external", v)
			return store.InSelect("network_id", s.networks, "id", in), err
		},
	})
}

// Subnet is one subnet that the caller may see.
func (s *Service) Subnet(ctx context.Context, id string) (Subnet, error) {
	w, err := s.seenSubnets(ctx)
	if err != nil {
		return Subnet{}, err
	}
	sn, err := s.subnets.One(ctx, store.Eq("id", id), w)
	return sn, store.WrapNotFound(err, func() *nacre.Error { return subnetNotFound(id) })
}

// NewSubnet is a request for a subnet. NoGateway tells no gateway from the
// default one, the lowest usable address.
type NewSubnet struct {
	Subnet
	NoGateway bool
	// PrefixLen is the length to cut out of the pool; 0 means the pool's default.
	PrefixLen int
	// DefaultPool asks for the default pool of the IP version.
	DefaultPool bool
	// NoDHCP tells a false enable_dhcp from the default true.
	NoDHCP bool
}

func badInput(format string, args ...any) *nacre.Error {
	return nacre.Errorf(nacre.Invalid, "InvalidInput", "Invalid input for operation: "+format+".", args...)
}

// CreateSubnet makes a subnet, and the network's DHCP port where it wants DHCP.
func (s *Service) CreateSubnet(ctx context.Context, in NewSubnet) (Subnet, error) {
	sn := in.Subnet
	n, err := s.Network(ctx, sn.NetworkID)
	if err != nil {
		return sn, err
	}
	if sn.ProjectID == "" {
		sn.ProjectID = n.ProjectID
		if c := nacre.CallerFrom(ctx); c.Service == "" && c.ProjectID != "" && !c.HasRole("admin") {
			sn.ProjectID = c.ProjectID
		}
	}
	if err := s.enforce(ctx, "create_subnet", policy.Map{"project_id": sn.ProjectID, "tenant_id": sn.ProjectID, "network:project_id": n.ProjectID, "network:tenant_id": n.ProjectID, "ext_parent_project_id": n.ProjectID}); err != nil {
		return sn, err
	}
	if in.DefaultPool && sn.SubnetPoolID == "" {
		if sn.SubnetPoolID, err = s.defaultPool(ctx, cmp.Or(sn.IPVersion, 4)); err != nil {
			return sn, err
		}
	}
	if sn.SubnetPoolID == "" {
		if err := s.completeSubnet(&in, &sn); err != nil {
			return sn, err
		}
	}
	asked := sn
	err = s.tx(ctx, func(ctx context.Context) error {
		sn = asked
		if err := s.reserve(ctx, "subnet", sn.ProjectID, 1, func(ctx context.Context) (int64, error) {
			return s.subnets.Count(ctx, store.Eq("project_id", sn.ProjectID))
		}); err != nil {
			return err
		}
		if err := s.holdNetwork(ctx, n.ID); err != nil {
			return err
		}
		if sn.SubnetPoolID != "" {
			if err := s.cut(ctx, &sn, in.PrefixLen); err != nil {
				return err
			}
			if err := s.completeSubnet(&in, &sn); err != nil {
				return err
			}
		}
		if err := s.overlap(ctx, &sn); err != nil {
			return err
		}
		s.fresh(ctx, &sn.Std)
		if err := s.subnets.Insert(ctx, sn); err != nil {
			return err
		}
		if err := s.settleDHCP(ctx, &n); err != nil {
			return err
		}
		if err := s.changed(ctx, dataplane.KindNetwork, n.ID); err != nil {
			return err
		}
		if n.External {
			if err := s.routersOf(ctx, n.ID); err != nil {
				return err
			}
		}
		return s.emit(ctx, "subnet.create.end", &sn.Std)
	})
	return sn, err
}

// completeSubnet validates a request and fills in the defaults.
func (s *Service) completeSubnet(in *NewSubnet, sn *Subnet) error {
	if sn.IPVersion != 4 && sn.IPVersion != 6 {
		return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for ip_version. Reason: '%d' is not in [4, 6].", sn.IPVersion)
	}
	if sn.CIDR == "" {
		return nacre.Errorf(nacre.Invalid, "BadSubnetRequest", "Bad subnets request: a subnetpool must be specified in the absence of a cidr.")
	}
	p, err := parsePrefix(sn.CIDR, "cidr", true)
	if err != nil {
		return err
	}
	if p.Addr().Is4() != (sn.IPVersion == 4) {
		return badInput("cidr %s does not match the ip_version %d", sn.CIDR, sn.IPVersion)
	}
	if p.Addr().IsMulticast() || p.Addr().IsLoopback() {
		return badInput("%s is not a valid subnet: multicast or loopback addresses can't be used", sn.CIDR)
	}
	sn.CIDR = p.String()
	sn.DHCP = !in.NoDHCP
	if sn.DHCP && (sn.IPVersion == 4 && p.Bits() > 30 || p.Bits() == p.Addr().BitLen()) {
		return badInput("Subnet has a prefix length that is incompatible with DHCP service enabled")
	}
	switch {
	case in.NoGateway:
		sn.Gateway = ""
	case sn.Gateway == "":
		sn.Gateway = firstUsable(p).String()
	}
	return s.checkSubnet(sn, len(sn.Pools) == 0)
}

// checkSubnet validates gateway, pools, name servers, routes and IPv6 modes;
// makePools replaces the pools by the default ones.
func (s *Service) checkSubnet(sn *Subnet, makePools bool) error {
	p := sn.Prefix()
	var gw netip.Addr
	if sn.Gateway != "" {
		var err error
		if gw, err = parseAddr(sn.Gateway, "gateway_ip"); err != nil {
			return err
		}
		if gw.Is4() != p.Addr().Is4() {
			return badInput("gateway_ip %s does not match the ip_version %d", sn.Gateway, sn.IPVersion)
		}
		if p.Contains(gw) && p.Addr().Is4() && p.Bits() < 31 && (gw == p.Addr() || gw == last(p)) {
			return badInput("Gateway is not valid on subnet")
		}
		sn.Gateway = gw.String()
	}
	if makePools {
		sn.Pools = defaultPools(p, gw)
	} else if err := checkPools(sn, p, gw); err != nil {
		return err
	}
	for i, d := range sn.DNS {
		a, err := parseAddr(d, "dns_nameservers")
		if err != nil {
			return err
		}
		if slices.Contains(sn.DNS[:i], d) {
			return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Invalid input for dns_nameservers. Reason: Duplicate nameserver '%s'.", d)
		}
		sn.DNS[i] = a.String()
	}
	modes := []string{"", "slaac", "dhcpv6-stateful", "dhcpv6-stateless"}
	switch {
	case sn.IPVersion == 4 && (sn.RAMode != "" || sn.AddressMode != ""):
		return badInput("ipv6_ra_mode and ipv6_address_mode are not valid when ip_version is 4")
	case !slices.Contains(modes, sn.RAMode) || !slices.Contains(modes, sn.AddressMode):
		return badInput("ipv6 mode must be slaac, dhcpv6-stateful or dhcpv6-stateless")
	case selfAddressed(sn) && p.Bits() != 64:
		return badInput("Invalid CIDR %s for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the prefix to be /64", sn.CIDR)
	case sn.RAMode != "" && sn.AddressMode != "" && sn.RAMode != sn.AddressMode:
		return badInput("ipv6_ra_mode set to '%s' with ipv6_address_mode set to '%s' is not valid. If both attributes are set, they must be the same value", sn.RAMode, sn.AddressMode)
	}
	if sn.Pools == nil {
		sn.Pools = []Pool{}
	}
	return nil
}

func checkPools(sn *Subnet, p netip.Prefix, gw netip.Addr) error {
	pools := slices.Clone(sn.Pools)
	slices.SortFunc(pools, func(a, b Pool) int { return a.Start.Compare(b.Start) })
	for i, pl := range pools {
		switch {
		case pl.End.Less(pl.Start):
			return nacre.Errorf(nacre.Invalid, "InvalidAllocationPool", "The allocation pool %s-%s is not valid.", pl.Start, pl.End)
		case !p.Contains(pl.Start) || !p.Contains(pl.End) || p.Addr().Is4() && p.Bits() < 31 && (pl.Start == p.Addr() || pl.End == last(p)):
			return nacre.Errorf(nacre.Invalid, "OutOfBoundsAllocationPool", "The allocation pool %s-%s spans beyond the subnet cidr %s.", pl.Start, pl.End, sn.CIDR)
		case i > 0 && !pools[i-1].End.Less(pl.Start):
			return nacre.Errorf(nacre.Conflict, "OverlappingAllocationPools", "Found overlapping allocation pools: %s-%s %s-%s for subnet %s.", pools[i-1].Start, pools[i-1].End, pl.Start, pl.End, sn.CIDR)
		case gw.IsValid() && !gw.Less(pl.Start) && !pl.End.Less(gw):
			return nacre.Errorf(nacre.Conflict, "GatewayConflictWithAllocationPools", "Gateway ip %s conflicts with allocation pool %s-%s.", gw, pl.Start, pl.End)
		}
	}
	return nil
}

// overlap refuses a subnet that shares addresses with another of its network.
func (s *Service) overlap(ctx context.Context, sn *Subnet) error {
	others, err := s.subnets.Where(ctx, store.Eq("network_id", sn.NetworkID))
	if err != nil {
		return err
	}
	for i := range others {
		if others[i].ID != sn.ID && others[i].IPVersion == sn.IPVersion && others[i].SubnetPoolID != sn.SubnetPoolID {
			return nacre.Errorf(nacre.Invalid, "NetworkSubnetPoolAffinityError", "Subnets hosted on the same network must be allocated from the same subnet pool.")
		}
		if others[i].ID != sn.ID && others[i].Prefix().Overlaps(sn.Prefix()) {
			return badInput("Requested subnet with cidr: %s for network: %s overlaps with another subnet", sn.CIDR, sn.NetworkID)
		}
	}
	return nil
}

// settleDHCP makes, changes or removes the network's DHCP port, so that it has an
// address in each subnet with DHCP; in the caller's transaction.
func (s *Service) settleDHCP(ctx context.Context, n *Network) error {
	subs, err := s.subnets.Where(ctx, store.Eq("network_id", n.ID), store.Eq("enable_dhcp", true))
	if err != nil {
		return err
	}
	slices.SortFunc(subs, func(a, b Subnet) int { return cmp.Compare(a.Created.UnixNano(), b.Created.UnixNano()) })
	p, err := s.ports.One(ctx, store.Eq("network_id", n.ID), store.Eq("device_owner", OwnerDHCP))
	switch {
	case err != nil && !isGone(err):
		return err
	case n.External:
		// The dataplane serves no DHCP there.
		subs = nil
	}
	switch {
	case isGone(err) && len(subs) == 0:
		return nil
	case len(subs) == 0:
		if _, err := s.allocations.DeleteWhere(ctx, store.Eq("port_id", p.ID)); err != nil {
			return err
		}
		return s.ports.Delete(ctx, p.ID)
	case isGone(err):
		p = Port{Std: Std{ProjectID: n.ProjectID}, NetworkID: n.ID, AdminUp: true, Status: Down, DeviceOwner: OwnerDHCP, DeviceID: "dhcp-" + n.ID, VNICType: "normal"}
		s.fresh(ctx, &p.Std)
		p.ProjectID = n.ProjectID
		if p.MAC, err = s.freeMAC(ctx, n.ID); err != nil {
			return err
		}
		if err := s.dhcpAddresses(ctx, &p, subs); err != nil {
			return err
		}
		return s.ports.Insert(ctx, p)
	}
	if err := s.dhcpAddresses(ctx, &p, subs); err != nil {
		return err
	}
	_, err = s.ports.Update(ctx, p.ID, func(x *Port) error { x.FixedIPs = p.FixedIPs; return nil })
	return err
}

// dhcpAddresses gives the DHCP port an address in each of the subnets, and takes
// those of others.
func (s *Service) dhcpAddresses(ctx context.Context, p *Port, subs []Subnet) error {
	var kept []FixedIP
	for _, f := range p.FixedIPs {
		if slices.ContainsFunc(subs, func(sn Subnet) bool { return sn.ID == f.SubnetID }) {
			kept = append(kept, f)
		} else if _, err := s.allocations.DeleteWhere(ctx, store.Eq("port_id", p.ID), store.Eq("subnet_id", f.SubnetID)); err != nil {
			return err
		}
	}
	for i := range subs {
		if slices.ContainsFunc(kept, func(f FixedIP) bool { return f.SubnetID == subs[i].ID }) {
			continue
		}
		a, err := s.allocate(ctx, &subs[i], p.ID, netip.Addr{})
		if err != nil {
			return err
		}
		kept = append(kept, FixedIP{SubnetID: subs[i].ID, Address: a.String()})
	}
	p.FixedIPs = kept
	return nil
}

// routersOf has the routers with a gateway on a network told of its next hops.
func (s *Service) routersOf(ctx context.Context, network string) error {
	legs, err := s.ports.Where(ctx, store.Eq("network_id", network), store.In("device_owner", routerOwners))
	if err != nil {
		return err
	}
	for _, l := range legs {
		if err := s.changed(ctx, dataplane.KindRouter, l.DeviceID); err != nil {
			return err
		}
	}
	return nil
}

// UpdateSubnet changes a subnet by fn. Its CIDR can't change.
func (s *Service) UpdateSubnet(ctx context.Context, id string, fn func(*Subnet) error) (Subnet, error) {
	old, err := s.Subnet(ctx, id)
	if err != nil {
		return old, err
	}
	n, err := s.networks.Get(ctx, old.NetworkID)
	if err != nil {
		return old, err
	}
	if err := s.enforce(ctx, "update_subnet", policy.Map{"project_id": old.ProjectID, "tenant_id": old.ProjectID, "network:project_id": n.ProjectID, "network:tenant_id": n.ProjectID, "ext_parent_project_id": n.ProjectID}); err != nil {
		return old, err
	}
	var out Subnet
	err = s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "network/"+n.ID); err != nil {
			return err
		}
		sn, err := s.subnets.Update(ctx, id, func(sn *Subnet) error {
			if err := s.expected(ctx, &sn.Std); err != nil {
				return err
			}
			if err := fn(sn); err != nil {
				return err
			}
			if sn.CIDR != old.CIDR || sn.IPVersion != old.IPVersion || sn.NetworkID != old.NetworkID {
				return nacre.Errorf(nacre.Invalid, "HTTPBadRequest", "Cannot update read-only attribute cidr")
			}
			touched(&sn.Std)
			return s.checkSubnet(sn, false)
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return subnetNotFound(id) })
		}
		out = sn
		if sn.Gateway != old.Gateway && old.Gateway != "" {
			used, err := s.allocations.One(ctx, store.Eq("id", sn.NetworkID+"/"+old.Gateway))
			if err != nil && !isGone(err) {
				return err
			}
			if err == nil {
				return nacre.Errorf(nacre.Conflict, "GatewayIpInUse", "Current gateway ip %s already in use by port %s. Unable to update.", old.Gateway, used.PortID)
			}
		}
		if err := s.settleDHCP(ctx, &n); err != nil {
			return err
		}
		if hostsSeeSubnet(&old, &sn) {
			if err := s.changed(ctx, dataplane.KindNetwork, n.ID); err != nil {
				return err
			}
		}
		if n.External && sn.Gateway != old.Gateway {
			if err := s.routersOf(ctx, n.ID); err != nil {
				return err
			}
		}
		return s.emit(ctx, "subnet.update.end", &sn.Std)
	})
	return out, err
}

// hostsSeeSubnet reports whether a change is one that hosts must hear of.
func hostsSeeSubnet(a, b *Subnet) bool {
	return a.Gateway != b.Gateway || a.DHCP != b.DHCP || a.RAMode != b.RAMode || a.AddressMode != b.AddressMode || !slices.Equal(a.DNS, b.DNS) || !slices.Equal(a.Routes, b.Routes)
}

// DeleteSubnet removes a subnet that no port but DHCP's has an address in.
func (s *Service) DeleteSubnet(ctx context.Context, id string) error {
	sn, err := s.Subnet(ctx, id)
	if err != nil {
		return err
	}
	n, err := s.networks.Get(ctx, sn.NetworkID)
	if err != nil {
		return err
	}
	if err := s.enforce(ctx, "delete_subnet", policy.Map{"project_id": sn.ProjectID, "tenant_id": sn.ProjectID, "network:project_id": n.ProjectID, "network:tenant_id": n.ProjectID, "ext_parent_project_id": n.ProjectID}); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := store.Lock(ctx, s.c.Engine, "network/"+n.ID); err != nil {
			return err
		}
		if err := s.leaveSubnet(ctx, &sn, &n); err != nil {
			return err
		}
		used, err := s.allocations.Exists(ctx, store.Eq("subnet_id", id), store.Not(store.InSelect("port_id", s.ports, "id", store.And(store.Eq("network_id", n.ID), store.Eq("device_owner", OwnerDHCP)))))
		if err != nil {
			return err
		}
		if used {
			return nacre.Errorf(nacre.Conflict, "SubnetInUse", "Unable to complete operation on subnet %s: One or more ports have an IP allocation from this subnet.", id)
		}
		if err := store.WrapNotFound(s.subnets.Delete(ctx, id), func() *nacre.Error { return subnetNotFound(id) }); err != nil {
			return err
		}
		if err := s.setTags(ctx, id, nil); err != nil {
			return err
		}
		if err := s.settleDHCP(ctx, &n); err != nil {
			return err
		}
		if err := s.changed(ctx, dataplane.KindNetwork, n.ID); err != nil {
			return err
		}
		return s.emit(ctx, "subnet.delete.end", &sn.Std)
	})
}

// leaveSubnet takes from ports the addresses that they formed for themselves in a
// subnet that goes: those of IPv6 with automatic addresses are no use of it, but
// for a router's. In the caller's transaction, which holds the network.
func (s *Service) leaveSubnet(ctx context.Context, sn *Subnet, n *Network) error {
	if !selfAddressed(sn) {
		return nil
	}
	ps, err := s.ports.Where(ctx, store.Not(store.In("device_owner", []string{OwnerDHCP, OwnerRouter, OwnerGateway})),
		store.InSelect("id", s.allocations, "port_id", store.Eq("subnet_id", sn.ID)))
	if err != nil {
		return err
	}
	for i := range ps {
		if _, err := s.allocations.DeleteWhere(ctx, store.Eq("port_id", ps[i].ID), store.Eq("subnet_id", sn.ID)); err != nil {
			return err
		}
		out, err := s.ports.Update(ctx, ps[i].ID, func(p *Port) error {
			p.FixedIPs = slices.DeleteFunc(slices.Clone(p.FixedIPs), func(f FixedIP) bool { return f.SubnetID == sn.ID })
			p.Generation++
			touched(&p.Std)
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.join(ctx, &ps[i], &out); err != nil {
			return err
		}
		if err := s.settlePort(ctx, &ps[i], &out); err != nil {
			return err
		}
	}
	return nil
}
