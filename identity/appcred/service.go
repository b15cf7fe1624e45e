package appcred

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Config is what a Service is made of. Area and Parent must be set.
type Config struct {
	kit.Area
	Parent Parent
}

// Service is application credentials. Its methods are safe for concurrent use.
type Service struct {
	area   kit.Area
	parent Parent
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("appcred"); err != nil {
		return nil, err
	}
	if cfg.Parent == nil {
		return nil, errors.New("appcred: Config.Parent is missing")
	}
	return &Service{area: cfg.Area, parent: cfg.Parent, tables: newTables(cfg.Engine)}, nil
}

// UsersDeleted removes the application credentials and access rules of users, and
// ProjectsDeleted the application credentials for projects, within the transaction in
// which they go.
func (s *Service) UsersDeleted(ctx context.Context, ids []string) error {
	if _, err := s.credentials.DeleteWhere(ctx, store.In("user_id", ids)); err != nil {
		return err
	}
	_, err := s.rules.DeleteWhere(ctx, store.In("user_id", ids))
	return err
}

// ProjectsDeleted is as UsersDeleted says.
func (s *Service) ProjectsDeleted(ctx context.Context, ids []string) error {
	_, err := s.credentials.DeleteWhere(ctx, store.In("project_id", ids))
	return err
}

// GrantEnded removes what rests on a user's role on a project, within the transaction
// in which that is taken away: an application credential's roles go with its user's.
func (s *Service) GrantEnded(ctx context.Context, userID, projectID string) error {
	_, err := s.credentials.DeleteWhere(ctx, store.Eq("user_id", userID), store.Eq("project_id", projectID))
	return err
}

// Audit says which application credentials refer to nothing. users and projects are
// those that there are.
func (s *Service) Audit(a *kit.Audit, users, projects map[string]bool) {
	rules := kit.Keys(a, s.rules, func(r AccessRule) string { return r.ID })
	kit.Each(a, "access_rule", s.rules, func(r AccessRule) string { return r.ID }, func(r AccessRule) { a.Refers(r.ID, "user", r.UserID, users) })
	kit.Each(a, "application_credential", s.credentials, func(c Credential) string { return c.ID }, func(c Credential) {
		a.Refers(c.ID, "user", c.UserID, users)
		a.Refers(c.ID, "project", c.ProjectID, projects)
		for _, r := range c.AccessRules {
			a.Refers(c.ID, "access rule", r.ID, rules)
		}
	})
}
