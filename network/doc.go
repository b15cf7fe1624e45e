// Package network is Neutron as a library: networks, subnets, ports, routers,
// floating IPs, security groups, address groups, subnet pools.
//
//	svc, err := network.New(network.Config{Engine: engine, Bus: b})
//	go svc.Run(ctx)
//
// The API is network/api. A host runs network/agent with a driver of
// network/dataplane; the two sides exchange the messages of that package over the
// bus: desired state on "network.host.<name>", reports on "network.report.<name>".
//
// # What it promises
//
// An address is given out once: a unique index holds that, not a look before.
// What a host is to make real stands in one table (what, where, which
// generation), changed in the transaction that changes the object; a change sends
// that object alone, again and again until the host has confirmed it. A host
// removes only what it is told to; what is deleted here stays as a tombstone
// until the host says that it is gone.
//
// A port is ACTIVE only while its host says that it is wired. A port bound to a
// host that was never added has failed to bind; it is wired when the host comes.
//
// # Who gets what
//
// A guest's port goes to its host, and to those to which it has inactive bindings (a
// guest may move there), with its network and its security groups, and those that their
// rules name as remote. Its status is what the host of its active binding says.
//
// A router with its networks goes to one host: of those that live, are not disabled and
// have the gateway's physical network, the one with the fewest routers. Where none has
// that, it goes to one that serves its inner networks, and leaves it for the first that
// does. Else it stays until its host is disabled or has not been heard for HostTimeout
// while others were; then it moves, once, however many processes look. The old host gets a tombstone, and
// when it has let go of its copy the new one tells the neighbours again where the
// router's addresses are.
//
// What a host has no more use for gets a tombstone.
//
// # Generations
//
// Each object has one, which only grows. It goes up before its places are looked
// at, so that a host that is given the object meanwhile is seen, and past the
// tombstone's when the object leaves a host but lives on, so that it can come back.
// A host that knows a later generation than there ever was (the database is an
// older copy) is overtaken.
package network
