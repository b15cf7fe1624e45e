package catalog

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// PolicyChange is what is given of a policy document; in an update nil leaves a
// field as it is.
type PolicyChange struct {
	Type, Blob *string
	Extra      map[string]any
}

// CreatePolicy keeps a policy document.
func (s *Service) CreatePolicy(ctx context.Context, ch PolicyChange) (PolicyDocument, error) {
	p := PolicyDocument{ID: s.area.NewID(), Extra: ch.Extra}
	kit.SetIf(&p.Type, ch.Type)
	kit.SetIf(&p.Blob, ch.Blob)
	if err := s.area.Enforce(ctx, "create_policy", nil); err != nil {
		return p, err
	}
	if err := kit.CheckName("type", p.Type, 255); err != nil {
		return p, err
	}
	return p, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.policies.Insert(ctx, p); err != nil {
			return err
		}
		return s.area.Happened(ctx, "policy", "created", p.ID)
	})
}

// GetPolicy shows a policy document.
func (s *Service) GetPolicy(ctx context.Context, id string) (PolicyDocument, error) {
	if err := s.area.Enforce(ctx, "get_policy", nil); err != nil {
		return PolicyDocument{}, err
	}
	p, err := s.policies.Get(ctx, id)
	return p, kit.OrNotFound(err, "policy", id)
}

// ListPolicies lists policy documents.
func (s *Service) ListPolicies(ctx context.Context, q nacre.Query) ([]PolicyDocument, error) {
	if err := s.area.Enforce(ctx, "list_policies", nil); err != nil {
		return nil, err
	}
	return kit.List(ctx, s.policies, q, kit.Columns{"id", "type"})
}

// UpdatePolicy changes a policy document.
func (s *Service) UpdatePolicy(ctx context.Context, id string, ch PolicyChange) (PolicyDocument, error) {
	var out PolicyDocument
	if err := s.area.Enforce(ctx, "update_policy", nil); err != nil {
		return out, err
	}
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.policies.Update(ctx, id, func(p *PolicyDocument) error {
			kit.SetIf(&p.Type, ch.Type)
			kit.SetIf(&p.Blob, ch.Blob)
			p.Extra = kit.Merge(p.Extra, ch.Extra)
			return kit.CheckName("type", p.Type, 255)
		})
		if err != nil {
			return kit.OrNotFound(err, "policy", id)
		}
		return s.area.Happened(ctx, "policy", "updated", id)
	})
	return out, err
}

// DeletePolicy removes a policy document.
func (s *Service) DeletePolicy(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_policy", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.policies.Delete(ctx, id); err != nil {
			return kit.OrNotFound(err, "policy", id)
		}
		if _, err := s.associations.DeleteWhere(ctx, store.Eq("policy_id", id)); err != nil {
			return err
		}
		return s.area.Happened(ctx, "policy", "deleted", id)
	})
}
