// Package amqp is the bus over RabbitMQ (AMQP 0-9-1).
//
//	t, err := amqp.Open(ctx, amqp.Options{URL: "amqps://nacre:secret@broker/cloud"})
//	b := bus.New(t, log)
//
// What a kind of delivery becomes:
//
//   - a Queue is a quorum queue, or a classic one whose messages go with the
//     broker where Options.Light says so (a host's desired state, which is sent
//     again in full anyway);
//   - each group of a FanOut is a quorum queue, which goes when nobody has consumed
//     it for Options.Keep;
//   - a Reply is a classic queue that goes with its consumer.
//
// Each kind has a topic exchange of its own ("nacre.queue", "nacre.fan",
// "nacre.reply"), and the topic is the routing key, so that the broker's topic
// permissions can bind a host to its own topics ([HostPermissions]).
//
// # What it promises
//
// Publish returns when the broker has confirmed the message (a quorum queue: on
// disk at a majority). A message is acknowledged only when its consumer did, so it
// may come twice and is never lost between. One that is refused is held and handed
// out again after a growing wait, ahead of those behind it; one that is refused too
// often goes to the queue "nacre.dead". When the connection is lost, subscriptions
// stand again by themselves; Publish fails meanwhile, and its caller tries again.
//
// Facts about the broker's behaviour are those of RabbitMQ 3.10.
package amqp
