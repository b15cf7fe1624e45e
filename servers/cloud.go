package servers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/identity"
	identityapi "github.com/nacre-cloud/nacre/identity/api"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/image/backend/mem"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/objectstore"
	blobmem "github.com/nacre-cloud/nacre/objectstore/blob/mem"
	"github.com/nacre-cloud/nacre/servers/host"
	"github.com/nacre-cloud/nacre/servers/kit"
	"github.com/nacre-cloud/nacre/servers/remote"
)

// Cloud is a running cloud, or those areas of one that this process serves; the others
// are nil. Its areas may be used directly, with a caller in the context.
type Cloud struct {
	Identity  *identity.Service
	Image     *image.Service
	Compute   *compute.Service
	Placement *placement.Service
	Network   *network.Service
	Objects   *objectstore.Service
	// Bus carries the areas' messages; subscribe to "notifications.<area>" for events.
	Bus *bus.Bus
	// Bootstrapped are the ids of the administrator, its project and the roles.
	Bootstrapped identity.Bootstrapped

	c       Config
	log     *slog.Logger
	metrics *kit.Metrics
	// identityAPI is what Config.IdentitySetup says of the API.
	identityAPI identityapi.Config
	// tokens says who asks; events tells compute in another process of ports.
	tokens  nacre.TokenValidator
	events  *remote.Events
	handler http.Handler
	objects http.Handler

	stop  context.CancelFunc
	wg    sync.WaitGroup
	close sync.Once
	err   error

	// moves joins the hosts of this process.
	moves host.Switchboard

	mu     sync.Mutex
	failed error
}

// New makes a cloud and starts it. The context is for starting only; Close ends
// the cloud.
func New(ctx context.Context, c Config) (*Cloud, error) {
	if c.AdminPassword == "" && c.serves("identity") {
		return nil, errors.New("servers: Config.AdminPassword is missing")
	}
	cl, err := assemble(ctx, c)
	if err != nil {
		return nil, err
	}
	cl.handler = cl.routes()
	if err := cl.start(ctx); err != nil {
		return nil, errors.Join(err, cl.Close())
	}
	return cl, nil
}

// assemble makes a cloud that does not run yet.
func assemble(ctx context.Context, c Config) (*Cloud, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	if err := Migrate(ctx, c.Engines, false, c.Areas...); err != nil {
		return nil, err
	}
	if c.Transport == nil {
		c.Transport = bus.NewMemory(bus.MemoryOptions{})
	}
	if c.Images == nil {
		c.Images = &mem.Driver{}
	}
	if c.Objects == nil {
		c.Objects = &blobmem.Store{}
	}
	cl := &Cloud{c: c, log: c.Log, metrics: kit.NewMetrics(), Bus: bus.New(c.Transport, c.Log)}
	err := cl.compose()
	if err == nil {
		cl.tokens, err = cl.validator()
	}
	if err != nil {
		return nil, errors.Join(err, cl.Bus.Close())
	}
	return cl, nil
}

// compose makes the areas that are served here and binds the edges between them.
func (cl *Cloud) compose() error {
	for _, a := range []struct {
		area string
		make func() error
	}{{"identity", cl.makeIdentity}, {"image", cl.makeImage}, {"network", cl.makeNetwork}, {"compute", cl.makeCompute}, {"objectstore", cl.makeObjects}} {
		if !cl.c.serves(a.area) {
			continue
		}
		if err := a.make(); err != nil {
			return fmt.Errorf("%s: %w", a.area, err)
		}
	}
	if cl.Network != nil {
		cl.Network.SetHooks(cl.portHooks())
	}
	if cl.Compute != nil {
		cl.c.Metadata.serve(cl.Compute, cl.c.Log)
	}
	return nil
}

func (cl *Cloud) makeIdentity() (err error) {
	c := &cl.c
	in := identity.Config{Engine: c.Engines["identity"], Keys: c.Keys, CredentialKeys: c.CredentialKeys, ReceiptKeys: c.ReceiptKeys,
		Policy: c.Policy["identity"], PolicyOptions: c.PolicyOptions["identity"], BcryptCost: c.BcryptCost, Publish: cl.Bus.PublishEvent, Log: c.Log}
	if c.IdentitySetup != nil {
		c.IdentitySetup(&in, &cl.identityAPI)
	}
	cl.Identity, err = identity.New(in)
	return err
}

