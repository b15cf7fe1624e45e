//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/nacre-cloud/nacre/network/dataplane"
)

// router is a router as it runs here. Its fields are guarded by its lock, which
// is taken before a network's.
type router struct {
	id     string
	lock   lock
	space  *space
	loaded string
	// floating are the external addresses that were mapped.
	floating []dataplane.FloatingIP
	// told is the count of moves at which the neighbours were last told of all
	// addresses.
	told int64
}

func (r *router) close() {
	if r.space != nil {
		r.space.close()
		r.space = nil
	}
	r.loaded = ""
}

func (d *Driver) lockRouter(ctx context.Context, id string) (*router, error) {
	d.mu.Lock()
	r := d.routers[id]
	if r == nil {
		known, _ := d.store.Router(id)
		r = &router{id: id, lock: newLock(), told: known.Moves}
		d.routers[id] = r
	}
	d.mu.Unlock()
	if err := r.lock.lock(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		r.lock.unlock()
		return nil, errClosed
	}
	return r, nil
}

// syncRoutersOn looks again at the routers with a leg on a network.
func (d *Driver) syncRoutersOn(ctx context.Context, networkID string) error {
	var failed error
	for _, r := range d.store.Routers() {
		on := r.Gateway != nil && r.Gateway.NetworkID == networkID
		for _, e := range r.Interfaces {
			on = on || e.NetworkID == networkID
		}
		if on {
			failed = errors.Join(failed, d.syncRouter(ctx, r.ID))
		}
	}
	return failed
}

// syncRouter makes a router what the store says.
func (d *Driver) syncRouter(ctx context.Context, id string) error {
	r, err := d.lockRouter(ctx, id)
	if err != nil {
		return err
	}
	defer r.lock.unlock()
	t := target{dataplane.KindRouter, id}
	want, ok := d.store.Router(id)
	if !ok {
		d.settled(t)
		return nil
	}
	if err := d.wireRouter(ctx, r, want); err != nil {
		d.schedule(t, 0, true)
		return fmt.Errorf("router %s: %w", id, err)
	}
	d.settled(t)
	return nil
}

func (d *Driver) wireRouter(ctx context.Context, r *router, want dataplane.Router) error {
	if err := r.open(); err != nil {
		return err
	}
	if !want.AdminUp {
		want.Interfaces, want.Gateway, want.FloatingIPs, want.Routes = nil, nil, nil, nil
	}
	script := compileRouter(want)
	if script != r.loaded {
		// Translation is there before the first packet.
		if _, err := r.space.run(ctx, script, "nft", "-f", "-"); err != nil {
			r.loaded = ""
			return fmt.Errorf("load rules: %w", err)
		}
		r.loaded = script
	}
	legs := map[string]dataplane.Endpoint{}
	for _, e := range want.Interfaces {
		legs[interfacePrefix+short(e.PortID)] = e
	}
	if g := want.Gateway; g != nil {
		e := g.Endpoint
		e.Addresses = append([]netip.Prefix(nil), e.Addresses...)
		for _, f := range want.FloatingIPs {
			e.Addresses = append(e.Addresses, netip.PrefixFrom(f.External, f.External.BitLen()))
		}
		legs[gatewayPrefix+short(g.PortID)] = e
	}
	links, err := r.space.nl.LinkList()
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	for _, l := range links {
		name := l.Attrs().Name
		if _, ok := legs[name]; !ok && (strings.HasPrefix(name, interfacePrefix) || strings.HasPrefix(name, gatewayPrefix)) {
			if err := r.space.deleteLink(name); err != nil {
				return err
			}
		}
	}
	var reachable []netip.Prefix
	for name, e := range legs {
		there, err := d.ensureLeg(ctx, r, name, e, want.Moves != r.told)
		if err != nil {
			return err
		}
		if there {
			reachable = append(reachable, e.Addresses...)
		}
	}
	r.told = want.Moves
	if err := r.space.setRoutes(routesOf(want, reachable)); err != nil {
		return err
	}
	return r.cutFloating(want.FloatingIPs)
}

func (r *router) open() error {
	if r.space != nil {
		return nil
	}
	s, _, err := makeSpace(routerPrefix + short(r.id))
	if err != nil {
		return err
	}
	err = s.sysctl(
		"net/ipv4/ip_forward=1",
		"net/ipv4/conf/all/rp_filter=0",
		"net/ipv4/conf/default/rp_filter=0",
		"net/ipv4/conf/all/send_redirects=0",
		"net/ipv4/conf/default/send_redirects=0",
		"net/ipv4/conf/all/accept_redirects=0",
		"net/ipv4/conf/all/arp_ignore=1",
		"net/ipv4/conf/all/arp_announce=2",
		"-net/ipv6/conf/all/forwarding=1",
		"-net/ipv6/conf/all/accept_ra=0",
		"-net/ipv6/conf/default/accept_ra=0",
	)
	if err == nil {
		err = s.up("lo")
	}
	if err != nil {
		s.close()
		return err
	}
	r.space = s
	return nil
}

