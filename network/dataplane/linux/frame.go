//go:build linux

package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// wire sends whole Ethernet frames out of one link.
type wire struct{ fd, index int }

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// openWire opens a socket that sends frames out of a link of the namespace and
// receives none.
func (s *space) openWire(index int) (*wire, error) {
	var w *wire
	err := s.do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		w = &wire{fd, index}
		return nil
	})
	return w, err
}

func (w *wire) send(frame []byte) error {
	to := &unix.SockaddrLinklayer{Ifindex: w.index, Halen: 6, Protocol: htons(binary.BigEndian.Uint16(frame[12:]))}
	copy(to.Addr[:], frame[:6])
	if err := unix.Sendto(w.fd, frame, 0, to); err != nil {
		return fmt.Errorf("send a frame: %w", err)
	}
	return nil
}

func (w *wire) close() { _ = unix.Close(w.fd) }

var broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// udpFrame is an IPv4 datagram in its Ethernet frame.
func udpFrame(fromMAC, toMAC net.HardwareAddr, from, to netip.AddrPort, payload []byte) []byte {
	const ethernet, ipv4, udp = 14, 20, 8
	f := make([]byte, ethernet+ipv4+udp, ethernet+ipv4+udp+len(payload))
	copy(f, toMAC)
	copy(f[6:], fromMAC)
	binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IP)
	ip := f[ethernet:]
	ip[0] = 4<<4 | ipv4/4
	binary.BigEndian.PutUint16(ip[2:], uint16(ipv4+udp+len(payload)))
	ip[8], ip[9] = 64, unix.IPPROTO_UDP
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(0, ip[:ipv4]))
	u := ip[ipv4:]
	binary.BigEndian.PutUint16(u, from.Port())
	binary.BigEndian.PutUint16(u[2:], to.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(udp+len(payload)))
	f = append(f, payload...)
	pseudo := append(append([]byte{}, ip[12:20]...), 0, unix.IPPROTO_UDP, u[4], u[5])
	sum := checksum(sum16(0, pseudo), f[ethernet+ipv4:])
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(f[ethernet+ipv4+6:], sum)
	return f
}

func sum16(sum uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func checksum(sum uint32, b []byte) uint16 {
	sum = sum16(sum, b)
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// announce tells a segment that addresses are at a MAC, so that neighbours
// forget where they were before.
func (s *space) announce(index int, mac net.HardwareAddr, addresses []netip.Addr) error {
	w, err := s.openWire(index)
	if err != nil {
		return err
	}
	defer w.close()
	var failed error
	for _, a := range addresses {
		if !a.Is4() {
			continue
		}
		f := make([]byte, 42)
		copy(f, broadcastMAC)
		copy(f[6:], mac)
		binary.BigEndian.PutUint16(f[12:], unix.ETH_P_ARP)
		arp := f[14:]
		binary.BigEndian.PutUint16(arp, 1)
		binary.BigEndian.PutUint16(arp[2:], unix.ETH_P_IP)
		arp[4], arp[5] = 6, 4
		ip := a.As4()
		copy(arp[8:], mac)
		copy(arp[14:], ip[:])
		copy(arp[24:], ip[:])
		// As request and as reply: some neighbours heed only one of them.
		for _, op := range []uint16{1, 2} {
			binary.BigEndian.PutUint16(arp[6:], op)
			failed = errors.Join(failed, w.send(f))
		}
	}
	return failed
}
