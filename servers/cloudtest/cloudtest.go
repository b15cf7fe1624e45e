// Package cloudtest gives a Go test a whole OpenStack cloud, in the test's own
// process, in milliseconds: no port, no file, no other process.
//
//	func TestMine(t *testing.T) {
//		cloud := cloudtest.Start(t)
//		pages, err := servers.List(cloud.Demo.Compute, nil).AllPages(t.Context())
//		…
//	}
//
// [Cloud.Demo] and [Cloud.Admin] are gophercloud clients, ready to use; code that
// makes its own client takes [Cloud.AuthOptions] and the cloud's HTTPClient. The
// cloud has flavors (m1.nano and up), an external network "public", and a project
// "demo" with a network, subnet and router. Guests are simulated: they boot at
// once, obey, and write a console log. Its areas (embedded servers.Cloud) may be
// used directly too.
//
// # What it promises
//
// Clouds share nothing; tests may run in parallel. When the test ends the cloud
// comes to rest, is audited (any finding fails the test) and is closed, with every
// goroutine ended.
package cloudtest

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"golang.org/x/crypto/bcrypt"

	"github.com/nacre-cloud/nacre/bus"
	hypervisor "github.com/nacre-cloud/nacre/compute/hypervisor/fake"
	dataplane "github.com/nacre-cloud/nacre/network/dataplane/fake"
	"github.com/nacre-cloud/nacre/servers"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// Options change the cloud that Start gives; the zero value works.
type Options struct {
	// Engine opens the database of an area; nil is memstore. Start migrates and
	// closes it.
	Engine func(tb testing.TB, area string) store.Engine
	// Transport carries messages; nil is the in-process one.
	Transport bus.Transport
	// Hosts is how many hosts there are; 0 means 1.
	Hosts int
	// Host shapes the simulated hosts; Name is set for each.
	Host hypervisor.Config
	// NoSeed leaves out flavors, networks and the demo project; Demo is nil then.
	NoSeed bool
	// MaxImage bounds an image in bytes; 0 means 1 TiB.
	MaxImage int64
	// ReportInterval is the time between the hosts' full reports; 0 is the agents' own.
	ReportInterval time.Duration
	// Patience bounds the start, and the rest at the end; 0 means 30 s.
	Patience time.Duration
	// NoAudit does not audit at the end, for tests that leave things broken.
	NoAudit bool
	// Log hears of everything; nil discards it.
	Log *slog.Logger
}

// Cloud is a cloud in a test.
type Cloud struct {
	*servers.Cloud
	// Admin has the role admin on project admin, Demo the role member on project demo.
	Admin, Demo *User
	// Seeded are the ids of what there is from the start.
	Seeded servers.Seeded
	// Hypervisors and Dataplanes are the simulated hosts' drivers, where faults
	// can be planted.
	Hypervisors []*hypervisor.Driver
	Dataplanes  []*dataplane.Driver
}

// User is somebody's clients: the provider's, and one for each service.
type User struct {
	*gophercloud.ProviderClient
	Identity, Image, Compute, Network, Placement, Objects *gophercloud.ServiceClient
	// ProjectID and ID are the project's and the user's.
	ProjectID, ID string
}

// Passwords of the two users.
const (
	AdminPassword = "admin-password"
	DemoPassword  = "demo-password"
)

// Start gives tb a cloud that is ready, and takes it away when tb ends.
func Start(tb testing.TB, options ...Options) *Cloud {
	tb.Helper()
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	c := &Cloud{}
	ctx := context.Background()
	cfg := servers.Config{URL: "http://cloud.test", AdminPassword: AdminPassword, RandomPassword: true, BcryptCost: bcrypt.MinCost, Transport: o.Transport,
		ReportDelay: time.Millisecond, ReportInterval: o.ReportInterval, MaxImage: o.MaxImage, Log: o.Log, Engines: map[string]store.Engine{}}
	for _, area := range servers.Areas() {
		cfg.Engines[area] = openEngine(tb, o, area)
	}
	if err := servers.Migrate(ctx, cfg.Engines, true); err != nil {
		tb.Fatalf("cloudtest: %v", err)
	}
	for i := range max(o.Hosts, 1) {
		cfg.Hosts = append(cfg.Hosts, c.host(tb, o, fmt.Sprintf("node%d", i+1)))
	}
	var err error
	if c.Cloud, err = servers.New(ctx, cfg); err != nil {
		tb.Fatalf("cloudtest: %v", err)
	}
	tb.Cleanup(func() { c.end(tb, o) })
	if !o.NoSeed {
		seed := servers.Seed{Flavors: servers.DefaultFlavors(), DemoPassword: DemoPassword, External: netip.MustParsePrefix("172.24.4.0/24"), Private: netip.MustParsePrefix("10.20.0.0/24")}
		if c.Seeded, err = c.Seed(ctx, seed); err != nil {
			tb.Fatalf("cloudtest: %v", err)
		}
	}
	ready, cancel := context.WithTimeout(ctx, cmp.Or(o.Patience, 30*time.Second))
	defer cancel()
	if err := c.Ready(ready); err != nil {
		tb.Fatalf("cloudtest: %v", err)
	}
	c.Admin = c.As(tb, c.AuthOptions("admin", AdminPassword, "admin"))
	if !o.NoSeed {
		c.Demo = c.As(tb, c.AuthOptions("demo", DemoPassword, "demo"))
	}
	return c
}

