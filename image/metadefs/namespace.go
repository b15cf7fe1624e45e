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

// Full is a namespace with what it holds.
type Full struct {
	Namespace
	Objects, Properties, Tags, Associations []Item
}

func (f *Full) sort(items []Item) {
	for _, it := range items {
		switch it.Kind {
		case Object:
			f.Objects = append(f.Objects, it)
		case Property:
			f.Properties = append(f.Properties, it)
		case Tag:
			f.Tags = append(f.Tags, it)
		case Association:
			f.Associations = append(f.Associations, it)
		}
	}
}

func short(what, v string, limit int) error {
	if n := len([]rune(v)); n > limit {
		return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema '%s': '%s' is too long", what, v)
	}
	return nil
}

func (ns *Namespace) check() error {
	if ns.Name == "" || strings.ContainsAny(ns.Name, "/?#\x00") {
		return nacre.Errorf(nacre.Invalid, "", "Couldn't create metadata namespace: '%s' is no name", ns.Name)
	}
	if ns.Visibility != "public" && ns.Visibility != "private" {
		return nacre.Errorf(nacre.Invalid, "", "Provided object does not match schema 'namespace': '%s' is not one of ['public', 'private']", ns.Visibility)
	}
	return errors.Join(short("namespace", ns.Name, 80), short("namespace", ns.DisplayName, 80), short("namespace", ns.Description, 500), short("namespace", ns.OwnerID, 255))
}

// Content is an item as it is given to Create: ID and times are not looked at.
type Content = Item

// CreateNamespace makes a namespace with what it holds, all or nothing.
func (s *Service) CreateNamespace(ctx context.Context, ns Namespace, contents []Content) (Full, error) {
	if err := s.enforce(ctx, "add_metadef_namespace", nil); err != nil {
		return Full{}, err
	}
	rules := map[string]string{Object: "add_metadef_object", Property: "add_metadef_property", Tag: "add_metadef_tag", Association: "add_metadef_resource_type_association"}
	for _, it := range contents {
		if err := s.enforce(ctx, rules[it.Kind], nil); err != nil {
			return Full{}, err
		}
	}
	if ns.OwnerID == "" {
		ns.OwnerID = nacre.CallerFrom(ctx).ProjectID
	}
	return s.create(ctx, ns, contents)
}

func (s *Service) create(ctx context.Context, ns Namespace, contents []Content) (Full, error) {
	if ns.Visibility == "" {
		ns.Visibility = "private"
	}
	if err := ns.check(); err != nil {
		return Full{}, err
	}
	ns.ID = s.c.IDs.NewID()
	ns.Created = time.Now().UTC()
	ns.Updated = ns.Created
	out := Full{Namespace: ns}
	items := make([]Item, len(contents))
	for i, c := range contents {
		if err := checkItem(c.Kind, c.Name, c.Body); err != nil {
			return Full{}, err
		}
		items[i] = s.newItem(ns.ID, c.Kind, c.Name, c.Body)
	}
	out.sort(items)
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.namespaces.Insert(ctx, ns); err != nil {
			return err
		}
		for _, it := range items {
			if it.Kind == Association {
				if err := s.haveType(ctx, it.Name, false); err != nil {
					return err
				}
			}
		}
		if err := s.items.Insert(ctx, items...); err != nil {
			return err
		}
		return s.c.Emit(ctx, "metadef_namespace.create", ns.ID, ns.OwnerID, map[string]any{"namespace": ns.Name})
	})
	switch {
	case store.IsDuplicate(err, "metadef_namespace_name"):
		err = nacre.Errorf(nacre.Conflict, "", "The metadata definition namespace=%s already exists.", ns.Name)
	case store.IsDuplicate(err):
		err = nacre.Errorf(nacre.Conflict, "", "A name is given twice in namespace=%s.", ns.Name)
	}
	return out, err
}

