package nats_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	raw "github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/bus"
	"github.com/nacre-cloud/nacre/bus/bustest"
	"github.com/nacre-cloud/nacre/bus/nats"
)

const patience = 20 * time.Second

// embedded starts a server in this process. change may be nil.
func embedded(t testing.TB, change func(*server.Options)) *server.Server {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir()}
	if change != nil {
		change(o)
	}
	s, err := server.NewServer(o)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(patience))
	return s
}

func open(t testing.TB, o nats.Options) *nats.Transport {
	t.Helper()
	o.MaxTries = 8
	if o.MaxWait == 0 {
		o.MaxWait = 500 * time.Millisecond
	}
	tr, err := nats.Open(t.Context(), o)
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

func subscribe(t testing.TB, tr bus.Transport, k bus.Kind, topic, group string) <-chan *message.Message {
	t.Helper()
	s, err := tr.Subscriber(k, group)
	require.NoError(t, err)
	ch, err := s.Subscribe(t.Context(), topic)
	require.NoError(t, err)
	return ch
}

func next(t testing.TB, ch <-chan *message.Message) string {
	t.Helper()
	select {
	case m, ok := <-ch:
		require.True(t, ok, "the subscription ended")
		m.Ack()
		return string(m.Payload)
	case <-time.After(patience):
		require.FailNow(t, "no message")
		return ""
	}
}

func nothing(t testing.TB, ch <-chan *message.Message) {
	t.Helper()
	select {
	case m := <-ch:
		require.FailNow(t, "a message arrived", "%s", m.Payload)
	case <-time.After(300 * time.Millisecond):
	}
}

func TestContract(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bus.Transport {
		s := embedded(t, nil)
		return withServer{open(t, nats.Options{URL: s.ClientURL()}), s}
	})
}

// withServer ends its server with it, whose goroutines are not the transport's.
type withServer struct {
	*nats.Transport
	s *server.Server
}

func (w withServer) Close() error {
	err := w.Transport.Close()
	w.s.Shutdown()
	w.s.WaitForShutdown()
	return err
}

// A name of any spelling is a topic of its own.
func TestOddTopics(t *testing.T) {
	tr := open(t, nats.Options{URL: embedded(t, nil).ClientURL()})
	topics := []string{"a b", "a*b", "a>b", "a%20b", "a=20b", "a..b", "a=.b", ".", "ä.host.ö", "compute.report.*", strings.Repeat("x", 300) + "1", strings.Repeat("x", 300) + "2"}
	for _, k := range []bus.Kind{bus.Queue, bus.FanOut, bus.Reply} {
		chans := map[string]<-chan *message.Message{}
		for _, topic := range topics {
			chans[topic] = subscribe(t, tr, k, topic, "g")
		}
		for _, topic := range topics {
			require.NoError(t, send(t, tr, k, topic, topic))
		}
		for _, topic := range topics {
			require.Equal(t, topic, next(t, chans[topic]))
		}
		for _, topic := range topics {
			select {
			case m := <-chans[topic]:
				require.Fail(t, "a message of another topic", "%s got %s", topic, m.Payload)
			default:
			}
		}
	}
}

// What is too long, or goes to a server that is none, is an error that says so.
func TestErrors(t *testing.T) {
	tr := open(t, nats.Options{URL: embedded(t, nil).ClientURL()})
	require.ErrorIs(t, send(t, tr, bus.Queue, "long", strings.Repeat("x", 2<<20)), raw.ErrMaxPayload)
	require.NoError(t, send(t, tr, bus.Queue, "long", "x"))
	_, err := nats.Open(t.Context(), nats.Options{})
	require.ErrorContains(t, err, "URL")
	_, err = nats.Open(t.Context(), nats.Options{URL: "nats://me:secret@127.0.0.1:1"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
	without := embedded(t, func(o *server.Options) { o.JetStream = false })
	_, err = nats.Open(t.Context(), nats.Options{URL: without.ClientURL()})
	require.ErrorContains(t, err, "JetStream")
}

// What was refused too often is kept aside; of a light queue it goes.
func TestDead(t *testing.T) {
	s := embedded(t, nil)
	tr := open(t, nats.Options{URL: s.ClientURL(), MaxWait: 20 * time.Millisecond})
	nc, err := raw.Connect(s.ClientURL())
	require.NoError(t, err)
	defer nc.Close()
	js, err := nc.JetStream()
	require.NoError(t, err)
	for _, topic := range []string{"compute.host.x", "dead.one"} {
		ch := subscribe(t, tr, bus.Queue, topic, "")
		require.NoError(t, send(t, tr, bus.Queue, topic, "poison"))
		for range 8 {
			select {
			case m := <-ch:
				m.Nack()
			case <-time.After(patience):
				require.FailNow(t, "no message")
			}
		}
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		m, err := js.GetLastMsg("nacre_dead", "nacre.dead.queue.dead.one")
		if assert.NoError(c, err) {
			assert.Equal(c, "poison", string(m.Data))
		}
	}, patience, 20*time.Millisecond)
	info, err := js.StreamInfo("nacre_dead")
	require.NoError(t, err)
	require.EqualValues(t, 1, info.State.Msgs)
}

// hostUsers are a control plane without bounds, and two hosts.
func hostUsers(o *server.Options) {
	o.Users = []*server.User{{Username: "control", Password: "secret"}}
	for _, host := range []string{"node1", "node1.x"} {
		p := nats.HostPermissions("", host, "compute", "network")
		o.Users = append(o.Users, &server.User{Username: host, Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: p.Publish}, Subscribe: &server.SubjectPermission{Allow: p.Subscribe}}})
	}
}

