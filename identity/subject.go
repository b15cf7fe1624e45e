package identity

import (
	"context"
	"slices"

	"github.com/nacre-cloud/nacre/identity/federation"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Subject is who a token stands for, in the words that another cloud is told.
type Subject struct {
	User, UserDomain       string
	Project, ProjectDomain string
	Roles                  []string
	// Groups are names with their domain's name.
	Groups []federation.GroupRef
}

// SubjectFor is what to assert at a service provider of who holds a token, which
// must be scoped to a project. A disabled service provider is Forbidden.
func (s *Service) SubjectFor(ctx context.Context, token, serviceProvider string) (Subject, federation.ServiceProvider, error) {
	sp, err := s.Federation.ServiceProviderFor(ctx, serviceProvider)
	if err != nil {
		return Subject{}, sp, err
	}
	i, err := s.lookUp(ctx, token, 0)
	if err != nil {
		return Subject{}, sp, err
	}
	if i.Project == nil || i.TrustID != "" || i.AppCred != nil || i.AccessTokenID != "" {
		return Subject{}, sp, kit.Forbidden("You are not authorized to perform the requested action: Use a project scoped token when attempting to create a SAML assertion.")
	}
	sub := Subject{User: i.User.Name, UserDomain: i.UserDomain.Name, Project: i.Project.Name, ProjectDomain: i.Domain.Name}
	for _, r := range i.Roles {
		sub.Roles = append(sub.Roles, r.Name)
	}
	ids, err := s.groupsOf(ctx, i.UserID)
	if err != nil || len(ids) == 0 {
		return sub, sp, err
	}
	gs, err := s.groups.Where(ctx, store.In("id", ids))
	if err != nil {
		return sub, sp, err
	}
	var domains []string
	for _, g := range gs {
		domains = append(domains, g.DomainID)
	}
	ds, err := s.projects.Where(ctx, store.In("id", domains))
	if err != nil {
		return sub, sp, err
	}
	for _, g := range gs {
		n := slices.IndexFunc(ds, func(p Project) bool { return p.ID == g.DomainID })
		if n >= 0 {
			sub.Groups = append(sub.Groups, federation.GroupRef{Name: g.Name, Domain: federation.DomainRef{Name: ds[n].Name}})
		}
	}
	return sub, sp, nil
}
