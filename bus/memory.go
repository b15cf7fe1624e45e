package bus

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// MemoryOptions are the bounds of the in-process transport; zero values work.
type MemoryOptions struct {
	// Depth is how many messages a queue or group holds; the oldest goes when it
	// is full. 0 means 65,536.
	Depth int
	// FirstWait and MaxWait bound the wait before a refused message comes again.
	// 0 means 10 ms and 5 s.
	FirstWait, MaxWait time.Duration
	// MaxTries is how often a message is delivered before it is put aside. 0 means 20.
	MaxTries int
}

// Memory is the transport inside one process: ordered, with competing
// consumers, acknowledgement, back-off and a dead list that is counted.
type Memory struct {
	opts   MemoryOptions
	mu     sync.Mutex                   // taken before a queue's own
	queues map[string]*queue            // Queue and Reply, by kind and topic
	groups map[string]map[string]*queue // FanOut: topic → group → queue
	closed chan struct{}
	wg     sync.WaitGroup

	// Dropped counts messages that went because a queue was full, or nobody
	// listened; Dead those that were refused too often.
	Dropped, Dead atomic.Int64
}

// NewMemory makes an in-process transport.
func NewMemory(o MemoryOptions) *Memory {
	if o.Depth == 0 {
		o.Depth = 1 << 16
	}
	if o.FirstWait == 0 {
		o.FirstWait = 10 * time.Millisecond
	}
	if o.MaxWait == 0 {
		o.MaxWait = 5 * time.Second
	}
	if o.MaxTries == 0 {
		o.MaxTries = 20
	}
	return &Memory{opts: o, queues: map[string]*queue{}, groups: map[string]map[string]*queue{}, closed: make(chan struct{})}
}

type item struct {
	m     *message.Message
	seq   uint64 // order of publishing; given by push
	tries int
	due   time.Time
}

type queue struct {
	mu    sync.Mutex
	items []item
	seq   uint64
	// more is closed and replaced when something was added.
	more chan struct{}
	subs int // guarded by Memory.mu
}

func newQueue() *queue { return &queue{more: make(chan struct{})} }

// push adds a new message at the end.
func (q *queue) push(m *message.Message, depth int) (dropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seq++
	q.items = append(q.items, item{m: m, seq: q.seq})
	if len(q.items) > depth {
		q.items[0] = item{}
		q.items = q.items[1:]
		dropped = true
	}
	q.wake()
	return dropped
}

// putBack returns a message to its place, so that order survives several
// consumers that give theirs back at once.
func (q *queue) putBack(it item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i, _ := slices.BinarySearchFunc(q.items, it.seq, func(x item, seq uint64) int { return cmp.Compare(x.seq, seq) })
	q.items = slices.Insert(q.items, i, it)
	q.wake()
}

func (q *queue) wake() {
	close(q.more)
	q.more = make(chan struct{})
}

// pop takes the first item, or says what to wait for.
func (q *queue) pop() (it item, ok bool, more <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return item{}, false, q.more
	}
	it = q.items[0]
	q.items[0] = item{}
	q.items = q.items[1:]
	return it, true, nil
}

var errClosed = errors.New("bus: closed")

func (t *Memory) isClosed() bool {
	select {
	case <-t.closed:
		return true
	default:
		return false
	}
}

// Publisher implements Transport.
func (t *Memory) Publisher(k Kind) (message.Publisher, error) { return memPublisher{t, k}, nil }

// Subscriber implements Transport.
func (t *Memory) Subscriber(k Kind, group string) (message.Subscriber, error) {
	return memSubscriber{t, k, group}, nil
}

// Delete implements Transport. Consumers that are there stay subscribed; they
// get what is published afterwards.
func (t *Memory) Delete(k Kind, topic string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	empty := func(q *queue) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.items = nil
	}
	if k == FanOut {
		for _, q := range t.groups[topic] {
			empty(q)
		}
		return nil
	}
	key := queueKey(k, topic)
	if q := t.queues[key]; q != nil {
		empty(q)
		if q.subs == 0 {
			delete(t.queues, key)
		}
	}
	return nil
}

