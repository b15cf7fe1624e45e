package identity

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/store"
)

// ServiceChange is what is given of a catalog service: at its creation Type must
// be set; in an update nil leaves a field as it is.
type ServiceChange struct {
	Type, Name, Description *string
	Enabled                 *bool
	Extra                   map[string]any
}

// catalogChanged has every token's catalog made anew.
func (s *Service) catalogChanged(ctx context.Context, resource, what, id string) error {
	if err := s.template.templated(resource); err != nil {
		return err
	}
	if err := s.revoke(ctx, revocation{Stale: true}); err != nil {
		return err
	}
	return s.emit(ctx, resource, what, id)
}

// CreateService adds a service to the catalog.
func (s *Service) CreateService(ctx context.Context, ch ServiceChange) (CatalogService, error) {
	v := CatalogService{ID: s.newID(), Description: ch.Description, Enabled: true, Extra: ch.Extra}
	setIf(&v.Type, ch.Type)
	setIf(&v.Name, ch.Name)
	setIf(&v.Enabled, ch.Enabled)
	if err := s.enforce(ctx, "create_service", nil); err != nil {
		return v, err
	}
	if err := checkName("type", v.Type, 255); err != nil {
		return v, err
	}
	return v, s.tx(ctx, func(ctx context.Context) error {
		if err := s.services.Insert(ctx, v); err != nil {
			return err
		}
		return s.catalogChanged(ctx, "service", "created", v.ID)
	})
}

// GetService shows a service.
func (s *Service) GetService(ctx context.Context, id string) (CatalogService, error) {
	if err := s.enforce(ctx, "get_service", nil); err != nil {
		return CatalogService{}, err
	}
	if s.template != nil {
		return only(s.template.listServices(byID(id)), "service", id)
	}
	v, err := s.services.Get(ctx, id)
	return v, orNotFound(err, "service", id)
}

// ListServices lists services.
func (s *Service) ListServices(ctx context.Context, q nacre.Query) ([]CatalogService, error) {
	if err := s.enforce(ctx, "list_services", nil); err != nil {
		return nil, err
	}
	if s.template != nil {
		return s.template.listServices(q), nil
	}
	return list(ctx, s.services, q, columns{"id", "type", "name", "enabled"})
}

// UpdateService changes a service.
func (s *Service) UpdateService(ctx context.Context, id string, ch ServiceChange) (CatalogService, error) {
	var out CatalogService
	if err := s.enforce(ctx, "update_service", nil); err != nil {
		return out, err
	}
	if ch.Type != nil {
		if err := checkName("type", *ch.Type, 255); err != nil {
			return out, err
		}
	}
	err := s.tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.services.Update(ctx, id, func(v *CatalogService) error {
			setIf(&v.Type, ch.Type)
			setIf(&v.Name, ch.Name)
			setIf(&v.Enabled, ch.Enabled)
			if ch.Description != nil {
				v.Description = ch.Description
			}
			v.Extra = merge(v.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			return orNotFound(err, "service", id)
		}
		return s.catalogChanged(ctx, "service", "updated", id)
	})
	return out, err
}

// DeleteService removes a service with its endpoints.
func (s *Service) DeleteService(ctx context.Context, id string) error {
	if err := s.enforce(ctx, "delete_service", nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock); err != nil {
			return err
		}
		if err := s.services.Delete(ctx, id); err != nil {
			return orNotFound(err, "service", id)
		}
		of := store.Eq("service_id", id)
		if _, err := s.endpointsFor.DeleteWhere(ctx, store.InSelect("endpoint_id", s.endpoints, "id", of)); err != nil {
			return err
		}
		if _, err := s.associations.DeleteWhere(ctx, store.Or(of, store.InSelect("endpoint_id", s.endpoints, "id", of))); err != nil {
			return err
		}
		if _, err := s.endpoints.DeleteWhere(ctx, store.Eq("service_id", id)); err != nil {
			return err
		}
		return s.catalogChanged(ctx, "service", "deleted", id)
	})
}

// EndpointChange is what is given of an endpoint: at its creation ServiceID,
// Interface and URL must be set; in an update nil leaves a field as it is.
type EndpointChange struct {
	ServiceID, Interface, RegionID, URL *string
	Enabled                             *bool
	Extra                               map[string]any
}

var placeholder = regexp.MustCompile(`[$%]\(([^)]*)\)s`)

