package api

import (
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/image/metadefs"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (a *api) metadefRoutes() []rest.Route {
	const all = "/v2/metadefs/namespaces"
	const one = all + "/{ns}"
	p := func(names ...string) []string { return names }
	out := []rest.Route{
		{Method: "GET", Path: all, Policy: p("get_metadef_namespaces", "list_metadef_resource_types", "get_metadef_namespace"), Op: rest.Do(a.listNamespaces)},
		{Method: "POST", Path: all, Status: 201, Policy: p("add_metadef_namespace"), Unknown: rest.Keep, Op: rest.In(a.createNamespace)},
		{Method: "GET", Path: one, Policy: p("get_metadef_namespace"), Op: rest.Do(func(r *rest.Request) (any, error) {
			f, err := a.s.Metadefs.GetNamespace(r.Context(), r.Var("ns"), r.URL.Query().Get("resource_type"))
			if err != nil {
				return nil, err
			}
			return fullOf(f), nil
		})},
		{Method: "PUT", Path: one, Policy: p("modify_metadef_namespace"), Unknown: rest.Keep, Op: rest.In(a.updateNamespace)},
		{Method: "DELETE", Path: one, Status: 204, Policy: p("delete_metadef_namespace"), Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.Metadefs.DeleteNamespace(r.Context(), r.Var("ns"))
		})},
		{Method: "GET", Path: "/v2/metadefs/resource_types", Policy: p("list_metadef_resource_types"), Op: rest.Do(a.resourceTypes)},
		{Method: "GET", Path: one + "/resource_types", Policy: p("list_metadef_resource_types", "get_metadef_resource_type"), Op: rest.Do(func(r *rest.Request) (any, error) {
			items, err := a.s.Metadefs.List(r.Context(), r.Var("ns"), metadefs.Association, nacre.Query{Sort: []nacre.SortKey{{Field: "created_at"}}})
			if err != nil {
				return nil, err
			}
			return object{"resource_type_associations": each(items, associationOf)}, nil
		})},
		{Method: "POST", Path: one + "/resource_types", Status: 201, Policy: p("add_metadef_resource_type_association"), Unknown: rest.Keep, Op: rest.In(a.createItem(metadefs.Association))},
		{Method: "POST", Path: one + "/tags", Status: 201, Policy: p("add_metadef_tags"), Unknown: rest.Ignore, Op: rest.In(a.createTags)},
		{Method: "POST", Path: one + "/tags/{name}", Status: 201, Policy: p("add_metadef_tag"), Op: rest.Do(func(r *rest.Request) (any, error) {
			it, err := a.s.Metadefs.Create(r.Context(), r.Var("ns"), metadefs.Tag, r.Var("name"), nil)
			return itemView(metadefs.Tag, r, it), err
		})},
		{Method: "POST", Path: one + "/objects", Status: 201, Policy: p("add_metadef_object"), Unknown: rest.Keep, Op: rest.In(a.createItem(metadefs.Object))},
		{Method: "POST", Path: one + "/properties", Status: 201, Policy: p("add_metadef_property"), Unknown: rest.Keep, Op: rest.In(a.createItem(metadefs.Property))},
		{Method: "DELETE", Path: one + "/resource_types/{name}", Status: 204, Policy: p("remove_metadef_resource_type_association"), Op: rest.Do(a.deleteItem(metadefs.Association))},
	}
	for _, words := range [][4]string{{metadefs.Object, "objects", "delete_metadef_object", "get_metadef_objects"},
		{metadefs.Property, "properties", "remove_metadef_property", "get_metadef_properties"}, {metadefs.Tag, "tags", "delete_metadef_tag", "get_metadef_tags"}} {
		kind := words[0]
		path := one + "/" + words[1]
		out = append(out,
			rest.Route{Method: "GET", Path: path, Policy: p(words[3]), Op: rest.Do(a.listItems(kind, words[1]))},
			rest.Route{Method: "DELETE", Path: path, Status: 204, Policy: p("delete_metadef_namespace"), Op: rest.Do(func(r *rest.Request) (any, error) {
				return nil, a.s.Metadefs.DeleteAll(r.Context(), r.Var("ns"), kind)
			})},
			rest.Route{Method: "GET", Path: path + "/{name}", Policy: p("get_metadef_" + kind), Op: rest.Do(func(r *rest.Request) (any, error) {
				resource := ""
				if kind == metadefs.Property {
					resource = r.URL.Query().Get("resource_type")
				}
				it, err := a.s.Metadefs.Get(r.Context(), r.Var("ns"), kind, r.Var("name"), resource)
				if err != nil {
					return nil, err
				}
				return itemView(kind, r, it), nil
			})},
			rest.Route{Method: "PUT", Path: path + "/{name}", Policy: p("modify_metadef_" + kind), Unknown: rest.Keep, Op: rest.In(a.updateItem(kind))},
			rest.Route{Method: "DELETE", Path: path + "/{name}", Status: 204, Policy: p(words[2]), Op: rest.Do(a.deleteItem(kind))})
	}
	return out
}

