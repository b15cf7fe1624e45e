package network

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// address gives a port its addresses: those asked for, or (auto) one of the first
// subnet of each IP version that has room, and one of each subnet where guests
// make their own. In the caller's transaction, which holds the network.
func (s *Service) address(ctx context.Context, p *Port, n *Network, want []FixedIP, auto bool) ([]FixedIP, error) {
	subs, err := s.subnets.Select(ctx, store.Select{Where: store.Eq("network_id", n.ID), Order: []store.Order{{Column: "created_at"}}})
	if err != nil {
		return nil, err
	}
	if auto {
		return s.anyAddress(ctx, p, n, subs)
	}
	out := []FixedIP{}
	for _, f := range want {
		var a netip.Addr
		if f.Address != "" {
			if a, err = parseAddr(f.Address, "fixed_ips"); err != nil {
				return nil, err
			}
		}
		i := slices.IndexFunc(subs, func(sn Subnet) bool {
			return f.SubnetID == sn.ID || f.SubnetID == "" && a.IsValid() && sn.Prefix().Contains(a)
		})
		if err := fits(p, n, f, a, subs, i); err != nil {
			return nil, err
		}
		sn := &subs[i]
		switch {
		case a.IsValid() && slices.ContainsFunc(out, func(have FixedIP) bool { return have.Address == a.String() }):
			return nil, badInput("Duplicate IP address '%s'", a)
		case a.IsValid() && slices.Contains(p.FixedIPs, FixedIP{SubnetID: sn.ID, Address: a.String()}):
			out = append(out, FixedIP{SubnetID: sn.ID, Address: a.String()})
			continue
		case !a.IsValid() && selfAddressed(sn) && !ourOwn(p.DeviceOwner):
			a = eui64(sn.Prefix(), p.MAC)
		}
		if a, err = s.allocate(ctx, sn, p.ID, a); err != nil {
			return nil, err
		}
		out = append(out, FixedIP{SubnetID: sn.ID, Address: a.String()})
	}
	return out, nil
}

// fits refuses an address that is not one of the subnet subs[i], or that nobody
// may choose; i is negative when no subnet matched.
func fits(p *Port, n *Network, f FixedIP, a netip.Addr, subs []Subnet, i int) error {
	switch {
	case i < 0 && f.SubnetID != "":
		return badInput("Failed to create port on network %s, because fixed_ips included invalid subnet %s", n.ID, f.SubnetID)
	case i < 0 && !a.IsValid():
		return badInput("IP allocation requires subnet_id or ip_address")
	case i < 0:
		return nacre.Errorf(nacre.Invalid, "InvalidIpForNetwork", "IP address %s is not a valid IP for any of the subnets on the specified network.", f.Address)
	case !a.IsValid():
		return nil
	}
	sn := &subs[i]
	prefix := sn.Prefix()
	switch {
	case !prefix.Contains(a) || a.Is4() && prefix.Bits() < 31 && (a == prefix.Addr() || a == last(prefix)):
		return nacre.Errorf(nacre.Invalid, "InvalidIpForSubnet", "IP address %s is not a valid IP for the specified subnet.", f.Address)
	case selfAddressed(sn) && !ourOwn(p.DeviceOwner) && a != eui64(prefix, p.MAC):
		return nacre.Errorf(nacre.Invalid, "AllocationOnAutoAddressSubnet", "IPv6 address %s cannot be directly assigned to a port on subnet %s as the subnet is configured for automatic addresses", a, sn.ID)
	}
	return nil
}

// selfAddressed says that guests make their own address out of the subnet's prefix
// and their MAC address.
func selfAddressed(sn *Subnet) bool {
	return sn.AddressMode == "slaac" || sn.AddressMode == "dhcpv6-stateless"
}

// eui64 is the address that a guest makes for itself (RFC 4291, appendix A).
func eui64(p netip.Prefix, mac string) netip.Addr {
	m, err := net.ParseMAC(mac)
	if err != nil || len(m) != 6 {
		return netip.Addr{}
	}
	b := p.Masked().Addr().As16()
	copy(b[8:], []byte{m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
	return netip.AddrFrom16(b)
}

func (s *Service) anyAddress(ctx context.Context, p *Port, n *Network, subs []Subnet) ([]FixedIP, error) {
	out := []FixedIP{}
	for _, version := range []int{4, 6} {
		full := false
		for i := range subs {
			if subs[i].IPVersion != version || len(subs[i].Pools) == 0 || selfAddressed(&subs[i]) && !ourOwn(p.DeviceOwner) {
				continue
			}
			a, err := s.allocate(ctx, &subs[i], p.ID, netip.Addr{})
			if isFull(err) {
				full = true
				continue
			}
			if err != nil {
				return nil, err
			}
			out, full = append(out, FixedIP{SubnetID: subs[i].ID, Address: a.String()}), false
			break
		}
		if full {
			return nil, exhausted(n.ID)
		}
	}
	for i := range subs {
		if !selfAddressed(&subs[i]) || ourOwn(p.DeviceOwner) {
			continue
		}
		a, err := s.allocate(ctx, &subs[i], p.ID, eui64(subs[i].Prefix(), p.MAC))
		if err != nil {
			return nil, err
		}
		out = append(out, FixedIP{SubnetID: subs[i].ID, Address: a.String()})
	}
	return out, nil
}

// readdress gives a port other addresses; floating IPs that led to one that goes
// lead nowhere. An address that is asked for by its subnet alone stays what it was.
func (s *Service) readdress(ctx context.Context, p *Port, n *Network, want []FixedIP) error {
	want = slices.Clone(want)
	kept := map[string]bool{}
	for _, w := range want {
		if a, err := netip.ParseAddr(w.Address); err == nil {
			kept[a.Unmap().String()] = true
		}
	}
	for i, w := range want {
		j := slices.IndexFunc(p.FixedIPs, func(f FixedIP) bool { return w.Address == "" && f.SubnetID == w.SubnetID && !kept[f.Address] })
		if j >= 0 {
			want[i] = p.FixedIPs[j]
			kept[p.FixedIPs[j].Address] = true
		}
	}
	var drop []string
	for _, f := range p.FixedIPs {
		if !kept[f.Address] {
			drop = append(drop, f.Address)
		}
	}
	if len(drop) > 0 {
		if _, err := s.allocations.DeleteWhere(ctx, store.Eq("port_id", p.ID), store.In("address", drop)); err != nil {
			return err
		}
		if err := s.looseFloatingIPs(ctx, store.And(store.Eq("port_id", p.ID), store.In("fixed_ip_address", drop))); err != nil {
			return err
		}
	}
	ips, err := s.address(ctx, p, n, want, false)
	p.FixedIPs = ips
	return err
}
