package identity

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// getDomain reads a domain without asking the policy.
func (s *Service) getDomain(ctx context.Context, id string) (Project, error) {
	d, err := s.projects.Get(ctx, id)
	if err == nil && !d.IsDomain {
		err = store.ErrNoRow
	}
	return d, kit.OrNotFound(err, "domain", id)
}

// holdDomain is getDomain that keeps the domain from going, as kit.Hold does.
func (s *Service) holdDomain(ctx context.Context, id string) (Project, error) {
	d, err := s.projects.GetForUpdate(ctx, id)
	if err == nil && !d.IsDomain {
		err = store.ErrNoRow
	}
	return d, kit.OrNotFound(err, "domain", id)
}

func (s *Service) domain(ctx context.Context, id, rule string) (Project, error) {
	d, err := s.getDomain(ctx, id)
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return Project{}, err
	}
	target := policy.Map{}
	if err == nil {
		target["target.domain.id"] = id
	}
	if deny := s.area.Enforce(ctx, rule, target); deny != nil {
		return Project{}, deny
	}
	return d, err
}

// CreateDomain makes a domain.
func (s *Service) CreateDomain(ctx context.Context, ch ProjectChange) (Project, error) {
	yes := true
	ch.IsDomain, ch.DomainID, ch.ParentID = &yes, nil, nil
	return s.createProject(ctx, ch, "create_domain")
}

// GetDomain shows a domain.
func (s *Service) GetDomain(ctx context.Context, id string) (Project, error) {
	return s.domain(ctx, id, "get_domain")
}

// ListDomains lists domains.
func (s *Service) ListDomains(ctx context.Context, q nacre.Query) ([]Project, error) {
	own, target := kit.OwnDomain(ctx), policy.Map{}
	ws := []store.Where{store.Eq("is_domain", true)}
	if own != "" {
		target["target.domain.id"] = own
		ws = append(ws, store.Eq("id", own))
	}
	if err := s.area.Enforce(ctx, "list_domains", target); err != nil {
		return nil, err
	}
	return kit.ListFiltered(ctx, s.projects, q, kit.Columns{"id", "name", "enabled"}, s.tagFilters(q), ws...)
}

// UpdateDomain changes a domain. Disabling it ends the tokens of its users and
// on its projects.
func (s *Service) UpdateDomain(ctx context.Context, id string, ch ProjectChange) (Project, error) {
	if _, err := s.domain(ctx, id, "update_domain"); err != nil {
		return Project{}, err
	}
	return s.updateProject(ctx, id, ch)
}

// DeleteDomain removes a disabled domain with all that is in it.
func (s *Service) DeleteDomain(ctx context.Context, id string) error {
	if _, err := s.domain(ctx, id, "delete_domain"); err != nil {
		return err
	}
	return s.deleteDomain(ctx, id)
}

func (s *Service) deleteDomain(ctx context.Context, id string) error {
	return s.area.Tx(ctx, func(ctx context.Context) error {
		d, err := s.projects.GetForUpdate(ctx, id)
		switch {
		case err != nil:
			return kit.OrNotFound(err, "domain", id)
		case d.Options.Immutable():
			return kit.Immutable("delete", "domain", id)
		case d.Enabled:
			return kit.Forbidden("Cannot delete a domain that is enabled, please disable it first.")
		}
		if err := s.Federation.DomainDeleted(ctx, id); err != nil {
			return err
		}
		if err := s.DomainConfigs.DomainDeleted(ctx, id); err != nil {
			return err
		}
		if _, err := s.directoryIDs.DeleteWhere(ctx, store.Eq("domain_id", id)); err != nil {
			return err
		}
		users, err := s.users.Where(ctx, store.Eq("domain_id", id))
		if err != nil {
			return err
		}
		if err := s.dropUsers(ctx, users); err != nil {
			return err
		}
		groups, err := s.groups.Where(ctx, store.Eq("domain_id", id))
		if err != nil {
			return err
		}
		if err := s.dropGroups(ctx, groups); err != nil {
			return err
		}
		if err := s.Assignments.DomainDeleted(ctx, id); err != nil {
			return err
		}
		below, err := s.projects.Where(ctx, store.Eq("domain_id", id))
		if err != nil {
			return err
		}
		return s.dropProjects(ctx, append(below, d))
	})
}
