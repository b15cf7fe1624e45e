package identity

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// AssignmentQuery is what is asked of the list of role assignments.
type AssignmentQuery struct {
	UserID, GroupID, RoleID   string
	ProjectID, DomainID       string
	System                    bool
	Inherited                 *bool
	Effective, IncludeSubtree bool
}

// AssignmentView is one line of the list, with the assignments behind an
// effective one.
type AssignmentView struct {
	Assignment
	// ViaGroup and ViaPriorRole are the group and the prior role by which an effective one holds,
	// FromProject or FromDomain what it is inherited from.
	ViaGroup, ViaPriorRole  string
	FromProject, FromDomain string
}

// AssignmentNames are the names of what assignments refer to, by id.
type AssignmentNames struct {
	Users    map[string]User
	Groups   map[string]Group
	Projects map[string]Project // domains too
	Roles    map[string]Role
}

// ListAssignments lists role assignments, or with Effective what they come to.
func (s *Service) ListAssignments(ctx context.Context, q AssignmentQuery) ([]AssignmentView, error) {
	rule := "list_role_assignments"
	target := policy.Map{"target.domain_id": ownDomain(ctx)}
	if q.IncludeSubtree {
		rule = "list_role_assignments_for_tree"
		if q.ProjectID == "" {
			return nil, invalid("scope.project.id must be specified if include_subtree is also specified")
		}
		if p, err := s.projects.Get(ctx, q.ProjectID); err == nil {
			target["target.domain_id"] = string(domainOf(&p))
		}
	}
	if err := s.enforce(ctx, rule, target); err != nil {
		return nil, err
	}
	switch {
	case q.UserID != "" && q.GroupID != "":
		return nil, invalid("Specify a user or group, not both")
	case q.ProjectID != "" && q.DomainID != "" || q.System && q.ProjectID+q.DomainID != "":
		return nil, invalid("Specify a domain, project, or system, not both")
	case q.Effective && q.GroupID != "":
		return nil, invalid("Combining effective and group filter will always result in an empty list.")
	}
	projects := []string{}
	if q.ProjectID != "" {
		projects = append(projects, q.ProjectID)
	}
	if q.IncludeSubtree {
		tree, err := s.subtree(ctx, q.ProjectID)
		if err != nil {
			return nil, err
		}
		for i := range tree {
			projects = append(projects, tree[i].ID)
		}
	}
	var out []AssignmentView
	var err error
	if q.Effective {
		out, err = s.effective(ctx, &q, projects)
	} else {
		out, err = s.direct(ctx, &q, projects)
	}
	if own := ownDomain(ctx); own != "" && err == nil {
		return s.withinDomain(ctx, own, out)
	}
	return out, err
}

func (s *Service) direct(ctx context.Context, q *AssignmentQuery, projects []string) ([]AssignmentView, error) {
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
	out := make([]AssignmentView, len(rows))
	for i := range rows {
		out[i].Assignment = rows[i]
	}
	return out, err
}

