package identity

import (
	"context"
	"fmt"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// MigrateCredentials encrypts all credentials anew under the primary key of
// Config.CredentialKeys, and says how many there are. It is what makes it safe to
// remove an old key. It asks no policy: it is for whoever holds the database.
func (s *Service) MigrateCredentials(ctx context.Context) (int, error) {
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

// Symptoms are what a doctor would ask about: settings that work, but not as
// anybody wants them to. It asks no policy: it is for whoever holds the database.
func (s *Service) Symptoms(ctx context.Context) ([]nacre.Finding, error) {
	var out []nacre.Finding
	add := func(kind, id, format string, args ...any) {
		out = append(out, nacre.Finding{Area: "identity", Kind: kind, ID: id, Problem: fmt.Sprintf(format, args...)})
	}
	for _, look := range []func(context.Context, func(kind, id, format string, args ...any)) error{s.catalogSymptoms, s.adminSymptoms, s.credentialSymptoms, s.federationSymptoms, s.directorySymptoms} {
		if err := look(ctx, add); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Service) catalogSymptoms(ctx context.Context, add func(kind, id, format string, args ...any)) error {
	rows, err := s.catalogRows(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, svc := range rows.services {
		found = found || svc.Type == "identity" && len(rows.endpoints[svc.ID]) > 0
		if len(rows.endpoints[svc.ID]) == 0 {
			add("service", svc.ID, "%s has no enabled endpoint", svc.Type)
		}
	}
	if !found {
		add("catalog", "", "the catalog has no identity endpoint: clients can't find the way back here")
	}
	return nil
}

func (s *Service) adminSymptoms(ctx context.Context, add func(kind, id, format string, args ...any)) error {
	d, err := s.projects.Get(ctx, DefaultDomain)
	switch {
	case nacre.KindOf(err) == nacre.NotFound:
		add("domain", DefaultDomain, "there is no default domain: nacre bootstrap makes it")
	case err != nil:
		return err
	case !d.Enabled:
		add("domain", DefaultDomain, "the default domain is disabled")
	}
	ok, err := s.assignments.Exists(ctx, store.InSelect("role_id", s.roles, "id", store.And(store.Eq("name", "admin"), store.Eq("domain_id", ""))))
	if err == nil && !ok {
		add("role", "admin", "nobody has the role admin: nacre bootstrap makes an administrator")
	}
	return err
}

func (s *Service) credentialSymptoms(ctx context.Context, add func(kind, id, format string, args ...any)) error {
	rows, err := s.credentials.Where(ctx)
	if err != nil || s.credentialKeys == nil {
		if err == nil && len(rows) > 0 {
			add("credential", "", "%d credentials, and no keys to read them with", len(rows))
		}
		return err
	}
	for i := range rows {
		if s.unseal(&rows[i]) != nil {
			add("credential", rows[i].ID, "none of the credential keys can read it")
		}
	}
	return nil
}

func (s *Service) federationSymptoms(ctx context.Context, add func(kind, id, format string, args ...any)) error {
	found, err := s.Federation.Symptoms(ctx)
	for _, f := range found {
		add(f.Kind, f.ID, "%s", f.Problem)
	}
	return err
}

func (s *Service) directorySymptoms(ctx context.Context, add func(kind, id, format string, args ...any)) error {
	rows, err := s.domainOptions.Where(ctx, store.Eq("group", "ldap"), store.Eq("option", "url"))
	for _, r := range rows {
		c, err := s.readConfig(ctx, r.DomainID, "", "")
		if err != nil {
			return err
		}
		ldap := c["ldap"]
		if url, _ := r.Value.(string); strings.HasPrefix(url, "ldap://") && ldap["use_tls"] != true {
			add("domain", r.DomainID, "its directory is asked without TLS: passwords of users who log in cross the network in the clear")
		}
		if ldap["tls_req_cert"] == "never" || ldap["tls_req_cert"] == "allow" {
			add("domain", r.DomainID, "the certificate of its directory is not checked")
		}
		if ldap["user"] != nil && ldap["password"] == nil {
			add("domain", r.DomainID, "its directory is searched as %v without a password", ldap["user"])
		}
		if s.directories.open == nil && c["identity"]["driver"] == "ldap" {
			add("domain", r.DomainID, "it asks for a directory, and this program can open none")
		}
	}
	return err
}
