package identity

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/password"
	"github.com/nacre-cloud/nacre/identity/revoke"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/store"
)

// UserChange is what is given of a user: at its creation Name must be set; in an
// update nil leaves a field as it is.
type UserChange struct {
	// ID names a new user; empty makes one. Only bootstrap sets it.
	ID       string
	DomainID *string
	Name     *string
	// Password sets a new one, by an administrator; an empty text takes it away.
	Password *string
	// RandomPassword says that Password holds 128 random bits, so that the
	// cheapest hash is as good as any.
	RandomPassword   bool
	Enabled          *bool
	DefaultProjectID *string
	// Federated replaces the accounts at identity providers by which the user may come.
	Federated *[]Federated
	Options   Options
	Extra     map[string]any
}

func userTarget(u *User) policy.Map {
	if u.ID == "" && u.DomainID == "" {
		return nil
	}
	return policy.Map{"target.user.id": u.ID, "user_id": u.ID, "target.user.domain_id": u.DomainID}
}

// CreateUser makes a user.
func (s *Service) CreateUser(ctx context.Context, ch UserChange) (User, error) {
	u := User{ID: ch.ID, DomainID: callerDomain(ctx), Enabled: true, Options: kit.MergeOptions(nil, ch.Options), Extra: ch.Extra}
	kit.SetIf(&u.DomainID, ch.DomainID)
	kit.SetIf(&u.Name, ch.Name)
	kit.SetIf(&u.Enabled, ch.Enabled)
	kit.SetIf(&u.DefaultProjectID, ch.DefaultProjectID)
	kit.SetIf(&u.Federated, ch.Federated)
	if err := s.area.Enforce(ctx, "create_user", policy.Map{"target.user.domain_id": u.DomainID}); err != nil {
		return User{}, err
	}
	if err := checkUserOptions(ch.Options); err != nil {
		return User{}, err
	}
	hash, err := s.hashChange(ctx, &ch)
	if err != nil {
		return User{}, err
	}
	return s.createUser(ctx, u, hash)
}

func (s *Service) createUser(ctx context.Context, u User, hash string) (User, error) {
	if err := kit.CheckName("name", u.Name, 255); err != nil {
		return User{}, err
	}
	if u.ID == "" {
		u.ID = s.area.NewID()
	}
	now := time.Now().UTC()
	u.CreatedAt = &now
	err := s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.liveDomain(ctx, u.DomainID); err != nil {
			return err
		}
		if err := s.writable(ctx, u.DomainID); err != nil {
			return err
		}
		if err := s.checkDefaultProject(ctx, u.DefaultProjectID); err != nil {
			return err
		}
		u.LocalName = u.Name
		if hash != "" {
			u.PasswordExpires = s.Passwords.Expiry(u.Options, false)
		}
		if err := s.users.Insert(ctx, u); err != nil {
			return kit.OrConflict(err, "user", u.Name, u.DomainID)
		}
		if len(u.Federated) > 0 {
			if err := s.writeFederated(ctx, &u); err != nil {
				return err
			}
		}
		if hash != "" {
			if err := s.Passwords.First(ctx, u.ID, hash, u.PasswordExpires, false); err != nil {
				return err
			}
		}
		return s.area.Happened(ctx, "user", "created", u.ID)
	})
	return u, err
}

// liveDomain holds a domain, which must be there and enabled.
func (s *Service) liveDomain(ctx context.Context, id string) error {
	d, err := s.holdDomain(ctx, id)
	if err == nil && !d.Enabled {
		err = kit.Forbidden("Domain is disabled: %s", id)
	}
	return err
}

// checkDefaultProject refuses a domain; a project that is not there is ignored,
// as Keystone does.
func (s *Service) checkDefaultProject(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	p, err := s.projects.Get(ctx, id)
	if err == nil && p.IsDomain {
		return kit.Invalid("User's default project ID cannot be a domain ID: %s", id)
	}
	return nil
}

// hashChange hashes a new password outside the transaction; "" is none.
func (s *Service) hashChange(ctx context.Context, ch *UserChange) (string, error) {
	switch {
	case ch.Password == nil || *ch.Password == "":
		return "", nil
	case ch.RandomPassword:
		return s.Passwords.HashCheap(ctx, *ch.Password)
	}
	if err := s.Passwords.CheckStrength(*ch.Password); err != nil {
		return "", err
	}
	return s.Passwords.Hash(ctx, *ch.Password)
}

