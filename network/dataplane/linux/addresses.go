//go:build linux

package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func ipNet(p netip.Prefix) *net.IPNet {
	bits := 32
	if p.Addr().Is6() {
		bits = 128
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), bits)}
}

func fromIPNet(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

// setAddresses makes a link bear exactly these, link-local ones of the kernel
// aside. It gives those that it added.
func (s *space) setAddresses(l netlink.Link, want []netip.Prefix) (added []netip.Prefix, err error) {
	have, err := s.nl.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", l.Attrs().Name, err)
	}
	var kept []netip.Prefix
	for _, a := range have {
		p, ok := fromIPNet(a.IPNet)
		if !ok || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if slices.Contains(want, p) {
			kept = append(kept, p)
			continue
		}
		if err := s.nl.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return nil, fmt.Errorf("remove address %s from %s: %w", p, l.Attrs().Name, err)
		}
	}
	for _, p := range want {
		if slices.Contains(kept, p) {
			continue
		}
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := s.nl.AddrAdd(l, a); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("add address %s to %s: %w", p, l.Attrs().Name, err)
		}
		kept = append(kept, p)
		added = append(added, p)
	}
	return added, nil
}

// setRoutes makes the namespace's static routes exactly these.
func (s *space) setRoutes(want map[netip.Prefix]netip.Addr) error {
	have, err := s.nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN},
		netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("routes in %s: %w", s.name, err)
	}
	there := map[netip.Prefix]netip.Addr{}
	for _, r := range have {
		hop, _ := netip.AddrFromSlice(r.Gw)
		hop = hop.Unmap()
		to, ok := fromIPNet(r.Dst)
		if !ok {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			if hop.Is4() {
				to = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			}
		}
		if want[to] == hop {
			there[to] = hop
			continue
		}
		if err := s.nl.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route %s in %s: %w", to, s.name, err)
		}
	}
	var failed error
	for to, hop := range want {
		if there[to].IsValid() {
			continue
		}
		r := &netlink.Route{Dst: ipNet(to.Masked()), Gw: hop.AsSlice(), Protocol: unix.RTPROT_STATIC, Table: unix.RT_TABLE_MAIN}
		if err := s.nl.RouteReplace(r); err != nil {
			failed = errors.Join(failed, fmt.Errorf("route %s via %s in %s: %w", to, hop, s.name, err))
		}
	}
	return failed
}
