package identity

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// RegisteredLimit is how much of a service's resource each project may have
// unless a Limit says otherwise.
type RegisteredLimit struct {
	ID           string  `store:"id,pk" json:"id"`
	ServiceID    string  `store:"service_id,unique=registered_limit_resource" json:"service_id"`
	RegionID     Ref     `store:"region_id,unique=registered_limit_resource" json:"region_id"`
	ResourceName string  `store:"resource_name,unique=registered_limit_resource" json:"resource_name"`
	DefaultLimit int     `store:"default_limit" json:"default_limit"`
	Description  *string `store:"description" json:"description"`
}

// Limit is how much of a resource one project or domain may have.
type Limit struct {
	ID            string  `store:"id,pk" json:"id"`
	ProjectID     Ref     `store:"project_id,unique=limit_resource" json:"project_id"`
	DomainID      Ref     `store:"domain_id,unique=limit_resource" json:"domain_id"`
	ServiceID     string  `store:"service_id,unique=limit_resource" json:"service_id"`
	RegionID      Ref     `store:"region_id,unique=limit_resource" json:"region_id"`
	ResourceName  string  `store:"resource_name,unique=limit_resource" json:"resource_name"`
	ResourceLimit int     `store:"resource_limit" json:"resource_limit"`
	Description   *string `store:"description" json:"description"`
}

// LimitChange is what an update of a limit or registered limit may name; nil
// leaves a field as it is.
type LimitChange struct {
	ServiceID, RegionID, ResourceName, Description *string
	// Limit is the default limit, or the limit.
	Limit *int
}

// The models by which limits hold, by Keystone's names.
const (
	// FlatLimits hold for each project by itself.
	FlatLimits = "flat"
	// StrictLimits are of a domain and the projects right below it, which have no
	// projects below them: none may have more than its domain.
	StrictLimits = "strict_two_level"
)

var limitModels = map[string]string{
	FlatLimits:   "Limits hold for each project by itself; the project's place in a hierarchy does not matter.",
	StrictLimits: "A project's limit is never more than its domain's; projects have no projects below them.",
}

// LimitModel names and describes the model by which limits hold.
func (s *Service) LimitModel(ctx context.Context) (name, description string, err error) {
	return s.limitModel, limitModels[s.limitModel], s.enforce(ctx, "get_limit_model", nil)
}

// checkModel refuses limits that break the model; changed ones count as they will be.
func (s *Service) checkModel(ctx context.Context, changed []Limit) error {
	if s.limitModel != StrictLimits {
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
			return forbidden("Invalid resource limit: The resource limit (%s: %s, resource_name: %s, resource_limit: %d, service_id: %s, region_id: %s) doesn't satisfy current hierarchy model..",
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
		subs, err := s.limits.Where(ctx, of, store.InSelect("project_id", s.projects, "id", store.Eq("domain_id", string(l.DomainID))))
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
	p, err := s.projects.Get(ctx, string(l.ProjectID))
	if err != nil {
		return false, err
	}
	for i := range changed {
		if c := &changed[i]; c.DomainID != "" && c.DomainID == p.DomainID && c.sameResource(l) {
			return !more(l.ResourceLimit, c.ResourceLimit), nil
		}
	}
	above, err := s.limits.One(ctx, of, store.Eq("domain_id", string(p.DomainID)))
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

// limitPlace checks the service and region of a limit.
func (s *Service) limitPlace(ctx context.Context, serviceID string, regionID Ref) error {
	if _, err := s.services.Get(ctx, serviceID); err != nil {
		if errors.Is(err, nacre.NotFound) {
			return invalid("Could not find service: %s.", serviceID)
		}
		return err
	}
	if regionID == "" {
		return nil
	}
	_, err := s.regions.Get(ctx, string(regionID))
	if errors.Is(err, nacre.NotFound) {
		return invalid("Could not find region: %s.", regionID)
	}
	return err
}

func checkLimit(name string, n int) error {
	if n < -1 || n > 1<<31-1 {
		return invalid("Invalid input for field 'limit': %d is out of range", n)
	}
	return checkName("resource_name", name, 255)
}

// CreateRegisteredLimits makes registered limits, all or none.
func (s *Service) CreateRegisteredLimits(ctx context.Context, ls []RegisteredLimit) ([]RegisteredLimit, error) {
	if err := s.enforce(ctx, "create_registered_limits", nil); err != nil {
		return nil, err
	}
	err := s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock, limitLock); err != nil {
			return err
		}
		for i := range ls {
			ls[i].ID = s.newID()
			if err := checkLimit(ls[i].ResourceName, ls[i].DefaultLimit); err != nil {
				return err
			}
			if err := s.limitPlace(ctx, ls[i].ServiceID, ls[i].RegionID); err != nil {
				return err
			}
			if err := s.emit(ctx, "registered_limit", "created", ls[i].ID); err != nil {
				return err
			}
		}
		return orConflict(s.registered.Insert(ctx, ls...), "registered_limit", "", "")
	})
	return ls, err
}