var namespaceSort = map[string]string{"created_at": "created_at", "updated_at": "updated_at", "namespace": "name", "display_name": "display_name", "visibility": "visibility", "protected": "protected", "owner": "owner", "id": "id"}

// Namespaces lists the namespaces that the caller sees, with their associations;
// the marker is a name.
func (s *Service) Namespaces(ctx context.Context, q nacre.Query) ([]Full, error) {
	for _, rule := range []string{"get_metadef_namespaces", "list_metadef_resource_types"} {
		if err := s.enforce(ctx, rule, nil); err != nil {
			return nil, err
		}
	}
	visible := store.All()
	if c := nacre.CallerFrom(ctx); !s.isAdmin(ctx) {
		visible = store.Eq("visibility", "public")
		if c.ProjectID != "" {
			visible = store.Or(visible, store.Eq("owner", c.ProjectID))
		}
	}
	ws := []store.Where{visible}
	for _, f := range q.Filters {
		switch f.Name {
		case "visibility":
			if f.Value != "public" && f.Value != "private" {
				return nil, nacre.Errorf(nacre.Invalid, "", "Invalid visibility value: %s", f.Value)
			}
			ws = append(ws, store.Eq("visibility", f.Value))
		case "resource_types":
			of := store.And(store.Eq("kind", Association), store.In("name", strings.Split(f.Value, ",")))
			ws = append(ws, store.InSelect("id", s.items, "namespace_id", of))
		}
	}
	order := []store.Order{}
	for _, k := range q.Sort {
		col, ok := namespaceSort[k.Field]
		if !ok {
			return nil, nacre.Errorf(nacre.Invalid, "", "Sort key supplied was not valid.")
		}
		order = append(order, store.Order{Column: col, Desc: k.Desc})
	}
	if len(order) == 0 {
		order = append(order, store.Order{Column: "created_at", Desc: true})
	}
	marker := ""
	if q.Marker != "" {
		ns, err := s.namespace(ctx, q.Marker)
		if err != nil {
			return nil, err
		}
		marker = ns.ID
	}
	nss, err := s.namespaces.Page(ctx, store.Select{Where: store.And(ws...), Order: order, Limit: q.Limit}, marker, visible)
	if err != nil {
		return nil, err
	}
	nss = slices.DeleteFunc(nss, func(ns Namespace) bool { return s.enforce(ctx, "get_metadef_namespace", &ns) != nil })
	ids := make([]string, len(nss))
	out := make([]Full, len(nss))
	at := map[string]int{}
	for i, ns := range nss {
		ids[i], out[i].Namespace, at[ns.ID] = ns.ID, ns, i
	}
	if len(ids) == 0 {
		return out, nil
	}
	items, err := s.items.Select(ctx, store.Select{Where: store.And(store.In("namespace_id", ids), store.Eq("kind", Association)), Order: []store.Order{{Column: "created_at"}, {Column: "name"}}})
	for _, it := range items {
		i := at[it.NamespaceID]
		out[i].Associations = append(out[i].Associations, it)
	}
	return out, err
}

// GetNamespace is a namespace with all that it holds. With a resource type its
// properties have the prefix that they go by there.
func (s *Service) GetNamespace(ctx context.Context, name, resourceType string) (Full, error) {
	ns, err := s.namespace(ctx, name, "get_metadef_namespace", "list_metadef_resource_types", "get_metadef_objects", "get_metadef_properties", "get_metadef_tags")
	if err != nil {
		return Full{}, err
	}
	out := Full{Namespace: ns}
	items, err := s.items.Select(ctx, store.Select{Where: store.Eq("namespace_id", ns.ID), Order: []store.Order{{Column: "created_at"}, {Column: "name"}}})
	if err != nil {
		return out, err
	}
	out.sort(items)
	prefix := ""
	for _, a := range out.Associations {
		if a.Name == resourceType {
			prefix, _ = a.Body["prefix"].(string)
		}
	}
	if prefix != "" {
		out.prefix(prefix)
	}
	return out, nil
}

