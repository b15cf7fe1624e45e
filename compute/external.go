package compute

import (
	"context"

	"github.com/nacre-cloud/nacre/store"
)

// ExternalEvent is what another service says of a server (nova's
// os-server-external-events).
type ExternalEvent struct {
	// Name is "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted",
	// "network-changed", or one that means nothing here.
	Name, ServerID string
}

// What becomes of an [ExternalEvent]: HTTP's numbers, as nova shows them.
const (
	EventTaken    = 200
	eventNoServer = 404
	// eventNoHost: the server is on no host yet.
	eventNoHost = 422
)

// ExternalEvents takes what another service says of servers, and answers for each what
// became of it. The effects follow: an error in them is not the sender's.
func (s *Service) ExternalEvents(ctx context.Context, events []ExternalEvent) ([]int, error) {
	if err := s.enforce(ctx, "os_compute_api:os-server-external-events:create", nil); err != nil {
		return nil, err
	}
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ServerID
	}
	found, err := s.servers.Where(ctx, store.In("id", ids), store.Eq("deleted", false))
	if err != nil {
		return nil, err
	}
	hosts := map[string]string{}
	for i := range found {
		hosts[found[i].ID] = found[i].Host
	}
	codes := make([]int, len(events))
	for i, e := range events {
		host, ok := hosts[e.ServerID]
		switch {
		case !ok:
			codes[i] = eventNoServer
		case host == "":
			codes[i] = eventNoHost
		default:
			codes[i] = EventTaken
			if err := s.TakeEvent(ctx, e); err != nil {
				s.log.WarnContext(ctx, "an event of another service had no effect", "event", e.Name, "server", e.ServerID, "error", err)
			}
		}
	}
	return codes, nil
}

// TakeEvent does what an event asks: it wakes who waits for a port, or refreshes what
// the server shows of its ports. Events are hints, and may come late, twice or never.
func (s *Service) TakeEvent(ctx context.Context, e ExternalEvent) error {
	switch e.Name {
	case "network-vif-plugged", "network-vif-unplugged":
		return s.PortWired(ctx, e.ServerID)
	case "network-vif-deleted", "network-changed":
		return s.PortsChanged(ctx, e.ServerID)
	}
	return nil
}