// Close implements Transport. It returns when every consumer has ended.
func (t *Memory) Close() error {
	t.mu.Lock()
	if !t.isClosed() {
		close(t.closed)
	}
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

func queueKey(k Kind, topic string) string { return string('0'+rune(k)) + topic }

func (t *Memory) queue(k Kind, topic string, create bool) *queue {
	key := queueKey(k, topic)
	q := t.queues[key]
	if q == nil && create {
		q = newQueue()
		t.queues[key] = q
	}
	return q
}

type memPublisher struct {
	t *Memory
	k Kind
}

// Publish copies each message, so that consumers never share one.
func (p memPublisher) Publish(topic string, ms ...*message.Message) error {
	t := p.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isClosed() {
		return errClosed
	}
	var to []*queue
	switch p.k {
	case FanOut:
		for _, q := range t.groups[topic] {
			to = append(to, q)
		}
	default:
		if q := t.queue(p.k, topic, p.k == Queue); q != nil {
			to = append(to, q)
		}
	}
	if len(to) == 0 {
		t.Dropped.Add(int64(len(ms)))
	}
	for _, q := range to {
		for _, m := range ms {
			if q.push(m.Copy(), t.opts.Depth) {
				t.Dropped.Add(1)
			}
		}
	}
	return nil
}

func (p memPublisher) Close() error { return nil }

type memSubscriber struct {
	t     *Memory
	k     Kind
	group string
}

func (s memSubscriber) Close() error { return nil }

func (s memSubscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isClosed() {
		return nil, errClosed
	}
	var q *queue
	if s.k == FanOut {
		if t.groups[topic] == nil {
			t.groups[topic] = map[string]*queue{}
		}
		if q = t.groups[topic][s.group]; q == nil {
			q = newQueue()
			t.groups[topic][s.group] = q
		}
	} else {
		q = t.queue(s.k, topic, true)
	}
	q.subs++
	out := make(chan *message.Message)
	t.wg.Go(func() {
		defer close(out)
		defer s.leave(topic, q)
		t.consume(ctx, q, out)
	})
	return out, nil
}

// leave forgets a queue that nobody consumes and that need not be kept.
func (s memSubscriber) leave(topic string, q *queue) {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.subs--; q.subs > 0 {
		return
	}
	q.mu.Lock()
	left := len(q.items)
	q.mu.Unlock()
	switch {
	case s.k == FanOut:
		delete(t.groups[topic], s.group)
		if len(t.groups[topic]) == 0 {
			delete(t.groups, topic)
		}
	case s.k == Reply || left == 0:
		delete(t.queues, queueKey(s.k, topic))
	}
}

func (t *Memory) consume(ctx context.Context, q *queue, out chan<- *message.Message) {
	for {
		it, ok, more := q.pop()
		if !ok {
			select {
			case <-more:
				continue
			case <-ctx.Done():
				return
			case <-t.closed:
				return
			}
		}
		if !t.deliver(ctx, q, it, out) {
			return
		}
	}
}

// deliver hands one message out until it is acknowledged; false ends the consumer.
func (t *Memory) deliver(ctx context.Context, q *queue, it item, out chan<- *message.Message) bool {
	var m *message.Message
	stop := func() bool {
		if m != nil {
			select {
			case <-m.Acked():
				return false
			default:
			}
		}
		q.putBack(it)
		return false
	}
	if wait := time.Until(it.due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return stop()
		case <-t.closed:
			return stop()
		}
	}
	mctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m = it.m.Copy()
	m.SetContext(mctx)
	select {
	case out <- m:
	case <-ctx.Done():
		return stop()
	case <-t.closed:
		return stop()
	}
	select {
	case <-m.Acked():
		return true
	case <-m.Nacked():
		it.tries++
		if it.tries >= t.opts.MaxTries {
			t.Dead.Add(1)
			return true
		}
		wait := t.opts.FirstWait << min(it.tries-1, 16)
		it.due = time.Now().Add(min(wait, t.opts.MaxWait))
		q.putBack(it)
		return true
	case <-ctx.Done():
		return stop()
	case <-t.closed:
		return stop()
	}
}