// checkEndpoint checks what an endpoint refers to.
func (s *Service) checkEndpoint(ctx context.Context, e *Endpoint) error {
	if !slices.Contains([]string{"public", "internal", "admin"}, e.Interface) {
		return invalid("Invalid input for field 'interface': '%s' is not one of ['admin', 'internal', 'public']", e.Interface)
	}
	u, err := url.Parse(placeholder.ReplaceAllString(e.URL, "x"))
	if err != nil || u.Scheme == "" || u.Host == "" {
		return invalid("Cannot create an endpoint with an invalid URL: %s.", e.URL)
	}
	for _, m := range placeholder.FindAllStringSubmatch(e.URL, -1) {
		if !slices.Contains([]string{"project_id", "tenant_id", "user_id"}, m[1]) {
			return invalid("Cannot create an endpoint with an invalid URL: %s.", e.URL)
		}
	}
	if _, err := s.services.Get(ctx, e.ServiceID); err != nil {
		if errors.Is(err, nacre.NotFound) {
			return invalid("Could not find service: %s.", e.ServiceID)
		}
		return err
	}
	if e.RegionID == "" {
		return nil
	}
	_, err = s.regions.Get(ctx, string(e.RegionID))
	if errors.Is(err, nacre.NotFound) {
		return invalid("Could not find region: %s.", e.RegionID)
	}
	return err
}

// CreateEndpoint adds an endpoint to a service.
func (s *Service) CreateEndpoint(ctx context.Context, ch EndpointChange) (Endpoint, error) {
	e := Endpoint{ID: s.newID(), Enabled: true, Extra: ch.Extra}
	ch.apply(&e)
	if err := s.enforce(ctx, "create_endpoint", nil); err != nil {
		return e, err
	}
	return e, s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock); err != nil {
			return err
		}
		if err := s.checkEndpoint(ctx, &e); err != nil {
			return err
		}
		if err := s.endpoints.Insert(ctx, e); err != nil {
			return err
		}
		return s.catalogChanged(ctx, "endpoint", "created", e.ID)
	})
}

func (ch *EndpointChange) apply(e *Endpoint) {
	setIf(&e.ServiceID, ch.ServiceID)
	setIf(&e.Interface, ch.Interface)
	setIf(&e.URL, ch.URL)
	setIf(&e.Enabled, ch.Enabled)
	if ch.RegionID != nil {
		e.RegionID = Ref(*ch.RegionID)
	}
}

// GetEndpoint shows an endpoint.
func (s *Service) GetEndpoint(ctx context.Context, id string) (Endpoint, error) {
	if err := s.enforce(ctx, "get_endpoint", nil); err != nil {
		return Endpoint{}, err
	}
	if s.template != nil {
		return only(s.template.listEndpoints(byID(id)), "endpoint", id)
	}
	e, err := s.endpoints.Get(ctx, id)
	return e, orNotFound(err, "endpoint", id)
}

// ListEndpoints lists endpoints.
func (s *Service) ListEndpoints(ctx context.Context, q nacre.Query) ([]Endpoint, error) {
	if err := s.enforce(ctx, "list_endpoints", nil); err != nil {
		return nil, err
	}
	if s.template != nil {
		return s.template.listEndpoints(q), nil
	}
	return list(ctx, s.endpoints, q, columns{"id", "interface", "service_id", "region_id", "enabled"})
}

// UpdateEndpoint changes an endpoint.
func (s *Service) UpdateEndpoint(ctx context.Context, id string, ch EndpointChange) (Endpoint, error) {
	var out Endpoint
	if err := s.enforce(ctx, "update_endpoint", nil); err != nil {
		return out, err
	}
	err := s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock); err != nil {
			return err
		}
		old, err := s.endpoints.Get(ctx, id)
		if err != nil {
			return orNotFound(err, "endpoint", id)
		}
		ch.apply(&old)
		if err := s.checkEndpoint(ctx, &old); err != nil {
			return err
		}
		out, err = s.endpoints.Update(ctx, id, func(e *Endpoint) error {
			ch.apply(e)
			e.Extra = merge(e.Extra, ch.Extra)
			return nil
		})
		if err != nil {
			return orNotFound(err, "endpoint", id)
		}
		return s.catalogChanged(ctx, "endpoint", "updated", id)
	})
	return out, err
}

// DeleteEndpoint removes an endpoint.
func (s *Service) DeleteEndpoint(ctx context.Context, id string) error {
	if err := s.enforce(ctx, "delete_endpoint", nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock); err != nil {
			return err
		}
		if err := s.endpoints.Delete(ctx, id); err != nil {
			return orNotFound(err, "endpoint", id)
		}
		if _, err := s.endpointsFor.DeleteWhere(ctx, store.Eq("endpoint_id", id)); err != nil {
			return err
		}
		if _, err := s.associations.DeleteWhere(ctx, store.Eq("endpoint_id", id)); err != nil {
			return err
		}
		return s.catalogChanged(ctx, "endpoint", "deleted", id)
	})
}

