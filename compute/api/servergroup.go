package api

import (
	"strings"

	"github.com/nacre-cloud/nacre/compute"
	"github.com/nacre-cloud/nacre/internal/rest"
)

type serverGroupView struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Policies []string          `json:"policies" until:"2.63"`
	Metadata map[string]string `json:"metadata" until:"2.63"`
	Policy   string            `json:"policy" since:"2.64"`
	Rules    map[string]int    `json:"rules" since:"2.64"`
	Members  []string          `json:"members"`
	Project  string            `json:"project_id" since:"2.13"`
	User     string            `json:"user_id" since:"2.13"`
}

func serverGroupOf(g compute.ServerGroup) serverGroupView {
	v := serverGroupView{ID: g.ID, Name: g.Name, Policies: []string{g.Policy}, Metadata: map[string]string{}, Policy: g.Policy, Rules: map[string]int{}, Members: g.Members, Project: g.ProjectID, User: g.UserID}
	if g.MaxPerHost > 0 {
		v.Rules["max_server_per_host"] = g.MaxPerHost
	}
	return v
}

// The bodies before 2.15, before 2.64 and since.
type (
	groupCreate1 struct {
		Group struct {
			Name     string   `json:"name" valid:"required,min=1,max=255"`
			Policies []string `json:"policies" valid:"required,min=1,max=1,enum=anti-affinity|affinity"`
		} `json:"server_group" valid:"required"`
	}
	groupCreate15 struct {
		Group struct {
			Name     string   `json:"name" valid:"required,min=1,max=255"`
			Policies []string `json:"policies" valid:"required,min=1,max=1,enum=anti-affinity|affinity|soft-anti-affinity|soft-affinity"`
		} `json:"server_group" valid:"required"`
	}
	groupCreate64 struct {
		Group struct {
			Name   string `json:"name" valid:"required,min=1,max=255"`
			Policy string `json:"policy" valid:"required,enum=anti-affinity|affinity|soft-anti-affinity|soft-affinity"`
			Rules  struct {
				Max int `json:"max_server_per_host" valid:"lax,min=1"`
			} `json:"rules"`
		} `json:"server_group" valid:"required"`
	}
)

func (a *api) serverGroupRoutes() []rest.Route {
	const base, rule = "/v2.1/os-server-groups", "os_compute_api:os-server-groups:"
	create := func(r *rest.Request, name, policy string, most int) (any, error) {
		if strings.TrimSpace(name) != name {
			return nil, bad("Invalid input for field/attribute name. Value: %s. %s does not match a name without spaces around it", name, rest.PyRepr(name))
		}
		g, err := a.s.CreateServerGroup(r.Context(), compute.ServerGroup{Name: name, Policy: policy, MaxPerHost: most})
		return map[string]serverGroupView{"server_group": serverGroupOf(g)}, err
	}
	route := func(lo, hi string, op rest.Op) rest.Route {
		return rest.Route{Method: "POST", Path: base, Min: lo, Max: hi, Policy: []string{rule + "create"}, View: serverGroupView{}, Op: op}
	}
	return []rest.Route{
		route("", "2.14", rest.In(func(r *rest.Request, b *groupCreate1) (any, error) {
			return create(r, b.Group.Name, b.Group.Policies[0], 0)
		})),
		route("2.15", "2.63", rest.In(func(r *rest.Request, b *groupCreate15) (any, error) {
			return create(r, b.Group.Name, b.Group.Policies[0], 0)
		})),
		route("2.64", "", rest.In(func(r *rest.Request, b *groupCreate64) (any, error) {
			if b.Group.Rules.Max > 0 && b.Group.Policy != "anti-affinity" {
				return nil, bad("Only anti-affinity policy supports rules.")
			}
			return create(r, b.Group.Name, b.Group.Policy, b.Group.Rules.Max)
		})),
		{Method: "GET", Path: base, Policy: []string{rule + "index"}, View: serverGroupView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			q, err := r.Query(strictQuery(r, 1000, "2.75", "all_projects", "offset"))
			if err != nil {
				return nil, err
			}
			_, all := q.Get("all_projects")
			from, err := offset(q)
			if err != nil {
				return nil, err
			}
			gs, err := a.s.ServerGroups(r.Context(), all, from, q.Limit)
			if err != nil {
				return nil, err
			}
			out := make([]serverGroupView, len(gs))
			for i, g := range gs {
				out[i] = serverGroupOf(g)
			}
			return map[string]any{"server_groups": out}, nil
		})},
		{Method: "GET", Path: base + "/{id}", Policy: []string{rule + "show"}, View: serverGroupView{}, Op: rest.Do(func(r *rest.Request) (any, error) {
			g, err := a.s.ServerGroup(r.Context(), r.Var("id"))
			return map[string]serverGroupView{"server_group": serverGroupOf(g)}, err
		})},
		{Method: "DELETE", Path: base + "/{id}", Policy: []string{rule + "delete"}, Op: rest.Do(func(r *rest.Request) (any, error) {
			return nil, a.s.DeleteServerGroup(r.Context(), r.Var("id"))
		})},
	}
}
