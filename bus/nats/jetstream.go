package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nacre-cloud/nacre/bus"
)

const (
	// apiPrefix begins the subjects by which JetStream is managed.
	apiPrefix = "$JS.API."
	// confirmTime is how long a confirmation may take before Publish gives up. The
	// message may have arrived all the same.
	confirmTime = 15 * time.Second
	// ackTime is how long a consumer may be silent about a message it holds.
	ackTime = 10 * time.Second
	// lightDepth is how many messages a light queue holds; the oldest goes when it is full.
	lightDepth = 10_000
	// deadDepth is how many messages set aside are kept.
	deadDepth = 10_000
)

// request is one that waits for its answer.
type request struct{ fail context.CancelCauseFunc }

// ask sends a message and waits for the server's word: until ctx ends, the
// connection is lost, the server refuses the subject, or confirmTime is over.
func (t *Transport) ask(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := &request{fail}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, errClosed
	}
	standing := t.standing
	if t.requests[m.Subject] == nil {
		t.requests[m.Subject] = map[*request]struct{}{}
	}
	t.requests[m.Subject][r] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.requests[m.Subject], r)
		if len(t.requests[m.Subject]) == 0 {
			delete(t.requests, m.Subject)
		}
	}()
	defer context.AfterFunc(standing, func() { fail(errLost) })()
	limited, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	answer, err := t.conn.RequestMsgWithContext(limited, m)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

// api calls JetStream; body may be nil.
func (t *Transport) api(ctx context.Context, what string, body any) error {
	m := nats.NewMsg(apiPrefix + what)
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		m.Data = b
	}
	answer, err := t.ask(ctx, m)
	if err == nil {
		err = said(answer)
	}
	if err != nil {
		return fmt.Errorf("nats: %s: %w", what, err)
	}
	return nil
}

// said is the error that an answer of JetStream holds, if it does.
func said(m *nats.Msg) error {
	var a struct {
		Error *nats.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return fmt.Errorf("an answer that is none: %w", err)
	}
	if a.Error != nil {
		return a.Error
	}
	return nil
}

// missing says that a stream or consumer is not there.
func missing(err error) bool {
	var e *nats.APIError
	return errors.Is(err, nats.ErrNoResponders) ||
		errors.As(err, &e) && (e.ErrorCode == nats.JSErrCodeStreamNotFound || e.ErrorCode == nats.JSErrCodeConsumerNotFound)
}

// makeStreams makes what all share. A host finds it there.
func (t *Transport) makeStreams(ctx context.Context) error {
	if t.o.Host != "" {
		return nil
	}
	for _, c := range []nats.StreamConfig{
		{Name: "queue", Retention: nats.WorkQueuePolicy},
		{Name: "light", Retention: nats.WorkQueuePolicy, Storage: nats.MemoryStorage, MaxMsgsPerSubject: lightDepth},
		{Name: "fan", Retention: nats.InterestPolicy, MaxAge: t.o.Keep},
		{Name: "dead", MaxMsgs: deadDepth},
	} {
		c.Subjects = []string{t.o.Prefix + "." + c.Name + ".>"}
		c.Name, c.Replicas = t.o.stream(c.Name), t.o.Replicas
		err := t.api(ctx, "STREAM.CREATE."+c.Name, c)
		var e *nats.APIError
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return errors.New("nats: the server has no JetStream (its configuration needs a jetstream block)")
		case errors.As(err, &e) && e.ErrorCode == nats.JSErrCodeStreamNameInUse: // the operator's settings stay
		case err != nil:
			return err
		}
	}
	return nil
}

// makeConsumer makes the one that hands out a topic. One that is there stays.
func (t *Transport) makeConsumer(ctx context.Context, k bus.Kind, topic, group string) error {
	stream, subject := t.o.place(k, topic)
	c := nats.ConsumerConfig{Durable: consumer(k, topic, group), Name: consumer(k, topic, group), FilterSubject: subject,
		AckPolicy: nats.AckExplicitPolicy, AckWait: ackTime, MaxDeliver: -1, MaxAckPending: -1}
	if k == bus.FanOut {
		c.DeliverPolicy, c.InactiveThreshold = nats.DeliverNewPolicy, t.o.Keep
	}
	create := func() error {
		return t.api(ctx, "CONSUMER.CREATE."+stream+"."+c.Name+"."+subject, map[string]any{"stream_name": stream, "config": c})
	}
	err := create()
	if missing(err) && t.o.Host == "" { // a stream in memory went with the server
		if err = t.makeStreams(ctx); err == nil {
			err = create()
		}
	}
	return err
}
