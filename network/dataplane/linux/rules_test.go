package linux

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

func testPorts() ([]dataplane.Port, func(string) (dataplane.SecurityGroup, bool)) {
	group := dataplane.SecurityGroup{
		ID: "g-1", Members: []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::5")},
		Rules: []dataplane.Rule{
			{Direction: "egress", EtherType: "IPv4"},
			{Direction: "ingress", EtherType: "IPv4", RemoteGroup: "g-1"},
			{Direction: "ingress", EtherType: "IPv4", RemoteGroup: "g-1; flush ruleset; add"},
		},
	}
	ports := []dataplane.Port{{
		ID: "p1", MAC: "FA:16:3E:00:00:05", Tap: "tap1", AdminUp: true, PortSecurity: true, SecurityGroups: []string{"g-1", "missing"},
		FixedIPs:     []dataplane.FixedIP{{Address: netip.MustParseAddr("10.0.0.5")}},
		AllowedPairs: []dataplane.Pair{{Prefix: netip.MustParsePrefix("10.0.0.0/24")}, {Prefix: netip.MustParsePrefix("10.0.0.9/32"), MAC: "00:00:5e:00:01:01"}},
	}}
	return ports, func(id string) (dataplane.SecurityGroup, bool) { return group, id == "g-1" }
}

func TestCompile(t *testing.T) {
	ports, groups := testPorts()
	r := compile(ports, map[string]uint16{"p1": 3}, groups)
	require.True(t, r.covers("p1"))
	require.False(t, r.covers("p2"))
	require.Equal(t, []string{"10.0.0.5"}, r.sets["g4_g_1"])
	require.Contains(t, r.tables, "ether saddr != { 00:00:5e:00:01:01, fa:16:3e:00:00:05 } drop")
	require.Contains(t, r.tables, "ip saddr != { 10.0.0.0/24 } drop", "what lies within another range is not said twice")
	require.Contains(t, r.tables, "meta mark set 0x00030000")
	require.Contains(t, r.tables, "meta nfproto ipv4 ip saddr @g4_g_1 accept")
	require.NotContains(t, r.tables, "flush ruleset", "an id is never nft's own words")
	require.Equal(t, strings.Count(r.tables, "{"), strings.Count(r.tables, "}"))

	same := compile(ports, map[string]uint16{"p1": 3}, groups)
	require.Equal(t, r.tables, same.tables, "equal input, equal text")
	require.Empty(t, same.update(r))
	same.sets["g4_g_1"] = []string{"10.0.0.5", "10.0.0.6"}
	require.Equal(t, "flush set inet nacre g4_g_1\nadd element inet nacre g4_g_1 { 10.0.0.5, 10.0.0.6 }\n", same.update(r))
	same.sets["g4_g_1"] = nil
	require.Equal(t, "flush set inet nacre g4_g_1\n", same.update(r))
}

func TestCompileHostileNames(t *testing.T) {
	ports, groups := testPorts()
	ports[0].MAC = "x; drop"
	r := compile(ports, map[string]uint16{"p1": 1}, groups)
	require.NotContains(t, r.tables, "x; drop")
	require.Contains(t, r.tables, "00:00:00:00:00:00")
}

func TestCompileRouter(t *testing.T) {
	r := dataplane.Router{ID: "r"}
	require.NotContains(t, compileRouter(r), "nat")
	r.Gateway = &dataplane.Gateway{Endpoint: dataplane.Endpoint{PortID: "0123456789abcdef", Addresses: []netip.Prefix{netip.MustParsePrefix("172.24.4.20/24")}}}
	require.NotContains(t, compileRouter(r), "goto leave\nsnat")
	r.Gateway.SNAT = true
	a, b := netip.MustParseAddr("172.24.4.10"), netip.MustParseAddr("172.24.4.11")
	fixed := netip.MustParseAddr("10.0.0.5")
	r.FloatingIPs = []dataplane.FloatingIP{{External: b, Fixed: fixed}, {External: a, Fixed: fixed}}
	text := compileRouter(r)
	require.Contains(t, text, `oifname "qg-0123456789a" goto leave`)
	require.Contains(t, text, "dnat to ip daddr map { 172.24.4.10 : 10.0.0.5, 172.24.4.11 : 10.0.0.5 }")
	require.Contains(t, text, "snat to ip saddr map { 10.0.0.5 : 172.24.4.10 }", "one way out for an address with two ways in")
}

func TestLinkLocal(t *testing.T) {
	a, ok := linkLocal("fa:16:3e:00:00:05")
	require.True(t, ok)
	require.Equal(t, "fe80::f816:3eff:fe00:5", a.String())
	_, ok = linkLocal("nonsense")
	require.False(t, ok)
}
