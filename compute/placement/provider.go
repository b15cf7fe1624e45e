package placement

import (
	"context"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Filter narrows a list of providers; zero fields ask nothing.
type Filter struct {
	Name, ID string
	// InTree is any provider of the tree wanted.
	InTree string
	Demand
	// Resources must be free on the provider itself.
	Resources Resources
}

// Demand is what is asked of a provider's traits and aggregates.
type Demand struct {
	// Required traits: one of each list. Forbidden: none of these.
	Required  [][]string
	Forbidden []string
	// MemberOf aggregates: one of each list. NotMemberOf: none of these.
	MemberOf    [][]string
	NotMemberOf []string
}

func anyOf(have, want []string) bool {
	return slices.ContainsFunc(want, func(w string) bool { return slices.Contains(have, w) })
}

func (d Demand) traitsFit(have []string) bool {
	for _, any := range d.Required {
		if !anyOf(have, any) {
			return false
		}
	}
	return !anyOf(have, d.Forbidden)
}

func (d Demand) aggregatesFit(have []string) bool {
	for _, any := range d.MemberOf {
		if !anyOf(have, any) {
			return false
		}
	}
	return !anyOf(have, d.NotMemberOf)
}

func (d Demand) traits() []string { return append(slices.Concat(d.Required...), d.Forbidden...) }

// Providers lists resource providers by name. At most four statements, one more
// where custom names are asked for.
func (s *Service) Providers(ctx context.Context, f Filter) ([]Provider, error) {
	if err := s.can(ctx, "resource_providers:list", nil); err != nil {
		return nil, err
	}
	if missing, err := s.unknown(ctx, "class", keys(f.Resources)); err != nil {
		return nil, err
	} else if len(missing) > 0 {
		return nil, invalid("Invalid resource class in resources parameter: No such resource class %s.", missing[0])
	}
	if missing, err := s.unknown(ctx, "trait", f.traits()); err != nil {
		return nil, err
	} else if len(missing) > 0 {
		return nil, invalid("Invalid trait(s) in \"required\" parameter: No such trait(s): %s.", join(missing))
	}
	var ws []store.Where
	if f.Name != "" {
		ws = append(ws, store.Eq("name", f.Name))
	}
	if f.ID != "" {
		ws = append(ws, store.Eq("id", f.ID))
	}
	if f.InTree != "" {
		ws = append(ws, store.InSelect("root_id", s.providers, "root_id", store.Eq("id", f.InTree)))
	}
	ps, err := s.providers.Select(ctx, store.Select{Where: store.And(ws...), Order: []store.Order{{Column: "name"}}})
	if err != nil {
		return nil, err
	}
	ps = slices.DeleteFunc(ps, func(p Provider) bool { return !f.traitsFit(p.Traits) || !f.aggregatesFit(p.Aggregates) })
	if len(f.Resources) == 0 || len(ps) == 0 {
		return ps, nil
	}
	free, err := s.freeOf(ctx, ps)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ps, func(p Provider) bool {
		ok, _ := free[p.ID].Fits(f.Resources)
		return !ok
	}), nil
}

// Provider shows one. A missing one is nacre.NotFound, as in all that follows.
func (s *Service) Provider(ctx context.Context, id string) (Provider, error) {
	if err := s.can(ctx, "resource_providers:show", nil); err != nil {
		return Provider{}, err
	}
	return s.provider(ctx, id)
}

