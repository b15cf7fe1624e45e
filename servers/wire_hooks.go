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
	hint := func(what string, f func(ctx context.Context, server string) error) func(context.Context, string) {
		return func(ctx context.Context, server string) {
			err := store.Outside(ctx)
			if err == nil {
				err = f(ctx, server)
			}
			if err != nil && ctx.Err() == nil {
				log.Warn("a hint to compute failed", "hint", what, "server", server, "error", err)
			}
		}
	}
	return network.Hooks{PortWired: hint("port wired", svc.PortWired), PortsChanged: hint("ports changed", svc.PortsChanged)}
}
