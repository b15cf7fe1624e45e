//go:build linux

package linux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/internal/rules"
)

// connection is an entry of connection tracking, as another host is told of it.
type connection struct {
	Network  string         `json:"network"`
	Protocol uint8          `json:"protocol"`
	From     netip.AddrPort `json:"from"`
	To       netip.AddrPort `json:"to"`
	// State is TCP's, in the kernel's numbers; Seconds are what is left of its time.
	State   uint8  `json:"state,omitempty"`
	Seconds uint32 `json:"seconds"`
}

const (
	// maxFlows bounds what one server takes along.
	maxFlows = 65536
	// The states of TCP in which data or its end are still due
	// (enum tcp_conntrack): ESTABLISHED to LAST_ACK.
	tcpEstablished, tcpLastAck = 3, 6
	// tracked is what an entry of a flow that was answered has for a status:
	// IPS_SEEN_REPLY, IPS_ASSURED and IPS_CONFIRMED.
	tracked = 1<<1 | 1<<2 | 1<<3
	// liberal are TCP's flags of either side, and which of them are set:
	// IP_CT_TCP_FLAG_SACK_PERM and IP_CT_TCP_FLAG_BE_LIBERAL. Which windows the two
	// have agreed on is not known here.
	liberal = 0x02 | 0x08
)

// portsOf are a server's ports on this host, by network.
func (d *Driver) portsOf(server string) map[string][]dataplane.Port {
	out := map[string][]dataplane.Port{}
	for _, p := range d.store.Ports() {
		if server != "" && p.DeviceID == server {
			out[p.NetworkID] = append(out[p.NetworkID], p)
		}
	}
	return out
}

// Flows are the TCP and UDP flows that a server has through this host, for AddFlows of
// the driver on the host that it moves to.
func (d *Driver) Flows(ctx context.Context, server string) ([]byte, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	out := []connection{}
	for id, ports := range d.portsOf(server) {
		n, err := d.lockNetwork(ctx, id)
		if err != nil {
			return nil, err
		}
		if n.space != nil {
			out, err = n.connections(out, ports)
		}
		n.lock.unlock()
		if err != nil {
			return nil, fmt.Errorf("flows of network %s: %w", id, err)
		}
	}
	return json.Marshal(out[:min(len(out), maxFlows)])
}

// connections adds those of a network that have a port's address at an end.
func (n *network) connections(out []connection, ports []dataplane.Port) ([]connection, error) {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		all, err := n.space.nl.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
		for _, f := range all {
			c := connection{Network: n.id, Protocol: f.Forward.Protocol, From: end(f.Forward.SrcIP, f.Forward.SrcPort), To: end(f.Forward.DstIP, f.Forward.DstPort), Seconds: f.TimeOut}
			if tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); ok {
				c.State = tcp.State
			}
			back := end(f.Reverse.SrcIP, f.Reverse.SrcPort) == c.To && end(f.Reverse.DstIP, f.Reverse.DstPort) == c.From
			if back && c.travels() && slices.ContainsFunc(ports, func(p dataplane.Port) bool { return rules.Owns(p, c.From.Addr()) || rules.Owns(p, c.To.Addr()) }) {
				out = append(out, c)
			}
		}
	}
	return out, nil
}

func end(ip []byte, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}

// travels says that a connection is one that can go on elsewhere.
func (c *connection) travels() bool {
	switch c.Protocol {
	case rules.TCP:
		return c.State >= tcpEstablished && c.State <= tcpLastAck
	case rules.UDP:
		return !slices.Contains([]uint16{67, 68, 546, 547}, c.To.Port())
	}
	return false
}

