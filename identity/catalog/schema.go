package catalog

import (
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// ServiceRecord is an entry of the catalog: "compute", "image".
type ServiceRecord struct {
	ID          string         `store:"id,pk" json:"id"`
	Type        string         `store:"type,index=service_type" json:"type"`
	Name        string         `store:"name" json:"name"`
	Description *string        `store:"description" json:"description,omitempty"`
	Enabled     bool           `store:"enabled" json:"enabled"`
	Extra       map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// Endpoint is where a service is, as one interface ("public", "internal",
// "admin") in one region.
type Endpoint struct {
	ID        string         `store:"id,pk" json:"id"`
	ServiceID string         `store:"service_id,index=endpoint_service" json:"service_id"`
	Interface string         `store:"interface" json:"interface"`
	RegionID  kit.Ref        `store:"region_id,index=endpoint_region" json:"region_id"`
	URL       string         `store:"url" json:"url"`
	Enabled   bool           `store:"enabled" json:"enabled"`
	Extra     map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// Region is a part of the cloud; its id is its name.
type Region struct {
	ID          string         `store:"id,pk" json:"id"`
	Description string         `store:"description" json:"description"`
	ParentID    kit.Ref        `store:"parent_region_id,index=region_parent" json:"parent_region_id"`
	Extra       map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// projectEndpoint lets a project see an endpoint (OS-EP-FILTER).
type projectEndpoint struct {
	ID         string `store:"id,pk"`
	ProjectID  string `store:"project_id,index=project_endpoint_project"`
	EndpointID string `store:"endpoint_id,index=project_endpoint_endpoint"`
}

// EndpointGroup is a set of endpoints, told by what they have in common, that is
// given to projects as one (OS-EP-FILTER).
type EndpointGroup struct {
	ID          string  `store:"id,pk" json:"id"`
	Name        string  `store:"name,index=endpoint_group_name" json:"name"`
	Description *string `store:"description" json:"description"`
	// Filters are what the endpoints have: service_id, region_id, interface, enabled.
	Filters map[string]any `store:"filters,json" json:"filters"`
}

// projectEndpointGroup lets a project see the endpoints of a group.
type projectEndpointGroup struct {
	ID              string `store:"id,pk"`
	ProjectID       string `store:"project_id,index=project_endpoint_group_project"`
	EndpointGroupID string `store:"endpoint_group_id,index=project_endpoint_group_group"`
}

// PolicyDocument is a text that is kept for other services (v3 policies). It has
// no effect here.
type PolicyDocument struct {
	ID    string         `store:"id,pk" json:"id"`
	Type  string         `store:"type,index=policy_type" json:"type"`
	Blob  string         `store:"blob" json:"blob"`
	Extra map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// policyAssociation ties a target to its one policy document.
type policyAssociation struct {
	ID         string `store:"id,pk"`
	PolicyID   string `store:"policy_id,index=policy_association_policy"`
	EndpointID string `store:"endpoint_id,index=policy_association_endpoint"`
	ServiceID  string `store:"service_id,index=policy_association_service"`
	RegionID   string `store:"region_id,index=policy_association_region"`
}

type tables struct {
	services       *store.Table[ServiceRecord]
	endpoints      *store.Table[Endpoint]
	regions        *store.Table[Region]
	endpointsFor   *store.Table[projectEndpoint]
	endpointGroups *store.Table[EndpointGroup]
	groupsFor      *store.Table[projectEndpointGroup]
	policies       *store.Table[PolicyDocument]
	associations   *store.Table[policyAssociation]
}

func newTables(e store.Engine) tables {
	return tables{
		services:       store.NewTable[ServiceRecord](e, "service"),
		endpoints:      store.NewTable[Endpoint](e, "endpoint"),
		regions:        store.NewTable[Region](e, "region"),
		endpointsFor:   store.NewTable[projectEndpoint](e, "project_endpoint"),
		endpointGroups: store.NewTable[EndpointGroup](e, "endpoint_group"),
		groupsFor:      store.NewTable[projectEndpointGroup](e, "project_endpoint_group"),
		policies:       store.NewTable[PolicyDocument](e, "policy"),
		associations:   store.NewTable[policyAssociation](e, "policy_association"),
	}
}

// Tables are what the catalog keeps in its parent's database.
func Tables() []*store.TableDef {
	t := newTables(nil)
	return []*store.TableDef{
		t.services.Def(), t.endpoints.Def(), t.regions.Def(), t.endpointsFor.Def(), t.endpointGroups.Def(), t.groupsFor.Def(),
		t.policies.Def(), t.associations.Def(),
	}
}
