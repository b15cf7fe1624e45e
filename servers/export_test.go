package servers

import (
	"context"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/image"
	"github.com/nacre-cloud/nacre/objectstore"
)

// Edges are the edges of a cloud, whichever way they go.
type Edges struct {
	Images         compute.Images
	Networks       compute.Networks
	SecurityGroups compute.SecurityGroups
	Limits         image.Limits
	Projects       objectstore.Projects
}

// Edges are those by direct calls.
func (cl *Cloud) Edges() Edges {
	return Edges{cl.imagesEdge(), cl.networksEdge(), cl.securityGroupsEdge(), cl.limitsEdge(), cl.projectsEdge()}
}

// KnowHosts makes hosts of compute known to network, as followHosts does.
func (cl *Cloud) KnowHosts(ctx context.Context, names []string, known map[string]bool) (map[string]bool, error) {
	return cl.knowHosts(ctx, names, known)
}

// SayHosts says what is wrong with following hosts, if it is something else.
func (cl *Cloud) SayHosts(said string, err error) string { return cl.sayHosts(said, err) }
