package placement

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Wish is what a consumer shall have from now on, in place of what it has.
type Wish struct {
	// Allocations by provider; none gives everything back.
	Allocations     map[string]Resources
	ProjectID, User string
	// Type is the consumer's type; empty leaves it, or means unknown for a new one.
	Type string
	// Checked says that Generation is to be compared: nil expects a consumer that
	// has nothing.
	Checked    bool
	Generation *int64
}

// Allocations are what a consumer has, by provider, with the providers and the
// consumer; the consumer is nil when it has nothing.
func (s *Service) Allocations(ctx context.Context, consumer string) ([]Allocation, map[string]Provider, *Consumer, error) {
	if err := s.can(ctx, "allocations:list", nil); err != nil {
		return nil, nil, nil, err
	}
	as, err := s.allocations.Where(ctx, store.Eq("consumer_id", consumer))
	if err != nil || len(as) == 0 {
		return nil, nil, nil, err
	}
	ids := make([]string, len(as))
	for i := range as {
		ids[i] = as[i].ProviderID
	}
	ps, err := s.providers.Where(ctx, store.In("id", sorted(ids)))
	if err != nil {
		return nil, nil, nil, err
	}
	at := make(map[string]Provider, len(ps))
	for _, p := range ps {
		at[p.ID] = p
	}
	c, err := s.consumers.Get(ctx, consumer)
	return as, at, &c, err
}

// ProviderAllocations are what is had of a provider, and the consumers by id.
func (s *Service) ProviderAllocations(ctx context.Context, id string) (Provider, []Allocation, map[string]Consumer, error) {
	if err := s.can(ctx, "resource_providers:allocations:list", nil); err != nil {
		return Provider{}, nil, nil, err
	}
	p, err := s.provider(ctx, id)
	if err != nil {
		return p, nil, nil, err
	}
	as, err := s.allocations.Where(ctx, store.Eq("provider_id", id))
	if err != nil {
		return p, nil, nil, err
	}
	cs, err := s.consumers.Where(ctx, store.InSelect("id", s.allocations, "consumer_id", store.Eq("provider_id", id)))
	at := make(map[string]Consumer, len(cs))
	for _, c := range cs {
		at[c.ID] = c
	}
	return p, as, at, err
}

// SetAllocations gives one consumer what it shall have, all or nothing. Errors:
// nacre.Invalid for an unknown provider or class; nacre.Conflict when there is
// not enough, or, with CodeConcurrentUpdate, when the generation is another.
func (s *Service) SetAllocations(ctx context.Context, consumer string, w Wish) error {
	if err := s.can(ctx, "allocations:update", nil); err != nil {
		return err
	}
	return s.grant(ctx, map[string]Wish{consumer: w}, nil)
}

// ManageAllocations is SetAllocations for several consumers at once.
func (s *Service) ManageAllocations(ctx context.Context, ws map[string]Wish) error {
	if err := s.can(ctx, "allocations:manage", nil); err != nil {
		return err
	}
	return s.grant(ctx, ws, nil)
}

// Shape is what a provider shall offer after a Reshape.
type Shape struct {
	Generation  int64
	Inventories []Inventory
}

// Reshape changes what providers offer and what consumers have of it in one
// transaction: for inventory in use that moves to another provider.
func (s *Service) Reshape(ctx context.Context, shapes map[string]Shape, ws map[string]Wish) error {
	if err := s.can(ctx, "reshaper:reshape", nil); err != nil {
		return err
	}
	return s.grant(ctx, ws, shapes)
}

// DeleteAllocations gives back all that a consumer has; a consumer that has
// nothing is nacre.NotFound.
func (s *Service) DeleteAllocations(ctx context.Context, consumer string) error {
	if err := s.can(ctx, "allocations:delete", nil); err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if has, err := s.allocations.Exists(ctx, store.Eq("consumer_id", consumer)); err != nil {
			return err
		} else if !has {
			return notFound("No allocations for consumer '%s'", consumer)
		}
		return s.Release(ctx, consumer)
	})
}

