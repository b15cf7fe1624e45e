//go:build realtest

package nats_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/bustest"
	"github.com/nacre-cloud/nacre/bus/nats"
	"github.com/nacre-cloud/nacre/internal/realserver"
)

// The same against the oldest server that is meant to do.
func TestDebianServer(t *testing.T) {
	p := nats.HostPermissions("", "node1", "compute", "network")
	s := realserver.NATS(t, realserver.NATSUser{Name: "control", Password: "secret"},
		realserver.NATSUser{Name: "node1", Password: "secret", Publish: p.Publish, Subscribe: p.Subscribe})
	url := s.URL("control", "secret")
	t.Run("Contract", func(t *testing.T) {
		bustest.Run(t, func(t *testing.T) bus.Transport { return open(t, nats.Options{URL: url}) })
	})
	t.Run("Hosts", func(t *testing.T) {
		control := open(t, nats.Options{URL: url})
		host := open(t, nats.Options{URL: s.URL("node1", "secret"), Host: "node1"})
		hostWorks(t, control, host, "node1")
		other := subscribe(t, control, bus.Queue, "compute.report.node2", "")
		hostRefused(t, host)
		nothing(t, other)
	})
	t.Run("Killed", func(t *testing.T) {
		keptOver(t, open(t, nats.Options{URL: url}), func() { s.Kill(); s.Start() })
	})
	t.Run("Restarted", func(t *testing.T) {
		keptOver(t, open(t, nats.Options{URL: url}), func() { s.Stop(); s.Start() })
	})
}

// keptOver sends messages, each until it is confirmed, before, during and after a
// fault, and shows that all of them arrive.
func keptOver(t testing.TB, tr bus.Transport, fault func()) {
	t.Helper()
	topic := "restart." + uuid.NewString()
	ch := subscribe(t, tr, bus.Queue, topic, "")
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
	const around = 50
	over := make(chan struct{})
	n, failed := 0, 0
	for last := -1; last != n; n++ {
		if n == around {
			go func() { defer close(over); fault() }()
		}
		require.Eventually(t, func() bool {
			p, err := tr.Publisher(bus.Queue)
			if err == nil {
				err = p.Publish(topic, message.NewMessage(uuid.NewString(), []byte(fmt.Sprint(n))))
			}
			if err != nil {
				failed++
			}
			return err == nil
		}, 60*time.Second, time.Millisecond, "message %d", n)
		if last < 0 && n >= around {
			select {
			case <-over:
				last = n + around
			default:
			}
		}
	}
	require.NotZero(t, failed, "the server was not away: the test proves nothing")
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == n }, 60*time.Second, 20*time.Millisecond)
}
