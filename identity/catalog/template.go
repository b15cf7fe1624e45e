package catalog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
)

// Template is a catalog that is read from a file and can't be changed, as
// Keystone's templated driver has it. Where there is one, the stored catalog is
// not looked at.
type Template struct {
	regions   []Region
	services  []ServiceRecord
	endpoints []Endpoint
}

// ParseTemplate reads the lines that the classic install guides have:
//
//	catalog.RegionOne.compute.publicURL = http://cloud:8774/v2.1/$(tenant_id)s
//	catalog.RegionOne.compute.name = Compute Service
//
// URLs may hold $(tenant_id)s, $(project_id)s and $(user_id)s, with % for $ too;
// any other reference is an error, so that nothing of the configuration gets out.
// A service's id is its type, an endpoint's is region, type and interface.
func ParseTemplate(r io.Reader) (*Template, error) {
	t := &Template{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		key, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), " = ")
		if !ok || !strings.HasPrefix(key, "catalog.") {
			continue
		}
		parts := strings.SplitN(key, ".", 4)
		if len(parts) != 4 {
			return nil, fmt.Errorf("catalog: line %d of the template: %q is not catalog.REGION.SERVICE.KEY", n, key)
		}
		if err := t.add(parts[1], strings.ReplaceAll(parts[2], "_", "-"), parts[3], strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("catalog: line %d of the template: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(t.endpoints) == 0 {
		return nil, errors.New("catalog: the template has no endpoint")
	}
	return t, nil
}

func (t *Template) add(region, service, key, value string) error {
	if !slices.ContainsFunc(t.regions, func(r Region) bool { return r.ID == region }) {
		t.regions = append(t.regions, Region{ID: region})
	}
	i := slices.IndexFunc(t.services, func(s ServiceRecord) bool { return s.ID == service })
	if i < 0 {
		i = len(t.services)
		about := ""
		t.services = append(t.services, ServiceRecord{ID: service, Type: service, Enabled: true, Description: &about})
	}
	face, isURL := strings.CutSuffix(key, "URL")
	switch {
	case isURL && slices.Contains([]string{"public", "internal", "admin"}, face):
		for _, m := range placeholder.FindAllStringSubmatch(value, -1) {
			if !slices.Contains([]string{"project_id", "tenant_id", "user_id"}, m[1]) {
				return fmt.Errorf("%q refers to what no URL may", m[0])
			}
		}
		t.endpoints = append(t.endpoints, Endpoint{ID: region + "-" + service + "-" + face, ServiceID: service, Interface: face, RegionID: kit.Ref(region), URL: value, Enabled: true})
	case key == "name":
		t.services[i].Name = value
	case key == "description":
		t.services[i].Description = &value
	}
	return nil
}

// rows are the template in the shape in which catalogs are made.
func (t *Template) rows(version uint64) *rows {
	all := &rows{version: version, services: t.services, endpoints: map[string][]Endpoint{}, only: map[string][]string{}}
	for _, e := range t.endpoints {
		all.endpoints[e.ServiceID] = append(all.endpoints[e.ServiceID], e)
	}
	return all
}

// templated refuses a change of what a template says.
func (t *Template) templated(resource string) error {
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

func (t *Template) listServices(q nacre.Query) []ServiceRecord {
	return choose(t.services, q, func(s *ServiceRecord, name string) (string, bool) {
		v, ok := map[string]string{"id": s.ID, "type": s.Type, "name": s.Name}[name]
		return v, ok
	})
}

func (t *Template) listEndpoints(q nacre.Query) []Endpoint {
	return choose(t.endpoints, q, func(e *Endpoint, name string) (string, bool) {
		v, ok := map[string]string{"id": e.ID, "interface": e.Interface, "service_id": e.ServiceID, "region_id": string(e.RegionID)}[name]
		return v, ok
	})
}

func (t *Template) listRegions(q nacre.Query) []Region {
	return choose(t.regions, q, func(r *Region, name string) (string, bool) {
		v, ok := map[string]string{"id": r.ID, "parent_region_id": ""}[name]
		return v, ok
	})
}

// only is the one that there is, or the words for none.
func only[T any](rows []T, what, id string) (T, error) {
	if len(rows) != 1 {
		var none T
		return none, kit.NotFound(what, id)
	}
	return rows[0], nil
}

func byID(id string) nacre.Query {
	return nacre.Query{Filters: []nacre.Filter{{Name: "id", Value: id}}}
}