// ensureLeg connects a router to a network; false when that is not there yet. tell has
// the neighbours told of its addresses also where they are not new.
func (d *Driver) ensureLeg(ctx context.Context, r *router, name string, e dataplane.Endpoint, tell bool) (bool, error) {
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return false, fmt.Errorf("port %s: %w", e.PortID, err)
	}
	want, ok := d.store.Network(e.NetworkID)
	if !ok {
		return false, r.space.deleteLink(name)
	}
	n, err := d.lockNetwork(ctx, e.NetworkID)
	if err != nil {
		return false, err
	}
	defer n.lock.unlock()
	if n.space == nil {
		return false, nil
	}
	bridge, err := n.space.link(bridgeName)
	if err != nil || bridge == nil {
		return false, err
	}
	peerName := legPrefix + short(e.PortID)
	l, err := r.space.link(name)
	if err != nil {
		return false, err
	}
	peer, err := n.space.link(peerName)
	if err != nil {
		return false, err
	}
	made := tell
	if l == nil || peer == nil {
		// Half a pair is what an earlier network left.
		if err := errors.Join(r.space.deleteLink(name), n.space.deleteLink(peerName)); err != nil {
			return false, err
		}
		v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: peerName, PeerNamespace: netlink.NsFd(int(n.space.handle))}
		v.Name, v.HardwareAddr, v.MTU = name, mac, want.MTU
		v.Namespace = netlink.NsFd(int(r.space.handle))
		if err := d.root.nl.LinkAdd(v); err != nil {
			return false, fmt.Errorf("make leg %s: %w", name, err)
		}
		made = true
		if l, err = r.space.link(name); err != nil || l == nil {
			return false, errors.Join(err, fmt.Errorf("leg %s went as soon as it was made", name))
		}
		if peer, err = n.space.link(peerName); err != nil || peer == nil {
			return false, errors.Join(err, fmt.Errorf("leg %s went as soon as it was made", peerName))
		}
	}
	if l.Attrs().HardwareAddr.String() != mac.String() {
		if err := r.space.nl.LinkSetHardwareAddr(l, mac); err != nil {
			return false, fmt.Errorf("set the MAC of %s: %w", name, err)
		}
		made = true
	}
	if err := n.space.join(peer, bridge, want.MTU); err != nil {
		return false, err
	}
	if err := r.space.setMTU(l, want.MTU); err != nil {
		return false, err
	}
	if err := r.space.setUp(l, true); err != nil {
		return false, err
	}
	added, err := r.space.setAddresses(l, e.Addresses)
	if err != nil {
		return false, err
	}
	if made {
		added = e.Addresses
	}
	var fresh []netip.Addr
	for _, p := range added {
		fresh = append(fresh, p.Addr())
	}
	if len(fresh) > 0 {
		d.announce(r.space.name, l.Attrs().Index, mac, fresh)
	}
	return true, nil
}

// announce tells the neighbours several times: a port that has just been put on a
// bridge may take a second to forward, and another host as long to know this one's end
// of a tunnel.
func (d *Driver) announce(name string, index int, mac net.HardwareAddr, addresses []netip.Addr) {
	d.loops.Go(func() {
		for _, pause := range []time.Duration{0, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second} {
			select {
			case <-d.ctx.Done():
				return
			case <-time.After(pause):
			}
			s, err := openSpace(name)
			if err != nil {
				return
			}
			err = s.announce(index, mac, addresses)
			s.close()
			if err != nil {
				d.log.Debug("cannot announce addresses", "namespace", name, "error", err)
			}
		}
	})
}

// routesOf are those routes whose next hop can be reached now.
func routesOf(r dataplane.Router, reachable []netip.Prefix) map[netip.Prefix]netip.Addr {
	routes := map[netip.Prefix]netip.Addr{}
	on := func(hop netip.Addr) bool {
		for _, p := range reachable {
			if p.Masked().Contains(hop) {
				return true
			}
		}
		return false
	}
	if r.Gateway != nil {
		for _, hop := range r.Gateway.NextHops {
			all := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			if hop.Is4() {
				all = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			}
			if _, ok := routes[all]; !ok && on(hop) {
				routes[all] = hop
			}
		}
	}
	for _, route := range r.Routes {
		if on(route.NextHop) {
			routes[route.Destination.Masked()] = route.NextHop
		}
	}
	return routes
}

// cutFloating ends the flows of floating IPs that went or lead elsewhere now.
func (r *router) cutFloating(now []dataplane.FloatingIP) error {
	keep := map[dataplane.FloatingIP]bool{}
	for _, f := range now {
		keep[dataplane.FloatingIP{External: f.External, Fixed: f.Fixed}] = true
	}
	var gone throughAny
	for _, f := range r.floating {
		if !keep[dataplane.FloatingIP{External: f.External, Fixed: f.Fixed}] {
			gone = append(gone, f.External)
		}
	}
	if len(gone) > 0 {
		if err := deleteFlows(r.space, gone); err != nil {
			return err
		}
	}
	r.floating = append(r.floating[:0], now...)
	return nil
}

// forgetRouters forgets those that are kept but not in place: the machine was started
// anew, and they may be another host's by now. Network has them sent again if not.
func (d *Driver) forgetRouters() error {
	for _, r := range d.store.Routers() {
		s, err := openSpace(routerPrefix + short(r.ID))
		if err == nil {
			s.close()
			continue
		}
		if err := d.store.Delete(dataplane.KindRouter, r.ID); err != nil {
			return err
		}
	}
	return nil
}

// deleteRouter takes a router down.
func (d *Driver) deleteRouter(ctx context.Context, id string) error {
	r, err := d.lockRouter(ctx, id)
	if err != nil {
		return err
	}
	defer r.lock.unlock()
	if _, ok := d.store.Router(id); ok {
		s, err := openSpace(routerPrefix + short(id))
		if err == nil {
			err = emptySpace(s, d.root)
			s.close()
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		r.close()
		r.floating = nil
		if err := deleteSpace(routerPrefix + short(id)); err != nil {
			return err
		}
	}
	return d.store.Delete(dataplane.KindRouter, id)
}
