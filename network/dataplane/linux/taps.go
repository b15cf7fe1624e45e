//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/dataplane"
)

const (
	familyBridge = unix.AF_BRIDGE
	// settle is how long a tap must be left alone before it is moved. libvirt
	// makes a tap, sets its MAC, brings it up and sets its MTU, by name; on a busy host
	// that takes a while.
	settle = 200 * time.Millisecond
)

func isExist(err error) bool { return errors.Is(err, unix.EEXIST) }

// wireTap puts a port's tap on the bridge, fetching it from the host's namespace
// when it is ready there.
func (d *Driver) wireTap(n *network, want dataplane.Network, p dataplane.Port, bridge netlink.Link) error {
	fresh, err := d.root.link(p.Tap)
	if err != nil {
		return err
	}
	here, err := n.space.link(p.Tap)
	if err != nil {
		return err
	}
	if fresh != nil {
		if wait := d.unready(fresh); wait > 0 {
			d.schedule(target{dataplane.KindNetwork, n.id}, wait, false)
			fresh = nil
		}
	}
	if fresh == nil && here == nil {
		return nil
	}
	if fresh != nil {
		if here != nil {
			// A guest was started anew while its old device lingers.
			_ = n.space.nl.LinkSetNoMaster(here)
			_ = n.space.setUp(here, false)
			if err := n.space.nl.LinkSetName(here, fmt.Sprintf("old%d", here.Attrs().Index)); err != nil {
				return fmt.Errorf("set the old %s aside: %w", p.Tap, err)
			}
		}
		if err := d.root.nl.LinkSetAlias(fresh, alias); err != nil {
			return fmt.Errorf("mark %s: %w", p.Tap, err)
		}
		if err := d.root.nl.LinkSetNsFd(fresh, int(n.space.handle)); err != nil {
			return fmt.Errorf("move %s to %s: %w", p.Tap, n.space.name, err)
		}
		if here, err = n.space.link(p.Tap); err != nil {
			return err
		}
		if here == nil {
			return nil
		}
	}
	err = n.space.join(here, bridge, want.MTU)
	if errors.Is(err, unix.ENODEV) {
		// It went meanwhile; the watch tells.
		return nil
	}
	return err
}

