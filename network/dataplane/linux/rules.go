package linux

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/internal/rules"
)

// short is the part of an id that device and namespace names have room for.
func short(id string) string { return id[:min(len(id), 11)] }

// ruleset is what nft is told of one network: its tables, and the elements of
// their sets, which can be changed alone.
type ruleset struct {
	tables string
	sets   map[string][]string
	ports  map[string]bool
}

func (r ruleset) covers(portID string) bool { return r.ports[portID] }

// script replaces everything in one transaction; nothing is ever half loaded.
func (r ruleset) script() string {
	var b strings.Builder
	b.WriteString("table bridge nacre\ndelete table bridge nacre\ntable inet nacre\ndelete table inet nacre\n")
	b.WriteString(r.tables)
	for _, name := range slices.Sorted(maps.Keys(r.sets)) {
		if elements := r.sets[name]; len(elements) > 0 {
			fmt.Fprintf(&b, "add element inet nacre %s { %s }\n", name, strings.Join(elements, ", "))
		}
	}
	return b.String()
}

// update changes only the sets that differ from those of a ruleset with the same
// tables; empty when none does.
func (r ruleset) update(from ruleset) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.sets)) {
		elements := r.sets[name]
		if slices.Equal(elements, from.sets[name]) {
			continue
		}
		fmt.Fprintf(&b, "flush set inet nacre %s\n", name)
		if len(elements) > 0 {
			fmt.Fprintf(&b, "add element inet nacre %s { %s }\n", name, strings.Join(elements, ", "))
		}
	}
	return b.String()
}

// compile writes the rules of a network. marks numbers the ports, from 1.
func compile(ports []dataplane.Port, marks map[string]uint16, groups rules.Groups) ruleset {
	c := compiler{groups: groups, sets: map[string][]string{}, chains: map[string]bool{}}
	r := ruleset{ports: map[string]bool{}}
	for _, p := range ports {
		r.ports[p.ID] = true
		c.port(p, marks[p.ID])
	}
	var b strings.Builder
	b.WriteString("table bridge nacre {\n")
	b.WriteString(c.bridge.String())
	base(&b, "c_from", "prerouting", -300, verdicts("iifname", c.from))
	base(&b, "c_to", "forward", -200, verdicts("oifname", c.to))
	// Each host is DHCP and metadata server to its own guests, all under one address:
	// what it says itself does not leave by the tunnel.
	base(&b, "c_local", "output", -200, `oifname "`+tunnelName+`" drop`, verdicts("oifname", c.local))
	b.WriteString("}\ntable inet nacre {\n")
	for _, name := range slices.Sorted(maps.Keys(c.sets)) {
		kind := "ipv4_addr"
		if strings.HasPrefix(name, "g6_") {
			kind = "ipv6_addr"
		}
		fmt.Fprintf(&b, "set %s { type %s; }\n", name, kind)
	}
	b.WriteString(c.inet.String())
	egress := verdicts("meta mark & 0xffff0000", c.egress)
	// A verdict ends the chain of one priority only: what egress accepts is then
	// judged by ingress.
	base(&b, "c_egress", "forward", 0, egress)
	base(&b, "c_ingress", "forward", 10, verdicts("meta mark & 0x0000ffff", c.ingress))
	base(&b, "c_input_egress", "input", 0, egress)
	base(&b, "c_input", "input", 10,
		`iifname != "`+bridgeName+`" accept`,
		"ct state established,related accept",
		"udp dport 67 accept",
		"ip daddr "+metadataText+" tcp dport 80 accept",
		"icmp type echo-request accept",
		"icmpv6 type { 128, 133, 135, 136 } accept",
		"drop",
	)
	b.WriteString("}\n")
	r.tables, r.sets = b.String(), c.sets
	return r
}

const (
	// bridgeName is the bridge in each network's namespace.
	bridgeName   = "br0"
	metadataText = "169.254.169.254"
)

// metadataAddress is where guests look for their metadata.
var metadataAddress = netip.MustParseAddr(metadataText)

func base(b *strings.Builder, name, hook string, priority int, lines ...string) {
	fmt.Fprintf(b, "chain %s {\ntype filter hook %s priority %d; policy accept;\n", name, hook, priority)
	for _, l := range lines {
		if l != "" {
			b.WriteString(l + "\n")
		}
	}
	b.WriteString("}\n")
}

func verdicts(key string, elements []string) string {
	if len(elements) == 0 {
		return ""
	}
	return key + " vmap { " + strings.Join(elements, ", ") + " }"
}

type compiler struct {
	groups       rules.Groups
	bridge, inet strings.Builder
	from, to     []string
	local        []string
	egress       []string
	ingress      []string
	sets         map[string][]string
	chains       map[string]bool
}

func chain(b *strings.Builder, name string, lines ...string) {
	fmt.Fprintf(b, "chain %s {\n", name)
	for _, l := range lines {
		if l != "" {
			b.WriteString(l + "\n")
		}
	}
	b.WriteString("}\n")
}

