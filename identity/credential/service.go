package credential

import (
	"context"
	"errors"
	"fmt"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/fernet"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Config is what a Service is made of. Area and Parent must be set.
type Config struct {
	kit.Area
	Parent Parent
	// Keys encrypt what is kept; without them credentials are NotImplemented.
	Keys *fernet.Keys
}

// Service is credentials. Its methods are safe for concurrent use.
type Service struct {
	area   kit.Area
	parent Parent
	keys   *fernet.Keys
	tables
}

// New makes a Service. It reads nothing from the engine yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.Check("credential"); err != nil {
		return nil, err
	}
	if cfg.Parent == nil {
		return nil, errors.New("credential: Config.Parent is missing")
	}
	return &Service{area: cfg.Area, parent: cfg.Parent, keys: cfg.Keys, tables: newTables(cfg.Engine)}, nil
}

// UsersDeleted removes the credentials of users, and ProjectsDeleted those for
// projects, within the transaction in which they go.
func (s *Service) UsersDeleted(ctx context.Context, ids []string) error {
	return s.drop(ctx, store.In("user_id", ids))
}

// ProjectsDeleted is as UsersDeleted says.
func (s *Service) ProjectsDeleted(ctx context.Context, ids []string) error {
	return s.drop(ctx, store.In("project_id", ids))
}

// drop removes credentials with what is noted of their use.
func (s *Service) drop(ctx context.Context, w store.Where) error {
	if _, err := s.totpUses.DeleteWhere(ctx, store.InSelect("credential_id", s.credentials, "id", w)); err != nil {
		return err
	}
	_, err := s.credentials.DeleteWhere(ctx, w)
	return err
}

// Migrate encrypts all credentials anew under the primary key of
// Config.Keys, and says how many there are. It is what makes it safe to
// remove an old key. It asks no policy: it is for whoever holds the database.
func (s *Service) Migrate(ctx context.Context) (int, error) {
	const page = 500
	n := 0
	for after := ""; ; {
		rows, err := s.credentials.Select(ctx, store.Select{Where: store.Greater("id", after), Limit: page})
		if err != nil || len(rows) == 0 {
			return n, err
		}
		for i := range rows {
			after = rows[i].ID
			_, err := s.credentials.Update(ctx, rows[i].ID, func(c *Credential) error {
				if err := s.unseal(c); err != nil {
					return fmt.Errorf("credential %s: %w", c.ID, err)
				}
				return s.seal(c)
			})
			switch {
			case nacre.KindOf(err) == nacre.NotFound:
				continue // deleted meanwhile
			case err != nil:
				return n, err
			}
			n++
		}
	}
}

// Symptoms are what an operator would want to know of credentials. It asks no policy.
func (s *Service) Symptoms(ctx context.Context) ([]nacre.Finding, error) {
	rows, err := s.credentials.Where(ctx)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	if s.keys == nil {
		return []nacre.Finding{{Area: "identity", Kind: "credential", Problem: fmt.Sprintf("%d credentials, and no keys to read them with", len(rows))}}, nil
	}
	var out []nacre.Finding
	for i := range rows {
		if s.unseal(&rows[i]) != nil {
			out = append(out, nacre.Finding{Area: "identity", Kind: "credential", ID: rows[i].ID, Problem: "none of the credential keys can read it"})
		}
	}
	return out, nil
}

// Audit says which uses are of no credential. Credentials may be of anybody.
func (s *Service) Audit(a *kit.Audit) {
	credentials := kit.Keys(a, s.credentials, func(c Credential) string { return c.ID })
	kit.Each(a, "totp_use", s.totpUses, func(u totpUse) string { return u.CredentialID }, func(u totpUse) { a.Refers(u.CredentialID, "credential", u.CredentialID, credentials) })
}
