package federation

import (
	"context"
	"strings"

	"github.com/nacre-cloud/nacre"
)

// check refuses a mapping that breaks its schema version's rules.
func (m *Mapping) check() error {
	if m.SchemaVersion == "" {
		m.SchemaVersion = DefaultSchemaVersion
	}
	if wrong := CheckMapping(m.Rules, m.SchemaVersion); len(wrong) > 0 {
		return nacre.Errorf(nacre.Invalid, "ValidationError", "%s\n", strings.Join(wrong, "\n"))
	}
	return nil
}

// CreateMapping adds a mapping. Without a schema version it is 1.0.
func (s *Service) CreateMapping(ctx context.Context, m Mapping) (Mapping, error) {
	if err := s.area.Enforce(ctx, "create_mapping", nil); err != nil {
		return m, err
	}
	if err := m.check(); err != nil {
		return m, err
	}
	return m, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.mappings.Insert(ctx, m); err != nil {
			return orConflict(err, "mapping", "Duplicate entry")
		}
		return s.changed(ctx, "mapping", "created", m.ID)
	})
}

// GetMapping shows a mapping.
func (s *Service) GetMapping(ctx context.Context, id string) (Mapping, error) {
	if err := s.area.Enforce(ctx, "get_mapping", nil); err != nil {
		return Mapping{}, err
	}
	m, err := s.mappings.Get(ctx, id)
	return m, noMapping(err, id)
}

// ListMappings lists mappings.
func (s *Service) ListMappings(ctx context.Context) ([]Mapping, error) {
	if err := s.area.Enforce(ctx, "list_mappings", nil); err != nil {
		return nil, err
	}
	return s.mappings.Where(ctx)
}

// UpdateMapping replaces a mapping's rules and schema version.
func (s *Service) UpdateMapping(ctx context.Context, m Mapping) (Mapping, error) {
	if err := s.area.Enforce(ctx, "update_mapping", nil); err != nil {
		return m, err
	}
	if err := m.check(); err != nil {
		return m, err
	}
	var out Mapping
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		out, err = s.mappings.Update(ctx, m.ID, func(old *Mapping) error {
			old.Rules, old.SchemaVersion = m.Rules, m.SchemaVersion
			return nil
		})
		if err != nil {
			return noMapping(err, m.ID)
		}
		return s.changed(ctx, "mapping", "updated", m.ID)
	})
	return out, err
}

// DeleteMapping removes a mapping; logins by protocols that name it fail then.
func (s *Service) DeleteMapping(ctx context.Context, id string) error {
	if err := s.area.Enforce(ctx, "delete_mapping", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.mappings.Delete(ctx, id); err != nil {
			return noMapping(err, id)
		}
		return s.changed(ctx, "mapping", "deleted", id)
	})
}
