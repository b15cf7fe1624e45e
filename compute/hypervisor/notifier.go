package hypervisor

import (
	"context"
	"sync"
)

// Notifier is what a driver needs to keep Watch's promises: any number of
// watchers, none of which can block the notifying side, ids coalesced while a
// reader is slow. The zero value is ready.
type Notifier struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

type watcher struct {
	mu      sync.Mutex
	order   []string
	pending map[string]bool
	wake    chan struct{}
}

// Watch gives a channel of the ids that are notified from now on; it closes when
// ctx ends.
func (n *Notifier) Watch(ctx context.Context) <-chan string {
	w := &watcher{pending: map[string]bool{}, wake: make(chan struct{}, 1)}
	n.mu.Lock()
	if n.watchers == nil {
		n.watchers = map[*watcher]struct{}{}
	}
	n.watchers[w] = struct{}{}
	n.mu.Unlock()
	out := make(chan string)
	go func() {
		defer close(out)
		defer func() {
			n.mu.Lock()
			delete(n.watchers, w)
			n.mu.Unlock()
		}()
		for {
			id, ok := w.next()
			if !ok {
				select {
				case <-w.wake:
					continue
				case <-ctx.Done():
					return
				}
			}
			select {
			case out <- id:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// Notify tells every watcher of an id; it never blocks.
func (n *Notifier) Notify(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w := range n.watchers {
		w.add(id)
	}
}

func (w *watcher) add(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending[id] {
		return
	}
	w.pending[id] = true
	w.order = append(w.order, id)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) next() (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.order) == 0 {
		return "", false
	}
	id := w.order[0]
	w.order = w.order[1:]
	delete(w.pending, id)
	return id, true
}
