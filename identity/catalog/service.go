package catalog

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Config is what a Service is made of. All but Template must be set, as kit.Area says.
type Config struct {
	kit.Area
	Parent Parent
	// Template is the catalog, instead of the stored one; nil is the stored one.
	Template *Template
}

// Service is the catalog. Its methods are safe for concurrent use.
type Service struct {
	area     kit.Area
	parent   Parent
	template *Template
	kept     atomic.Pointer[rows]
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("catalog"); err != nil {
		return nil, err
	}
	if cfg.Parent == nil {
		return nil, errors.New("catalog: Config.Parent is missing")
	}
	return &Service{area: cfg.Area, parent: cfg.Parent, template: cfg.Template, tables: newTables(cfg.Engine)}, nil
}

// changed has every token's catalog made anew.
func (s *Service) changed(ctx context.Context, resource, what, id string) error {
	if err := s.template.templated(resource); err != nil {
		return err
	}
	if err := s.parent.Changed(ctx); err != nil {
		return err
	}
	return s.area.Happened(ctx, resource, what, id)
}

// ProjectsDeleted forgets what projects see of the catalog, within the transaction
// in which they go.
func (s *Service) ProjectsDeleted(ctx context.Context, ids []string) error {
	if _, err := s.endpointsFor.DeleteWhere(ctx, store.In("project_id", ids)); err != nil {
		return err
	}
	_, err := s.groupsFor.DeleteWhere(ctx, store.In("project_id", ids))
	return err
}

// Audit says what of the catalog refers to nothing. projects are those that there are.
func (s *Service) Audit(a *kit.Audit, projects map[string]bool) {
	services := kit.Keys(a, s.services, func(v ServiceRecord) string { return v.ID })
	regions := kit.Keys(a, s.regions, func(r Region) string { return r.ID })
	endpoints := kit.Keys(a, s.endpoints, func(e Endpoint) string { return e.ID })
	kit.Each(a, "endpoint", s.endpoints, func(e Endpoint) string { return e.ID }, func(e Endpoint) {
		a.Refers(e.ID, "service", e.ServiceID, services)
		a.Refers(e.ID, "region", string(e.RegionID), regions)
	})
	kit.Each(a, "project_endpoint", s.endpointsFor, func(p projectEndpoint) string { return p.ID }, func(p projectEndpoint) {
		a.Refers(p.ID, "project", p.ProjectID, projects)
		a.Refers(p.ID, "endpoint", p.EndpointID, endpoints)
	})
	docs := kit.Keys(a, s.policies, func(p PolicyDocument) string { return p.ID })
	kit.Each(a, "policy_association", s.associations, func(p policyAssociation) string { return p.ID }, func(p policyAssociation) {
		a.Refers(p.ID, "policy", p.PolicyID, docs)
		a.Refers(p.ID, "endpoint", p.EndpointID, endpoints)
		a.Refers(p.ID, "service", p.ServiceID, services)
		a.Refers(p.ID, "region", p.RegionID, regions)
	})
	groups := kit.Keys(a, s.endpointGroups, func(g EndpointGroup) string { return g.ID })
	kit.Each(a, "project_endpoint_group", s.groupsFor, func(p projectEndpointGroup) string { return p.ID }, func(p projectEndpointGroup) {
		a.Refers(p.ID, "project", p.ProjectID, projects)
		a.Refers(p.ID, "endpoint group", p.EndpointGroupID, groups)
	})
	kit.Each(a, "region", s.regions, func(r Region) string { return r.ID }, func(r Region) { a.Refers(r.ID, "parent", string(r.ParentID), regions) })
}
