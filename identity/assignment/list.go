package assignment

import (
	"context"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Query is what is asked of the list of role assignments.
type Query struct {
	UserID, GroupID, RoleID   string
	ProjectID, DomainID       string
	System                    bool
	Inherited                 *bool
	Effective, IncludeSubtree bool
}

// View is one line of the list, with the assignments behind an
// effective one.
type View struct {
	Assignment
	// ViaGroup and ViaPriorRole are the group and the prior role by which an effective one holds,
	// FromProject or FromDomain what it is inherited from.
	ViaGroup, ViaPriorRole  string
	FromProject, FromDomain string
}

// List lists role assignments, or with Effective what they come to.
func (s *Service) List(ctx context.Context, q Query) ([]View, error) {
	rule := "list_role_assignments"
	target := policy.Map{"target.domain_id": kit.OwnDomain(ctx)}
	if q.IncludeSubtree {
		rule = "list_role_assignments_for_tree"
		if q.ProjectID == "" {
			return nil, kit.Invalid("scope.project.id must be specified if include_subtree is also specified")
		}
		if domain, err := s.parent.Project(ctx, q.ProjectID); err == nil {
			if domain == "" { // it is one itself
				domain = kit.Ref(q.ProjectID)
			}
			target["target.domain_id"] = string(domain)
		}
	}
	if err := s.area.Enforce(ctx, rule, target); err != nil {
		return nil, err
	}
	switch {
	case q.UserID != "" && q.GroupID != "":
		return nil, kit.Invalid("Specify a user or group, not both")
	case q.ProjectID != "" && q.DomainID != "" || q.System && q.ProjectID+q.DomainID != "":
		return nil, kit.Invalid("Specify a domain, project, or system, not both")
	case q.Effective && q.GroupID != "":
		return nil, kit.Invalid("Combining effective and group filter will always result in an empty list.")
	}
	projects := []string{}
	if q.ProjectID != "" {
		projects = append(projects, q.ProjectID)
	}
	if q.IncludeSubtree {
		below, err := s.parent.Below(ctx, q.ProjectID)
		if err != nil {
			return nil, err
		}
		projects = append(projects, below...)
	}
	var out []View
	var err error
	if q.Effective {
		out, err = s.effective(ctx, &q, projects)
	} else {
		out, err = s.direct(ctx, &q, projects)
	}
	if own := kit.OwnDomain(ctx); own != "" && err == nil {
		return s.withinDomain(ctx, own, out)
	}
	return out, err
}

func (s *Service) direct(ctx context.Context, q *Query, projects []string) ([]View, error) {
	var ws []store.Where
	for column, v := range map[string]string{"user_id": q.UserID, "group_id": q.GroupID, "role_id": q.RoleID, "domain_id": q.DomainID} {
		if v != "" {
			ws = append(ws, store.Eq(column, v))
		}
	}
	if len(projects) > 0 {
		ws = append(ws, store.In("project_id", projects))
	}
	if q.System {
		ws = append(ws, store.Eq("system", true))
	}
	if q.Inherited != nil {
		ws = append(ws, store.Eq("inherited", *q.Inherited))
	}
	rows, err := s.assignments.Where(ctx, ws...)
	out := make([]View, len(rows))
	for i := range rows {
		out[i].Assignment = rows[i]
	}
	return out, err
}

// effective resolves groups into members, inheritance into projects and roles
// into what they imply.
func (s *Service) effective(ctx context.Context, q *Query, projects []string) ([]View, error) {
	w := store.All()
	if q.UserID != "" {
		groups, err := s.parent.GroupsOf(ctx, q.UserID)
		if err != nil {
			return nil, err
		}
		w = actorIs(q.UserID, groups)
	}
	rows, err := s.assignments.Where(ctx, w)
	if err != nil {
		return nil, err
	}
	members, err := s.parent.Members(ctx, q.UserID)
	if err != nil {
		return nil, err
	}
	pairs, err := s.implied.Where(ctx)
	if err != nil {
		return nil, err
	}
	// A domain's role counts for what it implies only.
	domainRoles := map[string]bool{}
	rs, err := s.roles.Where(ctx, store.Ne("domain_id", ""))
	if err != nil {
		return nil, err
	}
	for i := range rs {
		domainRoles[rs[i].ID] = true
	}
	below := map[string][]string{}
	var out []View
	seen := map[string]bool{}
	for _, row := range rows {
		for _, v := range byActor(row, members) {
			if v.Inherited {
				from := v.ProjectID + v.DomainID
				if _, ok := below[from]; !ok {
					if below[from], err = s.parent.Below(ctx, from); err != nil {
						return nil, err
					}
				}
			}
			for _, v := range byTarget(v, below) {
				for _, role := range closure(pairs, []string{v.RoleID}) {
					e := v
					if role != v.RoleID {
						e.ViaPriorRole, e.RoleID = v.RoleID, role
					}
					e.ID = e.UserID + "|" + e.ProjectID + "|" + e.DomainID + "|" + e.RoleID + "|" + e.ViaGroup + "|" + e.ViaPriorRole + "|" + e.FromProject + "|" + e.FromDomain
					if !seen[e.ID] && !domainRoles[role] && q.wants(&e, projects) {
						seen[e.ID] = true
						out = append(out, e)
					}
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b View) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

func (q *Query) wants(v *View, projects []string) bool {
	return (q.UserID == "" || v.UserID == q.UserID) && (q.RoleID == "" || v.RoleID == q.RoleID) &&
		(q.DomainID == "" || v.DomainID == q.DomainID) && (len(projects) == 0 || slices.Contains(projects, v.ProjectID)) &&
		(!q.System || v.System) && (q.Inherited == nil || *q.Inherited == (v.FromProject+v.FromDomain != ""))
}

func byActor(row Assignment, members map[string][]string) []View {
	if row.UserID != "" {
		return []View{{Assignment: row}}
	}
	var out []View
	for _, u := range members[row.GroupID] {
		v := View{Assignment: row, ViaGroup: row.GroupID}
		v.UserID, v.GroupID = u, ""
		out = append(out, v)
	}
	return out
}

func byTarget(v View, below map[string][]string) []View {
	if !v.Inherited {
		return []View{v}
	}
	var out []View
	for _, p := range below[v.ProjectID+v.DomainID] {
		e := v
		e.FromProject, e.FromDomain = v.ProjectID, v.DomainID
		e.ProjectID, e.DomainID, e.Inherited = p, "", false
		out = append(out, e)
	}
	return out
}

// withinDomain keeps the assignments on a domain and its projects.
func (s *Service) withinDomain(ctx context.Context, domain string, all []View) ([]View, error) {
	in, err := s.parent.ProjectsIn(ctx, domain)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(v View) bool { return v.DomainID != domain && !slices.Contains(in, v.ProjectID) }), nil
}
