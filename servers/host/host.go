// Package host is what runs on a machine that carries guests: the agents of compute
// and network with their drivers, joined to a cloud by its bus. It links no area and
// no database, so that it is as well a part of the all-in-one process as a process of
// its own on a machine far away.
//
//	err := host.Start(ctx, host.Config{Name: "compute-1", Bus: b, Hypervisor: hv, Dataplane: dp, Images: images}, run)
//
// [Main] is the program of a machine of its own. What such a machine knows is its
// name, the bus's address with an account that reaches its own topics only, and the
// control plane's address with a secret of its own: `nacre host add NAME` makes all of
// it. By the secret it fetches the images of its own servers and its guests' metadata
// (compute/hostapi). It opens no port but, where migration_listen says so, that by which
// other hosts fetch the disks of servers that move to them: each shows a ticket that
// compute made for that one move.
package host

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	computeagent "github.com/nacre-cloud/nacre/compute/agent"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	networkagent "github.com/nacre-cloud/nacre/network/agent"
	"github.com/nacre-cloud/nacre/network/dataplane"
	"github.com/nacre-cloud/nacre/servers/kit"
)

// Config says what a host is made of. Name, Bus and Hypervisor are required.
type Config struct {
	// Name is what topics, services and the scheduler call the host.
	Name       string
	Bus        *bus.Bus
	Hypervisor hypervisor.Driver
	// Dataplane is nil for a host that carries no packets.
	Dataplane dataplane.Driver
	// Images are the bytes that servers boot from.
	Images hypervisor.Images
	// AgentDir is where the compute agent remembers what it reached; empty is nowhere.
	AgentDir string
	// Moves are the ways by which servers come and go; without them none does.
	Moves Moves
	// Batch is how long an agent gathers changes before it reports, Interval the time
	// between full reports; 0 is the agents' own.
	Batch, Interval time.Duration
	Log             *slog.Logger
}

// Site is what a host's drivers are made with.
type Site struct {
	// Name is the host's; Dir is a directory of its own.
	Name, Dir string
	Config    kit.Config
	Metadata  Metadata
	// External is the external network's subnet; not valid if there is none.
	External netip.Prefix
	Log      *slog.Logger
}

// Metadata is the way from a data plane's metadata proxies to compute: requests to
// URL go by RoundTrip, with the instance's id signed by Secret as Neutron's are.
type Metadata interface {
	http.RoundTripper
	URL() string
	Secret() string
}

// Start runs a host's agents: desired state comes to them over the bus, their reports
// go back over it. run keeps a part running until ctx ends.
func Start(ctx context.Context, c Config, run func(ctx context.Context, name string, f func(context.Context) error)) error {
	flows, _ := c.Dataplane.(computeagent.Flows)
	hv, err := computeagent.New(computeagent.Config{
		Host: c.Name, Driver: c.Hypervisor, Images: c.Images, Dir: c.AgentDir, Log: c.Log, Batch: c.Batch, Interval: c.Interval,
		Migration: c.Moves.Address, Client: c.Moves.Client, Flows: flows,
		Report: func(ctx context.Context, r hypervisor.Report) error {
			return c.Bus.Publish(ctx, bus.Queue, "compute.report."+c.Name, r)
		},
	})
	if err != nil {
		return err
	}
	if c.Moves.Serve != nil {
		c.Moves.Serve(hv.Migrations())
	}
	if err := listen(ctx, c, "compute.host."+c.Name, hv.Handle); err != nil {
		return err
	}
	if err := c.Bus.Serve(ctx, "compute.call."+c.Name, func(ctx context.Context, body []byte) (any, error) {
		var req hypervisor.Call
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, nacre.Errorf(nacre.Invalid, "", "the request could not be read")
		}
		return hv.Call(ctx, req)
	}); err != nil {
		return err
	}
	run(ctx, "compute agent of "+c.Name, hv.Run)
	if c.Dataplane == nil {
		return nil
	}
	dp, err := networkagent.New(networkagent.Config{
		Host: c.Name, Driver: c.Dataplane, Log: c.Log, Batch: c.Batch, Interval: c.Interval,
		Report: func(ctx context.Context, r dataplane.Report) error {
			return c.Bus.Publish(ctx, bus.Queue, "network.report."+c.Name, r)
		},
	})
	if err != nil {
		return err
	}
	if err := listen(ctx, c, "network.host."+c.Name, dp.Handle); err != nil {
		return err
	}
	run(ctx, "network agent of "+c.Name, dp.Run)
	return nil
}

// listen hands the desired state on a host's queue to its agent. A message that
// can't be read is dropped: what it said comes again.
func listen[D any](ctx context.Context, c Config, topic string, take func(context.Context, []D) error) error {
	_, err := c.Bus.Subscribe(ctx, bus.Queue, topic, "", func(ctx context.Context, body []byte) error {
		var ds []D
		err := json.Unmarshal(body, &ds)
		if err == nil {
			err = take(ctx, ds)
		}
		if err != nil {
			c.Log.Warn("desired state not understood", "topic", topic, "error", err)
		}
		return nil
	})
	return err
}