func (cl *Cloud) makeImage() error {
	in, err := cl.imageConfig()
	if err == nil {
		cl.Image, err = image.New(in)
	}
	return err
}

func (cl *Cloud) makeNetwork() (err error) {
	c := &cl.c
	nc := network.Config{Engine: c.Engines["network"], Bus: cl.Bus, Policy: c.Policy["network"], PolicyOptions: c.PolicyOptions["network"], Alone: c.Alone, Instance: c.Instance, Log: c.Log}
	if c.NetworkSetup != nil {
		c.NetworkSetup(&nc)
	}
	cl.Network, err = network.New(nc)
	return err
}

func (cl *Cloud) makeCompute() (err error) {
	c := &cl.c
	if cl.Placement, err = placement.New(placement.Config{Engine: c.Engines["compute"], Policy: c.Policy["placement"], PolicyOptions: c.PolicyOptions["placement"], Log: c.Log}); err != nil {
		return err
	}
	cc := compute.Config{Engine: c.Engines["compute"], Bus: cl.Bus, Placement: cl.Placement, Policy: c.Policy["compute"], PolicyOptions: c.PolicyOptions["compute"],
		Images: cl.imagesEdge(), Networks: cl.networksEdge(), SecurityGroups: cl.securityGroupsEdge(), Alone: c.Alone, Instance: c.Instance, Log: c.Log}
	if c.ComputeSetup != nil {
		c.ComputeSetup(&cc)
	}
	cl.Compute, err = compute.New(cc)
	return err
}

func (cl *Cloud) makeObjects() (err error) {
	cl.Objects, err = objectstore.New(cl.objectConfig())
	return err
}

func (cl *Cloud) start(ctx context.Context) error {
	run, stop := context.WithCancel(context.Background())
	cl.stop = stop
	if cl.Identity != nil {
		if err := cl.seedIdentity(ctx); err != nil {
			return err
		}
	}
	if dir := cl.c.ImageDefinitions; dir != nil && cl.Image != nil {
		if _, err := cl.Image.Metadefs.Load(ctx, dir); err != nil {
			return fmt.Errorf("metadata definitions: %w", err)
		}
	}
	if err := cl.Bus.Listen(run); err != nil {
		return err
	}
	if cl.Objects != nil {
		if err := cl.followProjects(run); err != nil {
			return err
		}
	}
	service := nacre.AsService(ctx, "servers")
	for _, h := range cl.c.Hosts {
		if _, err := cl.Compute.AddHost(service, h.Name); err != nil {
			return err
		}
		if h.Dataplane != nil {
			if _, err := cl.Network.AddHost(service, h.Name); err != nil {
				return err
			}
		}
	}
	for _, p := range cl.parts() {
		cl.run(run, p.name, p.run)
	}
	for _, h := range cl.c.Hosts {
		if err := cl.startHost(run, h); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	return nil
}

type part struct {
	name string
	run  func(context.Context) error
}

// parts are what runs in this process.
func (cl *Cloud) parts() []part {
	var out []part
	if cl.Identity != nil {
		out = append(out, part{"identity", cl.Identity.Run})
	}
	if cl.Image != nil {
		out = append(out, part{"image", cl.Image.Run})
	}
	if cl.Network != nil {
		out = append(out, part{"network", cl.Network.Run})
	}
	if cl.Compute != nil {
		out = append(out, part{"compute", cl.Compute.Run})
	}
	if cl.Objects != nil {
		out = append(out, part{"objectstore", cl.Objects.Run})
	}
	if cl.events != nil {
		out = append(out, part{"hints to compute", cl.events.Run}, part{"hosts of compute", cl.followHosts})
	}
	return out
}

// seedIdentity makes what a cloud can't begin without.
func (cl *Cloud) seedIdentity(ctx context.Context) error {
	var err error
	if cl.Bootstrapped, err = cl.Identity.Bootstrap(ctx, identity.Bootstrap{Password: cl.c.AdminPassword, Random: cl.c.RandomPassword, Region: cl.c.Region, Services: cl.c.services()}); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := cl.seedRoles(ctx); err != nil {
		return err
	}
	return cl.seedServices(nacre.AsService(ctx, "servers"))
}

// run keeps a part running until ctx ends. One that ends by itself is a fault
// that Healthy shows.
func (cl *Cloud) run(ctx context.Context, name string, f func(context.Context) error) {
	cl.wg.Go(func() {
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		err = fmt.Errorf("%s ended: %w", name, errors.Join(err, errors.New("it should run until the cloud is closed")))
		cl.log.Error("a part of the cloud ended", "part", name, "error", err)
		cl.mu.Lock()
		cl.failed = errors.Join(cl.failed, err)
		cl.mu.Unlock()
	})
}

// Close stops the cloud and waits until all of it has ended. Guests, networks,
// engines and drivers stay. It may be called more than once.
func (cl *Cloud) Close() error {
	cl.close.Do(func() {
		if cl.stop != nil {
			cl.stop()
		}
		cl.wg.Wait()
		cl.c.Metadata.serve(nil, nil)
		cl.err = cl.Bus.Close()
	})
	return cl.err
}

// Healthy is nil while every part runs.
func (cl *Cloud) Healthy() error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.failed
}

