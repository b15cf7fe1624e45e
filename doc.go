// Package nacre is the vocabulary that every part of Nacre shares: what an
// error means, who a caller is, what a user asked of a list, what an event
// reports, and the few small interfaces by which an area is told who may do
// what. It imports the standard library only, so that a driver, a store engine
// or a product can speak it without taking anything else along.
//
// Nacre is OpenStack as a Go library. The areas (packages identity, image,
// compute, network, …) hold what OpenStack knows and decides; each is a
// concrete Service built from one Config. Kits (store, bus, internal/…) say how
// to keep, tell and serve. Package servers composes them; package
// servers/cloudtest puts a whole cloud into a Go test.
//
// # Errors
//
// What goes wrong is an [Error] with a [Kind] out of a closed set. Message may
// be shown to the user; the wrapped cause goes to the log alone. Each service's
// HTTP dialect turns Kind and Code into its own status and body; an error that
// is no *Error becomes a bare 500 with a request id.
//
//	if errors.Is(err, nacre.NotFound) { … }
//
// # Callers
//
// A [Caller] travels in the context ([WithCaller], [CallerFrom]). Policy,
// validation and quota are decided in the Service's methods from that Caller,
// so HTTP, in-process and bus callers pass the same gate. [AsService] is the
// only way to act with service privilege.
package nacre