func (s *Service) user(ctx context.Context, id, rule string) (User, error) {
	u, err := s.users.Get(ctx, id)
	if deny := s.area.Enforce(ctx, rule, userTarget(&u)); deny != nil {
		return User{}, deny
	}
	if err == nil {
		if err := keptElsewhere(u.Source, rule); err != nil {
			return User{}, err
		}
		u, err = s.refresh(ctx, u)
	}
	s.seen(&u)
	return u, kit.OrNotFound(err, "user", id)
}

// GetUser shows a user.
func (s *Service) GetUser(ctx context.Context, id string) (User, error) {
	u, err := s.user(ctx, id, "get_user")
	if err == nil && u.LocalName == "" {
		u.Federated, err = s.FederatedOf(ctx, id)
	}
	return u, err
}

var userColumns = kit.Columns{"id", "domain_id", "enabled", "name", "default_project_id"}

// ListUsers lists users.
func (s *Service) ListUsers(ctx context.Context, q nacre.Query) ([]User, error) {
	own := kit.OwnDomain(ctx)
	if err := s.area.Enforce(ctx, "list_users", policy.Map{"target.domain_id": own}); err != nil {
		return nil, err
	}
	var ws []store.Where
	if own != "" {
		ws = append(ws, store.Eq("domain_id", own))
	}
	filters, err := expiryFilters(q)
	if err != nil {
		return nil, err
	}
	if w, ok, err := s.directoryUsers(ctx, q, own); err != nil {
		return nil, err
	} else if ok {
		filters = append(filters, w)
	}
	if w, ok := s.federatedFilter(q); ok {
		filters = append(filters, w)
	}
	us, err := kit.ListFiltered(ctx, s.users, q, userColumns, filters, ws...)
	s.seenAll(us)
	return us, err
}

func (s *Service) seenAll(us []User) {
	for i := range us {
		s.seen(&us[i])
	}
}

// expiryFilters reads password_expires_at=lt:2026-01-02T03:04:05Z.
func expiryFilters(q nacre.Query) ([]store.Where, error) {
	var ws []store.Where
	for _, f := range q.Filters {
		if f.Name != "password_expires_at" {
			continue
		}
		op, text, found := strings.Cut(f.Value, ":")
		at, err := time.Parse("2006-01-02T15:04:05Z", text)
		make, known := map[string]func(string, any) store.Where{
			"eq": store.Eq, "neq": store.Ne, "lt": store.Less, "lte": store.LessEq, "gt": store.Greater, "gte": store.GreaterEq,
		}[op]
		switch {
		case !found || !known:
			return nil, kit.Invalid("The given operator %s is not valid. It must be one of the following: 'eq', 'neq', 'lt', 'lte', 'gt', or 'gte'.", op)
		case err != nil:
			return nil, nacre.Errorf(nacre.Invalid, "ValidationTimeStampError", "Timestamp not in expected format. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
		}
		ws = append(ws, make("password_expires_at", at), store.Not(store.IsNull("password_expires_at")))
	}
	return ws, nil
}

// UpdateUser changes a user. A new password or disabling ends its tokens.
func (s *Service) UpdateUser(ctx context.Context, id string, ch UserChange) (User, error) {
	if _, err := s.user(ctx, id, "update_user"); err != nil {
		return User{}, err
	}
	if ch.Name != nil {
		if err := kit.CheckName("name", *ch.Name, 255); err != nil {
			return User{}, err
		}
	}
	if err := checkUserOptions(ch.Options); err != nil {
		return User{}, err
	}
	hash, err := s.hashChange(ctx, &ch)
	if err != nil {
		return User{}, err
	}
	var out User
	err = s.area.Tx(ctx, func(ctx context.Context) error {
		if ch.DefaultProjectID != nil {
			if err := s.checkDefaultProject(ctx, *ch.DefaultProjectID); err != nil {
				return err
			}
		}
		var old User
		u, err := s.users.Update(ctx, id, func(u *User) error {
			old = *u
			if ch.DomainID != nil && *ch.DomainID != u.DomainID {
				return kit.Invalid("Cannot change Domain ID")
			}
			kit.SetIf(&u.Name, ch.Name)
			if u.LocalName != "" {
				u.LocalName = u.Name
			}
			kit.SetIf(&u.Enabled, ch.Enabled)
			kit.SetIf(&u.DefaultProjectID, ch.DefaultProjectID)
			u.Options, u.Extra = kit.MergeOptions(u.Options, ch.Options), kit.Merge(u.Extra, ch.Extra)
			if ch.Password != nil {
				u.PasswordExpires = nil
				if hash != "" {
					u.PasswordExpires = s.Passwords.Expiry(u.Options, false)
				}
			}
			if ch.Enabled != nil && *ch.Enabled && s.Passwords.CountsInactivity() {
				today := password.Today()
				u.LastActive = &today
			}
			return nil
		})
		if err != nil {
			name := ""
			kit.SetIf(&name, ch.Name)
			return kit.OrNotFound(kit.OrConflict(err, "user", name, old.DomainID), "user", id)
		}
		if ch.Enabled != nil && *ch.Enabled {
			// Whoever enables a user unlocks it, too.
			if err := s.Passwords.Unlock(ctx, id); err != nil {
				return err
			}
		}
		if ch.Password != nil {
			if err := s.Passwords.Write(ctx, u.ID, hash, u.PasswordExpires, false); err != nil {
				return err
			}
		}
		if ch.Federated != nil {
			u.Federated = *ch.Federated
			if err := s.writeFederated(ctx, &u); err != nil {
				return err
			}
		}
		end := ch.Password != nil || ch.Federated != nil || old.Enabled && !u.Enabled
		if err := s.Revocations.Record(ctx, revoke.Row{UserID: id, Stale: !end}); err != nil {
			return err
		}
		out = u
		return s.area.Happened(ctx, "user", "updated", id)
	})
	return out, err
}

// ChangePassword sets a user's own password; the old one proves who asks, even if
// it has expired, and no token is needed. It ends all tokens of the user.
func (s *Service) ChangePassword(ctx context.Context, userID, old, new string) error {
	if new == "" {
		return kit.Invalid("Invalid input for field 'password': '' is too short")
	}
	u, err := s.checkPassword(ctx, userID, old)
	if e := (*nacre.Error)(nil); err != nil && (!errors.As(err, &e) || e.Code != codePasswordExpired) {
		return err
	}
	if u.Source == ofDirectory {
		return errReadOnly()
	}
	if err := s.Passwords.CheckStrength(new); err != nil {
		return err
	}
	if err := s.Passwords.CheckOwnChange(ctx, u.account()); err != nil {
		return err
	}
	if err := s.Passwords.CheckHistory(ctx, u.ID, new); err != nil {
		return err
	}
	hash, err := s.Passwords.Hash(ctx, new)
	if err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		u, err := s.users.Update(ctx, userID, func(u *User) error {
			u.PasswordExpires = s.Passwords.Expiry(u.Options, true)
			return nil
		})
		if err != nil {
			return kit.Gone(err, "the user is gone")
		}
		if err := s.Passwords.Write(ctx, u.ID, hash, u.PasswordExpires, true); err != nil {
			return err
		}
		if err := s.Revocations.Record(ctx, revoke.Row{UserID: userID}); err != nil {
			return err
		}
		return s.area.Happened(ctx, "user", "updated", userID)
	})
}

