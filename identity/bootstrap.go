package identity

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/assignment"
	"github.com/nacre-cloud/nacre/identity/catalog"
	"github.com/nacre-cloud/nacre/identity/revoke"
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
	hasher := s.Passwords.Hash
	if b.Random {
		hasher = s.Passwords.HashCheap
	}
	hash, err := hasher(ctx, b.Password)
	if err != nil {
		return Bootstrapped{}, err
	}
	ctx = nacre.AsService(ctx, "identity")
	out := Bootstrapped{DomainID: DefaultDomain}
	err = s.area.Tx(ctx, func(ctx context.Context) error {
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
		for _, g := range []assignment.Grant{{UserID: u.ID, ProjectID: p.ID, RoleID: out.Roles["admin"]}, {UserID: u.ID, System: true, RoleID: out.Roles["admin"]}} {
			if err := s.Assignments.Write(ctx, g); err != nil {
				return err
			}
		}
		offers := make([]catalog.Offer, len(b.Services))
		for i := range b.Services {
			offers[i] = catalog.Offer(b.Services[i])
		}
		return s.Catalog.Bootstrap(ctx, b.Region, offers)
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
	row, err := s.Passwords.Of(ctx, userID)
	if err != nil && !errors.Is(err, store.ErrNoRow) {
		return err
	}
	if err == nil && s.Passwords.Same(row.Hash, pw) {
		return nil
	}
	u, err := s.users.Update(ctx, userID, func(u *User) error {
		u.PasswordExpires = nil
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.Passwords.Write(ctx, u.ID, hash, u.PasswordExpires, false); err != nil {
		return err
	}
	return s.Revocations.Record(ctx, revoke.Row{UserID: userID})
}

func (s *Service) bootRoles(ctx context.Context, ids map[string]string) error {
	for _, name := range []string{"admin", "manager", "member", "reader", "service"} {
		r, found, err := s.Assignments.RoleNamed(ctx, name)
		if err == nil && !found {
			r, err = s.Assignments.CreateRole(ctx, assignment.RoleChange{Name: &name, Options: Options{"immutable": true}})
		}
		if err != nil {
			return err
		}
		ids[name] = r.ID
	}
	for _, pair := range [][2]string{{"admin", "manager"}, {"manager", "member"}, {"member", "reader"}} {
		if err := s.Assignments.Imply(ctx, ids[pair[0]], ids[pair[1]]); err != nil {
			return err
		}
	}
	return nil
}