// grant carries out wishes, and shapes before them.
func (s *Service) grant(ctx context.Context, ws map[string]Wish, shapes map[string]Shape) error {
	ids := keys(ws)
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		locks := make([]string, len(ids))
		for i, id := range ids {
			locks[i] = "placement/consumer/" + id
		}
		if err := store.Lock(ctx, s.c.Engine, locks...); err != nil {
			return err
		}
		old, err := s.allocations.Where(ctx, store.In("consumer_id", ids))
		if err != nil {
			return err
		}
		var touched []string
		for _, a := range old {
			touched = append(touched, a.ProviderID)
		}
		for _, w := range ws {
			touched = append(touched, keys(w.Allocations)...)
		}
		touched = sorted(append(touched, keys(shapes)...))
		locks = locks[:0]
		for _, p := range touched {
			locks = append(locks, "placement/"+p)
		}
		if err := store.Lock(ctx, s.c.Engine, locks...); err != nil {
			return err
		}
		consumers, err := s.checkConsumers(ctx, ids, ws)
		if err != nil {
			return err
		}
		if _, err := s.allocations.DeleteWhere(ctx, store.In("consumer_id", ids)); err != nil {
			return err
		}
		for _, id := range keys(shapes) {
			if err := s.reshape(ctx, id, shapes[id]); err != nil {
				return err
			}
		}
		if err := s.writeAllocations(ctx, ids, ws, touched); err != nil {
			return err
		}
		if err := s.writeConsumers(ctx, ids, ws, consumers); err != nil {
			return err
		}
		for _, p := range touched {
			if err := s.touch(ctx, p); err != nil {
				return err
			}
		}
		return s.stillUsed(ctx, keys(shapes))
	})
}

func (s *Service) reshape(ctx context.Context, id string, sh Shape) error {
	p, err := s.provider(ctx, id)
	switch {
	case nacre.KindOf(err) == nacre.NotFound && err != nil:
		return invalid("Resource provider %s in inventories not found: %s", id, err)
	case err != nil:
		return err
	case p.Generation != sh.Generation:
		return generationConflict()
	}
	if err := s.checkInventories(ctx, p, "update", sh.Inventories); err != nil {
		return err
	}
	return s.replaceInventories(ctx, id, sh.Inventories, false)
}

// stillUsed refuses a reshaped provider that no longer offers what others have of it.
func (s *Service) stillUsed(ctx context.Context, ids []string) error {
	for _, id := range ids {
		used, err := s.allocations.Aggregate(ctx, store.Aggregate{Where: store.Eq("provider_id", id), By: []string{"class"}})
		if err != nil {
			return err
		}
		for _, g := range used {
			class, _ := g.Key[0].(string)
			if there, err := s.inventories.Exists(ctx, store.Eq("id", id+"/"+class)); err != nil {
				return err
			} else if !there {
				return conflict(CodeInventoryInUse, "update conflict: Inventory for '%s' on resource provider '%s' in use.", class, id)
			}
		}
	}
	return nil
}

func (s *Service) checkConsumers(ctx context.Context, ids []string, ws map[string]Wish) (map[string]Consumer, error) {
	rows, err := s.consumers.Where(ctx, store.In("id", ids))
	if err != nil {
		return nil, err
	}
	at := make(map[string]Consumer, len(rows))
	for _, c := range rows {
		at[c.ID] = c
	}
	for _, id := range ids {
		w := ws[id]
		if !w.Checked {
			continue
		}
		got := "None"
		if w.Generation != nil {
			got = fmt.Sprint(*w.Generation)
		}
		c, there := at[id]
		switch {
		case there && (w.Generation == nil || *w.Generation != c.Generation):
			return nil, conflict(CodeConcurrentUpdate, "consumer generation conflict - expected %d but got %s", c.Generation, got)
		case !there && w.Generation != nil:
			return nil, conflict(CodeConcurrentUpdate, "consumer generation conflict - expected null but got %s", got)
		}
	}
	return at, nil
}

// writeAllocations checks capacities and inserts. The consumers' old allocations
// are gone by now.
func (s *Service) writeAllocations(ctx context.Context, ids []string, ws map[string]Wish, touched []string) error {
	ps, err := s.providers.Where(ctx, store.In("id", touched))
	if err != nil {
		return err
	}
	free, err := s.freeOf(ctx, ps)
	if err != nil {
		return err
	}
	var rows []Allocation
	for _, consumer := range ids {
		for _, provider := range keys(ws[consumer].Allocations) {
			r := ws[consumer].Allocations[provider]
			f := free[provider]
			if f == nil {
				return invalid("Allocation for resource provider '%s' that does not exist.", provider)
			}
			if missing, err := s.unknown(ctx, "class", keys(r)); err != nil {
				return err
			} else if len(missing) > 0 {
				return invalid("Unable to allocate inventory for consumer %s: No such resource class %s.", consumer, missing[0])
			}
			for _, class := range keys(r) {
				if err := f.take(class, r[class]); err != nil {
					return err
				}
				rows = append(rows, Allocation{ID: consumer + "/" + provider + "/" + class, ConsumerID: consumer, ProviderID: provider, Class: class, Used: r[class]})
			}
		}
	}
	return s.allocations.Insert(ctx, rows...)
}

