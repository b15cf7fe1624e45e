package identity

import (
	"context"
	"maps"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/store"
)

// AssignmentNames are the names of what assignments refer to, by id.
type AssignmentNames struct {
	Users    map[string]User
	Groups   map[string]Group
	Projects map[string]Project // domains too
	Roles    map[string]assignment.Role
}

// NamesOf reads the names of what assignments refer to. It asks no policy: who
// may list assignments may see their names.
func (s *Service) NamesOf(ctx context.Context, all []assignment.View) (AssignmentNames, error) {
	users, groups, projects, roles := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := range all {
		v := &all[i]
		users[v.UserID], groups[v.GroupID], roles[v.RoleID] = true, true, true
		projects[v.ProjectID], projects[v.DomainID] = true, true
	}
	n := AssignmentNames{Users: map[string]User{}, Groups: map[string]Group{}, Projects: map[string]Project{}, Roles: map[string]assignment.Role{}}
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
	rs, err := s.Assignments.Roles(ctx, keys(roles))
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
	r, err := s.Assignments.ReachOf(ctx, userID)
	if err != nil {
		return nil, err
	}
	return kit.List(ctx, s.projects, q, projectColumns, store.In("id", r.Projects), store.Eq("is_domain", false))
}

// assignmentParent is what assignments may do here.
type assignmentParent struct{ s *Service }

func (p assignmentParent) Project(ctx context.Context, id string) (Ref, error) {
	project, err := p.s.projects.Get(ctx, id)
	return project.DomainID, err
}

func (p assignmentParent) CheckDomain(ctx context.Context, id string) error {
	_, err := p.s.getDomain(ctx, id)
	return err
}

func (p assignmentParent) User(ctx context.Context, id string) (string, error) {
	u, err := p.s.users.Get(ctx, id)
	return u.DomainID, err
}

func (p assignmentParent) Group(ctx context.Context, id string) (string, error) {
	g, err := p.s.groups.Get(ctx, id)
	return g.DomainID, err
}

func (p assignmentParent) Hold(ctx context.Context, g *assignment.Grant) error {
	for _, err := range []error{
		kit.Hold(ctx, p.s.projects, "project", g.ProjectID), kit.Hold(ctx, p.s.projects, "domain", g.DomainID),
		kit.Hold(ctx, p.s.users, "user", g.UserID), kit.Hold(ctx, p.s.groups, "group", g.GroupID),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (p assignmentParent) Below(ctx context.Context, ids ...string) ([]string, error) {
	tree, err := p.s.subtree(ctx, ids...)
	return projectIDs(tree), err
}

func (p assignmentParent) ProjectsIn(ctx context.Context, domainID string) ([]string, error) {
	ps, err := p.s.projects.Where(ctx, store.Eq("domain_id", domainID))
	return projectIDs(ps), err
}

func projectIDs(ps []Project) []string {
	ids := make([]string, len(ps))
	for i := range ps {
		ids[i] = ps[i].ID
	}
	return ids
}

func (p assignmentParent) GroupsOf(ctx context.Context, userID string) ([]string, error) {
	return p.s.groupsOf(ctx, userID)
}

func (p assignmentParent) Members(ctx context.Context, userID string) (map[string][]string, error) {
	w := store.All()
	if userID != "" {
		w = store.Eq("user_id", userID)
	}
	rows, err := p.s.members.Where(ctx, w, current())
	out := map[string][]string{}
	for _, m := range rows {
		out[m.GroupID] = append(out[m.GroupID], m.UserID)
	}
	return out, err
}

func (p assignmentParent) Lost(ctx context.Context, userID, groupID string) error {
	if groupID == "" {
		return p.s.Revocations.Record(ctx, revoke.Row{UserID: userID, Stale: true})
	}
	members, err := p.s.members.Where(ctx, store.Eq("group_id", groupID))
	if err != nil {
		return err
	}
	rows := make([]revoke.Row, len(members))
	for i := range members {
		rows[i] = revoke.Row{UserID: members[i].UserID, Stale: true}
	}
	return p.s.Revocations.Record(ctx, rows...)
}

func (p assignmentParent) GrantEnded(ctx context.Context, userID, projectID string) error {
	return p.s.AppCredentials.GrantEnded(ctx, userID, projectID)
}
