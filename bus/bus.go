package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Kind is a way of delivery.
type Kind uint8

// The kinds; see the package comment.
const (
	FanOut Kind = iota
	Queue
	Reply
)

// Transport opens publishers and subscribers. It is implemented once for each
// broker and passes bustest.
type Transport interface {
	// Publisher publishes to topics of a kind. Publishing to a Queue makes it.
	Publisher(kind Kind) (message.Publisher, error)
	// Subscriber consumes topics of a kind. group names the competing consumers
	// of a FanOut; other kinds ignore it.
	Subscriber(kind Kind, group string) (message.Subscriber, error)
	// Delete removes a queue and what is in it. One that is not there is success.
	Delete(kind Kind, topic string) error
	// Close ends all subscriptions.
	Close() error
}

// Named is a Transport whose user may consume answers only under a name of its own.
type Named interface {
	// ReplyTopic is a new topic for answers, which nobody else can guess.
	ReplyTopic() string
}

// Bus is what areas and agents use: JSON bodies over a Transport. Every method
// refuses a context that is in a store transaction.
type Bus struct {
	t     Transport
	log   *slog.Logger
	reply string

	mu      sync.Mutex
	pubs    map[Kind]message.Publisher
	waiting map[string]chan *message.Message
	serving bool

	answers sync.WaitGroup // requests in the hands of Serve's handlers
}

// New makes a Bus over a transport. log may be nil.
func New(t Transport, log *slog.Logger) *Bus {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	reply := "reply." + uuid.NewString()
	if n, ok := t.(Named); ok {
		reply = n.ReplyTopic()
	}
	return &Bus{t: t, log: log, reply: reply, pubs: map[Kind]message.Publisher{}, waiting: map[string]chan *message.Message{}}
}

func (b *Bus) publisher(k Kind) (message.Publisher, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok := b.pubs[k]; ok {
		return p, nil
	}
	p, err := b.t.Publisher(k)
	if err == nil {
		b.pubs[k] = p
	}
	return p, err
}

// Publish sends v, as JSON, to a topic.
func (b *Bus) Publish(ctx context.Context, k Kind, topic string, v any) error {
	return b.publish(ctx, k, topic, uuid.NewString(), v, nil)
}

// PublishEvent sends an event under its own id, by which consumers drop doubles.
func (b *Bus) PublishEvent(ctx context.Context, e nacre.Event) error {
	return b.publish(ctx, FanOut, "notifications."+e.Area, e.ID, e, nil)
}

func (b *Bus) publish(ctx context.Context, k Kind, topic, id string, v any, meta message.Metadata) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	p, err := b.publisher(k)
	if err != nil {
		return err
	}
	m := message.NewMessage(id, body)
	for key, val := range meta {
		m.Metadata.Set(key, val)
	}
	return p.Publish(topic, m)
}

// Subscribe consumes a topic until ctx ends. A handler that fails refuses the
// message, and it comes again. It returns once the subscription stands.
func (b *Bus) Subscribe(ctx context.Context, k Kind, topic, group string, handle func(ctx context.Context, body []byte) error) (wait func(), err error) {
	ch, err := b.subscribe(ctx, k, topic, group)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m := range ch {
			if err := handle(ctx, m.Payload); err != nil {
				if ctx.Err() != nil {
					m.Nack()
					continue
				}
				b.log.Warn("message refused", "topic", topic, "id", m.UUID, "error", err)
				m.Nack()
				continue
			}
			m.Ack()
		}
	}()
	return func() { <-done }, nil
}

func (b *Bus) subscribe(ctx context.Context, k Kind, topic, group string) (<-chan *message.Message, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	s, err := b.t.Subscriber(k, group)
	if err != nil {
		return nil, err
	}
	return s.Subscribe(ctx, topic)
}

// Listen starts the consumer of answers; Call needs it. It ends with ctx.
func (b *Bus) Listen(ctx context.Context) error {
	ch, err := b.subscribe(ctx, Reply, b.reply, "")
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.serving = true
	b.mu.Unlock()
	go func() {
		defer func() {
			b.mu.Lock()
			b.serving = false
			b.mu.Unlock()
		}()
		for m := range ch {
			b.mu.Lock()
			w := b.waiting[m.Metadata.Get("corr")]
			b.mu.Unlock()
			if w != nil {
				select {
				case w <- m.Copy():
				default: // a doubled answer
				}
			}
			m.Ack()
		}
	}()
	return nil
}