func each[T any](items []metadefs.Item, f func(metadefs.Item) T) []T {
	out := make([]T, len(items))
	for i, it := range items {
		out[i] = f(it)
	}
	return out
}

func stamp(o object, created, updated time.Time) object {
	o["created_at"], o["updated_at"] = rest.Seconds(created), rest.Seconds(updated)
	return o
}

func associationOf(it metadefs.Item) object {
	o := object{"name": it.Name}
	maps.Copy(o, it.Body)
	return stamp(o, it.Created, it.Updated)
}

func propertyOf(it metadefs.Item) object {
	o := object{}
	maps.Copy(o, it.Body)
	delete(o, "name")
	return o
}

// itemView is an item as it is shown by itself.
func itemView(kind string, r *rest.Request, it metadefs.Item) object {
	switch kind {
	case metadefs.Object:
		return objectOf(r.Var("ns"), it)
	case metadefs.Property:
		o := propertyOf(it)
		o["name"] = it.Name
		return o
	case metadefs.Association:
		return associationOf(it)
	}
	return stamp(object{"name": it.Name}, it.Created, it.Updated)
}

func objectOf(ns string, it metadefs.Item) object {
	o := object{"name": it.Name, "properties": object{}, "required": []string{}, "schema": "/v2/schemas/metadefs/object", "self": "/v2/metadefs/namespaces/" + url.PathEscape(ns) + "/objects/" + url.PathEscape(it.Name)}
	maps.Copy(o, it.Body)
	return stamp(o, it.Created, it.Updated)
}

func namespaceOf(ns metadefs.Namespace) object {
	o := object{"namespace": ns.Name, "visibility": ns.Visibility, "protected": ns.Protected, "owner": ns.OwnerID,
		"self": "/v2/metadefs/namespaces/" + ns.Name, "schema": "/v2/schemas/metadefs/namespace"}
	for k, v := range map[string]string{"display_name": ns.DisplayName, "description": ns.Description} {
		if v != "" {
			o[k] = v
		}
	}
	return stamp(o, ns.Created, ns.Updated)
}

func fullOf(f metadefs.Full) object {
	o := namespaceOf(f.Namespace)
	if len(f.Associations) > 0 {
		o["resource_type_associations"] = each(f.Associations, associationOf)
	}
	if len(f.Objects) > 0 {
		o["objects"] = each(f.Objects, func(it metadefs.Item) object { return objectOf(f.Name, it) })
	}
	if len(f.Tags) > 0 {
		o["tags"] = each(f.Tags, func(it metadefs.Item) object { return object{"name": it.Name} })
	}
	if len(f.Properties) > 0 {
		ps := object{}
		for _, it := range f.Properties {
			ps[it.Name] = propertyOf(it)
		}
		o["properties"] = ps
	}
	return o
}

