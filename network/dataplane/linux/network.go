//go:build linux

package linux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// Names of the links in a network's namespace.
const (
	uplinkName = "up0"
	tunnelName = "vx0"
	legPrefix  = "pr-"
)

// network is a network as it runs here. Its fields are guarded by its lock.
type network struct {
	id   string
	lock lock
	// asked counts the calls for a sync, before the lock is had; done is up to
	// which of them the last one served. One sync serves all who waited for it.
	asked atomic.Uint64
	done  uint64

	space     *space
	stopWatch context.CancelFunc
	rules     ruleset
	marks     map[string]uint16
	dhcp      *dhcpServer
	metadata  *metadataServer
	// trouble is why the last try failed.
	trouble error
	// active is what was last seen of its ports.
	active map[string]bool
}

// runningNetwork gives the running network.
func (d *Driver) runningNetwork(id string) *network {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.networks[id]
	if n == nil {
		n = &network{id: id, lock: newLock(), marks: map[string]uint16{}, active: map[string]bool{}}
		d.networks[id] = n
	}
	return n
}

// lockNetwork gives the running network, locked. The caller unlocks it.
func (d *Driver) lockNetwork(ctx context.Context, id string) (*network, error) {
	n := d.runningNetwork(id)
	if err := n.lock.lock(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		n.lock.unlock()
		return nil, errClosed
	}
	return n, nil
}

// syncNetwork makes a network and the wiring of its ports what the store says.
func (d *Driver) syncNetwork(ctx context.Context, id string) error {
	ticket := d.runningNetwork(id).asked.Add(1)
	n, err := d.lockNetwork(ctx, id)
	if err != nil {
		return err
	}
	defer n.lock.unlock()
	if n.done >= ticket && n.trouble == nil {
		return nil
	}
	serves := n.asked.Load()
	t := target{dataplane.KindNetwork, id}
	want, ok := d.store.Network(id)
	if !ok {
		d.settled(t)
		return nil
	}
	n.trouble = d.wire(ctx, n, want)
	n.done = serves
	d.tell(n)
	if n.trouble != nil {
		d.schedule(t, 0, true)
		return fmt.Errorf("network %s: %w", id, n.trouble)
	}
	d.settled(t)
	return n.trouble
}

// wire takes the steps in an order in which nothing is open before its rules are
// there.
func (d *Driver) wire(ctx context.Context, n *network, want dataplane.Network) error {
	if err := d.openNetwork(n); err != nil {
		return err
	}
	bridge, err := n.ensureBridge(want)
	if err != nil {
		return err
	}
	ports := d.store.PortsOf(n.id)
	if err := d.loadRules(ctx, n, ports); err != nil {
		return err
	}
	switch want.Type {
	case "flat":
		err = d.ensureUplink(ctx, n, want, bridge)
	case "vxlan":
		err = d.ensureTunnel(n, want, bridge)
	}
	if err != nil {
		return err
	}
	for _, p := range ports {
		if err := d.wireTap(n, want, p, bridge); err != nil {
			return err
		}
	}
	return d.serve(n, want, ports)
}

// openNetwork opens or makes the namespace.
func (d *Driver) openNetwork(n *network) error {
	if n.space != nil {
		return nil
	}
	s, _, err := makeSpace(networkPrefix + short(n.id))
	if err != nil {
		return err
	}
	err = s.sysctl(
		"net/ipv4/ip_forward=0",
		"net/ipv4/conf/all/rp_filter=0",
		"net/ipv4/conf/default/rp_filter=0",
		"net/ipv4/conf/all/accept_redirects=0",
		"-net/ipv6/conf/all/forwarding=0",
		"-net/ipv6/conf/all/accept_ra=0",
		"-net/ipv6/conf/default/accept_ra=0",
		"-net/ipv6/conf/default/disable_ipv6=1",
		"net/bridge/bridge-nf-call-iptables=1",
		"net/bridge/bridge-nf-call-ip6tables=1",
		"net/bridge/bridge-nf-call-arptables=0",
		// A flow that was cut must not be picked up from its middle.
		"-net/netfilter/nf_conntrack_tcp_loose=0",
	)
	if err == nil {
		err = s.up("lo")
	}
	if err != nil {
		s.close()
		return err
	}
	// The watch has a handle of its own: it may outlive the network's by a moment.
	watched, err := openSpace(s.name)
	if err != nil {
		s.close()
		return err
	}
	n.space = s
	ctx, cancel := context.WithCancel(d.ctx)
	n.stopWatch = cancel
	d.loops.Go(func() {
		defer watched.close()
		d.watchLinks(ctx, watched, func(name string, _ bool) { d.networkLink(n.id, name) })
	})
	return nil
}

