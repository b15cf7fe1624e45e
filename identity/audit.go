package identity

import (
	"context"
	"fmt"
	"slices"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Audit reads everything and says what refers to nothing. It asks no policy: it
// is for the operator's command and for tests. It sees a moment per table, so
// what changes meanwhile may be reported; ask again.
func (s *Service) Audit(ctx context.Context) ([]nacre.Finding, error) {
	a := auditor{s: s, ctx: ctx}
	projects := ids(&a, s.projects, func(p Project) string { return p.ID })
	users := ids(&a, s.users, func(u User) string { return u.ID })
	groups := ids(&a, s.groups, func(g Group) string { return g.ID })
	roles := ids(&a, s.roles, func(r Role) string { return r.ID })
	services := ids(&a, s.services, func(v CatalogService) string { return v.ID })
	regions := ids(&a, s.regions, func(r Region) string { return r.ID })
	endpoints := ids(&a, s.endpoints, func(e Endpoint) string { return e.ID })
	rules := ids(&a, s.rules, func(r AccessRule) string { return r.ID })

	each(&a, "project", s.projects, projectKey, func(p Project) {
		a.refers(p.ID, "parent", string(p.ParentID), projects)
		a.refers(p.ID, "domain", string(p.DomainID), projects)
		if !p.IsDomain && (p.ParentID == "" || p.DomainID == "") {
			a.found(p.ID, "it has no parent or domain")
		}
	})
	tags := map[string][]string{}
	each(&a, "project_tag", s.projectTags, func(t projectTag) string { return t.ID }, func(t projectTag) {
		a.refers(t.ID, "project", t.ProjectID, projects)
		tags[t.ProjectID] = append(tags[t.ProjectID], t.Tag)
	})
	each(&a, "project", s.projects, projectKey, func(p Project) {
		want, got := slices.Sorted(slices.Values(p.Tags)), slices.Sorted(slices.Values(tags[p.ID]))
		if !slices.Equal(want, got) {
			a.found(p.ID, fmt.Sprintf("its tags %q are kept as %q for filters", want, got))
		}
	})
	each(&a, "user", s.users, func(u User) string { return u.ID }, func(u User) { a.refers(u.ID, "domain", u.DomainID, projects) })
	each(&a, "group", s.groups, func(g Group) string { return g.ID }, func(g Group) { a.refers(g.ID, "domain", g.DomainID, projects) })
	each(&a, "password", s.passwords, func(p password) string { return p.UserID }, func(p password) { a.refers(p.UserID, "user", p.UserID, users) })
	each(&a, "old_password", s.oldPasswords, func(p oldPassword) string { return p.ID }, func(p oldPassword) { a.refers(p.ID, "user", p.UserID, users) })
	each(&a, "failed_auth", s.failures, func(f failure) string { return f.UserID }, func(f failure) { a.refers(f.UserID, "user", f.UserID, users) })
	each(&a, "membership", s.members, func(m membership) string { return m.ID }, func(m membership) {
		a.refers(m.ID, "user", m.UserID, users)
		a.refers(m.ID, "group", m.GroupID, groups)
	})
	each(&a, "role", s.roles, func(r Role) string { return r.ID }, func(r Role) { a.refers(r.ID, "domain", string(r.DomainID), projects) })
	each(&a, "implied_role", s.implied, func(i impliedRole) string { return i.ID }, func(i impliedRole) {
		a.refers(i.ID, "prior role", i.PriorID, roles)
		a.refers(i.ID, "implied role", i.ImpliedID, roles)
	})
	each(&a, "role_assignment", s.assignments, func(r Assignment) string { return r.ID }, func(r Assignment) {
		a.refers(r.ID, "role", r.RoleID, roles)
		a.refers(r.ID, "user", r.UserID, users)
		a.refers(r.ID, "group", r.GroupID, groups)
		a.refers(r.ID, "project", r.ProjectID, projects)
		a.refers(r.ID, "domain", r.DomainID, projects)
	})
	each(&a, "endpoint", s.endpoints, func(e Endpoint) string { return e.ID }, func(e Endpoint) {
		a.refers(e.ID, "service", e.ServiceID, services)
		a.refers(e.ID, "region", string(e.RegionID), regions)
	})
	each(&a, "project_endpoint", s.endpointsFor, func(p projectEndpoint) string { return p.ID }, func(p projectEndpoint) {
		a.refers(p.ID, "project", p.ProjectID, projects)
		a.refers(p.ID, "endpoint", p.EndpointID, endpoints)
	})
	a.policies(services, regions, endpoints)
	endpointGroups := ids(&a, s.endpointGroups, func(g EndpointGroup) string { return g.ID })
	each(&a, "project_endpoint_group", s.groupsFor, func(p projectEndpointGroup) string { return p.ID }, func(p projectEndpointGroup) {
		a.refers(p.ID, "project", p.ProjectID, projects)
		a.refers(p.ID, "endpoint group", p.EndpointGroupID, endpointGroups)
	})
	each(&a, "region", s.regions, func(r Region) string { return r.ID }, func(r Region) { a.refers(r.ID, "parent", string(r.ParentID), regions) })
	each(&a, "application_credential", s.appCreds, func(c AppCredential) string { return c.ID }, func(c AppCredential) {
		a.refers(c.ID, "user", c.UserID, users)
		a.refers(c.ID, "project", c.ProjectID, projects)
		for _, r := range c.AccessRules {
			a.refers(c.ID, "access rule", r.ID, rules)
		}
	})
	trusts := ids(&a, s.trusts, func(t Trust) string { return t.ID })
	each(&a, "trust", s.trusts, func(t Trust) string { return t.ID }, func(t Trust) {
		a.refers(t.ID, "trustor", t.TrustorUserID, users)
		a.refers(t.ID, "trustee", t.TrusteeUserID, users)
		a.refers(t.ID, "project", t.ProjectID, projects)
		a.refers(t.ID, "trust that it was passed on from", string(t.RedelegatedTrustID), trusts)
	})
	credentials := ids(&a, s.credentials, func(c Credential) string { return c.ID })
	each(&a, "totp_use", s.totpUses, func(u totpUse) string { return u.CredentialID }, func(u totpUse) { a.refers(u.CredentialID, "credential", u.CredentialID, credentials) })
	each(&a, "credential", s.credentials, func(c Credential) string { return c.ID }, func(c Credential) { a.refers(c.ID, "user", c.UserID, users) })
	each(&a, "limit", s.limits, func(l Limit) string { return l.ID }, func(l Limit) {
		a.refers(l.ID, "project", string(l.ProjectID), projects)
		a.refers(l.ID, "domain", string(l.DomainID), projects)
	})
	return a.findings, a.err
}

// policies audits which policy documents are for what.
func (a *auditor) policies(services, regions, endpoints map[string]bool) {
	docs := ids(a, a.s.policies, func(p PolicyDocument) string { return p.ID })
	each(a, "policy_association", a.s.associations, func(p policyAssociation) string { return p.ID }, func(p policyAssociation) {
		a.refers(p.ID, "policy", p.PolicyID, docs)
		a.refers(p.ID, "endpoint", p.EndpointID, endpoints)
		a.refers(p.ID, "service", p.ServiceID, services)
		a.refers(p.ID, "region", p.RegionID, regions)
	})
}

func projectKey(p Project) string { return p.ID }

type auditor struct {
	s        *Service
	ctx      context.Context
	kind     string
	findings []nacre.Finding
	err      error
}

func (a *auditor) found(id, problem string) {
	a.findings = append(a.findings, nacre.Finding{Area: "identity", Kind: a.kind, ID: id, Problem: problem})
}

// refers notes a reference to something that is not there.
func (a *auditor) refers(id, what, to string, known map[string]bool) {
	if to != "" && !known[to] {
		a.found(id, fmt.Sprintf("its %s %s is not there", what, to))
	}
}

// ids are the keys of a table.
func ids[T any](a *auditor, t *store.Table[T], id func(T) string) map[string]bool {
	out := map[string]bool{}
	each(a, "", t, id, func(v T) { out[id(v)] = true })
	return out
}

// each walks a table a page at a time, by its key.
func each[T any](a *auditor, kind string, t *store.Table[T], id func(T) string, fn func(T)) {
	const page = 1000
	a.kind = kind
	sel := store.Select{Limit: page}
	for a.err == nil {
		var rows []T
		if rows, a.err = t.Select(a.ctx, sel); a.err != nil {
			return
		}
		for _, r := range rows {
			fn(r)
		}
		if len(rows) < page {
			return
		}
		sel.After = []any{id(rows[len(rows)-1])}
	}
}
