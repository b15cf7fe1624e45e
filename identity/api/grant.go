package api

import (
	"net/http"
	"strings"

	"github.com/nacre-cloud/nacre/identity"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/internal/rest"
)

// grantOf reads a grant from a path of any of the forms.
func grantOf(r *rest.Request) assignment.Grant {
	g := assignment.Grant{UserID: r.Var("user"), GroupID: r.Var("group"), ProjectID: r.Var("project"), DomainID: r.Var("domain"), RoleID: r.Var("role")}
	g.System = g.ProjectID == "" && g.DomainID == ""
	g.Inherited = strings.HasSuffix(r.URL.Path, "/inherited_to_projects")
	return g
}

func (h *handlers) grantRoutes() []rest.Route {
	list := rest.Do(func(r *rest.Request) (any, error) {
		rs, err := h.svc.Assignments.ListGrants(r.Context(), grantOf(r))
		q, qerr := query(r)
		if err == nil {
			err = qerr
		}
		return collection(r, "roles", q, rs, roleView, roleID), err
	})
	check := rest.Do(func(r *rest.Request) (any, error) { return nil, h.svc.Assignments.CheckGrant(r.Context(), grantOf(r)) })
	create := rest.Do(func(r *rest.Request) (any, error) { return nil, h.svc.Assignments.CreateGrant(r.Context(), grantOf(r)) })
	remove := rest.Do(func(r *rest.Request) (any, error) { return nil, h.svc.Assignments.DeleteGrant(r.Context(), grantOf(r)) })

	routes := []rest.Route{{Method: "GET", Path: "/v3/role_assignments", Policy: id("list_role_assignments", "list_role_assignments_for_tree"), Statements: 20, Op: rest.Do(h.listAssignments)}}
	for _, target := range []string{"/v3/projects/{project}", "/v3/domains/{domain}", "/v3/system", "/v3/OS-INHERIT/projects/{project}", "/v3/OS-INHERIT/domains/{domain}"} {
		for _, actor := range []string{"users/{user}", "groups/{group}"} {
			rules := map[string]string{"list": "list_grants", "check": "check_grant", "create": "create_grant", "revoke": "revoke_grant"}
			if target == "/v3/system" {
				suffix := "_for_user"
				if actor != "users/{user}" {
					suffix = "_for_group"
				}
				rules = map[string]string{"list": "list_system_grants" + suffix, "check": "check_system_grant" + suffix, "create": "create_system_grant" + suffix, "revoke": "revoke_system_grant" + suffix}
			}
			end := ""
			if strings.Contains(target, "INHERIT") {
				end = "/inherited_to_projects"
			}
			all := target + "/" + actor + "/roles"
			one := all + "/{role}" + end
			if end == "" || strings.Contains(target, "domain") {
				routes = append(routes, rest.Route{Method: "GET", Path: all + end, Policy: id(rules["list"]), Statements: 4, Op: list})
			}
			routes = append(routes,
				rest.Route{Method: "GET", Path: one, Status: http.StatusNoContent, Policy: id(rules["check"]), Statements: 4, Op: check},
				rest.Route{Method: "PUT", Path: one, Policy: id(rules["create"]), Statements: 9, Op: create},
				rest.Route{Method: "DELETE", Path: one, Policy: id(rules["revoke"]), Statements: 9, Op: remove})
		}
	}
	return routes
}

func flag(v []string) bool {
	return len(v) > 0 && v[len(v)-1] != "0" && !strings.EqualFold(v[len(v)-1], "false")
}

func (h *handlers) listAssignments(r *rest.Request) (any, error) {
	v := r.URL.Query()
	q := assignment.Query{
		UserID: v.Get("user.id"), GroupID: v.Get("group.id"), RoleID: v.Get("role.id"), ProjectID: v.Get("scope.project.id"), DomainID: v.Get("scope.domain.id"),
		System: v.Has("scope.system"), Effective: flag(v["effective"]), IncludeSubtree: flag(v["include_subtree"]),
	}
	if v.Get("scope.OS-INHERIT:inherited_to") != "" {
		yes := v.Get("scope.OS-INHERIT:inherited_to") == "projects"
		q.Inherited = &yes
	}
	all, err := h.svc.Assignments.List(r.Context(), q)
	if err != nil {
		return nil, err
	}
	var names *identity.AssignmentNames
	if flag(v["include_names"]) {
		n, err := h.svc.NamesOf(r.Context(), all)
		if err != nil {
			return nil, err
		}
		names = &n
	}
	views := make([]object, len(all))
	for i := range all {
		views[i] = assignmentView(r, &all[i], names)
	}
	return object{"role_assignments": views, "links": object{"self": here(r), "previous": nil, "next": nil}}, nil
}

// named shows an id, with name and domain when names are asked for.
func named(n *identity.AssignmentNames, id, name, domain string) object {
	o := object{"id": id}
	if n == nil {
		return o
	}
	o["name"] = name
	if domain != "" {
		o["domain"] = object{"id": domain, "name": n.Projects[domain].Name}
	}
	return o
}

func assignmentView(r *rest.Request, v *assignment.View, n *identity.AssignmentNames) object {
	known := n
	if known == nil {
		known = &identity.AssignmentNames{}
	}
	role := known.Roles[v.RoleID]
	out := object{"role": named(n, v.RoleID, role.Name, string(role.DomainID))}
	actor, target := "", ""
	if v.UserID != "" {
		u := known.Users[v.UserID]
		out["user"], actor = named(n, v.UserID, u.Name, u.DomainID), "users/"+v.UserID
	} else {
		g := known.Groups[v.GroupID]
		out["group"], actor = named(n, v.GroupID, g.Name, g.DomainID), "groups/"+v.GroupID
	}
	scope := object{}
	switch {
	case v.ProjectID != "":
		p := known.Projects[v.ProjectID]
		scope["project"], target = named(n, v.ProjectID, p.Name, string(p.DomainID)), "projects/"+v.ProjectID
	case v.DomainID != "":
		scope["domain"], target = named(n, v.DomainID, known.Projects[v.DomainID].Name, ""), "domains/"+v.DomainID
	default:
		scope["system"], target = object{"all": true}, "system"
	}
	l := assignmentLinks(r.Base()+"/v3/", v, actor, target)
	if v.Inherited || v.FromProject+v.FromDomain != "" {
		scope["OS-INHERIT:inherited_to"] = "projects"
	}
	out["scope"], out["links"] = scope, l
	return out
}

// assignmentLinks say where the assignment was made: on the actor or a group of its,
// on the target or one above, of the role or of one that implies it.
func assignmentLinks(base string, v *assignment.View, actor, target string) object {
	inherited := v.Inherited
	if from := v.FromProject + v.FromDomain; from != "" {
		inherited = true
		if target = "projects/" + from; v.FromDomain != "" {
			target = "domains/" + from
		}
	}
	l, role := object{}, v.RoleID
	if v.ViaPriorRole != "" {
		role = v.ViaPriorRole
		l["prior_role"] = base + "prior_role/" + v.ViaPriorRole + "/implies/" + v.RoleID
	}
	if v.ViaGroup != "" {
		l["membership"] = base + "groups/" + v.ViaGroup + "/users/" + v.UserID
		actor = "groups/" + v.ViaGroup
	}
	if l["assignment"] = base + target + "/" + actor + "/roles/" + role; inherited {
		l["assignment"] = base + "OS-INHERIT/" + target + "/" + actor + "/roles/" + role + "/inherited_to_projects"
	}
	return l
}