func (s *space) up(name string) error {
	l, err := s.link(name)
	if err == nil && l == nil {
		err = fmt.Errorf("link %s is missing in namespace %s", name, s.name)
	}
	if err != nil {
		return err
	}
	return s.setUp(l, true)
}

// setUp brings a link up or down, if it is not so already.
func (s *space) setUp(l netlink.Link, up bool) error {
	if (l.Attrs().Flags&net.FlagUp != 0) == up {
		return nil
	}
	err := error(nil)
	if up {
		err = s.nl.LinkSetUp(l)
	} else {
		err = s.nl.LinkSetDown(l)
	}
	if err != nil {
		return fmt.Errorf("set link %s up or down in namespace %s: %w", l.Attrs().Name, s.name, err)
	}
	return nil
}

func (s *space) setMTU(l netlink.Link, mtu int) error {
	if mtu == 0 || l.Attrs().MTU == mtu {
		return nil
	}
	if err := s.nl.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", l.Attrs().Name, mtu, err)
	}
	return nil
}

func (n *network) ensureBridge(want dataplane.Network) (netlink.Link, error) {
	s := n.space
	mac := stableMAC(want.ID)
	var addresses []netip.Prefix
	if want.DHCP != nil {
		var err error
		if mac, err = net.ParseMAC(want.DHCP.MAC); err != nil {
			return nil, fmt.Errorf("the DHCP port of network %s: %w", want.ID, err)
		}
		addresses = append(addresses, want.DHCP.Addresses...)
		addresses = append(addresses, netip.PrefixFrom(metadataAddress, 32))
	}
	l, err := s.link(bridgeName)
	if err != nil {
		return nil, err
	}
	if l == nil {
		snoop := false
		b := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snoop}
		b.Name, b.HardwareAddr, b.Alias = bridgeName, mac, alias
		if err := s.nl.LinkAdd(b); err != nil {
			// Without multicast snooping in the kernel there is none to turn off.
			b.MulticastSnooping = nil
			if err = s.nl.LinkAdd(b); err != nil {
				return nil, fmt.Errorf("make bridge in namespace %s: %w", s.name, err)
			}
		}
		if l, err = s.link(bridgeName); err != nil || l == nil {
			return nil, errors.Join(err, errors.New("the bridge went as soon as it was made"))
		}
	}
	if l.Attrs().HardwareAddr.String() != mac.String() {
		if err := s.nl.LinkSetHardwareAddr(l, mac); err != nil {
			return nil, fmt.Errorf("set the MAC of the bridge in %s: %w", s.name, err)
		}
	}
	if err := s.setMTU(l, want.MTU); err != nil {
		return nil, err
	}
	disable6 := "1"
	for _, a := range addresses {
		if a.Addr().Is6() {
			disable6 = "0"
		}
	}
	if err := s.sysctl("-net/ipv6/conf/" + bridgeName + "/disable_ipv6=" + disable6); err != nil {
		return nil, err
	}
	if _, err := s.setAddresses(l, addresses); err != nil {
		return nil, err
	}
	if err := s.setUp(l, want.AdminUp); err != nil {
		return nil, err
	}
	return l, nil
}