func (a *api) listNamespaces(r *rest.Request) (any, error) {
	size, most := a.s.Pages()
	q, err := r.Query(rest.QueryRules{MaxLimit: most, Invalid: badQuery})
	if err != nil {
		return nil, err
	}
	vals := r.URL.Query()
	if !vals.Has("limit") {
		q.Limit = min(size, most)
	}
	defaultSort(&q, vals)
	list, err := a.s.Metadefs.Namespaces(r.Context(), q)
	if err != nil {
		return nil, err
	}
	vals.Del("marker")
	nss := make([]object, len(list))
	for i, f := range list {
		nss[i] = fullOf(f)
	}
	out := object{"namespaces": nss, "first": "/v2/metadefs/namespaces" + withQuery(vals), "schema": "/v2/schemas/metadefs/namespaces"}
	if len(list) > 0 && len(list) == q.Limit {
		vals.Set("marker", list[len(list)-1].Name)
		out["next"] = "/v2/metadefs/namespaces" + withQuery(vals)
	}
	return out, nil
}

type namespaceBody struct {
	Namespace   string           `json:"namespace" valid:"required,min=1,max=80"`
	DisplayName string           `json:"display_name" valid:"max=80"`
	Description string           `json:"description" valid:"max=500"`
	Visibility  string           `json:"visibility" valid:"enum=public|private"`
	Protected   bool             `json:"protected"`
	Owner       string           `json:"owner" valid:"max=255"`
	Types       []map[string]any `json:"resource_type_associations"`
	Properties  map[string]any   `json:"properties"`
	Objects     []map[string]any `json:"objects"`
	Tags        []map[string]any `json:"tags"`
	Extra       map[string]any   `json:"-" extra:"true"`
}

// unknown refuses what a body may not have.
func unknown(schema string, extra map[string]any, readOnly ...string) error {
	for _, k := range readOnly {
		if _, ok := extra[k]; ok {
			return nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is read-only.", k)
		}
		delete(extra, k)
	}
	for k := range extra {
		return bad("Provided object does not match schema '%s': Additional properties are not allowed ('%s' was unexpected)", schema, k)
	}
	return nil
}

func (b *namespaceBody) namespace() metadefs.Namespace {
	return metadefs.Namespace{Name: b.Namespace, DisplayName: b.DisplayName, Description: b.Description, Visibility: b.Visibility, Protected: b.Protected, OwnerID: b.Owner}
}

func (b *namespaceBody) contents() ([]metadefs.Content, error) {
	var out []metadefs.Content
	for kind, list := range map[string][]map[string]any{metadefs.Association: b.Types, metadefs.Object: b.Objects, metadefs.Tag: b.Tags} {
		for _, m := range list {
			name, ok := m["name"].(string)
			if !ok {
				return nil, bad("Provided object does not match schema 'namespace': 'name' is a required property")
			}
			out = append(out, metadefs.Content{Kind: kind, Name: name, Body: without(m, "name", "self", "schema", "created_at", "updated_at")})
		}
	}
	for name, v := range b.Properties {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, bad("Provided object does not match schema 'namespace': %s is not of type 'object'", rest.PyRepr(v))
		}
		out = append(out, metadefs.Content{Kind: metadefs.Property, Name: name, Body: m})
	}
	return out, nil
}

func without(m map[string]any, names ...string) map[string]any {
	out := maps.Clone(m)
	for _, n := range names {
		delete(out, n)
	}
	return out
}

var metadefReadOnly = []string{"self", "schema", "created_at", "updated_at"}

func (a *api) createNamespace(r *rest.Request, b *namespaceBody) (any, error) {
	if err := unknown("namespace", b.Extra, metadefReadOnly...); err != nil {
		return nil, err
	}
	contents, err := b.contents()
	if err != nil {
		return nil, err
	}
	f, err := a.s.Metadefs.CreateNamespace(r.Context(), b.namespace(), contents)
	if err != nil {
		return nil, err
	}
	r.Set("Location", "/v2/metadefs/namespaces/"+url.PathEscape(f.Name))
	return fullOf(f), nil
}

func (a *api) updateNamespace(r *rest.Request, b *namespaceBody) (any, error) {
	if err := unknown("namespace", b.Extra, metadefReadOnly...); err != nil {
		return nil, err
	}
	ns, err := a.s.Metadefs.UpdateNamespace(r.Context(), r.Var("ns"), b.namespace())
	if err != nil {
		return nil, err
	}
	return namespaceOf(ns), nil
}

