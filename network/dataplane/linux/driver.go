//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/internal/objects"
)

// Driver is the Linux data plane. Use [New].
type Driver struct {
	c     Config
	log   *slog.Logger
	store *objects.Store
	hub   *objects.Hub
	root  *space
	// host guards what is set up in the host's namespace.
	host lock

	ctx    context.Context
	cancel context.CancelFunc
	loops  sync.WaitGroup
	wake   chan struct{}

	mu       sync.Mutex
	closed   bool
	networks map[string]*network
	routers  map[string]*router
	// due is what the background is to look at again, and when.
	due map[target]retry
	// seen is when a tap in the host's namespace last changed.
	seen map[string]time.Time
}

var _ dataplane.Driver = (*Driver)(nil)

// lock is a mutex that can be waited for under a context.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) unlock() { <-l }

type target struct {
	kind dataplane.Kind
	id   string
}

type retry struct {
	at       time.Time
	failures int
}

var errClosed = errors.New("the linux data plane is closed")

// New opens the data plane and adopts what an earlier one left: what is wired
// stays wired. A router whose namespace went (the machine was started anew) is not
// made again until it is applied. What cannot be made whole at once is tried again in the background.
func New(ctx context.Context, c Config) (*Driver, error) {
	if c.StateDir == "" {
		return nil, errors.New("linux data plane: no StateDir")
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("linux data plane: needs root")
	}
	if _, err := tool("nft"); err != nil {
		return nil, fmt.Errorf("linux data plane: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.LeaseTime <= 0 {
		c.LeaseTime = 24 * time.Hour
	}
	if err := checkPhysical(c.Physical); err != nil {
		return nil, err
	}
	if c.Metadata != nil {
		if _, err := newProxy(c, c.Log, nil); err != nil {
			return nil, fmt.Errorf("linux data plane: %w", err)
		}
	}
	root, err := thisSpace()
	if err != nil {
		return nil, err
	}
	if err := ensureBridgeFilter(ctx, root); err != nil {
		root.close()
		return nil, err
	}
	store, err := objects.Open(filepath.Join(c.StateDir, stateFolder))
	if err != nil {
		root.close()
		return nil, err
	}
	d := &Driver{
		c: c, log: c.Log, store: store, hub: objects.NewHub(), root: root, host: newLock(),
		wake:     make(chan struct{}, 1),
		networks: map[string]*network{},
		routers:  map[string]*router{},
		due:      map[target]retry{},
		seen:     map[string]time.Time{},
	}
	d.ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.loops.Go(func() { d.watchLinks(d.ctx, root, d.hostLink) })
	for _, n := range store.Networks() {
		if err := d.syncNetwork(ctx, n.ID); err != nil {
			d.log.Error("cannot adopt a network; it is tried again", "network", n.ID, "error", err)
		}
	}
	if err := d.forgetRouters(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	for _, r := range store.Routers() {
		if err := d.syncRouter(ctx, r.ID); err != nil {
			d.log.Error("cannot adopt a router; it is tried again", "router", r.ID, "error", err)
		}
	}
	d.loops.Go(d.background)
	return d, nil
}

// stateFolder is the part of StateDir that is the driver's.
const stateFolder = "dataplane"

// Close stops DHCP, metadata and watching. Guests and their wiring stay.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	networks := make([]*network, 0, len(d.networks))
	for _, n := range d.networks {
		networks = append(networks, n)
	}
	routers := make([]*router, 0, len(d.routers))
	for _, r := range d.routers {
		routers = append(routers, r)
	}
	d.mu.Unlock()
	d.cancel()
	d.hub.Close()
	for _, n := range networks {
		n.lock <- struct{}{}
		n.close()
		n.lock.unlock()
	}
	for _, r := range routers {
		r.lock <- struct{}{}
		r.close()
		r.lock.unlock()
	}
	d.loops.Wait()
	d.root.close()
	return nil
}

func (d *Driver) enter(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	return ctx.Err()
}

// Host serves local and vxlan networks, and flat ones on the physical networks.
func (d *Driver) Host(ctx context.Context) (dataplane.Host, error) {
	if err := d.enter(ctx); err != nil {
		return dataplane.Host{}, err
	}
	h := dataplane.Host{Driver: "linux", Types: []string{"local", "vxlan"}, Tunnel: d.c.TunnelAddress}
	for name := range d.c.Physical {
		h.Physical = append(h.Physical, name)
	}
	if len(h.Physical) > 0 {
		h.Types = append(h.Types, "flat")
		slices.Sort(h.Physical)
	}
	return h, nil
}

// List is every object that was applied and not deleted.
func (d *Driver) List(ctx context.Context) ([]dataplane.Ref, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	return d.store.List(), nil
}

// ApplyNetwork makes the namespace, bridge, DHCP and metadata of a network, and
// wires the ports and routers that waited for it.
func (d *Driver) ApplyNetwork(ctx context.Context, n dataplane.Network) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	switch n.Type {
	case "local", "vxlan":
	case "flat":
		if _, ok := d.c.Physical[n.Physical]; !ok {
			return dataplane.Fault("this host has no physical network %q", n.Physical)
		}
	default:
		return dataplane.Fault("no data plane on this host serves networks of type %q", n.Type)
	}
	if changed, err := d.store.PutNetwork(n); err != nil || !changed {
		return err
	}
	if err := d.syncNetwork(ctx, n.ID); err != nil {
		return err
	}
	return d.syncRoutersOn(ctx, n.ID)
}

