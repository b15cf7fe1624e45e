package fake

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/internal/rules"
)

// External, as the origin of Reach, is a machine on the external networks.
const External = "external"

// metadata is where the metadata proxy of every network with DHCP answers.
var metadata = netip.AddrFrom4([4]byte{169, 254, 169, 254})

// replyPort stands for the client's port when a stateless reply is judged.
const replyPort = 49152

// Reach says whether a new conversation from a port (its id, or External) to an
// address gets through, and its replies back; why says what lets it through or
// stops it. The protocol is a name or number; the port is the destination port,
// or ICMP's type (8 is an echo request).
func (d *Driver) Reach(from string, to netip.Addr, protocol string, port int) (ok bool, why string) {
	etherType := rules.IPv4
	if to.Unmap().Is6() {
		etherType = rules.IPv6
	}
	number, any, known := rules.Protocol(protocol, etherType)
	if !known || any {
		return false, fmt.Sprintf("%q is no protocol", protocol)
	}
	f := rules.Flow{Dst: to, Protocol: number, Port: port}
	if from == External {
		return d.fromOutside(f)
	}
	p, found := d.store.Port(from)
	if !found {
		return false, "there is no port " + from
	}
	if s := d.status(from); !s.Active {
		return false, s.Reason
	}
	src, subnet, found := d.source(p, to)
	if !found {
		return false, "the port has no address of that family"
	}
	f.Src = src
	if !rules.Permits(p, rules.Egress, f, d.store.SecurityGroup) {
		return false, "no egress rule of port " + p.ID + " allows it"
	}
	if ok, why = d.carry(p, subnet, f); ok && rules.Stateless(p, d.store.SecurityGroup) &&
		!rules.Permits(p, rules.Ingress, reply(f), d.store.SecurityGroup) {
		return false, "the groups of port " + p.ID + " are stateless and no ingress rule allows the reply"
	}
	return ok, why
}

// reply is the packet that answers the flow's first.
func reply(f rules.Flow) rules.Flow {
	back := rules.Flow{Src: f.Dst, Dst: f.Src, Protocol: f.Protocol, Port: replyPort}
	switch {
	case f.Protocol == rules.ICMP && f.Port == 8:
		back.Port = 0
	case f.Protocol == rules.ICMPv6 && f.Port == 128:
		back.Port = 129
	}
	return back
}

// source picks the address that a guest would send from: one in the
// destination's subnet if there is such, else its first of that family.
func (d *Driver) source(p dataplane.Port, to netip.Addr) (netip.Addr, dataplane.Subnet, bool) {
	n, _ := d.store.Network(p.NetworkID)
	var first netip.Addr
	var firstSubnet dataplane.Subnet
	for _, ip := range p.FixedIPs {
		if ip.Address.Is4() != to.Is4() {
			continue
		}
		s := subnetOf(n, ip.SubnetID)
		if s.CIDR.Contains(to) {
			return ip.Address, s, true
		}
		if !first.IsValid() {
			first, firstSubnet = ip.Address, s
		}
	}
	return first, firstSubnet, first.IsValid()
}

func subnetOf(n dataplane.Network, id string) dataplane.Subnet {
	for _, s := range n.Subnets {
		if s.ID == id {
			return s
		}
	}
	return dataplane.Subnet{}
}

// carry takes a packet that left its port to where it goes.
func (d *Driver) carry(p dataplane.Port, s dataplane.Subnet, f rules.Flow) (bool, string) {
	n, _ := d.store.Network(p.NetworkID)
	if f.Dst == metadata && n.DHCP != nil {
		if f.Protocol == rules.TCP && f.Port == 80 {
			return true, "answered by the metadata proxy"
		}
		return pingable(f, "the metadata proxy")
	}
	if s.CIDR.Contains(f.Dst) {
		if ok, why, there := d.deliver(n.ID, f); there {
			return ok, why
		}
		if n.External {
			return true, "the host lies on external network " + n.ID
		}
		return false, "nobody has " + f.Dst.String() + " on network " + n.ID
	}
	hop := s.Gateway
	bits := -1
	for _, r := range s.HostRoutes {
		if r.Destination.Contains(f.Dst) && r.Destination.Bits() > bits {
			hop, bits = r.NextHop, r.Destination.Bits()
		}
	}
	if !hop.IsValid() {
		return false, "the subnet has no gateway"
	}
	for _, r := range d.store.Routers() {
		for _, e := range r.Interfaces {
			if e.NetworkID == n.ID && has(e, hop) {
				return d.route(r, f)
			}
		}
	}
	if n.External {
		return true, "the gateway of external network " + n.ID + " is outside"
	}
	return false, "no router answers at " + hop.String()
}

