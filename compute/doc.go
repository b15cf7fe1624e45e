// Package compute is Nova as a library: servers, flavors, keypairs, server groups,
// hosts and their aggregates, and (in the sub-area compute/placement) what hosts
// offer.
//
//	svc, err := compute.New(compute.Config{
//		Engine: engine, Bus: b, Images: images, Networks: networks, Placement: pl,
//	})
//	go svc.Run(ctx)
//
// The API is compute/api. A host runs compute/agent with a driver of
// compute/hypervisor; the two sides exchange the messages of that package over
// the bus: desired state on "compute.host.<name>", reports on
// "compute.report.<name>".
//
// # What it promises
//
// A request that is accepted is a row and a row of work, committed together. The
// work brings the server to rest whatever dies on the way: ACTIVE, SHUTOFF, ERROR
// with a reason that the user can read, or gone with everything it had. Nothing
// is held twice: ports that the server made go with it, ports that the user
// brought stay, unbound. Deleting works in every state.
//
// A server becomes ACTIVE only after its ports are wired: the guest is built
// paused, the data plane reports its ports, then the guest runs.
//
// A server that moves (resize, cold and live migration) has a Move in its row until it
// is at rest: what is wanted of its second host and what that host said. Its place on
// the new host is its own, what it had on the old one the migration holds, until the
// move is confirmed or taken back. At every moment one host owns the guest; what the
// other has is destroyed by a tombstone, and only when it is known where the guest is.
// A live migration that fails, is called off or takes too long leaves the guest where
// it runs; while neither host can be asked where that is, the server stays MIGRATING. An
// evacuation is a new build on another host; the old host, which must be down,
// destroys what it has when it comes back.
//
// A server group's policy holds however many of its servers are placed at once: the
// claim of a host looks again, under the group's lock. A host is in one zone, which does
// not change while it has servers or may get one back. A server that was asked for in a
// zone never leaves it; one that was not may move into another.
//
// What a host destroys, a tombstone names. A host that has not answered yet keeps
// its tombstone; the server itself is gone for the user.
package compute
