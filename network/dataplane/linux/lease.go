package linux

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// lease is what DHCP says to one port.
type lease struct {
	address netip.Prefix
	server  netip.Addr
	last    time.Duration
	subnet  dataplane.Subnet
	network dataplane.Network
	port    dataplane.Port
}

// answer is the reply to a request of the lease's port; nil when none is due.
func (l lease) answer(request *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	if request.OpCode != dhcpv4.OpcodeBootRequest || request.GatewayIPAddr != nil && !request.GatewayIPAddr.IsUnspecified() {
		return nil, nil
	}
	own := net.IP(l.address.Addr().AsSlice())
	kind := dhcpv4.MessageTypeAck
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeInform:
	case dhcpv4.MessageTypeRequest:
		if id := request.ServerIdentifier(); id != nil && !id.IsUnspecified() && !id.Equal(l.server.AsSlice()) {
			// It chose another server's offer.
			return nil, nil
		}
		asked := request.RequestedIPAddress()
		if asked == nil || asked.IsUnspecified() {
			asked = request.ClientIPAddr
		}
		if !asked.Equal(own) {
			return dhcpv4.NewReplyFromRequest(request,
				dhcpv4.WithMessageType(dhcpv4.MessageTypeNak),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(l.server.AsSlice())))
		}
	default:
		return nil, nil
	}
	reply, err := dhcpv4.NewReplyFromRequest(request, dhcpv4.WithMessageType(kind))
	if err != nil {
		return nil, err
	}
	if kind == dhcpv4.MessageTypeAck && request.MessageType() == dhcpv4.MessageTypeInform {
		reply.ClientIPAddr = request.ClientIPAddr
	} else {
		reply.YourIPAddr = own
		seconds := uint32(l.last / time.Second)
		for code, value := range map[uint8]uint32{51: seconds, 58: seconds / 2, 59: seconds / 8 * 7} {
			reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), binary.BigEndian.AppendUint32(nil, value)))
		}
	}
	reply.ServerIPAddr = l.server.AsSlice()
	for code, value := range l.options() {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), value))
	}
	return reply, nil
}

// options are what the subnet, the network and the port's own options say.
func (l lease) options() map[uint8][]byte {
	o := map[uint8][]byte{
		1:  net.CIDRMask(l.address.Bits(), 32),
		28: lastAddress(l.address),
		54: l.server.AsSlice(),
	}
	routes := map[netip.Prefix]netip.Addr{}
	if l.subnet.Gateway.Is4() {
		o[3] = l.subnet.Gateway.AsSlice()
		routes[netip.PrefixFrom(netip.IPv4Unspecified(), 0)] = l.subnet.Gateway
	}
	routes[netip.PrefixFrom(metadataAddress, 32)] = l.server
	for _, r := range l.subnet.HostRoutes {
		if r.Destination.Addr().Is4() && r.NextHop.Is4() {
			routes[r.Destination.Masked()] = r.NextHop
		}
	}
	o[121] = classless(routes)
	if dns := addresses4(l.subnet.DNS); len(dns) > 0 {
		o[6] = dns
	}
	if l.port.Hostname != "" {
		o[12] = []byte(l.port.Hostname)
	}
	if l.network.DNSDomain != "" {
		o[15] = []byte(strings.TrimSuffix(l.network.DNSDomain, "."))
	}
	if l.network.MTU > 0 {
		o[26] = binary.BigEndian.AppendUint16(nil, uint16(min(l.network.MTU, 65535)))
	}
	for name, value := range l.port.DHCPOptions {
		code, ok := optionCode(name)
		if !ok {
			continue
		}
		if value == "" {
			delete(o, code)
			continue
		}
		if data, ok := optionValue(code, value); ok {
			o[code] = data
		}
	}
	return o
}

func lastAddress(p netip.Prefix) []byte {
	b := p.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|uint32(uint64(1)<<(32-p.Bits())-1))
	return b[:]
}