type itemBody struct {
	Name  string         `json:"name" valid:"required,min=1,max=80"`
	Extra map[string]any `json:"-" extra:"true"`
}

func (b *itemBody) check(kind string) error {
	for _, k := range metadefReadOnly {
		if kind != metadefs.Object && (k == "self" || k == "schema") {
			continue
		}
		if _, ok := b.Extra[k]; ok {
			return nacre.Errorf(nacre.Forbidden, "", "Attribute '%s' is read-only.", k)
		}
	}
	if kind == metadefs.Tag {
		return unknown("tag", b.Extra)
	}
	return nil
}

func (a *api) createItem(kind string) func(r *rest.Request, b *itemBody) (any, error) {
	return func(r *rest.Request, b *itemBody) (any, error) {
		if err := b.check(kind); err != nil {
			return nil, err
		}
		it, err := a.s.Metadefs.Create(r.Context(), r.Var("ns"), kind, b.Name, b.Extra)
		if err != nil {
			return nil, err
		}
		return itemView(kind, r, it), nil
	}
}

func (a *api) updateItem(kind string) func(r *rest.Request, b *itemBody) (any, error) {
	return func(r *rest.Request, b *itemBody) (any, error) {
		if err := b.check(kind); err != nil {
			return nil, err
		}
		it, err := a.s.Metadefs.Update(r.Context(), r.Var("ns"), kind, r.Var("name"), b.Name, b.Extra)
		if err != nil {
			return nil, err
		}
		return itemView(kind, r, it), nil
	}
}

func (a *api) deleteItem(kind string) func(r *rest.Request) (any, error) {
	return func(r *rest.Request) (any, error) {
		return nil, a.s.Metadefs.Delete(r.Context(), r.Var("ns"), kind, r.Var("name"))
	}
}

func (a *api) listItems(kind, word string) func(r *rest.Request) (any, error) {
	return func(r *rest.Request) (any, error) {
		q, err := r.Query(rest.QueryRules{Invalid: badQuery})
		if err != nil {
			return nil, err
		}
		defaultSort(&q, r.URL.Query())
		if kind == metadefs.Property {
			q = nacre.Query{}
		}
		items, err := a.s.Metadefs.List(r.Context(), r.Var("ns"), kind, q)
		if err != nil {
			return nil, err
		}
		path := "/v2/metadefs/namespaces/" + url.PathEscape(r.Var("ns")) + "/" + word
		switch kind {
		case metadefs.Property:
			ps := object{}
			for _, it := range items {
				ps[it.Name] = itemView(kind, r, it)
			}
			return object{"properties": ps}, nil
		case metadefs.Tag:
			return object{"tags": each(items, func(it metadefs.Item) object { return object{"name": it.Name} }), "first": path, "schema": "/v2/schemas/metadefs/tags"}, nil
		}
		return object{"objects": each(items, func(it metadefs.Item) object { return objectOf(r.Var("ns"), it) }), "first": path, "schema": "/v2/schemas/metadefs/objects"}, nil
	}
}

type tagsBody struct {
	Tags []struct {
		Name string `json:"name" valid:"required,min=1,max=80"`
	} `json:"tags"`
}

func (a *api) createTags(r *rest.Request, b *tagsBody) (any, error) {
	names := make([]string, len(b.Tags))
	out := make([]object, len(b.Tags))
	for i, t := range b.Tags {
		names[i], out[i] = t.Name, object{"name": t.Name}
	}
	add := false
	switch strings.ToLower(strings.TrimSpace(r.Header.Get("X-Openstack-Append"))) {
	case "1", "t", "true", "on", "y", "yes":
		add = true
	}
	return object{"tags": out}, a.s.Metadefs.CreateTags(r.Context(), r.Var("ns"), names, add)
}

func (a *api) resourceTypes(r *rest.Request) (any, error) {
	ts, err := a.s.Metadefs.ResourceTypes(r.Context())
	if err != nil {
		return nil, err
	}
	out := make([]object, len(ts))
	for i, t := range ts {
		out[i] = stamp(object{"name": t.Name}, t.Created, t.Updated)
	}
	return object{"resource_types": out}, nil
}
