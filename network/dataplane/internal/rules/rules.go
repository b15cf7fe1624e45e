// Package rules says what security groups mean: which packets a port may send
// and receive. The simulated data plane answers from it, and the Linux one
// decides by it which established flows a changed rule cuts.
package rules

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// Directions and ether types, as Neutron writes them.
const (
	Ingress = "ingress"
	Egress  = "egress"
	IPv4    = "IPv4"
	IPv6    = "IPv6"
)

// protocols are the names that Neutron takes (neutron-lib, constants.IP_PROTOCOL_MAP).
var protocols = map[string]uint8{
	"ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "igmp": 2, "ipip": 4,
	"ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "icmpv6": 58, "ipv6-nonxt": 59,
	"ipv6-opts": 60, "ipv6-route": 43, "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132,
	"tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112, "hopopt": 0,
}

// The protocols that are looked into.
const (
	ICMP    = 1
	TCP     = 6
	UDP     = 17
	DCCP    = 33
	ICMPv6  = 58
	SCTP    = 132
	UDPLite = 136
)

// Protocol is the number of a protocol given as name or number. Any is true for
// none at all. IPv6 makes "icmp" and 1 mean ICMPv6, as Neutron does.
func Protocol(name, etherType string) (number uint8, any, ok bool) {
	name = strings.ToLower(name)
	if name == "" || name == "any" || name == "ip" || name == "0" {
		return 0, true, true
	}
	number, ok = protocols[name]
	if !ok {
		n, err := strconv.ParseUint(name, 10, 8)
		if err != nil {
			return 0, false, false
		}
		number, ok = uint8(n), true
	}
	if etherType == IPv6 && number == ICMP {
		number = ICMPv6
	}
	return number, false, ok
}

// HasPorts says whether a protocol has ports that rules can bound.
func HasPorts(protocol uint8) bool {
	switch protocol {
	case TCP, UDP, DCCP, SCTP, UDPLite:
		return true
	}
	return false
}

// Flow is the first packet of a conversation.
type Flow struct {
	Src, Dst netip.Addr
	Protocol uint8
	// Port is the destination port; for ICMP it is the type, and Code the code.
	Port, Code int
}

// Groups looks up a group; rules of a group that is not there allow nothing.
type Groups func(id string) (dataplane.SecurityGroup, bool)

// Permits says whether the port's groups let the flow through in the direction.
// A port without port security permits all.
func Permits(p dataplane.Port, direction string, f Flow, groups Groups) bool {
	if !p.AdminUp {
		return false
	}
	if !p.PortSecurity {
		return true
	}
	for _, id := range p.SecurityGroups {
		g, ok := groups(id)
		if !ok {
			continue
		}
		for _, r := range g.Rules {
			if r.Direction == direction && Matches(r, f, groups) {
				return true
			}
		}
	}
	return false
}

// Matches says whether one rule allows the flow.
func Matches(r dataplane.Rule, f Flow, groups Groups) bool {
	etherType := IPv4
	if f.Dst.Unmap().Is6() {
		etherType = IPv6
	}
	if r.EtherType != etherType {
		return false
	}
	number, any, ok := Protocol(r.Protocol, r.EtherType)
	if !ok || !any && number != f.Protocol {
		return false
	}
	if !any {
		switch {
		case number == ICMP || number == ICMPv6:
			if r.PortMin != nil && *r.PortMin != f.Port || r.PortMax != nil && *r.PortMax != f.Code {
				return false
			}
		case HasPorts(number):
			if r.PortMin != nil && f.Port < *r.PortMin || r.PortMax != nil && f.Port > *r.PortMax {
				return false
			}
		}
	}
	remote := f.Src
	if r.Direction == Egress {
		remote = f.Dst
	}
	if r.RemotePrefix.IsValid() && !r.RemotePrefix.Contains(remote) {
		return false
	}
	if r.RemoteGroup != "" {
		g, ok := groups(r.RemoteGroup)
		if !ok {
			return false
		}
		for _, member := range g.Members {
			if member == remote {
				return true
			}
		}
		return false
	}
	return true
}

// Stateless says whether every group of the port is stateless. Neutron refuses
// to mix the two kinds on one port.
func Stateless(p dataplane.Port, groups Groups) bool {
	if len(p.SecurityGroups) == 0 {
		return false
	}
	for _, id := range p.SecurityGroups {
		if g, ok := groups(id); !ok || !g.Stateless {
			return false
		}
	}
	return true
}

// Owns says whether the port may use the address: a fixed one, or one of an
// allowed pair.
func Owns(p dataplane.Port, addr netip.Addr) bool {
	for _, ip := range p.FixedIPs {
		if ip.Address == addr {
			return true
		}
	}
	for _, pair := range p.AllowedPairs {
		if pair.Prefix.Contains(addr) {
			return true
		}
	}
	return false
}
