// Package fake is a simulated data plane: it keeps the objects it is given, says
// when ports are wired, and answers who can reach whom from what networks,
// routers, floating IPs, security groups and port security mean. No packet is
// ever sent.
//
//	d, err := fake.New(fake.Config{})
//	…
//	ok, why := d.Reach(fake.External, netip.MustParseAddr("172.24.4.10"), "tcp", 22)
//
// Taps are simulated too: unless [Config].ManualTaps is set a port's tap is there
// as soon as the port is, so a port becomes active when its network is there.
// With a StateDir a driver that is opened again finds everything as it was.
package fake

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/network/dataplane/internal/objects"
)

// Config is how a simulated data plane is made; the zero value works.
type Config struct {
	// StateDir keeps the objects as files. Empty keeps them in memory.
	StateDir string
	// Types are the provider types served; nil is flat, local and vxlan.
	Types []string
	// Physical are the physical networks served; nil is "public".
	Physical []string
	// Tunnel is the host's end of vxlan tunnels, as it is reported.
	Tunnel netip.Addr
	// ManualTaps leaves it to AddTap and RemoveTap when a port's tap is there.
	ManualTaps bool
}

// Faults are errors to inject, and delays: a func may block. A nil func injects
// nothing. They are called before anything is changed.
type Faults struct {
	Apply  func(ctx context.Context, ref dataplane.Ref) error
	Delete func(ctx context.Context, kind dataplane.Kind, id string) error
	List   func(ctx context.Context) error
	Status func(ctx context.Context, portID string) error
}

// Driver is a simulated data plane.
type Driver struct {
	config Config
	store  *objects.Store
	hub    *objects.Hub

	mu     sync.Mutex
	faults Faults
	taps   map[string]bool
	closed bool
}

var _ dataplane.Driver = (*Driver)(nil)

var errClosed = errors.New("the simulated data plane is closed")

// New opens a simulated data plane.
func New(c Config) (*Driver, error) {
	if c.Types == nil {
		c.Types = []string{"flat", "local", "vxlan"}
	}
	if c.Physical == nil {
		c.Physical = []string{"public"}
	}
	dir := c.StateDir
	if dir != "" {
		dir = filepath.Join(dir, "dataplane")
	}
	store, err := objects.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Driver{config: c, store: store, hub: objects.NewHub(), taps: map[string]bool{}}, nil
}

// SetFaults replaces the errors to inject.
func (d *Driver) SetFaults(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
}

// AddTap makes a tap appear, as a hypervisor would.
func (d *Driver) AddTap(name string) { d.setTap(name, true) }

// RemoveTap makes a tap go.
func (d *Driver) RemoveTap(name string) { d.setTap(name, false) }

func (d *Driver) setTap(name string, there bool) {
	d.mu.Lock()
	d.taps[name] = there
	d.mu.Unlock()
	if p, ok := d.store.PortByTap(name); ok {
		d.hub.Notify(p.ID)
	}
}

func (d *Driver) enter() (Faults, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return Faults{}, errClosed
	}
	return d.faults, nil
}

// Host serves the configured types and physical networks.
func (d *Driver) Host(context.Context) (dataplane.Host, error) {
	if _, err := d.enter(); err != nil {
		return dataplane.Host{}, err
	}
	return dataplane.Host{
		Types:    slices.Clone(d.config.Types),
		Physical: slices.Clone(d.config.Physical),
		Driver:   "fake",
		Tunnel:   d.config.Tunnel,
	}, nil
}

// List is every object in place.
func (d *Driver) List(ctx context.Context) ([]dataplane.Ref, error) {
	f, err := d.enter()
	if err == nil && f.List != nil {
		err = f.List(ctx)
	}
	if err != nil {
		return nil, err
	}
	return d.store.List(), nil
}

func (d *Driver) apply(ctx context.Context, kind dataplane.Kind, id string, generation int64) error {
	f, err := d.enter()
	if err == nil && f.Apply != nil {
		err = f.Apply(ctx, dataplane.Ref{Kind: kind, ID: id, Generation: generation})
	}
	if err != nil {
		return err
	}
	return ctx.Err()
}