// ApplyPort wires a port as soon as its network and its tap are there.
func (d *Driver) ApplyPort(ctx context.Context, p dataplane.Port) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	if err := checkPort(p); err != nil {
		return err
	}
	before, was := d.store.Port(p.ID)
	if changed, err := d.store.PutPort(p); err != nil || !changed {
		return err
	}
	if !was {
		d.hub.Notify(p.ID)
	}
	if was && (before.NetworkID != p.NetworkID || before.Tap != p.Tap) {
		if err := d.releaseTap(ctx, before); err != nil {
			return err
		}
	}
	return d.syncNetwork(ctx, p.NetworkID)
}

// checkPort refuses what cannot be a device or a MAC.
func checkPort(p dataplane.Port) error {
	ok := p.Tap != "" && len(p.Tap) < 16 && p.Tap != "." && p.Tap != ".."
	for _, c := range p.Tap {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c == '.')
	}
	if !ok {
		return nacre.Errorf(nacre.Invalid, "tap", "%q is no name of a device", p.Tap)
	}
	macs := []string{p.MAC}
	for _, pair := range p.AllowedPairs {
		if pair.MAC != "" {
			macs = append(macs, pair.MAC)
		}
	}
	for _, mac := range macs {
		if m, err := net.ParseMAC(mac); err != nil || len(m) != 6 {
			return nacre.Errorf(nacre.Invalid, "mac", "%q is no MAC address", mac)
		}
	}
	return nil
}

// ApplyRouter makes the namespace of a router and its legs on those networks
// that are there.
func (d *Driver) ApplyRouter(ctx context.Context, r dataplane.Router) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	if changed, err := d.store.PutRouter(r); err != nil || !changed {
		return err
	}
	return d.syncRouter(ctx, r.ID)
}

// ApplySecurityGroup changes the rules of the ports that the group concerns.
func (d *Driver) ApplySecurityGroup(ctx context.Context, g dataplane.SecurityGroup) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	if changed, err := d.store.PutSecurityGroup(g); err != nil || !changed {
		return err
	}
	return d.syncGroup(ctx, g.ID)
}

