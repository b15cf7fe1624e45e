package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/compute/placement"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (a *api) classRoutes() []rest.Route {
	const class, trait = "/resource_classes/{name}", "/traits/{name}"
	update := []string{"placement:resource_classes:update"}
	return []rest.Route{
		{Method: "GET", Path: "/resource_classes", Min: "1.2", Policy: []string{"placement:resource_classes:list"}, View: classList{}, Op: rest.Do(a.listClasses)},
		{Method: "POST", Path: "/resource_classes", Min: "1.2", Status: 201, Policy: []string{"placement:resource_classes:create"}, Op: in(a.createClass)},
		{Method: "GET", Path: class, Min: "1.2", Policy: []string{"placement:resource_classes:show"}, View: classView{}, Op: rest.Do(a.getClass)},
		{Method: "PUT", Path: class, Min: "1.2", Max: "1.6", Policy: update, View: classView{}, Op: in(a.renameClass)},
		{Method: "PUT", Path: class, Min: "1.7", Status: 204, Policy: update, Op: rest.Do(a.ensureClass)},
		{Method: "DELETE", Path: class, Min: "1.2", Status: 204, Policy: []string{"placement:resource_classes:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteClass(r.Context(), r.Var("name"))
		})},
		{Method: "GET", Path: "/traits", Min: "1.6", Policy: []string{"placement:traits:list"}, Op: rest.Do(a.listTraits)},
		{Method: "GET", Path: trait, Min: "1.6", Status: 204, Policy: []string{"placement:traits:show"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			fresh(r, time.Time{})
			return nil, a.s.Trait(r.Context(), r.Var("name"))
		})},
		{Method: "PUT", Path: trait, Min: "1.6", Status: 204, Policy: []string{"placement:traits:update"}, Op: rest.Do(a.ensureTrait)},
		{Method: "DELETE", Path: trait, Min: "1.6", Status: 204, Policy: []string{"placement:traits:delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteTrait(r.Context(), r.Var("name"))
		})},
	}
}

type classView struct {
	Name  string `json:"name"`
	Links []link `json:"links"`
}

type classList struct {
	Classes []classView `json:"resource_classes"`
}

func classOf(r *rest.Request, name string) classView {
	return classView{name, []link{{"self", path(r, "/resource_classes/"+name)}}}
}

func (a *api) listClasses(r *rest.Request) (any, error) {
	names, err := a.s.Classes(r.Context())
	if err != nil {
		return nil, err
	}
	out := classList{make([]classView, len(names))}
	for i, n := range names {
		out.Classes[i] = classOf(r, n)
	}
	fresh(r, time.Time{})
	return out, nil
}

func (a *api) getClass(r *rest.Request) (any, error) {
	if err := a.s.Class(r.Context(), r.Var("name")); err != nil {
		return nil, err
	}
	fresh(r, time.Time{})
	return classOf(r, r.Var("name")), nil
}

type classBody struct {
	Name string `json:"name" valid:"required,max=255,pattern=^CUSTOM_[A-Z0-9_]+$"`
}

func (a *api) createClass(r *rest.Request, b *classBody) (any, error) {
	if err := a.s.CreateClass(r.Context(), b.Name); err != nil {
		return nil, err
	}
	location(r, "/resource_classes/"+b.Name)
	return nil, nil
}

func (a *api) renameClass(r *rest.Request, b *classBody) (any, error) {
	return classOf(r, b.Name), a.s.RenameClass(r.Context(), r.Var("name"), b.Name)
}

func (a *api) ensureClass(r *rest.Request) (any, error) {
	name := r.Var("name")
	if !placement.CustomName.MatchString(name) || len(name) > 255 {
		return nil, invalid("JSON does not validate: %s does not match '^CUSTOM_[A-Z0-9_]+$'", rest.PyRepr(name))
	}
	made, err := a.s.EnsureClass(r.Context(), name)
	if made {
		r.SetStatus(http.StatusCreated)
	}
	location(r, "/resource_classes/"+name)
	return nil, err
}

func (a *api) ensureTrait(r *rest.Request) (any, error) {
	made, err := a.s.EnsureTrait(r.Context(), r.Var("name"))
	if err != nil {
		return nil, err
	}
	if made {
		r.SetStatus(http.StatusCreated)
	}
	location(r, "/traits/"+r.Var("name"))
	fresh(r, time.Time{})
	return nil, nil
}

func (a *api) listTraits(r *rest.Request) (any, error) {
	vals, err := parameters(r, map[string]string{"name": "1.6", "associated": "1.6"})
	if err != nil {
		return nil, err
	}
	var f placement.TraitFilter
	if vals.Has("name") {
		op, v, ok := strings.Cut(last(vals, "name"), ":")
		switch {
		case !ok:
			return nil, invalid("Badly formatted name parameter. Expected name query string parameter in form: ?name=[in|startswith]:[name1,name2|prefix]. Got: \"%s\"", last(vals, "name"))
		case op == "in":
			f.In = strings.Split(v, ",")
		case op == "startswith":
			f.Prefix = v
		}
	}
	if vals.Has("associated") {
		yes := strings.ToLower(last(vals, "associated"))
		if yes != "true" && yes != "false" {
			return nil, invalid("The query parameter \"associated\" only accepts \"true\" or \"false\"")
		}
		b := yes == "true"
		f.Associated = &b
	}
	names, err := a.s.Traits(r.Context(), f)
	if err != nil {
		return nil, err
	}
	fresh(r, time.Time{})
	return struct {
		Traits []string `json:"traits"`
	}{names}, nil
}