// stableMAC is a locally administered address that an id always gets.
func stableMAC(id string) net.HardwareAddr {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	sum := h.Sum64()
	return net.HardwareAddr{0xfa, 0x16, 0x3f, byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

// join puts a link of the namespace on its bridge.
func (s *space) join(l, bridge netlink.Link, mtu int) error {
	if err := s.setMTU(l, mtu); err != nil {
		return err
	}
	if l.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := s.nl.LinkSetMaster(l, bridge); err != nil {
			return fmt.Errorf("put %s on the bridge of %s: %w", l.Attrs().Name, s.name, err)
		}
	}
	return s.setUp(l, true)
}

// ensureTunnel attaches a vxlan device when this host has a tunnel address. It is
// made in the host's namespace, where its packets go, and moved.
func (d *Driver) ensureTunnel(n *network, want dataplane.Network, bridge netlink.Link) error {
	if !d.c.TunnelAddress.IsValid() {
		return n.space.deleteLink(tunnelName)
	}
	l, err := n.space.link(tunnelName)
	if err != nil {
		return err
	}
	if v, ok := l.(*netlink.Vxlan); ok && !v.SrcAddr.Equal(d.c.TunnelAddress.AsSlice()) {
		if err := n.space.deleteLink(tunnelName); err != nil {
			return err
		}
		l = nil
	}
	if l == nil {
		v := &netlink.Vxlan{
			LinkAttrs: netlink.NewLinkAttrs(), VxlanId: want.Segment, Learning: true, Port: 4789,
			SrcAddr: d.c.TunnelAddress.AsSlice(),
		}
		v.Name, v.Alias = "vx-"+short(n.id), alias
		if err := d.root.nl.LinkAdd(v); err != nil {
			return fmt.Errorf("make tunnel %d: %w", want.Segment, err)
		}
		if err := d.root.nl.LinkSetNsFd(v, int(n.space.handle)); err != nil {
			_ = d.root.nl.LinkDel(v)
			return fmt.Errorf("move tunnel %d: %w", want.Segment, err)
		}
		if l, err = n.space.link(v.Name); err != nil || l == nil {
			return errors.Join(err, errors.New("the tunnel device went as it was moved"))
		}
		if err := n.space.nl.LinkSetName(l, tunnelName); err != nil {
			return fmt.Errorf("name tunnel %d: %w", want.Segment, err)
		}
	}
	if err := n.space.flood(l.Attrs().Index, want.Tunnels); err != nil {
		return fmt.Errorf("tunnel %d: %w", want.Segment, err)
	}
	return n.space.join(l, bridge, want.MTU)
}

// flood has a tunnel send what has no known place to all of the other ends, and to
// those alone. What was learned to be behind an end that is none any more is forgotten.
func (s *space) flood(link int, ends []netip.Addr) error {
	all, err := s.nl.NeighList(link, familyBridge)
	if err != nil {
		return err
	}
	there := map[netip.Addr]bool{}
	for _, e := range all {
		end, ok := netip.AddrFromSlice(e.IP)
		if !ok {
			continue // the bridge's own entries name no end
		}
		end = end.Unmap()
		if slices.Contains(ends, end) {
			there[end] = there[end] || bytes.Equal(e.HardwareAddr, everywhere)
			continue
		}
		e.Flags |= netlink.NTF_SELF
		if err := s.nl.NeighDel(&e); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget %s: %w", end, err)
		}
	}
	for _, end := range ends {
		if there[end] {
			continue
		}
		err := s.nl.NeighAppend(&netlink.Neigh{
			LinkIndex: link, Family: familyBridge, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT,
			IP: end.AsSlice(), HardwareAddr: everywhere,
		})
		if err != nil && !isExist(err) {
			return fmt.Errorf("to %s: %w", end, err)
		}
	}
	return nil
}

// everywhere is the address under which a tunnel keeps where it floods to.
var everywhere = make(net.HardwareAddr, 6)

// deleteNetwork takes a network down. What is not ours, the taps, goes back to
// the host's namespace first.
func (d *Driver) deleteNetwork(ctx context.Context, id string) error {
	n, err := d.lockNetwork(ctx, id)
	if err != nil {
		return err
	}
	defer n.lock.unlock()
	if _, ok := d.store.Network(id); ok {
		if n.space == nil {
			s, err := openSpace(networkPrefix + short(id))
			if err == nil {
				n.space = s
			}
		}
		if n.space != nil {
			if err := emptySpace(n.space, d.root); err != nil {
				return err
			}
			n.close()
		}
		if err := deleteSpace(networkPrefix + short(id)); err != nil {
			return err
		}
	}
	if err := d.store.Delete(dataplane.KindNetwork, id); err != nil {
		return err
	}
	d.tell(n)
	return nil
}

// emptySpace removes our links from a namespace at once, rather than whenever
// the kernel gets to it, and gives the others back.
func emptySpace(s, root *space) error {
	links, err := s.nl.LinkList()
	if err != nil {
		return fmt.Errorf("links of %s: %w", s.name, err)
	}
	for _, l := range links {
		name := l.Attrs().Name
		switch {
		case l.Attrs().Flags&net.FlagLoopback != 0 || name == bridgeName:
		case name == uplinkName || name == tunnelName || strings.HasPrefix(name, legPrefix) ||
			strings.HasPrefix(name, interfacePrefix) || strings.HasPrefix(name, gatewayPrefix):
			if err := s.deleteLink(name); err != nil {
				return err
			}
		case l.Attrs().Alias == alias || l.Type() == "tuntap":
			if err := giveBack(s, root, l); err != nil {
				return err
			}
		}
		// The rest is what the kernel puts into every namespace, such as sit0.
	}
	return s.deleteLink(bridgeName)
}

// close stops what runs for a network; the wiring stays.
func (n *network) close() {
	if n.stopWatch != nil {
		n.stopWatch()
		n.stopWatch = nil
	}
	n.stopServing()
	if n.space != nil {
		n.space.close()
		n.space = nil
	}
	n.rules = ruleset{}
}
