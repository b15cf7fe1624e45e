package amqp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/internal/broker"
)

// Options say where the broker is. Only URL is required.
type Options struct {
	// URL is amqp:// or amqps://, with user, password, host and virtual host.
	// Several, separated by commas, are tried in turn.
	URL string
	// TLS is used with amqps://; nil is the system's trust.
	TLS *tls.Config
	// Host is the name of the host whose account this is (HostPermissions); empty is the
	// control plane.
	Host string
	// Prefix begins the name of each exchange and queue; empty is "nacre".
	Prefix string
	// Light says which queues may lose their messages with the broker; nil is
	// hosts' desired state and the calls to them.
	Light func(topic string) bool
	// Keep is how long a group of a FanOut keeps messages while it has no consumer;
	// 0 is 24 h.
	Keep time.Duration
	// FirstWait and MaxWait bound the wait before a refused message comes again;
	// 0 is 10 ms and 5 s. MaxTries is how often it is handed out; 0 is 20.
	FirstWait, MaxWait time.Duration
	MaxTries           int
	// Heartbeat is how often both sides show that they live; 0 is 10 s.
	Heartbeat time.Duration
	Log       *slog.Logger
}

var _ bus.Named = (*Transport)(nil)

// ReplyTopic implements bus.Named.
func (t *Transport) ReplyTopic() string {
	if t.o.Host == "" {
		return "reply." + uuid.NewString()
	}
	return "reply." + t.o.Host + "." + uuid.NewString()
}

// inFlight bounds the messages of a connection that wait for their confirmation.
const inFlight = 256

// Transport implements bus.Transport. Its methods are safe for concurrent use.
type Transport struct {
	o      Options
	urls   []string
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // held while dialling
	conn    *amqp.Connection
	out     *outlet
	nextURL int
	stands  chan struct{} // closed, and replaced, when a connection stands
	lost    bool          // it was said that no broker answers
	closed  bool
}

var _ bus.Transport = (*Transport)(nil)

var errClosed = errors.New("amqp: the transport is closed")

// Open connects. It fails when no broker answers until ctx ends or once each URL
// was tried; later losses of the connection are mended in the background.
func Open(ctx context.Context, o Options) (*Transport, error) {
	if o.URL == "" {
		return nil, errors.New("amqp: Options.URL is missing")
	}
	if o.Prefix == "" {
		o.Prefix = "nacre"
	}
	if o.Light == nil {
		o.Light = broker.LightTopics
	}
	for _, d := range []struct {
		at    *time.Duration
		other time.Duration
	}{{&o.Keep, 24 * time.Hour}, {&o.FirstWait, 10 * time.Millisecond}, {&o.MaxWait, 5 * time.Second}, {&o.Heartbeat, 10 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.other
		}
	}
	if o.MaxTries == 0 {
		o.MaxTries = 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Transport{o: o, urls: strings.Split(o.URL, ","), stands: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	for range t.urls {
		if _, err = t.connection(); err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	t.cancel()
	return nil, err
}

// connection is the one that stands, or a new one.
func (t *Transport) connection() (*amqp.Connection, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.connect()
}

func (t *Transport) connect() (*amqp.Connection, error) {
	if t.closed {
		return nil, errClosed
	}
	if t.conn != nil && !t.conn.IsClosed() {
		return t.conn, nil
	}
	url := strings.TrimSpace(t.urls[t.nextURL%len(t.urls)])
	conn, err := amqp.DialConfig(url, amqp.Config{Heartbeat: t.o.Heartbeat, TLSClientConfig: t.o.TLS, Dial: amqp.DefaultDial(5 * time.Second),
		Properties: amqp.Table{"connection_name": "nacre"}})
	if err != nil {
		t.nextURL++
		err = fmt.Errorf("amqp: %s: %w", without(url), err)
		if !t.lost && t.conn != nil {
			t.lost = true
			t.o.Log.Warn("the broker does not answer; trying again and again", "error", err)
		}
		return nil, &lostError{err}
	}
	if err := t.declareExchanges(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if t.lost {
		t.lost = false
		t.o.Log.Warn("the broker answers again")
	}
	t.conn, t.out = conn, nil
	close(t.stands)
	t.stands = make(chan struct{})
	return conn, nil
}

// retry waits before the nth try to open again what was lost with a connection, or until
// another of this transport's has found a new one; false says that ctx has ended.
func (t *Transport) retry(ctx context.Context, n int) bool {
	t.mu.Lock()
	stands := t.stands
	t.mu.Unlock()
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-stands:
			cancel()
		case <-wait.Done():
		}
	}()
	return broker.Pause(wait, n) || ctx.Err() == nil
}

// lostError is that no broker answers: said once for a transport, not by each of its
// subscriptions.
type lostError struct{ error }

// Unwrap gives what came of the attempt.
func (e *lostError) Unwrap() error { return e.error }

var credentials = regexp.MustCompile(`//[^@/]*@`)

// without is a URL without its password.
func without(url string) string { return credentials.ReplaceAllString(url, "//") }

func (t *Transport) dead() string { return t.o.Prefix + ".dead" }
func (t *Transport) exchange(k bus.Kind) string {
	return t.o.Prefix + [...]string{".fan", ".queue", ".reply"}[k]
}
func (t *Transport) queue(k bus.Kind, topic, group string) string {
	switch k {
	case bus.FanOut:
		return t.o.Prefix + ".f." + topic + "." + group
	case bus.Queue:
		return t.o.Prefix + ".q." + topic
	}
	return t.o.Prefix + ".r." + topic
}

// declareExchanges makes what all share. A host, and any other user who may not configure
// them, finds them there: a host does not even ask, for a thousand that are refused when
// the broker is back keep it busy.
func (t *Transport) declareExchanges(conn *amqp.Connection) error {
	if t.o.Host != "" {
		return nil
	}
	for _, k := range []bus.Kind{bus.FanOut, bus.Queue, bus.Reply} {
		if err := onChannel(conn, func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare(t.exchange(k), "topic", true, false, false, false, nil)
		}); err != nil && !refusedAccess(err) {
			return err
		}
	}
	err := onChannel(conn, func(ch *amqp.Channel) error {
		if err := ch.ExchangeDeclare(t.dead(), "fanout", true, false, false, false, nil); err != nil {
			return err
		}
		if _, err := ch.QueueDeclare(t.dead(), true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-max-length": int32(10_000)}); err != nil {
			return err
		}
		return ch.QueueBind(t.dead(), "", t.dead(), false, nil)
	})
	if refusedAccess(err) {
		return nil
	}
	return err
}

func refusedAccess(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Code == amqp.AccessRefused
}

// onChannel runs f on a channel of its own, since a failure ends the channel.
func onChannel(conn *amqp.Connection, f func(*amqp.Channel) error) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	err = f(ch)
	if !ch.IsClosed() {
		err = errors.Join(err, ch.Close())
	}
	return err
}

