// Package bustest is the contract of bus.Transport as a test suite, and a bus that
// misbehaves. Whoever writes a transport runs the suite:
//
//	func TestContract(t *testing.T) {
//		bustest.Run(t, func(t *testing.T) bus.Transport { return mybus.Open(...) })
//	}
//
// Whoever uses a bus wraps one by [Faulty], which loses, doubles, reorders and
// delays messages, and shows that the work still ends well.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
)

// soon bounds every wait for a message; quiet is how long one must stay away to
// count as not coming.
const (
	soon  = 20 * time.Second
	quiet = 150 * time.Millisecond
)

// Run tests a transport. open is called often; each call gives one that shares
// nothing with those before, whose first redelivery waits at most 100 ms, and
// which sets a message aside that was refused often, within ten seconds. Run
// closes it and then checks that no goroutine is left.
func Run(t *testing.T, open func(t *testing.T) bus.Transport) {
	for name, test := range map[string]func(t *testing.T, tr bus.Transport){
		"groups":      groups,
		"competing":   competing,
		"order":       order,
		"refused":     refused,
		"putAside":    putAside,
		"kept":        kept,
		"unfinished":  unfinished,
		"reply":       reply,
		"deleted":     deleted,
		"separate":    separate,
		"metadata":    metadata,
		"close":       closed,
		"eventsOfBus": events,
		"callsOfBus":  calls,
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			tr := open(t)
			test(t, tr)
			require.NoError(t, tr.Close())
			require.NoError(t, tr.Close(), "closing twice")
			require.NoError(t, goleak.Find(before), "Close must end every goroutine")
		})
	}
}

func topic(prefix string) string { return prefix + "." + uuid.NewString() }

func publish(t *testing.T, tr bus.Transport, k bus.Kind, topic string, bodies ...string) {
	t.Helper()
	p, err := tr.Publisher(k)
	require.NoError(t, err)
	for _, b := range bodies {
		require.NoError(t, p.Publish(topic, message.NewMessage(uuid.NewString(), []byte(b))))
	}
}

func subscribe(t *testing.T, ctx context.Context, tr bus.Transport, k bus.Kind, topic, group string) <-chan *message.Message {
	t.Helper()
	s, err := tr.Subscriber(k, group)
	require.NoError(t, err)
	ch, err := s.Subscribe(ctx, topic)
	require.NoError(t, err)
	return ch
}

func next(t *testing.T, ch <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-ch:
		require.True(t, ok, "the subscription ended")
		return m
	case <-time.After(soon):
		require.FailNow(t, "no message")
		return nil
	}
}

func take(t *testing.T, ch <-chan *message.Message, n int) []string {
	t.Helper()
	var got []string
	for range n {
		m := next(t, ch)
		got = append(got, string(m.Payload))
		m.Ack()
	}
	return got
}

func nothing(t *testing.T, ch <-chan *message.Message) {
	t.Helper()
	select {
	case m, ok := <-ch:
		if ok {
			require.FailNow(t, "unexpected message", "%s", m.Payload)
		}
	case <-time.After(quiet):
	}
}

func ended(t *testing.T, ch <-chan *message.Message) {
	t.Helper()
	limit := time.After(soon)
	for {
		select {
		case m, ok := <-ch:
			if !ok {
				return
			}
			m.Nack()
		case <-limit:
			require.FailNow(t, "the subscription did not end")
		}
	}
}

func numbers(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%04d", i)
	}
	return out
}

// groups: each group gets all that came after it subscribed; a message without a
// group is gone.
func groups(t *testing.T, tr bus.Transport) {
	tp := topic("fan")
	publish(t, tr, bus.FanOut, tp, "early")
	a := subscribe(t, t.Context(), tr, bus.FanOut, tp, "a")
	b := subscribe(t, t.Context(), tr, bus.FanOut, tp, "b")
	publish(t, tr, bus.FanOut, tp, "1", "2")
	require.Equal(t, []string{"1", "2"}, take(t, a, 2))
	require.Equal(t, []string{"1", "2"}, take(t, b, 2))
	ctx, cancel := context.WithCancel(t.Context())
	late := subscribe(t, ctx, tr, bus.FanOut, tp, "late")
	nothing(t, late)
	cancel()
	ended(t, late)
	publish(t, tr, bus.FanOut, tp, "3")
	require.Equal(t, []string{"3"}, take(t, a, 1))
	require.Equal(t, []string{"3"}, take(t, b, 1))
}

