//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/internal/rules"
)

// syncRules renews the rules of a network that is there.
func (d *Driver) syncRules(ctx context.Context, id string) error {
	n, err := d.lockNetwork(ctx, id)
	if err != nil {
		return err
	}
	defer n.lock.unlock()
	if n.space == nil {
		return nil
	}
	if err := d.loadRules(ctx, n, d.store.PortsOf(id)); err != nil {
		d.schedule(target{dataplane.KindNetwork, id}, 0, true)
		return fmt.Errorf("network %s: %w", id, err)
	}
	return nil
}

// loadRules brings the kernel's rules to what the ports and groups say, in one
// transaction, and then cuts what they no longer allow.
func (d *Driver) loadRules(ctx context.Context, n *network, ports []dataplane.Port) error {
	if err := n.number(ports); err != nil {
		return err
	}
	want := compile(ports, n.marks, d.store.SecurityGroup)
	script := want.script()
	if n.rules.tables == want.tables {
		script = want.update(n.rules)
		if script == "" {
			n.rules = want
			return nil
		}
	}
	if _, err := n.space.run(ctx, script, "nft", "-f", "-"); err != nil {
		// Whatever is in place is not known to be what was loaded before.
		n.rules = ruleset{}
		return fmt.Errorf("load rules: %w", err)
	}
	n.rules = want
	return d.cut(n, ports)
}

// number gives each port its mark. A port keeps it as long as it is here, so that
// a packet under way meets the chains that it was marked for.
func (n *network) number(ports []dataplane.Port) error {
	there := make(map[string]bool, len(ports))
	for _, p := range ports {
		there[p.ID] = true
	}
	taken := make(map[uint16]bool, len(n.marks))
	for id, mark := range n.marks {
		if !there[id] {
			delete(n.marks, id)
			continue
		}
		taken[mark] = true
	}
	next := uint16(1)
	for _, p := range ports {
		if n.marks[p.ID] != 0 {
			continue
		}
		for taken[next] {
			next++
			if next == 0 {
				return dataplane.Fault("a network has at most 65535 ports on one host")
			}
		}
		n.marks[p.ID], taken[next] = next, true
	}
	return nil
}

// flows picks those that the rules no longer allow.
type flows struct {
	ports  []dataplane.Port
	byAddr map[netip.Addr]dataplane.Port
	groups rules.Groups
}

// MatchConntrackFlow says whether the flow is to be cut.
func (f flows) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	src, _ := netip.AddrFromSlice(c.Forward.SrcIP)
	dst, _ := netip.AddrFromSlice(c.Forward.DstIP)
	flow := rules.Flow{Src: src.Unmap(), Dst: dst.Unmap(), Protocol: c.Forward.Protocol, Port: int(c.Forward.DstPort)}
	switch flow.Protocol {
	case rules.ICMP:
		// Echo requests are all that starts a flow in practice; the table's
		// dump does not tell the type.
		flow.Port = 8
	case rules.ICMPv6:
		flow.Port = 128
	case rules.UDP:
		if p := flow.Port; p == 67 || p == 68 || p == 546 || p == 547 {
			return false
		}
	}
	return f.forbidden(flow.Src, rules.Egress, flow) || f.forbidden(flow.Dst, rules.Ingress, flow)
}

func (f flows) forbidden(owner netip.Addr, direction string, flow rules.Flow) bool {
	if p, ok := f.byAddr[owner]; ok {
		return !rules.Permits(p, direction, flow, f.groups)
	}
	found := false
	for _, p := range f.ports {
		if len(p.AllowedPairs) > 0 && rules.Owns(p, owner) {
			if rules.Permits(p, direction, flow, f.groups) {
				return false
			}
			found = true
		}
	}
	return found
}

// cut ends flows that were allowed once. They are not established any more, and
// with nf_conntrack_tcp_loose off a TCP flow does not become so from its middle.
func (d *Driver) cut(n *network, ports []dataplane.Port) error {
	f := flows{ports: ports, byAddr: map[netip.Addr]dataplane.Port{}, groups: d.store.SecurityGroup}
	for _, p := range ports {
		for _, ip := range p.FixedIPs {
			f.byAddr[ip.Address] = p
		}
	}
	return deleteFlows(n.space, f)
}

func deleteFlows(s *space, f netlink.CustomConntrackFilter) error {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		_, err := s.nl.ConntrackDeleteFilters(netlink.ConntrackTable, family, f)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("cut flows in namespace %s: %w", s.name, err)
		}
	}
	return nil
}

// throughAny picks flows that have one of the addresses at an end.
type throughAny []netip.Addr

// MatchConntrackFlow says whether the flow is to be cut.
func (t throughAny) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	for _, ip := range []net.IP{c.Forward.SrcIP, c.Forward.DstIP, c.Reverse.SrcIP, c.Reverse.DstIP} {
		if a, ok := netip.AddrFromSlice(ip); ok && slices.Contains(t, a.Unmap()) {
			return true
		}
	}
	return false
}
