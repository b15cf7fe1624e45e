package placement

import (
	"time"

	"github.com/nacre-cloud/nacre/store"
)

// The standard resource classes that compute uses.
const (
	VCPU     = "VCPU"
	MemoryMB = "MEMORY_MB"
	DiskGB   = "DISK_GB"
)

// Provider is a resource provider: a host, or a part of one.
type Provider struct {
	ID   string `store:"id,pk"`
	Name string `store:"name,unique=provider_name"`
	// Generation increases with every change of inventory, traits, aggregates
	// or allocations; writers name the one they saw.
	Generation int64  `store:"generation"`
	ParentID   string `store:"parent_id,null,index=provider_parent"`
	RootID     string `store:"root_id,index=provider_root"`
	// Traits and Aggregates are shown and filtered whole.
	Traits     []string  `store:"traits,json"`
	Aggregates []string  `store:"aggregates,json"`
	CreatedAt  time.Time `store:"created_at"`
	UpdatedAt  time.Time `store:"updated_at"`
}

// Inventory is how much of one resource class a provider offers.
type Inventory struct {
	// ID is "<provider>/<class>".
	ID         string `store:"id,pk"`
	ProviderID string `store:"provider_id,index=inventory_provider"`
	Class      string `store:"class"`
	Total      int64  `store:"total"`
	Reserved   int64  `store:"reserved"`
	MinUnit    int64  `store:"min_unit"`
	MaxUnit    int64  `store:"max_unit"`
	StepSize   int64  `store:"step_size"`
	// Ratio over-commits: capacity is (Total - Reserved) * Ratio.
	Ratio float64 `store:"ratio"`
}

// Capacity is what may be allocated in all.
func (i Inventory) Capacity() int64 { return int64(float64(i.Total-i.Reserved) * i.Ratio) }

// allows reports whether that much may be had at once.
func (i Inventory) allows(n int64) bool {
	return n >= i.MinUnit && n <= i.MaxUnit && (i.StepSize <= 0 || n%i.StepSize == 0)
}

// Allocation is what one consumer uses of one class of one provider.
type Allocation struct {
	// ID is "<consumer>/<provider>/<class>".
	ID         string `store:"id,pk"`
	ConsumerID string `store:"consumer_id,index=allocation_consumer"`
	ProviderID string `store:"provider_id,index=allocation_provider"`
	Class      string `store:"class"`
	Used       int64  `store:"used"`
}

// Consumer is who uses resources: a server.
type Consumer struct {
	ID         string    `store:"id,pk"`
	ProjectID  string    `store:"project_id,index=consumer_project"`
	UserID     string    `store:"user_id"`
	Type       string    `store:"type"`
	Generation int64     `store:"generation"`
	CreatedAt  time.Time `store:"created_at"`
	UpdatedAt  time.Time `store:"updated_at"`
}

// Custom is a resource class or trait that somebody added.
type Custom struct {
	// ID is "class/CUSTOM_X" or "trait/CUSTOM_X".
	ID        string    `store:"id,pk"`
	Kind      string    `store:"kind,index=custom_kind"`
	Name      string    `store:"name"`
	CreatedAt time.Time `store:"created_at"`
}

// Tables are the definitions for the schema of the area whose Engine it shares.
func Tables() []*store.TableDef {
	return []*store.TableDef{
		store.Define[Provider]("placement_provider"), store.Define[Inventory]("placement_inventory"),
		store.Define[Allocation]("placement_allocation"), store.Define[Consumer]("placement_consumer"), store.Define[Custom]("placement_custom"),
	}
}
