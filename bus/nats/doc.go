// Package nats is the bus over NATS with JetStream (a server of 2.9 or later).
//
//	t, err := nats.Open(ctx, nats.Options{URL: "tls://nacre:secret@broker:4222"})
//	b := bus.New(t, log)
//
// What a kind of delivery becomes:
//
//   - a Queue is a subject of the stream "nacre_queue", whose messages stay on the
//     servers' disks until they are acknowledged; or of "nacre_light", in memory and
//     gone with the server, where Options.Light says so (a host's desired state,
//     which is sent again anyway). One durable consumer a topic hands it out.
//   - each group of a FanOut is a durable consumer of the stream "nacre_fan", which
//     keeps what a group has not had yet. A group goes when nobody has consumed it
//     for Options.Keep.
//   - a Reply is a plain subject, without JetStream.
//
// # Why JetStream
//
// Core NATS hands a message to who listens at that moment. A queue must keep what
// nobody consumes yet, a refused message must come again, and an event that the
// outbox has given away may not die with the consumer that restarts; so events,
// reports and requests are stored, and only answers, which nobody else can use, go
// without. The price is a confirmation a message (some 100 µs), far below that of
// the transaction that caused it.
//
// # What it promises
//
// Publish returns when the server has confirmed the message. A message is
// acknowledged only when its consumer did, so it may come twice and is never lost
// between. One that is refused is held and handed out again after a growing wait,
// ahead of those behind it; one that is refused too often goes to the stream
// "nacre_dead". What a consumer held that died comes again after 10 s, to the next
// one. When the connection is lost, subscriptions stand again by themselves;
// Publish fails meanwhile, and its caller tries again.
//
// A server writes a message to disk before it confirms it, but asks the disk to
// keep it only now and then: for one without replicas set `sync_interval: always`
// in its `jetstream` block if it must survive a power cut. A message is at most as
// long as the server's max_payload (1 MiB unless set).
//
// # Hosts
//
// [HostPermissions] are the subjects that bind a host's user to its own name. A
// host opens its transport with Options.Host. The server lets every user name any
// subject as the place for an answer, so that it could send the server's words to
// another host's topic: each message therefore carries its topic in a header, and
// one without it, or with another, is dropped.
//
// Facts about the server's behaviour are those of nats-server 2.9 and 2.15.
package nats