// ListRegisteredLimits lists registered limits.
func (s *Service) ListRegisteredLimits(ctx context.Context, q nacre.Query) ([]RegisteredLimit, error) {
	if err := s.enforce(ctx, "list_registered_limits", nil); err != nil {
		return nil, err
	}
	return list(ctx, s.registered, q, columns{"id", "service_id", "region_id", "resource_name"})
}

func noRegistered(id string) func() *nacre.Error {
	return func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "registered limit", "Could not find registered limit for %s.", id)
	}
}

// GetRegisteredLimit shows a registered limit.
func (s *Service) GetRegisteredLimit(ctx context.Context, id string) (RegisteredLimit, error) {
	if err := s.enforce(ctx, "get_registered_limit", nil); err != nil {
		return RegisteredLimit{}, err
	}
	l, err := s.registered.Get(ctx, id)
	return l, store.WrapNotFound(err, noRegistered(id))
}

// overrides matches the limits that override a registered one.
func overrides(l *RegisteredLimit) store.Where {
	return store.And(store.Eq("service_id", l.ServiceID), store.Eq("region_id", l.RegionID), store.Eq("resource_name", l.ResourceName))
}

// freeRegistered refuses when there are limits of projects.
func (s *Service) freeRegistered(ctx context.Context, l *RegisteredLimit) error {
	used, err := s.limits.Exists(ctx, overrides(l))
	if err == nil && used {
		err = forbidden("Unable to update or delete registered limit %s because there are project limits associated with it.", l.ID)
	}
	return err
}

// UpdateRegisteredLimit changes a registered limit; what it is for can't change
// while projects have limits of their own.
func (s *Service) UpdateRegisteredLimit(ctx context.Context, id string, ch LimitChange) (RegisteredLimit, error) {
	var out RegisteredLimit
	if err := s.enforce(ctx, "update_registered_limit", nil); err != nil {
		return out, err
	}
	err := s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock, limitLock); err != nil {
			return err
		}
		old, err := s.registered.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, noRegistered(id))
		}
		if ch.ServiceID != nil || ch.RegionID != nil || ch.ResourceName != nil {
			if err := s.freeRegistered(ctx, &old); err != nil {
				return err
			}
		}
		out, err = s.registered.Update(ctx, id, func(l *RegisteredLimit) error {
			setIf(&l.ServiceID, ch.ServiceID)
			setIf(&l.ResourceName, ch.ResourceName)
			setIf(&l.DefaultLimit, ch.Limit)
			if ch.RegionID != nil {
				l.RegionID = Ref(*ch.RegionID)
			}
			if ch.Description != nil {
				l.Description = ch.Description
			}
			return checkLimit(l.ResourceName, l.DefaultLimit)
		})
		if err != nil {
			return orConflict(err, "registered_limit", "", "")
		}
		if err := s.limitPlace(ctx, out.ServiceID, out.RegionID); err != nil {
			return err
		}
		return s.emit(ctx, "registered_limit", "updated", id)
	})
	return out, err
}

// DeleteRegisteredLimit removes a registered limit that no project overrides.
func (s *Service) DeleteRegisteredLimit(ctx context.Context, id string) error {
	if err := s.enforce(ctx, "delete_registered_limit", nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, limitLock); err != nil {
			return err
		}
		old, err := s.registered.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, noRegistered(id))
		}
		if err := s.freeRegistered(ctx, &old); err != nil {
			return err
		}
		if err := s.registered.Delete(ctx, id); err != nil {
			return err
		}
		return s.emit(ctx, "registered_limit", "deleted", id)
	})
}