// declare makes a queue and binds it to its topic. One that is there stays.
func (t *Transport) declare(ch *amqp.Channel, k bus.Kind, topic, group string) (string, error) {
	name, args, autoDelete, durable := t.queue(k, topic, group), amqp.Table{"x-queue-type": "classic"}, false, true
	switch {
	case k == bus.Reply:
		autoDelete, durable = true, false
	case k == bus.Queue && t.o.Light(topic):
		// No dead letters: what is refused too often is sent again anyway, and a host
		// needs no right to the queue of dead ones.
	default:
		args = amqp.Table{"x-queue-type": "quorum", "x-dead-letter-exchange": t.dead()}
		if k == bus.FanOut {
			args["x-expires"] = t.o.Keep.Milliseconds()
		}
	}
	if _, err := ch.QueueDeclare(name, durable, autoDelete, false, false, args); err != nil {
		return name, fmt.Errorf("amqp: queue %s: %w", name, err)
	}
	if err := ch.QueueBind(name, topic, t.exchange(k), false, nil); err != nil {
		return name, fmt.Errorf("amqp: queue %s: %w", name, err)
	}
	return name, nil
}

// Publisher implements bus.Transport.
func (t *Transport) Publisher(k bus.Kind) (message.Publisher, error) { return publisher{t, k}, nil }

// Subscriber implements bus.Transport.
func (t *Transport) Subscriber(k bus.Kind, group string) (message.Subscriber, error) {
	return subscriber{t, k, group}, nil
}

// Delete implements bus.Transport. A FanOut has no queue of its own, only its
// groups have; they go by themselves.
func (t *Transport) Delete(k bus.Kind, topic string) error {
	if k == bus.FanOut {
		return nil
	}
	conn, err := t.connection()
	if err != nil {
		return err
	}
	return onChannel(conn, func(ch *amqp.Channel) error {
		_, err := ch.QueueDelete(t.queue(k, topic, ""), false, false, false)
		return err
	})
}

// Close implements bus.Transport.
func (t *Transport) Close() error {
	t.cancel()
	t.wg.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.conn == nil || t.conn.IsClosed() {
		return nil
	}
	err := t.conn.Close()
	if errors.Is(err, amqp.ErrClosed) {
		err = nil
	}
	return err
}

// Permissions are what `rabbitmqctl set_permissions` and `set_topic_permissions`
// take, as regular expressions.
type Permissions struct {
	Configure, Write, Read string
	// Topics maps an exchange to the routing keys that may be written and read.
	Topics map[string][2]string
}

// HostPermissions are those of a host of that name: it consumes what is sent to it,
// reports under its own name, answers calls, and sees no other host's messages.
// The control plane makes the queues of its reports.
func HostPermissions(prefix, host string) Permissions {
	if prefix == "" {
		prefix = "nacre"
	}
	p, h := regexp.QuoteMeta(prefix), regexp.QuoteMeta(host)
	own := `[a-z]+\.(host|call)\.` + h
	replies := `reply\.` + h + `\.[0-9a-f-]+`
	mine := `q\.` + own + `|r\.` + replies
	exchanges := `\.(queue|reply)`
	return Permissions{
		Configure: `^` + p + `\.(` + mine + `)$`,
		Write:     `^` + p + `(\.(` + mine + `)|` + exchanges + `)$`,
		Read:      `^` + p + `(\.(` + mine + `)|` + exchanges + `)$`,
		Topics: map[string][2]string{
			prefix + ".queue": {`^[a-z]+\.(report|ask)\.` + h + `$`, `^` + own + `$`},
			prefix + ".reply": {`^reply\.[0-9a-f.-]+$`, `^` + replies + `$`},
		},
	}
}
