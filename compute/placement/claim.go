package placement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Config of the service. Engine is required.
type Config struct {
	Engine store.Engine
	// Policy decides for API callers; nil means the default rules.
	Policy nacre.Enforcer
	// PolicyOptions adjust the default rules when Policy is nil.
	PolicyOptions nacre.PolicyOptions
	// Log hears of a policy file that does not compile; nil is slog.Default.
	Log *slog.Logger
	IDs nacre.IDs
}

// Service is placement.
type Service struct {
	c           Config
	providers   *store.Table[Provider]
	inventories *store.Table[Inventory]
	allocations *store.Table[Allocation]
	consumers   *store.Table[Consumer]
	custom      *store.Table[Custom]
}

// New makes the service over an Engine whose schema has Tables.
func New(c Config) (*Service, error) {
	if c.Engine == nil {
		return nil, errors.New("placement: Config.Engine is missing")
	}
	if c.IDs == nil {
		c.IDs = randomIDs{}
	}
	if c.Policy == nil {
		p, err := defaultPolicy(c.PolicyOptions, c.Log)
		if err != nil {
			return nil, err
		}
		c.Policy = p
	}
	return &Service{c: c, providers: store.NewTable[Provider](c.Engine, "placement_provider"), inventories: store.NewTable[Inventory](c.Engine, "placement_inventory"),
		allocations: store.NewTable[Allocation](c.Engine, "placement_allocation"), consumers: store.NewTable[Consumer](c.Engine, "placement_consumer"),
		custom: store.NewTable[Custom](c.Engine, "placement_custom")}, nil
}

// Resources are amounts by resource class.
type Resources map[string]int64

// Free is what is left of a provider.
type Free struct {
	Provider Provider
	// Inventory by class, and what is used of it.
	Inventory map[string]Inventory
	Used      Resources
}

// Fits says whether r can be had, else which class is short and why.
func (f Free) Fits(r Resources) (bool, string) {
	first, why := "", ""
	for class, want := range r {
		if short := f.short(class, want); short != "" && (why == "" || class < first) {
			first, why = class, short
		}
	}
	return why == "", why
}

// short is why an amount of a class can't be had; empty if it can.
func (f *Free) short(class string, want int64) string {
	if want == 0 {
		return ""
	}
	inv, ok := f.Inventory[class]
	switch {
	case !ok:
		return class + " is not offered"
	case !inv.allows(want):
		return fmt.Sprintf("%s: %d is not between %d and %d in steps of %d", class, want, inv.MinUnit, inv.MaxUnit, inv.StepSize)
	case f.Used[class]+want > inv.Capacity():
		return fmt.Sprintf("%s: %d wanted, %d of %d used", class, want, f.Used[class], inv.Capacity())
	}
	return ""
}

// FreeOf reads what is left of the named providers, or of all, by name. Three
// statements.
func (s *Service) FreeOf(ctx context.Context, ids ...string) ([]Free, error) {
	w := store.All()
	if len(ids) > 0 {
		w = store.In("id", ids)
	}
	ps, err := s.providers.Where(ctx, w)
	if err != nil {
		return nil, err
	}
	at, err := s.freeOf(ctx, ps)
	if err != nil {
		return nil, err
	}
	out := make([]Free, len(ps))
	for i, p := range ps {
		out[i] = *at[p.ID]
	}
	slices.SortFunc(out, func(a, b Free) int { return cmp.Compare(a.Provider.Name, b.Provider.Name) })
	return out, nil
}

// freeOf reads what is left of providers. Two statements.
func (s *Service) freeOf(ctx context.Context, ps []Provider) (map[string]*Free, error) {
	at := make(map[string]*Free, len(ps))
	for _, p := range ps {
		at[p.ID] = &Free{Provider: p, Inventory: map[string]Inventory{}, Used: Resources{}}
	}
	const many = 500 // from here on reading all is cheaper than naming them
	w := store.All()
	if len(ps) < many {
		w = store.In("provider_id", idsOf(ps))
	}
	invs, err := s.inventories.Where(ctx, w)
	if err != nil {
		return nil, err
	}
	used, err := s.allocations.Aggregate(ctx, store.Aggregate{Where: w, By: []string{"provider_id", "class"}, Sum: []string{"used"}})
	if err != nil {
		return nil, err
	}
	for _, i := range invs {
		if f := at[i.ProviderID]; f != nil {
			f.Inventory[i.Class] = i
		}
	}
	for _, g := range used {
		if f := at[g.Key[0].(string)]; f != nil {
			f.Used[g.Key[1].(string)] = g.Sums[0]
		}
	}
	return at, nil
}

