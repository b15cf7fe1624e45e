package limit

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// Change is what an update of a limit or registered limit may name; nil
// leaves a field as it is.
type Change struct {
	ServiceID, RegionID, ResourceName, Description *string
	// Limit is the default limit, or the limit.
	Limit *int
}

// CreateLimits makes limits of projects or domains, all or none. Each needs a
// registered limit for its resource.
func (s *Service) CreateLimits(ctx context.Context, ls []Limit) ([]Limit, error) {
	if err := s.area.Enforce(ctx, "create_limits", nil); err != nil {
		return nil, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.area.Lock(ctx, kit.CatalogLock, lockKey); err != nil {
			return err
		}
		for i := range ls {
			l := &ls[i]
			l.ID = s.area.NewID()
			if err := s.newLimit(ctx, l); err != nil {
				return err
			}
			if err := s.area.Happened(ctx, "limit", "created", l.ID); err != nil {
				return err
			}
		}
		if err := s.checkModel(ctx, ls); err != nil {
			return err
		}
		return kit.OrConflict(s.limits.Insert(ctx, ls...), "limit", "", "")
	})
	return ls, err
}

func (s *Service) newLimit(ctx context.Context, l *Limit) error {
	if (l.ProjectID == "") == (l.DomainID == "") {
		return kit.Invalid("Invalid input for field 'limit': exactly one of project_id and domain_id must be given")
	}
	if err := checkLimit(l.ResourceName, l.ResourceLimit); err != nil {
		return err
	}
	if err := s.parent.CheckPlace(ctx, l.ServiceID, l.RegionID); err != nil {
		return err
	}
	err := s.parent.HoldOwner(ctx, string(l.ProjectID+l.DomainID), l.DomainID != "")
	if errors.Is(err, nacre.NotFound) {
		return kit.Invalid("Could not find project: %s.", l.ProjectID+l.DomainID)
	}
	if err != nil {
		return err
	}
	known, err := s.registered.Exists(ctx, overrides(&RegisteredLimit{ServiceID: l.ServiceID, RegionID: l.RegionID, ResourceName: l.ResourceName}))
	if err == nil && !known {
		err = kit.Forbidden("Unable to create a limit that has no corresponding registered limit.")
	}
	return err
}

// ListLimits lists limits: all for an administrator and for the system, else
// those of the caller's project or domain.
func (s *Service) ListLimits(ctx context.Context, q nacre.Query) ([]Limit, error) {
	if err := s.area.Enforce(ctx, "list_limits", nil); err != nil {
		return nil, err
	}
	var ws []store.Where
	if c := nacre.CallerFrom(ctx); c.System == "" && !c.HasRole("admin") {
		ws = append(ws, store.Or(
			store.And(store.Eq("project_id", c.ProjectID), store.Ne("project_id", "")),
			store.And(store.Eq("domain_id", c.DomainID), store.Ne("domain_id", ""))))
	}
	return kit.List(ctx, s.limits, q, kit.Columns{"id", "service_id", "region_id", "resource_name", "project_id", "domain_id"}, ws...)
}

// GetLimit shows a limit.
func (s *Service) GetLimit(ctx context.Context, id string) (Limit, error) {
	l, err := s.limits.Get(ctx, id)
	target := policy.Map{}
	if err == nil {
		target["target.limit.project_id"], target["target.limit.domain.id"] = "None", "None"
		if l.ProjectID != "" {
			target["target.limit.project_id"] = string(l.ProjectID)
			if domain, err := s.parent.DomainOf(ctx, string(l.ProjectID)); err == nil {
				target["target.limit.project.domain_id"] = domain
			}
		} else {
			target["target.limit.domain.id"] = string(l.DomainID)
		}
	}
	if deny := s.area.Enforce(ctx, "get_limit", target); deny != nil {
		return Limit{}, deny
	}
	return l, store.WrapNotFound(err, noLimit(id))
}

func noLimit(id string) func() *nacre.Error {
	return func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "limit", "Could not find limit for %s.", id)
	}
}

// UpdateLimit changes a limit's number or description.
func (s *Service) UpdateLimit(ctx context.Context, id string, ch Change) (Limit, error) {
	var out Limit
	if err := s.area.Enforce(ctx, "update_limit", nil); err != nil {
		return out, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		if err := s.area.Lock(ctx, lockKey); err != nil {
			return err
		}
		out, err = s.limits.Update(ctx, id, func(l *Limit) error {
			kit.SetIf(&l.ResourceLimit, ch.Limit)
			if ch.Description != nil {
				l.Description = ch.Description
			}
			return checkLimit(l.ResourceName, l.ResourceLimit)
		})
		if err != nil {
			return store.WrapNotFound(err, noLimit(id))
		}
		if err := s.checkModel(ctx, []Limit{out}); err != nil {
			return err
		}
		return s.area.Happened(ctx, "limit", "updated", id)
	})
	return out, err
}

// DeleteLimit removes a limit; the registered one holds again.
func (s *Service) DeleteLimit(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_limit", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.limits.Delete(ctx, id); err != nil {
			return store.WrapNotFound(err, noLimit(id))
		}
		return s.area.Happened(ctx, "limit", "deleted", id)
	})
}

// Of are the limits of projects, by project. It asks no policy: who sees a project's
// place in the tree sees its limits.
func (s *Service) Of(ctx context.Context, projectIDs []string) (map[string][]Limit, error) {
	ls, err := s.limits.Where(ctx, store.In("project_id", projectIDs))
	out := map[string][]Limit{}
	for _, l := range ls {
		out[string(l.ProjectID)] = append(out[string(l.ProjectID)], l)
	}
	return out, err
}

// ProjectsDeleted removes the limits of projects and domains, within the transaction
// in which they go.
func (s *Service) ProjectsDeleted(ctx context.Context, ids []string) error {
	_, err := s.limits.DeleteWhere(ctx, store.Or(store.In("project_id", ids), store.In("domain_id", ids)))
	return err
}

// Audit says which limits are of nothing. projects are those that there are, domains
// among them.
func (s *Service) Audit(a *kit.Audit, projects map[string]bool) {
	kit.Each(a, "limit", s.limits, func(l Limit) string { return l.ID }, func(l Limit) {
		a.Refers(l.ID, "project", string(l.ProjectID), projects)
		a.Refers(l.ID, "domain", string(l.DomainID), projects)
	})
}
