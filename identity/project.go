package identity

import (
	"context"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// defaultDepth is Keystone's max_project_tree_depth: a domain and four projects below.
const defaultDepth = 5

// ProjectChange is what is given of a project: at its creation Name must be set;
// in an update nil leaves a field as it is.
type ProjectChange struct {
	// ID names a new project; empty makes one. Only bootstrap sets it.
	ID string
	// DomainID, ParentID and IsDomain are for creation; an update may repeat them.
	DomainID, ParentID *string
	IsDomain           *bool
	Name, Description  *string
	Enabled            *bool
	Tags               *[]string
	Options            Options
	Extra              map[string]any
}

func projectTarget(p *Project) policy.Map {
	if p.ID == "" && p.Name == "" {
		return nil
	}
	m := policy.Map{"target.project.id": p.ID, "target.project.domain_id": "None"}
	if p.DomainID != "" {
		m["target.project.domain_id"] = string(p.DomainID)
	}
	return m
}

func kindOf(p *Project) string {
	if p.IsDomain {
		return "domain"
	}
	return "project"
}

// callerDomain is the domain that a new thing goes to when none is named.
func callerDomain(ctx context.Context) string {
	switch c := nacre.CallerFrom(ctx); {
	case c == nil:
	case c.DomainID != "":
		return c.DomainID
	case c.ProjectDomainID != "":
		return c.ProjectDomainID
	}
	return DefaultDomain
}

// CreateProject makes a project, or a domain when IsDomain is set.
func (s *Service) CreateProject(ctx context.Context, ch ProjectChange) (Project, error) {
	return s.createProject(ctx, ch, "create_project")
}

func (s *Service) createProject(ctx context.Context, ch ProjectChange, rule string) (Project, error) {
	p := Project{ID: ch.ID, Enabled: true, Tags: []string{}, Options: kit.MergeOptions(nil, ch.Options), Extra: ch.Extra}
	kit.SetIf(&p.IsDomain, ch.IsDomain)
	kit.SetIf(&p.Name, ch.Name)
	kit.SetIf(&p.Description, ch.Description)
	kit.SetIf(&p.Enabled, ch.Enabled)
	kit.SetIf(&p.Tags, ch.Tags)
	if ch.DomainID != nil {
		p.DomainID = Ref(*ch.DomainID)
	}
	if ch.ParentID != nil {
		p.ParentID = Ref(*ch.ParentID)
	}
	if p.IsDomain && (p.DomainID != "" || p.ParentID != "") {
		return Project{}, kit.Invalid("only root projects are allowed to act as domains.")
	}
	if !p.IsDomain && p.DomainID == "" {
		p.DomainID = Ref(callerDomain(ctx))
		if p.ParentID != "" {
			parent, err := s.projects.Get(ctx, string(p.ParentID))
			if err != nil {
				return Project{}, kit.OrNotFound(err, "project", string(p.ParentID))
			}
			p.DomainID = domainOf(&parent)
		}
	}
	if err := s.area.Enforce(ctx, rule, projectTarget(&p)); err != nil {
		return Project{}, err
	}
	if err := kit.CheckName("name", p.Name, 64); err != nil {
		return Project{}, err
	}
	if err := checkTags(p.Tags); err != nil {
		return Project{}, err
	}
	if err := kit.CheckOptions(ch.Options, optionImmutable); err != nil {
		return Project{}, err
	}
	if p.ID == "" {
		p.ID = s.area.NewID()
	}
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		if !p.IsDomain {
			if err := s.placeProject(ctx, &p); err != nil {
				return err
			}
		}
		if err := s.projects.Insert(ctx, p); err != nil {
			return projectConflict(err, &p)
		}
		if err := s.writeTags(ctx, &p); err != nil {
			return err
		}
		return s.area.Happened(ctx, kindOf(&p), "created", p.ID)
	})
	return p, err
}

func projectConflict(err error, p *Project) error {
	switch {
	case !store.IsDuplicate(err):
		return err
	case p.IsDomain:
		return kit.Conflict("project", "it is not permitted to have two projects acting as domains with the same name: %s", p.Name)
	}
	return kit.Conflict("project", "it is not permitted to have two projects with either the same name or same id in the same domain: name is %s, project id %s", p.Name, p.ID)
}

