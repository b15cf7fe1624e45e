package compute_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/agent"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

const imageID = "11111111-2222-4333-8444-555555555555"

// images is a small image service of one image.
type images struct{ data []byte }

func (i images) Image(ctx context.Context, id string) (compute.Image, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.Image{}, err
	}
	if id != imageID {
		return compute.Image{}, nacre.Errorf(nacre.NotFound, "", "Failed to find image %s", id)
	}
	return compute.Image{ID: id, Name: "cirros", Status: "active", DiskFormat: "raw", ContainerFormat: "bare", Size: int64(len(i.data)), MinDisk: 1, Properties: map[string]string{}}, nil
}

func (i images) Open(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(i.data)), nil
}

// networks is a small network service: every port is wired at once unless held.
type networks struct {
	mu    sync.Mutex
	n     int
	ports map[string]compute.Port // by server and index
	held  bool
	fail  error
}

func portKey(server string, index int) string { return fmt.Sprintf("%s/%d", server, index) }

func (n *networks) Check(ctx context.Context, want compute.NetworkRequest) (compute.NetworkPlan, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.NetworkPlan{}, err
	}
	return compute.NetworkPlan{NICs: want.NICs, SecurityGroups: []string{"default"}}, nil
}

func (n *networks) EnsurePort(ctx context.Context, p compute.PortRequest) (compute.Port, error) {
	if err := store.Outside(ctx); err != nil {
		return compute.Port{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return compute.Port{}, n.fail
	}
	key := portKey(p.ServerID, p.Index)
	if have, ok := n.ports[key]; ok {
		return have, nil
	}
	n.n++
	port := compute.Port{ID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", n.n), Index: p.Index, NetworkID: p.NIC.NetworkID, NetworkName: "net", MAC: "fa:16:3e:00:00:01", Made: true, Active: !n.held,
		Addresses: []compute.PortAddress{{Address: netip.MustParseAddr("10.0.0.5")}}}
	n.ports[key] = port
	return port, nil
}

func (n *networks) Ports(_ context.Context, servers ...string) (map[string][]compute.Port, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[string][]compute.Port{}
	for _, s := range servers {
		for i := 0; ; i++ {
			p, ok := n.ports[portKey(s, i)]
			if !ok {
				break
			}
			p.Active = !n.held
			out[s] = append(out[s], p)
		}
	}
	return out, nil
}

func (n *networks) Release(_ context.Context, _, server string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range 8 {
		delete(n.ports, portKey(server, i))
	}
	return nil
}

func (n *networks) Unplug(context.Context, string, string, string) error { return nil }

func (n *networks) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.ports)
}

func (n *networks) hold(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = on
}

// cloud is a compute service with hosts, in one process.
type cloud struct {
	t        testing.TB
	svc      *compute.Service
	engine   store.Engine
	nets     *networks
	drivers  map[string]*fake.Driver
	bus      *bus.Bus
	stop     context.CancelFunc
	wg       *sync.WaitGroup
	hostStop map[string]context.CancelFunc
	// interval of the agents' full reports.
	interval time.Duration
}

func engines(t testing.TB) map[string]func() store.Engine {
	return map[string]func() store.Engine{
		"memstore": func() store.Engine { return memstore.New(memstore.Options{}) },
		"sqlite": func() store.Engine {
			e, err := bunstore.OpenSQLite("", bunstore.Options{})
			require.NoError(t, err)
			return e
		},
	}
}

func each(t *testing.T, fn func(t *testing.T, e store.Engine)) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			e := open()
			t.Cleanup(func() { require.NoError(t, e.Close()) })
			fn(t, e)
		})
	}
}

type option func(*compute.Config)

func start(t testing.TB, e store.Engine, hosts []string, opts ...option) *cloud {
	ctx, stop := context.WithCancel(context.Background())
	c := &cloud{t: t, engine: e, nets: &networks{ports: map[string]compute.Port{}}, drivers: map[string]*fake.Driver{}, stop: stop, wg: &sync.WaitGroup{}, hostStop: map[string]context.CancelFunc{}, interval: 50 * time.Millisecond}
	if _, ok := t.(*testing.B); ok {
		c.interval = time.Minute // as in production
	}
	require.NoError(t, e.Migrate(ctx, compute.Schema(), true))
	c.bus = bus.New(bus.NewMemory(bus.MemoryOptions{}), nil)
	require.NoError(t, c.bus.Listen(ctx))
	pl, err := placement.New(placement.Config{Engine: e})
	require.NoError(t, err)
	cfg := compute.Config{Engine: e, Bus: c.bus, Images: images{data: make([]byte, 1000)}, Networks: c.nets, Placement: pl, StopGrace: time.Second}
	for _, o := range opts {
		o(&cfg)
	}
	c.svc, err = compute.New(cfg)
	require.NoError(t, err)
	for _, h := range hosts {
		_, err := c.svc.AddHost(nacre.AsService(ctx, "test"), h)
		require.NoError(t, err)
	}
	c.wg.Go(func() { _ = c.svc.Run(ctx) })
	for _, h := range hosts {
		c.host(ctx, h)
	}
	t.Cleanup(c.close)
	c.eventually("hosts are up", func() bool {
		hs, err := c.svc.Hosts(admin(), "os_compute_api:os-services:list")
		require.NoError(t, err)
		return !slices.ContainsFunc(hs, func(h compute.Host) bool { return h.Info.VCPUs == 0 && c.hostStop[h.Name] != nil })
	})
	return c
}