func has(e dataplane.Endpoint, a netip.Addr) bool {
	for _, p := range e.Addresses {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// route is what a router does with a packet from one of its interfaces.
func (d *Driver) route(r dataplane.Router, f rules.Flow) (bool, string) {
	if !r.AdminUp {
		return false, "router " + r.ID + " is administratively down"
	}
	for _, fip := range r.FloatingIPs {
		if fip.External == f.Dst && r.Gateway != nil {
			// Replies must come back through the router, so the sender is
			// hidden too: behind its own floating IP, or the gateway's address.
			f.Src, f.Dst = hidden(r, f.Src), fip.Fixed
			return d.toInterface(r, f)
		}
	}
	for _, e := range r.Interfaces {
		if has(e, f.Dst) {
			return pingable(f, "router "+r.ID)
		}
	}
	if r.Gateway != nil && has(r.Gateway.Endpoint, f.Dst) {
		return pingable(f, "router "+r.ID)
	}
	if ok, why := d.toInterface(r, f); why != "" {
		return ok, why
	}
	if hop := extraRoute(r, f.Dst); hop.IsValid() {
		for _, e := range r.Interfaces {
			for _, a := range e.Addresses {
				if a.Masked().Contains(hop) {
					return d.via(e.NetworkID, hop, f)
				}
			}
		}
	}
	if r.Gateway == nil {
		return false, "router " + r.ID + " has no gateway"
	}
	if src := outsideAddress(r, f.Src); src.IsValid() {
		f.Src = src
	} else {
		return false, "router " + r.ID + " neither hides the sender nor has a floating IP for it"
	}
	return d.outside(r.Gateway.NetworkID, f)
}

// toInterface delivers to a network that the router is on; an empty why says
// that it is on none that has the destination.
func (d *Driver) toInterface(r dataplane.Router, f rules.Flow) (bool, string) {
	for _, e := range r.Interfaces {
		for _, a := range e.Addresses {
			if !a.Masked().Contains(f.Dst) {
				continue
			}
			if ok, why, there := d.deliver(e.NetworkID, f); there {
				return ok, why
			}
			return false, "nobody has " + f.Dst.String() + " on network " + e.NetworkID
		}
	}
	return false, ""
}

// via hands a packet to a next hop that is a guest. What it does with it is its
// own affair; that it gets it is what counts.
func (d *Driver) via(networkID string, hop netip.Addr, f rules.Flow) (bool, string) {
	for _, p := range d.store.PortsOf(networkID) {
		if !rules.Owns(p, hop) {
			continue
		}
		if s := d.status(p.ID); !s.Active {
			return false, s.Reason
		}
		if !rules.Permits(p, rules.Ingress, f, d.store.SecurityGroup) {
			return false, "no ingress rule of port " + p.ID + " allows it"
		}
		return true, "handed to port " + p.ID
	}
	return false, "nobody has " + hop.String() + " on network " + networkID
}

func extraRoute(r dataplane.Router, to netip.Addr) netip.Addr {
	var hop netip.Addr
	bits := -1
	for _, route := range r.Routes {
		if route.Destination.Contains(to) && route.Destination.Bits() > bits {
			hop, bits = route.NextHop, route.Destination.Bits()
		}
	}
	return hop
}

// outside is where a packet ends that left through a gateway.
func (d *Driver) outside(networkID string, f rules.Flow) (bool, string) {
	for _, r := range d.store.Routers() {
		if r.Gateway == nil || r.Gateway.NetworkID != networkID || !r.AdminUp {
			continue
		}
		for _, fip := range r.FloatingIPs {
			if fip.External == f.Dst {
				f.Dst = fip.Fixed
				return d.toInterface(r, f)
			}
		}
		if has(r.Gateway.Endpoint, f.Dst) {
			return pingable(f, "router "+r.ID)
		}
	}
	if ok, why, there := d.deliver(networkID, f); there {
		return ok, why
	}
	return true, "outside, as " + f.Src.String()
}

// fromOutside starts at a machine that lies on the external networks. It has no
// routes to tenants' networks.
func (d *Driver) fromOutside(f rules.Flow) (bool, string) {
	for _, n := range d.store.Networks() {
		if !n.External {
			continue
		}
		for _, s := range n.Subnets {
			if !s.CIDR.Contains(f.Dst) {
				continue
			}
			f.Src = s.Gateway
			if !f.Src.IsValid() {
				f.Src = s.CIDR.Masked().Addr().Next()
			}
			ok, why := d.outside(n.ID, f)
			if ok && strings.HasPrefix(why, "outside") {
				return false, "nobody has " + f.Dst.String() + " on network " + n.ID
			}
			return ok, why
		}
	}
	return false, "no external network has " + f.Dst.String()
}

// deliver brings a packet to the address's port on a network. there says
// whether anybody has the address.
func (d *Driver) deliver(networkID string, f rules.Flow) (ok bool, why string, there bool) {
	n, found := d.store.Network(networkID)
	if !found {
		return false, "this host has no network " + networkID, true
	}
	for _, p := range d.store.PortsOf(networkID) {
		if !rules.Owns(p, f.Dst) {
			continue
		}
		if s := d.status(p.ID); !s.Active {
			return false, s.Reason, true
		}
		if !rules.Permits(p, rules.Ingress, f, d.store.SecurityGroup) {
			return false, "no ingress rule of port " + p.ID + " allows it", true
		}
		if rules.Stateless(p, d.store.SecurityGroup) && !rules.Permits(p, rules.Egress, reply(f), d.store.SecurityGroup) {
			return false, "the groups of port " + p.ID + " are stateless and no egress rule allows the reply", true
		}
		return true, "delivered to port " + p.ID, true
	}
	if n.DHCP != nil && has(*n.DHCP, f.Dst) {
		ok, why = pingable(f, "the DHCP port")
		return ok, why, true
	}
	for _, r := range d.store.Routers() {
		for _, e := range r.Interfaces {
			if e.NetworkID == networkID && has(e, f.Dst) && r.AdminUp {
				ok, why = pingable(f, "router "+r.ID)
				return ok, why, true
			}
		}
	}
	return false, "", false
}

// pingable answers for an address of ours, where nothing but ICMP is served.
func pingable(f rules.Flow, who string) (bool, string) {
	if f.Protocol == rules.ICMP || f.Protocol == rules.ICMPv6 {
		return true, "answered by " + who
	}
	return false, who + " serves nothing at port " + strconv.Itoa(f.Port)
}

// outsideAddress is the address under which a sender is seen beyond the gateway;
// invalid when nobody there could answer it.
func outsideAddress(r dataplane.Router, src netip.Addr) netip.Addr {
	for _, fip := range r.FloatingIPs {
		if fip.Fixed == src {
			return fip.External
		}
	}
	if r.Gateway.SNAT || src.Is6() {
		return gatewayAddress(r, src)
	}
	return netip.Addr{}
}

// hidden is the sender of a packet that a router turns back inside.
func hidden(r dataplane.Router, src netip.Addr) netip.Addr {
	for _, fip := range r.FloatingIPs {
		if fip.Fixed == src {
			return fip.External
		}
	}
	return gatewayAddress(r, src)
}

// gatewayAddress is the gateway's address of the sender's family. IPv6 is routed
// as it is, never hidden.
func gatewayAddress(r dataplane.Router, src netip.Addr) netip.Addr {
	if src.Is6() {
		return src
	}
	for _, a := range r.Gateway.Addresses {
		if a.Addr().Is4() {
			return a.Addr()
		}
	}
	return netip.Addr{}
}
