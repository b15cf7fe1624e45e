// Package remote is the edges between areas over HTTP: what compute needs of network
// and image, network of compute, image and object store of identity, asked of services
// in other processes by OpenStack's public APIs alone. At the other end may be Nacre's
// service or the real one.
//
//	others, err := remote.New(remote.Config{IdentityURL: "https://cloud/identity/v3", Username: "nova", Password: secret, Project: "service", Region: "RegionOne"})
//	compute.New(compute.Config{Images: others.Images(), Networks: others.Networks(), …})
//
// # Who asks
//
// A context that holds a user's caller with its token asks with that token, and shows
// the service's own beside it (X-Service-Token), so that a long request outlives the
// user's. A context that was made by nacre.AsService asks with the service's token. A
// user without a token is refused: nothing is ever done with the service's rights by
// accident. The service's user needs the roles admin and service, as the installation
// guides give them to nova, neutron and glance.
//
// Other services' addresses come from the catalog of the service's own token, by type,
// region and interface ("internal"), or from Config.Endpoints. The token is renewed before
// it ends and when it is refused, and the catalog with it; a service that the catalog
// lacks is looked for anew once a minute. Each request carries the global request id.
//
// # What is kept where
//
// A port that compute has given to a server says so in its binding:profile, which users
// can't write: under [network.ProfileNIC] are the interface's position, whether the port was
// made for the server, and its tag. By it the port is found again, so that what was cut
// off can be done once more.
//
// # Errors
//
// An error of the other service becomes a nacre.Error with its message and type; the
// type decides the kind where a status says too little (neutron's OverQuota is a 409).
// What can't be reached is nacre.Unavailable. Requests that change nothing, or nothing
// twice, are tried three times; a POST only if it was never sent.
package remote