// competing: within a group, and on a queue, each message goes to one consumer.
func competing(t *testing.T, tr bus.Transport) {
	for _, k := range []bus.Kind{bus.FanOut, bus.Queue} {
		const n = 200
		tp := topic("work")
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		seen := map[string]int{}
		all := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			ch := subscribe(t, ctx, tr, k, tp, "group")
			wg.Go(func() {
				for m := range ch {
					mu.Lock()
					seen[string(m.Payload)]++
					if len(seen) == n {
						close(all)
					}
					mu.Unlock()
					m.Ack()
				}
			})
		}
		publish(t, tr, k, tp, numbers(n)...)
		select {
		case <-all:
		case <-time.After(soon):
			require.FailNow(t, "messages missing")
		}
		cancel()
		wg.Wait()
		for body, times := range seen {
			require.Equal(t, 1, times, "message %s", body)
		}
	}
}

func order(t *testing.T, tr bus.Transport) {
	for _, k := range []bus.Kind{bus.FanOut, bus.Queue, bus.Reply} {
		tp := topic("order")
		ch := subscribe(t, t.Context(), tr, k, tp, "g")
		want := numbers(300)
		publish(t, tr, k, tp, want...)
		require.Equal(t, want, take(t, ch, len(want)))
	}
}

// refused: a refused message comes again, after a wait, and ahead of the others.
func refused(t *testing.T, tr bus.Transport) {
	tp := topic("refused")
	ch := subscribe(t, t.Context(), tr, bus.Queue, tp, "")
	publish(t, tr, bus.Queue, tp, "a", "b")
	var at []time.Time
	for range 4 {
		m := next(t, ch)
		at = append(at, time.Now())
		require.Equal(t, "a", string(m.Payload))
		m.Nack()
	}
	require.Equal(t, []string{"a", "b"}, take(t, ch, 2))
	require.Greater(t, at[3].Sub(at[0]), 3*time.Millisecond, "a refused message must not spin")
}

// putAside: a message that is always refused does not hold up the queue for ever.
func putAside(t *testing.T, tr bus.Transport) {
	tp := topic("dead")
	ch := subscribe(t, t.Context(), tr, bus.Queue, tp, "")
	publish(t, tr, bus.Queue, tp, "poison", "good")
	tries := 0
	limit := time.Now().Add(soon)
	for {
		require.True(t, time.Now().Before(limit), "still the same message after %d tries", tries)
		m := next(t, ch)
		if string(m.Payload) == "good" {
			m.Ack()
			break
		}
		tries++
		m.Nack()
	}
	require.Greater(t, tries, 1)
	nothing(t, ch)
}

// kept: a queue keeps what nobody consumes yet, also between consumers.
func kept(t *testing.T, tr bus.Transport) {
	tp := topic("kept")
	publish(t, tr, bus.Queue, tp, "1", "2", "3")
	ctx, cancel := context.WithCancel(t.Context())
	ch := subscribe(t, ctx, tr, bus.Queue, tp, "")
	require.Equal(t, []string{"1"}, take(t, ch, 1))
	require.Equal(t, "2", string(next(t, ch).Payload)) // so the acknowledgement has arrived
	cancel()
	ended(t, ch)
	publish(t, tr, bus.Queue, tp, "4")
	ch = subscribe(t, t.Context(), tr, bus.Queue, tp, "")
	require.Equal(t, []string{"2", "3", "4"}, take(t, ch, 3))
}