// host runs the agent of a host on its fake driver.
func (c *cloud) host(ctx context.Context, name string) {
	d := c.drivers[name]
	if d == nil {
		var err error
		d, err = fake.New(fake.Config{Name: name})
		require.NoError(c.t, err)
		c.drivers[name] = d
	}
	ctx, stop := context.WithCancel(ctx)
	c.hostStop[name] = stop
	a, err := agent.New(agent.Config{Host: name, Driver: d, Images: hostImages{}, Batch: time.Millisecond, Interval: c.interval, RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond,
		Report: func(ctx context.Context, r hypervisor.Report) error {
			return c.bus.Publish(ctx, bus.Queue, "compute.report."+name, r)
		}})
	require.NoError(c.t, err)
	_, err = c.bus.Subscribe(ctx, bus.Queue, "compute.host."+name, "", func(ctx context.Context, body []byte) error {
		var ds []hypervisor.Desired
		if err := json.Unmarshal(body, &ds); err != nil {
			return err
		}
		return a.Handle(ctx, ds)
	})
	require.NoError(c.t, err)
	require.NoError(c.t, c.bus.Serve(ctx, "compute.call."+name, func(ctx context.Context, body []byte) (any, error) {
		var r hypervisor.ConsoleRequest
		if err := json.Unmarshal(body, &r); err != nil {
			return nil, err
		}
		return a.Console(ctx, r)
	}))
	c.wg.Go(func() { _ = a.Run(ctx) })
}

type hostImages struct{}

func (hostImages) Open(context.Context, string, string) (io.ReadCloser, hypervisor.Image, error) {
	return io.NopCloser(bytes.NewReader(nil)), hypervisor.Image{Format: "raw"}, nil
}

func (c *cloud) close() {
	c.stop()
	c.wg.Wait()
	require.NoError(c.t, c.bus.Close())
}

func user(project string) context.Context {
	return nacre.WithCaller(context.Background(), &nacre.Caller{UserID: "user-" + project, ProjectID: project, Roles: []string{"member", "reader"}, RequestID: "req-1"})
}

func admin() context.Context {
	return nacre.WithCaller(context.Background(), &nacre.Caller{UserID: "admin", ProjectID: "admin", Roles: []string{"admin", "manager", "member", "reader"}, RequestID: "req-2"})
}

func (c *cloud) eventually(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			require.Fail(c.t, "it did not happen", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// flavor makes a small flavor.
func (c *cloud) flavor() string {
	f, err := c.svc.CreateFlavor(admin(), compute.Flavor{Name: "small", RAM: 64, VCPUs: 1, Disk: 1, Public: true})
	require.NoError(c.t, err)
	return f.ID
}

func (c *cloud) boot(ctx context.Context, flavor string, n int, change ...func(*compute.NewServer)) []compute.Server {
	c.t.Helper()
	in := compute.NewServer{Name: "vm", ImageID: imageID, FlavorID: flavor, Min: n, Max: n, Networks: compute.NetworkRequest{Mode: "list", NICs: []compute.NICRequest{{NetworkID: "net"}}}}
	for _, f := range change {
		f(&in)
	}
	ss, err := c.svc.CreateServers(ctx, in)
	require.NoError(c.t, err)
	return ss
}

// reach waits until a server has a status; "" waits until it is gone.
func (c *cloud) reach(id, status string) compute.Server {
	c.t.Helper()
	var sv compute.Server
	c.eventually("server becomes "+status, func() bool {
		var err error
		sv, err = c.svc.Server(admin(), id)
		if status == "" {
			return nacre.KindOf(err) == nacre.NotFound
		}
		require.NoError(c.t, err)
		return sv.Status() == status && sv.TaskState == ""
	})
	return sv
}

// clean waits until nothing is under way and holds the audit to finding nothing.
func (c *cloud) clean() {
	c.t.Helper()
	c.eventually("nothing is under way", func() bool {
		stones, work, err := c.svc.Waiting(context.Background())
		require.NoError(c.t, err)
		return stones == 0 && work == 0
	})
	fs, err := c.svc.Audit(context.Background())
	require.NoError(c.t, err)
	require.Empty(c.t, fs)
}

func (c *cloud) instances() int {
	n := 0
	for _, d := range c.drivers {
		list, err := d.List(context.Background())
		require.NoError(c.t, err)
		n += len(list)
	}
	return n
}
