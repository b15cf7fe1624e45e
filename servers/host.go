package servers

import (
	"context"
	"io"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/servers/host"
)

// startHost runs a host's agents in this process.
func (cl *Cloud) startHost(ctx context.Context, h Host) error {
	return host.Start(ctx, host.Config{Name: h.Name, Bus: cl.Bus, Hypervisor: h.Hypervisor, Dataplane: h.Dataplane, Images: hostImages{cl.Compute, h.Name},
		AgentDir: h.AgentDir, Log: cl.log, Moves: cl.moves.Of(h.Name), Batch: cl.c.ReportDelay, Interval: cl.c.ReportInterval}, cl.run)
}

// hostImages hands a host the bytes of images that its servers boot from.
type hostImages struct {
	svc  *compute.Service
	host string
}

func (h hostImages) Open(ctx context.Context, serverID, imageID string) (io.ReadCloser, hypervisor.Image, error) {
	return h.svc.HostImage(ctx, h.host, serverID, imageID)
}
