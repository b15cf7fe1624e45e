//go:build linux && realtest

package linux_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/linux"
)

// dual gives a port an IPv6 address beside its IPv4 one.
func dual(last int) func(*dataplane.Port) {
	return func(p *dataplane.Port) {
		p.FixedIPs = append(p.FixedIPs, dataplane.FixedIP{SubnetID: "v6", Address: addr(fmt.Sprintf("fd00:77::%d", last))})
	}
}

func (g guest) six(last int) {
	g.t.Helper()
	sh(g.t, "ip -n %s -6 addr add fd00:77::%d/64 dev eth0 nodad", g.ns, last)
}

func TestIPv6(t *testing.T) {
	l := newLab(t, linux.Config{})
	p := l.project(1)
	p.network.Generation++
	p.network.Subnets = append(p.network.Subnets, dataplane.Subnet{ID: "v6", CIDR: prefix("fd00:77::/64"), Gateway: addr("fd00:77::1")})
	p.network.DHCP.Addresses = append(p.network.DHCP.Addresses, prefix("fd00:77::2/64"))
	require.NoError(t, l.ApplyNetwork(t.Context(), p.network))
	p.router.Interfaces[0].Addresses = append(p.router.Interfaces[0].Addresses, prefix("fd00:77::1/64"))
	p.router.Generation++
	require.NoError(t, l.ApplyRouter(t.Context(), p.router))
	a, b := p.boot(5, dual(5)), p.boot(6, dual(6), func(p *dataplane.Port) {
		p.AllowedPairs = []dataplane.Pair{{Prefix: prefix("fd00:77::100/120")}}
	})
	a.six(5)
	b.six(6)
	a.pings(false, "fd00:77::6")
	all6 := dataplane.Rule{ID: "6", Direction: "ingress", EtherType: "IPv6", Protocol: "icmp", RemotePrefix: prefix("fd00:77::/64")}
	out6 := dataplane.Rule{ID: "o", Direction: "egress", EtherType: "IPv6"}
	p.rules(ping)
	a.pings(false, "fd00:77::6")
	p.rules(all6)
	a.pings(false, "fd00:77::6")
	p.rules(all6, out6)
	a.pings(true, "fd00:77::6")
	a.pings(true, "fd00:77::1")
	a.pings(true, "fd00:77::2")
	a.pings(false, "10.0.0.6")
	// A remote group by its IPv6 members.
	p.rules(out6, dataplane.Rule{ID: "g", Direction: "ingress", EtherType: "IPv6", RemoteGroup: p.group.ID})
	a.pings(false, "fd00:77::6")
	p.group.Generation++
	p.group.Members = append(p.group.Members, addr("fd00:77::5"))
	require.NoError(t, l.ApplySecurityGroup(t.Context(), p.group))
	a.pings(true, "fd00:77::6")
	p.rules(all6, out6)
	// An allowed range may be used, any other address may not be claimed.
	sh(t, "ip -n %s -6 addr add fd00:77::123/64 dev eth0 nodad; ip -n %s -6 addr add fd00:77::99/64 dev eth0 nodad", b.ns, b.ns)
	a.pings(true, "fd00:77::123")
	a.pings(false, "fd00:77::99")
	require.NotContains(t, sh(t, "ip -n %s -6 neigh show fd00:77::99", a.ns), "lladdr")
	// Nobody but the router advertises itself as one, nor anybody another's address.
	advertisement := func(target string) []byte {
		m := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, addr(target).AsSlice()...)
		return append(m, 2, 1, 0xfa, 0x16, 0x3e, 0, 0, 0)
	}
	require.False(t, arrives(t, a, b, append([]byte{134, 0, 0, 0, 64, 0, 0, 0}, make([]byte, 8)...)))
	require.False(t, arrives(t, a, b, advertisement("fd00:77::99")))
	require.True(t, arrives(t, a, b, advertisement("fd00:77::5")))
}

// arrives says whether an ICMPv6 message reaches a guest from another, and no
// other message of its type does.
func arrives(t *testing.T, from, to guest, message []byte) bool {
	t.Helper()
	var hear, say net.PacketConn
	require.NoError(t, in(t, to.ns, func() (err error) { hear, err = net.ListenPacket("ip6:ipv6-icmp", "::"); return err }))
	defer hear.Close()
	require.NoError(t, in(t, from.ns, func() (err error) { say, err = net.ListenPacket("ip6:ipv6-icmp", "fd00:77::5"); return err }))
	defer say.Close()
	// An echo request behind it tells when it would have come.
	for _, m := range [][]byte{message, {128, 0, 0, 0, 1, 1, 1, 1}} {
		_, err := say.WriteTo(m, &net.IPAddr{IP: net.ParseIP("fd00:77::6")})
		require.NoError(t, err)
	}
	require.NoError(t, hear.SetReadDeadline(time.Now().Add(2*time.Second)))
	came := false
	buf := make([]byte, 1500)
	for {
		n, _, err := hear.ReadFrom(buf)
		require.NoError(t, err, "the echo request that was sent after it did not arrive")
		switch {
		case n >= len(message) && string(buf[4:len(message)]) == string(message[4:]) && buf[0] == message[0]:
			came = true
		case n == 8 && buf[0] == 128:
			return came
		}
	}
}

func TestStatelessGroups(t *testing.T) {
	l := newLab(t, linux.Config{})
	p := l.project(1)
	p.group.Stateless = true
	p.rules()
	a := p.boot(5)
	b := p.boot(6, func(p *dataplane.Port) { p.PortSecurity = false })
	// No rule lets the reply in.
	a.pings(false, "10.0.0.6")
	p.rules(dataplane.Rule{ID: "reply", Direction: "ingress", EtherType: "IPv4", Protocol: "icmp", PortMin: num(0)})
	a.pings(true, "10.0.0.6")
	b.pings(false, "10.0.0.5")
}

func TestRulesOfEachKind(t *testing.T) {
	l := newLab(t, linux.Config{})
	p := l.project(1)
	a, b := p.boot(5), p.boot(6)
	var all []dataplane.Rule
	for _, protocol := range []string{"ah", "dccp", "egp", "esp", "gre", "icmp", "igmp", "ipip", "ipv6-icmp", "ospf", "pgm", "rsvp", "sctp", "tcp", "udp", "udplite", "vrrp", "99", "any", ""} {
		for _, family := range []string{"IPv4", "IPv6"} {
			for _, direction := range []string{"ingress", "egress"} {
				r := dataplane.Rule{ID: "x", Direction: direction, EtherType: family, Protocol: protocol, RemoteGroup: "not-here"}
				all = append(all, r)
				r.RemoteGroup, r.RemotePrefix = "", prefix("192.0.2.0/24")
				if family == "IPv6" {
					r.RemotePrefix = prefix("2001:db8::/32")
				}
				all = append(all, r)
				r.PortMin, r.PortMax = num(3), num(4)
				all = append(all, r)
				r.PortMax = nil
				all = append(all, r)
				r.PortMin, r.PortMax = nil, num(0)
				all = append(all, r)
				r.PortMin, r.PortMax = num(9), num(8)
				all = append(all, r)
			}
		}
	}
	p.rules(all...)
	a.pings(false, "10.0.0.6")
	p.rules(append(all, dataplane.Rule{ID: "y", Direction: "ingress", EtherType: "IPv4", Protocol: "1", PortMin: num(8), PortMax: num(0), RemotePrefix: netip.MustParsePrefix("0.0.0.0/0")})...)
	a.pings(true, "10.0.0.6")
	b.pings(true, "10.0.0.5")
}
