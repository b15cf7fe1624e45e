package remote

import (
	"context"
	"regexp"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/network"
)

// Events is the edge from network to a compute service: hints about servers' ports go
// to its os-server-external-events, gathered for a moment. A hint that compute can't be
// told in time is dropped, for it looks by itself; so is one that it does not know.
type Events struct {
	c    *Cloud
	wake chan struct{}

	mu      sync.Mutex
	waiting []network.PortEvent
	known   map[network.PortEvent]bool
}

// Events makes the edge; its hints go out while Run runs.
func (c *Cloud) Events() *Events {
	return &Events{c: c, wake: make(chan struct{}, 1), known: map[network.PortEvent]bool{}}
}

const (
	// gather is how long hints are gathered.
	gather = 50 * time.Millisecond
	// mostEvents bounds what waits, and batch what one request carries.
	mostEvents, batch = 10000, 200
	// eventTime is how long compute may take to be told.
	eventTime = 10 * time.Second
)

var uuidLike = regexp.MustCompile(`^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$`)

// Hooks are network's.
func (e *Events) Hooks() network.Hooks { return network.Hooks{PortEvent: e.take} }

func (e *Events) take(_ context.Context, ev network.PortEvent) {
	if !uuidLike.MatchString(ev.DeviceID) {
		return // no server's
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known[ev] || len(e.waiting) >= mostEvents {
		return
	}
	e.known[ev] = true
	e.waiting = append(e.waiting, ev)
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run sends hints until ctx ends.
func (e *Events) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gather):
		}
		e.mu.Lock()
		all := e.waiting
		e.waiting, e.known = nil, map[network.PortEvent]bool{}
		e.mu.Unlock()
		for len(all) > 0 {
			n := min(batch, len(all))
			if err := e.send(nacre.AsService(ctx, "network"), all[:n]); err != nil && ctx.Err() == nil {
				e.c.c.Log.Warn("compute was not told of ports", "events", n, "error", err)
			}
			all = all[n:]
		}
	}
}

func (e *Events) send(ctx context.Context, events []network.PortEvent) error {
	ctx, cancel := context.WithTimeout(ctx, eventTime)
	defer cancel()
	a, err := e.c.as(ctx, "compute", "v2.1")
	if err != nil {
		return err
	}
	list := make([]object, len(events))
	for i, ev := range events {
		list[i] = object{"name": ev.Name, "server_uuid": ev.DeviceID, "tag": ev.PortID, "status": "completed"}
	}
	// Telling it twice does no harm.
	err = a.do(ctx, "POST", "os-server-external-events", object{"events": list}, nil, true)
	if nacre.KindOf(err) == nacre.NotFound {
		return nil // none of the servers is there; older novas say it so
	}
	return err
}

// ComputeHosts are the names of the hosts that a compute service has.
func (c *Cloud) ComputeHosts(ctx context.Context) ([]string, error) {
	a, err := c.as(nacre.AsService(ctx, "network"), "compute", "v2.1")
	if err != nil {
		return nil, err
	}
	list, err := listAll[struct{ Host string }](ctx, a, "services", "os-services?binary=nova-compute")
	if err != nil {
		return nil, err
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s.Host
	}
	return out, nil
}
