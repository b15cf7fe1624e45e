// Package computetest is the world that compute's own tests run in: a compute
// service over a given engine, hosts with agents on simulated hypervisors, and
// small image and network services that keep to the contracts.
//
//	computetest.Each(t, func(t *testing.T, e store.Engine) {
//		c := computetest.Start(t, computetest.NewWorld(e, "h1"))
//		sv := c.Boot(computetest.User("p1"), c.Flavor(), 1)[0]
//		c.Reach(sv.ID, "ACTIVE")
//		c.Clean()
//	})
//
// Each runs in a synctest bubble: waiting for a lease or a time-out costs nothing.
//
// A [World] is what outlives the service: the engine, the hypervisors, the
// network. A test that kills the service starts another on the same World.
package computetest

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/agent"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/rest"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/bunstore"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// Elsewhere, where it is set, prepares the engine that is used instead of those of
// a process: it makes an empty database and gives what opens it.
var Elsewhere func(t testing.TB) func(t testing.TB) store.Engine

// Engines open an engine of each kind, new and empty.
func Engines(t testing.TB) map[string]func() store.Engine {
	if Elsewhere != nil {
		return map[string]func() store.Engine{"elsewhere": func() store.Engine { return Elsewhere(t)(t) }}
	}
	return map[string]func() store.Engine{
		"memstore": func() store.Engine { return memstore.New(memstore.Options{}) },
		"sqlite": func() store.Engine {
			e, err := bunstore.OpenSQLite("", bunstore.Options{})
			require.NoError(t, err)
			return e
		},
	}
}

// Each runs a test on each engine, in a bubble of its own.
func Each(t *testing.T, fn func(t *testing.T, e store.Engine)) {
	for name, open := range Engines(t) {
		t.Run(name, func(t *testing.T) {
			if Elsewhere != nil {
				prepared := Elsewhere(t) // not in the bubble: it runs programs
				open = func() store.Engine { return prepared(t) }
			}
			synctest.Test(t, func(t *testing.T) {
				e := open()
				t.Cleanup(func() { require.NoError(t, e.Close()) })
				fn(t, e)
			})
		})
	}
}

// World is what is there whether the compute service runs or not.
type World struct {
	Engine  store.Engine
	Nets    *Networks
	Groups  *Groups
	Hosts   []string
	Drivers map[string]*fake.Driver
	// Still are hosts without a migration listener.
	Still []string
	// Dir, if set, is where agents remember what they reached.
	Dir string
	// Interval of the agents' full reports; 0 means 1 s.
	Interval time.Duration
}

// NewWorld makes a world over an engine with the named hosts.
func NewWorld(e store.Engine, hosts ...string) *World {
	return &World{Engine: e, Nets: NewNetworks(), Groups: &Groups{On: map[string][]string{}}, Hosts: hosts, Drivers: map[string]*fake.Driver{}, Interval: time.Second}
}

// Option changes how the service is started.
type Option func(*Cloud)

// Configure changes the service's configuration.
func Configure(f func(*compute.Config)) Option {
	return func(c *Cloud) { c.configure = append(c.configure, f) }
}

// Over wraps the transport of the bus.
func Over(wrap func(bus.Transport) bus.Transport) Option { return func(c *Cloud) { c.wrap = wrap } }

// Through has the service, but not the world, see another engine.
func Through(e store.Engine) Option { return func(c *Cloud) { c.engine = e } }

// Cloud is a compute service with its hosts, in one process.
type Cloud struct {
	*World
	Compute *compute.Service
	Bus     *bus.Bus

	t         testing.TB
	configure []func(*compute.Config)
	wrap      func(bus.Transport) bus.Transport
	engine    store.Engine
	ctx       context.Context
	stop      context.CancelFunc
	wg        sync.WaitGroup
	once      sync.Once
	hostStop  map[string]context.CancelFunc
	mu        sync.Mutex
	agents    map[string]*agent.Agent
}

