package placement

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/store"
)

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func join(names []string) string { return strings.Join(names, ", ") }

// unknown are the names, sorted, of classes or traits that do not exist. No
// statement when all are standard ones.
func (s *Service) unknown(ctx context.Context, kind string, names []string) ([]string, error) {
	var custom, ids []string
	for _, n := range sorted(names) {
		if kind == "class" && slices.Contains(standardClasses, n) || kind == "trait" && isStandardTrait(n) {
			continue
		}
		custom, ids = append(custom, n), append(ids, kind+"/"+n)
	}
	if len(custom) == 0 {
		return nil, nil
	}
	rows, err := s.custom.Where(ctx, store.In("id", ids))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(custom, func(n string) bool {
		return slices.ContainsFunc(rows, func(c Custom) bool { return c.Name == n })
	}), nil
}

func (s *Service) customs(ctx context.Context, kind string) ([]string, error) {
	rows, err := s.custom.Where(ctx, store.Eq("kind", kind))
	names := make([]string, len(rows))
	for i := range rows {
		names[i] = rows[i].Name
	}
	return names, err
}

// add makes a custom class or trait; made is false when it was there.
func (s *Service) add(ctx context.Context, kind, name string) (made bool, err error) {
	err = s.custom.Insert(ctx, Custom{ID: kind + "/" + name, Kind: kind, Name: name, CreatedAt: time.Now().UTC()})
	if store.IsDuplicate(err) {
		return false, nil
	}
	return err == nil, err
}

// Classes lists the resource classes, the standard ones first.
func (s *Service) Classes(ctx context.Context) ([]string, error) {
	if err := s.can(ctx, "resource_classes:list", nil); err != nil {
		return nil, err
	}
	custom, err := s.customs(ctx, "class")
	return append(slices.Clone(standardClasses), custom...), err
}

// Class reports whether a class exists: nil, or nacre.NotFound.
func (s *Service) Class(ctx context.Context, name string) error {
	if err := s.can(ctx, "resource_classes:show", nil); err != nil {
		return err
	}
	return s.classThere(ctx, name)
}

func (s *Service) classThere(ctx context.Context, name string) error {
	if missing, err := s.unknown(ctx, "class", []string{name}); err != nil {
		return err
	} else if len(missing) > 0 {
		return notFound("No such resource class %s.", name)
	}
	return nil
}

// CreateClass makes a custom class; one that exists is nacre.Conflict.
func (s *Service) CreateClass(ctx context.Context, name string) error {
	if err := s.can(ctx, "resource_classes:create", nil); err != nil {
		return err
	}
	made, err := s.add(ctx, "class", name)
	if err == nil && !made {
		err = conflict(CodeUndefined, "Conflicting resource class already exists: %s", name)
	}
	return err
}

// EnsureClass makes a custom class unless it is there.
func (s *Service) EnsureClass(ctx context.Context, name string) (made bool, err error) {
	if err := s.can(ctx, "resource_classes:update", nil); err != nil {
		return false, err
	}
	return s.add(ctx, "class", name)
}

// RenameClass renames a custom class, in use or not (microversions 1.2 to 1.6).
func (s *Service) RenameClass(ctx context.Context, name, to string) error {
	if err := s.can(ctx, "resource_classes:update", nil); err != nil {
		return err
	}
	if slices.Contains(standardClasses, name) {
		return invalid("Cannot update standard resource class %s", name)
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.classThere(ctx, name); err != nil {
			return err
		}
		if err := s.custom.Delete(ctx, "class/"+name); err != nil {
			return err
		}
		if missing, err := s.unknown(ctx, "class", []string{to}); err != nil {
			return err
		} else if len(missing) == 0 {
			return conflict(CodeUndefined, "Resource class already exists: %s", to)
		}
		if _, err := s.add(ctx, "class", to); err != nil {
			return err
		}
		invs, err := s.inventories.Where(ctx, store.Eq("class", name))
		if err != nil {
			return err
		}
		as, err := s.allocations.Where(ctx, store.Eq("class", name))
		if err != nil {
			return err
		}
		for i := range invs {
			invs[i].Class, invs[i].ID = to, invs[i].ProviderID+"/"+to
		}
		for i := range as {
			as[i].Class, as[i].ID = to, as[i].ConsumerID+"/"+as[i].ProviderID+"/"+to
		}
		if _, err := s.inventories.DeleteWhere(ctx, store.Eq("class", name)); err != nil {
			return err
		}
		if _, err := s.allocations.DeleteWhere(ctx, store.Eq("class", name)); err != nil {
			return err
		}
		if err := s.inventories.Insert(ctx, invs...); err != nil {
			return err
		}
		return s.allocations.Insert(ctx, as...)
	})
}

