package compute

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/compute/placement"
)

// freeFor is how long what is free on the hosts is remembered. It is a hint for
// choosing: the claim counts again, under the provider's lock.
const freeFor = 100 * time.Millisecond

// freeHint is what was free a moment ago, with what was claimed here since.
type freeHint struct {
	mu   sync.Mutex
	at   time.Time
	byID map[string]placement.Free
	old  bool // the last get was not fresh
}

// get returns what is free by provider; the map is the caller's.
func (f *freeHint) get(ctx context.Context, p *placement.Service) (map[string]placement.Free, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.old = f.byID != nil && time.Since(f.at) < freeFor
	if !f.old {
		list, err := p.FreeOf(ctx)
		if err != nil {
			return nil, err
		}
		f.at, f.byID = time.Now(), make(map[string]placement.Free, len(list))
		for _, x := range list {
			f.byID[x.Provider.ID] = x
		}
	}
	out := make(map[string]placement.Free, len(f.byID))
	for id, x := range f.byID {
		x.Used = maps.Clone(x.Used)
		out[id] = x
	}
	return out, nil
}

// took notes a claim.
func (f *freeHint) took(provider string, r placement.Resources) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x, ok := f.byID[provider]; ok {
		for class, n := range r {
			x.Used[class] += n
		}
	}
}

// forget has the next get count anew.
func (f *freeHint) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byID = nil
}

// stale reports whether the last get was remembered, and if so forgets it.
func (f *freeHint) stale() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.old {
		f.byID = nil
	}
	return f.old
}
