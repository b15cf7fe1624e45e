package servers

import (
	"context"
	"log/slog"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/network"
	"github.com/nacre-cloud/nacre/store"
)

// computeHooks is the edge from network to compute: hints that ports changed. A
// hint that fails is logged; compute looks by itself, only later.
func computeHooks(svc *compute.Service, log *slog.Logger) network.Hooks {
	return network.Hooks{PortEvent: func(ctx context.Context, e network.PortEvent) {
		err := store.Outside(ctx)
		if err == nil {
			err = svc.TakeEvent(ctx, compute.ExternalEvent{Name: e.Name, ServerID: e.DeviceID})
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("a hint to compute failed", "event", e.Name, "server", e.DeviceID, "error", err)
		}
	}}
}
