package identity

import (
	"context"
	"fmt"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// Audit reads everything and says what refers to nothing, but where that is Keystone's
// way: credentials may be of anybody, a user's default project may be any, limits stay
// when their service or region goes, and protocols when their mapping does. It asks no
// policy: it is for the operator's command and for tests. It sees a moment per table, so
// what changes meanwhile may be reported; ask again.
func (s *Service) Audit(ctx context.Context) ([]nacre.Finding, error) {
	a := &kit.Audit{Ctx: ctx}
	projects := kit.Keys(a, s.projects, func(p Project) string { return p.ID })
	users := kit.Keys(a, s.users, func(u User) string { return u.ID })
	groups := kit.Keys(a, s.groups, func(g Group) string { return g.ID })

	kit.Each(a, "project", s.projects, projectKey, func(p Project) {
		a.Refers(p.ID, "parent", string(p.ParentID), projects)
		a.Refers(p.ID, "domain", string(p.DomainID), projects)
		if !p.IsDomain && (p.ParentID == "" || p.DomainID == "") {
			a.Found(p.ID, "it has no parent or domain")
		}
	})
	tags := map[string][]string{}
	kit.Each(a, "project_tag", s.projectTags, func(t projectTag) string { return t.ID }, func(t projectTag) {
		a.Refers(t.ID, "project", t.ProjectID, projects)
		tags[t.ProjectID] = append(tags[t.ProjectID], t.Tag)
	})
	kit.Each(a, "project", s.projects, projectKey, func(p Project) {
		want, got := slices.Sorted(slices.Values(p.Tags)), slices.Sorted(slices.Values(tags[p.ID]))
		if !slices.Equal(want, got) {
			a.Found(p.ID, fmt.Sprintf("its tags %q are kept as %q for filters", want, got))
		}
	})
	kit.Each(a, "user", s.users, func(u User) string { return u.ID }, func(u User) { a.Refers(u.ID, "domain", u.DomainID, projects) })
	kit.Each(a, "group", s.groups, func(g Group) string { return g.ID }, func(g Group) { a.Refers(g.ID, "domain", g.DomainID, projects) })
	kit.Each(a, "membership", s.members, func(m membership) string { return m.ID }, func(m membership) {
		a.Refers(m.ID, "user", m.UserID, users)
		a.Refers(m.ID, "group", m.GroupID, groups)
	})
	s.Passwords.Audit(a, users)
	s.Assignments.Audit(a, users, groups, projects)
	s.Catalog.Audit(a, projects)
	s.Limits.Audit(a, projects)
	s.AppCredentials.Audit(a, users, projects)
	trusts := kit.Keys(a, s.trusts, func(t Trust) string { return t.ID })
	kit.Each(a, "trust", s.trusts, func(t Trust) string { return t.ID }, func(t Trust) {
		a.Refers(t.ID, "trustor", t.TrustorUserID, users)
		a.Refers(t.ID, "trustee", t.TrusteeUserID, users)
		a.Refers(t.ID, "project", t.ProjectID, projects)
		a.Refers(t.ID, "trust that it was passed on from", string(t.RedelegatedTrustID), trusts)
	})
	s.Credentials.Audit(a)
	s.DomainConfigs.Audit(a, projects)
	s.OAuth.Audit(a, users, projects)
	idps, protocols := s.Federation.Audit(a, projects)
	kit.Each(a, "federated_user", s.federated, func(f federatedUser) string { return f.Key }, func(f federatedUser) {
		a.Refers(f.Key, "user", f.UserID, users)
		a.Refers(f.Key, "identity provider", f.IdPID, idps)
		a.Refers(f.Key, "protocol", kit.Joined(f.IdPID, f.ProtocolID), protocols)
	})
	kit.Each(a, "id_mapping", s.directoryIDs, func(d directoryID) string { return d.ID }, func(d directoryID) { a.Refers(d.ID, "domain", d.DomainID, projects) })
	return a.Findings, a.Err
}

func projectKey(p Project) string { return p.ID }
