package nats

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/nacre-cloud/nacre/bus"
)

// The headers of a message. Metadata is JSON, since a header is one line.
const (
	headerID    = "Nacre-Id"
	headerTopic = "Nacre-Topic"
	headerMeta  = "Nacre-Meta"
)

type publisher struct {
	t *Transport
	k bus.Kind
}

// Close implements message.Publisher; the transport owns what there is.
func (p publisher) Close() error { return nil }

// Publish sends messages one after another, each confirmed before the next (but
// for a Reply, which nobody confirms).
func (p publisher) Publish(topic string, ms ...*message.Message) error {
	for _, m := range ms {
		if err := p.publish(topic, m); err != nil {
			return fmt.Errorf("nats: publish to %s: %w", topic, err)
		}
	}
	return nil
}

func (p publisher) publish(topic string, m *message.Message) error {
	t := p.t
	_, subject := t.o.place(p.k, topic)
	meta, err := json.Marshal(m.Metadata)
	if err != nil {
		return err
	}
	out := nats.NewMsg(subject)
	out.Header.Set(headerID, m.UUID)
	out.Header.Set(headerTopic, subject)
	out.Header.Set(headerMeta, string(meta))
	out.Data = m.Payload
	if p.k == bus.Reply {
		if t.ctx.Err() != nil {
			return errClosed
		}
		return t.conn.PublishMsg(out)
	}
	answer, err := t.ask(t.ctx, out)
	if errors.Is(err, nats.ErrNoResponders) && t.o.Host == "" { // a stream in memory went with the server
		if err = t.makeStreams(t.ctx); err == nil {
			answer, err = t.ask(t.ctx, out)
		}
	}
	if err != nil {
		return err
	}
	return said(answer)
}
