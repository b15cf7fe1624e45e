package bustest

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/nacre-cloud/nacre/bus"
)

// Options say how a [Faulty] transport misbehaves. Each message meets its fate
// when it is published: it is dropped, or it is doubled, held back, delayed in any
// combination.
type Options struct {
	// Drop is the share of messages that are lost: 0.9 for nine of ten.
	Drop float64
	// Double is the share that arrives twice; the copy has a fate of its own but
	// is not doubled or dropped.
	Double float64
	// Reorder is the share that is overtaken by what is published next. One that
	// nothing overtakes goes out after 20 ms.
	Reorder float64
	// Delay is the longest time by which a message is late; each has a random
	// one, so that messages also overtake each other. 0: none.
	Delay time.Duration
	// Seed makes the same fates for the same sequence of messages.
	Seed uint64
}

// Counts says what a faulty transport did.
type Counts struct{ Published, Dropped, Doubled, Reordered, Delayed int64 }

// FaultyTransport is what Faulty returns.
type FaultyTransport struct {
	bus.Transport
	o Options

	mu     sync.Mutex
	rnd    *rand.Rand
	closed bool
	late   map[*lateMessage]struct{}
	wg     sync.WaitGroup // late messages on their way

	published, dropped, doubled, reordered, delayed atomic.Int64
}

type lateMessage struct {
	timer *time.Timer
	send  func()
	// next is set while the message waits to be overtaken on its topic.
	topic    string
	kind     bus.Kind
	overtake bool
}

// holdBack bounds the wait of a reordered message for one that overtakes it.
const holdBack = 20 * time.Millisecond

// Faulty wraps a transport so that messages of every kind are lost, doubled, out
// of order or late. Subscribing, acknowledging and deleting work as they do.
func Faulty(t bus.Transport, o Options) *FaultyTransport {
	return &FaultyTransport{Transport: t, o: o, rnd: rand.New(rand.NewPCG(o.Seed, 0x6e61637265)), late: map[*lateMessage]struct{}{}}
}

// Counts is what has happened so far.
func (f *FaultyTransport) Counts() Counts {
	return Counts{f.published.Load(), f.dropped.Load(), f.doubled.Load(), f.reordered.Load(), f.delayed.Load()}
}

// Publisher implements bus.Transport.
func (f *FaultyTransport) Publisher(k bus.Kind) (message.Publisher, error) {
	p, err := f.Transport.Publisher(k)
	if err != nil {
		return nil, err
	}
	return &faultyPublisher{f, k, p}, nil
}

// Close implements bus.Transport. What is late by then is lost.
func (f *FaultyTransport) Close() error {
	f.mu.Lock()
	f.closed = true
	for l := range f.late {
		f.forget(l)
	}
	f.mu.Unlock()
	f.wg.Wait()
	return f.Transport.Close()
}

// forget takes a late message out; true when it is the caller's to send. Under mu.
func (f *FaultyTransport) forget(l *lateMessage) bool {
	if _, ok := f.late[l]; !ok {
		return false
	}
	delete(f.late, l)
	if l.timer.Stop() {
		f.wg.Done()
	}
	return true
}

type faultyPublisher struct {
	f *FaultyTransport
	k bus.Kind
	p message.Publisher
}

func (p *faultyPublisher) Close() error { return p.p.Close() }

var errClosed = errors.New("bustest: closed")

func (p *faultyPublisher) Publish(topic string, ms ...*message.Message) error {
	for _, m := range ms {
		if err := p.publish(topic, m); err != nil {
			return err
		}
	}
	return nil
}

func (p *faultyPublisher) publish(topic string, m *message.Message) error {
	f := p.f
	f.published.Add(1)
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return errClosed
	}
	if f.rnd.Float64() < f.o.Drop {
		f.mu.Unlock()
		f.dropped.Add(1)
		return nil
	}
	copies := 1
	if f.rnd.Float64() < f.o.Double {
		copies = 2
		f.doubled.Add(1)
	}
	// Those that wait on this topic are overtaken by this one.
	var overtaken []func()
	for l := range f.late {
		if l.overtake && l.topic == topic && l.kind == p.k && f.forget(l) {
			overtaken = append(overtaken, l.send)
		}
	}
	var now []*message.Message
	for range copies {
		c := m.Copy()
		switch {
		case f.rnd.Float64() < f.o.Reorder:
			f.reordered.Add(1)
			p.postpone(topic, c, holdBack, true)
		case f.o.Delay > 0:
			f.delayed.Add(1)
			p.postpone(topic, c, time.Duration(f.rnd.Int64N(int64(f.o.Delay))+1), false)
		default:
			now = append(now, c)
		}
	}
	f.mu.Unlock()
	var err error
	for _, c := range now {
		err = errors.Join(err, p.p.Publish(topic, c))
	}
	for _, send := range overtaken {
		send()
	}
	return err
}

// postpone sends a message later; under mu.
func (p *faultyPublisher) postpone(topic string, m *message.Message, d time.Duration, overtake bool) {
	f := p.f
	l := &lateMessage{topic: topic, kind: p.k, overtake: overtake, send: func() { _ = p.p.Publish(topic, m) }}
	f.late[l] = struct{}{}
	f.wg.Add(1)
	l.timer = time.AfterFunc(d, func() {
		defer f.wg.Done()
		f.mu.Lock()
		_, mine := f.late[l]
		delete(f.late, l)
		f.mu.Unlock()
		if mine {
			l.send()
		}
	})
}