func (c *compiler) port(p dataplane.Port, mark uint16) {
	tap := strconv.Quote(p.Tap)
	if !p.AdminUp {
		for _, list := range []*[]string{&c.from, &c.to, &c.local} {
			*list = append(*list, tap+" : drop")
		}
		return
	}
	if !p.PortSecurity {
		return
	}
	n := strconv.Itoa(int(mark))
	c.antiSpoof(p, n, tap, mark)
	c.egress = append(c.egress, fmt.Sprintf("0x%08x : goto e%s", uint32(mark)<<16, n))
	c.ingress = append(c.ingress, fmt.Sprintf("0x%08x : goto i%s", uint32(mark), n))
	stateless := rules.Stateless(p, c.groups)
	for _, way := range []struct{ letter, direction, always4, always6 string }{
		{"e", rules.Egress, "udp sport 68 udp dport 67", "icmpv6 type { 131, 132, 133, 135, 136, 143 } accept\nudp sport 546 udp dport 547"},
		{"i", rules.Ingress, "udp sport 67 udp dport 68", "icmpv6 type { 130, 131, 132, 134, 135, 136 } accept\nudp sport 547 udp dport 546"},
	} {
		lines := []string{way.always4 + " accept", way.always6 + " accept"}
		if !stateless {
			lines = append(lines, "ct state established,related accept", "ct state invalid drop")
		}
		for _, id := range slices.Sorted(slices.Values(p.SecurityGroups)) {
			if g, ok := c.groups(id); ok {
				lines = append(lines, "jump "+c.group(g, way.letter, way.direction))
			}
		}
		chain(&c.inet, way.letter+n, append(lines, "drop")...)
	}
}

// identifier makes an id a part of an nft name.
func identifier(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, id)
}

// group writes a group's chain for a direction, once, and names it.
func (c *compiler) group(g dataplane.SecurityGroup, letter, direction string) string {
	name := "g" + letter + "_" + identifier(g.ID)
	if c.chains[name] {
		return name
	}
	c.chains[name] = true
	var lines []string
	for _, r := range g.Rules {
		if r.Direction == direction {
			lines = append(lines, c.rule(r))
		}
	}
	slices.Sort(lines)
	chain(&c.inet, name, slices.Compact(lines)...)
	return name
}

// rule writes one rule; empty for one that can match nothing.
func (c *compiler) rule(r dataplane.Rule) string {
	family, word, icmp := "ipv4", "ip", "icmp"
	if r.EtherType == rules.IPv6 {
		family, word, icmp = "ipv6", "ip6", "icmpv6"
	}
	side := "saddr"
	if r.Direction == rules.Egress {
		side = "daddr"
	}
	parts := []string{"meta nfproto " + family}
	if r.RemotePrefix.IsValid() {
		if r.RemotePrefix.Addr().Is6() != (r.EtherType == rules.IPv6) {
			return ""
		}
		if r.RemotePrefix.Bits() > 0 {
			parts = append(parts, word+" "+side+" "+r.RemotePrefix.Masked().String())
		}
	}
	if r.RemoteGroup != "" {
		parts = append(parts, word+" "+side+" @"+c.remote(r.RemoteGroup, r.EtherType))
	}
	number, any, ok := rules.Protocol(r.Protocol, r.EtherType)
	if !ok {
		return ""
	}
	if !any {
		parts = append(parts, "meta l4proto "+strconv.Itoa(int(number)))
		switch {
		case number == rules.ICMP && family == "ipv4" || number == rules.ICMPv6 && family == "ipv6":
			if r.PortMin != nil {
				parts = append(parts, fmt.Sprintf("%s type %d", icmp, *r.PortMin))
			}
			if r.PortMax != nil {
				parts = append(parts, fmt.Sprintf("%s code %d", icmp, *r.PortMax))
			}
		case rules.HasPorts(number) && (r.PortMin != nil || r.PortMax != nil):
			low, high := 0, 65535
			if r.PortMin != nil {
				low = *r.PortMin
			}
			if r.PortMax != nil {
				high = *r.PortMax
			}
			switch {
			case low > high:
				return ""
			case low == high:
				parts = append(parts, fmt.Sprintf("th dport %d", low))
			default:
				parts = append(parts, fmt.Sprintf("th dport %d-%d", low, high))
			}
		}
	}
	return strings.Join(append(parts, "accept"), " ")
}

// remote names the set of a group's members, and fills it.
func (c *compiler) remote(id, etherType string) string {
	name := "g4_" + identifier(id)
	if etherType == rules.IPv6 {
		name = "g6_" + identifier(id)
	}
	if _, ok := c.sets[name]; ok {
		return name
	}
	g, _ := c.groups(id)
	members := []string{}
	for _, m := range g.Members {
		if m.Is6() == (etherType == rules.IPv6) {
			members = append(members, m.String())
		}
	}
	slices.Sort(members)
	c.sets[name] = slices.Compact(members)
	return name
}

