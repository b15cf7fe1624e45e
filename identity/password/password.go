package password

import (
	"context"
	"errors"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// Of is a user's password; store.ErrNoRow where there is none.
func (s *Service) Of(ctx context.Context, userID string) (Row, error) {
	return s.passwords.Get(ctx, userID)
}

// Expired says that the password is good for nothing but setting another, unless the
// user's options say otherwise.
func (r *Row) Expired(o kit.Options) bool {
	return r.ExpiresAt != nil && !time.Now().Before(*r.ExpiresAt) && !o.Is(IgnorePasswordExpiry)
}

// Write replaces a user's hash, within a transaction; "" takes it away. byUser says
// that the user has chosen it, not an administrator.
func (s *Service) Write(ctx context.Context, userID, hash string, expires *time.Time, byUser bool) error {
	if err := s.keepHistory(ctx, userID); err != nil {
		return err
	}
	if _, err := s.passwords.DeleteWhere(ctx, store.Eq("user_id", userID)); err != nil || hash == "" {
		return err
	}
	return s.First(ctx, userID, hash, expires, byUser)
}

// First is Write for a user who has no password yet.
func (s *Service) First(ctx context.Context, userID, hash string, expires *time.Time, byUser bool) error {
	return s.passwords.Insert(ctx, Row{UserID: userID, Hash: hash, SetAt: time.Now().UTC(), ExpiresAt: expires, SelfService: byUser})
}

// Expiry is when a password that is set now must have been changed.
func (s *Service) Expiry(o kit.Options, byUser bool) *time.Time {
	now := time.Now().UTC().Truncate(time.Second)
	switch {
	case !byUser && s.rules.ChangeUponFirstUse && !o.Is(IgnoreChangePassword):
		return &now
	case s.rules.PasswordDays == 0 || o.Is(IgnorePasswordExpiry):
		return nil
	}
	end := now.Add(time.Duration(s.rules.PasswordDays) * day)
	return &end
}

// CheckOwnChange says whether a user may set a new password now: not while it is
// locked, nor too early.
func (s *Service) CheckOwnChange(ctx context.Context, a *Account) error {
	if a.Options.Is(LockPassword) {
		return kit.Invalid("You cannot change your password at this time due to password policy disallowing password changes. Please contact your administrator to reset your password.")
	}
	row, err := s.passwords.Get(ctx, a.ID)
	if err != nil {
		return kit.Gone(err, "the password is gone")
	}
	wait := time.Until(row.SetAt.Add(time.Duration(s.rules.MinPasswordDays) * day))
	if row.SelfService && s.rules.MinPasswordDays > 0 && wait > 0 {
		return kit.Invalid("You cannot change your password at this time due to the minimum password age. Once you change your password, it must be used for %d day(s) before it can be changed. Please try again in %d day(s) or contact your administrator to reset your password.",
			s.rules.MinPasswordDays, int(wait/day))
	}
	return nil
}

// CheckHistory refuses a password that the user has had lately.
func (s *Service) CheckHistory(ctx context.Context, userID, pw string) error {
	n := s.rules.UniquePasswords
	if n == 0 {
		return nil
	}
	var hashes []string
	if row, err := s.passwords.Get(ctx, userID); err == nil {
		hashes = append(hashes, row.Hash)
	} else if !errors.Is(err, nacre.NotFound) {
		return err
	}
	olds, err := s.oldPasswords.Select(ctx, store.Select{Where: store.Eq("user_id", userID), Order: []store.Order{{Column: "set_at", Desc: true}}, Limit: n})
	if err != nil {
		return err
	}
	for _, o := range olds {
		hashes = append(hashes, o.Hash)
	}
	for _, h := range hashes[:min(n, len(hashes))] {
		same, err := s.Compare(ctx, h, pw)
		if err != nil {
			return err
		}
		if same {
			return kit.Invalid("The new password cannot be identical to a previous password. The total number which includes the new password must be unique is %d.", n)
		}
	}
	return nil
}

// keepHistory keeps the password that is about to be replaced, and no more than
// are compared with.
func (s *Service) keepHistory(ctx context.Context, userID string) error {
	n := s.rules.UniquePasswords
	if n == 0 {
		return nil
	}
	row, err := s.passwords.Get(ctx, userID)
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.oldPasswords.Insert(ctx, oldPassword{ID: s.area.NewID(), UserID: userID, Hash: row.Hash, SetAt: row.SetAt}); err != nil {
		return err
	}
	olds, err := s.oldPasswords.Select(ctx, store.Select{Where: store.Eq("user_id", userID), Order: []store.Order{{Column: "set_at", Desc: true}}})
	if err != nil || len(olds) <= n {
		return err
	}
	var drop []string
	for _, o := range olds[n:] {
		drop = append(drop, o.ID)
	}
	_, err = s.oldPasswords.DeleteWhere(ctx, store.In("id", drop))
	return err
}
