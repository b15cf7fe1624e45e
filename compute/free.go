package compute

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/compute/scheduler"
	"github.com/nacre-cloud/nacre/store"
)

// The hosts, and what is free on them, are remembered for freeFor, or, where there are
// so many that reading them is work, for freeShare times as long as that took, up to
// freeMost. It is a hint for choosing: the claim counts again, under the provider's
// lock, and a refusal is never by what is remembered.
const (
	freeFor   = 100 * time.Millisecond
	freeShare = 10
	freeMost  = time.Second
)

// freeHint is what was free a moment ago, with what was claimed here since. What get
// gives is not changed afterwards.
type freeHint struct {
	mu    sync.Mutex
	until time.Time
	hosts map[string]Host
	list  []*scheduler.Host // by name
	old   bool              // the last get was not fresh
}

// get returns the hosts, by name and as the scheduler sees them.
func (f *freeHint) get(ctx context.Context, s *Service) (map[string]Host, []*scheduler.Host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	begun := time.Now()
	if f.old = f.list != nil && begun.Before(f.until); f.old {
		return f.hosts, f.list, nil
	}
	rows, err := s.hosts.Select(ctx, store.Select{Order: []store.Order{{Column: "name"}}})
	if err != nil {
		return nil, nil, err
	}
	free, err := s.c.Placement.FreeOf(ctx)
	if err != nil {
		return nil, nil, err
	}
	byID := make(map[string]placement.Free, len(free))
	for _, x := range free {
		byID[x.Provider.ID] = x
	}
	f.hosts, f.list = make(map[string]Host, len(rows)), make([]*scheduler.Host, len(rows))
	for i, h := range rows {
		f.hosts[h.Name] = h
		f.list[i] = &scheduler.Host{Name: h.Name, Zone: h.Zone, Up: s.Up(h), Disabled: h.Disabled, Arch: h.Info.Arch, Type: h.Info.Type, Moves: h.Info.Migration != "", Free: byID[h.ID]}
	}
	now := time.Now()
	f.until = now.Add(min(max(freeFor, freeShare*now.Sub(begun)), freeMost))
	return f.hosts, f.list, nil
}

// took notes a claim, or one that is about to be made: so others that choose meanwhile
// choose other hosts, where hosts are equal.
func (f *freeHint) took(host string, r placement.Resources) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := slices.BinarySearchFunc(f.list, host, func(h *scheduler.Host, name string) int { return strings.Compare(h.Name, name) })
	if !ok || f.list[i].Free.Used == nil {
		return
	}
	f.list = slices.Clone(f.list)
	h := *f.list[i]
	h.Free.Used = maps.Clone(h.Free.Used)
	for class, n := range r {
		h.Free.Used[class] += n
	}
	f.list[i] = &h
}

// forget has the next get read anew.
func (f *freeHint) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

// stale reports whether the last get was remembered, and if so forgets it.
func (f *freeHint) stale() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.old {
		f.list = nil
	}
	return f.old
}
