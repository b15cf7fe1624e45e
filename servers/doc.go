// Package servers composes a cloud: it joins the areas (identity, image, compute,
// placement, network) in one process, from engines, a bus, drivers and hosts that
// are given as values.
//
//	cloud, err := servers.New(ctx, servers.Config{
//		Engines: map[string]store.Engine{"identity": a, "image": b, "compute": c, "network": d, "objectstore": e},
//		Hosts:   []servers.Host{{Name: "node1", Hypervisor: hv, Dataplane: dp}},
//		AdminPassword: secret,
//	})
//	defer cloud.Close()
//	err = cloud.Ready(ctx)
//	http.ListenAndServe(addr, cloud.Handler())
//
// The databases must be at their schemas: [Migrate] brings them there, New only
// looks. [Cloud.Client] is a gophercloud client that needs no socket, and
// [Cloud.Seed] adds flavors, networks, a demo project.
//
// # What it promises
//
// A New that returns has running areas and agents; [Cloud.Ready] waits until
// each host has answered. Close ends every goroutine that New began and leaves
// guests and their wiring as they are; a New over the same engines and drivers
// finds everything again.
//
// The edges between areas (wire_*.go, one file each) are direct calls: the caller
// travels in the context, the area that is called decides by its own policy. A
// context that is in a store transaction is refused, as it would be over a network.
//
// # Areas apart
//
// With [Config.Areas] a process serves some areas alone; what these need of the others
// they ask over HTTP, by OpenStack's public APIs (package servers/remote), so a real
// service may stand at the other end. Each area has its own database and account, any
// number of processes may serve it over the same database, and a broker joins them. What
// copies have in common besides is in a shared directory: the keys of tokens, and the
// bytes of images where a driver keeps files. Objects in files are one process's. A host that compute is told of
// is known to each copy within a second, and to network within two more.
//
// Package servers/cloudtest is the shortest way to a cloud in a test, and
// servers/allinone a cloud on a machine.
package servers