// unready is how long to wait before a tap in the host's namespace may be taken.
func (d *Driver) unready(l netlink.Link) time.Duration {
	if l.Attrs().Alias == alias {
		return 0
	}
	if l.Attrs().Flags&net.FlagUp == 0 {
		return time.Second
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	seen, ok := d.seen[l.Attrs().Name]
	if !ok {
		d.seen[l.Attrs().Name] = now
		return settle
	}
	return seen.Add(settle).Sub(now)
}

// releaseTap takes a port's tap off its network.
func (d *Driver) releaseTap(ctx context.Context, p dataplane.Port) error {
	n, err := d.lockNetwork(ctx, p.NetworkID)
	if err != nil {
		return err
	}
	defer n.lock.unlock()
	d.mu.Lock()
	delete(d.seen, p.Tap)
	d.mu.Unlock()
	if n.space == nil {
		return nil
	}
	l, err := n.space.link(p.Tap)
	if err != nil || l == nil {
		return err
	}
	return giveBack(n.space, d.root, l)
}

// giveBack returns a device that is not ours to the host's namespace, down.
func giveBack(s, root *space, l netlink.Link) error {
	if err := s.nl.LinkSetNoMaster(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("take %s off its bridge: %w", l.Attrs().Name, err)
	}
	if err := s.setUp(l, false); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	err := s.nl.LinkSetNsFd(l, int(root.handle))
	if isExist(err) {
		// Its successor is there already: this one is only waiting to go.
		return nil
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("give %s back: %w", l.Attrs().Name, err)
	}
	return nil
}

// hostLink hears of links in the host's namespace.
func (d *Driver) hostLink(name string, gone bool) {
	p, ok := d.store.PortByTap(name)
	if !ok {
		return
	}
	d.mu.Lock()
	if gone {
		delete(d.seen, name)
	} else {
		d.seen[name] = time.Now()
	}
	d.mu.Unlock()
	if !gone {
		d.schedule(target{dataplane.KindNetwork, p.NetworkID}, settle, false)
	}
}

// networkLink hears of links in a network's namespace.
func (d *Driver) networkLink(networkID, name string) {
	if p, ok := d.store.PortByTap(name); ok && p.NetworkID == networkID {
		d.schedule(target{dataplane.KindNetwork, networkID}, 0, false)
	}
}

// watchLinks calls changed for each link of a namespace that changes or goes,
// until ctx ends. When it missed something all links count as changed.
func (d *Driver) watchLinks(ctx context.Context, s *space, changed func(name string, gone bool)) {
	for ctx.Err() == nil {
		updates := make(chan netlink.LinkUpdate, 64)
		done := make(chan struct{})
		err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
			Namespace: &s.handle, ReceiveBufferSize: 1 << 20,
			ErrorCallback: func(err error) {
				if ctx.Err() == nil {
					d.log.Warn("cannot follow links; all are looked at again", "namespace", s.name, "error", err)
				}
			},
		})
		if err == nil {
			if links, err := s.nl.LinkList(); err == nil {
				for _, l := range links {
					changed(l.Attrs().Name, false)
				}
			}
			d.follow(ctx, updates, changed)
		} else if ctx.Err() == nil {
			d.log.Warn("cannot watch links", "namespace", s.name, "error", err)
		}
		close(done)
		if err == nil {
			for range updates {
				// The subscription ends when it has nothing more to say.
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (d *Driver) follow(ctx context.Context, updates <-chan netlink.LinkUpdate, changed func(name string, gone bool)) {
	for {
		select {
		case <-ctx.Done():
			return
		case u, ok := <-updates:
			if !ok {
				return
			}
			changed(u.Attrs().Name, u.Header.Type == unix.RTM_DELLINK)
		}
	}
}

// Status says whether a port's tap is on its bridge, with its rules loaded.
func (d *Driver) Status(ctx context.Context, portID string) (dataplane.PortStatus, error) {
	if err := d.enter(ctx); err != nil {
		return dataplane.PortStatus{}, err
	}
	p, ok := d.store.Port(portID)
	if !ok {
		return dataplane.PortStatus{Reason: "this host has no such port"}, nil
	}
	n, err := d.lockNetwork(ctx, p.NetworkID)
	if err != nil {
		return dataplane.PortStatus{}, err
	}
	defer n.lock.unlock()
	return d.status(n, p), nil
}

func (d *Driver) status(n *network, p dataplane.Port) dataplane.PortStatus {
	want, ok := d.store.Network(p.NetworkID)
	switch {
	case !ok:
		return dataplane.PortStatus{Reason: "waiting for network " + p.NetworkID}
	case !p.AdminUp:
		return dataplane.PortStatus{Reason: "the port is administratively down"}
	case !want.AdminUp:
		return dataplane.PortStatus{Reason: "the network is administratively down"}
	case n.trouble != nil:
		var known *nacre.Error
		if errors.As(n.trouble, &known) {
			return dataplane.PortStatus{Reason: known.Message}
		}
		return dataplane.PortStatus{Reason: "the network cannot be wired on this host; it is tried again"}
	case n.space == nil:
		return dataplane.PortStatus{Reason: "the network is being made"}
	}
	l, err := n.space.link(p.Tap)
	switch {
	case err != nil:
		d.log.Warn("cannot look at a tap", "port", p.ID, "error", err)
		return dataplane.PortStatus{Reason: "the state of device " + p.Tap + " cannot be told"}
	case l == nil:
		return dataplane.PortStatus{Reason: "waiting for device " + p.Tap}
	case l.Attrs().MasterIndex == 0 || l.Attrs().Flags&net.FlagUp == 0:
		return dataplane.PortStatus{Reason: "device " + p.Tap + " is being wired"}
	case !n.rules.covers(p.ID):
		return dataplane.PortStatus{Reason: "the rules of the port are being loaded"}
	}
	return dataplane.PortStatus{Active: true}
}

// tell tells watchers of ports that became active or ceased to be.
func (d *Driver) tell(n *network) {
	now := map[string]bool{}
	for _, p := range d.store.PortsOf(n.id) {
		active := d.status(n, p).Active
		now[p.ID] = active
		if active != n.active[p.ID] {
			d.hub.Notify(p.ID)
		}
	}
	n.active = now
}
