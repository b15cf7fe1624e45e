package objects

import (
	"context"
	"sync"
)

// Hub tells watchers the ids of ports whose status changed. A slow watcher gets
// an id once, however often it changed meanwhile.
type Hub struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
	closed   chan struct{}
	once     sync.Once
}

type watcher struct {
	pending map[string]struct{}
	order   []string
	wake    chan struct{}
}

// NewHub makes a hub without watchers.
func NewHub() *Hub {
	return &Hub{watchers: map[*watcher]struct{}{}, closed: make(chan struct{})}
}

// Watch sends changed ids until ctx or the hub ends; then the channel closes.
func (h *Hub) Watch(ctx context.Context) <-chan string {
	w := &watcher{pending: map[string]struct{}{}, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	h.watchers[w] = struct{}{}
	h.mu.Unlock()
	out := make(chan string)
	go func() {
		defer close(out)
		defer func() {
			h.mu.Lock()
			delete(h.watchers, w)
			h.mu.Unlock()
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case <-h.closed:
				return
			case <-w.wake:
			}
			for {
				id, ok := h.next(w)
				if !ok {
					break
				}
				select {
				case out <- id:
				case <-ctx.Done():
					return
				case <-h.closed:
					return
				}
			}
		}
	}()
	return out
}

func (h *Hub) next(w *watcher) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(w.order) == 0 {
		return "", false
	}
	id := w.order[0]
	w.order = w.order[1:]
	delete(w.pending, id)
	return id, true
}

// Notify tells every watcher of id. It never blocks.
func (h *Hub) Notify(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if _, ok := w.pending[id]; ok {
			continue
		}
		w.pending[id] = struct{}{}
		w.order = append(w.order, id)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// Close ends every watch.
func (h *Hub) Close() { h.once.Do(func() { close(h.closed) }) }
