package identity

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/passhash"
	"github.com/nacre-cloud/nacre/store"
)

// Bootstrap says what a new cloud begins with. Names have Keystone's defaults.
type Bootstrap struct {
	// Password of the administrator. Required.
	Password string
	// Random says that Password holds 128 random bits, so that the cheapest hash
	// is as good as any.
	Random bool
	// User and Project are names; empty is "admin".
	User, Project string
	// Region is the endpoints' region; empty is "RegionOne".
	Region string
	// Services go into the catalog.
	Services []BootstrapService
}

// BootstrapService is a service with its endpoints. Interfaces without a URL
// get none.
type BootstrapService struct {
	Type, Name, Description string
	Public, Internal, Admin string
}

// Bootstrapped are the ids of what Bootstrap made or found.
type Bootstrapped struct {
	DomainID, UserID, ProjectID string
	// Roles are the role ids by name.
	Roles map[string]string
}

// Bootstrap makes, in one transaction, the default domain, the roles admin,
// manager, member, reader and service (each of the first three implying the
// next), an administrator with its project, and the catalog. What is there
// already stays; the administrator's password and the endpoints' URLs are set.
// It asks no policy: it is for whoever holds the database.
func (s *Service) Bootstrap(ctx context.Context, b Bootstrap) (Bootstrapped, error) {
	if b.Password == "" {
		return Bootstrapped{}, errors.New("identity: Bootstrap.Password is missing")
	}
	orDefault(&b.User, "admin")
	orDefault(&b.Project, "admin")
	orDefault(&b.Region, "RegionOne")
	make := s.hasher.hash
	if b.Random {
		make = s.hasher.hashCheap
	}
	hash, err := make(ctx, b.Password)
	if err != nil {
		return Bootstrapped{}, err
	}
	ctx = nacre.AsService(ctx, "identity")
	out := Bootstrapped{DomainID: DefaultDomain}
	err = s.tx(ctx, func(ctx context.Context) error {
		out.Roles = map[string]string{}
		if err := s.bootDomain(ctx); err != nil {
			return err
		}
		if err := s.bootRoles(ctx, out.Roles); err != nil {
			return err
		}
		p, err := s.projects.One(ctx, store.Eq("domain_id", DefaultDomain), store.Eq("name", b.Project))
		if errors.Is(err, store.ErrNoRow) {
			domain, about := DefaultDomain, "Bootstrap project for initializing the cloud."
			p, err = s.CreateProject(ctx, ProjectChange{Name: &b.Project, DomainID: &domain, Description: &about})
		}
		if err != nil {
			return err
		}
		out.ProjectID = p.ID
		u, err := s.users.One(ctx, store.Eq("domain_id", DefaultDomain), store.Eq("local_name", b.User))
		if errors.Is(err, store.ErrNoRow) {
			u, err = s.createUser(ctx, User{DomainID: DefaultDomain, Name: b.User, Enabled: true, Options: Options{}}, hash)
		} else if err == nil {
			err = s.bootPassword(ctx, u.ID, b.Password, hash)
		}
		if err != nil {
			return err
		}
		out.UserID = u.ID
		for _, g := range []Grant{{UserID: u.ID, ProjectID: p.ID, RoleID: out.Roles["admin"]}, {UserID: u.ID, System: true, RoleID: out.Roles["admin"]}} {
			if err := s.writeGrant(ctx, g); err != nil {
				return err
			}
		}
		return s.bootCatalog(ctx, &b)
	})
	return out, err
}

func orDefault(s *string, def string) {
	if *s == "" {
		*s = def
	}
}

func (s *Service) bootDomain(ctx context.Context) error {
	_, err := s.projects.Get(ctx, DefaultDomain)
	if errors.Is(err, store.ErrNoRow) {
		name, about := "Default", "The default domain"
		_, err = s.CreateDomain(ctx, ProjectChange{ID: DefaultDomain, Name: &name, Description: &about})
	}
	return err
}

// bootPassword sets a password unless it is the present one, so that a second
// start with the same configuration ends nobody's tokens.
func (s *Service) bootPassword(ctx context.Context, userID, pw, hash string) error {
	row, err := s.passwords.Get(ctx, userID)
	if err != nil && !errors.Is(err, store.ErrNoRow) {
		return err
	}
	if err == nil && passhash.Verify(row.Hash, cut(pw)) {
		return nil
	}
	u, err := s.users.Update(ctx, userID, func(u *User) error {
		u.PasswordExpires = nil
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.writePassword(ctx, &u, hash, false); err != nil {
		return err
	}
	return s.revoke(ctx, revocation{UserID: userID})
}

func (s *Service) bootRoles(ctx context.Context, ids map[string]string) error {
	for _, name := range []string{"admin", "manager", "member", "reader", "service"} {
		r, found, err := s.roleNamed(ctx, name)
		if err == nil && !found {
			r, err = s.CreateRole(ctx, RoleChange{Name: &name, Options: Options{"immutable": true}})
		}
		if err != nil {
			return err
		}
		ids[name] = r.ID
	}
	for _, pair := range [][2]string{{"admin", "manager"}, {"manager", "member"}, {"member", "reader"}} {
		row := impliedRole{ID: ids[pair[0]] + "|" + ids[pair[1]], PriorID: ids[pair[0]], ImpliedID: ids[pair[1]]}
		_, err := s.implied.Get(ctx, row.ID)
		if errors.Is(err, store.ErrNoRow) {
			err = s.implied.Insert(ctx, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) bootCatalog(ctx context.Context, b *Bootstrap) error {
	if len(b.Services) == 0 || s.template != nil {
		return nil
	}
	if _, err := s.regions.Get(ctx, b.Region); errors.Is(err, store.ErrNoRow) {
		if _, err := s.CreateRegion(ctx, RegionChange{ID: b.Region}); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	for _, want := range b.Services {
		svc, err := s.services.One(ctx, store.Eq("type", want.Type), store.Eq("name", want.Name))
		if errors.Is(err, store.ErrNoRow) {
			ch := ServiceChange{Type: &want.Type, Name: &want.Name}
			if want.Description != "" {
				ch.Description = &want.Description
			}
			svc, err = s.CreateService(ctx, ch)
		}
		if err != nil {
			return err
		}
		for _, at := range [][2]string{{"public", want.Public}, {"internal", want.Internal}, {"admin", want.Admin}} {
			if err := s.bootEndpoint(ctx, svc.ID, at[0], b.Region, at[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) bootEndpoint(ctx context.Context, service, iface, region, url string) error {
	if url == "" {
		return nil
	}
	e, err := s.endpoints.One(ctx, store.Eq("service_id", service), store.Eq("interface", iface), store.Eq("region_id", region))
	switch {
	case errors.Is(err, store.ErrNoRow):
		_, err = s.CreateEndpoint(ctx, EndpointChange{ServiceID: &service, Interface: &iface, RegionID: &region, URL: &url})
	case err == nil && e.URL != url:
		_, err = s.UpdateEndpoint(ctx, e.ID, EndpointChange{URL: &url})
	}
	return err
}
