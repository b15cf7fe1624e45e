package nats

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/internal/broker"
)

// Options say where the servers are. Only URL is required.
type Options struct {
	// URL is nats:// or tls://, with user, password and host. Several, separated by
	// commas, are servers of one cluster.
	URL string
	// TLS is used with tls://, or where the server asks for it; nil is the system's
	// trust.
	TLS *tls.Config
	// Host is the name of the host whose credentials these are (HostPermissions);
	// empty is the control plane, which makes the streams.
	Host string
	// Prefix begins the name of each subject and stream; empty is "nacre".
	Prefix string
	// Replicas is how many servers of a cluster keep each message; 0 is one.
	Replicas int
	// Light says which queues may lose their messages with the server; nil is
	// hosts' desired state and the calls to them. All users of the servers must say the same.
	Light func(topic string) bool
	// Keep is how long a group of a FanOut keeps messages while it has no consumer;
	// 0 is 24 h.
	Keep time.Duration
	// FirstWait and MaxWait bound the wait before a refused message comes again;
	// 0 is 10 ms and 5 s. MaxTries is how often it is handed out; 0 is 20.
	FirstWait, MaxWait time.Duration
	MaxTries           int
	// Heartbeat is how often the connection is tried when it is silent; 0 is 10 s.
	Heartbeat time.Duration
	Log       *slog.Logger
}

// Transport implements bus.Transport. Its methods are safe for concurrent use.
type Transport struct {
	o      Options
	conn   *nats.Conn
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	// standing ends when the connection is lost; there is a new one once it stands
	// again.
	standing context.Context
	lost     context.CancelCauseFunc
	requests map[string]map[*request]struct{} // under way, by subject
}

var (
	_ bus.Transport = (*Transport)(nil)
	_ bus.Named     = (*Transport)(nil)

	errClosed = errors.New("nats: the transport is closed")
	errLost   = errors.New("nats: the connection is lost")
)