// domainOf is the domain that things below p belong to.
func domainOf(p *Project) Ref {
	if p.IsDomain {
		return Ref(p.ID)
	}
	return p.DomainID
}

// placeProject checks a new project's domain and parents.
func (s *Service) placeProject(ctx context.Context, p *Project) error {
	if err := s.liveDomain(ctx, string(p.DomainID)); err != nil {
		return err
	}
	if p.ParentID == "" {
		p.ParentID = p.DomainID
	}
	if p.ParentID == p.DomainID {
		return nil
	}
	if err := kit.Hold(ctx, s.projects, "project", string(p.ParentID)); err != nil {
		return err
	}
	parents, err := s.parents(ctx, p)
	if err != nil {
		return err
	}
	if len(parents) >= s.maxDepth {
		return kit.Forbidden("Max hierarchy depth reached for %s branch.", p.ParentID)
	}
	for i := range parents {
		if d := domainOf(&parents[i]); d != p.DomainID {
			return kit.Invalid("Cannot create project, since it specifies its domain_id %s, but specifies a parent in a different domain (%s).", p.DomainID, d)
		}
		if !parents[i].Enabled {
			return kit.Forbidden("cannot create a project in a branch containing a disabled project: %s", parents[i].ID)
		}
	}
	return nil
}

// parents are a project's ancestors, nearest first, the domain last. The tree is
// at most maxDepth deep, and so is the number of statements.
func (s *Service) parents(ctx context.Context, p *Project) ([]Project, error) {
	var out []Project
	for id := p.ParentID; id != "" && len(out) <= s.maxDepth+defaultDepth; {
		parent, err := s.projects.Get(ctx, string(id))
		if err != nil {
			return nil, kit.OrNotFound(err, "project", string(id))
		}
		out = append(out, parent)
		id = parent.ParentID
	}
	return out, nil
}

// subtree is what lies below these projects, a level per statement.
func (s *Service) subtree(ctx context.Context, ids ...string) ([]Project, error) {
	var out []Project
	for len(ids) > 0 {
		level, err := s.projects.Where(ctx, store.In("parent_id", ids))
		if err != nil {
			return nil, err
		}
		out, ids = append(out, level...), nil
		for i := range level {
			ids = append(ids, level[i].ID)
		}
	}
	return out, nil
}

// GetProject shows a project. Another project's is Forbidden, as in Keystone.
func (s *Service) GetProject(ctx context.Context, id string) (Project, error) {
	return s.project(ctx, id, "get_project")
}

func (s *Service) project(ctx context.Context, id, rule string) (Project, error) {
	p, err := s.projects.Get(ctx, id)
	if deny := s.area.Enforce(ctx, rule, projectTarget(&p)); deny != nil {
		return Project{}, deny
	}
	return p, kit.OrNotFound(err, "project", id)
}

// checkProject is NotFound when there is no such project. It asks no policy.
func (s *Service) checkProject(ctx context.Context, id string) error {
	_, err := s.projects.Get(ctx, id)
	return kit.OrNotFound(err, "project", id)
}

