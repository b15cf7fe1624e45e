package identity

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// PolicyDocument is a text that is kept for other services (v3 policies). It has
// no effect here.
type PolicyDocument struct {
	ID    string         `store:"id,pk" json:"id"`
	Type  string         `store:"type,index=policy_type" json:"type"`
	Blob  string         `store:"blob" json:"blob"`
	Extra map[string]any `store:"extra,json" json:"-" extra:"true"`
}

// PolicyChange is what is given of a policy document; in an update nil leaves a
// field as it is.
type PolicyChange struct {
	Type, Blob *string
	Extra      map[string]any
}

// CreatePolicy keeps a policy document.
func (s *Service) CreatePolicy(ctx context.Context, ch PolicyChange) (PolicyDocument, error) {
	p := PolicyDocument{ID: s.newID(), Extra: ch.Extra}
	setIf(&p.Type, ch.Type)
	setIf(&p.Blob, ch.Blob)
	if err := s.enforce(ctx, "create_policy", nil); err != nil {
		return p, err
	}
	if err := checkName("type", p.Type, 255); err != nil {
		return p, err
	}
	return p, s.tx(ctx, func(ctx context.Context) error {
		if err := s.policies.Insert(ctx, p); err != nil {
			return err
		}
		return s.emit(ctx, "policy", "created", p.ID)
	})
}

// GetPolicy shows a policy document.
func (s *Service) GetPolicy(ctx context.Context, id string) (PolicyDocument, error) {
	if err := s.enforce(ctx, "get_policy", nil); err != nil {
		return PolicyDocument{}, err
	}
	p, err := s.policies.Get(ctx, id)
	return p, orNotFound(err, "policy", id)
}

// ListPolicies lists policy documents.
func (s *Service) ListPolicies(ctx context.Context, q nacre.Query) ([]PolicyDocument, error) {
	if err := s.enforce(ctx, "list_policies", nil); err != nil {
		return nil, err
	}
	return list(ctx, s.policies, q, columns{"id", "type"})
}

// UpdatePolicy changes a policy document.
func (s *Service) UpdatePolicy(ctx context.Context, id string, ch PolicyChange) (PolicyDocument, error) {
	var out PolicyDocument
	if err := s.enforce(ctx, "update_policy", nil); err != nil {
		return out, err
	}
	err := s.tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.policies.Update(ctx, id, func(p *PolicyDocument) error {
			setIf(&p.Type, ch.Type)
			setIf(&p.Blob, ch.Blob)
			p.Extra = merge(p.Extra, ch.Extra)
			return checkName("type", p.Type, 255)
		})
		if err != nil {
			return orNotFound(err, "policy", id)
		}
		return s.emit(ctx, "policy", "updated", id)
	})
	return out, err
}

// DeletePolicy removes a policy document.
func (s *Service) DeletePolicy(ctx context.Context, id string) error {
	if err := s.enforce(ctx, "delete_policy", nil); err != nil {
		return err
	}
	return s.tx(ctx, func(ctx context.Context) error {
		if err := s.policies.Delete(ctx, id); err != nil {
			return orNotFound(err, "policy", id)
		}
		if _, err := s.associations.DeleteWhere(ctx, store.Eq("policy_id", id)); err != nil {
			return err
		}
		return s.emit(ctx, "policy", "deleted", id)
	})
}
