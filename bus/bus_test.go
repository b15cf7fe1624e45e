package bus_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/bustest"
	"github.com/nacre-cloud/nacre/store"
	"github.com/nacre-cloud/nacre/store/memstore"
)

// A transaction can't be taken back once its news is out, so the bus refuses.
func TestRefusesTransactions(t *testing.T) {
	b := bus.New(bus.NewMemory(bus.MemoryOptions{}), nil)
	defer b.Close()
	e := memstore.New(memstore.Options{})
	defer e.Close()
	nop := func(context.Context, []byte) error { return nil }
	for name, use := range map[string]func(ctx context.Context) error{
		"Publish":      func(ctx context.Context) error { return b.Publish(ctx, bus.Queue, "q", 1) },
		"PublishEvent": func(ctx context.Context) error { return b.PublishEvent(ctx, nacre.Event{ID: "1", Area: "a"}) },
		"Subscribe": func(ctx context.Context) error {
			_, err := b.Subscribe(ctx, bus.Queue, "q", "", nop)
			return err
		},
		"Listen": b.Listen,
		"Call":   func(ctx context.Context) error { return b.Call(ctx, "q", 1, nil) },
		"Serve": func(ctx context.Context) error {
			return b.Serve(ctx, "q", func(context.Context, []byte) (any, error) { return nil, nil })
		},
		"Delete": func(ctx context.Context) error { return b.Delete(ctx, bus.Queue, "q") },
	} {
		t.Run(name, func(t *testing.T) {
			err := e.InTx(t.Context(), func(ctx context.Context) error {
				require.ErrorIs(t, use(ctx), store.ErrTx)
				return nil
			})
			require.NoError(t, err)
		})
	}
}

// Calls over a bus that doubles and delays: each is answered once, by its own answer.
func TestCallsDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bus.New(bustest.Faulty(bus.NewMemory(bus.MemoryOptions{}), bustest.Options{Double: 1, Delay: 50 * time.Millisecond, Seed: 5}), nil)
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, b.Listen(ctx))
		require.NoError(t, b.Serve(ctx, "echo", func(_ context.Context, body []byte) (any, error) { return string(body), nil }))
		for i := range 100 {
			var out string
			require.NoError(t, b.Call(ctx, "echo", i, &out))
			require.Equal(t, strconv.Itoa(i), out)
		}
		cancel()
		require.NoError(t, b.Close())
	})
}

// A request that waited past its deadline is not carried out.
func TestLateRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bus.New(bus.NewMemory(bus.MemoryOptions{}), nil)
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, b.Listen(ctx))
		short, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		err := b.Call(short, "later", 1, nil)
		require.ErrorIs(t, err, nacre.Unavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		ran := new(atomic.Int64)
		require.NoError(t, b.Serve(ctx, "later", func(context.Context, []byte) (any, error) { ran.Add(1); return nil, nil }))
		require.NoError(t, b.Call(ctx, "later", 2, nil))
		require.EqualValues(t, 1, ran.Load())

		start := time.Now()
		require.ErrorIs(t, b.Call(ctx, "nobody", 1, nil), nacre.Unavailable)
		require.Equal(t, 10*time.Second, time.Since(start), "a call without a deadline has one")
		cancel()
		require.NoError(t, b.Close())
	})
}

// Close waits for handlers and ends their contexts.
func TestCloseEndsHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bus.New(bus.NewMemory(bus.MemoryOptions{}), nil)
		require.NoError(t, b.Listen(t.Context()))
		ended := new(atomic.Bool)
		require.NoError(t, b.Serve(t.Context(), "slow", func(ctx context.Context, _ []byte) (any, error) {
			<-ctx.Done()
			ended.Store(true)
			return nil, ctx.Err()
		}))
		go func() { _ = b.Call(t.Context(), "slow", 1, nil) }()
		synctest.Wait()
		require.NoError(t, b.Close())
		require.True(t, ended.Load())
	})
}

// The in-process queue is bounded: the oldest goes, and is counted.
func TestMemoryBound(t *testing.T) {
	m := bus.NewMemory(bus.MemoryOptions{Depth: 3})
	defer m.Close()
	b := bus.New(m, nil)
	for i := range 5 {
		require.NoError(t, b.Publish(t.Context(), bus.Queue, "q", i))
	}
	require.EqualValues(t, 2, m.Dropped.Load())
	s, err := m.Subscriber(bus.Queue, "")
	require.NoError(t, err)
	ch, err := s.Subscribe(t.Context(), "q")
	require.NoError(t, err)
	for _, want := range []string{"2", "3", "4"} {
		msg := <-ch
		require.Equal(t, want, string(msg.Payload))
		msg.Ack()
	}
	require.NoError(t, b.Publish(t.Context(), bus.FanOut, "nobody", 1))
	require.NoError(t, b.Publish(t.Context(), bus.Reply, "nobody", 1))
	require.EqualValues(t, 4, m.Dropped.Load(), "what nobody listens to is counted too")
}

// The wait grows from FirstWait to MaxWait, and after MaxTries the message is
// counted dead.
func TestMemoryBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := bus.NewMemory(bus.MemoryOptions{FirstWait: time.Second, MaxWait: 5 * time.Second, MaxTries: 6})
		b := bus.New(m, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Duration
		start := time.Now()
		wait, err := b.Subscribe(ctx, bus.Queue, "q", "", func(context.Context, []byte) error {
			at = append(at, time.Since(start))
			return context.DeadlineExceeded
		})
		require.NoError(t, err)
		require.NoError(t, b.Publish(ctx, bus.Queue, "q", 1))
		time.Sleep(time.Minute)
		synctest.Wait()
		cancel()
		wait()
		require.Equal(t, []time.Duration{0, 1e9, 3e9, 7e9, 12e9, 17e9}, at)
		require.EqualValues(t, 1, m.Dead.Load())
		require.NoError(t, b.Close())
	})
}

// Consumers that leave at once give back what they held in the order published.
func TestMemoryGivesBackInOrder(t *testing.T) {
	m := bus.NewMemory(bus.MemoryOptions{})
	defer m.Close()
	b := bus.New(m, nil)
	s, err := m.Subscriber(bus.Queue, "")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var chs []<-chan *message.Message
	for range 4 {
		ch, err := s.Subscribe(ctx, "q")
		require.NoError(t, err)
		chs = append(chs, ch)
	}
	for i := range 8 {
		require.NoError(t, b.Publish(ctx, bus.Queue, "q", i))
	}
	for _, ch := range chs {
		<-ch
	}
	cancel()
	for _, ch := range chs {
		for range ch {
		}
	}
	ch, err := s.Subscribe(t.Context(), "q")
	require.NoError(t, err)
	for i := range 8 {
		msg := <-ch
		require.Equal(t, strconv.Itoa(i), string(msg.Payload))
		msg.Ack()
	}
}
