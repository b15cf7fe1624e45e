package identity

import (
	"context"
	"errors"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/identity/password"
	"github.com/nacre-cloud/nacre/store"
)

// checkPassword finds a user who knows the password. An unknown user, a wrong
// password, a disabled user and one of a disabled domain all answer alike.
func (s *Service) checkPassword(ctx context.Context, userID, pw string) (User, error) {
	u, err := s.users.Get(ctx, userID)
	u, _, err = s.checkUserPassword(ctx, u, err, pw)
	return u, err
}

// checkUserPassword also returns the hash that the password was compared with.
func (s *Service) checkUserPassword(ctx context.Context, u User, err error, pw string) (User, string, error) {
	if err != nil && !errors.Is(err, nacre.NotFound) {
		return User{}, "", err
	}
	if err == nil && u.Source == ofDirectory {
		u, err = s.checkDirectoryPassword(ctx, u, pw)
		return u, "", err
	}
	var row password.Row
	if err == nil {
		if row, err = s.Passwords.Of(ctx, u.ID); err != nil && !errors.Is(err, nacre.NotFound) {
			return User{}, "", err
		}
	}
	known := err == nil
	locked := false
	if known {
		if locked, err = s.Passwords.Locked(ctx, u.account()); err != nil {
			return User{}, "", err
		}
	}
	hash := row.Hash
	if locked {
		hash = ""
	}
	ok, herr := s.Passwords.Compare(ctx, hash, pw)
	if herr != nil {
		return User{}, "", herr
	}
	if known && !ok && !locked {
		if err := s.Passwords.NoteFailure(ctx, u.account(), pw); err != nil {
			return User{}, "", err
		}
	}
	if !known || !ok {
		return User{}, "", kit.Unauthenticated("unknown user, locked user or wrong password")
	}
	// Others may have guessed meanwhile, at the same time as this one.
	if locked, err := s.Passwords.Locked(ctx, u.account()); err != nil || locked {
		return User{}, "", errors.Join(err, kit.Unauthenticated("the user is locked"))
	}
	if err := s.checkAlive(ctx, &u); err != nil {
		return User{}, "", err
	}
	if row.Expired(u.Options) {
		return u, hash, passwordExpired(u.ID)
	}
	return u, hash, s.noteSuccess(ctx, &u)
}

// passwordExpired is said to those alone who know the old one.
func passwordExpired(userID string) error {
	return nacre.Errorf(nacre.Unauthenticated, codePasswordExpired, "The password is expired and needs to be changed for user: %s.", userID)
}

const codePasswordExpired = "PasswordExpired"

// checkAlive refuses a disabled user and one of a disabled domain.
func (s *Service) checkAlive(ctx context.Context, u *User) error {
	if s.seen(u); !u.Enabled {
		return kit.Unauthenticated("the user is disabled")
	}
	d, err := s.getDomain(ctx, u.DomainID)
	switch {
	case errors.Is(err, nacre.NotFound):
		return kit.Unauthenticated("the user's domain is gone")
	case err != nil:
		return err
	case !d.Enabled:
		return kit.Unauthenticated("the user's domain is disabled")
	}
	return nil
}

// account is the user as far as the rules for passwords look at it.
func (u *User) account() *password.Account {
	return &password.Account{ID: u.ID, Options: u.Options, CreatedAt: u.CreatedAt, LastActive: u.LastActive}
}

// noteSuccess forgets failures, and notes the day where inactivity matters.
func (s *Service) noteSuccess(ctx context.Context, u *User) error {
	today, note, err := s.Passwords.Succeeded(ctx, u.account())
	if err != nil || !note {
		return err
	}
	u.LastActive = &today
	_, err = s.users.UpdateWhere(ctx, store.Eq("id", u.ID), store.Set{"last_active_at": &today})
	return err
}

// seen shows a user who has been away for too long as disabled.
func (s *Service) seen(u *User) {
	if s.Passwords.Inactive(u.account()) {
		u.Enabled = false
	}
}

// passwordParent is what passwords may do here.
type passwordParent struct{ s *Service }

func (p passwordParent) HoldUser(ctx context.Context, id string) error {
	return kit.Hold(ctx, p.s.users, "user", id)
}

func (p passwordParent) AuthFailed(ctx context.Context, userID string, payload map[string]string) error {
	return p.s.outbox.Emit(ctx, "identity.authenticate", userID, "", payload)
}