// DeleteUser removes a user with its roles, memberships and credentials.
func (s *Service) DeleteUser(ctx context.Context, id string) error {
	if _, err := s.user(ctx, id, "delete_user"); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		u, err := s.users.GetForUpdate(ctx, id)
		if err != nil {
			return kit.OrNotFound(err, "user", id)
		}
		return s.dropUsers(ctx, []User{u})
	})
}

func (s *Service) dropUsers(ctx context.Context, us []User) error {
	ids := make([]string, len(us))
	ended := make([]revoke.Row, len(us))
	for i := range us {
		ids[i], ended[i] = us[i].ID, revoke.Row{UserID: us[i].ID}
		if err := s.area.Happened(ctx, "user", "deleted", us[i].ID); err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		return nil
	}
	w := store.In("user_id", ids)
	for _, drop := range []func() (int64, error){
		func() (int64, error) { return s.users.DeleteWhere(ctx, store.In("id", ids)) },
		func() (int64, error) { return 0, s.Assignments.UsersDeleted(ctx, ids) },
		func() (int64, error) { return s.members.DeleteWhere(ctx, w) },
		func() (int64, error) { return 0, s.Passwords.UsersDeleted(ctx, ids) },
		func() (int64, error) { return 0, s.AppCredentials.UsersDeleted(ctx, ids) },
		func() (int64, error) { return 0, s.Credentials.UsersDeleted(ctx, ids) },
		func() (int64, error) { return s.federated.DeleteWhere(ctx, w) },
		func() (int64, error) { return 0, s.OAuth.UsersDeleted(ctx, ids) },
	} {
		if _, err := drop(); err != nil {
			return err
		}
	}
	stale, err := s.dropTrusts(ctx, store.Or(store.In("trustor_user_id", ids), store.In("trustee_user_id", ids)))
	if err != nil {
		return err
	}
	return s.Revocations.Record(ctx, append(ended, stale...)...)
}