// Start starts the service and its hosts on a world and waits until the hosts
// are up. It is stopped at the end of the test, if not before.
func Start(t testing.TB, w *World, opts ...Option) *Cloud {
	t.Helper()
	c := Launch(t, w, opts...)
	c.Eventually("hosts are up", func() bool {
		hs, err := c.Compute.Hosts(Admin(), "os_compute_api:os-services:list")
		require.NoError(t, err)
		return !slices.ContainsFunc(hs, func(h compute.Host) bool { return h.Info.VCPUs == 0 || !c.Compute.Up(h) })
	})
	return c
}

// Launch is Start without the wait.
func Launch(t testing.TB, w *World, opts ...Option) *Cloud {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &Cloud{World: w, t: t, engine: w.Engine, ctx: ctx, stop: stop, hostStop: map[string]context.CancelFunc{}, agents: map[string]*agent.Agent{}}
	for _, o := range opts {
		o(c)
	}
	require.NoError(t, w.Engine.Migrate(ctx, compute.Schema(), true))
	var transport bus.Transport = bus.NewMemory(bus.MemoryOptions{})
	if c.wrap != nil {
		transport = c.wrap(transport)
	}
	c.Bus = bus.New(transport, nil)
	require.NoError(t, c.Bus.Listen(ctx))
	t.Cleanup(c.Stop)
	pl, err := placement.New(placement.Config{Engine: c.engine})
	require.NoError(t, err)
	cfg := compute.Config{Engine: c.engine, Bus: c.Bus, Images: Images{}, Networks: w.Nets, SecurityGroups: w.Groups, Placement: pl, StopGrace: time.Second}
	for _, f := range c.configure {
		f(&cfg)
	}
	c.Compute, err = compute.New(cfg)
	require.NoError(t, err)
	for _, h := range w.Hosts {
		_, err := c.Compute.AddHost(nacre.AsService(ctx, "test"), h)
		if c.engine == w.Engine {
			require.NoError(t, err)
		}
	}
	c.wg.Go(func() { _ = c.Compute.Run(ctx) })
	for _, h := range w.Hosts {
		c.StartHost(h)
	}
	return c
}

// Stop ends the service and the agents; the world stays.
func (c *Cloud) Stop() {
	c.once.Do(func() {
		c.stop()
		c.wg.Wait()
		require.NoError(c.t, c.Bus.Close())
	})
}

// StopHost ends the agent of a host; its guests go on.
func (c *Cloud) StopHost(name string) {
	c.mu.Lock()
	delete(c.agents, name)
	c.mu.Unlock()
	c.hostStop[name]()
}

