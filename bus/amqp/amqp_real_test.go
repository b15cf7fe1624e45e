//go:build realtest

package amqp_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/amqp"
	"github.com/nacre-cloud/nacre/bus/bustest"
	"github.com/nacre-cloud/nacre/internal/realserver"
)

func open(t testing.TB, url string) *amqp.Transport {
	t.Helper()
	tr, err := amqp.Open(t.Context(), amqp.Options{URL: url, MaxTries: 8, MaxWait: 500 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tr.Close()) })
	return tr
}

func send(t testing.TB, tr bus.Transport, k bus.Kind, topic, body string) error {
	t.Helper()
	p, err := tr.Publisher(k)
	require.NoError(t, err)
	return p.Publish(topic, message.NewMessage(uuid.NewString(), []byte(body)))
}

func TestRabbitMQ(t *testing.T) {
	broker := realserver.RabbitMQ(t)
	t.Run("Contract", func(t *testing.T) {
		bustest.Run(t, func(t *testing.T) bus.Transport { return open(t, broker.URL()) })
	})
	t.Run("Light", func(t *testing.T) {
		tr := open(t, broker.URL())
		require.NoError(t, send(t, tr, bus.Queue, "compute.host.x", "1"))
		require.Contains(t, broker.Ctl("list_queues", "-s", "name", "type"), "nacre.q.compute.host.x\tclassic")
	})
	t.Run("Dead", func(t *testing.T) {
		tr := open(t, broker.URL())
		before := deadMessages(t, broker)
		require.NoError(t, send(t, tr, bus.Queue, "dead.one", "poison"))
		s, err := tr.Subscriber(bus.Queue, "")
		require.NoError(t, err)
		ch, err := s.Subscribe(t.Context(), "dead.one")
		require.NoError(t, err)
		for range 8 {
			(<-ch).Nack()
		}
		require.Eventually(t, func() bool { return deadMessages(t, broker) == before+1 }, 10*time.Second, 200*time.Millisecond)
	})
	t.Run("Hosts", func(t *testing.T) { hosts(t, broker) })
	t.Run("Restart", func(t *testing.T) { restart(t, broker) })
}

func deadMessages(t *testing.T, broker *realserver.Rabbit) (n int) {
	t.Helper()
	var name string
	for _, line := range strings.Split(broker.Ctl("list_queues", "-s", "name", "messages"), "\n") {
		var m int
		if _, err := fmt.Sscan(line, &name, &m); err == nil && name == "nacre.dead" {
			n = m
		}
	}
	return n
}

// hosts: with a host's credentials the broker gives its own messages and nothing
// else.
func hosts(t *testing.T, broker *realserver.Rabbit) {
	control := open(t, broker.URL())
	broker.Ctl("add_user", "node1", "secret")
	p := amqp.HostPermissions("", "node1")
	broker.Ctl("set_permissions", "node1", p.Configure, p.Write, p.Read)
	for exchange, keys := range p.Topics {
		broker.Ctl("set_topic_permissions", "node1", exchange, keys[0], keys[1])
	}
	reports, err := control.Subscriber(bus.Queue, "")
	require.NoError(t, err)
	said, err := reports.Subscribe(t.Context(), "compute.report.node1")
	require.NoError(t, err)
	other, err := reports.Subscribe(t.Context(), "compute.report.node2")
	require.NoError(t, err)

	host := open(t, broker.UserURL("node1", "secret"))
	require.NoError(t, send(t, host, bus.Queue, "compute.report.node1", "hello"))
	m := <-said
	require.Equal(t, "hello", string(m.Payload))
	m.Ack()
	s, err := host.Subscriber(bus.Queue, "")
	require.NoError(t, err)
	told, err := s.Subscribe(t.Context(), "compute.host.node1")
	require.NoError(t, err)
	require.NoError(t, send(t, control, bus.Queue, "compute.host.node1", "do"))
	m = <-told
	require.Equal(t, "do", string(m.Payload))
	m.Ack()

	for _, topic := range []string{"compute.host.node2", "compute.call.node2", "compute.report.node1", "compute.report.node2"} {
		_, err = s.Subscribe(t.Context(), topic)
		require.ErrorContains(t, err, "ACCESS_REFUSED", topic)
	}
	for _, topic := range []string{"compute.report.node2", "compute.host.node2", "network.host.node1"} {
		require.Error(t, send(t, host, bus.Queue, topic, "forged"), topic)
	}
	require.Error(t, send(t, host, bus.FanOut, "notifications.compute", "forged"))
	named, err := amqp.Open(t.Context(), amqp.Options{URL: broker.UserURL("node1", "secret"), Host: "node1"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, named.Close()) })
	r, err := named.Subscriber(bus.Reply, "")
	require.NoError(t, err)
	answers, err := r.Subscribe(t.Context(), named.ReplyTopic())
	require.NoError(t, err)
	require.NotNil(t, answers, "its own answers")
	for _, topic := range []string{"reply.#", "reply.*", "reply.node1.*", control.ReplyTopic(), "reply.node2." + uuid.NewString()} {
		_, err = r.Subscribe(t.Context(), topic)
		require.ErrorContains(t, err, "ACCESS_REFUSED", topic)
	}
	require.NoError(t, send(t, named, bus.Reply, control.ReplyTopic(), "an answer"))
	f, err := host.Subscriber(bus.FanOut, "spy")
	require.NoError(t, err)
	_, err = f.Subscribe(t.Context(), "notifications.identity")
	require.ErrorContains(t, err, "ACCESS_REFUSED")
	select {
	case m := <-other:
		require.Fail(t, "a forged report arrived", "%s", m.Payload)
	case <-time.After(300 * time.Millisecond):
	}
}

// restart: what was confirmed survives the broker's end, and subscriptions stand
// again by themselves.
func restart(t *testing.T, broker *realserver.Rabbit) {
	tr := open(t, broker.URL())
	const topic, n = "restart.work", 200
	s, err := tr.Subscriber(bus.Queue, "")
	require.NoError(t, err)
	ch, err := s.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	var mu sync.Mutex
	got := map[string]int{}
	go func() {
		for m := range ch {
			mu.Lock()
			got[string(m.Payload)]++
			mu.Unlock()
			m.Ack()
		}
	}()
	restarted := make(chan struct{})
	for i := range n {
		if i == n/4 {
			go func() {
				defer close(restarted)
				broker.Stop()
				broker.Start()
			}()
		}
		body := fmt.Sprint(i)
		var err error
		for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if err = send(t, tr, bus.Queue, topic, body); err == nil {
				break
			}
		}
		require.NoError(t, err, body)
	}
	<-restarted
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == n }, 60*time.Second, 50*time.Millisecond)
}

func BenchmarkPublish(b *testing.B) {
	tr := open(b, realserver.RabbitMQ(b).URL())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			require.NoError(b, send(b, tr, bus.Queue, "bench", "x"))
		}
	})
}