func userURL(s *server.Server, user string) string {
	return strings.Replace(s.ClientURL(), "//", "//"+user+":secret@", 1)
}

// With a host's credentials the server gives its own messages and nothing else.
func TestHosts(t *testing.T) {
	s := embedded(t, hostUsers)
	control := open(t, nats.Options{URL: userURL(s, "control")})
	host := open(t, nats.Options{URL: userURL(s, "node1"), Host: "node1"})
	dotted := open(t, nats.Options{URL: userURL(s, "node1.x"), Host: "node1.x"})
	hostWorks(t, control, host, "node1")
	hostWorks(t, control, dotted, "node1.x")
	other := subscribe(t, control, bus.Queue, "compute.report.node2", "")
	hostRefused(t, host)
	nothing(t, other)
}

// hostWorks is what a host may do.
func hostWorks(t testing.TB, control, host *nats.Transport, name string) {
	t.Helper()
	said := subscribe(t, control, bus.Queue, "compute.report."+name, "")
	require.NoError(t, send(t, host, bus.Queue, "compute.report."+name, "hello"))
	require.Equal(t, "hello", next(t, said))
	told := subscribe(t, host, bus.Queue, "compute.host."+name, "")
	require.NoError(t, send(t, control, bus.Queue, "compute.host."+name, "do"))
	require.Equal(t, "do", next(t, told))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ask, answer := bus.New(control, nil), bus.New(host, nil)
	require.NoError(t, ask.Listen(ctx))
	require.NoError(t, answer.Listen(ctx), "answers to the host's own calls")
	echo := func(_ context.Context, body []byte) (any, error) { return string(body), nil }
	require.NoError(t, answer.Serve(ctx, "compute.call."+name, echo))
	require.NoError(t, ask.Serve(ctx, "compute.ask."+name, echo))
	var got string
	require.NoError(t, ask.Call(ctx, "compute.call."+name, "there?", &got))
	require.Equal(t, `"there?"`, got)
	require.NoError(t, answer.Call(ctx, "compute.ask."+name, "here?", &got))
	require.Equal(t, `"here?"`, got)
}

// hostRefused is what the host node1 may not do.
func hostRefused(t testing.TB, host *nats.Transport) {
	t.Helper()
	s, err := host.Subscriber(bus.Queue, "")
	require.NoError(t, err)
	for _, topic := range []string{"compute.host.node2", "compute.call.node2", "compute.report.node1", "compute.report.node2", "volume.host.node1", "compute.host.*"} {
		_, err = s.Subscribe(t.Context(), topic)
		require.ErrorIs(t, err, raw.ErrPermissionViolation, topic)
	}
	for _, topic := range []string{"compute.report.node2", "compute.host.node2", "network.host.node1"} {
		require.ErrorIs(t, send(t, host, bus.Queue, topic, "forged"), raw.ErrPermissionViolation, topic)
	}
	require.ErrorIs(t, send(t, host, bus.FanOut, "notifications.compute", "forged"), raw.ErrPermissionViolation)
	for _, k := range []bus.Kind{bus.FanOut, bus.Reply} {
		spy, err := host.Subscriber(k, "spy")
		require.NoError(t, err)
		for _, topic := range []string{"notifications.identity", "reply.node2", "reply." + uuid.NewString(), "reply.node1"} {
			_, err = spy.Subscribe(t.Context(), topic)
			require.ErrorIs(t, err, raw.ErrPermissionViolation, topic)
		}
	}
}