// CatalogEntry is a service in a token's catalog.
type CatalogEntry struct {
	Endpoints []CatalogEndpoint `json:"endpoints"`
	ID        string            `json:"id"`
	Type      string            `json:"type"`
	Name      string            `json:"name"`
}

// CatalogEndpoint is an endpoint in a token's catalog, its URL filled in.
type CatalogEndpoint struct {
	ID        string `json:"id"`
	Interface string `json:"interface"`
	RegionID  Ref    `json:"region_id"`
	URL       string `json:"url"`
	Region    Ref    `json:"region"`
}

// catalogRows are the enabled parts of the catalog, kept until they change.
type catalogRows struct {
	seq       uint64
	services  []CatalogService
	endpoints map[string][]Endpoint // by service
	only      map[string][]string   // endpoint ids by project, where it is restricted
	providers []federation.ServiceProvider
}

type catalogCache struct{ rows atomic.Pointer[catalogRows] }

func (s *Service) catalogRows(ctx context.Context) (*catalogRows, error) {
	seq := s.revoked.now()
	if rows := s.cache.catalog.rows.Load(); rows != nil && s.revoked.allSeq() <= rows.seq {
		return rows, nil
	}
	rows := &catalogRows{seq: seq, endpoints: map[string][]Endpoint{}, only: map[string][]string{}}
	var err error
	if s.template != nil {
		rows = s.template.rows(seq)
		if rows.providers, err = s.Federation.EnabledServiceProviders(ctx); err != nil {
			return nil, err
		}
		s.cache.catalog.rows.Store(rows)
		return rows, nil
	}
	if rows.services, err = s.services.Where(ctx, store.Eq("enabled", true)); err != nil {
		return nil, err
	}
	endpoints, err := s.endpoints.Where(ctx, store.Eq("enabled", true))
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		rows.endpoints[e.ServiceID] = append(rows.endpoints[e.ServiceID], e)
	}
	pairs, err := s.endpointsFor.Where(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		rows.only[p.ProjectID] = append(rows.only[p.ProjectID], p.EndpointID)
	}
	if err := s.groupedRows(ctx, rows, endpoints); err != nil {
		return nil, err
	}
	if rows.providers, err = s.Federation.EnabledServiceProviders(ctx); err != nil {
		return nil, err
	}
	s.cache.catalog.rows.Store(rows)
	return rows, nil
}

// groupedRows notes the endpoints that projects see by endpoint groups.
func (s *Service) groupedRows(ctx context.Context, rows *catalogRows, endpoints []Endpoint) error {
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
				rows.only[p.ProjectID] = append(rows.only[p.ProjectID], ids...)
			}
		}
	}
	return nil
}

// CatalogFor is the catalog for a user and, if not empty, a project. It asks no
// policy. A URL that needs a project is left out without one. A project that has
// endpoints of its own (OS-EP-FILTER) sees those alone.
func (s *Service) CatalogFor(ctx context.Context, userID, projectID string) ([]CatalogEntry, error) {
	rows, err := s.catalogRows(ctx)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer("$(user_id)s", userID, "%(user_id)s", userID,
		"$(project_id)s", projectID, "%(project_id)s", projectID, "$(tenant_id)s", projectID, "%(tenant_id)s", projectID)
	only := rows.only[projectID]
	var out []CatalogEntry
	for i := range rows.services {
		svc := &rows.services[i]
		entry := CatalogEntry{ID: svc.ID, Type: svc.Type, Name: svc.Name, Endpoints: []CatalogEndpoint{}}
		for _, e := range rows.endpoints[svc.ID] {
			needs := strings.Contains(e.URL, "(project_id)s") || strings.Contains(e.URL, "(tenant_id)s")
			if needs && projectID == "" || len(only) > 0 && !slices.Contains(only, e.ID) {
				continue
			}
			entry.Endpoints = append(entry.Endpoints, CatalogEndpoint{ID: e.ID, Interface: e.Interface, Region: e.RegionID, RegionID: e.RegionID, URL: fill.Replace(e.URL)})
		}
		out = append(out, entry)
	}
	return out, nil
}

// Catalog is the catalog of the caller's own token.
func (s *Service) Catalog(ctx context.Context) ([]CatalogEntry, error) {
	if err := s.enforce(ctx, "get_auth_catalog", nil); err != nil {
		return nil, err
	}
	c := nacre.CallerFrom(ctx)
	if c.ProjectID == "" && c.DomainID == "" && c.System == "" {
		return nil, forbidden("You are not authorized to perform the requested action: A scoped token is required for the catalog..")
	}
	return s.CatalogFor(ctx, c.UserID, c.ProjectID)
}
