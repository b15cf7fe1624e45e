package servers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
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
	"github.com/nacre-cloud/nacre/servers/kit"
)

// Cloud is a running cloud. Its areas may be used directly, with a caller in the
// context.
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
	handler     http.Handler
	objects     http.Handler

	stop  context.CancelFunc
	wg    sync.WaitGroup
	close sync.Once
	err   error

	mu     sync.Mutex
	failed error
}

// New makes a cloud and starts it. The context is for starting only; Close ends
// the cloud.
func New(ctx context.Context, c Config) (*Cloud, error) {
	if c.AdminPassword == "" {
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
	if err := Migrate(ctx, c.Engines, false); err != nil {
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
	if err := cl.compose(); err != nil {
		return nil, errors.Join(err, cl.Bus.Close())
	}
	return cl, nil
}

// compose makes the areas and binds the edges between them.
func (cl *Cloud) compose() error {
	c, err := &cl.c, error(nil)
	identityConfig := identity.Config{Engine: c.Engines["identity"], Keys: c.Keys, CredentialKeys: c.CredentialKeys,
		Policy: c.Policy["identity"], PolicyOptions: c.PolicyOptions["identity"], BcryptCost: c.BcryptCost, Publish: cl.Bus.PublishEvent, Log: c.Log}
	if c.IdentitySetup != nil {
		c.IdentitySetup(&identityConfig, &cl.identityAPI)
	}
	if cl.Identity, err = identity.New(identityConfig); err != nil {
		return err
	}
	imageConfig, err := cl.imageConfig()
	if err != nil {
		return err
	}
	if cl.Image, err = image.New(imageConfig); err != nil {
		return err
	}
	if cl.Network, err = network.New(network.Config{Engine: c.Engines["network"], Bus: cl.Bus, Policy: c.Policy["network"], PolicyOptions: c.PolicyOptions["network"], Alone: c.Alone, Log: c.Log}); err != nil {
		return err
	}
	if cl.Placement, err = placement.New(placement.Config{Engine: c.Engines["compute"], Policy: c.Policy["placement"], PolicyOptions: c.PolicyOptions["placement"], Log: c.Log}); err != nil {
		return err
	}
	if cl.Compute, err = compute.New(compute.Config{Engine: c.Engines["compute"], Bus: cl.Bus, Placement: cl.Placement, Policy: c.Policy["compute"], PolicyOptions: c.PolicyOptions["compute"],
		Images: images{cl.Image}, Networks: networks{cl.Network}, SecurityGroups: securityGroups{cl.Network}, Alone: c.Alone, Log: c.Log}); err != nil {
		return err
	}
	if cl.Objects, err = objectstore.New(cl.objectConfig()); err != nil {
		return err
	}
	cl.Network.SetHooks(computeHooks(cl.Compute, c.Log))
	c.Metadata.serve(cl.Compute, c.Log)
	return nil
}

func (cl *Cloud) start(ctx context.Context) error {
	run, stop := context.WithCancel(context.Background())
	cl.stop = stop
	var err error
	if cl.Bootstrapped, err = cl.Identity.Bootstrap(ctx, identity.Bootstrap{Password: cl.c.AdminPassword, Random: cl.c.RandomPassword, Region: cl.c.Region, Services: cl.c.services()}); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := cl.seedRoles(ctx); err != nil {
		return err
	}
	if dir := cl.c.ImageDefinitions; dir != nil {
		if _, err := cl.Image.Metadefs.Load(ctx, dir); err != nil {
			return fmt.Errorf("metadata definitions: %w", err)
		}
	}
	if err := cl.Bus.Listen(run); err != nil {
		return err
	}
	if err := cl.followProjects(run); err != nil {
		return err
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
	cl.run(run, "identity", cl.Identity.Run)
	cl.run(run, "image", cl.Image.Run)
	cl.run(run, "network", cl.Network.Run)
	cl.run(run, "compute", cl.Compute.Run)
	cl.run(run, "objectstore", cl.Objects.Run)
	for _, h := range cl.c.Hosts {
		if err := cl.startHost(run, h); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	return nil
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
		tombstones, work, err := cl.Compute.Waiting(ctx)
		if err != nil {
			return err
		}
		places, err := cl.Network.Waiting(ctx)
		if err != nil {
			return err
		}
		uploads, err := cl.Image.Waiting(ctx)
		if err != nil {
			return err
		}
		garbage, err := cl.Objects.Waiting(ctx)
		if err != nil {
			return err
		}
		if tombstones+work+places+uploads+garbage == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d works and %d tombstones in compute, %d changes at hosts in network, %d works in image, %d blobs to delete in objectstore: %w", work, tombstones, places, uploads, garbage, ctx.Err())
		case <-tick.C:
		}
	}
}

// Audit says what does not hold that always must, in every area. Call it when
// nothing is under way.
func (cl *Cloud) Audit(ctx context.Context) ([]nacre.Finding, error) {
	ctx = nacre.AsService(ctx, "servers")
	var out []nacre.Finding
	for _, audit := range []func(context.Context) ([]nacre.Finding, error){
		func(ctx context.Context) ([]nacre.Finding, error) { return cl.Image.Audit(ctx, true) },
		cl.Compute.Audit,
		cl.Network.Audit,
		func(ctx context.Context) ([]nacre.Finding, error) { return cl.Objects.Audit(ctx, true) },
		cl.auditEdges,
	} {
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
