// Package bus carries messages between the parts of a cloud: events to whoever
// listens, desired state to hosts, reports back, and calls that need an answer
// now. Watermill's Publisher and Subscriber carry them; a [Transport] opens
// those by [Kind]. [NewMemory] is the transport inside one process.
//
// The bus is never a lock and never the truth. Any message may be lost, doubled
// or late, and the cloud still converges; package bustest has a transport that
// does all of that.
//
// What the kinds promise:
//
//   - [FanOut]: each group of subscribers gets every message published after it
//     subscribed; within a group consumers compete. Without a group it is gone.
//   - [Queue]: one queue a topic, kept until consumed, consumers compete, in
//     order. A refused message (nack) comes again after a growing wait, ahead of
//     the others.
//   - [Reply]: one consumer, nothing is kept for one that is gone.
package bus
