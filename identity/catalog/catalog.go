package catalog

import (
	"context"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Entry is a service in a token's catalog.
type Entry struct {
	Endpoints []EntryEndpoint `json:"endpoints"`
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Name      string          `json:"name"`
}

// EntryEndpoint is an endpoint in a token's catalog, its URL filled in.
type EntryEndpoint struct {
	ID        string  `json:"id"`
	Interface string  `json:"interface"`
	RegionID  kit.Ref `json:"region_id"`
	URL       string  `json:"url"`
	Region    kit.Ref `json:"region"`
}

// rows are the enabled parts of the catalog, kept until they change.
type rows struct {
	version   uint64
	services  []ServiceRecord
	endpoints map[string][]Endpoint // by service
	only      map[string][]string   // endpoint ids by project, where it is restricted
}

// enabled reads the rows, unless those that are kept are as new as the last change.
func (s *Service) enabled(ctx context.Context) (*rows, error) {
	version, changed := s.parent.Version()
	if kept := s.kept.Load(); kept != nil && changed <= kept.version {
		return kept, nil
	}
	if s.template != nil {
		all := s.template.rows(version)
		s.kept.Store(all)
		return all, nil
	}
	all := &rows{version: version, endpoints: map[string][]Endpoint{}, only: map[string][]string{}}
	var err error
	if all.services, err = s.services.Where(ctx, store.Eq("enabled", true)); err != nil {
		return nil, err
	}
	endpoints, err := s.endpoints.Where(ctx, store.Eq("enabled", true))
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		all.endpoints[e.ServiceID] = append(all.endpoints[e.ServiceID], e)
	}
	pairs, err := s.endpointsFor.Where(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		all.only[p.ProjectID] = append(all.only[p.ProjectID], p.EndpointID)
	}
	if err := s.groupedRows(ctx, all, endpoints); err != nil {
		return nil, err
	}
	s.kept.Store(all)
	return all, nil
}

// groupedRows notes the endpoints that projects see by endpoint groups.
func (s *Service) groupedRows(ctx context.Context, all *rows, endpoints []Endpoint) error {
	pairs, err := s.groupsFor.Where(ctx)
	if err != nil || len(pairs) == 0 {
		return err
	}
	groups, err := s.endpointGroups.Where(ctx)
	if err != nil {
		return err
	}
	for _, g := range groups {
		var ids []string
		for i := range endpoints {
			if g.has(&endpoints[i]) {
				ids = append(ids, endpoints[i].ID)
			}
		}
		for _, p := range pairs {
			if p.EndpointGroupID == g.ID {
				all.only[p.ProjectID] = append(all.only[p.ProjectID], ids...)
			}
		}
	}
	return nil
}

// For is the catalog for a user and, if not empty, a project. It asks no
// policy. A URL that needs a project is left out without one. A project that has
// endpoints of its own (OS-EP-FILTER) sees those alone.
func (s *Service) For(ctx context.Context, userID, projectID string) ([]Entry, error) {
	all, err := s.enabled(ctx)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer("$(user_id)s", userID, "%(user_id)s", userID,
		"$(project_id)s", projectID, "%(project_id)s", projectID, "$(tenant_id)s", projectID, "%(tenant_id)s", projectID)
	only := all.only[projectID]
	var out []Entry
	for i := range all.services {
		svc := &all.services[i]
		entry := Entry{ID: svc.ID, Type: svc.Type, Name: svc.Name, Endpoints: []EntryEndpoint{}}
		for _, e := range all.endpoints[svc.ID] {
			needs := strings.Contains(e.URL, "(project_id)s") || strings.Contains(e.URL, "(tenant_id)s")
			if needs && projectID == "" || len(only) > 0 && !slices.Contains(only, e.ID) {
				continue
			}
			entry.Endpoints = append(entry.Endpoints, EntryEndpoint{ID: e.ID, Interface: e.Interface, Region: e.RegionID, RegionID: e.RegionID, URL: fill.Replace(e.URL)})
		}
		out = append(out, entry)
	}
	return out, nil
}

// Own is the catalog of the caller's own token.
func (s *Service) Own(ctx context.Context) ([]Entry, error) {
	if err := s.area.Enforce(ctx, "get_auth_catalog", nil); err != nil {
		return nil, err
	}
	c := nacre.CallerFrom(ctx)
	if c.ProjectID == "" && c.DomainID == "" && c.System == "" {
		return nil, kit.Forbidden("You are not authorized to perform the requested action: A scoped token is required for the catalog..")
	}
	return s.For(ctx, c.UserID, c.ProjectID)
}

// Symptoms are what an operator would want to know of the catalog. It asks no policy.
func (s *Service) Symptoms(ctx context.Context) ([]nacre.Finding, error) {
	all, err := s.enabled(ctx)
	if err != nil {
		return nil, err
	}
	var out []nacre.Finding
	found := false
	for _, svc := range all.services {
		found = found || svc.Type == "identity" && len(all.endpoints[svc.ID]) > 0
		if len(all.endpoints[svc.ID]) == 0 {
			out = append(out, nacre.Finding{Area: "identity", Kind: "service", ID: svc.ID, Problem: svc.Type + " has no enabled endpoint"})
		}
	}
	if !found {
		out = append(out, nacre.Finding{Area: "identity", Kind: "catalog", Problem: "the catalog has no identity endpoint: clients can't find the way back here"})
	}
	return out, nil
}