// effective resolves groups into members, inheritance into projects and roles
// into what they imply.
func (s *Service) effective(ctx context.Context, q *AssignmentQuery, projects []string) ([]AssignmentView, error) {
	w := store.All()
	if q.UserID != "" {
		groups, err := s.groupsOf(ctx, q.UserID)
		if err != nil {
			return nil, err
		}
		w = actorIs(q.UserID, groups)
	}
	rows, err := s.assignments.Where(ctx, w)
	if err != nil {
		return nil, err
	}
	members, err := s.membersOf(ctx, q.UserID)
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
	var out []AssignmentView
	seen := map[string]bool{}
	for _, row := range rows {
		for _, v := range byActor(row, members) {
			if v.Inherited {
				from := v.ProjectID + v.DomainID
				if _, ok := below[from]; !ok {
					tree, err := s.subtree(ctx, from)
					if err != nil {
						return nil, err
					}
					below[from] = []string{}
					for i := range tree {
						below[from] = append(below[from], tree[i].ID)
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
	slices.SortFunc(out, func(a, b AssignmentView) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

func (q *AssignmentQuery) wants(v *AssignmentView, projects []string) bool {
	return (q.UserID == "" || v.UserID == q.UserID) && (q.RoleID == "" || v.RoleID == q.RoleID) &&
		(q.DomainID == "" || v.DomainID == q.DomainID) && (len(projects) == 0 || slices.Contains(projects, v.ProjectID)) &&
		(!q.System || v.System) && (q.Inherited == nil || *q.Inherited == (v.FromProject+v.FromDomain != ""))
}

// membersOf are the members of every group, or of those that a user is in, that
// user alone.
func (s *Service) membersOf(ctx context.Context, userID string) (map[string][]string, error) {
	w := store.All()
	if userID != "" {
		w = store.Eq("user_id", userID)
	}
	rows, err := s.members.Where(ctx, w, current())
	out := map[string][]string{}
	for _, m := range rows {
		out[m.GroupID] = append(out[m.GroupID], m.UserID)
	}
	return out, err
}

func byActor(row Assignment, members map[string][]string) []AssignmentView {
	if row.UserID != "" {
		return []AssignmentView{{Assignment: row}}
	}
	var out []AssignmentView
	for _, u := range members[row.GroupID] {
		v := AssignmentView{Assignment: row, ViaGroup: row.GroupID}
		v.UserID, v.GroupID = u, ""
		out = append(out, v)
	}
	return out
}

func byTarget(v AssignmentView, below map[string][]string) []AssignmentView {
	if !v.Inherited {
		return []AssignmentView{v}
	}
	var out []AssignmentView
	for _, p := range below[v.ProjectID+v.DomainID] {
		e := v
		e.FromProject, e.FromDomain = v.ProjectID, v.DomainID
		e.ProjectID, e.DomainID, e.Inherited = p, "", false
		out = append(out, e)
	}
	return out
}

// withinDomain keeps the assignments on a domain and its projects.
func (s *Service) withinDomain(ctx context.Context, domain string, all []AssignmentView) ([]AssignmentView, error) {
	ps, err := s.projects.Where(ctx, store.Eq("domain_id", domain))
	if err != nil {
		return nil, err
	}
	in := map[string]bool{}
	for i := range ps {
		in[ps[i].ID] = true
	}
	return slices.DeleteFunc(all, func(v AssignmentView) bool { return v.DomainID != domain && !in[v.ProjectID] }), nil
}

// NamesOf reads the names of what assignments refer to. It asks no policy: who
// may list assignments may see their names.
func (s *Service) NamesOf(ctx context.Context, all []AssignmentView) (AssignmentNames, error) {
	users, groups, projects, roles := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := range all {
		v := &all[i]
		users[v.UserID], groups[v.GroupID], roles[v.RoleID] = true, true, true
		projects[v.ProjectID], projects[v.DomainID] = true, true
	}
	n := AssignmentNames{Users: map[string]User{}, Groups: map[string]Group{}, Projects: map[string]Project{}, Roles: map[string]Role{}}
	us, err := s.users.Where(ctx, store.In("id", keys(users)))
	if err != nil {
		return n, err
	}
	for _, u := range us {
		n.Users[u.ID] = u
		projects[u.DomainID] = true
	}
	gs, err := s.groups.Where(ctx, store.In("id", keys(groups)))
	if err != nil {
		return n, err
	}
	for _, g := range gs {
		n.Groups[g.ID] = g
		projects[g.DomainID] = true
	}
	rs, err := s.roles.Where(ctx, store.In("id", keys(roles)))
	if err != nil {
		return n, err
	}
	for _, r := range rs {
		n.Roles[r.ID] = r
		projects[string(r.DomainID)] = true
	}
	// A project's domain is known only once the project is.
	for range 2 {
		ps, err := s.projects.Where(ctx, store.In("id", keys(projects)))
		if err != nil {
			return n, err
		}
		for _, p := range ps {
			n.Projects[p.ID] = p
			projects[string(p.DomainID)] = true
		}
	}
	return n, nil
}

func keys(m map[string]bool) []string {
	delete(m, "")
	return slices.Sorted(maps.Keys(m))
}

// ListUserProjects lists the enabled projects that a user has a role on.
func (s *Service) ListUserProjects(ctx context.Context, userID string, q nacre.Query) ([]Project, error) {
	if _, err := s.user(ctx, userID, "list_user_projects"); err != nil {
		return nil, err
	}
	r, err := s.reachOf(ctx, userID)
	if err != nil {
		return nil, err
	}
	return list(ctx, s.projects, q, projectColumns, store.In("id", r.projects), store.Eq("is_domain", false))
}