// unfinished: what a consumer took but did not acknowledge goes to the next one.
func unfinished(t *testing.T, tr bus.Transport) {
	tp := topic("unfinished")
	publish(t, tr, bus.Queue, tp, "1", "2")
	ctx, cancel := context.WithCancel(t.Context())
	ch := subscribe(t, ctx, tr, bus.Queue, tp, "")
	m := next(t, ch)
	require.Equal(t, "1", string(m.Payload))
	cancel()
	ended(t, ch)
	select {
	case <-m.Context().Done():
	case <-time.After(soon):
		require.FailNow(t, "the message's context goes on after its subscription")
	}
	ch = subscribe(t, t.Context(), tr, bus.Queue, tp, "")
	require.Equal(t, []string{"1", "2"}, take(t, ch, 2))
}

// reply: nothing is kept for a consumer that is gone.
func reply(t *testing.T, tr bus.Transport) {
	tp := topic("reply")
	publish(t, tr, bus.Reply, tp, "before")
	ctx, cancel := context.WithCancel(t.Context())
	ch := subscribe(t, ctx, tr, bus.Reply, tp, "")
	publish(t, tr, bus.Reply, tp, "1")
	require.Equal(t, []string{"1"}, take(t, ch, 1))
	cancel()
	ended(t, ch)
	publish(t, tr, bus.Reply, tp, "after")
	ch = subscribe(t, t.Context(), tr, bus.Reply, tp, "")
	publish(t, tr, bus.Reply, tp, "2")
	require.Equal(t, []string{"2"}, take(t, ch, 1))
}

func deleted(t *testing.T, tr bus.Transport) {
	tp := topic("deleted")
	require.NoError(t, tr.Delete(bus.Queue, tp), "one that was never there")
	publish(t, tr, bus.Queue, tp, "old")
	require.NoError(t, tr.Delete(bus.Queue, tp))
	publish(t, tr, bus.Queue, tp, "new")
	ch := subscribe(t, t.Context(), tr, bus.Queue, tp, "")
	require.Equal(t, []string{"new"}, take(t, ch, 1))
	nothing(t, ch)
}

// separate: the kinds are different spaces of names, and so are topics.
func separate(t *testing.T, tr bus.Transport) {
	tp := topic("separate")
	q := subscribe(t, t.Context(), tr, bus.Queue, tp, "")
	f := subscribe(t, t.Context(), tr, bus.FanOut, tp, "g")
	r := subscribe(t, t.Context(), tr, bus.Reply, tp, "")
	other := subscribe(t, t.Context(), tr, bus.Queue, tp+".x", "")
	publish(t, tr, bus.Queue, tp, "queue")
	publish(t, tr, bus.FanOut, tp, "fan")
	publish(t, tr, bus.Reply, tp, "reply")
	require.Equal(t, []string{"queue"}, take(t, q, 1))
	require.Equal(t, []string{"fan"}, take(t, f, 1))
	require.Equal(t, []string{"reply"}, take(t, r, 1))
	nothing(t, other)
}

// metadata: id, metadata and body arrive as sent, and consumers share no memory
// with each other or with the sender.
func metadata(t *testing.T, tr bus.Transport) {
	tp := topic("meta")
	a := subscribe(t, t.Context(), tr, bus.FanOut, tp, "a")
	b := subscribe(t, t.Context(), tr, bus.FanOut, tp, "b")
	p, err := tr.Publisher(bus.FanOut)
	require.NoError(t, err)
	m := message.NewMessage(uuid.NewString(), []byte("body"))
	m.Metadata.Set("corr", "ä 1")
	require.NoError(t, p.Publish(tp, m))
	m.Metadata.Set("corr", "changed")
	for _, ch := range []<-chan *message.Message{a, b} {
		got := next(t, ch)
		require.Equal(t, m.UUID, got.UUID)
		require.Equal(t, "ä 1", got.Metadata.Get("corr"))
		require.Equal(t, "body", string(got.Payload))
		got.Metadata.Set("corr", "mine")
		got.Ack()
	}
}

