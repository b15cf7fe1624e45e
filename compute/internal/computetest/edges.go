package computetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/store"
)

// ImageID is the one image that there is.
const ImageID = "11111111-2222-4333-8444-555555555555"

// NetworkID is the network that Boot names.
const NetworkID = "22222222-2222-4333-8444-555555555555"

// Images is a small image service of one image.
type Images struct{}

// Image implements compute.Images.
func (Images) Image(ctx context.Context, id string) (compute.Image, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.Image{}, err
	}
	if id != ImageID {
		return compute.Image{}, nacre.Errorf(nacre.NotFound, "", "Failed to find image %s", id)
	}
	return compute.Image{ID: id, Name: "cirros", Status: "active", DiskFormat: "raw", ContainerFormat: "bare", Size: 1000, MinDisk: 1, Properties: map[string]string{}}, nil
}

// Open implements compute.Images.
func (Images) Open(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(make([]byte, 1000))), nil
}

type hostImages struct{}

func (hostImages) Open(context.Context, string, string) (io.ReadCloser, hypervisor.Image, error) {
	return io.NopCloser(bytes.NewReader(nil)), hypervisor.Image{Format: "raw"}, nil
}

// Networks is a small network service: it makes ports, and every port is wired
// at once unless held. It keeps its state when the compute service dies.
type Networks struct {
	mu    sync.Mutex
	n     int
	ports map[string]compute.Port // by server and index
	bound map[string]portHosts    // by server and index
	held  bool
	fail  error
	port  func()
	bind  func(op, host string) error
}

// NewNetworks makes an empty one.
func NewNetworks() *Networks {
	return &Networks{ports: map[string]compute.Port{}, bound: map[string]portHosts{}}
}

// portHosts are the hosts that a port is bound to.
type portHosts struct {
	active   string
	inactive []string
}

func portKey(server string, index int) string { return fmt.Sprintf("%s/%d", server, index) }

// Check implements compute.Networks. Without networks named there is one,
// except for "none".
func (n *Networks) Check(ctx context.Context, want compute.NetworkRequest) (compute.NetworkPlan, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.NetworkPlan{}, err
	}
	nics := slices.Clone(want.NICs)
	if len(nics) == 0 && want.Mode != "none" {
		nics = []compute.NICRequest{{NetworkID: NetworkID}}
	}
	groups := want.SecurityGroups
	if len(groups) == 0 {
		groups = []string{"default"}
	}
	return compute.NetworkPlan{NICs: nics, SecurityGroups: groups}, nil
}

// EnsurePort implements compute.Networks.
func (n *Networks) EnsurePort(ctx context.Context, p compute.PortRequest) (compute.Port, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.Port{}, err
	}
	n.mu.Lock()
	if f := n.port; f != nil {
		n.mu.Unlock()
		f()
		n.mu.Lock()
	}
	defer n.mu.Unlock()
	if n.fail != nil {
		return compute.Port{}, n.fail
	}
	key := portKey(p.ServerID, p.Index)
	if have, ok := n.ports[key]; ok {
		if b := n.bound[key]; b.active != p.Host {
			n.bound[key] = portHosts{active: p.Host, inactive: without(b.inactive, p.Host)}
		}
		return have, nil
	}
	n.n++
	port := compute.Port{ID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", n.n), Index: p.Index, NetworkID: p.NIC.NetworkID, NetworkName: "net", MAC: "fa:16:3e:00:00:01",
		MTU: 1450, Made: true, Active: !n.held, Tag: p.NIC.Tag, SecurityGroups: p.SecurityGroups,
		Addresses: []compute.PortAddress{{Address: netip.AddrFrom4([4]byte{10, 0, byte(n.n >> 8), byte(n.n)}), SubnetID: "33333333-2222-4333-8444-555555555555"}}}
	if p.NIC.FixedIP.IsValid() {
		port.Addresses[0].Address = p.NIC.FixedIP
	}
	n.ports[key], n.bound[key] = port, portHosts{active: p.Host}
	return port, nil
}

