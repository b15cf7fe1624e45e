package servers

import (
	"context"
	"net/http"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"

	"github.com/nacre-cloud/nacre/internal/rest"
)

// HTTPClient reaches the cloud without a socket, whatever host a URL names.
func (cl *Cloud) HTTPClient() *http.Client {
	return &http.Client{Transport: rest.Transport(cl.handler)}
}

// Client is an authenticated gophercloud client that needs no socket. Domain
// empty means the default one; no project means an unscoped token. It
// authenticates again when its token ends.
func (cl *Cloud) Client(ctx context.Context, auth gophercloud.AuthOptions) (*gophercloud.ProviderClient, error) {
	if auth.IdentityEndpoint == "" {
		auth.IdentityEndpoint = cl.c.URL + "/identity/v3"
	}
	if auth.DomainID == "" && auth.DomainName == "" && auth.Username != "" {
		auth.DomainID = "default"
	}
	auth.AllowReauth = auth.TokenID == ""
	p, err := openstack.NewClient(auth.IdentityEndpoint)
	if err != nil {
		return nil, err
	}
	p.HTTPClient = *cl.HTTPClient()
	p.UserAgent.Prepend("nacre")
	return p, openstack.Authenticate(ctx, p, auth)
}

// Endpoint is how clients choose from the catalog.
func (cl *Cloud) Endpoint() gophercloud.EndpointOpts {
	return gophercloud.EndpointOpts{Region: cl.c.Region, Availability: gophercloud.AvailabilityPublic}
}
