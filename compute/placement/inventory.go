package placement

import (
	"context"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// MaxInt bounds every number of an inventory.
const MaxInt = 0x7FFFFFFF

// Inventories are a provider and what it offers, by class.
func (s *Service) Inventories(ctx context.Context, id string) (Provider, []Inventory, error) {
	if err := s.can(ctx, "resource_providers:inventories:list", nil); err != nil {
		return Provider{}, nil, err
	}
	return s.inventoriesOf(ctx, id)
}

func (s *Service) inventoriesOf(ctx context.Context, id string) (Provider, []Inventory, error) {
	p, err := s.provider(ctx, id)
	if err != nil {
		return p, nil, err
	}
	invs, err := s.inventories.Where(ctx, store.Eq("provider_id", id))
	return p, invs, err
}

// Inventory is what a provider offers of one class.
func (s *Service) Inventory(ctx context.Context, id, class string) (Provider, Inventory, error) {
	if err := s.can(ctx, "resource_providers:inventories:show", nil); err != nil {
		return Provider{}, Inventory{}, err
	}
	p, err := s.provider(ctx, id)
	if err != nil {
		return p, Inventory{}, err
	}
	inv, err := s.inventories.Get(ctx, id+"/"+class)
	return p, inv, store.WrapNotFound(err, func() *nacre.Error { return notFound("No inventory of class %s for %s", class, id) })
}

func generationConflict() *nacre.Error {
	return conflict(CodeConcurrentUpdate, "resource provider generation conflict")
}

// checkInventories refuses what offers less than nothing, or is of no class.
func (s *Service) checkInventories(ctx context.Context, p Provider, action string, invs []Inventory) error {
	classes := make([]string, len(invs))
	for i := range invs {
		invs[i].ID, invs[i].ProviderID = p.ID+"/"+invs[i].Class, p.ID
		classes[i] = invs[i].Class
		if invs[i].Capacity() < 0 {
			return invalid("Unable to %s inventory for resource provider %s: Invalid inventory for '%s' on resource provider '%s'. The reserved value is greater than total.", action, p.ID, invs[i].Class, p.ID)
		}
	}
	missing, err := s.unknown(ctx, "class", classes)
	if err == nil && len(missing) > 0 {
		err = invalid("Unknown resource class in inventory for resource provider %s: No such resource class %s.", p.ID, missing[0])
	}
	return err
}

// SetInventories replaces all that a provider offers. generation must be the
// provider's. A class in use can't go: nacre.Conflict with CodeInventoryInUse.
func (s *Service) SetInventories(ctx context.Context, id string, generation int64, invs []Inventory) (Provider, error) {
	if err := s.can(ctx, "resource_providers:inventories:update", nil); err != nil {
		return Provider{}, err
	}
	var out Provider
	err := s.change(ctx, id, func(ctx context.Context, p Provider) error {
		if p.Generation != generation {
			return generationConflict()
		}
		if err := s.checkInventories(ctx, p, "update", invs); err != nil {
			return err
		}
		if err := s.replaceInventories(ctx, id, invs, true); err != nil {
			return err
		}
		var err error
		out, err = s.provider(ctx, id)
		return err
	})
	return out, err
}

// replaceInventories writes a provider's inventories; with keepUsed a class that
// has allocations must stay.
func (s *Service) replaceInventories(ctx context.Context, id string, invs []Inventory, keepUsed bool) error {
	if keepUsed {
		used, err := s.allocations.Aggregate(ctx, store.Aggregate{Where: store.Eq("provider_id", id), By: []string{"class"}})
		if err != nil {
			return err
		}
		var lost []string
		for _, g := range used {
			class, _ := g.Key[0].(string)
			if !slices.ContainsFunc(invs, func(i Inventory) bool { return i.Class == class }) {
				lost = append(lost, class)
			}
		}
		if len(lost) > 0 {
			return conflict(CodeInventoryInUse, "update conflict: Inventory for '%s' on resource provider '%s' in use.", join(sorted(lost)), id)
		}
	}
	if _, err := s.inventories.DeleteWhere(ctx, store.Eq("provider_id", id)); err != nil {
		return err
	}
	if err := s.inventories.Insert(ctx, invs...); err != nil {
		return err
	}
	return s.touch(ctx, id)
}

// ClearInventories removes all that a provider offers.
func (s *Service) ClearInventories(ctx context.Context, id string) error {
	if err := s.can(ctx, "resource_providers:inventories:delete", nil); err != nil {
		return err
	}
	return s.change(ctx, id, func(ctx context.Context, _ Provider) error { return s.replaceInventories(ctx, id, nil, true) })
}

// AddInventory offers one class more. One that is there is nacre.Conflict. A
// generation that is not nil must be the provider's.
func (s *Service) AddInventory(ctx context.Context, id string, generation *int64, inv Inventory) (Provider, error) {
	if err := s.can(ctx, "resource_providers:inventories:create", nil); err != nil {
		return Provider{}, err
	}
	return s.putInventory(ctx, id, generation, "create", inv, func(ctx context.Context, inv Inventory) error {
		err := s.inventories.Insert(ctx, inv)
		if store.IsDuplicate(err) {
			err = conflict(CodeConcurrentUpdate, "Update conflict: the resource provider has an inventory of class %s.", inv.Class)
		}
		return err
	})
}

// UpdateInventory changes what a provider offers of one class.
func (s *Service) UpdateInventory(ctx context.Context, id string, generation int64, inv Inventory) (Provider, error) {
	if err := s.can(ctx, "resource_providers:inventories:update", nil); err != nil {
		return Provider{}, err
	}
	return s.putInventory(ctx, id, &generation, "update", inv, func(ctx context.Context, inv Inventory) error {
		_, err := s.inventories.Update(ctx, inv.ID, func(x *Inventory) error { *x = inv; return nil })
		return store.WrapNotFound(err, func() *nacre.Error {
			return invalid("No inventory record with resource class for resource provider %s: No inventory of class %s found.", id, inv.Class)
		})
	})
}

func (s *Service) putInventory(ctx context.Context, id string, generation *int64, action string, inv Inventory, write func(ctx context.Context, inv Inventory) error) (out Provider, err error) {
	err = s.change(ctx, id, func(ctx context.Context, p Provider) error {
		if generation != nil && *generation != p.Generation {
			return generationConflict()
		}
		invs := []Inventory{inv}
		if err := s.checkInventories(ctx, p, action, invs); err != nil {
			return err
		}
		if err := write(ctx, invs[0]); err != nil {
			return err
		}
		if err := s.touch(ctx, id); err != nil {
			return err
		}
		out, err = s.provider(ctx, id)
		return err
	})
	return out, err
}

// DeleteInventory stops offering a class that nobody uses.
func (s *Service) DeleteInventory(ctx context.Context, id, class string) error {
	if err := s.can(ctx, "resource_providers:inventories:delete", nil); err != nil {
		return err
	}
	return s.change(ctx, id, func(ctx context.Context, _ Provider) error {
		if used, err := s.allocations.Exists(ctx, store.Eq("provider_id", id), store.Eq("class", class)); err != nil {
			return err
		} else if used {
			return conflict(CodeConcurrentUpdate, "Unable to delete inventory of class %s: Inventory for '%s' on resource provider '%s' in use.", class, class, id)
		}
		if err := s.inventories.Delete(ctx, id+"/"+class); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return notFound("No inventory of class %s found for delete: No such resource class %s.", class, class)
			})
		}
		return s.touch(ctx, id)
	})
}
