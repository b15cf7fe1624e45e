package servers

import (
	"context"
	"encoding/json"
	"io"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/compute"
	computeagent "github.com/nacre-cloud/nacre/compute/agent"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	networkagent "github.com/nacre-cloud/nacre/network/agent"
	"github.com/nacre-cloud/nacre/network/dataplane"
)

// startHost runs a host's agents: desired state comes to them over the bus, their
// reports go back over it.
func (cl *Cloud) startHost(ctx context.Context, h Host) error {
	hv, err := computeagent.New(computeagent.Config{
		Host: h.Name, Driver: h.Hypervisor, Images: hostImages{cl.Compute, h.Name}, Dir: h.AgentDir, Log: cl.log,
		Batch: cl.c.ReportDelay, Interval: cl.c.ReportInterval,
		Report: func(ctx context.Context, r hypervisor.Report) error {
			return cl.Bus.Publish(ctx, bus.Queue, "compute.report."+h.Name, r)
		},
	})
	if err != nil {
		return err
	}
	if err := listen(ctx, cl, "compute.host."+h.Name, hv.Handle); err != nil {
		return err
	}
	if err := cl.Bus.Serve(ctx, "compute.call."+h.Name, func(ctx context.Context, body []byte) (any, error) {
		var req hypervisor.ConsoleRequest
		if err := json.Unmarshal(body, &req); err != nil {
			return nil, nacre.Errorf(nacre.Invalid, "", "the request could not be read")
		}
		return hv.Console(ctx, req)
	}); err != nil {
		return err
	}
	cl.run(ctx, "compute agent of "+h.Name, hv.Run)
	if h.Dataplane == nil {
		return nil
	}
	dp, err := networkagent.New(networkagent.Config{
		Host: h.Name, Driver: h.Dataplane, Log: cl.log, Batch: cl.c.ReportDelay, Interval: cl.c.ReportInterval,
		Report: func(ctx context.Context, r dataplane.Report) error {
			return cl.Bus.Publish(ctx, bus.Queue, "network.report."+h.Name, r)
		},
	})
	if err != nil {
		return err
	}
	if err := listen(ctx, cl, "network.host."+h.Name, dp.Handle); err != nil {
		return err
	}
	cl.run(ctx, "network agent of "+h.Name, dp.Run)
	return nil
}

// listen hands the desired state on a host's queue to its agent. A message that
// can't be read is dropped: what it said comes again.
func listen[D any](ctx context.Context, cl *Cloud, topic string, take func(context.Context, []D) error) error {
	_, err := cl.Bus.Subscribe(ctx, bus.Queue, topic, "", func(ctx context.Context, body []byte) error {
		var ds []D
		err := json.Unmarshal(body, &ds)
		if err == nil {
			err = take(ctx, ds)
		}
		if err != nil {
			cl.log.Warn("desired state not understood", "topic", topic, "error", err)
		}
		return nil
	})
	return err
}

// hostImages hands a host the bytes of images that its servers boot from.
type hostImages struct {
	svc  *compute.Service
	host string
}

func (h hostImages) Open(ctx context.Context, serverID, imageID string) (io.ReadCloser, hypervisor.Image, error) {
	return h.svc.HostImage(ctx, h.host, serverID, imageID)
}