// A host that names another's topic as the place for an answer makes the server
// send there what the host could not: it is dropped.
func TestHostCannotBorrowTheServersVoice(t *testing.T) {
	s := embedded(t, hostUsers)
	control := open(t, nats.Options{URL: userURL(s, "control")})
	victim := subscribe(t, control, bus.Queue, "compute.report.node2", "")
	host := open(t, nats.Options{URL: userURL(s, "node1"), Host: "node1"})
	subscribe(t, host, bus.Queue, "network.host.node1", "") // makes the consumer

	nc, err := raw.Connect(userURL(s, "node1"), raw.CustomInboxPrefix("nacre.inbox.node1"))
	require.NoError(t, err)
	defer nc.Close()
	const foreign = "nacre.queue.compute.report.node2"
	require.NoError(t, nc.PublishRequest("nacre.queue.compute.report.node1", foreign, []byte("{}")))
	config := map[string]any{"stream_name": "nacre_light", "config": raw.ConsumerConfig{Durable: "compute=2Ehost=2Enode1", Name: "compute=2Ehost=2Enode1",
		FilterSubject: "nacre.light.compute.host.node1", AckPolicy: raw.AckExplicitPolicy}}
	body, err := json.Marshal(config)
	require.NoError(t, err)
	made, err := nc.Request("$JS.API.CONSUMER.CREATE.nacre_light.compute=2Ehost=2Enode1.nacre.light.compute.host.node1", body, patience)
	require.NoError(t, err)
	require.NotContains(t, string(made.Data), "error")
	require.NoError(t, nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.nacre_light.compute=2Ehost=2Enode1", foreign, []byte(`{"batch":1}`)))
	require.NoError(t, nc.Flush())
	require.NoError(t, send(t, control, bus.Queue, "compute.host.node1", "meant for node1"))

	// All of it has come where it was sent once the honest message behind it is there.
	admin, err := raw.Connect(userURL(s, "control"))
	require.NoError(t, err)
	defer admin.Close()
	js, err := admin.JetStream()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := js.StreamInfo("nacre_queue")
		return err == nil && info.State.LastSeq >= 3
	}, patience, 10*time.Millisecond, "the server no longer does this: the test proves nothing")
	require.NoError(t, send(t, control, bus.Queue, "compute.report.node2", "honest"))
	require.Equal(t, "honest", next(t, victim))
}

// A server that ends and comes back on its port finds the subscriptions again, also
// those whose stream was in memory.
func TestReconnect(t *testing.T) {
	dir := t.TempDir()
	var port int
	start := func() *server.Server {
		return embedded(t, func(o *server.Options) { o.StoreDir = dir; o.Port = max(port, -1) - map[bool]int{true: 1}[port == 0] })
	}
	s := start()
	port = s.Addr().(*net.TCPAddr).Port
	tr := open(t, nats.Options{URL: s.ClientURL()})
	chans := map[string]<-chan *message.Message{"work.kept": subscribe(t, tr, bus.Queue, "work.kept", ""), "compute.host.a": subscribe(t, tr, bus.Queue, "compute.host.a", ""),
		"events": subscribe(t, tr, bus.FanOut, "events", "g"), "reply.x": subscribe(t, tr, bus.Reply, "reply.x", "")}
	kinds := map[string]bus.Kind{"events": bus.FanOut, "reply.x": bus.Reply}
	kind := func(topic string) bus.Kind {
		if k, ok := kinds[topic]; ok {
			return k
		}
		return bus.Queue
	}
	require.NoError(t, send(t, tr, bus.Queue, "later", "kept over the restart"))
	s.Shutdown()
	s.WaitForShutdown()
	require.Error(t, send(t, tr, bus.Queue, "work.kept", "nobody takes it"))
	start()
	for topic, ch := range chans {
		var got string
		require.Eventually(t, func() bool {
			p, err := tr.Publisher(kind(topic))
			if err != nil || p.Publish(topic, message.NewMessage(uuid.NewString(), []byte(topic))) != nil {
				return false
			}
			select {
			case m := <-ch:
				m.Ack()
				got = string(m.Payload)
				return true
			case <-time.After(time.Second):
				return false
			}
		}, patience, 50*time.Millisecond, topic)
		require.Equal(t, topic, got)
	}
	require.Equal(t, "kept over the restart", next(t, subscribe(t, tr, bus.Queue, "later", "")))
}

// Over TLS, and only with a certificate that is trusted.
func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	s := embedded(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		o.TLS = true
	})
	url := strings.Replace(s.ClientURL(), "nats://", "tls://", 1)
	tr := open(t, nats.Options{URL: url, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}})
	require.NoError(t, send(t, tr, bus.Queue, "q", "x"))
	require.Equal(t, "x", next(t, subscribe(t, tr, bus.Queue, "q", "")))
	_, err := nats.Open(t.Context(), nats.Options{URL: url})
	require.ErrorContains(t, err, "certificate")
	plain := embedded(t, nil)
	_, err = nats.Open(t.Context(), nats.Options{URL: strings.Replace(plain.ClientURL(), "nats://", "tls://", 1)})
	require.ErrorIs(t, err, raw.ErrSecureConnWanted, "no falling back to an open connection")
}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func BenchmarkPublish(b *testing.B) {
	tr := open(b, nats.Options{URL: embedded(b, nil).ClientURL()})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			assert.NoError(b, send(b, tr, bus.Queue, "bench", "x"))
		}
	})
}
