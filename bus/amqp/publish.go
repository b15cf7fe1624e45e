package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/nacre-cloud/nacre/bus"
)

// confirmTime is how long a confirmation may take before Publish gives up. The
// message may have arrived all the same.
const confirmTime = 15 * time.Second

// outlet is the channel of a connection that messages go out by.
type outlet struct {
	ch *amqp.Channel
	// slots bounds what is under way, well below the buffer of returns: so the
	// reader of the connection never waits for us.
	slots   chan struct{}
	returns chan amqp.Return

	mu       sync.Mutex
	returned map[string]bool // ids of messages that no queue took
}

// outlet is the one of the connection that stands.
func (t *Transport) outlet() (*outlet, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	conn, err := t.connect()
	if err != nil {
		return nil, err
	}
	if t.out != nil && !t.out.ch.IsClosed() {
		return t.out, nil
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, errors.Join(err, ch.Close())
	}
	t.out = &outlet{ch: ch, slots: make(chan struct{}, inFlight), returns: ch.NotifyReturn(make(chan amqp.Return, 2*inFlight)), returned: map[string]bool{}}
	return t.out, nil
}

// abandon gives up a connection whose broker has fallen silent on it.
func (t *Transport) abandon(o *outlet) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == o && t.conn != nil {
		_ = t.conn.CloseDeadline(time.Now().Add(time.Second))
		t.conn, t.out = nil, nil
	}
}

// wasReturned says, after its confirmation, whether a message found no queue. The
// broker returns a message before it confirms it.
func (o *outlet) wasReturned(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		select {
		case r, ok := <-o.returns:
			if ok {
				o.returned[r.MessageId] = true
				continue
			}
		default:
		}
		was := o.returned[id]
		delete(o.returned, id)
		return was
	}
}

type publisher struct {
	t *Transport
	k bus.Kind
}

// Close implements message.Publisher; the transport owns what there is.
func (p publisher) Close() error { return nil }

// Publish sends messages one after another, each confirmed before the next.
func (p publisher) Publish(topic string, ms ...*message.Message) error {
	for _, m := range ms {
		if err := p.publish(topic, m); err != nil {
			return fmt.Errorf("amqp: publish to %s: %w", topic, err)
		}
	}
	return nil
}

func (p publisher) publish(topic string, m *message.Message) error {
	t := p.t
	headers := amqp.Table{}
	for k, v := range m.Metadata {
		headers[k] = v
	}
	msg := amqp.Publishing{MessageId: m.UUID, Headers: headers, Body: m.Payload, ContentType: "application/json", Timestamp: time.Now()}
	if p.k == bus.FanOut || p.k == bus.Queue && !t.o.Light(topic) {
		msg.DeliveryMode = amqp.Persistent
	}
	for try := 0; ; try++ {
		o, err := t.outlet()
		if err != nil {
			return err
		}
		returned, err := o.send(t.ctx, t.exchange(p.k), topic, p.k == bus.Queue, msg)
		if errors.Is(err, context.DeadlineExceeded) {
			t.abandon(o) // a broker that starts may leave a channel without an answer for ever
		}
		if err != nil || !returned {
			return err
		}
		if try > 2 {
			return errors.New("no queue takes the message")
		}
		// The queue is made by whoever comes first, be it the sender.
		conn, err := t.connection()
		if err == nil {
			err = onChannel(conn, func(ch *amqp.Channel) error { _, err := t.declare(ch, p.k, topic, ""); return err })
		}
		if err != nil {
			return err
		}
	}
}

// send sends one message and waits for the broker's word.
func (o *outlet) send(ctx context.Context, exchange, key string, mandatory bool, msg amqp.Publishing) (returned bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	c, err := o.ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, mandatory, false, msg)
	if err != nil {
		return false, err
	}
	ok, err := c.WaitContext(ctx)
	switch {
	case err != nil:
		return false, err
	case !ok:
		return false, errors.New("the broker did not take the message, or the connection was lost")
	}
	return mandatory && o.wasReturned(msg.MessageId), nil
}