// ApplyNetwork keeps the network; its ports become active. A type or physical
// network that is not served is an error.
func (d *Driver) ApplyNetwork(ctx context.Context, n dataplane.Network) error {
	if err := d.apply(ctx, dataplane.KindNetwork, n.ID, n.Generation); err != nil {
		return err
	}
	if !slices.Contains(d.config.Types, n.Type) {
		return dataplane.Fault("no data plane on this host serves networks of type %q", n.Type)
	}
	if n.Type == "flat" && !slices.Contains(d.config.Physical, n.Physical) {
		return dataplane.Fault("this host has no physical network %q", n.Physical)
	}
	before, was := d.store.Network(n.ID)
	changed, err := d.store.PutNetwork(n)
	if err != nil || !changed {
		return err
	}
	if !was || before.AdminUp != n.AdminUp {
		d.notifyNetwork(n.ID)
	}
	return nil
}

// ApplyPort keeps the port, active as soon as its network and tap are there.
func (d *Driver) ApplyPort(ctx context.Context, p dataplane.Port) error {
	if err := d.apply(ctx, dataplane.KindPort, p.ID, p.Generation); err != nil {
		return err
	}
	before, was := d.store.Port(p.ID)
	status := d.status(p.ID)
	changed, err := d.store.PutPort(p)
	if err != nil || !changed {
		return err
	}
	if !was || before.Tap != p.Tap || status != d.status(p.ID) {
		d.hub.Notify(p.ID)
	}
	return nil
}

// ApplyRouter keeps the router.
func (d *Driver) ApplyRouter(ctx context.Context, r dataplane.Router) error {
	if err := d.apply(ctx, dataplane.KindRouter, r.ID, r.Generation); err != nil {
		return err
	}
	_, err := d.store.PutRouter(r)
	return err
}

// ApplySecurityGroup keeps the group.
func (d *Driver) ApplySecurityGroup(ctx context.Context, g dataplane.SecurityGroup) error {
	if err := d.apply(ctx, dataplane.KindSecurityGroup, g.ID, g.Generation); err != nil {
		return err
	}
	_, err := d.store.PutSecurityGroup(g)
	return err
}

// Delete forgets an object. The ports of a network that went are pending again.
func (d *Driver) Delete(ctx context.Context, kind dataplane.Kind, id string) error {
	f, err := d.enter()
	if err == nil && f.Delete != nil {
		err = f.Delete(ctx, kind, id)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	port, was := d.store.Port(id)
	if err := d.store.Delete(kind, id); err != nil {
		return err
	}
	switch kind {
	case dataplane.KindNetwork:
		d.notifyNetwork(id)
	case dataplane.KindPort:
		if was {
			d.mu.Lock()
			delete(d.taps, port.Tap)
			d.mu.Unlock()
			d.hub.Notify(id)
		}
	}
	return nil
}

func (d *Driver) notifyNetwork(id string) {
	for _, p := range d.store.PortsOf(id) {
		d.hub.Notify(p.ID)
	}
}

// Status says how a port is.
func (d *Driver) Status(ctx context.Context, portID string) (dataplane.PortStatus, error) {
	f, err := d.enter()
	if err == nil && f.Status != nil {
		err = f.Status(ctx, portID)
	}
	if err != nil {
		return dataplane.PortStatus{}, err
	}
	return d.status(portID), nil
}

func (d *Driver) status(portID string) dataplane.PortStatus {
	p, ok := d.store.Port(portID)
	if !ok {
		return dataplane.PortStatus{Reason: "this host has no such port"}
	}
	n, ok := d.store.Network(p.NetworkID)
	switch {
	case !ok:
		return dataplane.PortStatus{Reason: "waiting for network " + p.NetworkID}
	case !p.AdminUp:
		return dataplane.PortStatus{Reason: "the port is administratively down"}
	case !n.AdminUp:
		return dataplane.PortStatus{Reason: "the network is administratively down"}
	case !d.tapThere(p):
		return dataplane.PortStatus{Reason: "waiting for device " + p.Tap}
	}
	return dataplane.PortStatus{Active: true}
}

func (d *Driver) tapThere(p dataplane.Port) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	there, told := d.taps[p.Tap]
	if !told {
		return !d.config.ManualTaps
	}
	return there
}

// Watch sends the ids of ports whose status may have changed.
func (d *Driver) Watch(ctx context.Context) (<-chan string, error) {
	if _, err := d.enter(); err != nil {
		return nil, err
	}
	return d.hub.Watch(ctx), nil
}

// Close ends watches; later calls fail.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.hub.Close()
	return nil
}