// CreateProvider makes a provider; ID may be empty. A name or id that is taken is
// nacre.Conflict with CodeDuplicateName.
func (s *Service) CreateProvider(ctx context.Context, id, name, parent string) (Provider, error) {
	if err := s.can(ctx, "resource_providers:create", nil); err != nil {
		return Provider{}, err
	}
	if id == "" {
		id = s.c.IDs.NewID()
	}
	refuse := func(reason string) *nacre.Error {
		return invalid("Unable to create resource provider \"%s\", %s: Object action create failed because: %s", name, id, reason)
	}
	now := time.Now().UTC()
	p := Provider{ID: id, Name: name, ParentID: parent, RootID: id, Traits: []string{}, Aggregates: []string{}, CreatedAt: now, UpdatedAt: now}
	switch {
	case name == "":
		return p, refuse("name is required")
	case parent == id:
		return p, refuse("parent provider UUID cannot be same as UUID. Please set parent provider UUID to None if there is no parent.")
	}
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if parent != "" {
			up, err := s.providers.GetForUpdate(ctx, parent)
			if err != nil {
				return store.WrapNotFound(err, func() *nacre.Error { return refuse("parent provider UUID does not exist.") })
			}
			p.RootID = up.RootID
		}
		return s.providers.Insert(ctx, p)
	})
	switch {
	case store.IsDuplicate(err, "provider_name"):
		err = conflict(CodeDuplicateName, "Conflicting resource provider name: %s already exists.", name)
	case store.IsDuplicate(err):
		err = conflict(CodeDuplicateName, "Conflicting resource provider uuid: %s already exists.", id)
	}
	return p, err
}

// UpdateProvider renames a provider and, when parent is not nil, moves it: an
// empty parent makes it a root. With reparent false a parent may only be given to
// one that has none (microversions before 1.37).
func (s *Service) UpdateProvider(ctx context.Context, id, name string, parent *string, reparent bool) (Provider, error) {
	if err := s.can(ctx, "resource_providers:update", nil); err != nil {
		return Provider{}, err
	}
	refuse := func(action, reason string) *nacre.Error {
		return invalid("Unable to save resource provider %s: Object action %s failed because: %s", id, action, reason)
	}
	var out Provider
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		// Trees change under one lock, so that no two moves make a loop.
		if err := store.Lock(ctx, s.c.Engine, "placement/trees"); err != nil {
			return err
		}
		p, err := s.provider(ctx, id)
		if err != nil {
			return err
		}
		moved := parent != nil && *parent != p.ParentID
		var under []Provider
		root := p.RootID
		if moved {
			if p.ParentID != "" && !reparent {
				if *parent == "" {
					return refuse("update", "un-parenting a provider is not currently allowed.")
				}
				return refuse("update", "re-parenting a provider is not currently allowed.")
			}
			tree, err := s.providers.Where(ctx, store.Eq("root_id", p.RootID))
			if err != nil {
				return err
			}
			under = subtree(tree, id)
			root = id
			if *parent != "" {
				up, err := s.providers.Get(ctx, *parent)
				if err != nil {
					return store.WrapNotFound(err, func() *nacre.Error {
						return refuse("create", "parent provider UUID does not exist.")
					})
				}
				if slices.ContainsFunc(under, func(x Provider) bool { return x.ID == up.ID }) {
					return refuse("update", "creating loop in the provider tree is not allowed.")
				}
				root = up.RootID
			}
		}
		out, err = s.providers.Update(ctx, id, func(x *Provider) error {
			x.Name, x.UpdatedAt = name, time.Now().UTC()
			if moved {
				x.ParentID = *parent
			}
			return nil
		})
		if err != nil || !moved {
			return err
		}
		out.RootID = root
		_, err = s.providers.UpdateWhere(ctx, store.In("id", idsOf(under)), store.Set{"root_id": root})
		return err
	})
	if store.IsDuplicate(err, "provider_name") {
		err = conflict(CodeDuplicateName, "Conflicting resource provider %s already exists.", name)
	}
	return out, err
}

// subtree is a provider and all below it.
func subtree(tree []Provider, id string) []Provider {
	var out []Provider
	for _, p := range tree {
		if p.ID == id {
			out = append(out, p)
		}
	}
	for i := 0; i < len(out); i++ {
		for _, p := range tree {
			if p.ParentID == out[i].ID {
				out = append(out, p)
			}
		}
	}
	return out
}

