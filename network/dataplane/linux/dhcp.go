//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// dhcpServer answers the guests of one network. It keeps no leases: a port's
// address is its address.
type dhcpServer struct {
	log    *slog.Logger
	mac    net.HardwareAddr
	conn   net.PacketConn
	wire   *wire
	leases atomic.Pointer[map[string]lease]
	done   sync.WaitGroup
}

// startDHCP listens on the bridge of the namespace.
func startDHCP(s *space, index int, mac net.HardwareAddr, log *slog.Logger) (*dhcpServer, error) {
	w, err := s.openWire(index)
	if err != nil {
		return nil, err
	}
	var conn net.PacketConn
	err = s.do(func() error {
		var err error
		lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			var set error
			err := c.Control(func(fd uintptr) {
				set = errors.Join(
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
					unix.BindToDevice(int(fd), bridgeName),
				)
			})
			return errors.Join(err, set)
		}}
		conn, err = lc.ListenPacket(context.Background(), "udp4", "0.0.0.0:67")
		return err
	})
	if err != nil {
		w.close()
		return nil, fmt.Errorf("DHCP server in namespace %s: %w", s.name, err)
	}
	d := &dhcpServer{log: log, mac: mac, conn: conn, wire: w}
	d.done.Go(d.run)
	return d, nil
}

func (d *dhcpServer) close() {
	_ = d.conn.Close()
	d.done.Wait()
	d.wire.close()
}

func (d *dhcpServer) run() {
	buf := make([]byte, 4096)
	for {
		n, _, err := d.conn.ReadFrom(buf)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				d.log.Error("the DHCP server ends", "error", err)
			}
			return
		}
		request, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			continue
		}
		leases := d.leases.Load()
		if leases == nil {
			continue
		}
		l, ok := (*leases)[request.ClientHWAddr.String()]
		if !ok {
			continue
		}
		reply, err := l.answer(request)
		if err != nil || reply == nil {
			continue
		}
		if err := d.send(l, request, reply); err != nil {
			d.log.Warn("cannot send a DHCP reply", "mac", request.ClientHWAddr, "error", err)
		}
	}
}

// send delivers to the client's MAC, which has no address to be asked for yet,
// unless it wants broadcast.
func (d *dhcpServer) send(l lease, request, reply *dhcpv4.DHCPv4) error {
	mac, to := request.ClientHWAddr, netip.AddrPortFrom(l.address.Addr(), 68)
	if request.IsBroadcast() || reply.MessageType() == dhcpv4.MessageTypeNak {
		mac, to = broadcastMAC, netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 68)
	}
	return d.wire.send(udpFrame(d.mac, mac, netip.AddrPortFrom(l.server, 67), to, reply.ToBytes()))
}

// serve has DHCP and metadata answer what the network and its ports say now.
func (d *Driver) serve(n *network, want dataplane.Network, ports []dataplane.Port) error {
	if want.DHCP == nil || !want.AdminUp {
		n.stopServing()
		return nil
	}
	l, err := n.space.link(bridgeName)
	if err != nil || l == nil {
		return err
	}
	mac := l.Attrs().HardwareAddr
	if n.dhcp != nil && (n.dhcp.mac.String() != mac.String() || n.dhcp.wire.index != l.Attrs().Index) {
		n.dhcp.close()
		n.dhcp = nil
	}
	if n.dhcp == nil {
		if n.dhcp, err = startDHCP(n.space, l.Attrs().Index, mac, d.log.With("network", n.id)); err != nil {
			return err
		}
	}
	leases := leasesOf(want, ports, d.c.LeaseTime)
	n.dhcp.leases.Store(&leases)
	if d.c.Metadata == nil {
		return nil
	}
	if n.metadata == nil {
		if n.metadata, err = d.startMetadata(n); err != nil {
			return err
		}
	}
	owners := ownersOf(ports)
	n.metadata.owners.Store(&owners)
	return nil
}

func (n *network) stopServing() {
	if n.dhcp != nil {
		n.dhcp.close()
		n.dhcp = nil
	}
	if n.metadata != nil {
		n.metadata.close()
		n.metadata = nil
	}
}

// leasesOf gives each port the first of its addresses that DHCP serves.
func leasesOf(n dataplane.Network, ports []dataplane.Port, last time.Duration) map[string]lease {
	leases := map[string]lease{}
	for _, p := range ports {
		mac, err := net.ParseMAC(p.MAC)
		if err != nil || !p.AdminUp {
			continue
		}
		for _, ip := range p.FixedIPs {
			s, ok := servedSubnet(n, ip)
			if !ok {
				continue
			}
			server, ok := serverIn(n, s)
			if !ok {
				continue
			}
			leases[mac.String()] = lease{
				address: netip.PrefixFrom(ip.Address, s.CIDR.Bits()), server: server, last: last,
				subnet: s, network: n, port: p,
			}
			break
		}
	}
	return leases
}

func servedSubnet(n dataplane.Network, ip dataplane.FixedIP) (dataplane.Subnet, bool) {
	for _, s := range n.Subnets {
		if s.ID == ip.SubnetID && s.DHCP && s.CIDR.Addr().Is4() && ip.Address.Is4() {
			return s, true
		}
	}
	return dataplane.Subnet{}, false
}

func serverIn(n dataplane.Network, s dataplane.Subnet) (netip.Addr, bool) {
	for _, a := range n.DHCP.Addresses {
		if s.CIDR.Contains(a.Addr()) {
			return a.Addr(), true
		}
	}
	return netip.Addr{}, false
}
