package rules_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/internal/rules"
)

func TestProtocol(t *testing.T) {
	for _, test := range []struct {
		name, family string
		number       uint8
		any, ok      bool
	}{
		{"TCP", "IPv4", 6, false, true}, {"17", "IPv6", 17, false, true}, {"", "IPv4", 0, true, true}, {"0", "IPv4", 0, true, true},
		{"icmp", "IPv6", 58, false, true}, {"1", "IPv6", 58, false, true}, {"icmpv6", "IPv6", 58, false, true},
		{"256", "IPv4", 0, false, false}, {"cheese", "IPv4", 0, false, false},
	} {
		number, any, ok := rules.Protocol(test.name, test.family)
		require.Equal(t, test.number, number, test.name)
		require.Equal(t, test.any, any, test.name)
		require.Equal(t, test.ok, ok, test.name)
	}
}

func TestMatches(t *testing.T) {
	n := func(i int) *int { return &i }
	a, b := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.0.6")
	groups := func(id string) (dataplane.SecurityGroup, bool) {
		return dataplane.SecurityGroup{ID: id, Members: []netip.Addr{a}}, id == "g"
	}
	ssh := rules.Flow{Src: a, Dst: b, Protocol: rules.TCP, Port: 22}
	echo := rules.Flow{Src: a, Dst: b, Protocol: rules.ICMP, Port: 8}
	for name, test := range map[string]struct {
		rule dataplane.Rule
		flow rules.Flow
		want bool
	}{
		"any":            {dataplane.Rule{EtherType: "IPv4"}, ssh, true},
		"other family":   {dataplane.Rule{EtherType: "IPv6"}, ssh, false},
		"port":           {dataplane.Rule{EtherType: "IPv4", Protocol: "tcp", PortMin: n(22), PortMax: n(22)}, ssh, true},
		"below":          {dataplane.Rule{EtherType: "IPv4", Protocol: "tcp", PortMin: n(23), PortMax: n(99)}, ssh, false},
		"above":          {dataplane.Rule{EtherType: "IPv4", Protocol: "tcp", PortMin: n(1), PortMax: n(21)}, ssh, false},
		"other protocol": {dataplane.Rule{EtherType: "IPv4", Protocol: "udp"}, ssh, false},
		"icmp type":      {dataplane.Rule{EtherType: "IPv4", Protocol: "icmp", PortMin: n(8)}, echo, true},
		"icmp code":      {dataplane.Rule{EtherType: "IPv4", Protocol: "icmp", PortMin: n(8), PortMax: n(1)}, echo, false},
		"source":         {dataplane.Rule{Direction: "ingress", EtherType: "IPv4", RemotePrefix: netip.PrefixFrom(a, 32)}, ssh, true},
		"destination":    {dataplane.Rule{Direction: "egress", EtherType: "IPv4", RemotePrefix: netip.PrefixFrom(a, 32)}, ssh, false},
		"member":         {dataplane.Rule{Direction: "ingress", EtherType: "IPv4", RemoteGroup: "g"}, ssh, true},
		"no member":      {dataplane.Rule{Direction: "egress", EtherType: "IPv4", RemoteGroup: "g"}, ssh, false},
		"no such group":  {dataplane.Rule{Direction: "ingress", EtherType: "IPv4", RemoteGroup: "h"}, ssh, false},
	} {
		require.Equal(t, test.want, rules.Matches(test.rule, test.flow, groups), name)
	}
}
