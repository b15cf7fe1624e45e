// Package network is Neutron as a library: networks, subnets, ports, routers,
// floating IPs, security groups.
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
// A port is ACTIVE only while its host says that it is wired.
package network
