package identity

import (
	"context"
	"fmt"

	"github.com/nacre-cloud/nacre"
)

// Symptoms are what a doctor would ask about: settings that work, but not as
// anybody wants them to. It asks no policy: it is for whoever holds the database.
func (s *Service) Symptoms(ctx context.Context) ([]nacre.Finding, error) {
	var out []nacre.Finding
	add := func(kind, id, format string, args ...any) {
		out = append(out, nacre.Finding{Area: "identity", Kind: kind, ID: id, Problem: fmt.Sprintf(format, args...)})
	}
	for _, look := range []func(context.Context) ([]nacre.Finding, error){s.Catalog.Symptoms, s.Assignments.Symptoms, s.Credentials.Symptoms, s.Federation.Symptoms, s.DomainConfigs.Symptoms} {
		found, err := look(ctx)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			add(f.Kind, f.ID, "%s", f.Problem)
		}
	}
	return out, s.adminSymptoms(ctx, add)
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
	return nil
}