func addresses4(all []netip.Addr) []byte {
	var b []byte
	for _, a := range all {
		if a.Is4() {
			b = append(b, a.AsSlice()...)
		}
	}
	return b
}

// classless writes routes as RFC 3442 has it.
func classless(routes map[netip.Prefix]netip.Addr) []byte {
	var b []byte
	for to, hop := range routes {
		b = append(b, byte(to.Bits()))
		a := to.Addr().As4()
		b = append(b, a[:(to.Bits()+7)/8]...)
		b = append(b, hop.AsSlice()...)
	}
	return b
}

// optionNames are the names of extra_dhcp_opts as Neutron's users write them,
// which are dnsmasq's ("dnsmasq --help dhcp").
var optionNames = map[string]uint8{
	"netmask": 1, "time-offset": 2, "router": 3, "dns-server": 6, "log-server": 7, "lpr-server": 9, "hostname": 12,
	"boot-file-size": 13, "domain-name": 15, "swap-server": 16, "root-path": 17, "extension-path": 18,
	"ip-forward-enable": 19, "mtu": 26, "interface-mtu": 26, "broadcast": 28, "static-route": 33, "nis-domain": 40, "nis-server": 41,
	"ntp-server": 42, "vendor-encap": 43, "netbios-ns": 44, "netbios-nodetype": 46, "lease-time": 51,
	"server-identifier": 54, "T1": 58, "T2": 59, "vendor-class": 60, "tftp-server": 66, "server-name": 66, "bootfile-name": 67,
	"domain-search": 119, "classless-static-route": 121, "server-ip-address": 150, "tftp-server-address": 150, "path-prefix": 210,
}

func optionCode(name string) (uint8, bool) {
	name = strings.TrimPrefix(strings.TrimSpace(name), "option:")
	if code, ok := optionNames[name]; ok {
		return code, true
	}
	n, err := strconv.ParseUint(name, 10, 8)
	return uint8(n), err == nil && n > 0 && n < 255
}

// optionValue encodes by the option's type: numbers, addresses, routes, names, or
// text.
func optionValue(code uint8, value string) ([]byte, bool) {
	parts := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	switch code {
	case 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 28, 33, 41, 42, 44, 45, 48, 49, 54, 65, 69, 70, 150:
		var b []byte
		for _, p := range parts {
			a, err := netip.ParseAddr(p)
			if err != nil || !a.Is4() {
				return nil, false
			}
			b = append(b, a.AsSlice()...)
		}
		return b, len(b) > 0
	case 13, 22, 26:
		n, err := strconv.ParseUint(value, 0, 16)
		return binary.BigEndian.AppendUint16(nil, uint16(n)), err == nil
	case 2, 24, 35, 38, 51, 58, 59:
		n, err := strconv.ParseUint(value, 0, 32)
		return binary.BigEndian.AppendUint32(nil, uint32(n)), err == nil
	case 19, 20, 23, 27, 29, 30, 31, 34, 36, 37, 39, 46:
		n, err := strconv.ParseUint(value, 0, 8)
		return []byte{byte(n)}, err == nil
	case 119:
		var b []byte
		for _, name := range parts {
			for _, label := range strings.Split(strings.TrimSuffix(name, "."), ".") {
				if label == "" || len(label) > 63 {
					return nil, false
				}
				b = append(append(b, byte(len(label))), label...)
			}
			b = append(b, 0)
		}
		return b, len(b) > 0
	case 121, 249:
		routes := map[netip.Prefix]netip.Addr{}
		for i := 0; i+1 < len(parts); i += 2 {
			to, err := netip.ParsePrefix(parts[i])
			if err != nil {
				a, err := netip.ParseAddr(parts[i])
				if err != nil {
					return nil, false
				}
				to = netip.PrefixFrom(a, a.BitLen())
			}
			hop, err := netip.ParseAddr(parts[i+1])
			if err != nil || !hop.Is4() || !to.Addr().Is4() {
				return nil, false
			}
			routes[to.Masked()] = hop
		}
		return classless(routes), len(routes) > 0
	}
	return []byte(value), true
}
