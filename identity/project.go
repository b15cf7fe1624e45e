package identity

import (
	"context"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
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

// ownDomain is the one domain that a domain-scoped caller's lists are limited to.
func ownDomain(ctx context.Context) string {
	if c := nacre.CallerFrom(ctx); c != nil {
		return c.DomainID
	}
	return ""
}

// CreateProject makes a project, or a domain when IsDomain is set.
func (s *Service) CreateProject(ctx context.Context, ch ProjectChange) (Project, error) {
	return s.createProject(ctx, ch, "create_project")
}

func (s *Service) createProject(ctx context.Context, ch ProjectChange, rule string) (Project, error) {
	p := Project{ID: ch.ID, Enabled: true, Tags: []string{}, Options: mergeOptions(nil, ch.Options), Extra: ch.Extra}
	setIf(&p.IsDomain, ch.IsDomain)
	setIf(&p.Name, ch.Name)
	setIf(&p.Description, ch.Description)
	setIf(&p.Enabled, ch.Enabled)
	setIf(&p.Tags, ch.Tags)
	if ch.DomainID != nil {
		p.DomainID = Ref(*ch.DomainID)
	}
	if ch.ParentID != nil {
		p.ParentID = Ref(*ch.ParentID)
	}
	if p.IsDomain && (p.DomainID != "" || p.ParentID != "") {
		return Project{}, invalid("only root projects are allowed to act as domains.")
	}
	if !p.IsDomain && p.DomainID == "" {
		p.DomainID = Ref(callerDomain(ctx))
		if p.ParentID != "" {
			parent, err := s.projects.Get(ctx, string(p.ParentID))
			if err != nil {
				return Project{}, orNotFound(err, "project", string(p.ParentID))
			}
			p.DomainID = domainOf(&parent)
		}
	}
	if err := s.enforce(ctx, rule, projectTarget(&p)); err != nil {
		return Project{}, err
	}
	if err := checkName("name", p.Name, 64); err != nil {
		return Project{}, err
	}
	if err := checkTags(p.Tags); err != nil {
		return Project{}, err
	}
	if err := checkOptions(resourceOptions, ch.Options); err != nil {
		return Project{}, err
	}
	if p.ID == "" {
		p.ID = s.newID()
	}
	err := s.tx(ctx, func(ctx context.Context) error {
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
		return s.emit(ctx, kindOf(&p), "created", p.ID)
	})
	return p, err
}

func projectConflict(err error, p *Project) error {
	switch {
	case !store.IsDuplicate(err):
		return err
	case p.IsDomain:
		return conflict("project", "it is not permitted to have two projects acting as domains with the same name: %s", p.Name)
	}
	return conflict("project", "it is not permitted to have two projects with either the same name or same id in the same domain: name is %s, project id %s", p.Name, p.ID)
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
	if err := hold(ctx, s.projects, "project", string(p.ParentID)); err != nil {
		return err
	}
	parents, err := s.parents(ctx, p)
	if err != nil {
		return err
	}
	if len(parents) >= s.maxDepth {
		return forbidden("Max hierarchy depth reached for %s branch.", p.ParentID)
	}
	for i := range parents {
		if d := domainOf(&parents[i]); d != p.DomainID {
			return invalid("Cannot create project, since it specifies its domain_id %s, but specifies a parent in a different domain (%s).", p.DomainID, d)
		}
		if !parents[i].Enabled {
			return forbidden("cannot create a project in a branch containing a disabled project: %s", parents[i].ID)
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
			return nil, orNotFound(err, "project", string(id))
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
	if deny := s.enforce(ctx, rule, projectTarget(&p)); deny != nil {
		return Project{}, deny
	}
	return p, orNotFound(err, "project", id)
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
	r, err := s.reachOf(ctx, c.UserID)
	return slices.DeleteFunc(ps, func(p Project) bool { return !slices.Contains(r.projects, p.ID) }), err
}

// LimitsOf are the limits of projects, by project. It asks no policy: who sees a
// project's place in the tree sees its limits.
func (s *Service) LimitsOf(ctx context.Context, ps []Project) (map[string][]Limit, error) {
	ids := make([]string, len(ps))
	for i := range ps {
		ids[i] = ps[i].ID
	}
	ls, err := s.limits.Where(ctx, store.In("project_id", ids))
	out := map[string][]Limit{}
	for _, l := range ls {
		out[string(l.ProjectID)] = append(out[string(l.ProjectID)], l)
	}
	return out, err
}

// Subtree are the projects below a project.
func (s *Service) Subtree(ctx context.Context, id string) ([]Project, error) {
	if _, err := s.GetProject(ctx, id); err != nil {
		return nil, err
	}
	return s.subtree(ctx, id)
}

var projectColumns = columns{"id", "domain_id", "enabled", "name", "parent_id", "is_domain"}

// ListProjects lists projects; domains only when is_domain is asked for.
func (s *Service) ListProjects(ctx context.Context, q nacre.Query) ([]Project, error) {
	own := ownDomain(ctx)
	if err := s.enforce(ctx, "list_projects", policy.Map{"target.domain_id": own}); err != nil {
		return nil, err
	}
	ws := s.tagFilters(q)
	if _, ok := q.Get("is_domain"); !ok {
		ws = append(ws, store.Eq("is_domain", false))
	}
	if own != "" {
		ws = append(ws, store.Eq("domain_id", own))
	}
	return list(ctx, s.projects, q, projectColumns, ws...)
}

// ExistingProjects are those of the projects, domains among them, that there are. One
// statement; for who may list projects of every domain.
func (s *Service) ExistingProjects(ctx context.Context, ids ...string) (map[string]bool, error) {
	if err := s.enforce(ctx, "list_projects", policy.Map{}); err != nil {
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
		if err := checkName("name", *ch.Name, 64); err != nil {
			return Project{}, err
		}
	}
	if ch.Tags != nil {
		if err := checkTags(*ch.Tags); err != nil {
			return Project{}, err
		}
	}
	if err := checkOptions(resourceOptions, ch.Options); err != nil {
		return Project{}, err
	}
	var out Project
	err := s.tx(ctx, func(ctx context.Context) error {
		old, err := s.projects.GetForUpdate(ctx, id)
		if err != nil {
			return orNotFound(err, "project", id)
		}
		if err := s.checkProjectChange(ctx, &old, &ch); err != nil {
			return err
		}
		out, err = s.projects.Update(ctx, id, func(p *Project) error {
			setIf(&p.Name, ch.Name)
			setIf(&p.Description, ch.Description)
			setIf(&p.Enabled, ch.Enabled)
			setIf(&p.Tags, ch.Tags)
			p.Options, p.Extra = mergeOptions(p.Options, ch.Options), merge(p.Extra, ch.Extra)
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
		if err := s.revoke(ctx, ofProject(&out, old.Enabled && !out.Enabled)...); err != nil {
			return err
		}
		return s.emit(ctx, kindOf(&out), "updated", id)
	})
	return out, err
}

// ofProject ends the tokens of a project or domain, or has them looked up again.
func ofProject(p *Project, end bool) []revocation {
	if p.IsDomain {
		return []revocation{{DomainID: p.ID, Stale: !end}, {ProjectID: p.ID, Stale: !end}}
	}
	return []revocation{{ProjectID: p.ID, Stale: !end}}
}

func (s *Service) checkProjectChange(ctx context.Context, old *Project, ch *ProjectChange) error {
	if old.Options.immutable() {
		keep, set := ch.Options["immutable"]
		if b, _ := keep.(bool); !set || b {
			return immutable("update", kindOf(old), old.ID)
		}
	}
	switch {
	case ch.ParentID != nil && Ref(*ch.ParentID) != old.ParentID:
		return forbidden("Update of `parent_id` is not allowed.")
	case ch.IsDomain != nil && *ch.IsDomain != old.IsDomain:
		return invalid("Update of `is_domain` is not allowed.")
	case ch.DomainID != nil && Ref(*ch.DomainID) != old.DomainID:
		return invalid("Cannot change Domain ID")
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
			return forbidden("Cannot enable project %s since it has disabled parents", old.ID)
		}
		return nil
	}
	below, err := s.subtree(ctx, old.ID)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(below, func(p Project) bool { return p.Enabled }) {
		return forbidden("Cannot disable project %s since its subtree contains enabled projects.", old.ID)
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
	return s.tx(ctx, func(ctx context.Context) error {
		p, err := s.projects.GetForUpdate(ctx, id)
		if err != nil {
			return orNotFound(err, "project", id)
		}
		if p.Options.immutable() {
			return immutable("delete", "project", id)
		}
		if below, err := s.subtree(ctx, id); err != nil {
			return err
		} else if len(below) > 0 {
			return forbidden("Cannot delete the project %s since it is not a leaf in the hierarchy. Use the cascade option if you want to delete a whole subtree.", id)
		}
		return s.dropProjects(ctx, []Project{p})
	})
}

// dropProjects removes projects and what hangs on them.
func (s *Service) dropProjects(ctx context.Context, ps []Project) error {
	ids := make([]string, len(ps))
	for i := range ps {
		ids[i] = ps[i].ID
		if err := s.revoke(ctx, ofProject(&ps[i], true)...); err != nil {
			return err
		}
		if err := s.emit(ctx, kindOf(&ps[i]), "deleted", ps[i].ID); err != nil {
			return err
		}
	}
	for _, drop := range []func() (int64, error){
		func() (int64, error) { return s.projects.DeleteWhere(ctx, store.In("id", ids)) },
		func() (int64, error) { return s.assignments.DeleteWhere(ctx, store.In("project_id", ids)) },
		func() (int64, error) { return s.appCreds.DeleteWhere(ctx, store.In("project_id", ids)) },
		func() (int64, error) { return s.dropCredentials(ctx, store.In("project_id", ids)) },
		func() (int64, error) { return s.dropTrusts(ctx, store.In("project_id", ids)) },
		func() (int64, error) {
			return s.limits.DeleteWhere(ctx, store.Or(store.In("project_id", ids), store.In("domain_id", ids)))
		},
		func() (int64, error) { return s.endpointsFor.DeleteWhere(ctx, store.In("project_id", ids)) },
		func() (int64, error) { return s.groupsFor.DeleteWhere(ctx, store.In("project_id", ids)) },
		func() (int64, error) { return s.projectTags.DeleteWhere(ctx, store.In("project_id", ids)) },
		func() (int64, error) {
			return s.users.UpdateWhere(ctx, store.In("default_project_id", ids), store.Set{"default_project_id": ""})
		},
	} {
		if _, err := drop(); err != nil {
			return err
		}
	}
	return nil
}

// checkTags refuses tags that Keystone's schema refuses.
func checkTags(tags []string) error {
	if len(tags) > 80 {
		return invalid("Invalid input for field 'tags': at most 80 tags are allowed")
	}
	seen := map[string]bool{}
	for _, t := range tags {
		if t == "" || len([]rune(t)) > 255 || strings.ContainsAny(t, ",/") {
			return invalid("Invalid input for field 'tags': '%s' does not match '^[^,/]*$'", t)
		}
		if seen[t] {
			return invalid("Invalid input for field 'tags': %v has non-unique elements", tags)
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
	err := s.tx(ctx, func(ctx context.Context) error {
		p, err := s.projects.Update(ctx, id, func(p *Project) (err error) {
			if p.Tags, err = fn(slices.Clone(p.Tags)); err != nil {
				return err
			}
			return checkTags(p.Tags)
		})
		if err != nil {
			return orNotFound(err, "project", id)
		}
		out = p.Tags
		return s.writeTags(ctx, &p)
	})
	return out, err
}