// DeleteProvider removes a provider with its inventory. One that has children or
// allocations is nacre.Conflict.
func (s *Service) DeleteProvider(ctx context.Context, id string) error {
	if err := s.can(ctx, "resource_providers:delete", nil); err != nil {
		return err
	}
	return s.change(ctx, id, func(ctx context.Context, _ Provider) error {
		if child, err := s.providers.Exists(ctx, store.Eq("parent_id", id)); err != nil {
			return err
		} else if child {
			return conflict(CodeProviderParent, "Unable to delete parent resource provider %s: It has child resource providers.", id)
		}
		if used, err := s.allocations.Exists(ctx, store.Eq("provider_id", id)); err != nil {
			return err
		} else if used {
			return conflict(CodeProviderInUse, "Unable to delete resource provider %s: Resource provider has allocations.", id)
		}
		if _, err := s.inventories.DeleteWhere(ctx, store.Eq("provider_id", id)); err != nil {
			return err
		}
		return s.providers.Delete(ctx, id)
	})
}

// SetAggregates replaces a provider's aggregates. A generation that is not nil
// must be the provider's, and then grows.
func (s *Service) SetAggregates(ctx context.Context, id string, aggregates []string, generation *int64) (Provider, error) {
	if err := s.can(ctx, "resource_providers:aggregates:update", nil); err != nil {
		return Provider{}, err
	}
	return s.setParts(ctx, id, generation, func(_ context.Context, p *Provider) error {
		p.Aggregates = sorted(aggregates)
		return nil
	})
}

// Aggregates shows a provider, for its aggregates.
func (s *Service) Aggregates(ctx context.Context, id string) (Provider, error) {
	if err := s.can(ctx, "resource_providers:aggregates:list", nil); err != nil {
		return Provider{}, err
	}
	return s.provider(ctx, id)
}

// ProviderTraits shows a provider, for its traits.
func (s *Service) ProviderTraits(ctx context.Context, id string) (Provider, error) {
	if err := s.can(ctx, "resource_providers:traits:list", nil); err != nil {
		return Provider{}, err
	}
	return s.provider(ctx, id)
}

// SetProviderTraits replaces a provider's traits, which must exist.
func (s *Service) SetProviderTraits(ctx context.Context, id string, traits []string, generation int64) (Provider, error) {
	if err := s.can(ctx, "resource_providers:traits:update", nil); err != nil {
		return Provider{}, err
	}
	return s.setParts(ctx, id, &generation, func(ctx context.Context, p *Provider) error {
		if missing, err := s.unknown(ctx, "trait", traits); err != nil {
			return err
		} else if len(missing) > 0 {
			return invalid("No such trait %s", join(missing))
		}
		p.Traits = sorted(traits)
		return nil
	})
}

// ClearProviderTraits removes all of a provider's traits.
func (s *Service) ClearProviderTraits(ctx context.Context, id string) error {
	if err := s.can(ctx, "resource_providers:traits:delete", nil); err != nil {
		return err
	}
	return s.change(ctx, id, func(ctx context.Context, p Provider) error {
		_, err := s.setParts(ctx, id, &p.Generation, func(_ context.Context, p *Provider) error {
			p.Traits = []string{}
			return nil
		})
		return err
	})
}

func (s *Service) setParts(ctx context.Context, id string, generation *int64, fn func(ctx context.Context, p *Provider) error) (out Provider, err error) {
	err = s.change(ctx, id, func(ctx context.Context, p Provider) error {
		if generation != nil && p.Generation != *generation {
			return generationChanged()
		}
		if err := fn(ctx, &p); err != nil {
			return err
		}
		out, err = s.providers.Update(ctx, id, func(x *Provider) error {
			x.Traits, x.Aggregates, x.UpdatedAt = p.Traits, p.Aggregates, time.Now().UTC()
			if generation != nil {
				x.Generation++
			}
			return nil
		})
		return err
	})
	return out, err
}

func sorted(in []string) []string {
	out := append([]string{}, in...)
	slices.Sort(out)
	return slices.Compact(out)
}

func idsOf(ps []Provider) []string {
	out := make([]string, len(ps))
	for i := range ps {
		out[i] = ps[i].ID
	}
	return out
}