// AddFlows has the flows that a server had on another host go on here, where its rules
// allow them: to connection tracking they look as if they had begun here. Flows that have
// no address of the server's are left out.
func (d *Driver) AddFlows(ctx context.Context, server string, text []byte) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	var all []connection
	if err := json.Unmarshal(text, &all); err != nil || len(all) > maxFlows {
		return nacre.Errorf(nacre.Invalid, "flows", "The server's flows can't be read.")
	}
	var failed error
	for id, ports := range d.portsOf(server) {
		f := flows{ports: ports, byAddr: map[netip.Addr]dataplane.Port{}, groups: d.store.SecurityGroup}
		for _, p := range ports {
			for _, ip := range p.FixedIPs {
				f.byAddr[ip.Address] = p
			}
		}
		mine := slices.DeleteFunc(slices.Clone(all), func(c connection) bool { return c.Network != id || !c.travels() || !f.allow(c) })
		failed = errors.Join(failed, d.track(ctx, id, mine))
	}
	return failed
}

// allow says whether a flow is a port's that may have it.
func (f flows) allow(c connection) bool {
	if !slices.ContainsFunc(f.ports, func(p dataplane.Port) bool { return rules.Owns(p, c.From.Addr()) || rules.Owns(p, c.To.Addr()) }) {
		return false
	}
	flow := rules.Flow{Src: c.From.Addr(), Dst: c.To.Addr(), Protocol: c.Protocol, Port: int(c.To.Port())}
	return !f.forbidden(flow.Src, rules.Egress, flow) && !f.forbidden(flow.Dst, rules.Ingress, flow)
}

// track adds entries to the connection tracking of a network. What is there stays.
func (d *Driver) track(ctx context.Context, id string, all []connection) error {
	n, err := d.lockNetwork(ctx, id)
	if err != nil {
		return err
	}
	defer n.lock.unlock()
	if n.space == nil || len(all) == 0 {
		return nil
	}
	return n.space.do(func() error {
		var failed error
		for _, c := range all {
			if _, err := c.request().Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, unix.EEXIST) {
				failed = fmt.Errorf("track %s to %s: %w", c.From, c.To, err)
			}
		}
		return failed
	})
}

// request asks the kernel for the entry. netlink's own says nothing of the status and of
// TCP's flags, without which the kernel would take the next packet for a flow's first, or
// for one outside its window.
func (c *connection) request() *nl.NetlinkRequest {
	family := uint8(unix.AF_INET)
	if c.From.Addr().Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(int(netlink.ConntrackTable)<<8|nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	req.AddData(c.tuple(nl.CTA_TUPLE_ORIG, c.From, c.To))
	req.AddData(c.tuple(nl.CTA_TUPLE_REPLY, c.To, c.From))
	req.AddData(nl.NewRtAttr(nl.CTA_STATUS, nl.BEUint32Attr(tracked)))
	req.AddData(nl.NewRtAttr(nl.CTA_TIMEOUT, nl.BEUint32Attr(max(c.Seconds, 1))))
	if c.Protocol == rules.TCP {
		info := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_PROTOINFO, nil)
		tcp := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_PROTOINFO_TCP, nil)
		tcp.AddRtAttr(nl.CTA_PROTOINFO_TCP_STATE, nl.Uint8Attr(c.State))
		tcp.AddRtAttr(nl.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, []byte{liberal, liberal})
		tcp.AddRtAttr(nl.CTA_PROTOINFO_TCP_FLAGS_REPLY, []byte{liberal, liberal})
		info.AddChild(tcp)
		req.AddData(info)
	}
	return req
}

func (c *connection) tuple(kind int, from, to netip.AddrPort) *nl.RtAttr {
	src, dst := nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if from.Addr().Is6() {
		src, dst = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|kind, nil)
	ip := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	ip.AddRtAttr(src, from.Addr().AsSlice())
	ip.AddRtAttr(dst, to.Addr().AsSlice())
	tuple.AddChild(ip)
	proto := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, nl.Uint8Attr(c.Protocol))
	proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, nl.BEUint16Attr(from.Port()))
	proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(to.Port()))
	tuple.AddChild(proto)
	return tuple
}
