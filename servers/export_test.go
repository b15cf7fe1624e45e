package servers

import (
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