// closed: after Close subscriptions end and nothing more is possible.
func closed(t *testing.T, tr bus.Transport) {
	tp := topic("close")
	p, err := tr.Publisher(bus.Queue)
	require.NoError(t, err)
	s, err := tr.Subscriber(bus.Queue, "")
	require.NoError(t, err)
	waiting := subscribe(t, t.Context(), tr, bus.Queue, tp, "")
	busy := subscribe(t, t.Context(), tr, bus.Queue, tp+".busy", "")
	publish(t, tr, bus.Queue, tp+".busy", "1", "2")
	next(t, busy) // never acknowledged
	require.NoError(t, tr.Close())
	ended(t, waiting)
	ended(t, busy)
	require.Error(t, p.Publish(tp, message.NewMessage(uuid.NewString(), nil)))
	_, err = s.Subscribe(t.Context(), tp)
	require.Error(t, err)
}

// events: bus.Bus on this transport; a handler's failure brings the event again.
func events(t *testing.T, tr bus.Transport) {
	b := bus.New(tr, nil)
	area := "area" + uuid.NewString()
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string, 10)
	first := true
	wait, err := b.Subscribe(ctx, bus.FanOut, "notifications."+area, "test", func(_ context.Context, body []byte) error {
		if first {
			first = false
			return errors.New("not yet")
		}
		got <- string(body)
		return nil
	})
	require.NoError(t, err)
	for _, id := range []string{"1", "2"} {
		require.NoError(t, b.PublishEvent(ctx, nacre.Event{ID: id, Area: area, Type: "thing.create"}))
	}
	var bodies []string
	for range 2 {
		select {
		case s := <-got:
			bodies = append(bodies, s)
		case <-time.After(soon):
			require.FailNow(t, "no event")
		}
	}
	require.Contains(t, bodies[0], `"id":"1"`)
	require.Contains(t, bodies[1], `"id":"2"`)
	cancel()
	wait()
}

// calls: answers, errors and deadlines of bus.Bus on this transport.
func calls(t *testing.T, tr bus.Transport) {
	b := bus.New(tr, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tp := topic("call")
	require.Error(t, b.Call(ctx, tp, nil, nil), "a Call without Listen would never end")
	require.NoError(t, b.Listen(ctx))
	require.NoError(t, b.Serve(ctx, tp, func(_ context.Context, body []byte) (any, error) {
		switch string(body) {
		case `"conflict"`:
			return nil, nacre.Errorf(nacre.Conflict, "Busy", "it is busy")
		case `"broken"`:
			return nil, errors.New("a secret")
		}
		return map[string]string{"echo": string(body)}, nil
	}))
	var wg sync.WaitGroup
	failures := make(chan error, 50)
	for i := range 50 {
		wg.Go(func() {
			var out map[string]string
			err := b.Call(ctx, tp, i, &out)
			if err == nil && out["echo"] != fmt.Sprint(i) {
				err = fmt.Errorf("call %d got %v", i, out)
			}
			if err != nil {
				failures <- err
			}
		})
	}
	wg.Wait()
	close(failures)
	require.Empty(t, slices.Collect(func(yield func(error) bool) {
		for err := range failures {
			if !yield(err) {
				return
			}
		}
	}))
	require.NoError(t, b.Call(ctx, tp, "x", nil), "an answer nobody wants")

	err := b.Call(ctx, tp, "conflict", nil)
	var ne *nacre.Error
	require.ErrorAs(t, err, &ne)
	require.Equal(t, nacre.Error{Kind: nacre.Conflict, Code: "Busy", Message: "it is busy"}, *ne)
	err = b.Call(ctx, tp, "broken", nil)
	require.Equal(t, nacre.Internal, nacre.KindOf(err))
	require.NotContains(t, err.Error(), "secret")

	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	require.ErrorIs(t, b.Call(short, topic("nobody"), "x", nil), nacre.Unavailable)
	cancel()
	require.NoError(t, b.Close())
}