// Report sets what a host offers, making its provider when it is new. The
// inventory's ID and ProviderID are filled in. It changes nothing when nothing changed.
func (s *Service) Report(ctx context.Context, id, name string, invs []Inventory) error {
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		now := time.Now().UTC()
		if _, err := s.providers.Get(ctx, id); errors.Is(err, store.ErrNoRow) {
			p := Provider{ID: id, Name: name, RootID: id, Traits: []string{}, Aggregates: []string{}, CreatedAt: now, UpdatedAt: now}
			if err := s.providers.Insert(ctx, p); store.IsDuplicate(err) {
				return store.ErrRaced // another copy heard of the host, too
			} else if err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		old, err := s.inventories.Where(ctx, store.Eq("provider_id", id))
		if err != nil {
			return err
		}
		for i := range invs {
			invs[i].ID, invs[i].ProviderID = id+"/"+invs[i].Class, id
		}
		slices.SortFunc(invs, func(a, b Inventory) int { return cmp.Compare(a.ID, b.ID) })
		if slices.Equal(old, invs) {
			return nil
		}
		// Two copies may hear of one host at once.
		if err := store.Lock(ctx, s.c.Engine, "placement/"+id); err != nil {
			return err
		}
		if _, err := s.inventories.DeleteWhere(ctx, store.Eq("provider_id", id)); err != nil {
			return err
		}
		if err := s.inventories.Insert(ctx, invs...); err != nil {
			return err
		}
		return s.touch(ctx, id)
	})
}

func (s *Service) touch(ctx context.Context, id string) error {
	_, err := s.providers.Update(ctx, id, func(p *Provider) error {
		p.Generation++
		p.UpdatedAt = time.Now().UTC()
		return nil
	})
	return err
}

// Claim gives a consumer r of one provider, in the context's transaction, in
// place of whatever it had. It is nacre.Conflict when the provider has not enough.
func (s *Service) Claim(ctx context.Context, consumer, project, user, provider string, r Resources) error {
	if err := store.Lock(ctx, s.c.Engine, "placement/"+provider); err != nil {
		return err
	}
	if err := s.Release(ctx, consumer); err != nil {
		return err
	}
	free, err := s.FreeOf(ctx, provider)
	if err != nil {
		return err
	}
	if len(free) == 0 {
		return nacre.Errorf(nacre.Conflict, "placement.undefined_code", "No resource provider %s", provider)
	}
	if ok, why := free[0].Fits(r); !ok {
		return nacre.Errorf(nacre.Conflict, "placement.undefined_code", "Unable to allocate inventory: %s", why)
	}
	now := time.Now().UTC()
	if err := s.consumers.Insert(ctx, Consumer{ID: consumer, ProjectID: project, UserID: user, Type: "INSTANCE", Generation: 1, CreatedAt: now, UpdatedAt: now}); err != nil {
		return err
	}
	var rows []Allocation
	for _, class := range slices.Sorted(maps.Keys(r)) {
		if r[class] > 0 {
			rows = append(rows, Allocation{ID: consumer + "/" + provider + "/" + class, ConsumerID: consumer, ProviderID: provider, Class: class, Used: r[class]})
		}
	}
	if err := s.allocations.Insert(ctx, rows...); err != nil {
		return err
	}
	return s.touch(ctx, provider)
}

// Transfer gives all that one consumer has to another, in place of whatever that had;
// in the context's transaction. Hosts keep what is used of them.
func (s *Service) Transfer(ctx context.Context, from, to, typ string) error {
	if err := s.Release(ctx, to); err != nil {
		return err
	}
	c, err := s.consumers.Get(ctx, from)
	if errors.Is(err, store.ErrNoRow) {
		return nil
	} else if err != nil {
		return err
	}
	as, err := s.allocations.Where(ctx, store.Eq("consumer_id", from))
	if err != nil {
		return err
	}
	if err := s.Release(ctx, from); err != nil {
		return err
	}
	for i := range as {
		as[i].ID, as[i].ConsumerID = to+"/"+as[i].ProviderID+"/"+as[i].Class, to
	}
	c.ID, c.Type, c.Generation, c.UpdatedAt = to, typ, 1, time.Now().UTC()
	if err := s.consumers.Insert(ctx, c); err != nil {
		return err
	}
	return s.allocations.Insert(ctx, as...)
}

// Release gives back all that a consumer has. Nothing to give back is success.
func (s *Service) Release(ctx context.Context, consumer string) error {
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		as, err := s.allocations.Where(ctx, store.Eq("consumer_id", consumer))
		if err != nil {
			return err
		}
		if len(as) > 0 {
			if _, err := s.allocations.DeleteWhere(ctx, store.Eq("consumer_id", consumer)); err != nil {
				return err
			}
			seen := map[string]bool{}
			for _, a := range as {
				if !seen[a.ProviderID] {
					seen[a.ProviderID] = true
					if err := s.touch(ctx, a.ProviderID); err != nil && !errors.Is(err, store.ErrNoRow) {
						return err
					}
				}
			}
		}
		_, err = s.consumers.DeleteWhere(ctx, store.Eq("id", consumer))
		return err
	})
}

// Allocated is what each consumer has of each provider, for audits:
// consumer → provider → resources.
func (s *Service) Allocated(ctx context.Context) (map[string]map[string]Resources, error) {
	as, err := s.allocations.Where(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]Resources{}
	for _, a := range as {
		if out[a.ConsumerID] == nil {
			out[a.ConsumerID] = map[string]Resources{}
		}
		if out[a.ConsumerID][a.ProviderID] == nil {
			out[a.ConsumerID][a.ProviderID] = Resources{}
		}
		out[a.ConsumerID][a.ProviderID][a.Class] = a.Used
	}
	return out, nil
}