func openEngine(tb testing.TB, o Options, area string) store.Engine {
	var e store.Engine = memstore.New(memstore.Options{})
	if o.Engine != nil {
		e = o.Engine(tb, area)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Errorf("cloudtest: closing %s's engine: %v", area, err)
		}
	})
	return e
}

func (c *Cloud) host(tb testing.TB, o Options, name string) servers.Host {
	hc := o.Host
	hc.Name = name
	hv, err := hypervisor.New(hc)
	if err != nil {
		tb.Fatalf("cloudtest: %v", err)
	}
	dp, err := dataplane.New(dataplane.Config{})
	if err != nil {
		tb.Fatalf("cloudtest: %v", err)
	}
	tb.Cleanup(func() { _ = dp.Close() })
	c.Hypervisors, c.Dataplanes = append(c.Hypervisors, hv), append(c.Dataplanes, dp)
	return servers.Host{Name: name, Hypervisor: hv, Dataplane: dp}
}

// end lets the cloud come to rest, audits and closes it.
func (c *Cloud) end(tb testing.TB, o Options) {
	if !o.NoAudit && !tb.Failed() {
		ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(o.Patience, 30*time.Second))
		defer cancel()
		if err := c.Rest(ctx); err != nil {
			tb.Errorf("cloudtest: the cloud does not come to rest: %v", err)
		}
		findings, err := c.Audit(ctx)
		if err != nil {
			tb.Errorf("cloudtest: audit: %v", err)
		}
		for _, f := range findings {
			tb.Errorf("cloudtest: audit: %s %s %s %s", f.Area, f.Kind, f.ID, f.Problem)
		}
	}
	if err := c.Close(); err != nil {
		tb.Errorf("cloudtest: %v", err)
	}
}

// AuthOptions are a user's of the default domain, for gophercloud. A client made
// with them reaches the cloud through its HTTPClient only.
func (c *Cloud) AuthOptions(user, password, project string) gophercloud.AuthOptions {
	return gophercloud.AuthOptions{IdentityEndpoint: c.Config().URL + "/identity/v3", Username: user, Password: password, DomainID: "default", TenantName: project, AllowReauth: true}
}

// As authenticates and gives the clients of whoever that is.
func (c *Cloud) As(tb testing.TB, auth gophercloud.AuthOptions) *User {
	tb.Helper()
	p, err := c.Client(context.Background(), auth)
	if err != nil {
		tb.Fatalf("cloudtest: %v", err)
	}
	u, err := NewUser(p, c.Endpoint())
	if err != nil {
		tb.Fatalf("cloudtest: %v", err)
	}
	return u
}

// NewUser makes the service clients of an authenticated provider client.
func NewUser(p *gophercloud.ProviderClient, eo gophercloud.EndpointOpts) (*User, error) {
	u := &User{ProviderClient: p}
	for _, s := range []struct {
		to   **gophercloud.ServiceClient
		make func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)
	}{
		{&u.Identity, openstack.NewIdentityV3}, {&u.Image, openstack.NewImageV2}, {&u.Compute, openstack.NewComputeV2},
		{&u.Network, openstack.NewNetworkV2}, {&u.Placement, openstack.NewPlacementV1}, {&u.Objects, openstack.NewObjectStorageV1},
	} {
		var err error
		if *s.to, err = s.make(p, eo); err != nil {
			return nil, err
		}
	}
	auth, ok := p.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return u, nil
	}
	if user, err := auth.ExtractUser(); err == nil && user != nil {
		u.ID = user.ID
	}
	if project, err := auth.ExtractProject(); err == nil && project != nil {
		u.ProjectID = project.ID
	}
	return u, nil
}
