package api

import (
	"encoding/json"
	"net/http"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/limit"
	"github.com/nacre-cloud/nacre/internal/rest"
)

func (h *handlers) projectRoutes() []rest.Route {
	return []rest.Route{
		{Method: "POST", Path: "/v3/domains", Status: http.StatusCreated, Policy: id("create_domain"), Unknown: rest.Keep, Statements: 6, Op: rest.In(func(r *rest.Request, b *domainEnvelope) (any, error) {
			if err := required("name", "domain", b.Domain.Name.Set); err != nil {
				return nil, err
			}
			d, err := h.svc.CreateDomain(r.Context(), b.Domain.change(r))
			return object{"domain": domainView(r, &d)}, err
		})},
		{Method: "GET", Path: "/v3/domains", Policy: id("list_domains"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ds, err := h.svc.ListDomains(r.Context(), q)
			return collection(r, "domains", q, ds, domainView, projectID), err
		})},
		{Method: "GET", Path: "/v3/domains/{id}", Policy: id("get_domain"), Op: rest.Do(func(r *rest.Request) (any, error) {
			d, err := h.svc.GetDomain(r.Context(), r.Var("id"))
			return object{"domain": domainView(r, &d)}, err
		})},
		{Method: "PATCH", Path: "/v3/domains/{id}", Policy: id("update_domain"), Unknown: rest.Keep, Statements: 12, Op: rest.In(func(r *rest.Request, b *domainEnvelope) (any, error) {
			if err := matching(r, b.Domain.Extra, "domain"); err != nil {
				return nil, err
			}
			d, err := h.svc.UpdateDomain(r.Context(), r.Var("id"), b.Domain.change(r))
			return object{"domain": domainView(r, &d)}, err
		})},
		{Method: "DELETE", Path: "/v3/domains/{id}", Policy: id("delete_domain"), Statements: 40, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.DeleteDomain(r.Context(), r.Var("id"))
		})},

		{Method: "POST", Path: "/v3/projects", Status: http.StatusCreated, Policy: id("create_project"), Unknown: rest.Keep, Statements: 14, Op: rest.In(func(r *rest.Request, b *projectEnvelope) (any, error) {
			if err := required("name", "project", b.Project.Name.Set); err != nil {
				return nil, err
			}
			p, err := h.svc.CreateProject(r.Context(), b.Project.change(r))
			return object{"project": projectView(r, &p)}, err
		})},
		{Method: "GET", Path: "/v3/projects", Policy: id("list_projects"), Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := query(r)
			if err != nil {
				return nil, err
			}
			ps, err := h.svc.ListProjects(r.Context(), q)
			return collection(r, "projects", q, ps, projectView, projectID), err
		})},
		{Method: "GET", Path: "/v3/projects/{id}", Policy: id("get_project"), Statements: 24, Op: rest.Do(h.showProject)},
		{Method: "PATCH", Path: "/v3/projects/{id}", Policy: id("update_project"), Unknown: rest.Keep, Statements: 14, Op: rest.In(func(r *rest.Request, b *projectEnvelope) (any, error) {
			if err := matching(r, b.Project.Extra, "project"); err != nil {
				return nil, err
			}
			p, err := h.svc.UpdateProject(r.Context(), r.Var("id"), b.Project.change(r))
			return object{"project": projectView(r, &p)}, err
		})},
		{Method: "DELETE", Path: "/v3/projects/{id}", Policy: id("delete_project"), Statements: 20, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.DeleteProject(r.Context(), r.Var("id"))
		})},

		{Method: "GET", Path: "/v3/projects/{id}/tags", Policy: id("list_project_tags"), Op: rest.Do(func(r *rest.Request) (any, error) {
			tags, err := h.svc.ProjectTags(r.Context(), r.Var("id"))
			return tagsView(r, tags), err
		})},
		{Method: "PUT", Path: "/v3/projects/{id}/tags", Status: http.StatusOK, Policy: id("update_project_tags"), Statements: 6, Op: rest.In(func(r *rest.Request, b *tagsBody) (any, error) {
			tags, err := h.svc.SetProjectTags(r.Context(), r.Var("id"), b.Tags)
			return tagsView(r, tags), err
		})},
		{Method: "DELETE", Path: "/v3/projects/{id}/tags", Policy: id("delete_project_tags"), Statements: 6, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.DeleteProjectTags(r.Context(), r.Var("id"))
		})},
		{Method: "GET", Path: "/v3/projects/{id}/tags/{tag}", Status: http.StatusNoContent, Policy: id("get_project_tag"), Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.CheckProjectTag(r.Context(), r.Var("id"), r.Var("tag"))
		})},
		{Method: "PUT", Path: "/v3/projects/{id}/tags/{tag}", Status: http.StatusCreated, Policy: id("create_project_tag"), Statements: 6, Op: rest.Do(func(r *rest.Request) (any, error) {
			r.Set("Location", here(r))
			return nil, h.svc.AddProjectTag(r.Context(), r.Var("id"), r.Var("tag"))
		})},
		{Method: "DELETE", Path: "/v3/projects/{id}/tags/{tag}", Policy: id("delete_project_tag"), Statements: 6, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, h.svc.DeleteProjectTag(r.Context(), r.Var("id"), r.Var("tag"))
		})},
	}
}

type tagsBody struct {
	Tags []string `json:"tags" valid:"required,max=80"`
}

func tagsView(r *rest.Request, tags []string) object {
	return object{"tags": tags, "links": object{"self": here(r), "previous": nil, "next": nil}}
}

