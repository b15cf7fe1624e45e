package linux

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

func testLease() lease {
	subnet := dataplane.Subnet{
		ID: "s", CIDR: netip.MustParsePrefix("10.0.0.0/20"), Gateway: netip.MustParseAddr("10.0.0.1"), DHCP: true,
		DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("8.8.8.8")},
	}
	return lease{
		address: netip.MustParsePrefix("10.0.0.5/20"), server: netip.MustParseAddr("10.0.0.2"), last: time.Hour,
		subnet: subnet, network: dataplane.Network{MTU: 1450, DNSDomain: "example.org."}, port: dataplane.Port{Hostname: "h"},
	}
}

var guestMAC = net.HardwareAddr{0xfa, 0x16, 0x3e, 1, 2, 3}

func request(t *testing.T, kind dhcpv4.MessageType, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(guestMAC), dhcpv4.WithMessageType(kind)}, more...)...)
	require.NoError(t, err)
	return m
}

func TestLeaseAnswers(t *testing.T) {
	l := testLease()
	own, other := net.IPv4(10, 0, 0, 5), net.IPv4(10, 0, 0, 6)
	asks := func(ip net.IP) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip)) }
	from := func(ip net.IP) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip)) }
	for _, test := range []struct {
		name    string
		request *dhcpv4.DHCPv4
		want    dhcpv4.MessageType
	}{
		{"discover", request(t, dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeOffer},
		{"discover with a wish", request(t, dhcpv4.MessageTypeDiscover, asks(other)), dhcpv4.MessageTypeOffer},
		{"select", request(t, dhcpv4.MessageTypeRequest, asks(own), from(net.IPv4(10, 0, 0, 2))), dhcpv4.MessageTypeAck},
		{"another server", request(t, dhcpv4.MessageTypeRequest, asks(other), from(net.IPv4(10, 0, 0, 3))), dhcpv4.MessageTypeNone},
		{"reboot with the right one", request(t, dhcpv4.MessageTypeRequest, asks(own)), dhcpv4.MessageTypeAck},
		{"reboot with a wrong one", request(t, dhcpv4.MessageTypeRequest, asks(other)), dhcpv4.MessageTypeNak},
		{"renew", request(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(own)), dhcpv4.MessageTypeAck},
		{"renew of a wrong one", request(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(other)), dhcpv4.MessageTypeNak},
		{"request for nothing", request(t, dhcpv4.MessageTypeRequest), dhcpv4.MessageTypeNak},
		{"inform", request(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(own)), dhcpv4.MessageTypeAck},
		{"release", request(t, dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(own)), dhcpv4.MessageTypeNone},
		{"decline", request(t, dhcpv4.MessageTypeDecline, asks(own)), dhcpv4.MessageTypeNone},
		{"by a relay", request(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(other)), dhcpv4.MessageTypeNone},
	} {
		t.Run(test.name, func(t *testing.T) {
			reply, err := l.answer(test.request)
			require.NoError(t, err)
			if test.want == dhcpv4.MessageTypeNone {
				require.Nil(t, reply)
				return
			}
			reply, err = dhcpv4.FromBytes(reply.ToBytes())
			require.NoError(t, err)
			require.Equal(t, test.want, reply.MessageType())
			require.Equal(t, "10.0.0.2", reply.ServerIdentifier().String())
			switch {
			case test.want == dhcpv4.MessageTypeNak:
				require.True(t, reply.YourIPAddr.IsUnspecified())
				return
			case test.name == "inform":
				require.True(t, reply.YourIPAddr.IsUnspecified())
				require.Zero(t, reply.IPAddressLeaseTime(0), "an inform gets no lease")
			default:
				require.Equal(t, "10.0.0.5", reply.YourIPAddr.String())
				require.Equal(t, time.Hour, reply.IPAddressLeaseTime(0))
				require.Equal(t, 30*time.Minute, reply.IPAddressRenewalTime(0))
			}
			require.Equal(t, net.CIDRMask(20, 32), reply.SubnetMask())
			require.Equal(t, "10.0.15.255", reply.BroadcastAddress().String())
			require.Equal(t, "h", reply.HostName())
			require.Equal(t, "example.org", reply.DomainName())
			require.Len(t, reply.DNS(), 2)
			require.Equal(t, []byte{5, 170}, reply.Options.Get(dhcpv4.OptionInterfaceMTU))
			routes := map[string]string{}
			for _, r := range reply.ClasslessStaticRoute() {
				routes[r.Dest.String()] = r.Router.String()
			}
			require.Equal(t, map[string]string{"0.0.0.0/0": "10.0.0.1", "169.254.169.254/32": "10.0.0.2"}, routes)
		})
	}
}

func TestLeaseWithoutGateway(t *testing.T) {
	l := testLease()
	l.subnet.Gateway = netip.Addr{}
	o := l.options()
	require.NotContains(t, o, uint8(3))
	require.Equal(t, []byte{32, 169, 254, 169, 254, 10, 0, 0, 2}, o[121])
}

func TestExtraDHCPOptions(t *testing.T) {
	l := testLease()
	l.port.DHCPOptions = map[string]string{
		"tftp-server": "10.0.0.9", "bootfile-name": "pxe.0", "option:ntp-server": "10.0.0.1,10.0.0.2", "mtu": "9000",
		"150": "10.0.0.7", "domain-search": "a.example,b", "42x": "no", "6": "not an address", "domain-name": "",
		"classless-static-route": "192.0.2.0/24,10.0.0.3", "208": "0xff",
	}
	o := l.options()
	require.Equal(t, "10.0.0.9", string(o[66]))
	require.Equal(t, "pxe.0", string(o[67]))
	require.Equal(t, []byte{10, 0, 0, 1, 10, 0, 0, 2}, o[42])
	require.Equal(t, []byte{0x23, 0x28}, o[26])
	require.Equal(t, []byte{10, 0, 0, 7}, o[150])
	require.Equal(t, "\x01a\x07example\x00\x01b\x00", string(o[119]))
	require.Equal(t, []byte{9, 9, 9, 9, 8, 8, 8, 8}, o[6], "what cannot be read changes nothing")
	require.NotContains(t, o, uint8(15), "an empty value leaves the option out")
	require.Equal(t, []byte{24, 192, 0, 2, 10, 0, 0, 3}, o[121])
	require.Equal(t, "0xff", string(o[208]))
}

func FuzzLease(f *testing.F) {
	m, _ := dhcpv4.New(dhcpv4.WithHwAddr(guestMAC), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	f.Add(m.ToBytes())
	l := testLease()
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		reply, err := l.answer(m)
		if err == nil && reply != nil {
			_, err = dhcpv4.FromBytes(reply.ToBytes())
			require.NoError(t, err)
		}
	})
}