// syncGroup renews the rules of every network with a port that has the group, or
// a group that names it as remote.
func (d *Driver) syncGroup(ctx context.Context, id string) error {
	concerned := map[string]bool{}
	known := map[string]bool{id: true}
	for _, p := range d.store.Ports() {
		if concerned[p.NetworkID] {
			continue
		}
		for _, gid := range p.SecurityGroups {
			hit, ok := known[gid]
			if !ok {
				g, _ := d.store.SecurityGroup(gid)
				hit = slices.ContainsFunc(g.Rules, func(r dataplane.Rule) bool { return r.RemoteGroup == id })
				known[gid] = hit
			}
			if hit {
				concerned[p.NetworkID] = true
				break
			}
		}
	}
	var failed error
	for networkID := range concerned {
		failed = errors.Join(failed, d.syncRules(ctx, networkID))
	}
	return failed
}

// Delete unwires an object and forgets it. A port's tap goes back to the host's
// namespace.
func (d *Driver) Delete(ctx context.Context, kind dataplane.Kind, id string) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	switch kind {
	case dataplane.KindNetwork:
		return d.deleteNetwork(ctx, id)
	case dataplane.KindRouter:
		return d.deleteRouter(ctx, id)
	case dataplane.KindPort:
		p, ok := d.store.Port(id)
		if ok {
			if err := d.releaseTap(ctx, p); err != nil {
				return err
			}
		}
		if err := d.store.Delete(kind, id); err != nil || !ok {
			return err
		}
		d.hub.Notify(id)
		return d.syncNetwork(ctx, p.NetworkID)
	default:
		_, ok := d.store.SecurityGroup(id)
		if err := d.store.Delete(kind, id); err != nil || !ok {
			return err
		}
		return d.syncGroup(ctx, id)
	}
}

// Watch sends the ids of ports whose status may have changed.
func (d *Driver) Watch(ctx context.Context) (<-chan string, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	return d.hub.Watch(ctx), nil
}

// schedule has the background look at a network or router again.
func (d *Driver) schedule(t target, in time.Duration, failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.due[t]
	at := time.Now().Add(in)
	if failed {
		r.failures++
		at = time.Now().Add(min(time.Second<<min(r.failures, 5), 30*time.Second))
	}
	if !ok || r.at.IsZero() || at.Before(r.at) {
		r.at = at
	}
	d.due[t] = r
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// settled says that nothing of it is left to try.
func (d *Driver) settled(t target) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.due[t]; ok && r.failures > 0 {
		r.failures = 0
		d.due[t] = r
	}
}

// hostInterval is how often the host's own rules are looked at: whoever restarts
// a firewall there flushes ours with theirs.
const hostInterval = time.Minute

// background looks at what is due: a tap that came, or what failed before.
func (d *Driver) background() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	lookAgain := time.Now().Add(hostInterval)
	for {
		if time.Now().After(lookAgain) {
			lookAgain = time.Now().Add(hostInterval)
			for _, n := range d.store.Networks() {
				if n.Type == "flat" {
					d.schedule(target{dataplane.KindNetwork, n.ID}, 0, false)
				}
			}
		}
		d.mu.Lock()
		now := time.Now()
		pause := hostInterval
		var next target
		for t, r := range d.due {
			if r.at.IsZero() {
				if r.failures == 0 {
					delete(d.due, t)
				}
				continue
			}
			if wait := r.at.Sub(now); wait > 0 {
				pause = min(pause, wait)
				continue
			}
			r.at = time.Time{}
			d.due[t] = r
			next = t
			break
		}
		d.mu.Unlock()
		if next.id == "" {
			timer.Reset(pause)
			select {
			case <-d.ctx.Done():
				return
			case <-d.wake:
			case <-timer.C:
			}
			continue
		}
		var err error
		switch next.kind {
		case dataplane.KindNetwork:
			err = d.syncNetwork(d.ctx, next.id)
			if err == nil {
				err = d.syncRoutersOn(d.ctx, next.id)
			}
		case dataplane.KindRouter:
			err = d.syncRouter(d.ctx, next.id)
		}
		if d.ctx.Err() != nil {
			return
		}
		if err != nil {
			d.log.Warn("cannot wire; it is tried again", "kind", next.kind, "id", next.id, "error", err)
		}
	}
}
