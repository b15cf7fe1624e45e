// Package roster keeps each process of an area listening to all of the area's hosts, also
// to those that another process was told of.
//
//	r := roster.New(hosts, func(h *Host) string { return h.Name }, listen, log)
//	err := r.Look(ctx) // those that there are
//	go r.Run(ctx)      // and those that come
package roster

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// every is how soon a host is heard that another process was told of.
const every = time.Second

// Roster follows a table of hosts.
type Roster[H any] struct {
	hosts  *store.Table[H]
	name   func(*H) string
	listen func(name string) error
	log    *slog.Logger
	seen   string
}

// New makes one. The table has a column created_at; listen may be called again for a
// host.
func New[H any](hosts *store.Table[H], name func(*H) string, listen func(name string) error, log *slog.Logger) *Roster[H] {
	return &Roster[H]{hosts: hosts, name: name, listen: listen, log: log}
}

// Look listens to the hosts that there are. One cheap statement says whether any came or
// went since it looked last.
func (r *Roster[H]) Look(ctx context.Context) error {
	g, err := r.hosts.Aggregate(ctx, store.Aggregate{Max: "created_at"})
	if err != nil {
		return err
	}
	now := fmt.Sprint(g[0].Count, g[0].Max)
	if now == r.seen {
		return nil
	}
	hosts, err := r.hosts.Where(ctx)
	if err != nil {
		return err
	}
	for i := range hosts {
		if err := r.listen(r.name(&hosts[i])); err != nil {
			return err
		}
	}
	r.seen = now
	return nil
}

// Run looks again and again until ctx ends.
func (r *Roster[H]) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.Look(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("it is not known which hosts there are", "error", err)
		}
	}
}
