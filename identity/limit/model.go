package limit

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// The models by which limits hold, by Keystone's names.
const (
	// Flat limits hold for each project by itself.
	Flat = "flat"
	// Strict limits are of a domain and the projects right below it, which have no
	// projects below them: none may have more than its domain.
	Strict = "strict_two_level"
)

var models = map[string]string{
	Flat:   "Limits hold for each project by itself; the project's place in a hierarchy does not matter.",
	Strict: "A project's limit is never more than its domain's; projects have no projects below them.",
}

// Model names and describes the model by which limits hold.
func (s *Service) Model(ctx context.Context) (name, description string, err error) {
	return s.model, models[s.model], s.area.Enforce(ctx, "get_limit_model", nil)
}

// checkModel refuses limits that break the model; changed ones count as they will be.
func (s *Service) checkModel(ctx context.Context, changed []Limit) error {
	if s.model != Strict {
		return nil
	}
	for i := range changed {
		l := &changed[i]
		ok, err := s.fits(ctx, l, changed)
		if err != nil {
			return err
		}
		if !ok {
			level, id := "project_id", l.ProjectID
			if l.DomainID != "" {
				level, id = "domain_id", l.DomainID
			}
			region := "None"
			if l.RegionID != "" {
				region = string(l.RegionID)
			}
			return kit.Forbidden("Invalid resource limit: The resource limit (%s: %s, resource_name: %s, resource_limit: %d, service_id: %s, region_id: %s) doesn't satisfy current hierarchy model..",
				level, id, l.ResourceName, l.ResourceLimit, l.ServiceID, region)
		}
	}
	return nil
}

// sameResource says whether two limits are of one resource.
func (l *Limit) sameResource(o *Limit) bool {
	return l.ServiceID == o.ServiceID && l.RegionID == o.RegionID && l.ResourceName == o.ResourceName
}

// fits compares a project's limit with its domain's, and a domain's with those of
// its projects. A limit of -1 is none.
func (s *Service) fits(ctx context.Context, l *Limit, changed []Limit) (bool, error) {
	of := overrides(&RegisteredLimit{ServiceID: l.ServiceID, RegionID: l.RegionID, ResourceName: l.ResourceName})
	if l.DomainID != "" {
		subs, err := s.limits.Where(ctx, of, s.parent.InDomain("project_id", string(l.DomainID)))
		if err != nil {
			return false, err
		}
		for i := range subs {
			if more(newest(&subs[i], changed).ResourceLimit, l.ResourceLimit) {
				return false, nil
			}
		}
		return true, nil
	}
	domain, err := s.parent.DomainOf(ctx, string(l.ProjectID))
	if err != nil {
		return false, err
	}
	for i := range changed {
		if c := &changed[i]; c.DomainID != "" && string(c.DomainID) == domain && c.sameResource(l) {
			return !more(l.ResourceLimit, c.ResourceLimit), nil
		}
	}
	above, err := s.limits.One(ctx, of, store.Eq("domain_id", domain))
	if err == nil {
		return !more(l.ResourceLimit, above.ResourceLimit), nil
	}
	if !errors.Is(err, store.ErrNoRow) {
		return false, err
	}
	reg, err := s.registered.One(ctx, of)
	return err == nil && !more(l.ResourceLimit, reg.DefaultLimit), err
}

// newest is a limit as it will be.
func newest(l *Limit, changed []Limit) *Limit {
	for i := range changed {
		if c := &changed[i]; c.ID == l.ID || c.ProjectID == l.ProjectID && c.DomainID == l.DomainID && c.sameResource(l) {
			return c
		}
	}
	return l
}

// more compares limits, of which -1 is more than any.
func more(a, b int) bool { return b != -1 && (a == -1 || a > b) }
