package bus

import (
	"context"
	"errors"
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
	mu     sync.Mutex
	queues map[string]*queue            // Queue and Reply, by kind and topic
	groups map[string]map[string]*queue // FanOut: topic → group → queue
	closed chan struct{}
	once   sync.Once
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
	tries int
	due   time.Time
}

type queue struct {
	mu    sync.Mutex
	items []item
	// more is closed and replaced when something was added.
	more chan struct{}
	subs int
}

func newQueue() *queue { return &queue{more: make(chan struct{})} }

func (q *queue) push(it item, front bool, depth int) (dropped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if front {
		q.items = append([]item{it}, q.items...)
	} else {
		q.items = append(q.items, it)
	}
	if len(q.items) > depth {
		q.items = q.items[1:]
		dropped = true
	}
	close(q.more)
	q.more = make(chan struct{})
	return dropped
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

// Delete implements Transport.
func (t *Memory) Delete(k Kind, topic string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k == FanOut {
		delete(t.groups, topic)
	} else if q := t.queues[queueKey(k, topic)]; q != nil {
		q.mu.Lock()
		q.items = nil
		idle := q.subs == 0
		q.mu.Unlock()
		if idle {
			delete(t.queues, queueKey(k, topic))
		}
	}
	return nil
}

// Close implements Transport.
func (t *Memory) Close() error {
	t.once.Do(func() { close(t.closed) })
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
	if p.t.isClosed() {
		return errClosed
	}
	p.t.mu.Lock()
	var to []*queue
	switch p.k {
	case FanOut:
		for _, q := range p.t.groups[topic] {
			to = append(to, q)
		}
	case Queue:
		to = append(to, p.t.queue(p.k, topic, true))
	case Reply:
		if q := p.t.queue(p.k, topic, false); q != nil {
			to = append(to, q)
		}
	}
	p.t.mu.Unlock()
	if len(to) == 0 && p.k == Reply {
		p.t.Dropped.Add(int64(len(ms)))
	}
	for _, q := range to {
		for _, m := range ms {
			if q.push(item{m: m.Copy()}, false, p.t.opts.Depth) {
				p.t.Dropped.Add(1)
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
	if t.isClosed() {
		return nil, errClosed
	}
	t.mu.Lock()
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
	q.mu.Lock()
	q.subs++
	q.mu.Unlock()
	t.wg.Add(1)
	t.mu.Unlock()
	out := make(chan *message.Message)
	go func() {
		defer t.wg.Done()
		defer close(out)
		defer func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			q.mu.Lock()
			defer q.mu.Unlock()
			if q.subs--; q.subs == 0 {
				switch s.k {
				case FanOut:
					delete(t.groups[topic], s.group)
				case Reply:
					delete(t.queues, queueKey(s.k, topic))
				}
			}
		}()
		t.consume(ctx, q, out)
	}()
	return out, nil
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
	stop := func() bool {
		q.push(it, true, t.opts.Depth+1)
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
	m := it.m.Copy()
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
		q.push(it, true, t.opts.Depth+1)
		return true
	case <-ctx.Done():
		return stop()
	case <-t.closed:
		return stop()
	}
}
