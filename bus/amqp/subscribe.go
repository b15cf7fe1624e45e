package amqp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/internal/broker"
)

type subscriber struct {
	t     *Transport
	k     bus.Kind
	group string
}

// Close implements message.Subscriber; subscriptions end with their context.
func (s subscriber) Close() error { return nil }

// Subscribe returns once the queue is there and consumed.
func (s subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	t := s.t
	t.mu.Lock()
	if t.ctx.Err() != nil || t.closed {
		t.mu.Unlock()
		return nil, errClosed
	}
	t.wg.Add(1)
	t.mu.Unlock()
	in, err := s.open(topic)
	if err != nil {
		t.wg.Done()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	out := make(chan *message.Message)
	go func() {
		defer t.wg.Done()
		defer close(out)
		defer cancel()
		defer stop()
		s.run(ctx, topic, in, out)
	}()
	return out, nil
}

// intake is a standing subscription.
type intake struct {
	ch         *amqp.Channel
	queue      string
	deliveries <-chan amqp.Delivery
}

func (s subscriber) open(topic string) (*intake, error) {
	conn, err := s.t.connection()
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	in := &intake{ch: ch}
	if in.queue, err = s.t.declare(ch, s.k, topic, s.group); err == nil {
		if err = ch.Qos(1, 0, false); err == nil { // one at a time: a refused message holds its place
			in.deliveries, err = ch.Consume(in.queue, "", false, false, false, false, nil)
		}
	}
	if err != nil {
		if !ch.IsClosed() {
			_ = ch.Close()
		}
		return nil, fmt.Errorf("amqp: subscribe to %s: %w", topic, err)
	}
	return in, nil
}

// run hands out messages until ctx ends, and opens again what was lost.
func (s subscriber) run(ctx context.Context, topic string, in *intake, out chan<- *message.Message) {
	for tries := 0; ; {
		if in != nil {
			tries = 0
			if s.consume(ctx, in, out) {
				s.leave(in)
				return
			}
		}
		if !s.t.retry(ctx, tries) {
			return
		}
		tries++
		var err error
		if in, err = s.open(topic); err != nil {
			in = nil
			if lost := (*lostError)(nil); errors.As(err, &lost) {
				continue
			}
			s.t.o.Log.Warn("subscription lost; trying again", "topic", topic, "error", err)
		}
	}
}

// leave ends a subscription. What was not acknowledged goes back to its place when
// the channel closes.
func (s subscriber) leave(in *intake) {
	if in.ch.IsClosed() {
		return
	}
	if s.k == bus.Reply {
		// At once, rather than when the broker gets to it: whoever subscribes next
		// must not find what was meant for this one.
		_, _ = in.ch.QueueDelete(in.queue, false, false, false)
	}
	_ = in.ch.Close()
}

// consume hands out messages until ctx ends (true) or the channel is lost.
func (s subscriber) consume(ctx context.Context, in *intake, out chan<- *message.Message) bool {
	for {
		select {
		case <-ctx.Done():
			return true
		case d, ok := <-in.deliveries:
			if !ok {
				return ctx.Err() != nil
			}
			if !s.deliver(ctx, &d, out) {
				return true
			}
		}
	}
}

// deliver hands out one message until it is acknowledged or set aside; false says
// that ctx has ended.
func (s subscriber) deliver(ctx context.Context, d *amqp.Delivery, out chan<- *message.Message) bool {
	for tries := 1; ; tries++ {
		acked, ended := s.hand(ctx, d, out)
		switch {
		case ended:
			return false
		case acked:
			_ = d.Ack(false) // lost with the connection, it comes again
			return true
		case tries >= s.t.o.MaxTries:
			s.t.o.Log.Warn("message set aside: it was refused too often", "queue", s.t.dead(), "topic", d.RoutingKey, "id", d.MessageId)
			_ = d.Reject(false)
			return true
		}
		if !broker.Wait(ctx, min(s.t.o.FirstWait<<min(tries-1, 16), s.t.o.MaxWait)) {
			return false
		}
	}
}

// hand hands out one message once.
func (s subscriber) hand(ctx context.Context, d *amqp.Delivery, out chan<- *message.Message) (acked, ended bool) {
	mctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := message.NewMessage(d.MessageId, d.Body)
	for k, v := range d.Headers {
		// The broker adds headers of its own (x-delivery-count, x-death), which are
		// no text.
		if text, ok := v.(string); ok && !strings.HasPrefix(k, "x-") {
			m.Metadata.Set(k, text)
		}
	}
	m.SetContext(mctx)
	select {
	case out <- m:
	case <-ctx.Done():
		return false, true
	}
	select {
	case <-m.Acked():
		return true, false
	case <-m.Nacked():
		return false, false
	case <-ctx.Done():
		select {
		case <-m.Acked():
			return true, false
		default:
			return false, true
		}
	}
}
