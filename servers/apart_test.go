package servers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/provider"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	hypervisor "github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	"github.com/nacre-cloud/nacre/internal/rest"
	dataplane "github.com/nacre-cloud/nacre/network/dataplane/fake"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/servers/conformance"
	"github.com/nacre-cloud/nacre/servers/host"
	"github.com/nacre-cloud/nacre/servers/remote"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// apart is a cloud whose areas share a bus, and know of each other's APIs only.
type apart struct {
	t     *testing.T
	areas map[string]*servers.Cloud
	// all are the processes, so to say.
	all []*servers.Cloud
	bus *bus.Bus
	hv  *hypervisor.Driver
	via http.RoundTripper
}

// shared is a transport that none of its users closes.
type shared struct{ bus.Transport }

func (shared) Close() error { return nil }

// stranger is a request's context in another process, which knows nothing of the
// sender's.
type stranger struct{ context.Context }

func (stranger) Value(any) any { return nil }

// prefixes are the areas behind the beginnings of paths.
var prefixes = map[string]string{"identity": "identity", "image": "image", "network": "network", "compute": "compute", "placement": "compute", "host": "compute", "object-store": "objectstore"}

const apartURL = "http://cloud.test"

// startApart starts a process for each group of areas, and a host.
func startApart(t *testing.T, groups ...[]string) *apart {
	t.Helper()
	a := &apart{t: t, areas: map[string]*servers.Cloud{}}
	a.via = rest.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if cl := a.areas[prefixes[name]]; cl != nil {
			cl.Handler().ServeHTTP(w, r.WithContext(stranger{r.Context()}))
			return
		}
		http.Error(w, "no such function", http.StatusServiceUnavailable)
	}))
	transport := bus.NewMemory(bus.MemoryOptions{})
	a.bus = bus.New(shared{transport}, nil)
	t.Cleanup(func() { require.NoError(t, errors.Join(a.bus.Close(), transport.Close())) })
	users := map[string]string{"nova": "nova-password", "neutron": "neutron-password", "glance": "glance-password", "swift": "swift-password"}
	names := map[string]string{"compute": "nova", "network": "neutron", "image": "glance", "objectstore": "swift", "identity": "nova"}
	for _, areas := range groups {
		served := areas
		if len(served) == 0 {
			served = servers.Areas()
		}
		cfg := servers.Config{URL: apartURL, AdminPassword: "admin-password", RandomPassword: true, BcryptCost: bcrypt.MinCost, Transport: shared{transport}, Areas: areas,
			ReportDelay: time.Millisecond, ServiceUsers: users, Engines: map[string]store.Engine{}}
		for _, area := range served {
			e := memstore.New(memstore.Options{})
			t.Cleanup(func() { require.NoError(t, e.Close()) })
			cfg.Engines[area] = e
		}
		require.NoError(t, servers.Migrate(t.Context(), cfg.Engines, true, areas...))
		var err error
		cfg.Others, err = remote.New(remote.Config{IdentityURL: apartURL + "/identity/v3", Username: names[served[0]], Password: users[names[served[0]]], Region: "RegionOne", Transport: a.via})
		require.NoError(t, err)
		cl, err := servers.New(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, cl.Close()) })
		a.all = append(a.all, cl)
		for _, area := range served {
			a.areas[area] = cl
		}
	}
	a.seed()
	a.host("node1")
	return a
}

func (a *apart) client(user string) *gophercloud.ProviderClient {
	a.t.Helper()
	p, err := openstack.NewClient(apartURL + "/identity/v3")
	require.NoError(a.t, err)
	p.HTTPClient = http.Client{Transport: a.via}
	require.NoError(a.t, openstack.Authenticate(a.t.Context(), p, a.auth(user)))
	return p
}

func (a *apart) auth(user string) gophercloud.AuthOptions {
	return gophercloud.AuthOptions{IdentityEndpoint: apartURL + "/identity/v3", Username: user, Password: user + "-password", DomainID: "default", TenantName: user, AllowReauth: true}
}

func ptr[T any](v T) *T { return &v }