// DeleteClass removes a custom class that no inventory has.
func (s *Service) DeleteClass(ctx context.Context, name string) error {
	if err := s.can(ctx, "resource_classes:delete", nil); err != nil {
		return err
	}
	if slices.Contains(standardClasses, name) {
		return invalid("Error in delete resource class: Cannot delete standard resource class %s.", name)
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.classThere(ctx, name); err != nil {
			return err
		}
		if used, err := s.inventories.Exists(ctx, store.Eq("class", name)); err != nil {
			return err
		} else if used {
			return conflict(CodeUndefined, "Error in delete resource class: Cannot delete resource class %s. Class is in use in inventory.", name)
		}
		return s.custom.Delete(ctx, "class/"+name)
	})
}

// TraitFilter narrows a list of traits.
type TraitFilter struct {
	// In are names; nil asks nothing. Prefix is how they begin.
	In     []string
	Prefix string
	// Associated asks for those that some provider has, or none has.
	Associated *bool
}

// Traits lists traits by name.
func (s *Service) Traits(ctx context.Context, f TraitFilter) ([]string, error) {
	if err := s.can(ctx, "traits:list", nil); err != nil {
		return nil, err
	}
	custom, err := s.customs(ctx, "trait")
	if err != nil {
		return nil, err
	}
	all := sorted(append(slices.Clone(standardTraits), custom...))
	var used map[string]bool
	if f.Associated != nil {
		ps, err := s.providers.Where(ctx)
		if err != nil {
			return nil, err
		}
		used = map[string]bool{}
		for _, p := range ps {
			for _, t := range p.Traits {
				used[t] = true
			}
		}
	}
	return slices.DeleteFunc(all, func(n string) bool {
		return f.In != nil && !slices.Contains(f.In, n) || !strings.HasPrefix(n, f.Prefix) || f.Associated != nil && used[n] != *f.Associated
	}), nil
}

// Trait reports whether a trait exists: nil, or nacre.NotFound.
func (s *Service) Trait(ctx context.Context, name string) error {
	if err := s.can(ctx, "traits:show", nil); err != nil {
		return err
	}
	return s.traitThere(ctx, name)
}

func (s *Service) traitThere(ctx context.Context, name string) error {
	if missing, err := s.unknown(ctx, "trait", []string{name}); err != nil {
		return err
	} else if len(missing) > 0 {
		return notFound("No such trait(s): %s.", name)
	}
	return nil
}

// EnsureTrait makes a custom trait unless it is there.
func (s *Service) EnsureTrait(ctx context.Context, name string) (made bool, err error) {
	if err := s.can(ctx, "traits:update", nil); err != nil {
		return false, err
	}
	if !CustomName.MatchString(name) || len(name) > 255 {
		return false, invalid("The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix \"CUSTOM_\" and use following characters: \"A\"-\"Z\", \"0\"-\"9\" and \"_\"")
	}
	return s.add(ctx, "trait", name)
}

// DeleteTrait removes a custom trait that no provider has.
func (s *Service) DeleteTrait(ctx context.Context, name string) error {
	if err := s.can(ctx, "traits:delete", nil); err != nil {
		return err
	}
	if isStandardTrait(name) {
		return invalid("Cannot delete standard trait %s.", name)
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.traitThere(ctx, name); err != nil {
			return err
		}
		ps, err := s.providers.Where(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(ps, func(p Provider) bool { return slices.Contains(p.Traits, name) }) {
			return conflict(CodeUndefined, "The trait %s is in use by a resource provider.", name)
		}
		return s.custom.Delete(ctx, "trait/"+name)
	})
}