// StartHost runs the agent of a host on its driver.
func (c *Cloud) StartHost(name string) {
	d := c.Drivers[name]
	if d == nil {
		var err error
		d, err = fake.New(fake.Config{Name: name})
		require.NoError(c.t, err)
		c.Drivers[name] = d
	}
	ctx, stop := context.WithCancel(c.ctx)
	c.hostStop[name] = stop
	cfg := agent.Config{Host: name, Driver: d, Images: hostImages{}, Batch: time.Millisecond, Interval: c.Interval, RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond,
		Migration: "http://" + name, Client: &http.Client{Transport: c},
		Report: func(ctx context.Context, r hypervisor.Report) error {
			return c.Bus.Publish(ctx, bus.Queue, "compute.report."+name, r)
		}}
	if slices.Contains(c.Still, name) {
		cfg.Migration = ""
	}
	if c.Dir != "" {
		cfg.Dir = filepath.Join(c.Dir, name)
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	a, err := agent.New(cfg)
	require.NoError(c.t, err)
	_, err = c.Bus.Subscribe(ctx, bus.Queue, "compute.host."+name, "", func(ctx context.Context, body []byte) error {
		var ds []hypervisor.Desired
		if err := json.Unmarshal(body, &ds); err != nil {
			return err
		}
		return a.Handle(ctx, ds)
	})
	require.NoError(c.t, err)
	require.NoError(c.t, c.Bus.Serve(ctx, "compute.call."+name, func(ctx context.Context, body []byte) (any, error) {
		var r hypervisor.Call
		if err := json.Unmarshal(body, &r); err != nil {
			return nil, err
		}
		return a.Call(ctx, r)
	}))
	c.mu.Lock()
	c.agents[name] = a
	c.mu.Unlock()
	c.wg.Go(func() { _ = a.Run(ctx) })
}

// RoundTrip is the way from one host to another's migration listener.
func (c *Cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	a := c.agents[r.URL.Host]
	c.mu.Unlock()
	if a == nil {
		return nil, errors.New("no such host")
	}
	return rest.Transport(a.Migrations()).RoundTrip(r)
}

// User is a member of a project.
func User(project string) context.Context {
	return nacre.WithCaller(context.Background(), UserCaller(project))
}

// UserCaller is who User is.
func UserCaller(project string) *nacre.Caller {
	return &nacre.Caller{UserID: "user-" + project, ProjectID: project, Roles: []string{"member", "reader"}, RequestID: "req-1"}
}

// Admin is an administrator.
func Admin() context.Context { return nacre.WithCaller(context.Background(), AdminCaller()) }

// AdminCaller is who Admin is.
func AdminCaller() *nacre.Caller {
	return &nacre.Caller{UserID: "admin", ProjectID: "admin", Roles: []string{"admin", "manager", "member", "reader"}, RequestID: "req-2"}
}

// patience is how long Eventually waits. In a bubble it costs little; it is more than
// the default deadline of a build.
const patience = 15 * time.Minute

// Eventually waits until ok.
func (c *Cloud) Eventually(what string, ok func() bool) {
	c.t.Helper()
	require.True(c.t, Poll(ok), "it did not happen: %s", what)
}

// Poll waits until ok, ever less often, and says whether it came to that.
func Poll(ok func() bool) bool {
	wait := 2 * time.Millisecond
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(wait) {
		if time.Now().After(deadline) {
			return false
		}
		wait = min(wait+wait/8, 200*time.Millisecond)
	}
	return true
}

// Flavor makes a small flavor.
func (c *Cloud) Flavor() string {
	c.t.Helper()
	f, err := c.Compute.CreateFlavor(Admin(), compute.Flavor{Name: "small", RAM: 64, VCPUs: 1, Disk: 1, Public: true})
	require.NoError(c.t, err)
	return f.ID
}

// Boot asks for n servers.
func (c *Cloud) Boot(ctx context.Context, flavor string, n int, change ...func(*compute.NewServer)) []compute.Server {
	c.t.Helper()
	ss, err := c.Compute.CreateServers(ctx, NewServer(flavor, n, change...))
	require.NoError(c.t, err)
	return ss
}

// NewServer is what Boot asks for.
func NewServer(flavor string, n int, change ...func(*compute.NewServer)) compute.NewServer {
	in := compute.NewServer{Name: "vm", ImageID: ImageID, FlavorID: flavor, Min: n, Max: n, Networks: compute.NetworkRequest{Mode: "list", NICs: []compute.NICRequest{{NetworkID: NetworkID}}}}
	for _, f := range change {
		f(&in)
	}
	return in
}

// Reach waits until a server has a status and is at rest; "" waits until it is gone.
func (c *Cloud) Reach(id, status string) compute.Server {
	c.t.Helper()
	var sv compute.Server
	c.Eventually("server becomes "+status, func() bool {
		var err error
		sv, err = c.Compute.Server(Admin(), id)
		if status == "" {
			return nacre.KindOf(err) == nacre.NotFound
		}
		require.NoError(c.t, err)
		return sv.Status() == status && sv.TaskState == ""
	})
	return sv
}

// Clean waits until nothing is under way and holds the audit to finding nothing.
func (c *Cloud) Clean() {
	c.t.Helper()
	c.Eventually("nothing is under way", func() bool {
		stones, work, err := c.Compute.Waiting(context.Background())
		require.NoError(c.t, err)
		return stones == 0 && work == 0
	})
	fs, err := c.Compute.Audit(context.Background())
	require.NoError(c.t, err)
	require.Empty(c.t, fs)
}

// Instances counts the guests on all hosts.
func (w *World) Instances(t testing.TB) int {
	t.Helper()
	n := 0
	for _, d := range w.Drivers {
		list, err := d.List(context.Background())
		require.NoError(t, err)
		n += len(list)
	}
	return n
}