// seed makes what an administrator would: the demo project, flavors, the external
// network.
func (a *apart) seed() {
	a.t.Helper()
	_, err := a.areas["identity"].Seed(a.t.Context(), servers.Seed{DemoPassword: "demo-password", RandomPassword: true})
	require.NoError(a.t, err)
	_, err = a.areas["compute"].Seed(a.t.Context(), servers.Seed{Flavors: servers.DefaultFlavors()})
	require.NoError(a.t, err)
	network, err := openstack.NewNetworkV2(a.client("admin"), gophercloud.EndpointOpts{})
	require.NoError(a.t, err)
	n, err := networks.Create(a.t.Context(), network, external.CreateOptsExt{External: ptr(true), CreateOptsBuilder: provider.CreateOptsExt{
		CreateOptsBuilder: networks.CreateOpts{Name: "public"}, Segments: []provider.Segment{{NetworkType: "flat", PhysicalNetwork: "public"}}}}).Extract()
	require.NoError(a.t, err)
	_, err = subnets.Create(a.t.Context(), network, subnets.CreateOpts{NetworkID: n.ID, CIDR: "172.24.4.0/24", IPVersion: 4, EnableDHCP: ptr(false)}).Extract()
	require.NoError(a.t, err)
}

// host makes a host known to compute, and runs its agents on the bus.
func (a *apart) host(name string) {
	a.t.Helper()
	var answer struct{ Host struct{ Name, Secret string } }
	resp, err := a.client("admin").Request(a.t.Context(), "POST", apartURL+"/host/v1/hosts", &gophercloud.RequestOpts{
		JSONBody: map[string]any{"host": map[string]string{"name": name}}, JSONResponse: &answer, OkCodes: []int{201}})
	require.NoError(a.t, err)
	require.NoError(a.t, resp.Body.Close())
	far, err := host.NewRemote(apartURL, name, answer.Host.Secret, &http.Client{Transport: a.via})
	require.NoError(a.t, err)
	a.hv, err = hypervisor.New(hypervisor.Config{Name: name})
	require.NoError(a.t, err)
	dp, err := dataplane.New(dataplane.Config{})
	require.NoError(a.t, err)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	a.t.Cleanup(func() { stop(); wg.Wait(); _ = dp.Close() })
	require.NoError(a.t, host.Start(ctx, host.Config{Name: name, Bus: a.bus, Hypervisor: a.hv, Dataplane: dp, Images: far, Batch: time.Millisecond, Interval: time.Second},
		func(ctx context.Context, _ string, f func(context.Context) error) { wg.Go(func() { _ = f(ctx) }) }))
	require.Eventually(a.t, func() bool {
		ctx := nacre.AsService(ctx, "test")
		carries, err := a.areas["network"].Network.Agents(ctx)
		if err != nil || len(carries) == 0 || !a.areas["network"].Network.Up(carries[0]) {
			return false
		}
		runs, err := a.areas["compute"].Compute.Hosts(ctx, "os_compute_api:os-services:list")
		return err == nil && len(runs) > 0 && a.areas["compute"].Compute.Up(runs[0]) && runs[0].Info.VCPUs > 0
	}, 20*time.Second, 10*time.Millisecond)
}

// audit waits until all is at rest, and looks.
func (a *apart) audit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for _, cl := range a.all {
		if err := cl.Rest(ctx); err != nil {
			return err
		}
		found, err := cl.Audit(ctx)
		if err != nil || len(found) > 0 {
			return errors.Join(err, fmt.Errorf("%d findings: %+v", len(found), found))
		}
	}
	if taps := a.hv.Taps(); len(taps) > 0 {
		return fmt.Errorf("taps are left: %v", taps)
	}
	return nil
}

func (a *apart) target() conformance.Target {
	return conformance.Target{Admin: a.client("admin"), User: a.client("demo"), UserAuth: a.auth("demo"), External: "public", Flavor: "m1.nano",
		Image: func() io.Reader { return bytes.NewReader(make([]byte, 64<<10)) }, ImageFormat: "raw", Timeout: 30 * time.Second, Poll: 5 * time.Millisecond, Audit: a.audit}
}

// Each function in a process of its own: the same suite as in one.
func TestConformanceApart(t *testing.T) {
	conformance.Run(t, startApart(t, []string{"identity"}, []string{"image"}, []string{"network"}, []string{"compute"}, []string{"objectstore"}).target())
}