// CreateLimits makes limits of projects or domains, all or none. Each needs a
// registered limit for its resource.
func (s *Service) CreateLimits(ctx context.Context, ls []Limit) ([]Limit, error) {
	if err := s.enforce(ctx, "create_limits", nil); err != nil {
		return nil, err
	}
	err := s.tx(ctx, func(ctx context.Context) error {
		if err := s.lock(ctx, catalogLock, limitLock); err != nil {
			return err
		}
		for i := range ls {
			l := &ls[i]
			l.ID = s.newID()
			if err := s.newLimit(ctx, l); err != nil {
				return err
			}
			if err := s.emit(ctx, "limit", "created", l.ID); err != nil {
				return err
			}
		}
		if err := s.checkModel(ctx, ls); err != nil {
			return err
		}
		return orConflict(s.limits.Insert(ctx, ls...), "limit", "", "")
	})
	return ls, err
}

func (s *Service) newLimit(ctx context.Context, l *Limit) error {
	if (l.ProjectID == "") == (l.DomainID == "") {
		return invalid("Invalid input for field 'limit': exactly one of project_id and domain_id must be given")
	}
	if err := checkLimit(l.ResourceName, l.ResourceLimit); err != nil {
		return err
	}
	if err := s.limitPlace(ctx, l.ServiceID, l.RegionID); err != nil {
		return err
	}
	owner, err := s.projects.GetForUpdate(ctx, string(l.ProjectID+l.DomainID))
	if errors.Is(err, nacre.NotFound) || err == nil && l.DomainID != "" && !owner.IsDomain {
		return invalid("Could not find project: %s.", l.ProjectID+l.DomainID)
	}
	if err != nil {
		return err
	}
	known, err := s.registered.Exists(ctx, overrides(&RegisteredLimit{ServiceID: l.ServiceID, RegionID: l.RegionID, ResourceName: l.ResourceName}))
	if err == nil && !known {
		err = forbidden("Unable to create a limit that has no corresponding registered limit.")
	}
	return err
}

// ListLimits lists limits: all for an administrator and for the system, else
// those of the caller's project or domain.
func (s *Service) ListLimits(ctx context.Context, q nacre.Query) ([]Limit, error) {
	if err := s.enforce(ctx, "list_limits", nil); err != nil {
		return nil, err
	}
	var ws []store.Where
	if c := nacre.CallerFrom(ctx); c.System == "" && !c.HasRole("admin") {
		ws = append(ws, store.Or(
			store.And(store.Eq("project_id", c.ProjectID), store.Ne("project_id", "")),
			store.And(store.Eq("domain_id", c.DomainID), store.Ne("domain_id", ""))))
	}
	return list(ctx, s.limits, q, columns{"id", "service_id", "region_id", "resource_name", "project_id", "domain_id"}, ws...)
}

// GetLimit shows a limit.
func (s *Service) GetLimit(ctx context.Context, id string) (Limit, error) {
	l, err := s.limits.Get(ctx, id)
	target := policy.Map{}
	if err == nil {
		target["target.limit.project_id"], target["target.limit.domain.id"] = "None", "None"
		if l.ProjectID != "" {
			target["target.limit.project_id"] = string(l.ProjectID)
			if p, err := s.projects.Get(ctx, string(l.ProjectID)); err == nil {
				target["target.limit.project.domain_id"] = string(p.DomainID)
			}
		} else {
			target["target.limit.domain.id"] = string(l.DomainID)
		}
	}
	if deny := s.enforce(ctx, "get_limit", target); deny != nil {
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
func (s *Service) UpdateLimit(ctx context.Context, id string, ch LimitChange) (Limit, error) {
	var out Limit
	if err := s.enforce(ctx, "update_limit", nil); err != nil {
		return out, err
	}
	err := s.tx(ctx, func(ctx context.Context) (err error) {
		if err := s.lock(ctx, limitLock); err != nil {
			return err
		}
		out, err = s.limits.Update(ctx, id, func(l *Limit) error {
			setIf(&l.ResourceLimit, ch.Limit)
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
		return s.emit(ctx, "limit", "updated", id)
	})
	return out, err
}

// DeleteLimit removes a limit; the registered one holds again.
func (s *Service) DeleteLimit(ctx context.Context, id string) error {
	if err := s.enforce(ctx, "delete_limit", nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.limits.Delete(ctx, id); err != nil {
			return store.WrapNotFound(err, noLimit(id))
		}
		return s.emit(ctx, "limit", "deleted", id)
	})
}