// Ready waits until each of the configured hosts has reported, so that servers
// can be built, or until ctx ends.
func (cl *Cloud) Ready(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		waits, err := cl.waits(ctx)
		if err != nil {
			return err
		}
		if waits == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %s: %w", waits, ctx.Err())
		case <-tick.C:
		}
		if n == 100 {
			tick.Reset(20 * time.Millisecond)
		}
	}
}

// waits says what the cloud waits for before it is ready; empty is nothing.
func (cl *Cloud) waits(ctx context.Context) (string, error) {
	if err := cl.Healthy(); err != nil {
		return "", err
	}
	if cl.Compute == nil {
		return "", nil
	}
	ctx = nacre.AsService(ctx, "servers")
	hosts, err := cl.Compute.Hosts(ctx, "os_compute_api:os-services:list")
	if err != nil {
		return "", err
	}
	up := map[string]bool{}
	for _, h := range hosts {
		up[h.Name] = cl.Compute.Up(h) && h.Info.VCPUs > 0
	}
	for _, h := range cl.c.Hosts {
		if !up[h.Name] {
			return "host " + h.Name + " has not reported to compute", nil
		}
	}
	return "", nil
}

// Rest waits until nothing is under way in any area and every host has confirmed
// what it was told, or until ctx ends. A host that is down keeps it waiting.
func (cl *Cloud) Rest(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		busy, err := cl.busy(ctx)
		if err != nil {
			return err
		}
		if len(busy) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", strings.Join(busy, ", "), ctx.Err())
		case <-tick.C:
		}
	}
}

// busy says what is under way in the areas that are served here.
func (cl *Cloud) busy(ctx context.Context) ([]string, error) {
	var out []string
	add := func(n int64, err error, what string) error {
		if n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, what))
		}
		return err
	}
	var errs []error
	if cl.Compute != nil {
		tombstones, work, err := cl.Compute.Waiting(ctx)
		errs = append(errs, add(tombstones, err, "tombstones in compute"), add(work, err, "works in compute"))
	}
	if cl.Network != nil {
		n, err := cl.Network.Waiting(ctx)
		errs = append(errs, add(n, err, "changes at hosts in network"))
	}
	if cl.Image != nil {
		n, err := cl.Image.Waiting(ctx)
		errs = append(errs, add(n, err, "works in image"))
	}
	if cl.Objects != nil {
		n, err := cl.Objects.Waiting(ctx)
		errs = append(errs, add(n, err, "blobs to delete in objectstore"))
	}
	return out, errors.Join(errs...)
}

// Audit says what does not hold that always must, in every area that is served here and
// between them. Call it when nothing is under way.
func (cl *Cloud) Audit(ctx context.Context) ([]nacre.Finding, error) {
	ctx = nacre.AsService(ctx, "servers")
	var audits []func(context.Context) ([]nacre.Finding, error)
	if cl.Image != nil {
		audits = append(audits, func(ctx context.Context) ([]nacre.Finding, error) { return cl.Image.Audit(ctx, true) })
	}
	if cl.Compute != nil {
		audits = append(audits, cl.Compute.Audit)
	}
	if cl.Network != nil {
		audits = append(audits, cl.Network.Audit)
	}
	if cl.Objects != nil {
		audits = append(audits, func(ctx context.Context) ([]nacre.Finding, error) { return cl.Objects.Audit(ctx, true) })
	}
	if cl.Compute != nil && cl.Network != nil {
		audits = append(audits, cl.auditEdges)
	}
	var out []nacre.Finding
	for _, audit := range audits {
		fs, err := audit(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, fs...)
	}
	return out, nil
}

// Config is what the cloud was made of, completed.
func (cl *Cloud) Config() Config { return cl.c }