func (f *Full) prefix(prefix string) {
	for i := range f.Properties {
		f.Properties[i].Name = prefix + f.Properties[i].Name
	}
	for i, o := range f.Objects {
		body := map[string]any{}
		for k, v := range o.Body {
			body[k] = v
		}
		if ps, ok := body["properties"].(map[string]any); ok {
			named := map[string]any{}
			for k, v := range ps {
				named[prefix+k] = v
			}
			body["properties"] = named
		}
		if req, ok := body["required"].([]any); ok {
			var named []any
			for _, r := range req {
				named = append(named, fmt.Sprint(prefix, r))
			}
			body["required"] = named
		}
		f.Objects[i].Body = body
	}
}

// UpdateNamespace replaces what a namespace says of itself; visibility and
// protected fall back to their defaults where they are not given.
func (s *Service) UpdateNamespace(ctx context.Context, name string, to Namespace) (Namespace, error) {
	ns, err := s.namespace(ctx, name, "modify_metadef_namespace")
	if err != nil {
		return ns, err
	}
	if to.Visibility == "" {
		to.Visibility = "private"
	}
	if to.OwnerID == "" {
		to.OwnerID = nacre.CallerFrom(ctx).ProjectID
	}
	if err := to.check(); err != nil {
		return ns, err
	}
	err = store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		ns, err = s.namespaces.Update(ctx, ns.ID, func(ns *Namespace) error {
			ns.Name, ns.DisplayName, ns.Description, ns.Visibility, ns.Protected, ns.OwnerID = to.Name, to.DisplayName, to.Description, to.Visibility, to.Protected, to.OwnerID
			ns.Updated = time.Now().UTC()
			return nil
		})
		if err != nil {
			return err
		}
		return s.c.Emit(ctx, "metadef_namespace.update", ns.ID, ns.OwnerID, map[string]any{"namespace": ns.Name})
	})
	if store.IsDuplicate(err) {
		err = nacre.Errorf(nacre.Conflict, "", "Invalid update. It would result in a duplicate metadata definition namespace with the same name of %s", to.Name)
	}
	return ns, err
}

// DeleteNamespace removes a namespace that is not protected, with all it holds.
func (s *Service) DeleteNamespace(ctx context.Context, name string) error {
	return s.clear(ctx, name, "", "delete_metadef_namespace")
}

// DeleteAll removes all items of a kind from a namespace.
func (s *Service) DeleteAll(ctx context.Context, name, kind string) error {
	rules := []string{"delete_metadef_namespace"}
	if kind == Tag {
		rules = append(rules, "delete_metadef_tags")
	}
	return s.clear(ctx, name, kind, rules...)
}

func (s *Service) clear(ctx context.Context, name, kind string, rules ...string) error {
	ns, err := s.namespace(ctx, name, rules...)
	if err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		ns, err := s.namespaces.GetForUpdate(ctx, ns.ID)
		if err != nil {
			return err
		}
		if ns.Protected {
			return nacre.Errorf(nacre.Forbidden, "", "Metadata definition namespace %s is protected and cannot be deleted.", name)
		}
		w := store.Eq("namespace_id", ns.ID)
		if kind != "" {
			w = store.And(w, store.Eq("kind", kind))
		}
		if _, err := s.items.DeleteWhere(ctx, w); err != nil {
			return err
		}
		if kind != "" {
			return s.c.Emit(ctx, "metadef_namespace.delete_"+kind+"s", ns.ID, ns.OwnerID, map[string]any{"namespace": ns.Name})
		}
		if err := s.namespaces.Delete(ctx, ns.ID); err != nil {
			return err
		}
		return s.c.Emit(ctx, "metadef_namespace.delete", ns.ID, ns.OwnerID, map[string]any{"namespace": ns.Name})
	})
}
