package metadefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// verbs name the rules of a kind's operations.
var verbs = map[string]struct{ list, get, add, modify, remove string }{
	Object:      {"get_metadef_objects", "get_metadef_object", "add_metadef_object", "modify_metadef_object", "delete_metadef_object"},
	Property:    {"get_metadef_properties", "get_metadef_property", "add_metadef_property", "modify_metadef_property", "remove_metadef_property"},
	Tag:         {"get_metadef_tags", "get_metadef_tag", "add_metadef_tag", "modify_metadef_tag", "delete_metadef_tag"},
	Association: {"list_metadef_resource_types", "get_metadef_resource_type", "add_metadef_resource_type_association", "", "remove_metadef_resource_type_association"},
}

func missing(kind, name, ns string) *nacre.Error {
	if kind == Association {
		return nacre.Errorf(nacre.NotFound, "", "The metadata definition resource-type association of resource-type=%s to namespace=%s, was not found.", name, ns)
	}
	return nacre.Errorf(nacre.NotFound, "", "The metadata definition %s with name=%s was not found in namespace=%s.", kind, name, ns)
}

func duplicate(kind, name, ns string) *nacre.Error {
	switch kind {
	case Association:
		return nacre.Errorf(nacre.Conflict, "", "The metadata definition resource-type association of resource-type=%s to namespace=%s already exists.", name, ns)
	case Tag:
		return nacre.Errorf(nacre.Conflict, "", "A metadata tag with name=%s already exists in namespace=%s. (Please note that metadata tag names are case insensitive).", name, ns)
	}
	return nacre.Errorf(nacre.Conflict, "", "A metadata definition %s with name=%s already exists in namespace=%s.", kind, name, ns)
}

func named(nsID, kind, name string) store.Where {
	return store.And(store.Eq("namespace_id", nsID), store.Eq("kind", kind), store.Eq("fold", fold(kind, name)))
}

// List lists a namespace's items of a kind; the marker is a name.
func (s *Service) List(ctx context.Context, ns, kind string, q nacre.Query) ([]Item, error) {
	n, err := s.namespace(ctx, ns, verbs[kind].list, verbs[kind].get)
	if err != nil {
		return nil, err
	}
	order := []store.Order{}
	for _, k := range q.Sort {
		if !slices.Contains([]string{"created_at", "updated_at", "name", "id"}, k.Field) {
			return nil, nacre.Errorf(nacre.Invalid, "", "Sort key supplied was not valid.")
		}
		order = append(order, store.Order{Column: k.Field, Desc: k.Desc})
	}
	if len(order) == 0 {
		order = append(order, store.Order{Column: "created_at", Desc: true})
	}
	marker := ""
	if q.Marker != "" {
		it, err := s.items.One(ctx, named(n.ID, kind, q.Marker))
		if err != nil {
			return nil, store.WrapNotFound(err, func() *nacre.Error { return missing(kind, q.Marker, ns) })
		}
		marker = it.ID
	}
	return s.items.Page(ctx, store.Select{Where: store.And(store.Eq("namespace_id", n.ID), store.Eq("kind", kind)), Order: order, Limit: q.Limit}, marker)
}

// Get is one item. With a resource type the name carries the prefix that it has
// there.
func (s *Service) Get(ctx context.Context, ns, kind, name, resourceType string) (Item, error) {
	n, err := s.namespace(ctx, ns, verbs[kind].get)
	if err != nil {
		return Item{}, err
	}
	if resourceType != "" {
		if err := s.enforce(ctx, "get_metadef_resource_type", &n); err != nil {
			return Item{}, err
		}
		a, err := s.items.One(ctx, named(n.ID, Association, resourceType))
		if err != nil {
			return Item{}, store.WrapNotFound(err, func() *nacre.Error { return missing(Association, resourceType, ns) })
		}
		prefix, _ := a.Body["prefix"].(string)
		bare, ok := strings.CutPrefix(name, prefix)
		if prefix == "" || !ok {
			return Item{}, nacre.Errorf(nacre.NotFound, "", "Property %s does not start with the expected resource type association prefix of '%s'.", name, prefix)
		}
		name = bare
	}
	it, err := s.items.One(ctx, named(n.ID, kind, name))
	return it, store.WrapNotFound(err, func() *nacre.Error { return missing(kind, name, ns) })
}

// Create adds an item to a namespace.
func (s *Service) Create(ctx context.Context, ns, kind, name string, body map[string]any) (Item, error) {
	n, err := s.namespace(ctx, ns, verbs[kind].add)
	if err != nil {
		return Item{}, err
	}
	if err := checkItem(kind, name, body); err != nil {
		return Item{}, err
	}
	it := s.newItem(n.ID, kind, name, body)
	err = s.change(ctx, &n, "metadef_"+kind+".create", name, func(ctx context.Context) error {
		if kind == Association {
			if err := s.haveType(ctx, name, false); err != nil {
				return err
			}
		}
		return s.items.Insert(ctx, it)
	})
	if store.IsDuplicate(err) {
		err = duplicate(kind, name, ns)
	}
	return it, err
}

// change runs fn with the namespace's row held, so that it does not go meanwhile.
func (s *Service) change(ctx context.Context, n *Namespace, event, name string, fn func(ctx context.Context) error) error {
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if _, err := s.namespaces.GetForUpdate(ctx, n.ID); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.NotFound, "", "Metadata definition namespace=%s was not found.", n.Name)
			})
		}
		if err := fn(ctx); err != nil {
			return err
		}
		return s.c.Emit(ctx, event, n.ID, n.OwnerID, map[string]any{"namespace": n.Name, "name": name})
	})
}