// Parents are a project's ancestors, nearest first, its domain last.
func (s *Service) Parents(ctx context.Context, id string) ([]Project, error) {
	p, err := s.GetProject(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.parents(ctx, &p)
}

// Reachable keeps of projects those that the caller has a role on.
func (s *Service) Reachable(ctx context.Context, ps []Project) ([]Project, error) {
	c := nacre.CallerFrom(ctx)
	if c != nil && c.Service != "" {
		return ps, nil
	}
	if c == nil {
		return nil, nil
	}
	r, err := s.Assignments.ReachOf(ctx, c.UserID)
	return slices.DeleteFunc(ps, func(p Project) bool { return !slices.Contains(r.Projects, p.ID) }), err
}

// Subtree are the projects below a project.
func (s *Service) Subtree(ctx context.Context, id string) ([]Project, error) {
	if _, err := s.GetProject(ctx, id); err != nil {
		return nil, err
	}
	return s.subtree(ctx, id)
}

var projectColumns = kit.Columns{"id", "domain_id", "enabled", "name", "parent_id", "is_domain"}

// ListProjects lists projects; domains only when is_domain is asked for.
func (s *Service) ListProjects(ctx context.Context, q nacre.Query) ([]Project, error) {
	own := kit.OwnDomain(ctx)
	if err := s.area.Enforce(ctx, "list_projects", policy.Map{"target.domain_id": own}); err != nil {
		return nil, err
	}
	var ws []store.Where
	if _, ok := q.Get("is_domain"); !ok {
		ws = append(ws, store.Eq("is_domain", false))
	}
	if own != "" {
		ws = append(ws, store.Eq("domain_id", own))
	}
	return kit.ListFiltered(ctx, s.projects, q, projectColumns, s.tagFilters(q), ws...)
}

// ExistingProjects are those of the projects, domains among them, that there are. One
// statement; for who may list projects of every domain.
func (s *Service) ExistingProjects(ctx context.Context, ids ...string) (map[string]bool, error) {
	if err := s.area.Enforce(ctx, "list_projects", policy.Map{}); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	if len(ids) == 0 {
		return out, nil
	}
	ps, err := s.projects.Where(ctx, store.In("id", ids))
	for i := range ps {
		out[ps[i].ID] = true
	}
	return out, err
}

// ListEndpointProjects lists the projects that an endpoint was added to (OS-EP-FILTER).
func (s *Service) ListEndpointProjects(ctx context.Context, endpointID string) ([]Project, error) {
	w, err := s.Catalog.EndpointProjects(ctx, endpointID)
	if err != nil {
		return nil, err
	}
	return s.projects.Where(ctx, w)
}

// ListEndpointGroupProjects lists the projects that an endpoint group was added to.
func (s *Service) ListEndpointGroupProjects(ctx context.Context, id string) ([]Project, error) {
	w, err := s.Catalog.EndpointGroupProjects(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.projects.Where(ctx, w)
}

// tagFilters reads tags, tags-any, not-tags and not-tags-any.
func (s *Service) tagFilters(q nacre.Query) []store.Where {
	var ws []store.Where
	has := func(w store.Where) store.Where { return store.InSelect("id", s.projectTags, "project_id", w) }
	all := func(tags []string) store.Where {
		var each []store.Where
		for _, t := range tags {
			each = append(each, has(store.Eq("tag", t)))
		}
		return store.And(each...)
	}
	for _, f := range q.Filters {
		tags := strings.Split(f.Value, ",")
		switch f.Name {
		case "tags":
			ws = append(ws, all(tags))
		case "tags-any":
			ws = append(ws, has(store.In("tag", tags)))
		case "not-tags":
			ws = append(ws, store.Not(all(tags)))
		case "not-tags-any":
			ws = append(ws, store.Not(has(store.In("tag", tags))))
		}
	}
	return ws
}

// UpdateProject changes a project.
func (s *Service) UpdateProject(ctx context.Context, id string, ch ProjectChange) (Project, error) {
	if _, err := s.project(ctx, id, "update_project"); err != nil {
		return Project{}, err
	}
	return s.updateProject(ctx, id, ch)
}

func (s *Service) updateProject(ctx context.Context, id string, ch ProjectChange) (Project, error) {
	if ch.Name != nil {
		if err := kit.CheckName("name", *ch.Name, 64); err != nil {
			return Project{}, err
		}
	}
	if ch.Tags != nil {
		if err := checkTags(*ch.Tags); err != nil {
			return Project{}, err
		}
	}
	if err := kit.CheckOptions(ch.Options, optionImmutable); err != nil {
		return Project{}, err
	}
	var out Project
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		old, err := s.projects.GetForUpdate(ctx, id)
		if err != nil {
			return kit.OrNotFound(err, "project", id)
		}
		if err := s.checkProjectChange(ctx, &old, &ch); err != nil {
			return err
		}
		out, err = s.projects.Update(ctx, id, func(p *Project) error {
			kit.SetIf(&p.Name, ch.Name)
			kit.SetIf(&p.Description, ch.Description)
			kit.SetIf(&p.Enabled, ch.Enabled)
			kit.SetIf(&p.Tags, ch.Tags)
			p.Options, p.Extra = kit.MergeOptions(p.Options, ch.Options), kit.Merge(p.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			if ch.Name != nil {
				old.Name = *ch.Name
			}
			return projectConflict(err, &old)
		}
		if ch.Tags != nil {
			if err := s.writeTags(ctx, &out); err != nil {
				return err
			}
		}
		if err := s.Revocations.Record(ctx, ofProject(&out, old.Enabled && !out.Enabled)...); err != nil {
			return err
		}
		return s.area.Happened(ctx, kindOf(&out), "updated", id)
	})
	return out, err
}

// ofProject ends the tokens of a project or domain, or has them looked up again.
func ofProject(p *Project, end bool) []revoke.Row {
	if p.IsDomain {
		return []revoke.Row{{DomainID: p.ID, Stale: !end}, {ProjectID: p.ID, Stale: !end}}
	}
	return []revoke.Row{{ProjectID: p.ID, Stale: !end}}
}

func (s *Service) checkProjectChange(ctx context.Context, old *Project, ch *ProjectChange) error {
	if old.Options.Immutable() {
		keep, set := ch.Options["immutable"]
		if b, _ := keep.(bool); !set || b {
			return kit.Immutable("update", kindOf(old), old.ID)
		}
	}
	switch {
	case ch.ParentID != nil && Ref(*ch.ParentID) != old.ParentID:
		return kit.Forbidden("Update of `parent_id` is not allowed.")
	case ch.IsDomain != nil && *ch.IsDomain != old.IsDomain:
		return kit.Invalid("Update of `is_domain` is not allowed.")
	case ch.DomainID != nil && Ref(*ch.DomainID) != old.DomainID:
		return kit.Invalid("Cannot change Domain ID")
	}
	if ch.Enabled == nil || *ch.Enabled == old.Enabled || old.IsDomain {
		return nil
	}
	if *ch.Enabled {
		parents, err := s.parents(ctx, old)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(parents, func(p Project) bool { return !p.Enabled }) {
			return kit.Forbidden("Cannot enable project %s since it has disabled parents", old.ID)
		}
		return nil
	}
	below, err := s.subtree(ctx, old.ID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(below, func(p Project) bool { return p.Enabled }) {
		return kit.Forbidden("Cannot disable project %s since its subtree contains enabled projects.", old.ID)
	}
	return nil
}

// DeleteProject removes a project without children, with all roles on it.
func (s *Service) DeleteProject(ctx context.Context, id string) error {
	p, err := s.project(ctx, id, "delete_project")
	if err != nil {
		return err
	}
	if p.IsDomain {
		return s.deleteDomain(ctx, id)
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		p, err := s.projects.GetForUpdate(ctx, id)
		if err != nil {
			return kit.OrNotFound(err, "project", id)
		}
		if p.Options.Immutable() {
			return kit.Immutable("delete", "project", id)
		}
		if below, err := s.subtree(ctx, id); err != nil {
			return err
		} else if len(below) > 0 {
			return kit.Forbidden("Cannot delete the project %s since it is not a leaf in the hierarchy. Use the cascade option if you want to delete a whole subtree.", id)
		}
		return s.dropProjects(ctx, []Project{p})
	})
}

// dropProjects removes projects and what hangs on them.
func (s *Service) dropProjects(ctx context.Context, ps []Project) error {
	ids := make([]string, len(ps))
	var ended []revoke.Row
	for i := range ps {
		ids[i] = ps[i].ID
		ended = append(ended, ofProject(&ps[i], true)...)
		if err := s.area.Happened(ctx, kindOf(&ps[i]), "deleted", ps[i].ID); err != nil {
			return err
		}
	}
	for _, drop := range []func() (int64, error){
		func() (int64, error) { return s.projects.DeleteWhere(ctx, store.In("id", ids)) },
		func() (int64, error) { return 0, s.Assignments.ProjectsDeleted(ctx, ids) },
		func() (int64, error) { return 0, s.AppCredentials.ProjectsDeleted(ctx, ids) },
		func() (int64, error) { return 0, s.Credentials.ProjectsDeleted(ctx, ids) },
		func() (int64, error) { return 0, s.OAuth.ProjectsDeleted(ctx, ids) },
		func() (int64, error) { return 0, s.Limits.ProjectsDeleted(ctx, ids) },
		func() (int64, error) { return 0, s.Catalog.ProjectsDeleted(ctx, ids) },
		func() (int64, error) { return s.projectTags.DeleteWhere(ctx, store.In("project_id", ids)) },
		func() (int64, error) {
			return s.users.UpdateWhere(ctx, store.In("default_project_id", ids), store.Set{"default_project_id": ""})
		},
	} {
		if _, err := drop(); err != nil {
			return err
		}
	}
	stale, err := s.dropTrusts(ctx, store.In("project_id", ids))
	if err != nil {
		return err
	}
	return s.Revocations.Record(ctx, append(ended, stale...)...)
}

// checkTags refuses tags that Keystone's schema refuses.
func checkTags(tags []string) error {
	if len(tags) > 80 {
		return kit.Invalid("Invalid input for field 'tags': at most 80 tags are allowed")
	}
	seen := map[string]bool{}
	for _, t := range tags {
		if t == "" || len([]rune(t)) > 255 || strings.ContainsAny(t, ",/") {
			return kit.Invalid("Invalid input for field 'tags': '%s' does not match '^[^,/]*$'", t)
		}
		if seen[t] {
			return kit.Invalid("Invalid input for field 'tags': %v has non-unique elements", tags)
		}
		seen[t] = true
	}
	return nil
}

func (s *Service) writeTags(ctx context.Context, p *Project) error {
	if _, err := s.projectTags.DeleteWhere(ctx, store.Eq("project_id", p.ID)); err != nil {
		return err
	}
	rows := make([]projectTag, len(p.Tags))
	for i, t := range p.Tags {
		rows[i] = projectTag{ID: p.ID + "|" + t, ProjectID: p.ID, Tag: t}
	}
	return s.projectTags.Insert(ctx, rows...)
}

// ProjectTags lists a project's tags.
func (s *Service) ProjectTags(ctx context.Context, id string) ([]string, error) {
	p, err := s.project(ctx, id, "list_project_tags")
	return p.Tags, err
}

// CheckProjectTag is NotFound when the project does not have the tag.
func (s *Service) CheckProjectTag(ctx context.Context, id, tag string) error {
	p, err := s.project(ctx, id, "get_project_tag")
	if err == nil && !slices.Contains(p.Tags, tag) {
		err = nacre.Errorf(nacre.NotFound, "project tag", "Could not find project tag: %s.", tag)
	}
	return err
}

// SetProjectTags replaces all of a project's tags.
func (s *Service) SetProjectTags(ctx context.Context, id string, tags []string) ([]string, error) {
	return s.changeTags(ctx, id, "update_project_tags", func([]string) ([]string, error) { return tags, nil })
}

// AddProjectTag adds a tag; one that is there already stays.
func (s *Service) AddProjectTag(ctx context.Context, id, tag string) error {
	_, err := s.changeTags(ctx, id, "create_project_tag", func(tags []string) ([]string, error) {
		if slices.Contains(tags, tag) {
			return tags, nil
		}
		return append(tags, tag), nil
	})
	return err
}

// DeleteProjectTag takes a tag away.
func (s *Service) DeleteProjectTag(ctx context.Context, id, tag string) error {
	_, err := s.changeTags(ctx, id, "delete_project_tag", func(tags []string) ([]string, error) {
		i := slices.Index(tags, tag)
		if i < 0 {
			return nil, nacre.Errorf(nacre.NotFound, "project tag", "Could not find project tag: %s.", tag)
		}
		return slices.Delete(tags, i, i+1), nil
	})
	return err
}

// DeleteProjectTags takes all tags away.
func (s *Service) DeleteProjectTags(ctx context.Context, id string) error {
	_, err := s.changeTags(ctx, id, "delete_project_tags", func([]string) ([]string, error) { return []string{}, nil })
	return err
}

func (s *Service) changeTags(ctx context.Context, id, rule string, fn func([]string) ([]string, error)) ([]string, error) {
	if _, err := s.project(ctx, id, rule); err != nil {
		return nil, err
	}
	var out []string
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		p, err := s.projects.Update(ctx, id, func(p *Project) (err error) {
			if p.Tags, err = fn(slices.Clone(p.Tags)); err != nil {
				return err
			}
			return checkTags(p.Tags)
		})
		if err != nil {
			return kit.OrNotFound(err, "project", id)
		}
		out = p.Tags
		return s.writeTags(ctx, &p)
	})
	return out, err
}
