package limit

import (
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// RegisteredLimit is how much of a service's resource each project may have
// unless a Limit says otherwise.
type RegisteredLimit struct {
	ID           string  `store:"id,pk" json:"id"`
	ServiceID    string  `store:"service_id,unique=registered_limit_resource" json:"service_id"`
	RegionID     kit.Ref `store:"region_id,unique=registered_limit_resource" json:"region_id"`
	ResourceName string  `store:"resource_name,unique=registered_limit_resource" json:"resource_name"`
	DefaultLimit int     `store:"default_limit" json:"default_limit"`
	Description  *string `store:"description" json:"description"`
}

// Limit is how much of a resource one project or domain may have.
type Limit struct {
	ID            string  `store:"id,pk" json:"id"`
	ProjectID     kit.Ref `store:"project_id,unique=limit_resource" json:"project_id"`
	DomainID      kit.Ref `store:"domain_id,unique=limit_resource" json:"domain_id"`
	ServiceID     string  `store:"service_id,unique=limit_resource" json:"service_id"`
	RegionID      kit.Ref `store:"region_id,unique=limit_resource" json:"region_id"`
	ResourceName  string  `store:"resource_name,unique=limit_resource" json:"resource_name"`
	ResourceLimit int     `store:"resource_limit" json:"resource_limit"`
	Description   *string `store:"description" json:"description"`
}

type tables struct {
	registered *store.Table[RegisteredLimit]
	limits     *store.Table[Limit]
}

func newTables(e store.Engine) tables {
	return tables{registered: store.NewTable[RegisteredLimit](e, "registered_limit"), limits: store.NewTable[Limit](e, "limit")}
}

// Tables are what limits keep in their parent's database.
func Tables() []*store.TableDef {
	t := newTables(nil)
	return []*store.TableDef{t.registered.Def(), t.limits.Def()}
}