// Ports implements compute.Networks.
func (n *Networks) Ports(ctx context.Context, servers ...string) (map[string][]compute.Port, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[string][]compute.Port{}
	for _, s := range servers {
		for i := range 8 {
			if p, ok := n.ports[portKey(s, i)]; ok {
				p.Active = !n.held
				out[s] = append(out[s], p)
			}
		}
	}
	return out, nil
}

// Release implements compute.Networks.
func (n *Networks) Release(ctx context.Context, _, server string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range 8 {
		delete(n.ports, portKey(server, i))
		delete(n.bound, portKey(server, i))
	}
	return nil
}

// SetGroup implements compute.Networks.
func (n *Networks) SetGroup(ctx context.Context, _, server, group string, add bool) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	found := false
	for i := range 8 {
		p, ok := n.ports[portKey(server, i)]
		if !ok {
			continue
		}
		had := slices.Contains(p.SecurityGroups, group)
		found = found || had
		p.SecurityGroups = slices.DeleteFunc(slices.Clone(p.SecurityGroups), func(g string) bool { return g == group })
		if add {
			p.SecurityGroups = append(p.SecurityGroups, group)
		}
		n.ports[portKey(server, i)] = p
	}
	if !found && !add {
		return nacre.Errorf(nacre.NotFound, "SecurityGroupNotFound", "Security group %s not found.", group)
	}
	return nil
}

// Unplug implements compute.Networks.
func (n *Networks) Unplug(ctx context.Context, _, server, port string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range 8 {
		if n.ports[portKey(server, i)].ID == port {
			delete(n.ports, portKey(server, i))
			delete(n.bound, portKey(server, i))
		}
	}
	return nil
}

// BindPorts implements compute.Networks.
func (n *Networks) BindPorts(ctx context.Context, _, server, host string) error {
	return n.rebind(ctx, server, "bind", host, func(_ string, b portHosts) (portHosts, error) {
		if b.active != host && !slices.Contains(b.inactive, host) {
			b.inactive = append(slices.Clone(b.inactive), host)
		}
		return b, nil
	})
}

// ActivatePorts implements compute.Networks.
func (n *Networks) ActivatePorts(ctx context.Context, _, server, host string) error {
	return n.rebind(ctx, server, "activate", host, func(port string, b portHosts) (portHosts, error) {
		switch {
		case b.active == host:
			return b, nil
		case !slices.Contains(b.inactive, host):
			return b, nacre.Errorf(nacre.NotFound, "PortBindingNotFound", "Binding for port %s for host %s could not be found.", port, host)
		}
		return portHosts{active: host, inactive: append(without(b.inactive, host), b.active)}, nil
	})
}

// UnbindPorts implements compute.Networks.
func (n *Networks) UnbindPorts(ctx context.Context, _, server, host string) error {
	return n.rebind(ctx, server, "unbind", host, func(_ string, b portHosts) (portHosts, error) {
		b.inactive = without(b.inactive, host)
		return b, nil
	})
}

func without(hosts []string, host string) []string {
	return slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return h == host })
}

func (n *Networks) rebind(ctx context.Context, server, op, host string, f func(port string, b portHosts) (portHosts, error)) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	hook := n.bind
	n.mu.Unlock()
	if hook != nil {
		if err := hook(op, host); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range 8 {
		key := portKey(server, i)
		p, ok := n.ports[key]
		if !ok {
			continue
		}
		b, err := f(p.ID, n.bound[key])
		if err != nil {
			return err
		}
		n.bound[key] = b
	}
	return nil
}

// Bindings are the hosts that a server's port is bound to: the active one, and the
// others.
func (n *Networks) Bindings(server string, index int) (active string, inactive []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.bound[portKey(server, index)]
	return b.active, slices.Clone(b.inactive)
}

// Count is how many ports there are.
func (n *Networks) Count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ports)
}

// Hold keeps ports from being wired, or lets them be.
func (n *Networks) Hold(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = on
}

// Fail makes EnsurePort fail; nil mends it.
func (n *Networks) Fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = err
}

// OnPort has f run before each EnsurePort.
func (n *Networks) OnPort(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.port = f
}

// OnBind has f asked before each BindPorts ("bind"), ActivatePorts ("activate") and
// UnbindPorts ("unbind"): an error that it returns is the call's.
func (n *Networks) OnBind(f func(op, host string) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bind = f
}
