package api

import (
	"net/http"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (a *api) inventoryRoutes() []rest.Route {
	const all, class = one + "/inventories", one + "/inventories/{resource_class}"
	return []rest.Route{
		{Method: "GET", Path: all, Policy: []string{"placement:resource_providers:inventories:list"}, View: inventoriesView{}, Op: rest.Do(a.listInventories)},
		{Method: "PUT", Path: all, Policy: []string{"placement:resource_providers:inventories:update"}, View: inventoriesView{}, Op: in(a.setInventories)},
		{Method: "POST", Path: all, Status: 201, Policy: []string{"placement:resource_providers:inventories:create"}, View: inventoryView{}, Op: in(a.addInventory)},
		{Method: "DELETE", Path: all, Max: "1.4", Op: rest.Do(noSuchVersion)},
		{Method: "DELETE", Path: all, Min: "1.5", Status: 204, Policy: []string{"placement:resource_providers:inventories:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.ClearInventories(r.Context(), r.Var("uuid"))
		})},
		{Method: "GET", Path: class, Policy: []string{"placement:resource_providers:inventories:show"}, View: inventoryView{}, Op: rest.Do(a.getInventory)},
		{Method: "PUT", Path: class, Policy: []string{"placement:resource_providers:inventories:update"}, View: inventoryView{}, Op: in(a.updateInventory)},
		{Method: "DELETE", Path: class, Status: 204, Policy: []string{"placement:resource_providers:inventories:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteInventory(r.Context(), r.Var("uuid"), r.Var("resource_class"))
		})},
	}
}

type inventoryView struct {
	Total      int64   `json:"total"`
	Reserved   int64   `json:"reserved"`
	MinUnit    int64   `json:"min_unit"`
	MaxUnit    int64   `json:"max_unit"`
	StepSize   int64   `json:"step_size"`
	Ratio      float64 `json:"allocation_ratio"`
	Generation *int64  `json:"resource_provider_generation,omitempty"`
}

type inventoriesView struct {
	Inventories map[string]inventoryView `json:"inventories"`
	Generation  int64                    `json:"resource_provider_generation"`
}

func inventoryOf(i placement.Inventory, generation *int64) inventoryView {
	return inventoryView{i.Total, i.Reserved, i.MinUnit, i.MaxUnit, i.StepSize, i.Ratio, generation}
}

func inventoriesOf(p placement.Provider, invs []placement.Inventory) inventoriesView {
	out := inventoriesView{map[string]inventoryView{}, p.Generation}
	for _, i := range invs {
		out.Inventories[i.Class] = inventoryOf(i, nil)
	}
	return out
}

// amounts are the fields of an inventory in a body.
type amounts struct {
	Total    int64             `json:"total" valid:"required,min=1,max=2147483647"`
	Reserved int64             `json:"reserved" valid:"min=0,max=2147483647"`
	MinUnit  rest.Opt[int64]   `json:"min_unit" valid:"min=1,max=2147483647"`
	MaxUnit  rest.Opt[int64]   `json:"max_unit" valid:"min=1,max=2147483647"`
	StepSize rest.Opt[int64]   `json:"step_size" valid:"min=1,max=2147483647"`
	Ratio    rest.Opt[float64] `json:"allocation_ratio" valid:"max=3.40282e+38"`
}

func or[T any](o rest.Opt[T], def T) T {
	if o.Set {
		return o.Value
	}
	return def
}

// inventory is a with placement's defaults. Before 1.26 all of an inventory may
// not be reserved.
func (a amounts) inventory(r *rest.Request, class, action string) (placement.Inventory, error) {
	inv := placement.Inventory{Class: class, Total: a.Total, Reserved: a.Reserved, MinUnit: or(a.MinUnit, 1), MaxUnit: or(a.MaxUnit, placement.MaxInt),
		StepSize: or(a.StepSize, 1), Ratio: or(a.Ratio, 1)}
	if !namePattern.MatchString(class) || len(class) > 255 {
		return inv, invalid("JSON does not validate: %s does not match '^[A-Z0-9_]+$'", rest.PyRepr(class))
	}
	if r.Version < rest.V("1.26") && inv.Capacity() <= 0 {
		id := r.Var("uuid")
		return inv, invalid("Unable to %s inventory for resource provider %s: Invalid inventory for '%s' on resource provider '%s'. The reserved value is greater than or equal to total.", action, id, class, id)
	}
	return inv, nil
}

func inventories(r *rest.Request, in map[string]amounts) ([]placement.Inventory, error) {
	var out []placement.Inventory
	for class, b := range in {
		inv, err := b.inventory(r, class, "update")
		if err != nil {
			return nil, err
		}
		out = append(out, inv)
	}
	slices.SortFunc(out, func(a, b placement.Inventory) int {
		if a.Class < b.Class {
			return -1
		}
		return 1
	})
	return out, nil
}

func (a *api) listInventories(r *rest.Request) (any, error) {
	p, invs, err := a.s.Inventories(r.Context(), r.Var("uuid"))
	if err != nil {
		return nil, err
	}
	fresh(r, p.UpdatedAt)
	return inventoriesOf(p, invs), nil
}

func (a *api) getInventory(r *rest.Request) (any, error) {
	p, inv, err := a.s.Inventory(r.Context(), r.Var("uuid"), r.Var("resource_class"))
	if err != nil {
		return nil, err
	}
	fresh(r, p.UpdatedAt)
	return inventoryOf(inv, &p.Generation), nil
}

type setInventories struct {
	Generation  int64              `json:"resource_provider_generation" valid:"required"`
	Inventories map[string]amounts `json:"inventories" valid:"required"`
}

func (a *api) setInventories(r *rest.Request, b *setInventories) (any, error) {
	invs, err := inventories(r, b.Inventories)
	if err != nil {
		return nil, err
	}
	p, err := a.s.SetInventories(r.Context(), r.Var("uuid"), b.Generation, invs)
	if err != nil {
		return nil, err
	}
	fresh(r, time.Time{})
	return inventoriesOf(p, invs), nil
}

type addInventory struct {
	Class      string          `json:"resource_class" valid:"required,pattern=^[A-Z0-9_]+$"`
	Generation rest.Opt[int64] `json:"resource_provider_generation"`
	amounts
}

func (a *api) addInventory(r *rest.Request, b *addInventory) (any, error) {
	inv, err := b.inventory(r, b.Class, "create")
	if err != nil {
		return nil, err
	}
	p, err := a.s.AddInventory(r.Context(), r.Var("uuid"), b.Generation.Ptr(), inv)
	if err != nil {
		return nil, err
	}
	location(r, "/resource_providers/"+p.ID+"/inventories/"+inv.Class)
	r.SetStatus(http.StatusCreated)
	fresh(r, time.Time{})
	return inventoryOf(inv, &p.Generation), nil
}

type updateInventory struct {
	Generation int64 `json:"resource_provider_generation" valid:"required"`
	amounts
}

func (a *api) updateInventory(r *rest.Request, b *updateInventory) (any, error) {
	inv, err := b.inventory(r, r.Var("resource_class"), "update")
	if err != nil {
		return nil, err
	}
	p, err := a.s.UpdateInventory(r.Context(), r.Var("uuid"), b.Generation, inv)
	if err != nil {
		return nil, err
	}
	fresh(r, time.Time{})
	return inventoryOf(inv, &p.Generation), nil
}
