package memstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// lockTable holds the row, unique-key and named locks of the READ COMMITTED
// mode. A lock is held until its transaction ends.
type lockTable struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	name  string
	owner *tx
	queue []*waiter
}

type waiter struct {
	x     *tx
	ready chan struct{}
}

// take waits for the lock. Of transactions that wait for each other in a ring
// the one that closes it gets ErrRaced.
func (l *lockTable) take(ctx context.Context, x *tx, name string, patience time.Duration) error {
	l.mu.Lock()
	k := l.held[name]
	if k == nil {
		k = &lock{name: name, owner: x}
		l.held[name] = k
		x.locks = append(x.locks, k)
	}
	if k.owner == x {
		l.mu.Unlock()
		return nil
	}
	for o := k.owner; o.waits != nil; {
		if o = o.waits.owner; o == x {
			l.mu.Unlock()
			return store.ErrRaced
		}
	}
	w := &waiter{x: x, ready: make(chan struct{})}
	k.queue, x.waits = append(k.queue, w), k
	l.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	var err error
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.owner == x { // it came just now
		return nil
	}
	k.queue = slices.DeleteFunc(k.queue, func(o *waiter) bool { return o == w })
	x.waits = nil
	if err == nil {
		err = busy(patience, k.owner)
	}
	return err
}

// try takes the lock if nobody else has it.
func (l *lockTable) try(x *tx, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.held[name]
	if k == nil {
		k = &lock{name: name, owner: x}
		l.held[name] = k
		x.locks = append(x.locks, k)
	}
	return k.owner == x
}

// release hands all that x holds to those who wait longest.
func (l *lockTable) release(x *tx) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range x.locks {
		if len(k.queue) == 0 {
			delete(l.held, k.name)
			continue
		}
		w := k.queue[0]
		k.queue, k.owner = k.queue[1:], w.x
		w.x.waits = nil
		w.x.locks = append(w.x.locks, k)
		close(w.ready)
	}
	x.locks = nil
}

// busy is the error of a wait that lasted too long.
func busy(waited time.Duration, holder *tx) error {
	if holder == nil {
		return store.Busy(waited, "a single statement")
	}
	return store.Busy(waited, "the transaction begun at "+holder.Site.String())
}
