package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/internal/broker"
)

// A waiting consumer asks anew once askTime is over. Meanwhile the server shows
// each aliveTime that it still knows of it.
const (
	askTime   = time.Minute
	aliveTime = 5 * time.Second
)

type subscriber struct {
	t     *Transport
	k     bus.Kind
	group string
}

// Close implements message.Subscriber; subscriptions end with their context.
func (s subscriber) Close() error { return nil }

// Subscribe returns once the consumer stands.
func (s subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	t := s.t
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, errClosed
	}
	t.wg.Add(1)
	t.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	end := func() { stop(); cancel(); t.wg.Done() }
	in, err := s.open(ctx, topic)
	if err != nil {
		end()
		return nil, fmt.Errorf("nats: subscribe to %s: %w", topic, err)
	}
	out := make(chan *message.Message)
	go func() {
		defer end()
		defer close(out)
		s.run(ctx, topic, in, out)
	}()
	return out, nil
}

// intake is a standing subscription. It is lost with the connection.
type intake struct {
	s       subscriber
	subject string // the messages'
	next    string // where to ask for one; empty for a Reply
	light   bool
	sub     *nats.Subscription
	first   *nats.Msg // came while the subscription was tried
	asked   bool
	ctx     context.Context
	end     func()
}

func (s subscriber) open(ctx context.Context, topic string) (*intake, error) {
	t := s.t
	t.mu.Lock()
	standing := t.standing
	t.mu.Unlock()
	if standing.Err() != nil {
		return nil, errLost
	}
	in := &intake{s: s, light: s.k == bus.Queue && t.o.Light(topic)}
	stream, subject := t.o.place(s.k, topic)
	in.subject = subject
	listen := subject
	if s.k != bus.Reply {
		if err := t.makeConsumer(ctx, s.k, topic, s.group); err != nil {
			return nil, err
		}
		in.next = apiPrefix + "CONSUMER.MSG.NEXT." + stream + "." + consumer(s.k, topic, s.group)
		listen = t.conn.NewInbox()
	}
	sub, err := t.conn.SubscribeSync(listen)
	if err != nil {
		return nil, err
	}
	in.sub = sub
	// The server's answer to the flush comes after its refusal, if it does refuse.
	limit, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	if err = t.conn.FlushWithContext(limit); err == nil {
		if in.first, err = sub.NextMsg(time.Microsecond); errors.Is(err, nats.ErrTimeout) {
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(err, sub.Unsubscribe())
	}
	whole, stop := context.WithCancel(ctx)
	gone := context.AfterFunc(standing, stop)
	in.ctx, in.end = whole, func() { gone(); stop() }
	return in, nil
}

// run consumes until ctx ends. It subscribes again what was lost.
func (s subscriber) run(ctx context.Context, topic string, in *intake, out chan<- *message.Message) {
	for tries := 0; ; {
		if in != nil {
			tries = 0
			err := s.consume(ctx, in, out)
			in.leave()
			if ctx.Err() != nil {
				return
			}
			s.t.o.Log.Info("subscription lost", "topic", topic, "error", err)
		}
		if !broker.Pause(ctx, tries) {
			return
		}
		tries++
		var err error
		if in, err = s.open(ctx, topic); err != nil {
			in = nil
			s.t.o.Log.Warn("subscription lost; trying again", "topic", topic, "error", err)
		}
	}
}

// consume hands out messages until ctx ends or the subscription is lost.
func (s subscriber) consume(ctx context.Context, in *intake, out chan<- *message.Message) error {
	for {
		m, err := in.take()
		if err != nil {
			return err
		}
		if m.Header.Get(headerTopic) != in.subject {
			s.t.o.Log.Warn("message dropped: it was not sent to this topic", "subject", in.subject)
			in.answer(m, "+TERM")
			continue
		}
		if !s.deliver(ctx, in, m, out) {
			return ctx.Err()
		}
	}
}

// take is the next message.
func (in *intake) take() (*nats.Msg, error) {
	for {
		if m := in.first; m != nil {
			in.first = nil
			return m, nil
		}
		if in.next != "" && !in.asked {
			if err := in.ask(); err != nil {
				return nil, err
			}
		}
		m, err := in.wait()
		if errors.Is(err, context.DeadlineExceeded) && in.ctx.Err() == nil {
			return nil, errors.New("the server fell silent")
		}
		if err != nil {
			return nil, err
		}
		if in.next == "" {
			return m, nil
		}
		switch status := m.Header.Get("Status"); {
		case status == "" || len(m.Data) > 0:
			in.asked = false
			return m, nil
		case status == "100": // still there
		case status == "404" || status == "408":
			in.asked = false
		default:
			return nil, fmt.Errorf("the server says %s %s", status, m.Header.Get("Description"))
		}
	}
}

func (in *intake) ask() error {
	body, err := json.Marshal(map[string]int64{"batch": 1, "expires": int64(askTime), "idle_heartbeat": int64(aliveTime)})
	if err != nil {
		return err
	}
	in.asked = true
	return in.s.t.conn.PublishRequest(in.next, in.sub.Subject, body)
}

// wait waits for a message; where the server has been asked, no longer than it may
// be silent.
func (in *intake) wait() (*nats.Msg, error) {
	if in.next == "" {
		return in.sub.NextMsgWithContext(in.ctx)
	}
	ctx, cancel := context.WithTimeout(in.ctx, 3*aliveTime)
	defer cancel()
	return in.sub.NextMsgWithContext(ctx)
}

// answer tells the server what became of a message. Lost with the connection, the
// message comes again.
func (in *intake) answer(m *nats.Msg, what string) {
	if in.next != "" && m.Reply != "" {
		_ = in.s.t.conn.Publish(m.Reply, []byte(what))
	}
}

// leave ends the subscription, and gives back what is still on its way.
func (in *intake) leave() {
	defer in.end()
	t := in.s.t
	if in.next == "" || !in.asked || !t.conn.IsConnected() {
		_ = in.sub.Unsubscribe()
		if t.conn.IsConnected() {
			_ = t.conn.FlushTimeout(2 * time.Second) // what comes now is for nobody
		}
		return
	}
	if in.sub.Drain() != nil {
		return
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		m, err := in.sub.NextMsg(100 * time.Millisecond)
		switch {
		case err == nil && m.Header.Get(headerTopic) != "":
			in.answer(m, "-NAK")
		case err != nil && !errors.Is(err, nats.ErrTimeout):
			return // drained
		}
	}
}

// deliver hands out one message until it is acknowledged or set aside; false says
// that ctx has ended.
func (s subscriber) deliver(ctx context.Context, in *intake, m *nats.Msg, out chan<- *message.Message) bool {
	for tries := 1; ; tries++ {
		acked, ended := s.hand(ctx, in, m, out)
		switch {
		case ended:
			in.answer(m, "-NAK")
			return false
		case acked:
			in.answer(m, "+ACK")
			return true
		case tries >= s.t.o.MaxTries:
			s.setAside(in, m)
			return true
		}
		if !in.hold(ctx, m, min(s.t.o.FirstWait<<min(tries-1, 16), s.t.o.MaxWait)) {
			in.answer(m, "-NAK")
			return false
		}
	}
}

// setAside puts a message away that was refused too often. A light one goes: what
// it says is sent again.
func (s subscriber) setAside(in *intake, m *nats.Msg) {
	s.t.o.Log.Warn("message set aside: it was refused too often", "subject", in.subject, "id", m.Header.Get(headerID))
	if in.next != "" && !in.light {
		dead := &nats.Msg{Subject: s.t.o.Prefix + ".dead" + in.subject[len(s.t.o.Prefix):], Header: m.Header, Data: m.Data}
		if _, err := s.t.ask(s.t.ctx, dead); err != nil {
			s.t.o.Log.Error("message lost: it could not be set aside", "subject", in.subject, "error", err)
		}
	}
	in.answer(m, "+TERM")
}

// hold waits with a message that was refused; false says that ctx has ended.
func (in *intake) hold(ctx context.Context, m *nats.Msg, wait time.Duration) bool {
	in.answer(m, "+WPI")
	return broker.Wait(ctx, wait)
}

// hand hands out one message once, and tells the server meanwhile that it is being
// worked on.
func (s subscriber) hand(ctx context.Context, in *intake, in1 *nats.Msg, out chan<- *message.Message) (acked, ended bool) {
	mctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := message.NewMessage(in1.Header.Get(headerID), in1.Data)
	if meta := in1.Header.Get(headerMeta); meta != "" {
		if err := json.Unmarshal([]byte(meta), &m.Metadata); err != nil {
			s.t.o.Log.Warn("metadata dropped", "subject", in.subject, "error", err)
		}
	}
	m.SetContext(mctx)
	working := time.NewTicker(ackTime / 3)
	defer working.Stop()
	give := out
	for {
		select {
		case give <- m:
			give = nil
		case <-m.Acked():
			return true, false
		case <-m.Nacked():
			return false, false
		case <-working.C:
			in.answer(in1, "+WPI")
		case <-ctx.Done():
			select {
			case <-m.Acked():
				return true, false
			default:
				return false, true
			}
		}
	}
}