// Open connects and makes the streams. It fails when none of the servers answers,
// each within 5 s; later losses of the connection are mended in the background.
func Open(ctx context.Context, o Options) (*Transport, error) {
	if o.URL == "" {
		return nil, errors.New("nats: Options.URL is missing")
	}
	o = o.withDefaults()
	t := &Transport{o: o, requests: map[string]map[*request]struct{}{}}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	t.standing, t.lost = context.WithCancelCause(t.ctx)
	opts := []nats.Option{
		nats.Name("nacre"), nats.Timeout(5 * time.Second), nats.CustomInboxPrefix(o.inbox()),
		nats.PingInterval(o.Heartbeat), nats.MaxPingsOutstanding(2),
		// It never gives up, also while the servers refuse a password, and keeps
		// nothing back to send it later: the sender is told and tries again.
		nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectBufSize(-1),
		nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectJitter(2*time.Second, 2*time.Second),
		nats.PermissionErrOnSubscribe(true),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { t.disconnected(err) }),
		nats.ReconnectHandler(func(*nats.Conn) { t.reconnected() }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { t.refused(err) }),
	}
	if o.TLS != nil {
		opts = append(opts, nats.Secure(o.TLS))
	}
	conn, err := nats.Connect(o.URL, opts...)
	if err != nil {
		t.cancel()
		return nil, fmt.Errorf("nats: %s: %w", credentials.ReplaceAllString(o.URL, "//"), err)
	}
	t.conn = conn
	if err := t.makeStreams(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (o Options) withDefaults() Options {
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
	o.Replicas, o.MaxTries = max(o.Replicas, 1), max(o.MaxTries, 0)
	if o.MaxTries == 0 {
		o.MaxTries = 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

var credentials = regexp.MustCompile(`//[^@/]*@`)

// inbox begins the subjects that answers of the servers come to.
func (o Options) inbox() string {
	if o.Host == "" {
		return "_INBOX"
	}
	return o.Prefix + ".inbox." + name(o.Host)
}

// ReplyTopic implements bus.Named.
func (t *Transport) ReplyTopic() string { return t.o.replies() + uuid.NewString() }

func (o Options) replies() string {
	if o.Host == "" {
		return "reply."
	}
	return "reply." + name(o.Host) + "."
}

// place is where a topic of a kind lives: its stream, none for a Reply, and its
// subject.
func (o Options) place(k bus.Kind, topic string) (stream, subject string) {
	of := [...]string{"fan", "queue", "reply"}[k]
	if k == bus.Queue && o.Light(topic) {
		of = "light"
	}
	if k != bus.Reply {
		stream = o.stream(of)
	}
	var b strings.Builder
	b.WriteString(o.Prefix + "." + of)
	for token := range strings.SplitSeq(topic, ".") {
		b.WriteString("." + escape(token, func(c byte) bool { return c <= ' ' || c == '*' || c == '>' || c == '%' || c == '=' || c >= 0x7f }))
	}
	return stream, b.String()
}

func (o Options) stream(of string) string { return name(o.Prefix) + "_" + of }

// consumer is the name of the one that hands out a topic, to a group if there is one.
func consumer(k bus.Kind, topic, group string) string {
	n := name(topic)
	if k == bus.FanOut {
		n += "~" + name(group)
	}
	if len(n) > 200 { // the server takes 255
		sum := sha256.Sum256([]byte(n))
		n = n[:100] + "~" + hex.EncodeToString(sum[:])
	}
	return n
}

// name makes one token of any text, which is a legal name too; no two texts give
// the same.
func name(s string) string {
	return escape(s, func(c byte) bool {
		return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	})
}

// escape writes odd bytes in hexadecimal. Not by %: a server of 2.9 takes what it
// finds in a name for a format.
func escape(s string, odd func(c byte) bool) string {
	if s == "" {
		return "="
	}
	var b strings.Builder
	for i := range len(s) {
		if odd(s[i]) {
			fmt.Fprintf(&b, "=%02X", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func (t *Transport) disconnected(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost(errLost)
	if !t.closed {
		t.o.Log.Warn("connection to NATS lost", "error", err)
	}
}

func (t *Transport) reconnected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost(errLost)
	t.standing, t.lost = context.WithCancelCause(t.ctx)
}

var violation = regexp.MustCompile(`for Publish to "([^"]*)"`)

// refused takes what the server says without being asked: that it did not take a
// message is known by the subject only.
func (t *Transport) refused(err error) {
	t.o.Log.Warn("NATS", "error", err)
	m := violation.FindStringSubmatch(err.Error())
	if m == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.requests[m[1]] {
		r.fail(err)
	}
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
	if k != bus.Queue {
		return nil
	}
	stream, subject := t.o.place(k, topic)
	err := t.api(t.ctx, "CONSUMER.DELETE."+stream+"."+consumer(k, topic, ""), nil)
	if err == nil || missing(err) {
		err = t.api(t.ctx, "STREAM.PURGE."+stream, map[string]string{"filter": subject})
	}
	if missing(err) {
		return nil
	}
	return err
}

// Close implements bus.Transport.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
	if t.conn.IsConnected() {
		_ = t.conn.FlushTimeout(2 * time.Second) // the last acknowledgements
	}
	t.conn.Close()
	return nil
}

// Permissions are the subjects of a user, as in the server's configuration:
// `permissions { publish: { allow: [...] } subscribe: { allow: [...] } }`.
type Permissions struct {
	Publish, Subscribe []string
}

// HostPermissions are those of a host of that name: it consumes what each area
// sends to it, reports under its own name, answers calls, and sees no other host's
// messages.
func HostPermissions(prefix, host string, areas ...string) Permissions {
	o := Options{Prefix: prefix, Host: host}.withDefaults()
	_, replies := o.place(bus.Reply, strings.TrimSuffix(o.replies(), "."))
	p := Permissions{
		Publish:   []string{o.Prefix + ".reply.>"},
		Subscribe: []string{o.inbox() + ".>", replies + ".>"},
	}
	for _, area := range areas {
		for _, what := range []string{"report", "ask"} {
			_, subject := o.place(bus.Queue, area+"."+what+"."+host)
			p.Publish = append(p.Publish, subject)
		}
		for _, what := range []string{"host", "call"} {
			topic := area + "." + what + "." + host
			stream, subject := o.place(bus.Queue, topic)
			own := stream + "." + consumer(bus.Queue, topic, "")
			p.Publish = append(p.Publish, apiPrefix+"CONSUMER.CREATE."+own+"."+subject, apiPrefix+"CONSUMER.MSG.NEXT."+own, "$JS.ACK."+own+".>")
		}
	}
	return p
}