// projectFields are those of a project and of a domain.
type projectFields struct {
	Name        rest.Opt[string]   `json:"name"`
	Description rest.Opt[string]   `json:"description" valid:"null"`
	Enabled     rest.Opt[bool]     `json:"enabled"`
	DomainID    rest.Opt[string]   `json:"domain_id" valid:"null"`
	ParentID    rest.Opt[string]   `json:"parent_id" valid:"null"`
	IsDomain    rest.Opt[bool]     `json:"is_domain"`
	Tags        rest.Opt[[]string] `json:"tags"`
	Options     map[string]any     `json:"options"`
	Extra       map[string]any     `json:"-" extra:"true"`
}

func (f *projectFields) change(*rest.Request) identity.ProjectChange {
	ch := identity.ProjectChange{
		Name: ptr(f.Name), Description: ptr(f.Description), Enabled: ptr(f.Enabled), DomainID: ptr(f.DomainID),
		ParentID: ptr(f.ParentID), IsDomain: ptr(f.IsDomain), Tags: ptr(f.Tags), Options: f.Options, Extra: unknown(f.Extra),
	}
	// A null is as good as absent.
	if f.DomainID.Null {
		ch.DomainID = nil
	}
	if f.ParentID.Null {
		ch.ParentID = nil
	}
	return ch
}

type domainEnvelope struct {
	Domain projectFields `json:"domain" valid:"required"`
}

type projectEnvelope struct {
	Project projectFields `json:"project" valid:"required"`
}

type projectBody struct {
	identity.Project
	Parents any   `json:"parents,omitempty"`
	Subtree any   `json:"subtree,omitempty"`
	Links   links `json:"links"`
}

func projectView(r *rest.Request, p *identity.Project) projectBody {
	return projectBody{Project: *p, Links: self(r, "projects", p.ID)}
}

func projectID(p *identity.Project) string { return p.ID }

type domainBodyView struct {
	ID          string           `json:"id"`
	Name        string           `json:"name"`
	Description string           `json:"description"`
	Enabled     bool             `json:"enabled"`
	Tags        []string         `json:"tags"`
	Options     identity.Options `json:"options"`
	Extra       map[string]any   `json:"-" extra:"true"`
	Links       links            `json:"links"`
}

func domainView(r *rest.Request, d *identity.Project) domainBodyView {
	return domainBodyView{ID: d.ID, Name: d.Name, Description: d.Description, Enabled: d.Enabled, Tags: d.Tags, Options: d.Options, Extra: d.Extra, Links: self(r, "domains", d.ID)}
}

// showProject also shows parents and subtree: as lists of those that the caller has
// a role on, with their limits if asked for, or as nested ids of all.
func (h *handlers) showProject(r *rest.Request) (any, error) {
	ctx, pid, q := r.Context(), r.Var("id"), r.URL.Query()
	p, err := h.svc.GetProject(ctx, pid)
	if err != nil {
		return nil, err
	}
	for _, what := range []string{"parents", "subtree"} {
		if q.Has(what+"_as_list") && q.Has(what+"_as_ids") {
			return nil, nacre.Errorf(nacre.Invalid, "ValidationError", "Cannot use %s_as_list and %s_as_ids query params at the same time.", what, what)
		}
	}
	v := projectView(r, &p)
	if q.Has("parents_as_list") || q.Has("parents_as_ids") {
		parents, err := h.svc.Parents(ctx, pid)
		if err != nil {
			return nil, err
		}
		if v.Parents = (orNull{nestParents(parents)}); q.Has("parents_as_list") {
			if v.Parents, err = h.relatives(r, parents, q.Has("include_limits")); err != nil {
				return nil, err
			}
		}
	}
	if q.Has("subtree_as_list") || q.Has("subtree_as_ids") {
		tree, err := h.svc.Subtree(ctx, pid)
		if err != nil {
			return nil, err
		}
		if v.Subtree = (orNull{nestSubtree(pid, tree)}); q.Has("subtree_as_list") {
			if v.Subtree, err = h.relatives(r, tree, q.Has("include_limits")); err != nil {
				return nil, err
			}
		}
	}
	return object{"project": v}, nil
}

// orNull is shown even when it is nil.
type orNull struct{ v any }

// MarshalJSON shows nil as null.
func (o orNull) MarshalJSON() ([]byte, error) { return json.Marshal(o.v) }

type relative struct {
	projectBody
	Limits []limit.Limit `json:"limits,omitempty"`
}

// relatives are the parents or children that the caller has a role on.
func (h *handlers) relatives(r *rest.Request, ps []identity.Project, limits bool) ([]object, error) {
	ps, err := h.svc.Reachable(r.Context(), ps)
	if err != nil {
		return nil, err
	}
	var of map[string][]limit.Limit
	if limits {
		ids := make([]string, len(ps))
		for i := range ps {
			ids[i] = ps[i].ID
		}
		if of, err = h.svc.Limits.Of(r.Context(), ids); err != nil {
			return nil, err
		}
	}
	out := make([]object, len(ps))
	for i := range ps {
		out[i] = object{"project": relative{projectView(r, &ps[i]), of[ps[i].ID]}}
	}
	return out, nil
}

func nestParents(ps []identity.Project) any {
	if len(ps) == 0 {
		return nil
	}
	return object{ps[0].ID: nestParents(ps[1:])}
}

func nestSubtree(top string, ps []identity.Project) any {
	out := object{}
	for i := range ps {
		if string(ps[i].ParentID) == top {
			out[ps[i].ID] = nestSubtree(ps[i].ID, ps)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