type envelope struct {
	Body  json.RawMessage `json:"body,omitempty"`
	Error *remoteError    `json:"error,omitempty"`
}

type remoteError struct {
	Kind    nacre.Kind `json:"kind"`
	Code    string     `json:"code"`
	Message string     `json:"message"`
}

// Call sends req to the one who serves topic and waits for the answer until ctx
// ends; without a deadline in ctx it waits 10 s. No answer is nacre.Unavailable.
// The answer is decoded into answer, unless that is nil.
func (b *Bus) Call(ctx context.Context, topic string, req, answer any) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	serving := b.serving
	b.mu.Unlock()
	if !serving {
		return errors.New("bus: Call without Listen")
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
	}
	corr := uuid.NewString()
	ch := make(chan *message.Message, 1)
	b.mu.Lock()
	b.waiting[corr] = ch
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.waiting, corr)
		b.mu.Unlock()
	}()
	deadline, _ := ctx.Deadline()
	meta := message.Metadata{"corr": corr, "reply_to": b.reply, "deadline": deadline.UTC().Format(time.RFC3339Nano)}
	if err := b.publish(ctx, Queue, topic, corr, req, meta); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return &nacre.Error{Kind: nacre.Unavailable, Code: "no_answer", Message: fmt.Sprintf("No answer from %s", topic), Err: ctx.Err()}
	case m := <-ch:
		var e envelope
		if err := json.Unmarshal(m.Payload, &e); err != nil {
			return err
		}
		if e.Error != nil {
			return &nacre.Error{Kind: e.Error.Kind, Code: e.Error.Code, Message: e.Error.Message}
		}
		if answer == nil {
			return nil
		}
		return json.Unmarshal(e.Body, answer)
	}
}

// Serve answers calls on a topic until ctx ends. A request whose deadline has
// passed is dropped. Errors reach the caller as *nacre.Error; of one that is none
// only that it was internal. Requests are handled side by side, each in a context
// that ends with its deadline, with ctx, and with the subscription.
func (b *Bus) Serve(ctx context.Context, topic string, handle func(ctx context.Context, body []byte) (any, error)) error {
	ch, err := b.subscribe(ctx, Queue, topic, "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	b.answers.Add(1)
	go func() {
		defer b.answers.Done()
		defer cancel()
		for m := range ch {
			b.answers.Go(func() { b.answer(ctx, m.Copy(), handle) })
			m.Ack()
		}
	}()
	return nil
}

func (b *Bus) answer(ctx context.Context, m *message.Message, handle func(ctx context.Context, body []byte) (any, error)) {
	deadline, err := time.Parse(time.RFC3339Nano, m.Metadata.Get("deadline"))
	if err != nil || !time.Now().Before(deadline) {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	var e envelope
	out, err := handle(ctx, m.Payload)
	if err == nil {
		e.Body, err = json.Marshal(out)
	}
	if err != nil {
		e = envelope{Error: &remoteError{Kind: nacre.KindOf(err), Message: "internal error"}}
		if ne := (*nacre.Error)(nil); errors.As(err, &ne) {
			e.Error.Code, e.Error.Message = ne.Code, ne.Message
		}
	}
	meta := message.Metadata{"corr": m.Metadata.Get("corr")}
	if err := b.publish(ctx, Reply, m.Metadata.Get("reply_to"), uuid.NewString(), e, meta); err != nil {
		b.log.Warn("answer not sent", "error", err)
	}
}

// Delete removes a queue.
func (b *Bus) Delete(ctx context.Context, k Kind, topic string) error {
	if err := store.Outside(ctx); err != nil {
		return err
	}
	return b.t.Delete(k, topic)
}

// Close ends the transport and with it every subscription, and waits for the
// handlers of calls.
func (b *Bus) Close() error {
	err := b.t.Close()
	b.answers.Wait()
	return err
}
