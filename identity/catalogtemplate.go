package identity

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// CatalogTemplate is a catalog that is read from a file and can't be changed, as
// Keystone's templated driver has it. Where there is one, the stored catalog is
// not looked at.
type CatalogTemplate struct {
	regions   []Region
	services  []CatalogService
	endpoints []Endpoint
}

// ParseCatalogTemplate reads the lines that the classic install guides have:
//
//	catalog.RegionOne.compute.publicURL = http://cloud:8774/v2.1/$(tenant_id)s
//	catalog.RegionOne.compute.name = Compute Service
//
// URLs may hold $(tenant_id)s, $(project_id)s and $(user_id)s, with % for $ too;
// any other reference is an error, so that nothing of the configuration gets out.
// A service's id is its type, an endpoint's is region, type and interface.
func ParseCatalogTemplate(r io.Reader) (*CatalogTemplate, error) {
	t := &CatalogTemplate{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), " = ")
		if !ok || !strings.HasPrefix(key, "catalog.") {
			continue
		}
		parts := strings.SplitN(key, ".", 4)
		if len(parts) != 4 {
			return nil, fmt.Errorf("identity: line %d of the catalog template: %q is not catalog.REGION.SERVICE.KEY", n, key)
		}
		if err := t.add(parts[1], strings.ReplaceAll(parts[2], "_", "-"), parts[3], strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("identity: line %d of the catalog template: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(t.endpoints) == 0 {
		return nil, errors.New("identity: the catalog template has no endpoint")
	}
	return t, nil
}

func (t *CatalogTemplate) add(region, service, key, value string) error {
	if !slices.ContainsFunc(t.regions, func(r Region) bool { return r.ID == region }) {
		t.regions = append(t.regions, Region{ID: region})
	}
	i := slices.IndexFunc(t.services, func(s CatalogService) bool { return s.ID == service })
	if i < 0 {
		i = len(t.services)
		about := ""
		t.services = append(t.services, CatalogService{ID: service, Type: service, Enabled: true, Description: &about})
	}
	face, isURL := strings.CutSuffix(key, "URL")
	switch {
	case isURL && slices.Contains([]string{"public", "internal", "admin"}, face):
		for _, m := range placeholder.FindAllStringSubmatch(value, -1) {
			if !slices.Contains([]string{"project_id", "tenant_id", "user_id"}, m[1]) {
				return fmt.Errorf("%q refers to what no URL may", m[0])
			}
		}
		t.endpoints = append(t.endpoints, Endpoint{ID: region + "-" + service + "-" + face, ServiceID: service, Interface: face, RegionID: Ref(region), URL: value, Enabled: true})
	case key == "name":
		t.services[i].Name = value
	case key == "description":
		t.services[i].Description = &value
	}
	return nil
}

// rows are the template in the shape in which catalogs are made.
func (t *CatalogTemplate) rows(seq uint64) *catalogRows {
	rows := &catalogRows{seq: seq, services: t.services, endpoints: map[string][]Endpoint{}, only: map[string][]string{}}
	for _, e := range t.endpoints {
		rows.endpoints[e.ServiceID] = append(rows.endpoints[e.ServiceID], e)
	}
	return rows
}

// templated refuses a change of what a template says.
func (t *CatalogTemplate) templated(resource string) error {
	if t == nil || !slices.Contains([]string{"service", "endpoint", "region", "endpoint_group", "project_endpoint"}, resource) {
		return nil
	}
	return nacre.Errorf(nacre.NotImplemented, "NotImplemented", "The action you have requested has not been implemented.")
}

// choose lists what a query asks for of rows that are not in the store.
func choose[T any](rows []T, q nacre.Query, attr func(*T, string) (string, bool)) []T {
	out := []T{}
	for i := range rows {
		fits := true
		for _, f := range q.Filters {
			if v, ok := attr(&rows[i], f.Name); ok && v != f.Value {
				fits = false
			}
		}
		if fits {
			out = append(out, rows[i])
		}
	}
	return out
}

func (t *CatalogTemplate) listServices(q nacre.Query) []CatalogService {
	return choose(t.services, q, func(s *CatalogService, name string) (string, bool) {
		v, ok := map[string]string{"id": s.ID, "type": s.Type, "name": s.Name}[name]
		return v, ok
	})
}

func (t *CatalogTemplate) listEndpoints(q nacre.Query) []Endpoint {
	return choose(t.endpoints, q, func(e *Endpoint, name string) (string, bool) {
		v, ok := map[string]string{"id": e.ID, "interface": e.Interface, "service_id": e.ServiceID, "region_id": string(e.RegionID)}[name]
		return v, ok
	})
}

func (t *CatalogTemplate) listRegions(q nacre.Query) []Region {
	return choose(t.regions, q, func(r *Region, name string) (string, bool) {
		v, ok := map[string]string{"id": r.ID, "parent_region_id": ""}[name]
		return v, ok
	})
}

// only is the one that there is, or the words for none.
func only[T any](rows []T, what, id string) (T, error) {
	if len(rows) != 1 {
		var none T
		return none, notFound(what, id)
	}
	return rows[0], nil
}

func byID(id string) nacre.Query {
	return nacre.Query{Filters: []nacre.Filter{{Name: "id", Value: id}}}
}