// take counts n of a class as used, or is the conflict that forbids it.
func (f *Free) take(class string, n int64) error {
	inv, ok := f.Inventory[class]
	where := fmt.Sprintf("'%s' on resource provider '%s'", class, f.Provider.ID)
	switch {
	case !ok:
		return conflict(CodeUndefined, "Unable to allocate inventory: Inventory for %s invalid.", where)
	case !inv.allows(n):
		return conflict(CodeUndefined, "Unable to allocate inventory: Unable to create allocation for %s. The requested amount would violate inventory constraints.", where)
	case f.Used[class]+n > inv.Capacity():
		return conflict(CodeUndefined, "Unable to allocate inventory: Unable to create allocation for %s. The requested amount would exceed the capacity.", where)
	}
	f.Used[class] += n
	return nil
}

func (s *Service) writeConsumers(ctx context.Context, ids []string, ws map[string]Wish, had map[string]Consumer) error {
	now := time.Now().UTC()
	var gone []string
	for _, id := range ids {
		w := ws[id]
		c, there := had[id]
		if len(w.Allocations) == 0 {
			gone = append(gone, id)
			continue
		}
		if !there {
			c = Consumer{ID: id, CreatedAt: now}
		}
		c.ProjectID, c.UserID, c.UpdatedAt, c.Generation = w.ProjectID, w.User, now, c.Generation+1
		if w.Type != "" {
			c.Type = w.Type
		}
		var err error
		if there {
			_, err = s.consumers.Update(ctx, id, func(x *Consumer) error { *x = c; return nil })
		} else {
			err = s.consumers.Insert(ctx, c)
		}
		if err != nil {
			return err
		}
	}
	_, err := s.consumers.DeleteWhere(ctx, store.In("id", gone))
	return err
}

// ProviderUsages are a provider and what is used of each class that it offers.
func (s *Service) ProviderUsages(ctx context.Context, id string) (Provider, Resources, error) {
	if err := s.can(ctx, "resource_providers:usages", nil); err != nil {
		return Provider{}, nil, err
	}
	p, err := s.provider(ctx, id)
	if err != nil {
		return p, nil, err
	}
	free, err := s.freeOf(ctx, []Provider{p})
	if err != nil {
		return p, nil, err
	}
	out := Resources{}
	for class := range free[id].Inventory {
		out[class] = free[id].Used[class]
	}
	return p, out, nil
}

// Usage is what consumers of one type use.
type Usage struct {
	Consumers int64
	Resources Resources
}

// UnknownType stands for consumers without a type.
const UnknownType = "unknown"

// Usages are what a project (and a user, if given) uses, by consumer type. With
// typ "all" everything is under "all"; another typ leaves only that.
func (s *Service) Usages(ctx context.Context, project, user, typ string) (map[string]Usage, error) {
	if err := s.can(ctx, "usages", policy.Map{"project_id": project}); err != nil {
		return nil, err
	}
	w := store.Eq("project_id", project)
	if user != "" {
		w = store.And(w, store.Eq("user_id", user))
	}
	cs, err := s.consumers.Where(ctx, w)
	if err != nil {
		return nil, err
	}
	as, err := s.allocations.Where(ctx, store.InSelect("consumer_id", s.consumers, "id", w))
	if err != nil {
		return nil, err
	}
	types := make(map[string]string, len(cs))
	out := map[string]Usage{}
	for _, c := range cs {
		t := strings.TrimSpace(c.Type)
		if t == "" {
			t = UnknownType
		}
		if typ != "" && typ != "all" && typ != t {
			continue
		}
		if typ == "all" {
			t = "all"
		}
		types[c.ID] = t
	}
	counted := map[string]bool{}
	for _, a := range as {
		t, ok := types[a.ConsumerID]
		if !ok {
			continue
		}
		u := out[t]
		if u.Resources == nil {
			u.Resources = Resources{}
		}
		u.Resources[a.Class] += a.Used
		if !counted[a.ConsumerID] {
			counted[a.ConsumerID] = true
			u.Consumers++
		}
		out[t] = u
	}
	return out, nil
}