// CreateTags replaces all of a namespace's tags, or adds to them.
func (s *Service) CreateTags(ctx context.Context, ns string, names []string, add bool) error {
	n, err := s.namespace(ctx, ns, "add_metadef_tags")
	if err != nil {
		return err
	}
	var items []Item
	for _, name := range names {
		if err := checkItem(Tag, name, nil); err != nil {
			return err
		}
		items = append(items, s.newItem(n.ID, Tag, name, nil))
	}
	err = s.change(ctx, &n, "metadef_tag.create", strings.Join(names, ","), func(ctx context.Context) error {
		if !add {
			if _, err := s.items.DeleteWhere(ctx, store.Eq("namespace_id", n.ID), store.Eq("kind", Tag)); err != nil {
				return err
			}
		}
		return s.items.Insert(ctx, items...)
	})
	if store.IsDuplicate(err) {
		err = duplicate(Tag, strings.Join(names, ","), ns)
	}
	return err
}

// Update replaces an item; it may get another name.
func (s *Service) Update(ctx context.Context, ns, kind, name, newName string, body map[string]any) (Item, error) {
	n, err := s.namespace(ctx, ns, verbs[kind].modify)
	if err != nil {
		return Item{}, err
	}
	if err := checkItem(kind, newName, body); err != nil {
		return Item{}, err
	}
	if body == nil {
		body = map[string]any{}
	}
	var out Item
	err = s.change(ctx, &n, "metadef_"+kind+".update", newName, func(ctx context.Context) error {
		it, err := s.items.One(ctx, named(n.ID, kind, name))
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return missing(kind, name, ns) })
		}
		// The row's body is set whole: an update of it would keep old keys.
		now := time.Now().UTC()
		if _, err := s.items.UpdateWhere(ctx, store.Eq("id", it.ID), store.Set{"name": newName, "fold": fold(kind, newName), "body": body, "updated_at": now}); err != nil {
			return err
		}
		out = it
		out.Name, out.Body, out.Updated = newName, body, now
		return nil
	})
	if store.IsDuplicate(err) {
		err = duplicate(kind, newName, ns)
	}
	return out, err
}

// Delete removes an item; none goes from a protected namespace.
func (s *Service) Delete(ctx context.Context, ns, kind, name string) error {
	n, err := s.namespace(ctx, ns, verbs[kind].remove)
	if err != nil {
		return err
	}
	if n.Protected {
		return nacre.Errorf(nacre.Forbidden, "", "Metadata definition %s %s is protected and cannot be deleted.", strings.ReplaceAll(kind, "_", " "), name)
	}
	return s.change(ctx, &n, "metadef_"+kind+".delete", name, func(ctx context.Context) error {
		gone, err := s.items.DeleteWhere(ctx, named(n.ID, kind, name))
		if err == nil && gone == 0 {
			if kind == Association {
				return nacre.Errorf(nacre.NotFound, "", "Failed to find resource type %s to delete", name)
			}
			return missing(kind, name, ns)
		}
		return err
	})
}

// ResourceTypes lists all resource types.
func (s *Service) ResourceTypes(ctx context.Context) ([]ResourceType, error) {
	if err := s.enforce(ctx, "list_metadef_resource_types", nil); err != nil {
		return nil, err
	}
	return s.types.Select(ctx, store.Select{Order: []store.Order{{Column: "id"}}})
}

// haveType makes sure that a resource type is there, in the context's transaction.
func (s *Service) haveType(ctx context.Context, name string, protected bool) error {
	if have, err := s.types.Exists(ctx, store.Eq("id", name)); err != nil || have {
		return err
	}
	now := time.Now().UTC()
	return s.types.Insert(ctx, ResourceType{Name: name, Protected: protected, Created: now, Updated: now})
}

// EnsureStandardTypes makes sure that the resource types are there that clients
// count on: what images, volumes, flavors, aggregates and servers are called.
func (s *Service) EnsureStandardTypes(ctx context.Context) error {
	for _, name := range []string{"OS::Glance::Image", "OS::Cinder::Volume", "OS::Nova::Flavor", "OS::Nova::Aggregate", "OS::Nova::Server"} {
		err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error { return s.haveType(ctx, name, true) })
		if err != nil && !store.IsDuplicate(err) {
			return fmt.Errorf("metadefs: standard resource types: %w", err)
		}
	}
	return nil
}

func checkItem(kind, name string, body map[string]any) error {
	if name == "" || strings.ContainsAny(name, "\x00") {
		return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema '%s': 'name' is a required property", kind)
	}
	if err := short(kind, name, 80); err != nil {
		return err
	}
	switch kind {
	case Property:
		return checkProperty("property", body)
	case Object:
		return checkObject(body)
	case Association:
		var errs []error
		for k, v := range body {
			text, ok := v.(string)
			if !ok || k != "prefix" && k != "properties_target" {
				errs = append(errs, invalid("resource_type_association", "Additional properties are not allowed ('%s' was unexpected)", k))
				continue
			}
			errs = append(errs, short("resource_type_association", text, 80))
		}
		return errors.Join(errs...)
	}
	return nil
}