// antiSpoof writes what a port may say of itself, and marks its packets.
func (c *compiler) antiSpoof(p dataplane.Port, n, tap string, mark uint16) {
	own := plainMAC(p.MAC)
	allowed := map[string][]netip.Prefix{own: nil}
	for _, ip := range p.FixedIPs {
		allowed[own] = append(allowed[own], netip.PrefixFrom(ip.Address, ip.Address.BitLen()))
	}
	for _, pair := range p.AllowedPairs {
		mac := own
		if pair.MAC != "" {
			mac = plainMAC(pair.MAC)
		}
		allowed[mac] = append(allowed[mac], pair.Prefix.Masked())
	}
	macs := slices.Sorted(maps.Keys(allowed))
	var jumps []string
	for i, mac := range macs {
		name := fmt.Sprintf("a%s_%d", n, i)
		jumps = append(jumps, mac+" : goto "+name)
		c.antiSpoofMAC(name, mac, allowed[mac])
	}
	all := "{ " + strings.Join(macs, ", ") + " }"
	chain(&c.bridge, "p"+n,
		"ether saddr != "+all+" drop",
		"ether type != { ip, ip6, arp, 0x8035 } drop", // RARP: how QEMU tells where a guest moved to
		fmt.Sprintf("meta mark set 0x%08x", uint32(mark)<<16),
		verdicts("ether saddr", jumps),
	)
	// A frame for somebody else is flooded while the bridge does not know where
	// that is. It is no business of this port.
	chain(&c.bridge, "o"+n,
		"meta pkttype != { broadcast, multicast } ether daddr != "+all+" drop",
		fmt.Sprintf("meta mark set mark or 0x%08x", uint32(mark)),
	)
	c.from = append(c.from, tap+" : goto p"+n)
	c.to = append(c.to, tap+" : goto o"+n)
}

func (c *compiler) antiSpoofMAC(name, mac string, prefixes []netip.Prefix) {
	var v4, v6 []netip.Prefix
	for _, p := range prefixes {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	if ll, ok := linkLocal(mac); ok {
		v6 = append(v6, netip.PrefixFrom(ll, 128))
	}
	chain(&c.bridge, name,
		"arp saddr ether != "+mac+" drop",
		// 0.0.0.0 asks whether an address is taken; it claims none.
		"arp saddr ip != "+set(append(slices.Clone(v4), netip.PrefixFrom(netip.IPv4Unspecified(), 32)))+" drop",
		"ip saddr 0.0.0.0 udp sport 68 udp dport 67 return",
		"ip protocol udp udp sport 67 udp dport 68 drop",
		except("ip saddr", "ip", v4),
		"ip6 saddr :: icmpv6 type { 131, 135, 143 } return",
		"icmpv6 type { 134, 137 } drop",
		"ip6 nexthdr udp udp sport 547 udp dport 546 drop",
		except("ip6 saddr", "ip6", v6),
		// The target of a neighbour advertisement is the address it claims.
		"icmpv6 type 136 "+target6(v6)+" drop",
	)
}

// plainMAC writes a MAC as nft does; one that cannot be read becomes one that
// nobody has.
func plainMAC(s string) string {
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 {
		return "00:00:00:00:00:00"
	}
	return m.String()
}

// except drops what is not in the set; everything of the family when it is empty.
func except(match, family string, prefixes []netip.Prefix) string {
	if len(prefixes) == 0 {
		return "ether type " + family + " drop"
	}
	for _, p := range prefixes {
		if p.Bits() == 0 {
			return ""
		}
	}
	return match + " != " + set(prefixes) + " drop"
}

func target6(prefixes []netip.Prefix) string {
	var elements []string
	for _, p := range outermost(prefixes) {
		first := p.Masked().Addr().As16()
		last := first
		for i := p.Bits(); i < 128; i++ {
			last[i/8] |= 1 << (7 - i%8)
		}
		if first == last {
			elements = append(elements, fmt.Sprintf("0x%x", first))
		} else {
			elements = append(elements, fmt.Sprintf("0x%x-0x%x", first, last))
		}
	}
	return "@th,64,128 != { " + strings.Join(elements, ", ") + " }"
}

// set writes an anonymous set; nft refuses intervals that overlap.
func set(prefixes []netip.Prefix) string {
	var elements []string
	for _, p := range outermost(prefixes) {
		if p.IsSingleIP() {
			elements = append(elements, p.Addr().String())
		} else {
			elements = append(elements, p.String())
		}
	}
	return "{ " + strings.Join(elements, ", ") + " }"
}

// outermost leaves out what lies within another.
func outermost(prefixes []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	var kept []netip.Prefix
	for _, p := range sorted {
		if !slices.ContainsFunc(kept, func(k netip.Prefix) bool { return k.Contains(p.Addr()) }) {
			kept = append(kept, p)
		}
	}
	return kept
}

// linkLocal is the EUI-64 link-local address of a MAC.
func linkLocal(mac string) (netip.Addr, bool) {
	m, err := net.ParseMAC(mac)
	if err != nil || len(m) != 6 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]}), true
}
